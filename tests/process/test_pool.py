"""`aioray.util.multiprocessing.Pool`: what programs for multiprocessing expect, on tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import multiprocessing
import threading

import numpy as np
import pytest

import aioray
from aioray.client.protocol import registry
from aioray.exceptions import TaskCancelledError, WorkerCrashedError
from aioray.util.multiprocessing import Pool

from . import jobs, util_jobs
from .support import GUARD, on_both_loops

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def pool():
    with Pool(2) as pool:
        yield pool


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
def test_every_item_is_answered_once_in_order(pool, method, chunksize):
    options = {} if chunksize is None else {"chunksize": chunksize}
    values = list(getattr(pool, method)(util_jobs.double, iter(range(20)), **options))
    if method == "imap_unordered":
        values.sort()
    assert values == [2 * item for item in range(20)]


def test_apply_and_starmap_pass_arguments_on(pool):
    assert pool.apply(util_jobs.join, ("a", "b"), {"end": "!"}) == "ab!"
    assert pool.apply(util_jobs.join, kwargs={"end": "?"}) == "?"  # as Ray calls it
    assert pool.apply(util_jobs.join, ["a"], kwds={"end": "?"}) == "a?"  # as multiprocessing does
    assert pool.apply_async(util_jobs.join, kwargs={"end": "?"}).get() == "?"
    assert pool.apply(util_jobs.join) == ""
    assert pool.starmap(util_jobs.join, [("a", "b"), ["c"], ()]) == ["ab", "c", ""]
    assert pool.apply(pow, (2, 3)) == 8
    assert pool.map(functools.partial(pow, 2), [1, 2]) == [2, 4]
    assert pool.map(lambda item: item + 1, [1, 2]) == [2, 3]


@pytest.mark.parametrize("items", [[], iter(())])
def test_no_items_give_no_results(pool, items):
    called = []
    result = pool.map_async(util_jobs.double, items, callback=called.append)
    assert (result.ready(), result.get(), called) == (True, [], [])
    assert list(pool.imap(util_jobs.double, [])) == []


def test_large_functions_and_results_travel(pool):
    ballast = bytes(300_000)
    assert pool.map(lambda item: (len(ballast), bytes(item)), [200_000]) == [
        (300_000, bytes(200_000))
    ]


def test_unordered_results_come_as_they_are_done(pool, started, pipes):
    gates = pipes(2)
    paths = [gate.path for gate in gates]
    hold = functools.partial(util_jobs.say_and_hold, started.path)
    iterator = pool.imap_unordered(lambda item: hold(paths[item], item), [0, 1])
    for _ in range(2):
        started.hear()
    gates[1].tell()
    assert iterator.next(GUARD) == 1
    gates[0].tell()
    assert iterator.next(GUARD) == 0


def test_ordered_results_wait_for_the_one_before(pool, started, pipes):
    gates = pipes(2)
    paths = [gate.path for gate in gates]
    hold = functools.partial(util_jobs.say_and_hold, started.path)
    iterator = pool.imap(lambda item: hold(paths[item], item), [0, 1])
    for _ in range(2):
        started.hear()
    gates[1].tell()
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(timeout=0.05)
    gates[0].tell()
    assert list(iterator) == [0, 1]


# ---------------------------------------------------------------- errors


def test_exception_is_the_users_own_with_the_traceback_as_its_cause(pool):
    with pytest.raises(jobs.CustomError) as caught:
        pool.apply(util_jobs.fail_at, (1, 1))
    assert type(caught.value) is jobs.CustomError
    assert caught.value.code == 1
    assert type(caught.value.__cause__) is multiprocessing.pool.RemoteTraceback
    assert "in fail_at" in str(caught.value.__cause__)
    assert "run_chunk" not in str(caught.value.__cause__)


def test_map_raises_the_error_once_all_chunks_have_ended(pool, notes):
    def work(item):
        if item == 1:
            raise KeyError(item)
        return util_jobs.note_and_return(notes, item)

    with pytest.raises(KeyError):
        pool.map(work, range(6), chunksize=1)
    assert sorted(jobs.notes(notes)) == ["0", "2", "3", "4", "5"]


def test_map_leaves_out_the_rest_of_a_chunk_that_failed(pool, notes):
    def work(item):
        util_jobs.note_and_return(notes, item)
        if item == 1:
            raise KeyError(item)

    with pytest.raises(KeyError):
        pool.map(work, range(6), chunksize=3)
    assert sorted(jobs.notes(notes)) == ["0", "1", "3", "4", "5"]


@pytest.mark.parametrize("chunksize", [1, 2, 10])
def test_imap_raises_an_error_at_its_place_and_goes_on(pool, chunksize):
    iterator = pool.imap(functools.partial(util_jobs.fail_at, 1), range(4), chunksize)
    assert next(iterator) == 0
    with pytest.raises(jobs.CustomError):
        next(iterator)
    assert list(iterator) == [2, 3]
    with pytest.raises(StopIteration):
        next(iterator)


def test_imap_raises_the_error_of_its_input_at_its_place(pool):
    def items():
        yield 1
        raise OSError("the disk")

    iterator = pool.imap(util_jobs.double, items())
    assert next(iterator) == 2
    with pytest.raises(OSError, match="the disk"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_exception_that_cannot_be_pickled_keeps_its_text(pool):
    def work():
        raise jobs.HoldsLockError("locked in")

    with pytest.raises(Exception, match="locked in"):
        pool.apply(work)


def test_result_that_cannot_be_pickled_is_a_type_error(pool):
    with pytest.raises(TypeError, match="pickle"):
        pool.apply(threading.Lock)


def test_function_that_cannot_be_pickled_is_refused_at_the_call(pool):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"func\.__closure__\['lock'\]"):
        pool.map_async(lambda item: lock, [1])


def test_item_that_cannot_be_pickled_is_the_error_of_its_chunk(pool):
    iterator = pool.imap(util_jobs.double, [1, threading.Lock(), 3])
    assert next(iterator) == 2
    with pytest.raises(TypeError, match="Could not serialize"):
        next(iterator)
    assert list(iterator) == [6]


# ---------------------------------------------------------------- waiting


def test_async_result_tells_how_far_it_is(pool, started, gate):
    result = pool.apply_async(util_jobs.say_and_hold, (started.path, gate.path, "x"))
    started.hear()
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    result.wait(timeout=0.01)
    gate.tell()
    result.wait()
    assert (result.ready(), result.successful(), result.get()) == (True, True, "x")
    failed = pool.apply_async(util_jobs.fail_at, (1, 1))
    failed.wait()
    assert (failed.ready(), failed.successful()) == (True, False)


def test_callbacks_are_called_before_the_result_is_ready_outside_the_engine(pool):
    seen = []

    def note(what):
        seen.append((what, threading.current_thread().name))

    pool.map_async(util_jobs.double, [1, 2], callback=note, error_callback=note).get()
    with pytest.raises(jobs.CustomError) as caught:
        pool.apply_async(util_jobs.fail_at, (1, 1), callback=note, error_callback=note).get()
    assert seen == [([2, 4], "aioray-pool"), (caught.value, "aioray-pool")]


def test_callback_that_raises_is_logged_and_the_pool_goes_on(pool, caplog):
    def explode(_value):
        raise RuntimeError("in the callback")

    assert pool.apply_async(util_jobs.double, (1,), callback=explode).get() == 2
    assert "in the callback" in caplog.text
    assert pool.apply(util_jobs.double, (2,)) == 4


def test_callback_that_waits_holds_up_no_other_item(started, gate):
    with Pool(1) as pool:
        first = pool.apply_async(util_jobs.double, (1,), callback=lambda _: started.hear())
        second = pool.apply_async(util_jobs.say_and_hold, (started.path, gate.path, 2))
        assert first.get(GUARD) == 2
        gate.tell()
        assert second.get(GUARD) == 2


def test_callback_may_use_the_pool(pool):
    chained = []
    done = threading.Event()

    def go_on(value):
        chained.append(pool.apply_async(util_jobs.double, (value,)))
        done.set()

    pool.apply_async(util_jobs.double, (1,), callback=go_on)
    assert done.wait(GUARD)
    assert chained[0].get() == 4


# ---------------------------------------------------------------- processes


def test_initializer_runs_once_in_each_process_of_the_pool(notes, started, gate):
    with Pool(2, util_jobs.set_up, (notes, "mine")) as pool:
        held = [
            pool.apply_async(util_jobs.say_and_hold, (started.path, gate.path, item))
            for item in range(2)
        ]
        pids = {started.hear().split()[1] for _ in held}
        for _ in held:
            gate.tell()
        found = pool.map(util_jobs.name_and_pid, range(50), chunksize=1)
        assert {name for name, _ in found} == {"mine"}
        assert {str(pid) for _, pid in found} <= pids
    assert sorted(jobs.notes(notes)) == sorted(pids)
    assert len(pids) == 2


def test_globals_set_by_an_initializer_of_main_are_seen_by_its_functions(drive):
    script = """
from aioray.util.multiprocessing import Pool
shared = None
def set_up(value):
    global shared, fresh
    shared, fresh = value, value + 1
class Reader:
    def __call__(self, item):
        return shared
def helper():
    return shared, fresh
def work(item):
    return helper()
def step(add, item):
    return shared + add
import functools
with Pool(1, set_up, (5,)) as pool:
    print(pool.map(work, [0]), pool.map(lambda item: shared, [0]), pool.map(Reader(), [0]),
          pool.map(functools.partial(step, 1), [0]), shared)
"""
    status, out, err = drive(script).finish()
    assert status == 0, err
    assert out == "[(5, 6)] [5] [5] [6] None\n"


def test_initializer_has_run_in_every_process_when_the_pool_is_there(notes):
    with Pool(2, util_jobs.set_up, (notes, "mine")) as pool:
        prepared = jobs.notes(notes)
        assert len(set(prepared)) == len(prepared) == 2
        found = pool.map(util_jobs.name_and_pid, range(20), chunksize=1)
        assert {str(pid) for _, pid in found} <= set(prepared)
        assert jobs.notes(notes) == prepared


def test_processes_are_prepared_though_others_hold_the_cpus_that_all_would_use(notes):
    holder = aioray.remote(num_cpus=1)(util_jobs.Watcher).remote()
    aioray.get(holder.__ray_ready__.remote())
    with Pool(2, util_jobs.set_up, (notes, "mine")):
        assert len(set(jobs.notes(notes))) == 2


def test_error_of_the_initializer_is_the_error_of_the_pool():
    with pytest.raises(jobs.CustomError, match="no database") as caught:
        Pool(2, util_jobs.break_up)
    assert "break_up" in str(caught.value.__cause__)  # as the worker saw it


@on_both_loops
async def test_initializer_runs_before_the_first_item_where_nobody_may_wait():
    aioray.shutdown()
    async with aioray.Engine(num_cpus=1):
        with Pool(1, util_jobs.break_up) as pool:
            result = pool.apply_async(util_jobs.double, (1,))
            with pytest.raises(jobs.CustomError, match="no database"):
                await asyncio.to_thread(result.get)


def test_two_pools_and_the_session_share_no_process(pool):
    with Pool(2) as other:
        found = [
            set(pool.map(util_jobs.pid, range(8), chunksize=1)),
            set(other.map(util_jobs.pid, range(8), chunksize=1)),
            set(aioray.get([aioray.remote(jobs.pid).remote() for _ in range(8)])),
        ]
    assert sum(map(len, found)) == len(set().union(*found))


def test_no_more_than_processes_items_run_at_once(started, gate):
    aioray.shutdown()
    aioray.init(num_cpus=4)
    with Pool(2) as pool:
        held = functools.partial(util_jobs.say_and_hold, started.path, gate.path)
        result = pool.map_async(held, range(6), chunksize=1)
        seen = [started.hear() for _ in range(2)]
        # Two more CPUs are free, and serve others meanwhile.
        assert aioray.get(aioray.remote(util_jobs.double).remote(1), timeout=GUARD) == 2
        assert aioray.available_resources()["CPU"] == 2.0
        for _ in range(4):
            gate.tell()
            seen.append(started.hear())
        gate.tell()
        gate.tell()
        assert result.get(GUARD) == list(range(6))
    assert len({line.split()[1] for line in seen}) == 2


def test_maxtasksperchild_replaces_the_process():
    with Pool(1, maxtasksperchild=2) as pool:
        pids = pool.map(util_jobs.pid, range(6), chunksize=1)
    assert [len(set(pids[at : at + 2])) for at in (0, 2, 4)] == [1, 1, 1]
    assert len(set(pids)) == 3


def test_chunk_of_a_crashed_worker_runs_again(pool, notes, caplog):
    assert pool.map(functools.partial(util_jobs.die_once, notes), range(3)) == [0, 1, 2]


def test_crash_is_an_error_of_its_chunk_if_retries_are_refused():
    with Pool(2, ray_remote_args={"max_retries": 0}) as pool:
        with pytest.raises(WorkerCrashedError):
            pool.map(util_jobs.die, [1])
        assert pool.map(util_jobs.double, [1]) == [2]


def test_options_reach_the_tasks(pool):
    args = {"num_cpus": 0.5, "runtime_env": {"env_vars": {"COLOUR": "red"}}}
    with Pool(4, ray_remote_args=args) as four:
        assert four.apply(jobs.variable, ("COLOUR",)) == "red"
        assert four.apply(jobs.context)["resources"] == {"CPU": 0.5}
        assert four.apply(jobs.context)["name"] == "context"
    with Pool(1, ray_remote_args={"name": "mine"}) as named:
        assert named.apply(jobs.context)["name"] == "mine"


# ---------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"processes": 0}, ValueError, "must be > 0"),
        ({"processes": 1.5}, TypeError, "integer"),
        ({"processes": 3}, ValueError, "the session has 2 CPUs"),
        ({"processes": 2, "ray_remote_args": {"num_cpus": 2}}, ValueError, "use 2 CPUs each"),
        ({"initializer": 1}, TypeError, "callable"),
        ({"maxtasksperchild": 0}, ValueError, "positive int"),
        ({"ray_remote_args": {"max_calls": 1}}, ValueError, "maxtasksperchild"),
        ({"ray_remote_args": {"num_returns": 2}}, ValueError, "one result"),
        ({"ray_remote_args": {"nosuch": 2}}, ValueError, "nosuch"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(arguments, error, text):
    threads = threading.active_count()
    with pytest.raises(error, match=text):
        Pool(**arguments)
    assert threading.active_count() == threads


def test_closed_pool_refuses_calls_and_finishes_those_it_has(pool, started, gate):
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    result = pool.apply_async(util_jobs.say_and_hold, (started.path, gate.path, 1))
    started.hear()
    pool.close()
    pool.close()
    for call in (pool.apply, pool.map_async, pool.imap):
        with pytest.raises(ValueError, match="Pool not running"):
            call(util_jobs.double, [1])
    with pytest.raises(ValueError, match="Pool not running"):
        pool.__enter__()
    gate.tell()
    pool.join()
    assert result.get() == 1


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
def test_chunksize_below_one_is_refused(pool, method):
    with pytest.raises(ValueError, match="Chunksize must be"):
        getattr(pool, method)(util_jobs.double, [1], chunksize=0)


def test_pool_cannot_be_sent_to_a_task(pool):
    with pytest.raises(TypeError, match="cannot be passed between processes"):
        pool.apply(len, (pool,))


def test_context_has_no_effect(pool):
    with Pool(1, context=multiprocessing.get_context("spawn")) as other:
        assert other.apply(util_jobs.double, (1,)) == 2


# ---------------------------------------------------------------- the end


def test_imap_reads_its_input_no_further_than_a_bounded_lead(pool):
    taken = []

    def endless():
        for item in itertools.count():
            taken.append(item)
            yield item

    iterator = pool.imap(util_jobs.double, endless(), chunksize=2)
    lead = len(taken)
    assert 0 < lead < 50
    assert [next(iterator) for _ in range(100)] == [2 * item for item in range(100)]
    assert len(taken) <= 100 + lead + 2


def test_no_more_items_run_at_once_than_the_pool_has_processes(notes):
    work = functools.partial(util_jobs.note_begin_and_end, notes)
    with Pool(1) as pool:  # in a session of two CPUs
        iterators = [pool.imap_unordered(work, [1, 2, 3]) for _ in range(2)]
        result = pool.map_async(work, range(2), chunksize=1)
        assert [sorted(iterator) for iterator in iterators] == [[1, 2, 3], [1, 2, 3]]
        assert result.get(GUARD) == [0, 1]
    assert jobs.notes(notes) == ["begin", "end"] * 8


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_quick_items_in_chunks_of_one_travel_together(pool, method, monkeypatch):
    client = registry.current()
    calls = []

    def submit(*call):
        calls.append(call)
        return type(client).submit(client, *call)

    monkeypatch.setattr(client, "submit", submit)
    values = list(getattr(pool, method)(util_jobs.double, range(5000)))
    assert sorted(values) == [2 * item for item in range(5000)]
    assert len(calls) < 1000


def test_arrays_are_the_own_of_whoever_gets_them(pool):
    items = [np.zeros(3), np.zeros(50_000)]
    for item, (had_flag, value) in zip(items, pool.imap(util_jobs.fill, items), strict=True):
        assert had_flag
        np.add(value, 1, out=value)
        assert value.sum() == 2 * item.size
        assert item.sum() == 0


def test_join_finishes_an_imap_that_nobody_has_read(pool, notes):
    items = range(100)
    iterator = pool.imap(functools.partial(util_jobs.note_and_return, notes), iter(items))
    pool.close()
    pool.join()
    assert len(jobs.notes(notes)) == 100
    assert list(iterator) == list(items)


def test_terminate_kills_what_runs_and_fails_what_waits(started, gate, watch):
    pool = Pool(2)
    hold = functools.partial(util_jobs.say_and_hold, started.path, gate.path)
    result = pool.map_async(hold, range(10), chunksize=1)
    iterator = pool.imap(hold, itertools.count())
    processes = watch(*(int(started.hear().split()[1]) for _ in range(2)))
    pool.terminate()
    pool.terminate()
    pool.join()
    assert processes.survivors() == []
    with pytest.raises(TaskCancelledError):
        result.get(GUARD)
    with pytest.raises(TaskCancelledError):
        iterator.next(GUARD)
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(util_jobs.double, (1,))


def test_chunk_that_is_handed_out_after_the_end_is_cancelled():
    pool = Pool(1)

    def items():
        yield 1
        pool.terminate()
        yield 2

    iterator = pool.imap(util_jobs.double, items())
    with contextlib.suppress(TaskCancelledError):
        assert iterator.next(GUARD) == 2  # it may have been in time
    with pytest.raises(TaskCancelledError):
        iterator.next(GUARD)
    with pytest.raises(StopIteration):
        iterator.next(GUARD)


def test_callback_may_end_the_pool():
    pool = Pool(1)
    ended = threading.Event()

    def end(_value):
        pool.terminate()
        ended.set()

    result = pool.apply_async(util_jobs.double, (1,), callback=end)
    assert ended.wait(GUARD)
    assert result.get(GUARD) == 2
    pool.join()


def test_leaving_the_block_terminates(started, gate, watch):
    with Pool(1) as pool:
        pool.apply_async(util_jobs.say_and_hold, (started.path, gate.path, 1))
        process = watch(int(started.hear().split()[1]))
    assert process.survivors() == []
    assert "TERMINATE" in repr(pool)


def test_pool_that_nobody_holds_ends_by_itself():
    pool = Pool(1)
    assert pool.apply(util_jobs.double, (1,)) == 2
    thread = pool._dispatcher.thread
    del pool
    thread.join(GUARD)
    assert not thread.is_alive()


def test_result_keeps_its_pool_alive(started, gate):
    result = Pool(1).apply_async(util_jobs.say_and_hold, (started.path, gate.path, 7))
    started.hear()
    gate.tell()
    assert result.get(GUARD) == 7
    result.pool.terminate()


def test_calls_end_with_the_session_that_serves_them(started, gate):
    pool = Pool(1)
    hold = functools.partial(util_jobs.say_and_hold, started.path, gate.path)
    result = pool.map_async(hold, range(3), chunksize=1)
    started.hear()
    aioray.shutdown()
    with pytest.raises((aioray.exceptions.RayError, RuntimeError)):
        result.get(GUARD)
    pool.terminate()


def test_pool_starts_a_session_with_its_number_of_cpus():
    aioray.shutdown()
    with Pool(3) as pool:
        assert aioray.cluster_resources()["CPU"] == 3.0
        assert len(pool.map(util_jobs.double, range(9))) == 9


@on_both_loops
async def test_waiting_on_the_engines_own_loop_is_refused():
    aioray.shutdown()
    async with aioray.Engine(num_cpus=1):
        with Pool(1) as pool:
            result = pool.apply_async(util_jobs.double, (1,))
            with pytest.raises(RuntimeError, match="would block the event loop"):
                result.get()
            iterator = pool.imap(util_jobs.double, [1])
            with pytest.raises(RuntimeError, match="would block the event loop"):
                next(iterator)
            assert await asyncio.to_thread(result.get) == 2
            assert await asyncio.to_thread(list, iterator) == [2]
            pool.close()
            await asyncio.to_thread(pool.join)


def test_alias_gives_the_same_pool(drive):
    script = """
from aioray import ray_alias
ray_alias.install()
import ray
from ray.util.multiprocessing import Pool
from ray.util.multiprocessing.pool import Pool as Same
import aioray.util.multiprocessing.pool
assert Pool is Same is ray.util.multiprocessing.Pool is aioray.util.multiprocessing.pool.Pool
with Pool(1) as pool:
    print(pool.map(abs, [-1]))
"""
    status, out, err = drive(script).finish()
    assert (status, out) == (0, "[1]\n"), err
