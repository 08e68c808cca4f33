"""Which large values were not used for longest, among those that are to be treated alike.

Room: engine. Not thread-safe: the store holds its lock meanwhile.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

from .allocator import Allocator

if TYPE_CHECKING:
    from .stored import Notes, Stored

__all__ = ["Shelf"]


class Shelf:
    """Values in memory that are to be treated alike; the one used last at the end."""

    def __init__(self, notes: Notes) -> None:
        self.bytes = 0
        self._values: OrderedDict[int, tuple[weakref.KeyedRef[int, Stored], int]] = OrderedDict()
        self._has_died = notes.values.append

    def put(self, stored: Stored) -> None:
        """Put a value here, as the one used last, and take it from where it was."""
        if stored.shelf is not None:
            stored.shelf.remove(stored)
        key = id(stored)
        self._drop(key)  # of one that is gone, and whose place in memory this one has
        size = Allocator.rounded(stored.size)
        self._values[key] = weakref.KeyedRef(stored, self._has_died, key), size
        self.bytes += size
        stored.shelf = self

    def remove(self, stored: Stored) -> None:
        """Take a value away."""
        stored.shelf = None
        self._drop(id(stored))

    def _drop(self, key: int) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self.bytes -= found[1]

    def touch(self, stored: Stored) -> None:
        """Note that a value was used just now."""
        self._values.move_to_end(id(stored))

    def drop_dead(self, ref: weakref.KeyedRef[int, Stored]) -> None:
        """Drop the value behind this reference, which is gone."""
        found = self._values.get(ref.key)
        if found is not None and found[0] is ref:
            self._drop(ref.key)

    def pick(self, size: int, busy: set[int]) -> list[Stored]:
        """Pick values of `size` bytes together, or all there are, used least recently first.

        Not those in `busy`. What is being looked at counts as used just now.
        """
        picked: list[Stored] = []
        looked_at: list[Stored] = []
        found = 0
        for key, (ref, room) in self._values.items():
            if found >= size:
                break
            stored = ref()
            if stored is None or key in busy:
                continue
            if stored.is_looked_at:
                looked_at.append(stored)
            else:
                picked.append(stored)
                found += room
        for stored in looked_at:
            self.touch(stored)
        return picked
