"""What a worker leaves in its page when it dies in a burst, and how the driver reads it."""

from __future__ import annotations

import mmap
import pickle
import struct
from typing import TYPE_CHECKING

import pytest

from aioray.shared import chunks
from aioray.shared.chunks import BOOLS, FLOATS, INTS, LENGTH, NONES, PICKLES, RAN, STOPPED
from aioray.shared.wire import PAGE_FILL, PAGE_SIZE, PAGE_VALUES

if TYPE_CHECKING:
    from collections.abc import Iterator

FILL = struct.pack("<d", -2.5e300)
FILL_NUMBER = int.from_bytes(FILL, "little", signed=True)
PLACES = (PAGE_SIZE - PAGE_VALUES) // 8


@pytest.fixture
def page() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, PAGE_SIZE) as found:
        yield found


def write(page: mmap.mmap, kind: int, data: bytes, base: int = 7, valid: int = 0) -> None:
    struct.pack_into("<4q", page, PAGE_FILL, FILL_NUMBER, base, kind, valid)
    room = data.ljust(PAGE_SIZE - PAGE_VALUES, b"?") if kind == PICKLES else data + FILL * PLACES
    page[PAGE_VALUES:PAGE_SIZE] = room[: PAGE_SIZE - PAGE_VALUES]


@pytest.mark.parametrize(
    ("kind", "data", "values"),
    [
        (INTS, struct.pack("<3q", 1, -2, 0), [1, -2, 0]),
        (FLOATS, struct.pack("<2d", 0.5, -1.0), [0.5, -1.0]),
        (BOOLS, struct.pack("<2q", 1, 0), [True, False]),
        (NONES, bytes(32), [None] * 4),
        (INTS, b"", []),
    ],
)
def test_values_stand_before_the_first_empty_place(
    page: mmap.mmap, kind: int, data: bytes, values: list[object]
) -> None:
    write(page, kind, data)
    ran, stopped = chunks.left_in_page(page)
    assert ran[:4] == (RAN, 7, kind, len(values))
    found = chunks.values_of(*ran[2:5])
    assert [(type(each), each) for each in found] == [(type(each), each) for each in values]
    assert stopped == (STOPPED, 7 + len(values))


def test_a_burst_may_be_full(page: mmap.mmap) -> None:
    write(page, INTS, bytes(8 * PLACES))
    ran, stopped = chunks.left_in_page(page)
    assert chunks.values_of(*ran[2:5]) == [0] * PLACES
    assert stopped == (STOPPED, 7 + PLACES)


def test_pickles_count_as_far_as_they_are_whole(page: mmap.mmap) -> None:
    data = b"".join(
        LENGTH.pack(len(each)) + each for each in map(pickle.dumps, ("one", ["two"], {"three": 3}))
    )
    for missing, values in ((0, ["one", ["two"], {"three": 3}]), (1, ["one", ["two"]])):
        write(page, PICKLES, data, valid=len(data) - missing)
        ran, stopped = chunks.left_in_page(page)
        assert chunks.values_of(*ran[2:5]) == values
        assert stopped == (STOPPED, 7 + len(values))


@pytest.mark.parametrize(("kind", "base"), [(0, 0), (99, 0), (INTS, -1), (INTS, 1 << 62)])
def test_a_page_without_a_burst_or_with_nonsense_has_no_news(
    page: mmap.mmap, kind: int, base: int
) -> None:
    write(page, kind, b"", base)
    assert chunks.left_in_page(page) == ()


def test_nonsense_lengths_end_the_pickles(page: mmap.mmap) -> None:
    write(page, PICKLES, LENGTH.pack(0xFFFFFFFF) * 4, valid=1 << 40)
    ran, stopped = chunks.left_in_page(page)
    assert (ran[3], stopped) == (0, (STOPPED, 7))
