"""Where large values are kept: in shared memory, and in files when that is full.

Room: engine. Thread-safe, because `put` and `.remote()` run in their callers' threads. The lock is
never held during input or output.

When there is no room, what is expendable is dropped: arguments of finished tasks, which are only of
use if a result is lost. Then values that were not used for longest and that nobody looks at go to
files; with 80 % in use that is done in advance, in the background, so that whoever comes next need
not wait for the disk. A value for which no room can be made goes to a file at once.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ...exceptions import ObjectStoreFullError, OutOfDiskError
from ...options.task import STORE_SPACE
from ...shared import linux
from ...shared.arena import Arena, is_whole
from .allocator import Allocator
from .shelf import Shelf
from .stored import Extent, Notes, SpillFile, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...shared.serialization import Pieces
    from .spill import SpillFolder

__all__ = ["Store"]

logger = logging.getLogger("aioray")

SPILL_THRESHOLD = 0.8  # of the limit in use, from which values are copied to files in advance
COPY_FROM = 64 * 1024  # bytes, from which a value is copied to warm memory, and not written
MOST_MAPPED = 1024  # places that are remembered as mapped; each is looked at when memory goes back
CLEAN_STEP = 32 * 1024 * 1024  # bytes copied in advance before others may use the disk
TRIM_STEP = 16 * 1024 * 1024  # bytes returned to the system at once: some milliseconds


class Store:
    """All large values of one engine."""

    def __init__(self, limit: int, folder: SpillFolder, tell: Callable[[], None]) -> None:
        """Create the shared memory. Raises OSError if the system refuses it.

        limit: bytes of shared memory. folder: for what does not fit. tell: called, from any thread,
        when memory was freed or is running short; `process_notes` should follow.
        """
        self.limit = Allocator.rounded(limit)
        space = STORE_SPACE * self.limit
        largest = linux.largest_file()
        if largest is not None:
            space = max(self.limit, min(space, largest - largest % mmap.PAGESIZE))
        self.arena = Arena.create(space)
        self._allocator = Allocator(self.limit, space)
        self._notes = Notes(tell)
        self._folder = folder
        self._room = threading.Condition()
        self._expendable = Shelf(self._notes)  # rather lost than written to disk
        self._saved = Shelf(self._notes)  # in a file too: their memory can be had at once
        self._unsaved = Shelf(self._notes)
        self._serials = itertools.count(1)
        self._being_spilled: set[int] = set()
        self._cleaning = False  # values are being copied to files in advance
        # Size by offset: where this process has copied to before, so that its pages are mapped.
        self._mapped: dict[int, int] = {}
        self._disk: ThreadPoolExecutor | None = None
        self.closed = False
        self.changes = 0  # how often memory was given out

    # ------------------------------------------------------------ what there is

    @property
    def spilled(self) -> int:
        """Return the bytes on disk."""
        return self._folder.size()

    @property
    def used(self) -> int:
        """Return the bytes of shared memory in use, in whole pages."""
        with self._room:
            self._process_notes()
            return self._allocator.used

    @property
    def warm(self) -> int:
        """Return the bytes of shared memory that are free and not returned to the system."""
        return self._allocator.warm

    # ------------------------------------------------------------ values

    def keep(self, pieces: Pieces) -> Stored:
        """Store a value; blocks while others are written to disk to make room.

        Raises OutOfDiskError and ObjectStoreFullError; what is stored already is not touched then.
        """
        extent = self.allocate(pieces.size) or self.allocate_by_spilling(pieces.size)
        if extent is None:
            path = self._folder.write(next(self._serials), pieces.buffers, pieces.size)
            return self.adopt_file(pieces.size, SpillFile(self._notes, path))
        before = self._mapped.get(extent.offset, 0)
        may_copy = pieces.size >= COPY_FROM and (before or len(self._mapped) < MOST_MAPPED)
        if extent.warm and may_copy:
            mapped = before >= pieces.size
            self.arena.copy(extent.offset, pieces.buffers, pieces.size, mapped=mapped)
            self._mapped[extent.offset] = max(pieces.size, before)
        else:
            self.arena.write(extent.offset, pieces.buffers)
        return self.take_over(pieces.size, extent)

    def reserve_file(self, size: int) -> SpillFile:
        """Reserve a file to which somebody may write a value that has no place in memory."""
        return SpillFile(self._notes, self._folder.reserve(next(self._serials), size))

    def adopt_file(self, size: int, file: SpillFile) -> Stored:
        """Make a value of what has been written to this file."""
        stored = Stored(self, size, None, file)
        stored.read_through = True
        return stored

    def take_over(self, size: int, extent: Extent) -> Stored:
        """Make a value of what has been written to this extent."""
        stored = Stored(self, size, extent, None)
        with self._room:
            self._unsaved.put(stored)
        return stored

    def set_expendable(self, stored: Stored, *, expendable: bool) -> None:
        """Say whether a value may be lost when memory is short. One in a file will not be."""
        with self._room:
            if stored.shelf in (self._unsaved, self._expendable):
                (self._expendable if expendable else self._unsaved).put(stored)

    def touch(self, stored: Stored) -> None:
        """Note that a value was used: others go to disk first."""
        with self._room:
            if stored.shelf is not None:
                stored.shelf.touch(stored)

    # ------------------------------------------------------------ memory

    def allocate(self, size: int) -> Extent | None:
        """Allocate memory for `size` bytes, if it is free."""
        with self._room:
            return self._allocate(size)

    def allocate_several(self, size: int, count: int) -> list[Extent]:
        """Allocate `count` times `size` bytes if there is plenty, else once if that is free."""
        found: list[Extent] = []
        with self._room:
            while len(found) < count:
                extent = self._allocate(size)
                if extent is None:
                    break
                found.append(extent)
                if self._allocator.used > self.limit // 2:
                    break
        return found

    def _allocate(self, size: int) -> Extent | None:
        self._process_notes()
        if self.closed:
            raise RuntimeError("This engine is shut down. Start another one.")
        found = self._allocator.allocate(size)
        if found is None:
            return None
        offset, returned, warm = found
        for piece in returned:
            self._give_back(*piece)
        self.changes += 1
        if self._excess > 0 and not self._cleaning:
            self._notes.notify()
        return Extent(self._notes, offset, size, warm=warm)

    def _give_back(self, offset: int, size: int) -> None:
        """Return memory to the system."""
        for start, length in tuple(self._mapped.items()):
            if start < offset + size and offset < start + length:
                del self._mapped[start]
        self.arena.give_back(offset, size)

    def _process_notes(self) -> None:
        """Act on what finalizers have noted, with the lock."""
        notes = self._notes
        while notes.values:
            found = notes.values.popleft()
            for shelf in (self._unsaved, self._saved, self._expendable):
                shelf.drop_dead(found)
        while notes.extents:
            self._allocator.free(*notes.extents.popleft())

    def allocate_by_spilling(self, size: int) -> Extent | None:
        """Allocate `size` bytes, by spilling what was not used for longest; blocks for the disk.

        None if there cannot be enough: it is larger than all, or too much is being looked at.
        Raises OutOfDiskError, ObjectStoreFullError.
        """
        if Allocator.rounded(size) > self.limit:
            return None
        while True:
            with self._room:
                extent = self._allocate(size)
                while extent is None and self._evict_one():
                    extent = self._allocate(size)
                if extent is not None:
                    return extent
                missing = self._allocator.used + Allocator.rounded(size) - self.limit
                victims = self._unsaved.pick(max(1, missing), self._being_spilled)
                if not victims:
                    if not self._being_spilled:
                        return None
                    self._notes.awaited += 1
                    try:
                        self._room.wait()
                    finally:
                        self._notes.awaited -= 1
                    continue
                self._being_spilled.update(map(id, victims))
            self._save(victims)

    def _evict_one(self) -> bool:
        """Let go of the memory of a value without writing anything; False if there is none."""
        for shelf in (self._expendable, self._saved):
            for stored in shelf.pick(1, self._being_spilled):
                shelf.remove(stored)
                stored.extent = None
                return True
        return False

    def _save(self, victims: list[Stored]) -> None:
        """Write values, claimed in `_being_spilled`, to files; they stay in memory too."""
        try:
            for stored in victims:
                extent = stored.extent
                if extent is not None and stored.file is None and not self.closed:
                    view = memoryview(self.arena.view(extent.offset, stored.size, extent))
                    pieces = [view.cast("B")]
                    path = self._folder.write(next(self._serials), pieces, stored.size)
                    stored.file = SpillFile(self._notes, path)
        finally:
            with self._room:
                for stored in victims:
                    if stored.file is not None and stored.shelf is not None:
                        self._saved.put(stored)
                self._being_spilled.difference_update(map(id, victims))
                victims.clear()
                self._room.notify_all()

    # ------------------------------------------------------------ in the background

    def in_background(self, action: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have something done by the one thread that works with the disk.

        The future is cancelled if that cannot be done any more.
        """
        if self._disk is None:
            self._disk = ThreadPoolExecutor(1, thread_name_prefix="aioray-disk")
        try:
            return self._disk.submit(action, *args)
        except RuntimeError:  # the interpreter ends
            future: Future[Any] = Future()
            future.cancel()
            return future

    def process_notes(self) -> None:
        """Act on what finalizers have noted; never blocks. For the owner's thread."""
        notes = self._notes
        notes.owner_knows = False  # before looking: whatever comes from now on tells again
        if self.closed:
            return
        with self._room:
            self._process_notes()
            self._room.notify_all()
            clean = self._excess > 0 and not self._cleaning
            self._cleaning |= clean
        if notes.files:
            self.in_background(self._remove_files)
        if clean:
            self.in_background(self._clean)

    def expect_look(self, *, soon: bool) -> None:
        """Say whether the owner will `trim` anyway: then it is not told of each value that goes."""
        self._notes.owner_looks = soon

    @property
    def _excess(self) -> int:
        """Return how many bytes more than the threshold are neither free nor to be had at once."""
        at_once = self._saved.bytes + self._expendable.bytes
        return self._allocator.used - at_once - int(SPILL_THRESHOLD * self.limit)

    def _remove_files(self) -> None:
        files = self._notes.files
        while files:
            self._folder.remove(files.popleft())

    def _clean(self) -> None:
        """Copy to files what would have to go next, so that its memory can be had without delay."""
        with self._room:
            victims = self._unsaved.pick(min(self._excess, CLEAN_STEP), self._being_spilled)
            self._being_spilled.update(map(id, victims))
        progress = bool(victims)
        try:
            self._save(victims)
        except (OutOfDiskError, ObjectStoreFullError) as error:
            logger.debug("Values cannot be copied to disk in advance: %s", error)
            progress = False
        with self._room:
            self._cleaning = progress and self._excess > 0 and not self.closed
        if self._cleaning:
            self.in_background(self._clean)  # others may need the disk in between

    def restore(self, stored: Stored) -> bool:
        """Bring a value back into memory from its file; False if the file is gone or damaged.

        For the background. If no room can be made, its readers will make copies of their own.
        """
        path = stored.path
        if stored.extent is not None or path is None:
            return stored.extent is not None
        if not is_whole(path, stored.size):
            return False
        try:
            extent = self.allocate(stored.size) or self.allocate_by_spilling(stored.size)
            if extent is not None:
                if not self.arena.write_from_file(extent.offset, path, stored.size):
                    return False
                stored.extent = extent
                with self._room:
                    self._saved.put(stored)
                return True
        except (OutOfDiskError, ObjectStoreFullError, OSError) as error:
            logger.debug("No room for a value that was on disk: %s", error)
        stored.read_through = True
        return True

    def trim(self) -> bool:
        """Return some free memory to the system; tell whether there is more."""
        with self._room:
            self._process_notes()
            if not self.closed:
                for piece in self._allocator.trim(TRIM_STEP):
                    self._give_back(*piece)
            return self._allocator.warm > 0

    # ------------------------------------------------------------ end

    def close(self) -> None:
        """Let go of memory and files. Views that exist stay usable."""
        with self._room:
            if self.closed:
                return
            self.closed = True
            self._room.notify_all()
        if self._disk is not None:
            self._disk.shutdown(wait=True, cancel_futures=True)
        self.arena.close()
        self._folder.close()

    def after_fork_in_child(self) -> None:
        """Let go of everything, in a copy of this in a forked process: it is the parent's."""
        self.closed = True
        self._disk = None
        self._room = threading.Condition()  # the other may be held by a thread that is not here
        self._folder.after_fork_in_child()
