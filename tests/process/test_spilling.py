"""More values than there is memory for: they go to files, and nobody notices but by the time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import shutil
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import aioray
from aioray.exceptions import (
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectStoreFullError,
    OutOfDiskError,
)

from . import jobs
from .support import GUARD, everywhere, on_both_loops
from .test_errors import error_of
from .test_objects import COUNT, MIB, PAGES, settled, spill_folder, spilled, used

__all__ = ["spill_folder"]  # the fixture, used by all tests here

same = aioray.remote(jobs.same)
numbers = aioray.remote(jobs.numbers)
noted_numbers = aioray.remote(jobs.noted_numbers)
total = aioray.remote(jobs.total)
hold = aioray.remote(jobs.hold)

MANY = 25  # values of 400,000 bytes
FIT = 5  # so many of them find room in 2 MiB
small_store = everywhere(object_store_memory=2 * MIB)
small_store_one_worker = everywhere(object_store_memory=2 * MIB, num_cpus=1)


def number_of(array):
    """Which one of the values this is, having checked all of it."""
    assert np.array_equal(array, jobs.numbers(COUNT, array[0]))
    return int(array[0])


def put_many(count=MANY):
    return [aioray.put(jobs.numbers(COUNT, number)) for number in range(count)]


async def no_files(folder):
    """Whether all files are gone, after bounded waiting: the disk has a thread of its own."""
    gc.collect()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GUARD / 2):
            while spilled(folder):
                await same.remote(None)
    return spilled(folder) == []


@pytest.fixture
def full_disk(monkeypatch):
    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "0")


# ---------------------------------------------------------------- there and back


@small_store
async def test_five_times_the_memory_can_be_put(spill_folder):
    refs = put_many()
    assert used() <= 2 * MIB
    assert len(spilled(spill_folder)) >= MANY - FIT
    for _ in range(2):
        for number, ref in enumerate(refs):
            assert number_of(await ref) == number
            assert used() <= 2 * MIB
    for number, ref in reversed(list(enumerate(refs))):
        assert number_of(await ref) == number


@small_store
async def test_five_times_the_memory_can_be_returned(spill_folder):
    refs = [numbers.remote(COUNT, number) for number in range(MANY)]
    for number, ref in enumerate(refs):
        assert number_of(await ref) == number
    assert len(spilled(spill_folder)) >= MANY - FIT
    for number, ref in enumerate(refs):
        assert number_of(await ref) == number


@small_store_one_worker
async def test_five_times_the_memory_can_be_given_to_tasks_that_wait(started, gate, spill_folder):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    tasks = [total.remote(jobs.numbers(COUNT, number)) for number in range(MANY)]
    assert len(spilled(spill_folder)) >= MANY - FIT
    gate.tell()
    await running
    expected = [jobs.total(jobs.numbers(COUNT, number)) for number in range(MANY)]
    assert await asyncio.gather(*tasks) == expected
    assert await no_files(spill_folder)
    assert await settled() == 0


@small_store
async def test_tasks_get_values_that_are_on_disk():
    refs = put_many() + [numbers.remote(COUNT, MANY + number) for number in range(MANY)]
    expected = [jobs.total(jobs.numbers(COUNT, number)) for number in range(2 * MANY)]
    assert await asyncio.gather(*[total.remote(ref) for ref in refs]) == expected
    # Many at once in one task, which together are larger than the memory.
    assert await total.remote(*refs) == sum(expected)


@small_store
async def test_values_of_other_kinds_survive_the_disk():
    inner = aioray.put("inner")
    value = {"ref": inner, "bytes": bytes(range(256)) * 1_000, "text": "grün" * 50_000}
    ref = aioray.put(value)
    raw = aioray.put(value["bytes"])
    del inner
    fill = put_many()
    found: Any = await ref
    assert await found["ref"] == "inner"
    assert (found["bytes"], found["text"]) == (value["bytes"], value["text"])
    assert await raw == value["bytes"]
    assert number_of(await fill[0]) == 0


@small_store
async def test_all_ways_of_asking_get_a_value_from_disk():
    for ask in (
        lambda ref: asyncio.wait_for(ref, GUARD),
        lambda ref: ref.as_future(),
        lambda ref: asyncio.wrap_future(ref.future()),
        lambda ref: asyncio.to_thread(aioray.get, ref),
        lambda ref: asyncio.to_thread(aioray.get, ref, timeout=GUARD),
        lambda ref: asyncio.to_thread(ref.result),
    ):
        refs = put_many()
        for number in (0, 7, MANY - 1):
            assert number_of(await ask(refs[number])) == number


@small_store
async def test_asyncio_wait_is_over_when_all_have_come_from_disk():
    """Even if one has gone there again while others came: ready once is ready for ever."""
    refs = put_many()
    for several in (refs[:3], refs[3:6], refs):
        done, pending = await asyncio.wait(several)
        assert done == set(several)
        assert not pending
    done, _ = await asyncio.wait(refs[:10], return_when=asyncio.FIRST_COMPLETED)
    assert done


@small_store
async def test_gather_of_more_than_the_memory():
    refs = put_many()
    found = await asyncio.gather(*refs, *refs)
    assert list(map(number_of, found)) == 2 * list(range(MANY))


@small_store
async def test_get_of_a_list_of_more_than_the_memory():
    """Some values go to disk again while others come from there; each comes in its turn."""
    refs = put_many() + [numbers.remote(COUNT, MANY + number) for number in range(MANY)]
    for _ in range(3):
        found = await asyncio.to_thread(aioray.get, refs, timeout=GUARD)
        assert list(map(number_of, found)) == list(range(2 * MANY))
        del found


@small_store
async def test_values_on_disk_count_as_ready():
    refs = put_many()
    ready, pending = await asyncio.to_thread(aioray.wait, refs, num_returns=MANY, timeout=0)
    assert ready == refs
    assert pending == []


@on_both_loops
async def test_the_loop_goes_on_while_a_value_comes_from_disk():
    async with aioray.Engine(num_cpus=1, object_store_memory=64 * MIB):
        refs = [aioray.put(jobs.numbers(6_000_000, number)) for number in range(2)]
        fetching = refs[0].as_future()
        turns = 0
        while not fetching.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 20
        assert (await fetching)[-1] == 5_999_999


def test_many_threads_read_and_write_at_once():
    aioray.init(num_cpus=2, object_store_memory=2 * MIB)
    refs = put_many()
    failures = []

    def work(seed):
        try:
            for step in range(30):
                number = (seed * 7 + step * 3) % MANY
                if number_of(aioray.get(refs[number], timeout=GUARD)) != number:
                    failures.append(number)
                mine = aioray.put(jobs.numbers(COUNT, number))
                if number_of(aioray.get(mine, timeout=GUARD)) != number:
                    failures.append(number)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aioray.shutdown()
    assert failures == []


# ---------------------------------------------------------------- who goes


@small_store
async def test_what_was_read_last_stays_in_memory(spill_folder):
    """1. Four values; 2. read the first; 3. two more: another has to go, not the first.

    It is the second, unless that is being copied to disk in advance just then.
    """
    refs = put_many(4)
    number_of(await refs[0])
    refs += [aioray.put(jobs.numbers(COUNT, number)) for number in (4, 5)]
    for path in spilled(spill_folder):
        path.unlink()
    assert number_of(await refs[0]) == 0
    found = await asyncio.gather(*refs[1:3], return_exceptions=True)
    assert any(isinstance(item, ObjectReconstructionFailedError) for item in found)


@small_store
async def test_what_was_given_to_a_task_last_stays_in_memory(spill_folder):
    refs = put_many(4)
    await total.remote(refs[0])
    refs += [aioray.put(jobs.numbers(COUNT, number)) for number in (4, 5)]
    for path in spilled(spill_folder):
        path.unlink()
    assert number_of(await refs[0]) == 0


@small_store
async def test_values_that_are_looked_at_stay_where_they_are():
    refs = put_many(3)
    arrays = [await ref for ref in refs]
    others = put_many()
    for number, (ref, array) in enumerate(zip(refs, arrays, strict=True)):
        assert number_of(array) == number
        assert np.shares_memory(array, await ref)
    assert [number_of(await ref) for ref in others] == list(range(MANY))


@small_store
async def test_with_all_memory_looked_at_values_go_to_disk_and_back():
    refs = put_many(FIT)
    arrays = [await ref for ref in refs]
    assert used() == FIT * PAGES
    others = [aioray.put(jobs.numbers(COUNT, 100)), numbers.remote(COUNT, 101)]
    others.append(same.remote(jobs.numbers(COUNT, 102)))
    assert [number_of(await ref) for ref in others] == [100, 101, 102]
    assert await total.remote(*others) > 0
    assert used() == FIT * PAGES
    assert list(map(number_of, arrays)) == list(range(FIT))
    del arrays
    assert [number_of(await ref) for ref in others] == [100, 101, 102]
    assert [number_of(await ref) for ref in refs] == list(range(FIT))


@small_store_one_worker
async def test_values_that_a_running_task_reads_stay_where_they_are(started, gate, spill_folder):
    ref = aioray.put(jobs.numbers(COUNT, 3))
    expected = jobs.total(jobs.numbers(COUNT, 3))
    task = aioray.remote(jobs.hold_argument).remote(started.path, gate.path, ref)
    await started.heard()
    others = put_many()
    for number, other in enumerate(others):
        assert number_of(await other) == number
    for path in spilled(spill_folder):
        path.unlink()
    assert number_of(await ref) == 3  # it never left the memory
    del ref
    gate.tell()
    assert await task == expected


@small_store
async def test_value_that_is_larger_than_the_memory(spill_folder):
    count = 1_000_000
    expected = jobs.total(jobs.numbers(count))
    refs = [aioray.put(jobs.numbers(count)), numbers.remote(count)]
    refs.append(same.remote(refs[0]))
    for ref in refs:
        array = await ref
        assert np.array_equal(array, jobs.numbers(count))
        assert array.flags.writeable is False
        assert await total.remote(ref) == expected
    assert await total.remote(jobs.numbers(count)) == expected
    small = aioray.put(jobs.numbers(COUNT, 4))
    assert number_of(await small) == 4
    del ref, refs, small, array
    assert await no_files(spill_folder)
    assert await settled() == 0


# ---------------------------------------------------------------- files


@small_store
async def test_files_go_with_the_last_ref(spill_folder):
    refs = put_many() + [numbers.remote(COUNT, number) for number in range(MANY)]
    await asyncio.to_thread(aioray.wait, refs, num_returns=len(refs))
    assert len(spilled(spill_folder)) >= 2 * (MANY - FIT)
    keep = refs[3]
    del refs
    assert await settled(0) in (0, PAGES)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GUARD / 2):
            while len(spilled(spill_folder)) > 1:
                await same.remote(None)
    assert len(spilled(spill_folder)) <= 1
    assert number_of(await keep) == 3
    del keep
    assert await no_files(spill_folder)
    assert await settled() == 0


@small_store
async def test_nested_values_on_disk_go_with_the_outermost(spill_folder):
    outer = aioray.put(put_many())
    gc.collect()
    await same.remote(None)
    assert len(spilled(spill_folder)) >= MANY - FIT
    inner = (await outer)[2]
    assert number_of(await inner) == 2
    del inner, outer
    assert await no_files(spill_folder)
    assert await settled() == 0


def test_shutdown_removes_the_folder(spill_folder):
    aioray.init(num_cpus=1, object_store_memory=2 * MIB)
    refs = put_many()
    (mine,) = spill_folder.glob("aioray-*/*")
    assert mine.parent.name == f"aioray-{os.getuid()}"
    assert mine.parent.stat().st_mode & 0o777 == 0o700
    assert mine.name.endswith(f"_{os.getpid()}")
    assert all(path.stat().st_mode & 0o077 == 0 for path in spilled(spill_folder))
    aioray.shutdown()
    assert sorted(path.name for path in mine.iterdir()) == ["history.db", "lock"]
    assert len(refs) == MANY


def test_spilling_directory_is_the_first_of_three(tmp_path, spill_folder):
    one, two = tmp_path / "one", tmp_path / "two"
    for settings, folder in (
        ({"object_spilling_directory": str(one), "_temp_dir": str(two)}, one),
        ({"_temp_dir": str(two)}, two),
        ({}, spill_folder),
    ):
        aioray.init(num_cpus=1, object_store_memory=2 * MIB, **settings)
        refs = put_many()
        assert spilled(folder), settings
        assert number_of(aioray.get(refs[0])) == 0
        aioray.shutdown()
        assert spilled(folder) == []


def test_folder_of_a_dead_session_is_swept_and_of_a_living_one_is_not(spill_folder):
    """Dead are those whose pid is free, unless the lock is held: pids of containers differ."""
    parent = spill_folder / f"aioray-{os.getuid()}"
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    names = {
        "dead": f"session_dead_{gone.pid}",
        "alive": f"session_alive_{os.getppid()}",
        "locked": f"session_locked_{gone.pid}",
        "foreign": "somebody's own",
    }
    for name in names.values():
        (parent / name / "objects").mkdir(parents=True)
        (parent / name / "objects" / "1").write_bytes(b"value")
        (parent / name / "lock").touch()
    lock = os.open(parent / names["locked"] / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    aioray.init(num_cpus=1, object_store_memory=2 * MIB, history=0)
    put_many()
    aioray.shutdown()
    os.close(lock)
    left = {path.name for path in parent.iterdir()}
    shutil.rmtree(parent)
    assert left == set(names.values()) - {names["dead"]}


def test_sessions_side_by_side_leave_each_other_alone(drive, started, gate, spill_folder):
    body = """
import aioray, sys
from tests.process import jobs
from tests.process.test_spilling import put_many, number_of
aioray.init(num_cpus=1, object_store_memory=2 * 1024 * 1024)
refs = put_many()
jobs.say(sys.argv[1])
jobs.listen(sys.argv[2])
print([number_of(aioray.get(ref)) for ref in refs] == list(range(len(refs))))
aioray.shutdown()
"""
    driver = drive(body, started.path, gate.path)
    started.hear()
    theirs = spilled(spill_folder)
    aioray.init(num_cpus=1, object_store_memory=2 * MIB)
    ours = put_many()
    assert len(ours) == MANY
    assert set(theirs) < set(spilled(spill_folder))
    aioray.shutdown()
    assert set(theirs) <= set(spilled(spill_folder))
    gate.tell()
    assert driver.finish() == (0, "True\n", "")


# ---------------------------------------------------------------- files that are gone


def delete(path):
    path.unlink()


def cut(path):
    os.truncate(path, 1_000)


def empty(path):
    os.truncate(path, 0)


HARMS = [delete, cut, empty]


@small_store
@pytest.mark.parametrize("harm", HARMS)
async def test_result_whose_file_is_damaged_is_computed_again(harm, notes, spill_folder):
    first = noted_numbers.remote(notes, COUNT, 1)
    await asyncio.wait([first])
    others = put_many()
    for path in spilled(spill_folder):
        harm(path)
    assert number_of(await first) == 1
    assert jobs.notes(notes) == ["ran"] * 2
    assert number_of(await first) == 1
    assert number_of(await others[-1]) == MANY - 1


@small_store
@pytest.mark.parametrize("harm", HARMS)
async def test_argument_whose_file_is_damaged_is_computed_again(harm, notes, spill_folder):
    first = noted_numbers.remote(notes, COUNT, 1)
    await asyncio.wait([first])
    others = put_many()
    for path in spilled(spill_folder):
        harm(path)
    assert await total.remote(first) == jobs.total(jobs.numbers(COUNT, 1))
    assert jobs.notes(notes) == ["ran"] * 2
    assert len(others) == MANY


@small_store
@pytest.mark.parametrize("harm", HARMS)
async def test_put_value_whose_file_is_damaged_is_an_error_for_everybody(harm, spill_folder):
    refs = put_many()
    for path in spilled(spill_folder):
        harm(path)
    for ref, ask in zip(
        refs,
        (
            lambda ref: ref,
            lambda ref: asyncio.to_thread(aioray.get, ref, timeout=GUARD),
            lambda ref: asyncio.wait_for(ref, GUARD),
            lambda ref: ref.as_future(),
            lambda ref: asyncio.wrap_future(ref.future()),
            total.remote,
            lambda ref: total.remote(same.remote(ref)),
        ),
        strict=False,
    ):
        error = await error_of(ask(ref))
        assert isinstance(error, ObjectReconstructionFailedError), error
        assert isinstance(error, ObjectLostError)
        assert error.reason == "OBJECT_UNRECONSTRUCTABLE_PUT"
        assert ref.hex() in str(error)
    assert number_of(await refs[-1]) == MANY - 1  # it was in memory


@small_store
async def test_file_that_cannot_be_read_hangs_nobody(notes, spill_folder):
    result = noted_numbers.remote(notes, COUNT, 1)
    await asyncio.wait([result])
    refs = put_many()
    for path in spilled(spill_folder):
        path.unlink()
        path.symlink_to(path)  # too many levels of links, whoever opens it
    for ask in (lambda ref: asyncio.wait_for(ref, GUARD / 4), total.remote):
        error = await error_of(ask(refs[0]))
        assert isinstance(error, ObjectLostError | OSError)
        assert not isinstance(error, TimeoutError), "nobody told the waiter"
    assert number_of(await asyncio.wait_for(result, GUARD / 4)) == 1
    assert jobs.notes(notes) == ["ran"] * 2


@small_store
async def test_file_that_is_damaged_while_its_task_waits_is_noticed(started, gate, spill_folder):
    first = numbers.remote(COUNT, 1)
    await asyncio.wait([first])
    running = [hold.remote(started.path, gate.path) for _ in range(2)]
    for _ in running:
        await started.heard()
    others = put_many()
    task = total.remote(first)
    late = total.remote(others[0])
    for path in spilled(spill_folder):
        path.unlink()
    for _ in running:
        gate.tell()
    assert await task == jobs.total(jobs.numbers(COUNT, 1))
    assert isinstance(await error_of(late), ObjectReconstructionFailedError)


# ---------------------------------------------------------------- no disk


def fill_memory():
    return [aioray.put(jobs.numbers(COUNT, number)) for number in range(FIT)]


@small_store
async def test_full_disk_is_an_error_and_harms_nothing(full_disk, spill_folder):
    refs = fill_memory()
    result = numbers.remote(10, 5)
    with pytest.raises(OutOfDiskError, match="disk"):
        aioray.put(jobs.numbers(COUNT))
    with pytest.raises(OutOfDiskError, match="disk"):
        total.remote(jobs.numbers(COUNT))
    with pytest.raises(OutOfDiskError, match="disk"):
        aioray.put(jobs.numbers(1_000_000))
    assert isinstance(await error_of(numbers.remote(COUNT)), OutOfDiskError)
    assert isinstance(await error_of(numbers.remote(1_000_000)), OutOfDiskError)
    assert [number_of(await ref) for ref in refs] == list(range(FIT))
    assert [await total.remote(ref) > 0 for ref in refs] == [True] * FIT
    assert await result is not None
    assert spilled(spill_folder) == []
    refs.pop()
    assert await settled((FIT - 1) * PAGES) == (FIT - 1) * PAGES
    assert number_of(await numbers.remote(COUNT, 9)) == 9
    assert await settled((FIT - 1) * PAGES) == (FIT - 1) * PAGES
    refs.append(aioray.put(jobs.numbers(COUNT, 10)))
    assert number_of(await refs[-1]) == 10


@small_store
async def test_folder_that_cannot_be_made_is_an_error_and_harms_nothing(broken_folder):
    refs = fill_memory()
    with pytest.raises(ObjectStoreFullError, match="object_spilling_directory"):
        aioray.put(jobs.numbers(COUNT))
    with pytest.raises(ObjectStoreFullError):
        total.remote(jobs.numbers(COUNT))
    assert isinstance(await error_of(numbers.remote(COUNT)), ObjectStoreFullError)
    assert [number_of(await ref) for ref in refs] == list(range(FIT))
    refs.pop()
    assert await settled((FIT - 1) * PAGES) == (FIT - 1) * PAGES
    assert number_of(await numbers.remote(COUNT, 9)) == 9


@pytest.fixture
def broken_folder(tmp_path, monkeypatch):
    """A folder that cannot be made, whoever we are: there is a file where its parent should be."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file" / "folder"))


@small_store
async def test_memory_for_which_many_wait_goes_to_all_of_them(full_disk):
    """Results that find no room fail one by one; nobody hangs, and the rest goes on."""
    refs = [numbers.remote(COUNT, number) for number in range(20)]
    found = await asyncio.gather(*refs, return_exceptions=True)
    kept = [item for item in found if isinstance(item, np.ndarray)]
    assert 1 <= len(kept) <= FIT
    assert list(map(number_of, kept)) == [
        number for number, item in enumerate(found) if isinstance(item, np.ndarray)
    ]
    assert all(isinstance(item, np.ndarray | OutOfDiskError) for item in found)
