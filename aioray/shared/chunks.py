"""What a chunk of items is, and how a worker tells what has become of each of them.

Room: shared. A chunk is one task of an `ItemFunction`, whose arguments are consecutive items of an
`aioray.map`; `worker.chunks` runs it. What it tells is a stream of news, tuples that begin with
what they are. Positions are those of items in the chunk, from 0, and news come in their order:

    (RAN, first, kind, count, data, seconds)
                        the items from `first` on have these values, see `values_of`
    (RAISED, position, status, payload, delay, started, seconds)
                        an error of this item, see `wire.Status`, `failures`
    (STOPPED, position) the attempt ended, and this item was running
    (GIVEN_BACK, count) so many items at the end are left to others

Values of items that run quickly stand in the worker's page (`wire.PAGE_VALUES`) from the moment
that they are there, so that a crash takes none along: numbers as such, all else as pickles. Where a
number is not there yet, the page has PAGE_FILL's; where None has been returned, another.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from .serialization import load
from .wire import PAGE_FILL, PAGE_SIZE, PAGE_VALUES

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

__all__ = [
    "BOOLS",
    "FLOATS",
    "GIVEN_BACK",
    "INTS",
    "LENGTH",
    "NONES",
    "PICKLES",
    "RAISED",
    "RAN",
    "STOPPED",
    "VALUES",
    "Chunk",
    "ItemFunction",
    "Unloadable",
    "filled",
    "left_in_page",
    "values_of",
]

RAN = 0
RAISED = 1
STOPPED = 2
GIVEN_BACK = 3

NONES = 1  # there is no data
INTS = 2  # data: 8 bytes each
FLOATS = 3  # the same
BOOLS = 4  # data: INTS
PICKLES = 5  # data: one after the other, and before each LENGTH
VALUES = 6  # data: a list of the values

LENGTH = struct.Struct("<I")
_BURST = struct.Struct("<4q")  # from PAGE_FILL on
_IN_PAGE = frozenset((NONES, INTS, FLOATS, BOOLS, PICKLES))


class Chunk(NamedTuple):
    """What a task is to do with its items: call a function on each."""

    function: Callable[..., Any]
    star: bool  # an item holds the positional arguments, instead of being one
    items: Sequence[Any]


class ItemFunction:
    """The function of an `aioray.map`, as it travels: called with items, it says what to do.

    The items are its arguments, so that refs among them arrive as their values, or lie together in
    `packed`, serialized.
    """

    __slots__ = ("__weakref__", "function", "star")

    def __init__(self, function: Callable[..., Any], star: bool) -> None:
        self.function = function
        self.star = star

    def __call__(self, packed: bytes | None, *items: Any) -> Chunk:
        """Say what is to be done with these items."""
        return Chunk(self.function, self.star, items if packed is None else load(packed))

    def __reduce__(self) -> tuple[type[ItemFunction], tuple[Callable[..., Any], bool]]:
        return ItemFunction, (self.function, self.star)


class Unloadable(NamedTuple):
    """Stands where a value should, which cannot be unpickled here."""

    error: Exception


def values_of(kind: int, count: int, data: Any) -> list[Any]:
    """Return the values that news of the kind RAN have brought, some as Unloadable."""
    if kind == VALUES:
        found: list[Any] = data
        return found
    if kind == NONES:
        return [None] * count
    if kind == PICKLES:
        values, start = [], 0
        for _ in range(count):
            (size,) = LENGTH.unpack_from(data, start)
            start += LENGTH.size + size
            try:
                values.append(load(data[start - size : start]))
            except Exception as error:  # noqa: BLE001 - whatever a foreign class may raise
                values.append(Unloadable(error))
        return values
    numbers = memoryview(data).cast("d" if kind == FLOATS else "q").tolist()
    return list(map(bool, numbers)) if kind == BOOLS else numbers


def filled(places: memoryview[int], fill: int) -> int:
    """Return how many numbers are there: those before the first place that holds `fill`."""
    numbers = places.tolist()
    try:
        return numbers.index(fill)
    except ValueError:
        return len(numbers)


def left_in_page(page: mmap.mmap) -> tuple[tuple[Any, ...], ...]:
    """Return the news that a worker had no time to tell, from the page of one that is dead."""
    fill, base, kind, valid = _BURST.unpack_from(page, PAGE_FILL)
    if kind not in _IN_PAGE or not 0 <= base < 1 << 62:
        return ()
    data = page[PAGE_VALUES:PAGE_SIZE]
    if kind == PICKLES:
        data = data[: max(0, valid)]
        count = _whole_pickles(data)
    else:
        count = filled(memoryview(data).cast("q"), fill)
        data = b"" if kind == NONES else data[: 8 * count]
    return (RAN, base, kind, count, data, 0.0), (STOPPED, base + count)


def _whole_pickles(data: bytes) -> int:
    """Return how many pickles there are."""
    count = end = 0
    while end + LENGTH.size <= len(data):
        end += LENGTH.size + LENGTH.unpack_from(data, end)[0]
        if end <= len(data):
            count += 1
    return count
