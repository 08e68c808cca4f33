"""Generator tasks: items as they come, in order, whoever reads them, whatever goes wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal

import numpy as np
import pytest

import aioray
from aioray import CancelOutcome, ObjectRefGenerator
from aioray.exceptions import (
    RayTaskError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
    WorkerCrashedError,
)
from aioray.testing import lose
from aioray.util.annotations import RayDeprecationWarning

from . import jobs, yielding
from .support import GUARD, everywhere
from .test_errors import error_of
from .test_objects import COUNT, settled, used

count = aioray.remote(yielding.count)
fail_after = aioray.remote(yielding.fail_after)


async def items(generator):
    return [await ref async for ref in generator]


@everywhere
async def test_items_come_in_order_as_refs():
    generator = count.remote(100)
    assert isinstance(generator, ObjectRefGenerator)
    assert await items(generator) == list(range(100))
    assert await items(generator) == []
    assert await generator.completed() is None
    assert await items(count.options(num_returns="streaming").remote(2)) == [0, 1]
    assert await items(count.remote(0)) == []


def test_for_and_next_in_a_plain_script(session):
    generator = count.remote(3)
    assert aioray.get(next(generator)) == 0
    assert [aioray.get(ref) for ref in generator] == [1, 2]
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(StopIteration):
        next(generator)


def test_next_sync_gives_the_nil_ref_when_its_time_is_over(session, started, gate):
    generator = aioray.remote(yielding.hold_after).remote(started.path, gate.path, 1)
    assert aioray.get(generator._next_sync(GUARD)) == 0
    assert generator._next_sync(timeout_s=0).is_nil()
    gate.tell("go")
    assert aioray.get(generator._next_sync()) == "go"
    for timeout in (None, 0):
        with pytest.raises(StopIteration):
            generator._next_sync(timeout)


@everywhere
async def test_items_can_be_read_while_the_task_goes_on(started, gate):
    generator = aioray.remote(yielding.hold_after).remote(started.path, gate.path, 2)
    await started.heard()
    assert [await (await anext(generator)) for _ in range(2)] == [0, 1]
    assert not generator.next_ready()
    assert not generator.is_finished()
    assert not generator.completed().done()
    gate.tell("third")
    assert await (await anext(generator)) == "third"
    assert await generator.completed() is None
    assert not generator.next_ready()
    assert generator.is_finished()
    with pytest.raises(StopAsyncIteration):
        await anext(generator)


@everywhere
async def test_large_items_are_freed_as_they_are_read():
    generator = aioray.remote(yielding.arrays).remote(5, COUNT)
    for number in range(5):
        ref = await anext(generator)
        assert np.array_equal(await ref, jobs.numbers(COUNT, number))
        del ref
    assert await items(generator) == []
    assert await settled() == 0


@everywhere
async def test_items_are_arguments_like_any_ref():
    refs = [ref async for ref in aioray.remote(yielding.arrays).remote(3, COUNT)]
    total = aioray.remote(jobs.total)
    expected = [jobs.total(jobs.numbers(COUNT, number)) for number in range(3)]
    assert await asyncio.gather(*[total.remote(ref) for ref in refs]) == expected
    assert await total.remote(*refs) == sum(expected)


@everywhere
async def test_error_is_the_last_item():
    generator = fail_after.remote(2)
    refs = [ref async for ref in generator]
    assert [await ref for ref in refs[:2]] == [0, 1]
    error = await error_of(refs[2])
    assert isinstance(error, ValueError)
    assert error.args[0].args == ("after", 2)
    assert len(refs) == 3
    assert await generator.completed() is None


@everywhere
async def test_item_that_cannot_be_pickled_is_an_error():
    first, second = [ref async for ref in aioray.remote(yielding.yield_unpicklable).remote()]
    assert await first == 1
    error = await error_of(second)
    assert isinstance(error, TypeError)
    assert "item 1" in str(error)


@everywhere
async def test_arguments_that_fail_are_the_only_item():
    generator = count.remote(aioray.remote(jobs.fail).remote())
    (ref,) = [ref async for ref in generator]
    assert isinstance(await error_of(ref), ValueError)
    assert isinstance(await error_of(generator.completed()), ValueError)


@everywhere
async def test_broken_stream_goes_on_where_it_was(notes):
    generator = aioray.remote(yielding.die_at).remote(notes, 4, 1)
    assert await items(generator) == [(0, 0), (1, 0), (2, 1), (3, 1)]


@everywhere
async def test_crash_without_retries_is_the_last_item_and_the_end(notes):
    generator = aioray.remote(max_retries=0)(yielding.die_at).remote(notes, 4, 9)
    refs = [ref async for ref in generator]
    assert [await ref for ref in refs[:-1]] == [(0, 0), (1, 0)]
    assert isinstance(await error_of(refs[-1]), WorkerCrashedError)
    assert isinstance(await error_of(generator.completed()), WorkerCrashedError)


@everywhere
async def test_retry_that_yields_less_is_told(notes):
    generator = aioray.remote(yielding.fewer_each_time).remote(notes, 5)
    refs = [ref async for ref in generator]
    assert [await ref for ref in refs[:-1]] == [0, 1, 2, 3]
    error = await error_of(refs[-1])
    assert isinstance(error, StreamingGeneratorReplayInconsistentError)
    assert "3 items, after it had yielded 4" in str(error)


@everywhere
async def test_backpressure_holds_the_producer(notes):
    noted = aioray.remote(_generator_backpressure_num_objects=2)(yielding.noted)
    generator = noted.remote(notes, 10)
    for number in range(10):
        assert await (await anext(generator)) == number
        # Two unread ones may wait, and the next one may be on its way to being yielded.
        assert len(jobs.notes(notes)) <= number + 1 + 2 + 1
    assert await items(generator) == []
    assert len(jobs.notes(notes)) == 10


@everywhere(num_cpus=1)
async def test_producer_that_is_held_leaves_its_cpu_to_others(notes):
    noted = aioray.remote(_generator_backpressure_num_objects=1)(yielding.noted)
    generator = noted.remote(notes, 3)
    first = await anext(generator)
    assert await aioray.remote(jobs.add).remote(first, 1) == 1
    assert await items(generator) == [1, 2]


@everywhere(num_cpus=1)
async def test_backpressure_of_minus_one_is_none(notes):
    noted = aioray.remote(_generator_backpressure_num_objects=-1)(yielding.noted)
    generator = noted.remote(notes, 5)
    assert await generator.completed() is None
    assert len(jobs.notes(notes)) == 5


def test_what_has_come_can_be_drained_without_waiting(session):
    generator = count.remote(3)
    aioray.get(generator.completed())
    found = []
    while generator.next_ready():
        found.append(aioray.get(next(generator)))
    assert found == [0, 1, 2]
    assert generator.is_finished()


@everywhere
async def test_dropped_generator_lets_its_task_run_on(notes):
    noted = aioray.remote(_generator_backpressure_num_objects=1)(yielding.noted)
    generator = noted.remote(notes, 20)
    await anext(generator)
    end = generator.completed()
    del generator
    gc.collect()
    assert await end is None
    assert len(jobs.notes(notes)) == 20


@everywhere
async def test_unread_items_are_freed_with_the_generator():
    generator = aioray.remote(yielding.arrays).remote(3, COUNT)
    assert await generator.completed() is None
    assert used() > 0
    del generator
    assert await settled() == 0


@everywhere
async def test_cancel_ends_the_stream(started, notes):
    os.mkfifo(started.path + "-never")
    generator = aioray.remote(yielding.clean_up_after).remote(started.path, notes, 2)
    await started.heard()
    assert await aioray.cancel(generator) is CancelOutcome.INTERRUPTED
    refs = [ref async for ref in generator]
    assert [await ref for ref in refs[:2]] == [0, 1]
    assert isinstance(await error_of(refs[2]), TaskCancelledError)
    assert jobs.notes(notes) == ["cleaned up"]


@pytest.mark.parametrize("how", ["aclose", "async with"])
@everywhere
async def test_closing_cancels_a_producer_that_is_held(how, started, notes):
    endless = aioray.remote(_generator_backpressure_num_objects=1)(yielding.pause_and_clean_up)
    generator = endless.remote(started.path, notes)
    if how == "aclose":
        assert await (await anext(generator)) == 0
        await generator.aclose()
    else:
        async with generator:
            async for ref in generator:
                assert await ref == 0
                break
    assert await started.heard() == "over"
    assert await items(generator) == []
    assert isinstance(await error_of(generator.completed()), TaskCancelledError)


@everywhere
async def test_items_are_read_in_tasks_too(started, notes):
    found, end = await aioray.remote(yielding.read_in_task).remote(5)
    assert found == [0, 1, 2, 3, 4, ("after", 1)]
    assert end is None
    assert await aioray.remote(yielding.await_in_task).remote(5) == [0, 1, 2, 3, 4]
    assert await aioray.remote(yielding.pass_to_others).remote(5) == [1, 2, 3, 4, 5]
    assert await items(aioray.remote(yielding.relay).remote(4)) == [0, 10, 20, 30]
    leave = aioray.remote(yielding.read_one_and_leave)
    assert await leave.remote(started.path, notes) == 0
    assert await started.heard() == "over"


@everywhere
async def test_lost_item_is_yielded_again():
    generator = aioray.remote(yielding.arrays).remote(3, COUNT)
    refs = [ref async for ref in generator]
    lose(refs[1])
    assert np.array_equal(await refs[1], jobs.numbers(COUNT, 1))
    total = aioray.remote(jobs.total).remote(refs[2])
    expected = jobs.total(jobs.numbers(COUNT, 2))
    assert await total == expected
    for ref in refs:
        lose(ref)
    assert [jobs.total(await ref) for ref in refs][2] == expected


@everywhere
async def test_killed_producer_of_a_stream_that_is_read_is_run_again(started, gate):
    generator = aioray.remote(yielding.hold_after).remote(started.path, gate.path, 3)
    refs = [await anext(generator) for _ in range(3)]
    os.kill(int(await started.heard()), signal.SIGKILL)
    await started.heard()
    gate.tell("fourth")
    assert await items(generator) == ["fourth"]
    assert [await ref for ref in refs] == [0, 1, 2]


@everywhere
@pytest.mark.parametrize("wanted", ["at once", "later"])
async def test_item_lost_while_its_task_goes_on_is_computed_again_after_that(started, gate, wanted):
    generator = aioray.remote(max_retries=1)(yielding.arrays_and_hold).remote(
        started.path, gate.path, COUNT
    )
    first = await anext(generator)
    await started.heard()
    lose(first)
    reading = asyncio.ensure_future(asyncio.wait_for(first, GUARD)) if wanted == "at once" else None
    await asyncio.sleep(0)
    gate.tell()
    second = await (await anext(generator))
    assert await generator.completed() is None
    value = await (reading or asyncio.wait_for(first, GUARD))
    assert np.array_equal(value, jobs.numbers(COUNT, 0))
    assert np.array_equal(second, jobs.numbers(COUNT, 1))


def test_wait_takes_generators_and_refs(session, started, gate):
    holding = aioray.remote(yielding.hold_after).remote(started.path, gate.path, 0)
    started.hear()
    quick, ref = count.remote(1), aioray.remote(jobs.same).remote(1)
    aioray.get([ref, quick.completed()])
    ready, pending = aioray.wait([holding, quick, ref], num_returns=3, timeout=0)
    assert (ready, pending) == ([quick, ref], [holding])
    gate.tell("now")
    assert aioray.wait([holding])[0] == [holding]


def test_get_returns_a_generator_as_it_is_and_refuses_it_in_a_list(session):
    generator = count.remote(1)
    assert aioray.get(generator) is generator
    with pytest.raises(TypeError, match=r"not an ray\.ObjectRef"):
        aioray.get([generator])


def test_dynamic_generator_has_all_refs_at_the_end(session, notes):
    with pytest.warns(RayDeprecationWarning, match="dynamic"):
        dynamic = count.options(num_returns="dynamic")
    found = aioray.get(dynamic.remote(3))
    assert len(found) == 3
    assert [aioray.get(ref) for ref in found] == [0, 1, 2]
    assert (len(found), list(found)) == (0, [])  # used up
    with pytest.warns(RayDeprecationWarning):
        dying = aioray.remote(num_returns="dynamic")(yielding.die_at)
    assert [aioray.get(ref)[0] for ref in aioray.get(dying.remote(notes, 4, 1))] == [0, 1, 2, 3]
    with pytest.warns(RayDeprecationWarning):
        failing = fail_after.options(num_returns="dynamic").remote(2)
    assert outcomes(aioray.get(failing)) == [0, 1, "ValueError"]


def outcomes(refs):
    """The value of each ref, or the name of its error's class."""
    found = []
    for ref in refs:
        try:
            found.append(aioray.get(ref))
        except RayTaskError as error:
            found.append(type(error.cause).__name__)
    return found


def test_generator_that_fails_keeps_the_results_that_it_has_yielded(session, notes):
    actor = aioray.remote(yielding.Failing).remote()
    on_loop = aioray.remote(yielding.FailingOnLoop).remote()
    for failing in (fail_after, actor.after, on_loop.after):
        several = failing.options(num_returns=4)
        assert outcomes(several.remote(2)) == [0, 1, "ValueError", "ValueError"]
    count_four = count.options(num_returns=4)
    assert outcomes(count_four.remote(2)) == [0, 1, "ValueError", "ValueError"]
    locks = aioray.remote(yielding.yield_unpicklable)
    several = locks.options(num_returns=2, retry_exceptions=True)
    assert outcomes(several.remote()) == [1, "TypeError"]
    large = aioray.remote(yielding.fail_after_arrays).options(num_returns=3)
    *arrays, error = outcomes(large.remote(2, 200_000))
    assert [array.tolist() for array in arrays] == [
        jobs.numbers(200_000, number).tolist() for number in range(2)
    ]
    assert error == "ValueError"


def test_what_a_generator_yields_beyond_its_results_is_told_and_changes_nothing(session, capfd):
    assert aioray.get(count.options(num_returns=2).remote(5)) == [0, 1]
    assert aioray.get(fail_after.options(num_returns=2).remote(2)) == [0, 1]
    assert aioray.get(count.options(num_returns=1).remote(3)) == 0
    aioray.shutdown()
    told = capfd.readouterr().err
    assert "more than num_returns=2 values" in told
    assert "after all its 2 results were yielded" in told


def test_result_of_a_generator_that_fails_later_serves_those_who_waited_for_it(session, tmp_path):
    """1. A task takes each result. 2. The generator fails. 3. Only who needs the error has it."""
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    failing = aioray.remote(yielding.fail_at_gate).options(num_returns=2)
    with pytest.warns(RayDeprecationWarning):
        dynamic = aioray.remote(yielding.fail_at_gate).options(num_returns="dynamic")
    same = aioray.remote(jobs.same)
    waiting = [same.remote(ref) for ref in failing.remote(gate, 1)]
    jobs.say(gate, "go on")
    assert outcomes(waiting) == [0, "ValueError"]
    found = same.remote(dynamic.remote(gate, 1))
    jobs.say(gate, "go on")
    assert outcomes(aioray.get(found)) == [0, "ValueError"]


@pytest.mark.parametrize("how", ["send", "throw", "close", "asend", "athrow"])
def test_generator_is_a_one_way_street(session, how):
    generator = count.remote(1)
    argument = () if how == "close" else (None,)
    called = getattr(generator, how)
    with pytest.raises(NotImplementedError, match=r"aioray\.cancel"):
        asyncio.run(called(*argument)) if how.startswith("a") else called(*argument)


def test_generator_cannot_be_passed_on(session):
    generator = count.remote(1)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(generator)
    with pytest.raises(TypeError, match="cannot be pickled"):
        aioray.remote(jobs.same).remote(generator)
    with pytest.raises(TypeError, match="made by calling"):
        ObjectRefGenerator("x")
