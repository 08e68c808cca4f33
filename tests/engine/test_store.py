"""Where large values are kept: what is in memory, what goes to disk, when either is free again."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import queue
import random
import stat
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aioray.client.entry import NotInMemory
from aioray.engine.objects import store as module
from aioray.engine.objects.spill import SpillFolder
from aioray.engine.objects.store import Store
from aioray.exceptions import EngineShutdownError, ObjectStoreFullError, OutOfDiskError
from aioray.shared import arena
from aioray.shared.serialization import INLINE_LIMIT, Pieces
from aioray.state.folders import SessionFolder

PAGE = 4096
PAGES = 64  # what fits in memory
GUARD = 100.0  # seconds; a wait that lasts longer has failed
GONE = 99_999_999  # beyond any pid


class Box:
    """A store with its folder, and values that are known by a number."""

    def __init__(self, parent, *, pages=PAGES, threshold=1.0, tell=lambda: None):
        self.parent = parent
        session = SessionFolder(str(parent), f"session_{os.getpid()}")
        self.folder = SpillFolder(session, threshold)
        self.store = Store(pages * PAGE, self.folder, tell)
        self.objects = parent / f"session_{os.getpid()}" / "objects"

    def keep(self, number, pages=1):
        data = content(number, pages)
        middle = len(data) // 3
        return self.store.keep(Pieces([data[:middle], b"", memoryview(data)[middle:]], len(data)))

    def files(self):
        return sorted(map(int, os.listdir(self.objects))) if self.objects.exists() else []

    def settle(self):
        """Do what was told, and wait until it is done."""
        self.store.process_notes()
        self.store.in_background(lambda: None).result(GUARD)

    def come_to_rest(self):
        """Wait until nothing is copied to files in advance any more."""
        self.settle()
        while self.store._cleaning:
            self.settle()

    def used(self):
        assert self.store.used % PAGE == 0
        self.store._allocator.check()
        return self.store.used // PAGE

    def blocks(self):
        """Bytes of memory that the system has given."""
        return os.stat(self.store.arena.fd).st_blocks * 512


@pytest.fixture
def make_box(tmp_path):
    """Makes boxes; closes them, and fails the test if anything is left then."""
    boxes = []
    gc.collect()
    threads = set(threading.enumerate())
    descriptors = set(os.listdir("/proc/self/fd"))

    def make(parent=None, **settings):
        boxes.append(Box(parent or tmp_path / "parent", **settings))
        return boxes[-1]

    yield make
    for box in boxes:
        box.store.close()
    boxes.clear()
    gc.collect()
    assert set(threading.enumerate()) <= threads
    assert set(os.listdir("/proc/self/fd")) <= descriptors
    assert not (tmp_path / "parent").exists()


@pytest.fixture
def box(make_box):
    """64 pages."""
    return make_box()


def content(number, pages=1):
    """A value of this size, a little less than whole pages."""
    return random.Random(number).randbytes(pages * PAGE - 100)


def holds(stored, number, pages=1, *, from_disk=False):
    """Whether the value is the one with that number; looks at it as a reader does."""
    return stored.view(from_disk=from_disk) == content(number, pages)


def in_memory(values):
    return [value.extent is not None for value in values]


def on_disk(values):
    return [value.path is not None for value in values]


def shelves(box):
    """What the books say is in memory, the one used last at the end; checks their sums."""
    found = []
    for shelf in (box.store._unsaved, box.store._saved, box.store._expendable):
        assert shelf.bytes == sum(size for _, size in shelf._values.values())
        found.append([ref() for ref, _ in shelf._values.values()])
    return found


def run_in_thread(action, *args):
    """Start a thread; a function that waits for its end and gives what it returned, or raises."""
    result = []

    def run():
        try:
            result.append((action(*args), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the test waits
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join():
        thread.join(GUARD)
        assert not thread.is_alive(), "the thread has not come to its end"
        value, error = result.pop()
        if error is not None:
            raise error
        return value

    return join


def hold_writes(monkeypatch, box):
    """Let the next write to the folder wait: (it has begun, it may go on)."""
    begun, go_on = threading.Event(), threading.Event()
    write = box.folder.write

    def slow(*args):
        begun.set()
        assert go_on.wait(GUARD)
        return write(*args)

    monkeypatch.setattr(box.folder, "write", slow)
    return begun, go_on


# ---------------------------------------------------------------- memory


def test_value_is_read_where_it_lies_and_frees_its_pages_when_it_dies(box):
    stored = box.keep(1, 3)
    assert stored.in_memory
    assert box.used() == 3
    one, two = stored.view(), stored.view()
    assert bytes(one) == content(1, 3)
    assert np.shares_memory(np.frombuffer(one, "u1"), np.frombuffer(two, "u1"))
    assert (one.format, one.ndim, one.readonly) == ("B", 1, True)
    with pytest.raises(TypeError, match="read-only"):
        one[0] = 0
    del one, two
    assert box.used() == 3
    del stored
    assert box.used() == 0
    assert box.files() == []


@pytest.mark.parametrize(("size", "pages"), [(1, 1), (PAGE, 1), (PAGE + 1, 2), (10 * PAGE, 10)])
def test_values_take_whole_pages(box, size, pages):
    stored = box.store.keep(Pieces([bytes(size)], size))
    assert (stored.size, box.used()) == (size, pages)
    assert stored.view().nbytes == size


def test_limit_is_rounded_to_whole_pages(make_box):
    box = make_box()
    assert box.store.limit == PAGES * PAGE
    other = Store(PAGE + 1, box.folder, lambda: None)
    assert other.limit == 2 * PAGE
    other.close()


def test_memory_that_is_looked_at_outlives_its_value(box):
    stored = box.keep(1, 16)
    array = np.frombuffer(stored.view(), "u1")[10:20]
    del stored
    assert box.used() == 16
    others = [box.keep(number, 16) for number in range(2, 8)]
    assert bytes(array) == content(1, 16)[10:20]
    assert all(holds(v, n, 16, from_disk=True) for n, v in enumerate(others, 2))
    del others
    assert box.used() == 16
    del array
    assert box.used() == 0


def test_memory_of_a_value_is_used_again(box):
    stored = box.keep(1, 40)
    blocks = box.blocks()
    offset = stored.extent.offset
    del stored
    again = box.keep(2, 40)
    assert again.extent.offset == offset
    assert box.blocks() == blocks
    assert holds(again, 2, 40)


def test_memory_never_exceeds_the_limit(box):
    rng = random.Random(5)
    values = []
    for number in range(200):
        values.append((number, box.keep(number, rng.randint(1, 20))))
        if len(values) > 5:
            del values[rng.randrange(len(values))]
        assert box.used() <= PAGES
        assert box.blocks() <= PAGES * PAGE


def test_trim_gives_free_memory_back_step_by_step(box, monkeypatch):
    monkeypatch.setattr(module, "TRIM_STEP", 10 * PAGE)
    kept, freed = box.keep(1, 20), box.keep(2, 25)
    assert box.blocks() == 45 * PAGE
    del freed
    assert box.blocks() == 45 * PAGE
    more = [box.store.trim() for _ in range(3)]
    assert more == [True, True, False]
    assert box.store.warm == 0
    assert box.blocks() == 20 * PAGE
    assert holds(kept, 1, 20)
    assert box.store.trim() is False
    again = box.keep(3, 40)
    assert box.blocks() == 60 * PAGE
    assert holds(again, 3, 40)


def test_changes_count_what_was_given_out(box):
    before = box.store.changes
    stored = box.keep(1, 2)
    assert box.store.changes == before + 1
    stored.view()
    del stored
    box.store.trim()
    assert box.store.changes == before + 1


# ---------------------------------------------------------------- what goes to disk


def test_value_that_was_used_least_recently_goes_first(box):
    values = [box.keep(number, 16) for number in range(4)]
    assert holds(values[0], 0, 16)
    values.append(box.keep(4, 16))
    assert in_memory(values) == [True, False, True, True, True]
    assert on_disk(values) == [False, True, False, False, False]
    assert holds(values[2], 2, 16)
    values.append(box.keep(5, 20))  # needs the room of two
    assert in_memory(values) == [False, False, True, False, True, True]
    assert all(holds(v, n, 16, from_disk=True) for n, v in enumerate(values[:5]))
    assert box.used() == 52


def test_view_of_a_value_on_disk_is_not_at_hand_unless_it_may_be_copied(box):
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    assert not stored.in_memory
    with pytest.raises(NotInMemory):
        stored.view()
    copy = stored.view(from_disk=True)
    assert copy == content(1, 40)
    assert copy.readonly
    assert in_memory([stored, other]) == [False, True]
    assert box.used() == 40


def test_value_that_is_looked_at_stays(box):
    values = [box.keep(number, 16) for number in range(4)]
    views = [values[0].view(), np.frombuffer(values[1].view(), "u1")[3:5]]
    assert [value.is_looked_at for value in values] == [True, True, False, False]
    values.append(box.keep(4, 16))
    assert in_memory(values) == [True, True, False, True, True]
    assert bytes(views[0]) == content(0, 16)
    del views
    assert not values[0].is_looked_at
    values.append(box.keep(5, 16))
    assert in_memory(values) == [True, True, False, False, True, True]  # they were used meanwhile
    values.append(box.keep(6, 16))
    assert in_memory(values)[:2] == [False, True]


def test_value_that_is_lent_stays(box):
    values = [box.keep(number, 16) for number in range(4)]
    values[0].extent.lent += 2
    assert values[0].is_looked_at
    values.append(box.keep(4, 16))
    assert in_memory(values) == [True, False, True, True, True]
    values[0].extent.lent -= 1
    assert values[0].is_looked_at
    values[0].extent.lent -= 1
    assert not values[0].is_looked_at
    values.append(box.keep(5, 16))
    assert in_memory(values) == [True, False, False, True, True, True]  # it was used meanwhile
    values.append(box.keep(6, 16))
    assert in_memory(values)[:4] == [True, False, False, False]
    values.append(box.keep(7, 16))
    assert in_memory(values)[:4] == [False, False, False, False]


def test_memory_that_somebody_holds_is_not_used_again_when_its_value_goes_to_disk(box):
    values = [box.keep(number, 16) for number in range(4)]
    extent = values[0].extent
    values.append(box.keep(4, 16))
    assert in_memory(values) == [False, False, True, True, True]
    assert box.used() == 64
    at = os.pread(box.store.arena.fd, values[0].size, extent.offset)
    assert at == content(0, 16)
    assert holds(values[0], 0, 16, from_disk=True)
    del extent
    assert box.used() == 48


def test_all_is_looked_at_so_the_next_goes_to_a_file_at_once(box):
    values = [box.keep(number, 16) for number in range(4)]
    views = [value.view() for value in values]
    stored = box.keep(4, 16)
    assert stored.extent is None
    assert stored.in_memory
    assert in_memory(values) == [True] * 4
    assert box.files() == [1]
    assert [bytes(view) for view in views] == [content(number, 16) for number in range(4)]
    copy = stored.view()
    assert copy == content(4, 16)
    assert copy.readonly
    assert not stored.is_looked_at


def test_value_larger_than_memory_goes_to_a_file_and_moves_nobody(box):
    values = [box.keep(number, 30) for number in range(2)]
    stored = box.keep(2, PAGES + 1)
    assert in_memory([*values, stored]) == [True, True, False]
    assert on_disk([*values, stored]) == [False, False, True]
    assert stored.in_memory
    assert holds(stored, 2, PAGES + 1)
    assert box.used() == 60
    os.unlink(stored.path)
    with pytest.raises(NotInMemory):
        stored.view()
    assert not stored.in_memory


def test_value_as_large_as_memory_finds_room(box):
    first = box.keep(1, 10)
    stored = box.keep(2, PAGES)
    assert in_memory([first, stored]) == [False, True]
    assert holds(stored, 2, PAGES)
    assert box.used() == PAGES


def test_files_go_with_their_values(box):
    values = [box.keep(number, 30) for number in range(4)]
    assert len(box.files()) == 2
    paths = [value.path for value in values]
    del values[0]
    box.settle()
    assert not os.path.exists(paths[0])
    assert os.path.exists(paths[1])
    values.append(box.keep(9, PAGES + 1))
    del values
    box.settle()
    assert box.files() == []
    assert box.used() == 0


def test_file_that_nobody_will_write_is_dropped(box):
    room = box.store.reserve_file(100)
    assert not os.path.exists(room.path)
    del room  # never begun
    box.settle()
    room = box.store.reserve_file(100)
    with open(room.path, "wb") as file:
        file.write(b"half")
    assert box.files() != []
    del room
    box.settle()
    assert box.files() == []


def test_file_that_somebody_wrote_becomes_a_value(box):
    room = box.store.reserve_file(3)
    with open(room.path, "wb") as file:
        file.write(b"abc")
    stored = box.store.adopt_file(3, room)
    del room
    assert stored.in_memory
    assert stored.view() == b"abc"
    assert box.store.restore(stored)
    assert stored.extent is not None
    assert stored.view() == b"abc"
    del stored
    box.settle()
    assert box.files() == []


def test_extent_that_somebody_wrote_becomes_a_value(box):
    extent = box.store.allocate(5000)
    assert box.used() == 2
    box.store.arena.write(extent.offset, [b"x" * 5000])
    stored = box.store.take_over(5000, extent)
    del extent
    assert stored.view() == b"x" * 5000
    other = box.keep(2, PAGES)
    assert in_memory([stored, other]) == [False, True]
    assert stored.view(from_disk=True) == b"x" * 5000


def test_extent_that_nobody_takes_is_free_again(box):
    extent = box.store.allocate(5000)
    assert extent is not None
    assert box.store.allocate(PAGES * PAGE) is None
    del extent
    assert box.used() == 0


# ---------------------------------------------------------------- what is expendable


def test_expendable_values_are_dropped_before_anything_is_written(box):
    values = [box.keep(number, 16) for number in range(4)]
    box.store.set_expendable(values[2], expendable=True)
    box.store.set_expendable(values[1], expendable=True)
    values.append(box.keep(4, 16))
    assert in_memory(values) == [True, True, False, True, True]  # in the order of becoming so
    assert box.files() == []
    assert not values[2].in_memory
    for from_disk in (False, True):
        with pytest.raises(NotInMemory):
            values[2].view(from_disk=from_disk)
    assert not box.store.restore(values[2])
    values.append(box.keep(5, 20))
    assert in_memory(values) == [False, False, False, True, True, True]
    assert on_disk(values)[:3] == [True, False, False]


def test_expendable_values_go_before_those_that_are_in_files_too(box):
    values = [box.keep(number, 4) for number in range(15)]
    box.settle()
    assert on_disk(values) == [True] * 3 + [False] * 12
    box.store.set_expendable(values[9], expendable=True)
    values.append(box.keep(15, 8))
    assert in_memory(values) == [number != 9 for number in range(16)]
    values.append(box.keep(16, 4))
    assert in_memory(values)[:2] == [False, True]


def test_value_that_is_needed_again_is_written_like_any_other(box):
    values = [box.keep(number, 16) for number in range(4)]
    box.store.set_expendable(values[1], expendable=True)
    box.store.set_expendable(values[0], expendable=True)
    box.store.set_expendable(values[0], expendable=False)  # now the one used last
    values += [box.keep(number, 16) for number in (4, 5)]
    assert in_memory(values) == [True, False, False, True, True, True]
    assert on_disk(values) == [False, False, True, False, False, False]
    values += [box.keep(number, 16) for number in (6, 7)]
    assert on_disk(values)[:4] == [True, False, True, True]
    assert holds(values[0], 0, 16, from_disk=True)


def test_value_on_disk_does_not_become_expendable(box):
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    box.store.set_expendable(stored, expendable=True)
    assert box.store.restore(stored)
    box.store.set_expendable(stored, expendable=True)
    third = box.keep(3, 40)
    assert in_memory([stored, other, third]) == [False, False, True]
    assert holds(stored, 1, 40, from_disk=True)


def test_expendable_values_that_died_are_passed_over(box):
    values = [box.keep(number, 16) for number in range(4)]
    for stored in values[:2]:
        box.store.set_expendable(stored, expendable=True)
    del values[0], stored
    values.append(box.keep(4, 16))
    assert in_memory(values) == [True] * 4
    values.append(box.keep(5, 16))
    assert in_memory(values) == [False, True, True, True, True]


def test_memory_of_an_expendable_value_that_is_lent_is_not_used_again(box):
    stored = box.keep(1, 30)
    extent = stored.extent
    extent.lent += 1
    view = stored.view()
    box.store.set_expendable(stored, expendable=True)
    other = box.keep(2, 60)
    assert other.extent is None
    assert bytes(view) == content(1, 30)
    assert os.pread(box.store.arena.fd, stored.size, extent.offset) == content(1, 30)


# ---------------------------------------------------------------- in advance


def test_beyond_80_percent_the_oldest_are_copied_to_files_in_advance(make_box):
    told = []
    ours: Any = make_box(tell=lambda: told.append(ours.store.used))
    values = [ours.keep(number, 4) for number in range(12)]
    assert told == []
    ours.settle()
    assert on_disk(values) == [False] * 12  # 48 of 64 pages are 75 %
    values.append(ours.keep(12, 4))
    assert len(told) == 1
    values += [ours.keep(number, 4) for number in (13, 14)]
    ours.settle()
    assert on_disk(values) == [True] * 3 + [False] * 12  # 60 pages: 8.8 too many
    assert in_memory(values) == [True] * 15
    assert ours.used() == 60
    files = ours.files()
    values.append(ours.keep(15, 16))
    assert in_memory(values) == [False] * 3 + [True] * 13
    assert ours.files() == files  # nobody has waited for the disk
    assert all(holds(v, n, 4, from_disk=True) for n, v in enumerate(values[:15]))


def test_what_was_copied_in_advance_is_not_more_each_time(box):
    values = [box.keep(number, 4) for number in range(15)]
    box.settle()
    files = box.files()
    assert len(files) == 3
    for number in range(5):
        del values[-1]
        values.append(box.keep(20 + number, 4))
        box.settle()
        assert box.used() == 60
    assert box.files() == files


def test_nothing_is_written_in_advance_while_enough_is_expendable(box):
    values = [box.keep(number, 4) for number in range(15)]
    for stored in values[5:8]:
        box.store.set_expendable(stored, expendable=True)
    box.settle()
    assert in_memory(values) == [True] * 15
    assert on_disk(values) == [False] * 15
    box.store.set_expendable(values[5], expendable=False)
    box.settle()
    assert on_disk(values) == [True] + [False] * 14


def test_what_is_copied_in_advance_is_copied_step_by_step(box, monkeypatch):
    monkeypatch.setattr(module, "CLEAN_STEP", 4 * PAGE)
    values = [box.keep(number, 4) for number in range(15)]
    go_on = threading.Event()
    box.store.in_background(go_on.wait, GUARD)
    box.store.process_notes()
    others = box.store.in_background(lambda: on_disk(values))
    go_on.set()
    assert others.result(GUARD) == [True] + [False] * 14  # they had the disk after the first step
    for _ in range(3):
        box.settle()
    assert on_disk(values) == [True] * 3 + [False] * 12


def test_full_disk_in_advance_harms_nobody(make_box):
    box = make_box(threshold=0.0)
    values = [box.keep(number, 4) for number in range(15)]
    box.settle()
    assert on_disk(values) == [False] * 15
    assert all(holds(v, n, 4) for n, v in enumerate(values))
    box.folder._capacity_threshold = 1.0
    box.settle()
    assert sum(on_disk(values)) == 3  # it is tried again


def test_value_that_dies_while_it_is_copied_leaves_no_file(box, monkeypatch):
    values = [box.keep(number, 20) for number in range(3)]
    begun, go_on = hold_writes(monkeypatch, box)
    box.store.process_notes()
    assert begun.wait(GUARD)
    assert len(values) == 3
    del values[0]
    go_on.set()
    box.settle()
    box.settle()
    assert box.files() == []
    assert box.used() == 40


def test_store_tells_once_until_it_is_settled(make_box):
    told = []
    box = make_box(tell=lambda: told.append(1))
    first = [box.keep(number, 2) for number in range(3)]
    del first[0]
    del first[0]
    assert told == [1]
    box.settle()
    del first[0]
    assert told == [1, 1]
    assert box.used() == 0


def test_owner_that_will_look_anyway_is_not_told_of_each_value_that_goes(make_box):
    told = []
    box = make_box(tell=lambda: told.append(1))
    values = [box.keep(number, 2) for number in range(4)]
    box.store.expect_look(soon=True)
    del values[0], values[0]
    assert told == []
    assert box.used() == 4
    box.store.expect_look(soon=False)
    del values[0]
    assert told == [1]


def test_owner_is_told_of_memory_that_somebody_waits_for(make_box, monkeypatch):
    told = []
    box = make_box(tell=lambda: told.append(1))
    values = [box.keep(number, 16) for number in range(4)]
    looked_at = values[3].view()
    box.store.expect_look(soon=True)
    begun, go_on = hold_writes(monkeypatch, box)
    waits = threading.Event()
    wait = box.store._room.wait
    monkeypatch.setattr(box.store._room, "wait", lambda: (waits.set(), wait()))
    first = run_in_thread(box.keep, 4, 48)  # writes the others to disk
    assert begun.wait(GUARD)
    second = run_in_thread(box.keep, 5, 16)
    assert waits.wait(GUARD)
    del looked_at, values[3]
    assert told == [1]
    go_on.set()
    assert holds(first(), 4, 48)
    assert holds(second(), 5, 16)


# ---------------------------------------------------------------- back from disk


def test_restored_value_is_in_memory_and_keeps_its_file(box):
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    assert in_memory([stored, other]) == [False, True]
    path, files = stored.path, box.files()
    written = os.stat(path)
    assert box.store.restore(stored) is True
    assert in_memory([stored, other]) == [True, False]
    assert stored.in_memory
    assert holds(stored, 1, 40)
    third = box.keep(3, 40)
    assert in_memory([stored, other, third]) == [False, False, True]
    assert stored.path == path
    assert os.stat(path).st_ino == written.st_ino
    assert os.stat(path).st_mtime_ns == written.st_mtime_ns  # not written twice
    assert len(box.files()) == len(files) + 1


def test_value_is_restored_in_chunks(box, monkeypatch):
    monkeypatch.setattr(arena, "CHUNK", 1000)
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    assert box.store.restore(stored)
    assert holds(stored, 1, 40)
    assert holds(other, 2, 40, from_disk=True)


def test_restoring_what_is_in_memory_does_nothing(box):
    stored = box.keep(1, 4)
    extent = stored.extent
    assert box.store.restore(stored) is True
    assert stored.extent is extent
    assert box.used() == 4


def test_restored_values_go_before_those_that_would_have_to_be_written(box):
    values = [box.keep(number, 16) for number in range(6)]
    assert in_memory(values) == [False, False, True, True, True, True]
    assert box.store.restore(values[0])
    assert box.store.restore(values[1])
    assert in_memory(values) == [False, True, False, True, True, True]
    assert on_disk(values) == [True, True, True, False, False, False]
    values.append(box.keep(6, 16))
    assert in_memory(values) == [False, False, False, True, True, True, True]
    assert on_disk(values) == [True, True, True, False, False, False, False]


def test_of_values_in_files_too_the_one_used_least_recently_goes_first(box):
    values = [box.keep(number, 4) for number in range(15)]
    box.settle()
    assert on_disk(values) == [True] * 3 + [False] * 12
    assert holds(values[0], 0, 4)
    values.append(box.keep(15, 8))
    assert in_memory(values) == [True, False] + [True] * 14


def test_new_value_is_the_one_used_last_whoever_had_its_number(box):
    """1. Somebody gets memory to write to. 2. The oldest value dies. 3. What was written becomes a
    value, whose object lies where that of the oldest was.
    """
    values = [box.keep(number, 12) for number in range(4)]
    extent = box.store.allocate(16 * PAGE)
    number = id(values[0])
    del values[0]
    values.append(box.store.take_over(16 * PAGE, extent))
    assert id(values[-1]) == number, "this allocator needs another test"
    del extent
    shelves(box)
    values.append(box.keep(9, 20))
    assert in_memory(values) == [False, True, True, True, True]


def test_without_room_readers_of_a_restored_value_make_copies(box):
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    view = other.view()
    assert box.store.restore(stored) is True
    assert stored.extent is None
    assert stored.in_memory
    assert holds(stored, 1, 40)
    assert bytes(view) == content(2, 40)
    del view
    assert box.store.restore(stored) is True
    assert in_memory([stored, other]) == [True, False]


def test_full_disk_makes_readers_of_a_restored_value_copy_it(box):
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    box.folder._capacity_threshold = 0.0
    assert box.store.restore(stored) is True
    assert in_memory([stored, other]) == [False, True]
    assert holds(stored, 1, 40)
    assert holds(other, 2, 40)


@pytest.mark.parametrize("harm", [os.unlink, lambda path: os.truncate(path, 10)])
def test_value_whose_file_is_gone_is_lost(box, harm):
    stored = box.keep(1, 40)
    other = box.keep(2, 40)
    harm(stored.path)
    assert box.store.restore(stored) is False
    assert not stored.in_memory
    for from_disk in (False, True):
        with pytest.raises(NotInMemory):
            stored.view(from_disk=from_disk)
    assert holds(other, 2, 40)
    del stored
    box.settle()
    assert box.files() == []


def test_value_whose_file_is_cut_while_it_is_restored_is_lost(box, monkeypatch):
    monkeypatch.setattr(arena, "CHUNK", PAGE)
    stored = box.keep(1, 40)
    box.keep(2, 40)  # it is gone at once, with its memory
    assert not stored.in_memory
    read = os.preadv

    def cut(fd, into, at):
        os.truncate(stored.path, 10 * PAGE)
        return read(fd, into, at)

    monkeypatch.setattr(os, "preadv", cut)
    assert box.store.restore(stored) is False
    assert not stored.in_memory
    assert box.used() == 0


def test_file_that_cannot_be_read_now_is_read_by_those_who_look(box, monkeypatch):
    stored = box.keep(1, 40)
    box.keep(2, 40)  # it is gone at once, with its memory
    assert not stored.in_memory

    def refuse(fd, into, at):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", refuse)
        assert box.store.restore(stored) is True
        assert stored.in_memory
        with pytest.raises(OSError, match="Input/output"):
            stored.view()
    assert holds(stored, 1, 40)
    assert box.used() == 0


def test_view_from_before_stays_when_its_value_is_restored_elsewhere(box):
    stored = box.keep(1, 16)
    extent = stored.extent
    view = memoryview(box.store.arena.view(extent.offset, stored.size, extent))
    del extent
    others = [box.keep(number, 16) for number in range(2, 6)]  # the store does not know that view
    assert stored.extent is None
    others.pop()
    assert box.store.restore(stored)
    assert stored.view() == content(1, 16)
    assert bytes(view) == content(1, 16)


# ---------------------------------------------------------------- when the disk is full


def test_full_disk_is_an_error_and_leaves_everything_readable(make_box):
    box = make_box(threshold=0.0)
    values = [box.keep(number, 16) for number in range(4)]
    for pages in (1, 16, PAGES, PAGES + 1):
        with pytest.raises(OutOfDiskError, match="no room"):
            box.keep(9, pages)
    assert in_memory(values) == [True] * 4
    assert all(holds(v, n, 16) for n, v in enumerate(values))
    assert box.used() == 64
    assert box.files() == []
    with pytest.raises(OutOfDiskError):
        box.store.reserve_file(1)
    del values[0]
    stored = box.keep(5, 16)
    assert holds(stored, 5, 16)


def test_disk_that_becomes_full_leaves_what_was_written_before(box, monkeypatch):
    values = [box.keep(number, 16) for number in range(4)]
    write = box.folder.write
    calls = []

    def once(*args):
        calls.append(args[2])
        if len(calls) > 1:
            box.folder._capacity_threshold = 0.0
        return write(*args)

    monkeypatch.setattr(box.folder, "write", once)
    with pytest.raises(OutOfDiskError):
        box.keep(9, 40)
    assert on_disk(values) == [True, False, False, False]
    assert all(holds(v, n, 16, from_disk=True) for n, v in enumerate(values))
    stored = box.keep(5, 16)  # for which there is room now
    assert holds(stored, 5, 16)


def test_folder_that_cannot_be_made_is_a_full_store(make_box, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    box = make_box(tmp_path / "file" / "parent")
    values = [box.keep(number, 32) for number in range(2)]
    for pages in (1, PAGES + 1):
        with pytest.raises(ObjectStoreFullError, match=str(tmp_path)):
            box.keep(9, pages)
    assert all(holds(v, n, 32) for n, v in enumerate(values))
    box.settle()
    del values[0]
    assert holds(box.keep(3, 32), 3, 32)


def test_system_without_memory_is_an_error_and_frees_the_room(box, monkeypatch):
    def refuse(fd, batch, offset):
        raise OSError(28, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", refuse)
        with pytest.raises(ObjectStoreFullError, match="no memory left"):
            box.keep(1, 4)
    assert box.used() == 0
    assert holds(box.keep(1, 4), 1, 4)


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("seed", range(3))
def test_many_threads_keep_read_and_drop_values(make_box, seed):
    orders = queue.SimpleQueue()
    box = make_box(tell=lambda: orders.put("settle"))

    def own():  # the engine's thread
        while orders.get() is not None:
            box.store.process_notes()

    def work(number):
        rng = random.Random(1000 * seed + number)
        mine = []
        for count in range(60):
            key, pages = 10_000 * number + count, rng.randint(1, 20)
            mine.append((key, pages, box.keep(key, pages)))
            if rng.random() < 0.2:
                box.store.restore(rng.choice(mine)[2])
            key, pages, stored = rng.choice(mine)
            with contextlib.suppress(NotInMemory):
                assert holds(stored, key, pages)
            if len(mine) > 6:
                del mine[rng.randrange(len(mine))]
        return mine

    owner = run_in_thread(own)
    workers = [run_in_thread(work, number) for number in range(4)]
    values = [item for join in workers for item in join()]
    orders.put(None)
    owner()
    assert len(values) == 24
    assert all(holds(v, key, pages, from_disk=True) for key, pages, v in values)
    assert box.used() <= PAGES
    box.come_to_rest()
    assert box.store._being_spilled == set()
    del values
    box.settle()
    box.settle()
    assert box.used() == 0
    assert box.files() == []


def test_thread_waits_for_room_that_another_one_is_making(box, monkeypatch):
    """1. One thread writes both values to disk. 2. Another finds nothing more to write, and waits.
    3. The first has finished. 4. Both have stored their values.
    """
    values = [box.keep(number, 32) for number in range(2)]
    begun, go_on = hold_writes(monkeypatch, box)
    waits = threading.Event()
    wait = box.store._room.wait
    monkeypatch.setattr(box.store._room, "wait", lambda: (waits.set(), wait()))
    first = run_in_thread(box.keep, 2, 64)
    assert begun.wait(GUARD)
    second = run_in_thread(box.keep, 3, 16)
    assert waits.wait(GUARD)
    go_on.set()
    values += [first(), second()]
    sizes = [32, 32, 64, 16]
    assert all(
        holds(v, n, pages, from_disk=True)
        for n, (v, pages) in enumerate(zip(values, sizes, strict=True))
    )
    assert box.used() <= PAGES


def test_reading_does_not_wait_for_the_disk(box, monkeypatch):
    values = [box.keep(number, 32) for number in range(2)]
    begun, go_on = hold_writes(monkeypatch, box)
    join = run_in_thread(box.keep, 2, 32)
    assert begun.wait(GUARD)
    assert holds(values[0], 0, 32)
    assert holds(values[1], 1, 32)
    assert box.used() == 64
    go_on.set()
    assert holds(join(), 2, 32)


def test_value_that_is_looked_at_while_it_is_written_keeps_its_memory(box, monkeypatch):
    values = [box.keep(number, 32) for number in range(2)]
    begun, go_on = hold_writes(monkeypatch, box)
    join = run_in_thread(box.keep, 2, 32)
    assert begun.wait(GUARD)
    view = values[0].view()
    go_on.set()
    stored = join()
    assert in_memory([*values, stored]) == [True, False, True]
    assert holds(stored, 2, 32)
    assert bytes(view) == content(0, 32)
    assert box.used() == 64
    assert all(holds(v, n, 32, from_disk=True) for n, v in enumerate(values))


def test_value_that_dies_while_it_is_written_leaves_no_file(box, monkeypatch):
    values = [box.keep(number, 32) for number in range(2)]
    begun, go_on = hold_writes(monkeypatch, box)
    join = run_in_thread(box.keep, 2, 32)
    assert begun.wait(GUARD)
    del values[0]
    go_on.set()
    stored = join()
    assert holds(stored, 2, 32)
    box.settle()
    assert len(box.files()) == sum(on_disk([*values, stored]))


def test_values_may_die_in_any_thread(box):
    values = [[box.keep(number, 4)] for number in range(10)]
    views = [[pair[0].view()] for pair in values[:5]]
    joins = [run_in_thread(each.clear) for each in (*values, *views)]
    for join in joins:
        join()
    assert box.used() == 0


def test_finalizers_never_wait_for_the_lock(box):
    """Another thread holds it; and so may the very thread that a finalizer runs in."""
    values = [box.keep(number, 4) for number in range(3)]
    views = [value.view() for value in values]
    taken, go_on = threading.Event(), threading.Event()

    def hold():
        with box.store._room:
            taken.set()
            assert go_on.wait(GUARD)

    holder = run_in_thread(hold)
    assert taken.wait(GUARD)
    run_in_thread(values.clear)()
    run_in_thread(views.clear)()
    go_on.set()
    holder()
    stored = box.keep(5, 4)
    with box.store._room:
        del stored
    assert box.used() == 0


def test_values_in_a_cycle_are_freed_by_the_collector(box):
    cycle = SimpleNamespace()
    cycle.itself, cycle.stored = cycle, box.keep(1, 4)
    cycle.view = cycle.stored.view()
    del cycle
    assert box.used() == 4
    gc.collect()
    assert box.used() == 0


def test_value_that_dies_while_it_is_spilled_leaves_no_file(box, monkeypatch):
    """1. Somebody needs room, and a value is being written. 2. Its last reference goes."""
    values = [box.keep(1, 40)]
    begun, go_on = hold_writes(monkeypatch, box)
    needs = run_in_thread(box.keep, 2, 40)
    assert begun.wait(GUARD)
    values.clear()
    go_on.set()
    other = needs()
    assert holds(other, 2, 40, from_disk=True)
    del other, needs
    box.settle()
    assert box.used() == 0
    assert box.files() == []


# ---------------------------------------------------------------- copying to warm memory


@pytest.fixture
def ways(box, monkeypatch):
    """How values came to memory, newest last; from 4 pages on they may be copied."""
    monkeypatch.setattr(module, "COPY_FROM", 4 * PAGE - 100)
    found = []
    write, copy = box.store.arena.write, box.store.arena.copy

    def note_write(offset, pieces):
        found.append("written")
        write(offset, pieces)

    def note_copy(offset, pieces, size, *, mapped):
        found.append("mapped" if mapped else "copied")
        copy(offset, pieces, size, mapped=mapped)

    monkeypatch.setattr(box.store.arena, "write", note_write)
    monkeypatch.setattr(box.store.arena, "copy", note_copy)
    return found


def test_values_are_copied_where_memory_was_in_use_before(box, ways):
    for number in range(4):
        assert holds(box.keep(number, 8), number, 8)
    assert ways == ["written", "copied", "mapped", "mapped"]
    assert holds(box.keep(4, 9), 4, 9)  # new memory
    assert holds(box.keep(5, 3), 5, 3)  # small
    assert ways[4:] == ["written", "written"]
    assert holds(box.keep(6, 5), 6, 5)  # a part of what is mapped
    assert ways[6:] == ["mapped"]


def test_smallest_values_of_the_store_are_copied_to_warm_memory(box, monkeypatch):
    size = INLINE_LIMIT + 1
    pieces = Pieces([bytes(size)], size)
    calls = []
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda *args: (calls.append(1), write(*args))[1])
    for _ in range(5):
        box.store.keep(pieces)
    assert calls == [1]


def test_no_more_places_than_some_are_remembered_as_mapped(box, ways, monkeypatch):
    monkeypatch.setattr(module, "MOST_MAPPED", 1)
    values = [box.keep(number, 4) for number in range(2)]
    del values[:]
    values = [box.keep(number, 4) for number in range(2)]
    assert ways == ["written", "written", "copied", "written"]
    assert len(box.store._mapped) == 1


def test_memory_that_was_given_back_is_not_mapped_any_more(box, ways):
    for number in range(3):
        assert holds(box.keep(number, 8), number, 8)
    while box.store.trim():
        pass
    for number in range(3):
        assert holds(box.keep(number, 8), number, 8)
    assert ways == ["written", "copied", "mapped"] * 2


# ---------------------------------------------------------------- the end


def test_closed_store_leaves_nothing_and_refuses_values(box):
    values = [box.keep(number, 30) for number in range(4)]
    view = values[3].view()
    array = np.frombuffer(values[2].view(), "u1")
    fd = box.store.arena.fd
    assert box.files()
    box.store.close()
    box.store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert not box.parent.exists()
    for pages in (1, PAGES + 1):
        with pytest.raises(RuntimeError, match="shut down"):
            box.keep(9, pages)
    assert bytes(view) == content(3, 30)
    assert bytes(array) == content(2, 30)
    box.store.process_notes()
    assert box.store.trim() in {True, False}
    del values, view, array
    box.store.process_notes()


def test_value_that_was_looked_at_can_be_looked_at_after_closing(box):
    view = box.keep(1, 4).view()
    box.store.close()
    assert bytes(view) == content(1, 4)


@pytest.mark.parametrize("reused", [False, True])
def test_value_of_a_closed_store_is_not_at_hand(box, tmp_path, reused):
    stored = box.keep(1, 4)
    fd = box.store.arena.fd
    (tmp_path / "other").write_bytes(b"somebody's" * 10_000)
    other = os.open(tmp_path / "other", os.O_RDONLY)
    box.store.close()
    if reused:
        os.dup2(other, fd)
    try:
        with pytest.raises(EngineShutdownError, match="are gone"):
            stored.view()
    finally:
        os.close(other)
        if reused:
            os.close(fd)


def test_closing_during_a_keep_writes_into_no_other_file(box, tmp_path, monkeypatch):
    """1. A thread has got its memory. 2. The store is closed. 3. Another file gets the descriptor
    of the memory. 4. The thread goes on.
    """
    fd = box.store.arena.fd
    ready, go_on = threading.Event(), threading.Event()
    write = os.pwritev

    def slow(fd, batch, offset):
        ready.set()
        assert go_on.wait(GUARD)
        return write(fd, batch, offset)

    monkeypatch.setattr(os, "pwritev", slow)
    join = run_in_thread(box.keep, 1, 4)
    assert ready.wait(GUARD)
    box.store.close()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    try:
        assert other != fd
        go_on.set()
        with contextlib.suppress(RuntimeError, ObjectStoreFullError):
            join()
        assert os.fstat(other).st_size == 0
    finally:
        os.close(other)


def test_thread_that_waits_for_room_gives_up_when_the_store_is_closed(box, monkeypatch):
    values = [box.keep(number, 32) for number in range(2)]
    begun, go_on = hold_writes(monkeypatch, box)
    waits = threading.Event()
    wait = box.store._room.wait
    monkeypatch.setattr(box.store._room, "wait", lambda: (waits.set(), wait()))
    first = run_in_thread(box.keep, 2, 64)
    assert begun.wait(GUARD)
    second = run_in_thread(box.keep, 3, 16)
    assert waits.wait(GUARD)
    with box.store._room:
        box.store.closed = True
        box.store._room.notify_all()
    with pytest.raises(RuntimeError, match="shut down"):
        second()
    go_on.set()
    with pytest.raises(RuntimeError, match="shut down"):
        first()
    box.store.closed = False
    assert len(values) == 2


def test_closing_while_a_thread_makes_room_leaves_no_folder(box, monkeypatch):
    """1. A thread writes the first of two values to disk. 2. The store is closed. 3. The thread
    goes on with the second.
    """
    values = [box.keep(number, 32) for number in range(2)]
    begun, go_on = hold_writes(monkeypatch, box)
    join = run_in_thread(box.keep, 2, 64)
    assert begun.wait(GUARD)
    box.store.close()
    go_on.set()
    with pytest.raises((RuntimeError, ObjectStoreFullError)):
        join()
    left = box.parent.exists()
    box.folder.close()  # what it has made again
    assert not left
    assert len(values) == 2


def test_closing_waits_for_what_is_done_in_the_background(box, monkeypatch):
    values = [box.keep(number, 20) for number in range(3)]
    begun, go_on = hold_writes(monkeypatch, box)
    box.store.process_notes()
    assert begun.wait(GUARD)
    later = box.store.in_background(lambda: None)
    join = run_in_thread(box.store.close)
    go_on.set()
    join()
    assert later.done()
    assert not box.parent.exists()
    assert len(values) == 3


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # other tests have threads
def test_forked_copy_leaves_memory_and_files_to_its_parent(box):
    values = [box.keep(number, 30) for number in range(4)]
    files = box.files()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            box.store.after_fork_in_child()
            with contextlib.suppress(RuntimeError):
                box.keep(9)
                os._exit(2)
            box.store.process_notes()
            box.store.trim()
            values.clear()
            box.store.close()
            status = 42
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert box.files() == files
    assert all(holds(v, n, 30, from_disk=True) for n, v in enumerate(values))
    assert holds(box.keep(5, 30), 5, 30)


def test_disowned_store_does_not_wait_for_a_lock_that_nobody_will_release(make_box):
    box = make_box()
    taken, go_on = threading.Event(), threading.Event()
    lock = box.store._room

    def hold():
        with lock:
            taken.set()
            assert go_on.wait(GUARD)

    holder = run_in_thread(hold)
    assert taken.wait(GUARD)
    box.store.after_fork_in_child()
    with pytest.raises(RuntimeError, match="shut down"):
        run_in_thread(box.keep, 1)()
    assert run_in_thread(box.used)() == 0
    run_in_thread(box.store.close)()
    go_on.set()
    holder()
    box.store.arena.close()


# ---------------------------------------------------------------- any order of operations


@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_of_operations_keeps_all_values(box, seed):
    rng = random.Random(seed)
    values: dict[int, tuple[int, Any]] = {}
    views: dict[int, tuple[bytes, Any]] = {}
    dropped = 0

    def any_of(mapping):
        return rng.choice(list(mapping)) if mapping else None

    for number in range(600):
        act = rng.choices(
            ["keep", "die", "look", "look away", "expendable", "restore", "settle", "trim"],
            [6, 5, 4, 4, 2, 3, 1, 1],
        )[0]
        key = any_of(views if act == "look away" else values)
        if act == "keep":
            pages = rng.choice([1, 2, 5, 9, 17, 30, 70])
            values[number] = (pages, box.keep(number, pages))
        elif act == "settle":
            box.settle()
        elif act == "trim":
            box.store.trim()
        elif key is None:
            continue
        elif act == "die":
            del values[key]
        elif act == "look":
            pages, stored = values[key]
            with contextlib.suppress(NotInMemory):
                views[number] = (content(key, pages), stored.view())
        elif act == "look away":
            data, view = views.pop(key)
            assert view == data
        elif act == "expendable":
            box.store.set_expendable(values[key][1], expendable=rng.random() < 0.5)
        elif act == "restore":
            box.store.restore(values[key][1])
        assert box.used() <= PAGES
    for data, view in views.values():
        assert view == data
    for key, (pages, stored) in values.items():
        if stored.extent is None and stored.path is None:  # was expendable
            dropped += 1
        else:
            assert holds(stored, key, pages, from_disk=True)
    assert dropped < len(values)
    del stored, view
    values.clear()
    views.clear()
    box.settle()
    box.settle()
    assert box.used() == 0
    assert box.files() == []
    assert shelves(box) == [[], [], []]


# ---------------------------------------------------------------- the folder


@pytest.fixture
def make_folder(tmp_path):
    """Makes folders of sessions below `tmp_path/parent`, and removes them."""
    folders = []

    def make(session=None, threshold=1.0):
        session = session or f"session_{os.getpid()}"
        place = SessionFolder(str(tmp_path / "parent"), session)
        folders.append(SpillFolder(place, threshold))
        return folders[-1]

    yield make
    for folder in folders:
        folder.close()


def test_folder_is_made_with_the_first_file_and_only_its_user_may_look(make_folder, tmp_path):
    folder = make_folder()
    assert os.listdir(tmp_path) == []
    path = folder.write(5, [b"ab", b"c"], 3)
    assert path == str(tmp_path / "parent" / f"session_{os.getpid()}" / "objects" / "5")
    with open(path, "rb") as file:
        assert file.read() == b"abc"
    for private in (tmp_path / "parent", os.path.dirname(path)):
        assert stat.S_IMODE(os.stat(private).st_mode) == 0o700
    folder.remove(path)
    folder.remove(path)
    assert not os.path.exists(path)
    folder.close()
    assert os.listdir(tmp_path) == []


def test_closing_a_folder_that_was_never_made_removes_nothing(make_folder, tmp_path):
    (tmp_path / "parent" / "other").mkdir(parents=True)
    make_folder().close()
    assert os.listdir(tmp_path / "parent") == ["other"]


def test_sessions_side_by_side_leave_each_other_alone(make_folder, tmp_path):
    one, two = make_folder("one_1"), make_folder("two_1")
    paths = [folder.write(1, [b"x"], 1) for folder in (one, two)]
    one.close()
    assert [os.path.exists(path) for path in paths] == [False, True]
    assert os.listdir(tmp_path / "parent") == ["two_1"]
    two.close()
    assert os.listdir(tmp_path) == []


def test_disowned_folder_stays(make_folder, tmp_path):
    folder = make_folder()
    path = folder.write(1, [b"x"], 1)
    fd = folder._session._lock_fd
    folder.after_fork_in_child()
    folder.close()
    assert os.path.exists(path)
    os.close(fd)


def test_threads_that_make_the_folder_together_all_write(make_folder):
    folder = make_folder()
    together = threading.Barrier(4)
    before = set(os.listdir("/proc/self/fd"))

    def write(number):
        together.wait(GUARD)
        return folder.write(number, [b"x"], 1)

    joins = [run_in_thread(write, number) for number in range(4)]
    paths = [join() for join in joins]
    assert all(os.path.exists(path) for path in paths)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 1
    folder.close()
    assert not any(os.path.exists(path) for path in paths)


def test_folder_says_how_full_the_disk_is(make_folder, tmp_path):
    folder = make_folder(threshold=0.0)
    with pytest.raises(OutOfDiskError, match=r"it is \d+% full, and 0% is the limit"):
        folder.reserve(1, 1)
    free = os.statvfs(tmp_path)
    roomy = make_folder("roomy_1")
    with pytest.raises(OutOfDiskError):
        roomy.reserve(1, (free.f_blocks + 1) * free.f_frsize)
    roomy.reserve(1, 1)


def leave_behind(parent, name, *, locked=False):
    """What a session leaves that was killed: its folder, a file, and its lock; a descriptor."""
    (parent / name / "objects").mkdir(parents=True)
    (parent / name / "objects" / "1").write_bytes(b"x")
    fd = os.open(parent / name / "lock", os.O_CREAT | os.O_RDWR)
    if locked:
        fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_first_file_of_a_session_sweeps_away_what_dead_ones_left(make_folder, tmp_path):
    parent = tmp_path / "parent"
    os.close(leave_behind(parent, f"session_{GONE}"))
    os.close(leave_behind(parent, f"a_b_c_{GONE}"))
    (parent / "file").write_bytes(b"")
    kept = {
        f"session_{os.getppid()}": leave_behind(parent, f"session_{os.getppid()}"),
        f"elsewhere_{GONE}": leave_behind(parent, f"elsewhere_{GONE}", locked=True),
        "no-pid": leave_behind(parent, "no-pid"),
    }
    folder = make_folder()
    before = sorted(os.listdir(parent))
    path = folder.write(1, [b"x"], 1)
    assert len(before) == 6
    assert set(os.listdir(parent)) == {*kept, "file", f"session_{os.getpid()}"}
    for name in kept:
        assert (parent / name / "objects" / "1").read_bytes() == b"x"
    os.close(leave_behind(parent, f"late_{GONE}"))
    folder.write(2, [b"x"], 1)  # it has been swept
    assert (parent / f"late_{GONE}").exists()
    assert os.path.exists(path)
    for fd in kept.values():
        os.close(fd)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_folder_of_another_user_is_refused(make_folder, tmp_path):
    (tmp_path / "parent").mkdir(mode=0o777)
    os.chown(tmp_path / "parent", 12345, 12345)
    with pytest.raises((ObjectStoreFullError, OutOfDiskError)):
        make_folder().write(1, [b"x"], 1)


def test_values_do_not_keep_the_store_busy_after_their_end(box):
    """A dead value's number may be that of a new one: the books follow the new one."""
    for number in range(200):
        stored = box.keep(number, 10)
        watch = weakref.ref(stored)
        if number % 3 == 0:
            box.store.set_expendable(stored, expendable=True)
        del stored
        assert watch() is None
    stored = box.keep(1, 10)
    assert box.used() == 10
    assert shelves(box) == [[stored], [], []]
