"""Large values in a worker: arguments are read where they lie, results written where they stay.

Room: child. What a task gets shares the memory of the store. A task may keep such an array beyond
its end, so at the end of each attempt the driver is told of the views that are still alive, and
when they end it is told of that: until then the memory is not used for anything else.

Room for a result is asked for and waited for. While results like it are to come, the driver grants
room for them too; what is not used is given back as soon as there is nothing to do.
"""

from __future__ import annotations

import os
import pickle
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from ..arena import Arena, read_file, write_file
from ..wire import IN_FILE, IN_MEMORY, NUMBER, PAIR, PLACE, PLACE_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..serialization import Pieces
    from ..wire import Place

__all__ = ["ArgumentLost", "Objects"]


class ArgumentLost(Exception):  # noqa: N818  # no error of anybody's: the driver finds it again
    """The value of an argument is not where it should be."""


class _Token:
    """Lives as long as one view and what was made from it."""

    __slots__ = ("_released", "number")

    def __init__(self, released: deque[int], number: int) -> None:
        self._released = released
        self.number = number

    def __del__(self) -> None:
        self._released.append(self.number)  # nothing more: this may run anywhere, at any moment


class Objects:
    """What one worker sees of the store."""

    def __init__(self, arena_fd: int, ask: Callable[[int], list[Place] | bytes]) -> None:
        """ask: wants room of so many bytes from the driver, and waits for the grant: one place or
        more, or a pickled exception.
        """
        self._arena = Arena(arena_fd, os.fstat(arena_fd).st_size)
        self._ask = ask
        self._views: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.opened: list[int] = []  # offsets of what the attempt has got
        self._last_number = 0
        self._released: deque[int] = deque()
        self.spare: list[Place] = []  # room that was granted and not used yet
        self._written: list[Place] = []  # results of the attempt that ends now
        self.kept: set[int] = set()  # numbers of views that the driver was told of

    def open(self, place: Place) -> memoryview:
        """What lies there, read-only. Raises ArgumentLost, and OSError if it cannot be read."""
        kind, where, size = place
        if kind == IN_FILE:
            assert isinstance(where, str)
            copy = read_file(where, size)
            if copy is None:
                raise ArgumentLost
            return copy
        assert isinstance(where, int)
        view = self._views.get(where)
        if view is None:
            self._last_number += 1
            view = self._arena.view(where, size, _Token(self._released, self._last_number))
            self._views[where] = view
        self.opened.append(where)
        return memoryview(view).cast("B").toreadonly()

    def take_kept(self) -> bytes:
        """The views that outlive the attempt which ends now, as the driver wants to know it."""
        opened, self.opened = self.opened, []
        if not self.kept:
            self._released.clear()  # of those that the driver was never told of
        kept = []
        for offset in opened:
            view = self._views.get(offset)
            if view is not None:
                number = view.owner[0].number
                self.kept.add(number)
                kept.append(PAIR.pack(offset, number))
        return b"".join(kept)

    def take_released(self) -> bytes:
        """The views that the driver knows of and that have ended since the last call."""
        ended = []
        released = self._released
        while released:
            number = released.popleft()
            if number in self.kept:
                self.kept.remove(number)
                ended.append(NUMBER.pack(number))
        return b"".join(ended)

    def keep(self, pieces: Pieces) -> bytes:
        """Write a result where the driver has granted room; what stands for it in the answer.

        Raises ObjectStoreFullError, OutOfDiskError.
        """
        size = pieces.size
        place = self._find_room(size)
        self._written.append(place)
        kind, where, _ = place
        if kind == IN_FILE:
            assert isinstance(where, str)
            write_file(where, pieces.buffers, size)
        else:
            assert isinstance(where, int)
            self._arena.write(where, pieces.buffers)
        return PLACE.pack(PLACE_MARK, kind, _number(place), size)

    def _find_room(self, size: int) -> Place:
        for at, (kind, _, room) in enumerate(self.spare):
            if size <= room <= 2 * size and kind == IN_MEMORY:
                return self.spare.pop(at)
        granted = self._ask(size)
        if isinstance(granted, bytes):
            raise pickle.loads(granted)
        self.spare += granted[1:]
        return granted[0]

    def answered(self) -> None:
        """The results that were written are told in the answer."""
        self._written.clear()

    def failed(self) -> None:
        """The attempt has failed in the end: what was written is not its result."""
        self.spare += self._written
        self._written.clear()

    def take_unused(self) -> bytes:
        """Room that is not needed now, as the driver wants to know it."""
        unused = [PAIR.pack(place[0], _number(place)) for place in self.spare]
        self.spare.clear()
        return b"".join(unused)


def _number(place: Place) -> int:
    """What the driver knows a place by: the offset, or the name of the file."""
    where = place[1]
    return where if isinstance(where, int) else int(os.path.basename(where))
