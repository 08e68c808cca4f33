"""Large values: read where they lie, by everybody, and freed when nobody needs them any more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import aioray
from aioray.exceptions import (
    EngineShutdownError,
    ReferenceCountingAssertionError,
    WorkerCrashedError,
)
from aioray.testing import lose

from . import jobs
from .support import GUARD, everywhere, on_both_loops
from .test_drivers import INIT
from .test_errors import error_of

same = aioray.remote(jobs.same)
numbers = aioray.remote(jobs.numbers)
total = aioray.remote(jobs.total)
weigh = aioray.remote(jobs.weigh)
big = aioray.remote(jobs.big)
look_at = aioray.remote(jobs.look_at)
hold = aioray.remote(jobs.hold)
keep = aioray.remote(jobs.keep)
kept = aioray.remote(jobs.kept)
drop = aioray.remote(jobs.drop)
rows = aioray.remote(jobs.rows)
value_of = aioray.remote(jobs.value_of)
rows_one_by_one = aioray.remote(jobs.rows_one_by_one)
KeepsRows = aioray.remote(jobs.KeepsRows)

MIB = 1024 * 1024
LIMIT = 100 * 1024
COUNT = 50_000  # numbers, in 400,000 bytes
PAGES = 401_408  # bytes that such an array takes up


def used():
    """Bytes of shared memory in use."""
    name = "object_store_memory"
    return aioray.cluster_resources()[name] - aioray.available_resources().get(name, 0.0)


async def settled(amount=0.0):
    """What is in use, after bounded waiting for `amount`: some news travel with the next answer."""
    gc.collect()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GUARD / 2):
            while used() != amount:
                await same.remote(None)
    return used()


def spilled(folder):
    """The files to which values went, of all sessions below a folder."""
    return sorted(Path(folder).glob("aioray-*/*/objects/*"))


@pytest.fixture(autouse=True)
def spill_folder(tmp_path, monkeypatch):
    """Where values go that find no room; nothing may be left there."""
    folder = tmp_path / "spill"
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "1")
    yield folder
    gc.collect()
    kept = {"lock", "history.db", "history.db-wal", "history.db-shm"}  # what sessions leave
    left = [path for path in folder.rglob("*") if path.is_file() or path.is_socket()]
    left = [path for path in left if path.name not in kept]
    assert not left, f"left on disk: {left}"


def assert_same(got, given):
    """Equal, of the same types, all the way down; arrays with the same layout."""
    assert type(got) is type(given)
    if isinstance(given, np.ndarray):
        assert got.dtype == given.dtype
        assert got.shape == given.shape
        assert np.array_equal(got, given)
    elif isinstance(given, dict):
        assert list(got) == list(given)
        for key, value in given.items():
            assert_same(got[key], value)
    elif isinstance(given, list | tuple):
        assert len(got) == len(given)
        for one, other in zip(got, given, strict=True):
            assert_same(one, other)
    else:
        assert got == given


# ---------------------------------------------------------------- reading in place


@everywhere
async def test_gets_in_the_driver_share_memory_and_cannot_write():
    for ref in (aioray.put(jobs.numbers(COUNT)), numbers.remote(COUNT)):
        one, two = await ref, await ref
        assert one is not two
        assert np.shares_memory(one, two)
        assert np.array_equal(one, jobs.numbers(COUNT))
        for array in (one, two):
            seen = jobs.look_at(array)
            assert "aioray-objects" in seen["in_store"]
            assert seen["writeable"] is False
            assert seen["refused"] is True
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0


@everywhere(num_cpus=1)
async def test_tasks_read_arguments_where_they_lie_and_cannot_write():
    for ref in (aioray.put(jobs.numbers(COUNT)), numbers.remote(COUNT)):
        first, second = await look_at.remote(ref), await look_at.remote(array=ref)
        assert first == second  # in one worker, at one address
        assert first["pid"] != os.getpid()
        assert "aioray-objects" in first["in_store"]
        assert first["writeable"] is False
        assert first["refused"] is True
    direct = await look_at.remote(jobs.numbers(COUNT))
    assert "aioray-objects" in direct["in_store"]
    assert direct["writeable"] is False


@everywhere(num_cpus=1)
async def test_one_value_given_twice_to_a_task_lies_in_one_place():
    @aioray.remote
    def shared(one, two):
        return one is not two and np.shares_memory(one, two)

    ref = aioray.put(jobs.numbers(COUNT))
    assert await shared.remote(ref, two=ref) is True


@everywhere(object_store_memory=256 * MIB)
async def test_get_of_100_megabytes_takes_no_memory_of_its_own():
    def anonymous():
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

    ref = numbers.remote(12_500_000)
    await asyncio.wait([ref])
    before = anonymous()
    array = await ref
    assert array[-1] == 12_499_999
    assert array.nbytes == 100_000_000
    assert anonymous() - before < 10_000  # kilobytes


@on_both_loops
async def test_the_loop_goes_on_while_100_megabytes_come_from_a_task():
    async with aioray.Engine(num_cpus=1, object_store_memory=256 * MIB):
        await same.remote(None)
        ref = numbers.remote(12_500_000)
        turns = 0

        async def tick():
            nonlocal turns
            while not ref.done():
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        array = await ref
        await ticking
        assert array[12_345_678] == 12_345_678
        assert turns > 100  # a loop that was held up would have made a few


# ---------------------------------------------------------------- kinds of values

GRID = np.arange(120_000.0).reshape(300, 400)
VALUES = {
    "bytes": bytes(range(256)) * 1_000,
    "bytes in a list": [bytes(range(256)) * 1_000, b"small"],
    "bytearray": bytearray(range(256)) * 1_000,
    "text": "grün" * 100_000,
    "numbers": list(range(100_000)),
    "array": GRID,
    "integers": np.arange(200_000, dtype=np.int16),
    "records": np.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")]),
    "text array": np.array(["word", "other"] * 10_000),
    "dates": np.arange("1970-01-01", "2010-01-01", dtype="datetime64[h]"),
    "slice": GRID[::3, ::2],
    "backwards": GRID[::-1],
    "one of none": np.array(5.0),
    "empty, with others": [np.empty((0, 7)), GRID, np.empty(0)],
    "objects": np.array([{"number": number} for number in range(20_000)], dtype=object),
    "nested": {"a": [GRID, (GRID + 1, {"b": GRID.astype(np.int32)})], 2: "text", "c": None},
    "many": [np.full(20, number) for number in range(1_500)],
}


@everywhere
async def test_values_come_back_as_they_were():
    for value in VALUES.values():
        ref = aioray.put(value)
        assert_same(await ref, value)
        assert_same(await same.remote(value), value)
        assert_same(await same.remote(ref), value)
        assert_same(await same.remote(value=ref), value)


@everywhere
async def test_column_order_is_kept():
    for array in (np.asfortranarray(GRID), GRID.T):
        for ref in (aioray.put(array), same.remote(array)):
            found = await ref
            assert np.array_equal(found, array)
            assert found.flags.f_contiguous
            assert not found.flags.c_contiguous
            assert found.flags.writeable is False


@everywhere
async def test_memoryview_comes_back_as_one_that_cannot_be_written():
    grid = memoryview(GRID)
    for view in (memoryview(bytearray(200_000)), memoryview(GRID.ravel()), grid, grid[10:20]):
        for found in (await aioray.put(view), await same.remote(view)):
            assert type(found) is memoryview
            assert found.readonly
            assert found == view
            assert (found.format, found.shape) == (view.format, view.shape)


@everywhere
async def test_mutable_parts_of_two_gets_are_distinct():
    ref = aioray.put({"list": [1], "bytes": bytearray(200_000), "array": GRID})
    one: Any = await ref
    two: Any = await ref
    one["list"].append(2)
    one["bytes"][0] = 255
    assert two["list"] == [1]
    assert two["bytes"][0] == 0
    assert (await ref)["bytes"] == bytearray(200_000)


@everywhere
async def test_change_of_the_original_is_not_seen():
    array = jobs.numbers(COUNT)
    ref, task = aioray.put(array), total.remote(array)
    array[:] = 0
    assert jobs.total(await ref) == await task == jobs.total(jobs.numbers(COUNT))


@everywhere
async def test_values_above_the_limit_lie_in_the_store_and_others_do_not():
    """Exactly 100 * 1024 bytes, serialized, are small: as `put` and as result."""

    def value_of(size):
        value = bytes(2 * size - len(pickle.dumps(bytes(size), 5)))
        assert len(pickle.dumps(value, 5)) == size
        return value

    for size, taken in ((LIMIT - 1, 0), (LIMIT, 0), (LIMIT + 1, LIMIT + 4096), (MIB, MIB + 4096)):
        value = value_of(size)
        for make in (aioray.put, lambda value: big.remote(len(value))):
            ref = make(value)
            assert len(await ref) == len(value)
            assert await weigh.remote(ref) == len(value)
            assert await settled(taken) == taken, size
            del ref
            assert await settled() == 0


@everywhere
async def test_arguments_of_any_size_around_the_limit_arrive():
    for size in range(LIMIT - 200, LIMIT + 1, 20):
        assert await weigh.remote(b"x" * size) == size
        assert await weigh.remote(data=b"x" * size) == size


@everywhere
async def test_large_and_small_results_of_one_task(notes):
    large, small = aioray.remote(num_returns=2)(jobs.large_and_small).remote(notes, COUNT)
    assert np.array_equal(await large, jobs.numbers(COUNT))
    assert await small == "small"
    assert await settled(PAGES) == PAGES
    del large
    assert await settled() == 0
    assert await small == "small"


@everywhere
async def test_large_arguments_of_every_kind_arrive_together():
    @aioray.remote
    def sums(*args, **kwargs):
        return [float(item.sum()) for item in (*args, *kwargs.values())]

    one, two = aioray.put(jobs.numbers(COUNT, 1)), numbers.remote(COUNT, 2)
    small, three, four = aioray.put(np.ones(3)), jobs.numbers(COUNT, 3), jobs.numbers(COUNT, 4)
    found = await sums.remote(one, three, small, two, x=two, y=four)
    one, two = await one, await two
    assert found == [item.sum() for item in (one, three, np.ones(3), two, two, four)]


@everywhere
async def test_put_once_and_given_to_many_tasks_is_stored_once():
    ref = aioray.put(jobs.numbers(COUNT))
    expected = jobs.total(jobs.numbers(COUNT))
    tasks = [total.remote(ref) for _ in range(200)]
    assert used() == PAGES
    assert await asyncio.gather(*tasks) == [expected] * 200
    assert used() == PAGES


@everywhere
async def test_ten_rows_of_a_table_are_stored_as_ten_rows():
    table = pa.table({"number": jobs.numbers(COUNT)})
    ref = aioray.put(table)
    whole = used()
    ten = table.slice(5, 10)
    refs = [aioray.put(ten), rows.remote(ref, 5, 10), same.remote(ten), same.remote([ten])]
    expected = [ten, ten, ten, [ten]]
    refs += [item async for item in rows_one_by_one.remote(ref, 2)]
    expected += [table.slice(0, 1), table.slice(1, 1)]
    keeper = KeepsRows.options(max_restarts=1).remote()
    await keeper.cut.remote(ref)
    assert await asyncio.gather(*refs) == expected
    assert await settled(whole) == whole


# ---------------------------------------------------------------- how long they live


@everywhere(object_store_memory=4 * MIB)
async def test_ten_times_the_memory_goes_through_without_the_disk(spill_folder):
    for number in range(100):
        ref = aioray.put(jobs.numbers(COUNT, number))
        assert (await ref)[0] == number
        del ref
    for number in range(100):
        assert await total.remote(jobs.numbers(COUNT, number)) > 0
    for number in range(100):
        ref = numbers.remote(COUNT, number)
        assert (await ref)[0] == number
        del ref
    assert await settled() == 0
    assert not list(spill_folder.glob("aioray-*/*/objects"))


@everywhere
async def test_value_lives_as_long_as_a_ref():
    ref = aioray.put(jobs.numbers(COUNT))
    again = aioray.ObjectRef(ref.entry)
    result = numbers.remote(COUNT)
    await result
    assert await settled(2 * PAGES) == 2 * PAGES
    del ref
    assert await settled(2 * PAGES) == 2 * PAGES
    assert (await again)[1] == 1
    del again
    assert await settled(PAGES) == PAGES
    del result
    assert await settled() == 0


@everywhere(object_store_memory=4 * MIB)
async def test_array_without_its_ref_keeps_its_memory():
    """Others reuse what is free, all the way round, and never what is looked at."""
    array = await aioray.put(jobs.numbers(COUNT, 7))
    part = (await numbers.remote(COUNT, 8))[100:200]
    view = memoryview(await aioray.put(memoryview(jobs.numbers(COUNT, 9))))
    for number in range(100):
        ref = aioray.put(jobs.numbers(COUNT, 1_000 + number))
        task = total.remote(ref)
        del ref
        assert await task == jobs.total(jobs.numbers(COUNT, 1_000 + number))
    assert np.array_equal(array, jobs.numbers(COUNT, 7))
    assert np.array_equal(part, jobs.numbers(COUNT, 8)[100:200])
    assert np.array_equal(np.asarray(view), jobs.numbers(COUNT, 9))
    assert await settled(3 * PAGES) == 3 * PAGES
    del array
    assert await settled(2 * PAGES) == 2 * PAGES
    del part
    assert await settled(PAGES) == PAGES
    del view
    assert await settled() == 0


@everywhere(num_cpus=1, object_store_memory=4 * MIB)
async def test_array_that_a_task_keeps_holds_its_memory():
    """1. Keep arguments in a worker; 2. drop the refs; 3. fill the rest; 4. look; 5. let go."""
    expected = [jobs.total(jobs.numbers(COUNT, number)) for number in (7, 8, 9)]
    ref = aioray.put(jobs.numbers(COUNT, 7))
    await keep.remote("put", ref)
    del ref
    await keep.remote("result", numbers.remote(COUNT, 8))
    await keep.remote("argument", jobs.numbers(COUNT, 9))
    for number in range(50):
        assert await total.remote(jobs.numbers(COUNT, 1_000 + number)) > 0
        ref = aioray.put(jobs.numbers(COUNT, 2_000 + number))
        assert (await numbers.remote(COUNT, number))[0] == number
        del ref
    names = ["put", "result", "argument"]
    assert [await kept.remote(name) for name in names] == expected
    for left, name in zip((3, 2, 1), names, strict=True):
        await same.remote(None)
        assert await settled(left * PAGES) == left * PAGES, name
        await drop.remote(name)
    assert await settled() == 0


@everywhere(num_cpus=1)
async def test_views_of_a_worker_that_dies_end_with_it():
    ref = aioray.put(jobs.numbers(COUNT))
    await keep.remote("put", ref)
    del ref
    assert await settled(PAGES) == PAGES
    error = await error_of(aioray.remote(max_retries=0)(jobs.die).remote("_exit 42"))
    assert isinstance(error, WorkerCrashedError)
    assert await settled() == 0


@everywhere(num_cpus=1)
async def test_worker_that_dies_with_a_result_in_the_making_returns_the_memory():
    task = aioray.remote(num_returns=2, max_retries=0)(jobs.large_and_deadly)
    for _ in range(3):
        one, two = task.remote(COUNT)
        assert isinstance(await error_of(one), WorkerCrashedError)
        assert isinstance(await error_of(two), WorkerCrashedError)
    assert await settled() == 0


@everywhere(num_cpus=1)
async def test_result_that_cannot_be_pickled_returns_the_memory_of_the_others():
    @aioray.remote(num_returns=2, max_retries=0)
    def task():
        return jobs.numbers(COUNT), threading.Lock()

    one, two = task.remote()
    assert isinstance(await error_of(one), TypeError)
    assert isinstance(await error_of(two), TypeError)
    assert await settled() == 0


@everywhere(num_cpus=1)
async def test_task_that_is_killed_returns_the_memory_of_its_argument(started, gate):
    ref = aioray.put(jobs.numbers(COUNT))
    task = aioray.remote(max_retries=0)(jobs.hold_argument).remote(started.path, gate.path, ref)
    del ref
    os.kill(int(await started.heard()), signal.SIGKILL)
    assert isinstance(await error_of(task), WorkerCrashedError)
    assert await settled() == 0


@everywhere(num_cpus=1)
async def test_cancelled_task_returns_the_memory_of_its_argument(started, gate):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    tasks = [total.remote(jobs.numbers(COUNT, number)) for number in range(3)]
    assert await settled(3 * PAGES) >= 3 * PAGES
    for task in tasks:
        await aioray.cancel(task)
    gate.tell()
    await running
    assert await settled() == 0


@everywhere
async def test_ref_inside_a_value_keeps_what_it_refers_to():
    for outer_of in (
        lambda inner: aioray.put([inner]),
        lambda inner: aioray.put({"ref": inner, "large": bytes(4_000_000)}),
        lambda inner: same.remote([inner]),
        lambda inner: same.remote(({"ref": inner}, jobs.numbers(COUNT))),
    ):
        inner = aioray.put(jobs.numbers(COUNT, 5))
        outer = outer_of(inner)
        await outer
        del inner
        gc.collect()
        await asyncio.gather(*[same.remote(number) for number in range(20)])
        assert used() >= PAGES

        def find(value):
            if isinstance(value, aioray.ObjectRef):
                return value
            items = value.values() if isinstance(value, dict) else value
            return next(filter(None, map(find, items)), None) if type(value) in TREES else None

        inner = find(await outer)
        assert np.array_equal(await inner, jobs.numbers(COUNT, 5))
        del inner, outer
        assert await settled() == 0


TREES = (dict, list, tuple)


@everywhere
async def test_refs_in_refs_live_and_end_together():
    ref = aioray.put(jobs.numbers(COUNT))
    for _ in range(50):
        ref = aioray.put([ref])
    for _ in range(50):
        (inner,) = await ref
        ref = inner
    assert (await ref)[1] == 1
    del ref, inner
    assert await settled() == 0


@everywhere
async def test_function_that_has_captured_a_ref_keeps_its_value():
    def function_with(ref):
        return aioray.remote(lambda: [ref])

    captured = function_with(aioray.put(jobs.numbers(COUNT)))
    (inner,) = await captured.remote()
    assert jobs.total(await inner) == jobs.total(jobs.numbers(COUNT))
    del inner
    gc.collect()
    assert await settled(PAGES) == PAGES
    (inner,) = await captured.remote()
    assert (await inner)[1] == 1
    del captured, inner
    assert await settled() == 0


@everywhere
async def test_ref_pickled_by_hand_keeps_its_value():
    data = pickle.dumps(aioray.put(jobs.numbers(COUNT, 3)))
    gc.collect()
    assert await settled(PAGES) == PAGES
    assert np.array_equal(await pickle.loads(data), jobs.numbers(COUNT, 3))
    assert await settled(PAGES) == PAGES


@everywhere(num_cpus=1)
async def test_pending_task_keeps_its_arguments(started, gate):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    ref, nested = aioray.put(jobs.numbers(COUNT, 1)), aioray.put(jobs.numbers(COUNT, 2))
    waiting = total.remote(ref)
    chain = total.remote(same.remote(ref))
    holder = same.remote([nested])
    direct = total.remote(jobs.numbers(COUNT, 3))
    del ref, nested
    gc.collect()
    assert 3 * PAGES <= used() < 4 * PAGES
    gate.tell()
    await running
    assert await waiting == await chain == jobs.total(jobs.numbers(COUNT, 1))
    assert await direct == jobs.total(jobs.numbers(COUNT, 3))
    (inner,) = await holder
    assert np.array_equal(await inner, jobs.numbers(COUNT, 2))
    del inner, holder
    assert await settled() == 0


@everywhere(num_cpus=1)
async def test_result_that_nobody_has_a_ref_to_is_freed(started, gate):
    task = aioray.remote(jobs.hold_then_return).remote(started.path, gate.path, COUNT)
    await started.heard()
    del task
    gate.tell()
    assert await same.remote(1) == 1
    assert await settled() == 0


@everywhere
async def test_finished_task_keeps_no_argument_alive():
    """Its result is small and cannot be lost, so nothing is needed to compute it again."""
    refs = [total.remote(jobs.numbers(COUNT, number)) for number in range(5)]
    await asyncio.gather(*refs)
    assert await settled() == 0
    given = aioray.put(jobs.numbers(COUNT))
    result = same.remote(given)
    await result
    del given
    assert await settled(PAGES) == PAGES  # the result alone: its lineage keeps no value of others


# ---------------------------------------------------------------- ends of sessions and processes


@on_both_loops
async def test_arrays_stay_readable_after_the_engine_has_ended():
    async with aioray.Engine(num_cpus=1, object_store_memory=4 * MIB):
        one, two = await aioray.put(jobs.numbers(COUNT, 1)), await numbers.remote(COUNT, 2)
    async with aioray.Engine(num_cpus=1, object_store_memory=4 * MIB):
        refs = [aioray.put(jobs.numbers(COUNT, 100 + number)) for number in range(9)]
        assert np.array_equal(one, jobs.numbers(COUNT, 1))
        assert np.array_equal(two, jobs.numbers(COUNT, 2))
        assert (await refs[0])[0] == 100
    assert np.array_equal(one[-5:], jobs.numbers(COUNT, 1)[-5:])


def test_arrays_stay_readable_after_shutdown():
    aioray.init(num_cpus=1)
    ref = aioray.put(jobs.numbers(COUNT, 1))
    one, two = aioray.get(ref), aioray.get(numbers.remote(COUNT, 2))
    aioray.shutdown()
    assert np.array_equal(one, jobs.numbers(COUNT, 1))
    assert np.array_equal(two, jobs.numbers(COUNT, 2))


@on_both_loops
@pytest.mark.parametrize("count", [1, 20])  # in memory, and on disk
async def test_ref_awaited_after_the_end_of_the_engine_is_an_error(count):
    async with aioray.Engine(num_cpus=1, object_store_memory=4 * MIB):
        refs = [aioray.put(jobs.numbers(COUNT, number)) for number in range(count)]
        lost = numbers.remote(COUNT)
        await asyncio.wait([lost])
        lose(lost)
    for ref in (refs[0], refs[-1], lost):
        with pytest.raises((ValueError, RuntimeError, EngineShutdownError)):
            await asyncio.wait_for(ref, GUARD / 4)


@pytest.mark.parametrize("count", [1, 20])  # in memory, and on disk
def test_ref_used_after_shutdown_is_an_error(count):
    """Its descriptor is closed by then, and its number may belong to another file."""
    aioray.init(num_cpus=1, object_store_memory=4 * MIB)
    refs = [aioray.put(jobs.numbers(COUNT, number)) for number in range(count)]
    results = [numbers.remote(COUNT, number) for number in range(count)]
    aioray.wait(results, num_returns=count)
    aioray.shutdown()
    with open("/dev/zero", "rb"):
        for ref in (refs[0], refs[-1], results[0], results[-1]):
            with pytest.raises((ValueError, RuntimeError, EngineShutdownError)):
                aioray.get(ref, timeout=GUARD / 4)
    assert not aioray.is_initialized()


@everywhere(num_cpus=1)
async def test_worker_cannot_change_the_size_of_the_store():
    ref = aioray.put(jobs.numbers(COUNT))
    errors, is_as_it_was = await aioray.remote(jobs.cut_the_store).remote()
    assert errors == ["PermissionError"] * 3
    assert is_as_it_was
    assert np.array_equal(await ref, jobs.numbers(COUNT))


@everywhere(num_cpus=1)
async def test_worker_that_writes_to_an_argument_dies_and_the_value_stays():
    ref = aioray.put(jobs.numbers(COUNT))
    error = await error_of(aioray.remote(max_retries=0)(jobs.overwrite).remote(ref))
    assert isinstance(error, WorkerCrashedError)
    assert "SIGSEGV" in str(error)
    assert np.array_equal(await ref, jobs.numbers(COUNT))
    assert await total.remote(ref) == jobs.total(jobs.numbers(COUNT))
    del ref
    assert await settled() == 0


@pytest.mark.parametrize("count", [3, 20])  # that fit into memory, and that do not
def test_kill_9_of_the_driver_leaves_neither_memory_nor_files(
    count, drive, watch, started, spill_folder
):
    body = f"""
refs = [aioray.put(jobs.numbers({COUNT}, number)) for number in range({count})]
refs += [aioray.remote(jobs.numbers).remote({COUNT}) for number in range({count})]
aioray.wait(refs, num_returns=len(refs))
aioray.get(aioray.remote(jobs.start_descendants).remote(sys.argv[1]))
"""
    init = INIT.replace("num_cpus=2", "num_cpus=2, object_store_memory=4 * 1024 * 1024")
    shared = set(os.listdir("/dev/shm"))
    driver = drive(init + body, started.path)
    family = watch(*map(int, started.hear().split()))
    assert bool(spilled(spill_folder)) is (2 * count * PAGES > 4 * MIB)
    driver.signal(signal.SIGKILL)
    assert family.survivors() == []
    assert set(os.listdir("/dev/shm")) <= shared
    assert spilled(spill_folder) == []


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise ValueError('the end')"])
def test_driver_that_ends_without_shutdown_removes_its_files(how, drive, spill_folder):
    body = f"""
refs = [aioray.put(jobs.numbers({COUNT}, number)) for number in range(30)]
from pathlib import Path
print(len(list(Path(sys.argv[1]).glob("aioray-*/*/objects/*"))) > 10)
{how}
"""
    init = INIT.replace("num_cpus=2", "num_cpus=1, object_store_memory=4 * 1024 * 1024")
    status, out, _ = drive(init + body, spill_folder).finish()
    assert (status, out) == (1 if "raise" in how else 3, "True\n")
    assert spilled(spill_folder) == []


def test_fork_of_the_driver_frees_nothing(spill_folder):
    """The child drops its copies of every ref and array, with some values on disk."""
    aioray.init(num_cpus=1, object_store_memory=4 * MIB)
    refs = [aioray.put(jobs.numbers(COUNT, number)) for number in range(20)]
    array = aioray.get(refs[0])
    before = spilled(spill_folder)
    assert before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on, for the threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            assert array[1] == 1
            del refs, array
            gc.collect()
            aioray.shutdown()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert aioray.get(total.remote(refs[0])) == jobs.total(array)
    assert len(spilled(spill_folder)) >= len(before)
    assert [aioray.get(ref)[0] for ref in refs] == list(range(20))
    del refs, array
    aioray.shutdown()


def test_many_threads_put_at_once(session):
    failures = []

    def work(thread):
        mine = []
        for number in range(40):
            start = 1_000 * thread + number
            mine.append((start, aioray.put(jobs.numbers(20_000, start))))
            if number % 3 == 0:
                mine.pop(0)
        for start, ref in mine:
            if not np.array_equal(aioray.get(ref), jobs.numbers(20_000, start)):
                failures.append(start)
        if aioray.get(total.remote(mine[0][1])) != jobs.total(jobs.numbers(20_000, mine[0][0])):
            failures.append("in a task")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    gc.collect()
    assert asyncio.run(settled()) == 0


@everywhere(num_cpus=1)
async def test_ref_is_made_of_the_id_of_another_one():
    task, value = same.remote(2), aioray.put([1])
    for ref, expected in ((value, [1]), (task, 2)):
        for again in (
            aioray.ObjectRef(ref.binary()),
            aioray.ObjectRef.from_binary(ref.binary()),
            aioray.ObjectRef.from_hex(ref.hex()),
        ):
            assert again == ref
            assert hash(again) == hash(ref)
            assert await again == expected
    assert await value_of.remote(value.hex()) == [1]
    assert await value_of.remote([value]) == [1]


def test_ref_of_an_id_does_not_bring_back_what_is_gone():
    with aioray.init(num_cpus=1):
        identifier = aioray.put(1).hex()
        gc.collect()
        with pytest.raises(ReferenceCountingAssertionError):
            aioray.get(aioray.ObjectRef.from_hex(identifier))
        assert aioray.ObjectRef.nil().is_nil()


def test_ref_is_not_made_of_what_is_no_id():
    with pytest.raises(ValueError, match="28 bytes; 1 were given"):
        aioray.ObjectRef(b"x")
    with pytest.raises(TypeError, match="not of str"):
        aioray.ObjectRef("x" * 28)
