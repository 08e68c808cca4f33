"""One large value, and the memory or the file that it lies in: free as soon as nobody holds it.

Room: engine. A `Stored` is one value; whoever needs the value holds it (the object's entry, a
task's arguments), and when nobody does any more, its memory and its file are free at once. An
`Extent` is a part of the shared memory; besides its `Stored` everybody holds it who may look there:
views in this process, workers. So memory is never given out again while it is looked at, whatever
becomes of the value.

Finalizers may run in any thread, at any moment, even while that thread holds the store's lock; so
they only leave a note, and the store's next operation acts on it.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from ...client.entry import NotInMemory
from ...exceptions import EngineShutdownError
from ...shared.arena import open_file, read_file
from ...shared.serialization import HEAD_SIZE, span_of_ids, split_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shelf import Shelf
    from .store import Store

__all__ = ["Extent", "Notes", "SpillFile", "Stored", "shut_down"]


class Notes:
    """What finalizers leave behind."""

    __slots__ = ("_tell", "awaited", "extents", "files", "owner_knows", "owner_looks", "values")

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self.extents: deque[tuple[int, int]] = deque()
        self.values: deque[weakref.KeyedRef[int, Stored]] = deque()
        self.files: deque[str] = deque()
        self.owner_knows = False  # the owner of the store knows that there is something
        self.owner_looks = False  # it will look for free memory, by and by, whether told or not
        self.awaited = 0  # threads that wait for free memory

    def freed(self, offset: int, size: int) -> None:
        """Note that memory is free; let the owner know, unless it will look, and nobody waits.

        To wake it for each value costs as much as to store one, and allocating looks here first.
        """
        self.extents.append((offset, size))
        if self.awaited or not self.owner_looks:
            self.notify()

    def notify(self) -> None:
        """Let the owner of the store know that there is a note, if it does not."""
        if not self.owner_knows:
            self.owner_knows = True
            self._tell()


class Extent:
    """A part of the shared memory that is in use, as long as this object lives."""

    __slots__ = ("_notes", "lent", "offset", "size", "warm")

    def __init__(self, notes: Notes, offset: int, size: int, *, warm: bool) -> None:
        self._notes = notes
        self.offset = offset
        self.size = size
        self.warm = warm  # it was in use before
        self.lent = 0  # attempts and views of workers that may look here

    def __del__(self) -> None:
        self._notes.freed(self.offset, self.size)


class SpillFile:
    """A file with a value, or for one; it is removed when this object goes."""

    __slots__ = ("_notes", "path")

    def __init__(self, notes: Notes, path: str) -> None:
        self._notes = notes
        self.path = path

    def __del__(self) -> None:
        self._notes.files.append(self.path)
        self._notes.notify()


class Stored:
    """One large value. Without a finalizer: while one runs, weak references still answer."""

    __slots__ = (
        "__weakref__",
        "_store",
        "_view",
        "extent",
        "file",
        "read_through",
        "shelf",
        "size",
    )

    def __init__(
        self, store: Store, size: int, extent: Extent | None, file: SpillFile | None
    ) -> None:
        self._store = store
        self.size = size  # bytes
        self.extent = extent  # where it lies in memory; None: only in its file
        self.file = file  # if there is one
        self.shelf: Shelf | None = None  # of the store, which alone assigns it
        self.read_through = False  # it has no place in memory: each reader makes a copy
        self._view: weakref.ref[Any] | None = None

    @property
    def path(self) -> str | None:
        """Return the path of its file, if there is one."""
        return None if self.file is None else self.file.path

    @property
    def in_memory(self) -> bool:
        """Return whether `view` needs no disk, or would not be faster after waiting."""
        return self.extent is not None or self.read_through or self._store.closed

    @property
    def is_looked_at(self) -> bool:
        """Return whether somebody uses its memory, which could not be freed then."""
        extent = self.extent
        looked_at = self._view is not None and self._view() is not None
        return looked_at or (extent is not None and extent.lent > 0)

    def view(self, *, from_disk: bool = False) -> memoryview:
        """Return the serialized value, read-only; its memory stays while a buffer of it lives.

        from_disk: make a copy of its file if it is only there. Raises NotInMemory if it is not in
        memory, and should be fetched into it first, or is lost; EngineShutdownError if the engine
        is shut down.
        """
        if self._store.closed:
            raise shut_down()
        extent = self.extent
        if extent is None:
            if (self.read_through or from_disk) and self.path is not None:
                copy = read_file(self.path, self.size)
                if copy is not None:
                    return copy
            self.read_through = False
            raise NotInMemory
        view = None if self._view is None else self._view()
        if view is None:
            view = self._store.arena.view(extent.offset, self.size, extent)
            self._view = weakref.ref(view)
        self._store.touch(self)
        return memoryview(view).cast("B").toreadonly()

    def contained_ids(self) -> list[bytes]:
        """Return the ids of refs inside the value, none if it is lost. Does not read all of it."""
        start, size = span_of_ids(self._read(0, HEAD_SIZE))
        return split_ids(self._read(start, size)) if size else []

    def _read(self, start: int, size: int) -> bytes:
        extent, path = self.extent, self.path
        size = max(0, min(size, self.size - start))
        if extent is not None:
            return self._store.arena.read(extent.offset + start, size)
        try:
            fd = open_file(path or "")
            if fd is None:
                return b""
            with open(fd, "rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError:
            return b""


def shut_down() -> EngineShutdownError:
    """Make the error that whoever asks for a stored value gets after the end."""
    return EngineShutdownError(
        "The session was shut down, and the large values that it held are gone. Get them before."
    )
