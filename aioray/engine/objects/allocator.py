"""Who gets which part of the shared memory: best fit, warm pages first.

Room: engine. Keeps books of an address space that is larger than the memory that may be used, and
touches none of it. Pages that have been written before are *warm*: to use them again is five to ten
times cheaper than to have the kernel find new ones. So what is freed stays warm and is given out
first; only when new pages would exceed the limit is warm memory that fits nothing given back to the
system (it becomes cold), and `trim` gives back the rest when nobody needs it.

Amounts are bytes, rounded up to whole pages.
"""

from __future__ import annotations

import bisect

from ...core.records import NamedTuple

__all__ = ["PAGE", "Allocator", "Range"]

PAGE = 4096


class Range(NamedTuple):
    """A part of the address space."""

    offset: int
    size: int


class _FreeList:
    """Free ranges, joined where they touch; the best fit is found by bisection."""

    def __init__(self) -> None:
        self.total = 0
        self._size_at: dict[int, int] = {}
        self._start_of_end: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []  # (size, offset), sorted

    def add(self, offset: int, size: int) -> None:
        """Take in a range, and join it with its neighbours."""
        self.total += size
        before = self._start_of_end.get(offset)
        if before is not None:
            size += self._drop(before)
            offset = before
        if offset + size in self._size_at:
            size += self._drop(offset + size)
        self._insert(offset, size)

    def allocate(self, size: int) -> int | None:
        """Cut `size` bytes from the smallest range that has so many; return their offset."""
        at = bisect.bisect_left(self._by_size, (size, 0))
        if at == len(self._by_size):
            return None
        found, offset = self._by_size[at]
        self._drop(offset)
        if found > size:
            self._insert(offset + size, found - size)
        self.total -= size
        return offset

    def take_largest(self, most: int) -> Range:
        """Cut up to `most` bytes from the largest range. There must be one."""
        found, offset = self._by_size[-1]
        size = min(found, most)
        self._drop(offset)
        if found > size:
            self._insert(offset + size, found - size)
        self.total -= size
        return Range(offset, size)

    def ranges(self) -> list[Range]:
        """Return all ranges, by offset."""
        return [Range(*item) for item in sorted(self._size_at.items())]

    def _insert(self, offset: int, size: int) -> None:
        self._size_at[offset] = size
        self._start_of_end[offset + size] = offset
        bisect.insort(self._by_size, (size, offset))

    def _drop(self, offset: int) -> int:
        size = self._size_at.pop(offset)
        del self._start_of_end[offset + size]
        del self._by_size[bisect.bisect_left(self._by_size, (size, offset))]
        return size


class Allocator:
    """The books of one arena."""

    def __init__(self, limit: int, space: int) -> None:
        """Begin with all memory free and cold.

        limit: bytes that may be in memory at once. space: size of the address space, in
        whole pages.

        The larger the space is compared with the limit, the less can it be in pieces too small.
        """
        self.limit = limit
        self.space = space
        self.used = 0
        self._warm = _FreeList()
        self._cold = _FreeList()
        self._cold.add(0, space)
        self._untold: list[Range] = []  # trimmed by an `allocate` that failed then

    @property
    def warm(self) -> int:
        """Bytes that are free and still in memory."""
        return self._warm.total

    @staticmethod
    def rounded(size: int) -> int:
        """Return how many bytes a value of `size` bytes takes up."""
        return max(PAGE, -(-size // PAGE) * PAGE)

    def allocate(self, size: int) -> tuple[int, list[Range], bool] | None:
        """Give out `size` bytes; None if they do not fit under the limit, or in one piece.

        Returns the offset, what has to be given back to the system before it is written to, and
        whether the memory is warm.
        """
        size = self.rounded(size)
        if self.used + size > self.limit:
            return None
        returned: list[Range] = []
        offset = self._warm.allocate(size)
        warm = offset is not None
        if offset is None:
            excess = self.used + self._warm.total + size - self.limit
            returned = self.trim(excess)
            offset = self._cold.allocate(size)
        if offset is None:
            returned += self.trim(self._warm.total)
            offset = self._cold.allocate(size)
        self._untold += returned
        if offset is None:
            return None
        returned, self._untold = self._untold, []
        self.used += size
        return offset, returned, warm

    def free(self, offset: int, size: int) -> None:
        """Take back `size` bytes that were given out."""
        size = self.rounded(size)
        self.used -= size
        self._warm.add(offset, size)

    def trim(self, most: int) -> list[Range]:
        """Turn up to `most` free warm bytes cold; return the ranges to give back to the system."""
        returned: list[Range] = []
        while most > 0 and self._warm.total:
            found = self._warm.take_largest(self.rounded(most))
            self._cold.add(*found)
            returned.append(found)
            most -= found.size
        return returned

    def check(self) -> None:
        """Assert that the books add up. For tests."""
        free = sorted([*self._warm.ranges(), *self._cold.ranges()])
        end = 0
        for offset, size in free:
            assert offset >= end
            assert size > 0
            assert size % PAGE == offset % PAGE == 0
            end = offset + size
        assert end <= self.space
        assert sum(size for _, size in free) == self.space - self.used
        assert self._warm.total == sum(size for _, size in self._warm.ranges())
        assert self.used + self._warm.total <= self.limit
