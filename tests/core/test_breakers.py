"""Crash breakers: when they open, what they let through, and when they close."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aioray.core.commands import KillWorker, ReportBreaker, ResolveFailure, SendAttempts
from aioray.core.limits import TaskLimits
from aioray.core.outcomes import CancelOutcome, Ended, FailureKind
from aioray.core.states import BreakerStatus, TaskStatus
from aioray.shared.crash_breaker import CrashBreaker

from .support import Core, answer

BREAKER = CrashBreaker(crashes=2, period=60.0, rest=30.0, name="b")
LIMITS = TaskLimits(breaker=BREAKER)


def of(kind: Any, commands: Any) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


def failures(commands: Any) -> dict[Any, Any]:
    return {command.task: command.failure for command in of(ResolveFailure, commands)}


def states(commands: Any) -> list[BreakerStatus]:
    return [command.state for command in of(ReportBreaker, commands)]


def run(core: Core, now: float, **options: Any) -> Any:
    """A task with the breaker that a worker runs; the worker that comes up, if it needs one."""
    task = core.task(**{"limits": LIMITS, "max_retries": 0, **options})
    core.submit(task, now=now)
    if task.worker is None and task.state is not TaskStatus.FAILED:
        core.ready(core.scheduler.pool.last_id, now=now)
    return task


def crash(core: Core, now: float, **options: Any) -> Any:
    """Let a task die with its worker: what follows."""
    task = run(core, now, **options)
    return core.exited(task.worker.id, now=now)


def opened(core: Core, now: float = 1.0) -> None:
    crash(core, now)
    assert states(crash(core, now)) == [BreakerStatus.OPEN]


def breaker(core: Core) -> Any:
    return core.scheduler.breakers.known[BREAKER]


def test_it_opens_at_the_last_tolerated_death_and_says_how_they_died() -> None:
    core = Core()
    assert states(crash(core, 1.0)) == []
    (told,) = of(ReportBreaker, crash(core, 2.0))
    assert (told.state, told.circuit.name, told.circuit.rest) == (BreakerStatus.OPEN, "b", 30.0)
    assert [(name, record.kind) for name, record in told.circuit.deaths] == [
        ("t1", FailureKind.WORKER_DIED),
        ("t2", FailureKind.WORKER_DIED),
    ]


def test_deaths_that_lie_further_apart_than_the_period_do_not_open_it() -> None:
    core = Core()
    for now in (0.0, 60.0, 120.0):
        assert states(crash(core, now)) == []
    assert states(crash(core, 179.0)) == [BreakerStatus.OPEN]


def test_what_died_last_tells_how_it_died_and_is_not_retried() -> None:
    core = Core()
    crash(core, 1.0)
    found = crash(core, 1.0, max_retries=3)
    (failure,) = failures(found).values()
    assert failure.kind is FailureKind.WORKER_DIED


def test_the_retries_of_one_task_count_too() -> None:
    core = Core()
    task = run(core, 1.0, max_retries=-1)
    core.exited(task.worker.id, now=1.0)
    assert task.attempt == 1
    core.ready(core.scheduler.pool.last_id, now=1.0)
    found = core.exited(task.worker.id, now=1.0)
    assert states(found) == [BreakerStatus.OPEN]
    assert failures(found)[task].kind is FailureKind.WORKER_DIED


def test_calls_fail_at_once_while_it_is_open() -> None:
    core = Core()
    opened(core)
    task = core.task(limits=LIMITS)
    found = core.submit(task, now=11.0)
    failure = failures(found)[task]
    assert failure.kind is FailureKind.CIRCUIT_OPEN
    assert (failure.detail.rest, failure.detail.period) == (20.0, 60.0)
    assert of(SendAttempts, found) == []


def test_what_waits_fails_when_it_opens_and_others_do_not() -> None:
    core = Core()
    crash(core, 1.0)
    last = run(core, 1.0)
    waiting, other = core.task(limits=LIMITS), core.task(limits=TaskLimits(timeout=5.0))
    needs, plain = core.task(waiting, limits=LIMITS), core.task()
    core.submit(waiting, other, needs, plain, now=1.0)
    found = failures(core.exited(last.worker.id, now=1.0))
    assert {task: failure.kind for task, failure in found.items()} == {
        last: FailureKind.WORKER_DIED,
        waiting: FailureKind.CIRCUIT_OPEN,
        needs: FailureKind.DEPENDENCY,
    }


def test_what_runs_when_it_opens_may_finish_and_is_not_retried() -> None:
    core = Core(3)
    crash(core, 1.0)
    tasks = [run(core, 1.0, max_retries=3) for _ in range(3)]
    core.exited(tasks[0].worker.id, now=1.0)
    assert breaker(core).state is BreakerStatus.OPEN
    core.answer(tasks[1].worker.id, answer(tasks[1]), now=2.0)
    assert tasks[1].state is TaskStatus.FINISHED
    found = core.exited(tasks[2].worker.id, now=2.0)
    assert failures(found)[tasks[2]].kind is FailureKind.WORKER_DIED
    assert states(found) == []


def test_an_error_of_what_runs_when_it_opens_is_not_retried() -> None:
    core = Core(2)
    crash(core, 1.0)
    tasks = [run(core, 1.0, max_retries=3) for _ in range(2)]
    core.exited(tasks[0].worker.id, now=1.0)
    found = core.answer(tasks[1].worker.id, answer(tasks[1], Ended.RAISED_RETRYABLE), now=2.0)
    assert failures(found)[tasks[1]].kind is FailureKind.APPLICATION


def test_what_comes_back_unclaimed_when_it_is_open_fails() -> None:
    core = Core()
    core.function("f", 1e-6)
    crash(core, 1.0)
    first, second = core.task(limits=LIMITS, max_retries=0), core.task(limits=LIMITS)
    core.submit(first, second, now=1.0)
    core.ready(core.scheduler.pool.last_id, now=1.0)
    assert second.worker is first.worker is not None
    found = failures(core.exited(first.worker.id, second, now=1.0))
    assert found[second].kind is FailureKind.CIRCUIT_OPEN


def test_what_is_taken_back_from_a_worker_when_it_is_open_fails() -> None:
    core = Core(2)
    core.function("f", 1e-6)
    first, second = core.task(limits=LIMITS), core.task(limits=LIMITS)
    core.submit(first, second)
    core.ready(1)
    assert second.worker is first.worker is not None
    core.function("g")
    for _ in range(2):
        crash(core, 1.0, function="g")
    assert breaker(core).state is BreakerStatus.OPEN
    assert failures(core.reclaimed(1, second, now=2.0))[second].kind is FailureKind.CIRCUIT_OPEN


def test_errors_and_cancels_do_not_count() -> None:
    core = Core()
    for _ in range(3):
        task = run(core, 1.0)
        core.answer(task.worker.id, answer(task, Ended.RAISED), now=1.0)
        task = run(core, 1.0)
        core.cancel(task, force=True, now=1.0)
        assert of(KillWorker, core.reclaimed(task.worker.id, now=1.0)) != []
        core.exited(task.worker.id, now=1.0)
    assert breaker(core).deaths == []


def test_workers_that_time_limits_have_killed_count() -> None:
    core = Core()
    for now in (0.0, 20.0):
        task = run(core, now, limits=dataclasses.replace(LIMITS, timeout=10.0))
        worker = task.worker.id
        core.timer(now + 10.0)
        core(events_seen(task), now + 10.0)
        core.reclaimed(worker, now=now + 10.0)
        found = core.exited(worker, now=now + 10.0)
        assert failures(found)[task].kind is FailureKind.TIMEOUT
    assert states(found) == [BreakerStatus.OPEN]


def events_seen(task: Any) -> Any:
    from aioray.core.events import AttemptSeen

    return AttemptSeen(task.worker.id, task.seq, task.sent_at)


def test_one_call_is_let_through_after_the_rest() -> None:
    core = Core()
    opened(core)
    trial, other = core.task(limits=LIMITS), core.task(limits=LIMITS)
    found = core.submit(trial, other, now=31.0)
    assert states(found) == [BreakerStatus.HALF_OPEN]
    assert [*failures(found)] == [other]
    assert trial.state is TaskStatus.PENDING_NODE_ASSIGNMENT


@pytest.mark.parametrize("ended", [Ended.RETURNED, Ended.RAISED, Ended.RAISED_RETRYABLE])
def test_a_trial_whose_worker_survives_closes_it(ended: Ended) -> None:
    core = Core()
    opened(core)
    trial = run(core, 31.0, max_retries=1)
    worker = trial.worker.id
    found = core.answer(worker, answer(trial, ended), now=32.0)
    assert states(found) == [BreakerStatus.CLOSED]
    assert breaker(core).deaths == []
    if ended is Ended.RAISED_RETRYABLE:
        core.answer(worker, answer(trial), now=32.0)
    assert states(crash(core, 33.0)) == []  # it counts from the start again


def test_a_trial_whose_worker_dies_opens_it_anew_and_is_not_retried() -> None:
    core = Core()
    opened(core)
    found = crash(core, 31.0, max_retries=3)
    assert states(found) == [BreakerStatus.OPEN]
    assert [each.kind for each in failures(found).values()] == [FailureKind.WORKER_DIED]
    refused = core.task(limits=LIMITS)
    assert failures(core.submit(refused, now=60.9))[refused].detail.rest == pytest.approx(0.1)
    assert states(core.submit(core.task(limits=LIMITS), now=61.0)) == [BreakerStatus.HALF_OPEN]


def test_a_trial_that_never_begins_leaves_its_place_to_the_next() -> None:
    core = Core()
    opened(core)
    core.submit(core.task(), now=31.0)
    trial = core.task(limits=LIMITS)
    core.submit(trial, now=31.0)
    core.cancel(trial, now=31.0)
    assert trial.cancel_outcome is CancelOutcome.NOT_STARTED
    assert breaker(core).state is BreakerStatus.HALF_OPEN
    following = core.task(limits=LIMITS)
    assert failures(core.submit(following, now=31.0)) == {}
    assert breaker(core).trial is following


def test_functions_with_equal_breakers_share_one() -> None:
    core = Core()
    crash(core, 1.0)
    equal = TaskLimits(breaker=CrashBreaker(2, 60, 30, name="b"))
    assert states(crash(core, 1.0, limits=equal, function="g")) == [BreakerStatus.OPEN]
    other = TaskLimits(breaker=CrashBreaker(2, 60, 30, name="c"))
    task = core.task(limits=other)
    assert failures(core.submit(task, now=2.0)) == {}


def test_a_story_names_the_breaker() -> None:
    core = Core()
    opened(core)
    assert "the breaker b from CLOSED to OPEN" in str(core.scheduler.turn.story)
