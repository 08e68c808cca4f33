"""`aioray.map`: many items, in chunks, and each an attempt of its own."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import gc
import math
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

import aioray
from aioray.exceptions import RayTaskError, TaskTimeoutError, WorkerCrashedError
from aioray.util.state import list_tasks

from . import jobs, mapped
from .support import everywhere

double = aioray.remote(mapped.double)


async def numbers(n, taken=None):
    for number in range(n):
        if number % 10 == 0:
            await asyncio.sleep(0)
        if taken is not None:
            taken.append(number)
        yield number


def with_(*common, n):
    return [(*common, x) for x in range(n)]


# ------------------------------------------------------------ values


@pytest.mark.parametrize("n", [0, 1, 7, 5_000])
def test_values_come_in_order(session, n):
    assert list(aioray.map(double, range(n))) == [2 * x for x in range(n)]


def test_unordered_values_are_the_same(session):
    values = list(aioray.map(double, range(5_000), ordered=False))
    assert sorted(values) == [2 * x for x in range(5_000)]


@everywhere
async def test_async_for_over_any_iterable():
    assert [x async for x in aioray.map(double, range(3_000))] == [2 * x for x in range(3_000)]
    assert [x async for x in aioray.map(double, numbers(300))] == [2 * x for x in range(300)]
    assert [x async for x in aioray.map(double, numbers(0))] == []
    values = aioray.map(double, numbers(3))
    assert [await anext(values), await anext(values), await anext(values)] == [0, 2, 4]
    with pytest.raises(StopAsyncIteration):
        await anext(values)


def test_next_takes_one_value_and_for_the_rest(session):
    values = aioray.map(double, range(4))
    assert next(values) == 0
    assert list(values) == [2, 4, 6]
    with pytest.raises(StopIteration):
        next(values)


@pytest.mark.parametrize(
    ("function", "items", "star", "expected"),
    [
        (mapped.double, [1, 2], False, [2, 4]),
        (mapped.double_later, [1, 2], False, [2, 4]),
        (aioray.remote(mapped.double_later), [1, 2], False, [2, 4]),
        (double.options(num_cpus=2, name="twice"), [1, 2], False, [2, 4]),
        (math.sqrt, [4, 9], False, [2.0, 3.0]),
        (int, ["4", "9"], False, [4, 9]),
        (functools.partial(mapped.add, 10), [4, 9], False, [14, 19]),
        (lambda x: x + 1, [1, 2], False, [2, 3]),
        (mapped.add, [(1, 2), (3, 4)], True, [3, 7]),
        (aioray.remote(mapped.add), zip([1, 3], [2, 4], strict=True), True, [3, 7]),
    ],
)
def test_any_function_may_be_mapped(session, function, items, star, expected):
    assert list(aioray.map(function, items, star=star)) == expected


def test_refs_among_the_items_are_passed_as_their_values(session):
    items = [1, aioray.put(2), double.remote(5), 4]
    assert list(aioray.map(double, items)) == [2, 4, 20, 8]


def test_refs_among_the_values_are_alive(session):
    found = list(aioray.map(mapped.ref_to, range(20)))
    assert aioray.get([ref for (ref,) in found]) == list(range(20))


def test_large_items_and_values_go_through_the_store(session):
    items = (np.full(100_000, x) for x in range(12))
    assert list(aioray.map(mapped.size_of, items)) == [800_000] * 12
    values = list(aioray.map(mapped.array, range(12)))
    assert [(value[0], len(value)) for value in values] == [(x, 50_000) for x in range(12)]


def test_a_value_is_as_it_was_when_the_function_returned(session):
    assert list(aioray.map(mapped.same_list, range(500))) == [[x] for x in range(500)]


KINDS = ("int", "float", "bool", "None", "str", "tuple", "big", "mixed")


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_every_kind_come_as_they_are(session, kind):
    found = list(aioray.map(functools.partial(mapped.as_kind, kind), range(20_000)))
    expected = [mapped.as_kind(kind, x) for x in range(20_000)]
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    "items",
    [range(3, 9_000, 7), list(range(9_000)), tuple(range(9_000)), iter(range(9_000)), range(0)],
)
def test_items_come_from_any_iterable(session, items):
    expected = [2 * x for x in (range(9_000) if isinstance(items, Iterator) else items)]
    assert list(aioray.map(double, items)) == expected


def test_each_item_alone_if_that_is_wished(session):
    values = aioray.map(double, range(50), max_chunk_size=1)
    assert list(values) == [2 * x for x in range(50)]
    assert values.counts.done == 50


@pytest.mark.parametrize("function", [mapped.nested, mapped.nested_on_loop])
def test_a_task_can_map(session, function):
    assert aioray.get([aioray.remote(function).remote(n) for n in (300, 3)]) == [89_700, 6]


# ------------------------------------------------------------ as they are finished


@everywhere
async def test_a_slow_item_holds_nobody_else_up(started, gate):
    n = 500
    seen = []
    async for value in aioray.map(
        mapped.wait_at, with_(started.path, gate.path, 300, n=n), ordered=False
    ):
        seen.append(value)
        if len(seen) == n - 1:
            gate.tell()
    assert await started.heard() == "begun"
    assert seen[-1] == 300
    assert sorted(seen) == list(range(n))


def test_values_before_a_slow_item_come_although_it_runs(session, started, gate):
    values = aioray.map(mapped.wait_at, with_(started.path, gate.path, 300, n=500))
    for expected in range(300):
        assert next(values) == expected
    gate.tell()
    assert list(values) == list(range(300, 500))


def test_no_more_is_taken_from_the_input_than_there_is_room_for(session):
    taken = []
    values = aioray.map(double, map(taken.append, range(10_000)), max_in_flight=7)
    with pytest.raises(TypeError):
        next(values)  # None cannot be doubled: but what was taken counts
    assert len(taken) <= 7


@everywhere
async def test_an_asynchronous_input_waits_for_room():
    taken = []
    values = aioray.map(double, numbers(1_000, taken), max_in_flight=5)
    for expected in range(20):
        assert await anext(values) == 2 * expected
        assert len(taken) <= expected + 1 + 5 + 1  # one more waits to be let in
    await values.aclose()


def test_memory_stays_flat(session):
    values = aioray.map(double, range(10**9))
    for _ in range(100_000):
        next(values)
    before = mapped.live_objects()
    for _ in range(400_000):
        next(values)
    assert mapped.live_objects() < before + 20_000
    values.close()


# ------------------------------------------------------------ crashes


@pytest.mark.parametrize("how", ["exit", "kill", "sys.exit"])
def test_a_crash_repeats_the_item_that_ran_and_no_other(session, tmp_path, how):
    path = tmp_path / "runs"
    values = list(aioray.map(mapped.die_once, with_(path, how, 150, n=300)))
    assert values == list(range(300))
    runs = jobs.notes(path)
    assert [x for x in range(300) if runs.count(str(x)) != 1] == [150]
    assert runs.count("150") == 2


def test_a_poison_item_fails_alone_after_its_own_retries(session, tmp_path):
    path = tmp_path / "runs"
    die = aioray.remote(max_retries=2)(mapped.die_always)
    values = list(aioray.map(die, with_(path, 40, n=100), return_exceptions=True))
    failed = values.pop(40)
    assert isinstance(failed, WorkerCrashedError)
    assert failed.signal == "SIGKILL"
    assert [(each.number, each.error_type) for each in failed.attempts] == [
        (0, "WORKER_DIED"),
        (1, "WORKER_DIED"),
        (2, "WORKER_DIED"),
    ]
    assert values == [x for x in range(100) if x != 40]
    runs = jobs.notes(path)
    assert {x: runs.count(str(x)) for x in range(100) if runs.count(str(x)) != 1} == {40: 3}


@pytest.mark.parametrize("kind", KINDS)
def test_quick_items_before_a_poison_item_run_once(session, tmp_path, kind):
    path = tmp_path / "runs"
    die = aioray.remote(max_retries=1)(
        functools.partial(mapped.as_kind_with_deaths, kind, path, 5_000)
    )
    values = list(aioray.map(die, range(6_000), return_exceptions=True))
    assert isinstance(values.pop(5_000), WorkerCrashedError)
    assert values == [mapped.as_kind(kind, x) for x in range(6_000) if x != 5_000]
    runs = collections.Counter(map(int, jobs.notes(path)))
    assert runs.pop(5_000) == 2
    assert runs == {x: 1 for x in range(4_951, 6_000) if x != 5_000}


@everywhere
async def test_a_poison_item_ends_the_map_unless_errors_are_returned(tmp_path):
    die = aioray.remote(max_retries=0)(mapped.die_always)
    seen = []
    with pytest.raises(WorkerCrashedError):
        async for value in aioray.map(die, with_(tmp_path / "runs", 40, n=1_000)):
            seen.append(value)  # noqa: PERF401 - up to the error
    assert seen == list(range(40))


# ------------------------------------------------------------ errors


def test_errors_are_raised_in_their_turn_with_their_own_type(session):
    seen = []
    with pytest.raises(LookupError) as raised:
        for value in aioray.map(mapped.fail_at, with_(30, n=1_000)):
            seen.append(value)  # noqa: PERF402 - up to the error
    assert seen == list(range(30))
    assert isinstance(raised.value, RayTaskError)
    assert "fail_at" in str(raised.value)
    assert [each.ended for each in raised.value.attempts] == ["raised LookupError: 30"]


def test_errors_are_returned_in_place_of_values(session):
    values = list(aioray.map(mapped.fail_at, with_(30, n=60), return_exceptions=True))
    failed = values.pop(30)
    assert isinstance(failed, LookupError)
    assert values == [x for x in range(60) if x != 30]


def test_items_are_retried_one_by_one_with_the_rules_of_the_function(session, tmp_path):
    path = tmp_path / "runs"
    culprits = [10, 20, 99]
    flaky = aioray.remote(max_retries=2, retry_exceptions=[ValueError])(mapped.fail_at_first)
    values = aioray.map(flaky, with_(path, 2, culprits, n=100))
    assert list(values) == list(range(100))
    assert sorted(jobs.notes(path)) == sorted([str(x) for x in culprits] * 3)
    assert values.counts.retries == 6


def test_an_error_that_is_not_listed_is_not_retried(session, tmp_path):
    path = tmp_path / "runs"
    flaky = aioray.remote(retry_exceptions=[KeyError])(mapped.fail_at_first)
    with pytest.raises(ValueError, match="5"):
        list(aioray.map(flaky, with_(path, 1, [5], n=10)))
    assert jobs.notes(path) == ["5"]


def test_a_value_that_cannot_be_serialized_fails_its_item_only(session):
    values = list(aioray.map(mapped.unpicklable_at, with_(3, n=6), return_exceptions=True))
    failed = values.pop(3)
    assert isinstance(failed, TypeError)
    assert "not me" in str(failed)
    assert values == [0, 1, 2, 4, 5]


def test_an_item_that_cannot_be_serialized_fails_alone(session):
    items = [1, mapped.Unpicklable(), 3]
    first, failed, last = aioray.map(double, items * 1, return_exceptions=True)
    assert (first, last) == (2, 6)
    assert isinstance(failed, TypeError)
    assert "Could not serialize" in str(failed)


def test_an_item_that_cannot_be_loaded_in_the_worker_fails_alone(session):
    items = [*range(200), mapped.Bomb(), *range(50)]
    values = list(aioray.map(double, items, return_exceptions=True))
    failed = values.pop(200)
    assert isinstance(failed, RuntimeError)
    assert values == [2 * x for x in [*range(200), *range(50)]]


def test_a_ref_whose_task_failed_fails_its_item_only(session):
    ref = aioray.remote(mapped.fail_at).remote((1, 1))
    values = list(aioray.map(double, [1, ref, 3], return_exceptions=True))
    assert isinstance(values.pop(1), LookupError)
    assert values == [2, 6]


# ------------------------------------------------------------ limits of time


@pytest.fixture
def prepared():
    """A session whose workers have imported everything: an import counts, and may take long."""
    aioray.init(num_cpus=2, preload=["tests.process.mapped"])
    yield
    aioray.shutdown()


def test_an_item_that_takes_too_long_fails_alone(prepared, started):
    hang = aioray.remote(timeout=2.0)(mapped.hang_at)
    values = list(aioray.map(hang, with_(started.path, 40, n=100), return_exceptions=True))
    failed = values.pop(40)
    assert isinstance(failed, TaskTimeoutError)
    assert (failed.limit, failed.seconds) == ("timeout", 2.0)
    assert [each.error_type for each in failed.attempts] == ["TASK_TIMEOUT"]
    assert values == [x for x in range(100) if x != 40]
    assert (started.hear(), started.hear()) == ("begun", "interrupted")


def test_a_deadline_holds_for_all_attempts_of_an_item(prepared):
    assert list(aioray.map(double, range(2), max_chunk_size=1)) == [0, 2]  # workers are there
    fail = aioray.remote(
        deadline=4.0,
        max_retries=-1,
        retry_exceptions=True,
        retry=aioray.RetryPolicy(initial_delay=0.1, factor=1.0, jitter=False),
    )(mapped.fail_at)
    values = list(aioray.map(fail, with_(3, n=6), return_exceptions=True))
    failed = values.pop(3)
    assert isinstance(failed, TaskTimeoutError)
    assert (failed.limit, failed.seconds) == ("deadline", 4.0)
    assert len(failed.attempts) > 2
    assert values == [0, 1, 2, 4, 5]


def test_it_is_tried_again_if_that_was_asked_for(prepared, started):
    hang = aioray.remote(timeout=1.0, max_retries=1, retry_exceptions=[TimeoutError])
    jobs_given = with_(started.path, 5, n=10)
    with pytest.raises(TaskTimeoutError) as raised:
        list(aioray.map(hang(mapped.hang_at), jobs_given))
    assert [each.number for each in raised.value.attempts] == [0, 1]


# ------------------------------------------------------------ the state API


def rows():
    return [
        (row.name, row.state, row.map_items, row.error_type)
        for row in list_tasks(detail=True)
        if row.map_items
    ]


def counts(taken, done, failed=0, in_flight=0, retries=0):
    return {
        "taken": taken,
        "done": done,
        "failed": failed,
        "in_flight": in_flight,
        "retries": retries,
    }


def test_a_map_is_one_row_with_counts(session):
    list(aioray.map(double, range(3_000)))
    assert rows() == [("double", "FINISHED", counts(3_000, 3_000), None)]
    assert len(list_tasks()) == 1


def test_a_map_that_runs_has_its_row_too(session, started):
    with pytest.raises(ValueError, match="enough"):
        list(aioray.map(mapped.hang_at, heard(started)))
    (row,) = rows()
    assert row[:2] == ("hang_at", "FAILED")
    assert row[3] == "TASK_EXECUTION_EXCEPTION"


def heard(started):
    yield (started.path, 0, 0)
    assert started.hear() == "begun"
    ((name, state, _, _),) = rows()
    assert (name, state) == ("hang_at", "RUNNING")
    raise ValueError("enough")


def test_a_map_in_a_task_has_that_as_its_parent(session):
    ref = aioray.remote(mapped.nested).remote(10)
    assert aioray.get(ref) == 90
    by_name = {row.name: row for row in list_tasks(detail=True)}
    assert set(by_name) == {"double", "nested"}
    assert by_name["double"].parent_task_id == by_name["nested"].task_id


def test_a_map_with_failures_counts_them(session, tmp_path):
    flaky = aioray.remote(max_retries=1, retry_exceptions=True)(mapped.fail_at_first)
    list(aioray.map(flaky, with_(tmp_path / "runs", 5, [2], n=10), return_exceptions=True))
    assert rows() == [("fail_at_first", "FINISHED", counts(10, 9, failed=1, retries=1), None)]


# ------------------------------------------------------------ ending early


@everywhere
async def test_break_interrupts_what_runs(started):
    async for _ in aioray.map(mapped.hang_at, with_(started.path, 1, n=100)):
        assert await started.heard() == "begun"
        break
    assert await started.heard() == "interrupted"
    assert [x async for x in aioray.map(double, range(10))] == [2 * x for x in range(10)]


def test_break_in_a_plain_loop_interrupts_what_runs(session, started):
    values = aioray.map(mapped.hang_at, with_(started.path, 1, n=100))
    for _ in values:
        assert started.hear() == "begun"
        break
    assert started.hear() == "interrupted"
    assert values.counts.in_flight == 0


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_closing_and_dropping_do_too(session, started, how):
    values = aioray.map(mapped.hang_at, with_(started.path, 1, n=100))
    assert next(values) == 0
    assert started.hear() == "begun"
    if how == "close":
        values.close()
        with pytest.raises(StopIteration):
            next(values)
    elif how == "with":
        with values:
            pass
    else:
        gone = weakref.ref(values)
        del values
        gc.collect()
        assert gone() is None
    assert started.hear() == "interrupted"


@everywhere
async def test_cancelling_who_iterates_interrupts_what_runs(started):
    async def consume():
        async for _ in aioray.map(mapped.hang_at, with_(started.path, 0, n=100)):
            pass

    consumer = asyncio.create_task(consume())
    assert await started.heard() == "begun"
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert await started.heard() == "interrupted"


@everywhere
async def test_leaving_the_block_waits_until_what_ran_was_interrupted(started):
    async with aioray.map(mapped.hang_at, with_(started.path, 1, n=100)) as values:
        assert await anext(values) == 0
        assert await started.heard() == "begun"
    assert started._line() == "interrupted"
    with pytest.raises(StopAsyncIteration):
        await anext(values)


def test_an_error_of_the_input_comes_out_and_interrupts_what_runs(session, started):
    def items():
        yield (started.path, 0, 0)
        assert started.hear() == "begun"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(aioray.map(mapped.hang_at, items()))
    assert started.hear() == "interrupted"


@everywhere
async def test_an_error_of_an_asynchronous_input_does_too(started):
    async def items():
        yield (started.path, 0, 0)
        assert await started.heard() == "begun"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        async for _ in aioray.map(mapped.hang_at, items()):
            pass
    assert await started.heard() == "interrupted"


def test_a_task_that_breaks_interrupts_what_runs(session, started):
    assert aioray.get(aioray.remote(mapped.nested_break).remote(started.path)) == "broke"
    heard = []
    while "broke" not in heard or heard.count("begun") != heard.count("interrupted"):
        heard.append(started.hear())
    assert set(heard) <= {"begun", "broke", "interrupted"}


def test_errors_end_what_runs(session, started):
    def items():
        yield (started.path, 1, 0)
        yield (started.path, 1, 1)
        assert started.hear() == "begun"
        yield None  # no item that it takes

    with pytest.raises(TypeError):
        list(aioray.map(mapped.hang_at, items(), ordered=False))
    assert started.hear() == "interrupted"


# ------------------------------------------------------------ wrong uses


@aioray.remote
class Actor:
    def method(self, x):
        return x


def yielding(x):
    yield x


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((mapped.double, [1], [2]), {}, "zip them and pass star=True"),
        ((mapped.double, 5), {}, "takes an iterable"),
        ((5, [1]), {}, "takes a remote function, or a plain callable"),
        ((Actor, [1]), {}, "ActorPool"),
        ((yielding, [1]), {}, "generator function"),
        ((aioray.remote(num_returns=2)(mapped.double), [1]), {}, "num_returns=1"),
        ((mapped.add, [1]), {}, "pass star=True"),
        ((mapped.double, [1]), {"max_in_flight": 1.5}, "max_in_flight must be an integer"),
    ],
)
def test_wrong_uses_say_what_to_do(arguments, keywords, message):
    with pytest.raises(TypeError, match=message):
        aioray.map(*arguments, **keywords)


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="max_chunk_size must be an integer >= 1"):
        aioray.map(mapped.double, [1], max_chunk_size=0)


def test_a_map_is_iterated_once(session):
    values = aioray.map(double, range(3))
    assert list(values) == [0, 2, 4]
    with pytest.raises(RuntimeError, match="once only"):
        iter(values)


def test_an_asynchronous_input_needs_async_for(session):
    with pytest.raises(TypeError, match="async for"):
        iter(aioray.map(double, numbers(3)))


async def test_a_plain_loop_would_block_the_engines_loop():
    async with aioray.Engine(num_cpus=1):
        with pytest.raises(RuntimeError, match="async for"):
            list(aioray.map(double, range(3)))


def test_shutdown_ends_a_map_with_an_error():
    aioray.init(num_cpus=1)
    values = aioray.map(double, range(10**9))
    assert next(values) == 0
    aioray.shutdown()
    with pytest.raises((RuntimeError, aioray.exceptions.RayError)):
        for _ in values:
            pass
    with contextlib.suppress(StopIteration):
        next(values)
