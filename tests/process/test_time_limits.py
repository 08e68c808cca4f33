"""Time limits on real processes: whatever hangs, in whatever way, ends, and harms nobody else."""

from __future__ import annotations

import asyncio
import gc
import pickle

import psutil
import pytest

import aioray
from aioray.client.protocol import registry
from aioray.core import cancellation
from aioray.exceptions import (
    ActorDiedError,
    CircuitOpenError,
    RayTaskError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from aioray.util.state import list_tasks

from . import hanging, jobs
from .support import GUARD
from .test_errors import error_of

LIMIT = 0.5  # seconds; what hangs does so for ever, so a slow machine changes nothing
ENOUGH = 5.0  # seconds, for what has to be done within them on any machine
LONG = 60.0  # seconds that are never over

same = aioray.remote(hanging.same)


@pytest.fixture(autouse=True)
async def engine():
    """One whose workers have imported everything: an import counts, and may take long."""
    modules = ["tests.process.hanging", "aioray.api.objects", "asyncio"]
    async with aioray.Engine(num_cpus=2, preload=modules) as running:
        yield running


@pytest.fixture
def patient(monkeypatch):
    """Has the engine wait as long as need be for whoever listens to the interrupt."""
    monkeypatch.setattr(cancellation, "GRACE_SECONDS", GUARD)


def where(error):
    """The functions in the stack of an error."""
    return [line.rpartition(" in ")[2].strip() for line in error.python_stack.splitlines()]


def live():
    """What the running session says of itself."""
    with registry.current().own_session().view() as view:
        return view.live


def is_overrun(error, limit="timeout", seconds=LIMIT):
    assert type(error) is TaskTimeoutError
    assert isinstance(error, TimeoutError)
    assert (error.limit, error.seconds) == (limit, seconds)
    assert error.after >= seconds
    return True


# --- what hangs, and how ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "function"),
    [
        (hanging.sleeps, "sleeps"),
        (hanging.spins, "spins"),
        (hanging.holds_the_gil, "holds_the_gil"),
        (hanging.is_deaf, "is_deaf"),
        (hanging.awaits, "awaits"),
    ],
)
async def test_a_task_that_hangs_ends_and_tells_where_it_was(job, function):
    error = await error_of(aioray.remote(timeout=LIMIT)(job).remote())
    assert is_overrun(error)
    assert (error.task_name, error.attempt) == (job.__name__, 0)
    assert function in error.python_stack
    assert error.pid is not None
    assert f"has exceeded its timeout of {LIMIT:g} s" in str(error)
    assert f"pid {error.pid}" in str(error)
    assert [each.error_type for each in error.attempts] == ["TASK_TIMEOUT"]
    assert await same.remote("the next one runs") == "the next one runs"


async def test_the_error_survives_a_pickle_and_is_passed_on_to_dependents():
    ref = aioray.remote(timeout=LIMIT)(hanging.sleeps).remote()
    dependent = same.remote(ref)
    error = pickle.loads(pickle.dumps(await error_of(ref)))
    assert is_overrun(error)
    assert "sleeps" in where(error)
    passed_on = await error_of(dependent)
    assert isinstance(passed_on, RayTaskError)
    assert isinstance(passed_on, TaskTimeoutError)
    assert isinstance(passed_on, TimeoutError)
    assert passed_on.limit == "timeout"


async def test_a_task_that_waits_for_another_goes_on_counting_and_takes_it_along():
    leaf = aioray.remote(hanging.sleeps)
    error = await error_of(aioray.remote(timeout=LIMIT)(hanging.waits_for_another).remote(leaf))
    assert is_overrun(error)
    assert where(error)[-1] == "waits_for_another"
    assert [await same.remote(number) for number in range(3)] == [0, 1, 2]


async def test_a_worker_that_listens_lives_on(patient):
    hangs = aioray.remote(timeout=LIMIT, num_cpus=1)(hanging.sleeps)
    pids = {(await error_of(hangs.remote())).pid for _ in range(2)}
    assert all(psutil.pid_exists(pid) for pid in pids)


async def test_what_is_returned_or_raised_at_the_interrupt_stands(patient):
    assert await aioray.remote(timeout=LIMIT)(hanging.catches_and_returns).remote() == "a value"
    error = await error_of(aioray.remote(timeout=LIMIT)(hanging.catches_and_raises).remote())
    assert isinstance(error, ValueError)


async def test_time_in_the_queue_counts_for_the_deadline_only(started, gate):
    running = aioray.remote(num_cpus=2)(jobs.hold).remote(started.path, gate.path)
    await started.heard()
    late = aioray.remote(deadline=2.0)(hanging.same).remote(1)
    patient = aioray.remote(timeout=2.0)(hanging.same).remote(2)
    error = await error_of(late)
    assert is_overrun(error, "deadline", 2.0)
    assert (error.pid, error.attempt, error.python_stack) == (None, None, "")
    assert "It was not running then." in str(error)
    gate.tell("done")
    assert await running == "done"
    assert await patient == 2


async def test_a_running_task_ends_at_its_deadline_and_is_not_retried(notes):
    hangs = aioray.remote(deadline=2.0, max_retries=5, retry_exceptions=True)(hanging.hangs_once)
    await same.remote("a worker is there")
    assert is_overrun(await error_of(hangs.remote(notes)), "deadline", 2.0)
    assert len(jobs.notes(notes)) == 1


async def test_a_deadline_that_is_over_starts_nothing(notes):
    error = await error_of(aioray.remote(deadline=0)(hanging.hangs_once).remote(notes))
    assert is_overrun(error, "deadline", 0)
    assert jobs.notes(notes) == []


@pytest.mark.parametrize(
    "rule", [True, [TimeoutError], [TaskTimeoutError], lambda error: error.limit == "timeout"]
)
async def test_another_attempt_follows_if_the_rule_says_so(rule, notes):
    hangs = aioray.remote(timeout=1.0, max_retries=1, retry_exceptions=rule)(hanging.hangs_once)
    assert await hangs.remote(notes) == 1
    assert len(jobs.notes(notes)) == 2


@pytest.mark.parametrize("rule", [False, [ValueError], lambda error: 1 / 0])
async def test_no_attempt_follows_if_the_rule_does_not_say_so(rule, notes):
    hangs = aioray.remote(timeout=1.0, max_retries=1, retry_exceptions=rule)(hanging.hangs_once)
    assert is_overrun(await error_of(hangs.remote(notes)), seconds=1.0)
    assert len(jobs.notes(notes)) == 1


async def test_a_cancel_and_a_timeout_have_one_outcome(started):
    hangs = aioray.remote(timeout=LIMIT)(hanging.is_deaf)
    refs = [hangs.remote() for _ in range(2)]
    await asyncio.sleep(LIMIT)
    outcomes = [await aioray.cancel(ref) for ref in refs]
    for ref, outcome in zip(refs, outcomes, strict=True):
        error = await error_of(ref)
        cancelled = outcome is not aioray.CancelOutcome.FINISHED_FIRST
        assert isinstance(error, TaskCancelledError if cancelled else TaskTimeoutError)


# --- progress -----------------------------------------------------------------------------------


async def test_a_task_without_heartbeats_stalls():
    error = await error_of(aioray.remote(stall_timeout=0.5)(hanging.beats_and_hangs).remote(2))
    assert is_overrun(error, "stall_timeout", 0.5)
    assert "beats_and_hangs" in where(error)


async def test_a_thread_of_a_task_may_say_that_it_gets_on():
    assert await aioray.remote(stall_timeout=ENOUGH)(hanging.beats_in_a_thread).remote(60) == "done"


async def test_items_of_a_generator_are_heartbeats():
    items = aioray.remote(stall_timeout=ENOUGH)(hanging.yields).remote(60, 0.1)
    assert [await ref async for ref in items] == list(range(60))


async def test_a_generator_that_waits_to_be_read_does_not_stall():
    options = {"stall_timeout": 2.0, "_generator_backpressure_num_objects": 1}
    items = aioray.remote(**options)(hanging.yields).remote(3, 0.0)
    assert await (await anext(items)) == 0
    await asyncio.sleep(2.5)
    assert [await ref async for ref in items] == [1, 2]


async def test_a_generator_that_hangs_ends_with_the_error_after_its_items():
    items = aioray.remote(timeout=LIMIT)(hanging.yields_and_hangs).remote()
    assert await (await anext(items)) == 1
    assert is_overrun(await error_of(await anext(items)))


def test_a_heartbeat_of_the_driver_does_nothing():
    assert aioray.heartbeat() is None


# --- actors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [hanging.Asynchronous, hanging.Threaded])
async def test_a_call_beside_others_ends_and_the_others_go_on(cls, patient):
    options = {"max_concurrency": 4} if cls is hanging.Threaded else {}
    actor = aioray.remote(cls).options(**options).remote()
    error, value, done = await asyncio.gather(
        error_of(actor.hangs.remote()), actor.same.remote(5), actor.beats.remote(60)
    )
    assert is_overrun(error)
    assert "hangs" in error.python_stack
    assert (value, done) == (5, "done")
    assert await actor.same.remote(6) == 6


async def test_calls_that_begin_at_once_in_threads_all_have_their_limits(patient):
    actor = aioray.remote(hanging.Threaded).options(max_concurrency=16).remote()
    await actor.same.remote(0)
    errors = await asyncio.gather(*[error_of(actor.hangs.remote()) for _ in range(16)])
    assert all(map(is_overrun, errors))


async def test_a_method_is_interrupted_and_its_actor_lives_on(patient):
    actor = aioray.remote(hanging.Ordered).remote()
    assert await actor.add.remote() == 1
    hangs = actor.hangs.remote()
    behind = [actor.add.remote() for _ in range(3)]
    assert is_overrun(await error_of(hangs))
    assert [await ref for ref in behind] == [2, 3, 4]


async def test_an_actor_that_does_not_listen_is_made_again_and_the_calls_behind_are_kept():
    actor = aioray.remote(hanging.Ordered).options(max_restarts=1).remote()
    await actor.add.remote()
    deaf = actor.is_deaf.remote()
    behind = [actor.add.remote() for _ in range(3)]
    assert is_overrun(await error_of(deaf))
    assert [await ref for ref in behind] == [1, 2, 3]


@pytest.mark.parametrize("cls", [hanging.Asynchronous, hanging.Threaded])
async def test_an_actor_whose_calls_run_side_by_side_is_made_again_too(cls):
    options = {"max_concurrency": 4} if cls is hanging.Threaded else {}
    actor = aioray.remote(cls).options(max_restarts=1, **options).remote()
    assert is_overrun(await error_of(actor.is_deaf.remote()))
    assert await actor.same.remote(5) == 5


async def test_calls_that_waited_for_a_loop_that_was_held_up_are_kept():
    actor = aioray.remote(hanging.Asynchronous).options(max_restarts=1).remote()
    await actor.same.remote(0)
    deaf = actor.is_deaf.remote()
    behind = [actor.same.remote(number) for number in range(20)]
    assert is_overrun(await error_of(deaf))
    assert [await ref for ref in behind] == list(range(20))


async def test_an_actor_that_does_not_listen_and_may_not_be_made_again_tells_why_it_died():
    actor = aioray.remote(hanging.Ordered).remote()
    assert is_overrun(await error_of(actor.is_deaf.remote()))
    error = await error_of(actor.add.remote())
    assert isinstance(error, ActorDiedError)
    assert f"Ordered.is_deaf has exceeded its timeout of {LIMIT:g} s" in str(error)


async def test_the_limit_of_a_call_replaces_that_of_its_method():
    actor = aioray.remote(hanging.Ordered).remote()
    error = await error_of(actor.hangs.options(timeout=0.1).remote())
    assert is_overrun(error, "timeout", 0.1)


async def test_a_constructor_that_hangs_is_tried_again_within_the_restarts(notes):
    makes = aioray.remote(timeout=LIMIT)(hanging.Making)
    assert await makes.options(max_restarts=1).remote(notes, 1).pid.remote() is not None
    error = await error_of(makes.remote(notes, 99).pid.remote())
    assert is_overrun(error)
    assert error.task_name == "Making.__init__"
    assert "__init__" in where(error)


async def test_a_constructor_that_holds_up_the_loop_of_its_actor_ends():
    actor = aioray.remote(timeout=LIMIT)(hanging.AsyncMaking).remote()
    assert is_overrun(await error_of(actor.pid.remote()))


# --- what others see ----------------------------------------------------------------------------


async def test_the_state_api_tells_of_the_limit(notes):
    hangs = aioray.remote(
        timeout=LIMIT, max_retries=1, retry_exceptions=[TimeoutError], name="late"
    )(hanging.sleeps)
    await error_of(hangs.remote())
    rows = await asyncio.to_thread(list_tasks, filters=[("name", "=", "late")], detail=True)
    assert sorted((row.attempt_number, row.error_type) for row in rows) == [
        (0, "TASK_TIMEOUT"),
        (1, "TASK_TIMEOUT"),
    ]
    assert all(f"exceeded its timeout of {LIMIT:g} s" in row.error_message for row in rows)


async def test_limits_of_tasks_that_tasks_submit_count_too():
    leaf = aioray.remote(timeout=LIMIT)(hanging.sleeps)
    error = await error_of(aioray.remote(hanging.waits_for_another).remote(leaf))
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, RayTaskError)
    assert error.task_name == "sleeps"


async def test_many_deadlines_hold_nothing_of_what_has_ended():
    f = aioray.remote(deadline=LONG, timeout=LONG)(hanging.same)
    refs = [f.remote(number) for number in range(3_000)]
    assert await asyncio.gather(*refs) == list(range(3_000))
    del refs
    gc.collect()
    assert [
        each
        for each in gc.get_objects()
        if type(each).__name__ == "Task"
        and getattr(each, "name", "") == "same"
        and type(each).__module__ == "aioray.core.model"
    ] == []


# --- functions that kill their workers ------------------------------------------------------------


async def test_a_function_that_kills_its_workers_is_not_called_any_more():
    breaker = aioray.CrashBreaker(crashes=2, period=LONG, rest=LONG, name="poison")
    dies = aioray.remote(max_retries=0, breaker=breaker)(hanging.dies)
    for _ in range(2):
        assert isinstance(await error_of(dies.remote()), WorkerCrashedError)
    error = pickle.loads(pickle.dumps(await error_of(dies.remote())))
    assert type(error) is CircuitOpenError
    assert (error.breaker, len(error.deaths), error.names) == ("poison", 2, ("dies", "dies"))
    assert 0 < error.retry_after <= LONG
    assert "worker exited with code 3" in str(error)
    shared = aioray.remote(breaker=breaker)(hanging.same)
    assert isinstance(await error_of(shared.remote(1)), CircuitOpenError)
    rows = await asyncio.to_thread(list_tasks, filters=[("name", "=", "same")], detail=True)
    assert [row.error_type for row in rows] == ["CIRCUIT_OPEN"]
    assert (await asyncio.to_thread(live))["breakers"] == [["poison", "OPEN", 2]]


async def test_a_worker_that_survives_the_trial_closes_the_circuit():
    breaker = aioray.CrashBreaker(crashes=1, rest=3.0)
    dies = aioray.remote(max_retries=0, breaker=breaker)(hanging.dies)
    works = aioray.remote(breaker=breaker)(hanging.same)
    assert isinstance(await error_of(dies.remote()), WorkerCrashedError)
    error = await error_of(works.remote(1))
    assert isinstance(error, CircuitOpenError)
    await asyncio.sleep(error.retry_after + 0.1)
    assert await works.remote(1) == 1
    assert await asyncio.gather(*[works.remote(number) for number in range(5)]) == list(range(5))
