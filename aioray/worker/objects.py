"""Large values in a worker: arguments are read where they lie, results written where they stay.

Room: worker. What a task gets shares the memory of the store. A task may keep such an array beyond
its end, so at the end of each attempt the driver is told of the views that are still alive, and
when they end it is told of that: until then the memory is not used for anything else.

What a task gets by asking is told at once. Room for a result is asked for and waited for. While
results like it are to come, the driver grants room for them too; what is not used is given back as
soon as there is nothing to do. Attempts may run side by side: what each has in the store is its
`AttemptHandles`.
"""

from __future__ import annotations

import os
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ..shared.arena import Arena, read_file, write_file
from ..shared.wire import GOT, IN_FILE, IN_MEMORY, LOCATION_MARK, NOTE_KEPT, PACKED_LOCATION, PAIR
from .interrupts import protected

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shared.serialization import Pieces
    from ..shared.wire import Location
    from .channel import Channel

__all__ = ["ArgumentLost", "AttemptHandles", "LocalObjects"]


class ArgumentLost(Exception):  # noqa: N818  # no error of anybody's: the driver finds it again
    """The value of an argument is not where it should be."""


class _Token:
    """Lives as long as one view and what was made from it."""

    __slots__ = ("_objects", "number")

    def __init__(self, objects: LocalObjects, number: int) -> None:
        self._objects = objects
        self.number = number

    @protected
    def __del__(self) -> None:
        self._objects.view_ended(self.number)


class AttemptHandles:
    """What one attempt has in the store."""

    __slots__ = ("items", "opened", "written")

    def __init__(self) -> None:
        self.items: Any = None  # what its generator has filled its return values with so far
        self.opened: list[int] = []  # offsets of the arguments that it has got
        self.written: list[Location] = []  # results that were not told of yet


class LocalObjects:
    """What one worker sees of the store."""

    def __init__(
        self, arena_fd: int, channel: Channel, ask: Callable[[int], list[Location] | bytes]
    ) -> None:
        """Prepare to look into the store, and to write there.

        ask: wants room of so many bytes from the driver, and waits for the grant: one location or
        more, or a pickled exception.
        """
        self._arena = Arena(arena_fd, os.fstat(arena_fd).st_size)
        self._channel = channel
        self._ask = ask
        self._lock = threading.Lock()  # of `_views` and `spare`; finalizers do without
        self._views: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._last_number = 0
        self.spare: list[Location] = []  # room that was granted and not used yet
        self.kept: set[int] = set()  # numbers of views that the driver was told of

    def open(self, location: Location, use: AttemptHandles) -> memoryview:
        """Open an argument, read-only. Raises ArgumentLost, and OSError if it cannot be read."""
        view = self._look_at(location)
        if location[0] == IN_MEMORY:
            assert isinstance(location[1], int)
            use.opened.append(location[1])
        return memoryview(view).cast("B").toreadonly()

    def open_got(self, request: int, location: Location) -> Any:
        """Open what a reply has given, with the buffer interface. Raises as `open` does."""
        view = self._look_at(location)
        if location[0] == IN_MEMORY:
            number = view.owner[0].number
            self._channel.note(NOTE_KEPT, PAIR.pack(location[1], number), GOT | request)
            self.kept.add(number)
        return view

    def _look_at(self, location: Location) -> Any:
        kind, where, size = location
        if kind == IN_FILE:
            assert isinstance(where, str)
            copy = read_file(where, size)
            if copy is None:
                raise ArgumentLost
            return copy
        assert isinstance(where, int)
        with self._lock:
            view = self._views.get(where)
            if view is None:
                self._last_number += 1
                view = self._arena.view(where, size, _Token(self, self._last_number))
                self._views[where] = view
        return view

    @protected
    def view_ended(self, number: int) -> None:
        """Tell of a view's end. For finalizers: never blocks, may run anywhere, at any moment."""
        try:
            self.kept.remove(number)
        except KeyError:
            return  # the driver does not know of it, or another thread is telling
        self._channel.release(number)

    def tell_kept(self, seq: int, use: AttemptHandles) -> None:
        """Tell the driver of the views that outlive the attempt which ends now."""
        opened, use.opened = use.opened, []
        kept = []
        for offset in opened:
            view = self._views.get(offset)
            if view is not None:
                kept.append((offset, view.owner[0].number))
        view = None
        if kept:
            self._channel.note(NOTE_KEPT, b"".join([PAIR.pack(*each) for each in kept]), seq)
        # Not before it was said that they are kept can it be said that they have ended.
        for offset, number in kept:
            self.kept.add(number)
            view = self._views.get(offset)
            if view is None or view.owner[0].number != number:
                self.view_ended(number)
            view = None

    def keep_result(self, pieces: Pieces, use: AttemptHandles) -> bytes:
        """Write a result as `keep` does a value, and note it as one of this attempt's."""
        with self._channel.uninterrupted():  # an item is written while its generator runs
            location = self._write(pieces)
            use.written.append(location)
        return _packed(location, pieces.size)

    def keep(self, pieces: Pieces) -> bytes:
        """Write a value where the driver has granted room; return what stands for it in messages.

        Not to be interrupted before the driver is told of it.
        Raises ObjectStoreFullError, OutOfDiskError.
        """
        return _packed(self._write(pieces), pieces.size)

    def _write(self, pieces: Pieces) -> Location:
        location = self._find_room(pieces.size)
        kind, where, _ = location
        try:
            if kind == IN_FILE:
                assert isinstance(where, str)
                write_file(where, pieces.buffers, pieces.size)
            else:
                assert isinstance(where, int)
                self._arena.write(where, pieces.buffers)
        except BaseException:
            self._spare([location])
            raise
        return location

    def _find_room(self, size: int) -> Location:
        with self._lock:
            for at, (kind, _, room) in enumerate(self.spare):
                if size <= room <= 2 * size and kind == IN_MEMORY:
                    return self.spare.pop(at)
        granted = self._ask(size)
        if isinstance(granted, bytes):
            raise pickle.loads(granted)
        self._spare(granted[1:])
        return granted[0]

    def _spare(self, locations: list[Location]) -> None:
        with self._lock:
            self.spare += locations

    def failed(self, use: AttemptHandles) -> None:
        """Take back the room of what a failed attempt has written: it is not its result."""
        self._spare(use.written)
        use.written = []

    def take_unused(self) -> bytes:
        """Take the room that is not needed now; return it as the driver wants to know it."""
        with self._lock:
            spare, self.spare = self.spare, []
        return b"".join([PAIR.pack(location[0], _number(location)) for location in spare])


def _packed(location: Location, size: int) -> bytes:
    return PACKED_LOCATION.pack(LOCATION_MARK, location[0], _number(location), size)


def _number(location: Location) -> int:
    """Return what the driver knows a location by: the offset, or the name of the file."""
    where = location[1]
    return where if isinstance(where, int) else int(os.path.basename(where))
