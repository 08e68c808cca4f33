"""Time limits: which one is exceeded, when, and what becomes of the attempt and others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aioray.core.alarms import SWEPT_SIZE
from aioray.core.cancellation import GRACE_SECONDS, INTERRUPT_PERIOD
from aioray.core.commands import (
    CancelCall,
    InterruptWorker,
    KillWorker,
    LocateAttempt,
    LookAtAttempt,
    PollWorker,
    ReclaimAttempts,
    ReportCancel,
    ReportOrphans,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
    StartWorker,
)
from aioray.core.events import (
    AnswersReceived,
    AttemptLocated,
    AttemptSeen,
    ResultLost,
    ResultWanted,
    Revived,
    ShutdownRequested,
    TasksSubmitted,
    TimerFired,
    WorkerDied,
    WorkerExited,
    WorkerReady,
)
from aioray.core.limits import TaskLimits
from aioray.core.outcomes import (
    CancelOutcome,
    DeathCause,
    Ended,
    Failure,
    FailureKind,
    Overrun,
)
from aioray.core.retries import RetryPolicy
from aioray.core.states import ActorStatus, TaskStatus

from .support import SHORT, Core, answer

TIMEOUT = TaskLimits(timeout=10.0)
STALL = TaskLimits(stall_timeout=10.0)
DEADLINE = TaskLimits(deadline=10.0)


def of(kind: Any, commands: Any) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


def failures(commands: Any) -> dict[Any, Failure]:
    return {command.task: command.failure for command in of(ResolveFailure, commands)}


def see(core: Core, task: Any, entered: float | None, now: float, beat: float = 0.0) -> Any:
    return core(AttemptSeen(task.worker.id, task.seq, entered, beat), now)


def locate(core: Core, task: Any, now: float, *, retries: bool = False) -> Any:
    return core(AttemptLocated(task.worker.id, task.seq, "here", retries), now)


def overrun(core: Core, task: Any, now: float = 10.0) -> Any:
    """Let an attempt exceed its timeout, and be claimed: what follows from that."""
    core.timer(now)
    assert see(core, task, task.sent_at, now) == [ReclaimAttempts(task.worker.id)]
    return core.reclaimed(task.worker.id, now=now)


def interrupted(core: Core, task: Any, now: float = 10.0, *, retries: bool = False) -> Any:
    """Let it be located and interrupted as well."""
    worker_id = task.worker.id
    found = overrun(core, task, now)
    assert found == [LocateAttempt(worker_id, task, task.cancellation.overrun)]
    assert locate(core, task, now, retries=retries) == [ReclaimAttempts(worker_id)]
    return core.reclaimed(worker_id, now=now)


# --- deadlines --------------------------------------------------------------------------------


def test_a_task_that_waits_for_a_worker_fails_at_its_deadline() -> None:
    core = Core()
    core.running()
    task = core.task(limits=DEADLINE)
    core.submit(task, now=1.0)
    assert core.deadline == 11.0
    assert core.timer(10.99) == []
    failure = Failure(FailureKind.TIMEOUT, Overrun("deadline", 10.0, 10.5))
    assert core.timer(11.5) == [ResolveFailure(task, failure)]


def test_what_waits_for_its_arguments_fails_at_its_deadline_and_what_waits_for_it_too() -> None:
    core = Core()
    first = core.running()
    task = core.task(first, limits=DEADLINE)
    last = core.task(task)
    core.submit(task, last)
    found = failures(core.timer(10.0))
    assert found[task].kind is FailureKind.TIMEOUT
    assert found[last] == Failure(FailureKind.DEPENDENCY, upstream=task)
    core.answer(1, answer(first), now=11.0)
    assert task.state is TaskStatus.FAILED


def test_a_task_in_backoff_fails_at_its_deadline_with_its_attempts() -> None:
    core = Core()
    policy = RetryPolicy(60.0, jitter=False)
    task = core.running(limits=DEADLINE, policy=policy)
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE), now=2.0)
    assert task.state is TaskStatus.BACKOFF
    failure = failures(core.timer(10.0))[task]
    assert (failure.kind, failure.detail) == (
        FailureKind.TIMEOUT,
        Overrun("deadline", 10.0, 10.0),
    )
    assert [each.kind for each in failure.attempts] == [FailureKind.APPLICATION]
    assert core.timer(70.0) == []


def test_a_call_fails_at_its_deadline_while_its_actor_is_not_made() -> None:
    core = Core()
    actor = core.making()
    call, later = core.called(actor, limits=DEADLINE) + core.called(actor)
    assert [*failures(core.timer(10.0))] == [call]
    core.live(actor, now=11.0)
    assert later.state is TaskStatus.SUBMITTED_TO_WORKER


def test_a_worker_that_becomes_free_after_the_deadline_does_not_get_the_task() -> None:
    """The answer is handled before the timer: the loop was busy with something else."""
    core = Core()
    first = core.running()
    task = core.task(limits=DEADLINE)
    core.submit(task)
    found = core.answer(1, answer(first), now=10.0)
    assert [*failures(found)] == [task]
    assert of(SendAttempts, found) == []


def test_a_deadline_that_has_passed_already_lets_nothing_begin() -> None:
    core = Core()
    task = core.task(limits=TaskLimits(deadline=0.0))
    failure = Failure(FailureKind.TIMEOUT, Overrun("deadline", 0.0, 0.0))
    assert core.submit(task, now=5.0) == [ResolveFailure(task, failure)]


def test_an_actor_whose_deadline_has_passed_already_is_dead() -> None:
    core = Core()
    actor = core.actor()
    actor.creation.limits = TaskLimits(deadline=0.0)
    core.submit(actor.creation)
    assert actor.state is ActorStatus.DEAD
    assert actor.death is not None
    assert actor.death.cause is DeathCause.CREATION_FAILED


def test_what_was_sent_and_not_claimed_by_its_deadline_never_begins() -> None:
    core = Core()
    core.function("f", SHORT)
    first, second, third = core.task(), core.task(limits=DEADLINE), core.task()
    core.submit(first, second, third)
    core.ready(1)
    assert second.worker is first.worker is not None
    assert ReclaimAttempts(1) in core.timer(10.0)
    found = core.reclaimed(1, second, third, now=10.0)
    assert failures(found)[second].detail.option == "deadline"
    assert failures(found)[second].attempts == ()
    assert third.state is not TaskStatus.FAILED


def test_what_runs_at_its_deadline_is_ended_and_never_retried() -> None:
    core = Core()
    task = core.running(limits=DEADLINE)
    core.timer(10.0)
    assert core.reclaimed(1, now=10.0) == [LocateAttempt(1, task, task.cancellation.overrun)]
    locate(core, task, 10.0, retries=True)
    assert core.reclaimed(1, now=10.0) == [InterruptWorker(1, task.seq)]
    found = core.answer(1, answer(task, Ended.INTERRUPTED), now=10.1)
    failure = failures(found)[task]
    assert failure.kind is FailureKind.TIMEOUT
    assert failure.detail == Overrun("deadline", 10.0, 10.0, "here", True, "value")
    assert [each.detail for each in failure.attempts] == [failure.detail]


@pytest.mark.parametrize("ended", [Ended.RAISED_RETRYABLE, Ended.ASKED_FOR_RETRY])
def test_an_error_after_the_deadline_stands_and_is_not_retried(ended: Ended) -> None:
    core = Core()
    task = core.running(limits=DEADLINE)
    core.timer(10.0)
    found = core.answer(1, answer(task, ended), now=10.0)
    assert failures(found)[task].kind is FailureKind.APPLICATION


def test_a_deadline_that_passes_during_the_end_of_a_timeout_forbids_the_retry() -> None:
    core = Core()
    task = core.running(limits=TaskLimits(timeout=10.0, deadline=10.5))
    interrupted(core, task, retries=True)
    core.timer(10.5)
    found = core.answer(1, answer(task, Ended.INTERRUPTED), now=10.6)
    detail = failures(found)[task].detail
    assert (detail.option, detail.report) == ("deadline", "here")


def test_the_deadline_counts_over_all_attempts() -> None:
    core = Core()
    task = core.running(limits=DEADLINE)
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE), now=4.0)
    assert task.attempt == 1
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE), now=8.0)
    assert core.timer(10.0) == [ReclaimAttempts(1)]


def test_a_recomputed_value_has_no_deadline_and_each_of_its_attempts_the_timeout() -> None:
    core = Core()
    task = core.running(limits=TaskLimits(timeout=10.0, deadline=20.0))
    core.answer(1, answer(task), now=1.0)
    core(ResultLost(task), 15.0)
    core(ResultWanted(task), 15.0)
    core(Revived(task), 15.0)
    assert task.state is TaskStatus.SUBMITTED_TO_WORKER
    assert core.timer(21.0) == []
    assert core.timer(25.0) == [LookAtAttempt(1, task.seq)]


# --- timeouts ---------------------------------------------------------------------------------


def test_an_attempt_is_looked_at_when_it_could_have_exceeded_its_timeout() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    assert core.deadline == 10.0
    assert core.timer(10.0) == [LookAtAttempt(1, task.seq)]


def test_the_timeout_counts_from_the_entry() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    core.timer(10.0)
    assert see(core, task, 4.0, 10.0) == []
    assert core.deadline == 14.0
    assert core.timer(14.0) == [LookAtAttempt(1, task.seq)]
    assert see(core, task, 4.0, 14.0) == [ReclaimAttempts(1)]


def test_time_behind_others_in_a_worker_does_not_count() -> None:
    core = Core()
    core.function("f", SHORT)
    first, second = core.task(), core.task(limits=TIMEOUT)
    core.submit(first, second)
    core.ready(1)
    assert LookAtAttempt(1, second.seq) in core.timer(10.0)
    assert see(core, second, None, 10.0) == []
    assert LookAtAttempt(1, second.seq) in core.timer(20.0)


@pytest.mark.parametrize("entered", [-5.0, 0.0])
def test_no_page_makes_an_attempt_older_or_younger_than_it_is(entered: float) -> None:
    core = Core()
    first, task = core.running(), core.task(limits=TIMEOUT)
    core.submit(task, now=1.0)
    core.answer(1, answer(first), now=2.0)
    assert task.sent_at == 2.0
    assert see(core, task, entered, 11.9) == []
    assert core.timer(12.0) != []
    assert see(core, task, math.inf, 12.0) == []
    assert core.deadline == 22.0


def test_an_attempt_without_heartbeats_stalls() -> None:
    core = Core()
    task = core.running(limits=STALL)
    core.timer(10.0)
    assert see(core, task, 1.0, 10.0, beat=7.0) == []
    assert core.timer(17.0) == [LookAtAttempt(1, task.seq)]
    assert see(core, task, 1.0, 17.0, beat=7.0) == [ReclaimAttempts(1)]
    assert task.cancellation.overrun == Overrun("stall_timeout", 10.0, 10.0)


def test_who_waits_for_readers_does_not_stall() -> None:
    core = Core()
    task = core.running(limits=STALL)
    core.timer(10.0)
    assert see(core, task, 1.0, 10.0, beat=math.inf) == []
    assert core.deadline == 20.0


def test_the_limit_that_is_exceeded_first_is_told() -> None:
    core = Core()
    task = core.running(limits=TaskLimits(timeout=30.0, stall_timeout=10.0))
    core.timer(10.0)
    assert see(core, task, 0.0, 10.0, beat=5.0) == []
    core.timer(15.0)
    assert see(core, task, 0.0, 15.0, beat=5.0) == [ReclaimAttempts(1)]
    assert task.cancellation.overrun.option == "stall_timeout"


def test_news_of_an_attempt_that_is_over_changes_nothing() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    seq = task.seq
    core.answer(1, answer(task))
    assert core(AttemptSeen(1, seq, 0.0), 10.0) == []
    assert core(AttemptLocated(1, seq, "there"), 10.0) == []
    other = core.running()
    assert core(AttemptSeen(1, other.seq, 0.0), 10.0) == []
    deadline = core.task(limits=DEADLINE)
    core.answer(1, answer(other))
    core.submit(deadline)
    assert core(AttemptSeen(1, deadline.seq, 0.0), 1.0) == []


# --- the ladder -------------------------------------------------------------------------------


def test_the_ladder_locates_interrupts_and_kills() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    assert interrupted(core, task) == [InterruptWorker(1, task.seq)]
    assert core.tick() == (10.0 + INTERRUPT_PERIOD, [InterruptWorker(1, task.seq)])
    late = 10.0 + GRACE_SECONDS
    assert [*core.timer(late)][-2:] == [PollWorker(1), ReclaimAttempts(1)]
    why = "t1 has exceeded its timeout of 10 s"
    assert core.reclaimed(1, now=late) == [KillWorker(1, why)]
    failure = failures(core.exited(1, now=late))[task]
    assert failure.kind is FailureKind.TIMEOUT
    assert failure.detail == Overrun("timeout", 10.0, 10.0, "here")
    assert [each.detail for each in failure.attempts] == [failure.detail]


def test_the_worker_of_an_attempt_that_listens_lives_on() -> None:
    core = Core()
    task, other = core.running(limits=TIMEOUT), core.task()
    interrupted(core, task)
    core.submit(other)
    found = core.answer(1, answer(task, Ended.INTERRUPTED), now=10.1)
    assert failures(found)[task].kind is FailureKind.TIMEOUT
    assert of(SendAttempts, found) == [SendAttempts(1, [other])]
    assert of(KillWorker, core.timer(12.0)) == []


def test_others_in_the_worker_come_back_and_lose_nothing() -> None:
    core = Core()
    core.function("f", SHORT)
    task, *others = core.task(limits=TIMEOUT), core.task(max_retries=0), core.task(max_retries=0)
    core.submit(task, *others)
    core.ready(1)
    assert all(other.worker is task.worker for other in others)
    core.timer(10.0)
    assert see(core, task, 0.0, 10.0) == [ReclaimAttempts(1)]
    core.reclaimed(1, *others, now=10.0)
    assert [other.state for other in others] == [TaskStatus.PENDING_NODE_ASSIGNMENT] * 2
    assert [(other.attempt, other.failures) for other in others] == [(0, None)] * 2


def test_an_attempt_that_came_back_after_all_is_sent_again() -> None:
    """No worker would say that it has entered what it has not claimed."""
    core = Core()
    task = core.running(limits=TIMEOUT)
    core.timer(10.0)
    see(core, task, 0.0, 10.0)
    found = core.reclaimed(1, task, now=10.0)
    assert of(SendAttempts, found) == [SendAttempts(1, [task])]
    assert task.cancellation is None


@pytest.mark.parametrize("retries", [False, True])
@pytest.mark.parametrize("end", ["interrupted", "not started", "killed", "crashed"])
def test_another_attempt_follows_only_if_it_was_asked_for(end: str, retries: bool) -> None:
    core = Core()
    task = core.running(limits=TIMEOUT, max_retries=1)
    interrupted(core, task, retries=retries)
    if end == "killed":
        core.timer(11.0)
        core.reclaimed(1, now=11.0)
    if end in ("killed", "crashed"):
        found = core.exited(1, now=11.0)
    else:
        ended = Ended.INTERRUPTED if end == "interrupted" else Ended.NOT_STARTED
        found = core.answer(1, answer(task, ended), now=10.5)
    if retries:
        (told,) = of(ReportRetry, found)
        assert (told.record.kind, told.retries_left) == (FailureKind.TIMEOUT, 1)
        assert (task.attempt, task.retries_left, task.cancellation) == (1, 0, None)
    else:
        assert failures(found)[task].kind is FailureKind.TIMEOUT


def test_each_attempt_has_the_whole_timeout_and_the_retries_are_counted() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT, max_retries=1)
    interrupted(core, task, retries=True)
    core.answer(1, answer(task, Ended.INTERRUPTED), now=11.0)
    assert (task.attempt, task.sent_at) == (1, 11.0)
    assert core.timer(20.9) == []  # no interrupt and no end of grace is left of the first
    interrupted(core, task, 21.0, retries=True)
    failure = failures(core.answer(1, answer(task, Ended.INTERRUPTED), now=21.0))[task]
    assert [each.number for each in failure.attempts] == [0, 1]


def test_the_delay_before_another_attempt_is_that_of_the_policy() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT, policy=RetryPolicy(3.0, jitter=False))
    interrupted(core, task, retries=True)
    core.answer(1, answer(task, Ended.INTERRUPTED), now=11.0)
    assert task.state is TaskStatus.BACKOFF
    assert of(SendAttempts, core.timer(14.0)) == [SendAttempts(1, [task])]


def test_a_value_that_comes_during_the_ladder_stands() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    interrupted(core, task)
    assert core.answer(1, answer(task), now=10.5) == [ResolveValues([(task, "value")])]
    assert task.cancellation is None
    assert of(KillWorker, core.timer(12.0)) == []


@pytest.mark.parametrize("ended", [Ended.RAISED, Ended.RAISED_RETRYABLE])
def test_an_error_of_its_own_during_the_ladder_stands(ended: Ended) -> None:
    core = Core()
    task = core.running(limits=TIMEOUT, max_retries=1)
    interrupted(core, task)
    found = core.answer(1, answer(task, ended), now=10.5)
    if ended is Ended.RAISED:
        assert failures(found)[task].kind is FailureKind.APPLICATION
    else:
        assert (task.attempt, task.cancellation) == (1, None)


def test_what_is_answered_before_is_read_and_not_interrupted() -> None:
    core = Core()
    core.function("f", SHORT)
    task, running = core.task(limits=TIMEOUT), core.task()
    core.submit(task, running)
    core.ready(1)
    core.timer(10.0)
    see(core, task, 0.0, 10.0)
    assert core.reclaimed(1, now=10.0) == [PollWorker(1)]


def test_an_argument_that_is_lost_during_the_ladder_is_waited_for() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    overrun(core, task)
    core.answer(1, answer(task, Ended.ARGUMENT_LOST), now=10.1)
    assert task.state is TaskStatus.PENDING_ARGS_AVAIL
    assert task.cancellation is None


def test_an_argument_that_is_lost_after_the_deadline_is_not_waited_for() -> None:
    core = Core()
    task = core.running(limits=DEADLINE)
    core.timer(10.0)
    found = core.answer(1, answer(task, Ended.ARGUMENT_LOST), now=10.1)
    assert failures(found)[task].kind is FailureKind.TIMEOUT


def test_tasks_of_an_attempt_that_took_too_long_are_told_of() -> None:
    core = Core(2)
    parent = core.running(limits=TIMEOUT)
    child = core.task(parent=parent)
    core.submit(child)
    interrupted(core, parent)
    found = core.answer(1, answer(parent, Ended.INTERRUPTED), now=10.1)
    assert of(ReportOrphans, found) == [ReportOrphans((child,))]


# --- with a cancel, with the end ----------------------------------------------------------------


def test_a_cancel_takes_the_ladder_over() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    overrun(core, task)
    core.cancel(task, now=10.1)
    assert core.reclaimed(1, now=10.1) == [InterruptWorker(1, task.seq)]
    assert locate(core, task, 10.2, retries=True) == []
    found = core.answer(1, answer(task, Ended.INTERRUPTED), now=10.3)
    assert failures(found)[task].kind is FailureKind.CANCELLED
    assert of(ReportCancel, found) == [ReportCancel(1, CancelOutcome.INTERRUPTED)]


def test_a_cancel_of_what_was_interrupted_already_is_told_what_came_of_it() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    interrupted(core, task, retries=True)
    core.cancel(task, now=10.1)
    assert core.reclaimed(1, now=10.1) == []
    core.timer(11.0)
    assert core.reclaimed(1, now=11.0) == [KillWorker(1)]
    found = core.exited(1, now=11.0)
    assert failures(found)[task].kind is FailureKind.CANCELLED
    assert of(ReportCancel, found) == [ReportCancel(1, CancelOutcome.KILLED)]


def test_a_cancel_that_nobody_listens_to_ends_with_the_limit() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    core.cancel(task, now=1.0)
    assert core.reclaimed(1, now=1.0) == [InterruptWorker(1, task.seq)]
    core.timer(10.0)
    see(core, task, 0.0, 10.0)
    core.timer(10.0 + GRACE_SECONDS)
    assert core.reclaimed(1, now=11.0) == [KillWorker(1)]
    assert failures(core.exited(1, now=11.0))[task].kind is FailureKind.CANCELLED


def test_a_cancel_by_force_does_not_wait_for_the_stack() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    overrun(core, task)
    core.cancel(task, force=True, now=10.1)
    assert core.reclaimed(1, now=10.1) == [KillWorker(1)]


@pytest.mark.parametrize("drain", [0.0, 5.0])
def test_what_takes_too_long_ends_with_the_engine(drain: float) -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    overrun(core, task)
    found = core(ShutdownRequested(drain), 10.1)
    if drain:
        core.timer(10.1 + drain)
        assert core.reclaimed(1, now=15.2) == [InterruptWorker(1, task.seq)]
        found = core.answer(1, answer(task, Ended.INTERRUPTED), now=15.3)
    assert failures(found)[task].kind is FailureKind.SHUTDOWN


# --- actors -----------------------------------------------------------------------------------


def test_a_method_is_interrupted_and_the_calls_behind_it_are_kept() -> None:
    core = Core()
    actor = core.alive()
    call, *behind = core.called(actor, limits=TIMEOUT) + core.called(actor, 2)
    core.timer(10.0)
    assert see(core, call, 0.0, 10.0) == [ReclaimAttempts(1)]
    assert core.reclaimed(1, *behind, now=10.0)[0] == LocateAttempt(
        1, call, call.cancellation.overrun
    )
    locate(core, call, 10.0)
    assert InterruptWorker(1, call.seq) in core.reclaimed(1, *behind, now=10.0)
    found = core.answer(1, answer(call, Ended.INTERRUPTED), now=10.1)
    assert failures(found)[call].kind is FailureKind.TIMEOUT
    assert actor.state is ActorStatus.ALIVE
    assert [each.state for each in behind] == [TaskStatus.SUBMITTED_TO_WORKER] * 2


def test_a_value_of_a_method_that_was_interrupted_stands() -> None:
    core = Core()
    actor = core.alive()
    (call,) = core.called(actor, limits=TIMEOUT)
    assert interrupted(core, call) == [InterruptWorker(1, call.seq)]
    assert of(ResolveValues, core.answer(1, answer(call), now=10.1)) != []


def test_a_value_of_a_method_stands_that_is_cancelled_when_it_was_interrupted() -> None:
    core = Core()
    actor = core.alive()
    (call,) = core.called(actor, limits=TIMEOUT)
    interrupted(core, call)
    core.cancel(call, now=10.1)
    found = core.answer(1, answer(call), now=10.2)
    assert of(ResolveValues, found) != []
    assert [each.outcome for each in of(ReportCancel, found)] == [CancelOutcome.FINISHED_FIRST]


@pytest.mark.parametrize("retries", [False, True])
def test_an_actor_that_does_not_listen_is_killed_and_the_calls_behind_are_kept(
    retries: bool,
) -> None:
    core = Core()
    actor = core.alive(max_restarts=1)
    (call,) = core.called(actor, limits=TIMEOUT, max_retries=1)
    (behind,) = core.called(actor, max_retries=0)
    core.timer(10.0)
    see(core, call, 0.0, 10.0)
    core.reclaimed(1, behind, now=10.0)
    locate(core, call, 10.0, retries=retries)
    core.reclaimed(1, behind, now=10.0)
    core.timer(10.0 + GRACE_SECONDS)
    why = "t2 has exceeded its timeout of 10 s"
    assert KillWorker(1, why) in core.reclaimed(1, behind, now=11.0)
    found = core.exited(1, now=11.0)
    if retries:
        assert (call.attempt, call.retries_left, failures(found)) == (1, 0, {})
    else:
        assert {task: each.kind for task, each in failures(found).items()} == {
            call: FailureKind.TIMEOUT
        }
    assert (actor.state, behind.attempt, behind.failures) == (ActorStatus.RESTARTING, 0, None)
    core.live(actor, now=12.0)
    assert behind.state is TaskStatus.SUBMITTED_TO_WORKER


def test_an_actor_without_restarts_dies_and_the_call_tells_of_its_limit() -> None:
    core = Core()
    actor = core.alive()
    call, behind = core.called(actor, limits=TIMEOUT) + core.called(actor)
    core.timer(10.0)
    see(core, call, 0.0, 10.0)
    core.reclaimed(1, behind, now=10.0)
    locate(core, call, 10.0, retries=True)
    core.reclaimed(1, behind, now=10.0)
    core.timer(11.0)
    core.reclaimed(1, behind, now=11.0)
    kinds = {task: each.kind for task, each in failures(core.exited(1, now=11.0)).items()}
    assert kinds == {call: FailureKind.TIMEOUT, behind: FailureKind.ACTOR_DIED}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_call_beside_others_is_told_and_its_actor_killed_if_it_does_not_listen(
    asynchronous: bool,
) -> None:
    core = Core()
    actor = core.alive(
        concurrency_groups=(2,), ordered=False, asynchronous=asynchronous, max_restarts=1
    )
    call, beside = core.called(actor, limits=TIMEOUT) + core.called(actor)
    assert interrupted(core, call) == [CancelCall(1, call.seq)]
    core.timer(11.0)
    assert of(KillWorker, core.reclaimed(1, now=11.0)) != []
    kinds = {task: each.kind for task, each in failures(core.exited(1, now=11.0)).items()}
    assert kinds == {call: FailureKind.TIMEOUT, beside: FailureKind.ACTOR_UNAVAILABLE}


@pytest.mark.parametrize("retries", [False, True])
def test_what_a_threaded_method_returns_that_was_told_does_not_count(retries: bool) -> None:
    core = Core()
    actor = core.alive(concurrency_groups=(2,), ordered=False)
    (call,) = core.called(actor, limits=TIMEOUT, max_retries=1)
    interrupted(core, call, retries=retries)
    found = core.answer(1, answer(call), now=10.1)
    if retries:
        assert (call.attempt, failures(found)) == (1, {})
    else:
        assert failures(found)[call].kind is FailureKind.TIMEOUT


def test_a_value_of_a_coroutine_method_that_was_told_stands() -> None:
    core = Core()
    actor = core.alive(concurrency_groups=(2,), ordered=False, asynchronous=True)
    (call,) = core.called(actor, limits=TIMEOUT)
    interrupted(core, call)
    assert of(ResolveValues, core.answer(1, answer(call), now=10.1)) != []


def test_a_cancelled_method_that_takes_too_long_costs_the_actor() -> None:
    core = Core()
    actor = core.alive(max_restarts=1)
    (call,) = core.called(actor, limits=TIMEOUT)
    core.cancel(call, now=1.0)
    assert core.reclaimed(1, now=1.0) == [CancelCall(1, call.seq)]
    core.timer(10.0)
    see(core, call, 0.0, 10.0)
    core.timer(11.0)
    assert core.reclaimed(1, now=11.0) == [KillWorker(1)]
    assert failures(core.exited(1, now=11.0))[call].kind is FailureKind.CANCELLED
    assert actor.state is ActorStatus.RESTARTING


@pytest.mark.parametrize("groups", [(1000,), (1000, 1000)])
def test_what_had_waited_for_a_loop_that_was_held_up_is_kept(groups: tuple[int, ...]) -> None:
    core = Core()
    options = {"ordered": False, "asynchronous": True, "max_restarts": 1}
    actor = core.alive(concurrency_groups=groups, **options)
    hog, behind = core.called(actor, limits=TIMEOUT) + core.called(actor)
    (cancelled,) = core.called(actor)
    others = core.called(actor, concurrency_group=1) if len(groups) > 1 else []
    interrupted(core, hog)
    core.cancel(cancelled, now=10.1)
    core.timer(11.0)
    core.reclaimed(1, now=11.0)
    core(WorkerDied(1), 11.0)
    core.reclaimed(1, now=11.0)
    found = failures(core(WorkerExited(1, "died", None, (hog.seq,)), 11.0))
    assert {task: each.kind for task, each in found.items()} == {
        hog: FailureKind.TIMEOUT,
        cancelled: FailureKind.CANCELLED,
        **dict.fromkeys(others, FailureKind.ACTOR_UNAVAILABLE),
    }
    assert (behind.attempt, behind.failures) == (0, None)
    core.live(actor, now=12.0)
    assert behind.state is TaskStatus.SUBMITTED_TO_WORKER


def test_of_a_threaded_actor_everything_was_begun() -> None:
    core = Core()
    actor = core.alive(concurrency_groups=(4,), ordered=False, max_restarts=1)
    (call,) = core.called(actor)
    core(WorkerDied(1))
    core.reclaimed(1)
    found = failures(core(WorkerExited(1, "died", None, (0,))))
    assert found[call].kind is FailureKind.ACTOR_UNAVAILABLE


# --- making actors ----------------------------------------------------------------------------


def making(core: Core, limits: TaskLimits, **options: Any) -> Any:
    actor = core.actor(**options)
    actor.creation.limits = limits
    core.submit(actor.creation)
    core.place(actor)
    return actor


@pytest.mark.parametrize("end", ["interrupted", "killed"])
@pytest.mark.parametrize("max_restarts", [0, 1])
def test_an_actor_that_is_not_made_in_time_is_made_again_within_its_restarts(
    max_restarts: int, end: str
) -> None:
    core = Core()
    actor = making(core, TIMEOUT, max_restarts=max_restarts)
    creation = actor.creation
    (call,) = core.called(actor)
    assert interrupted(core, creation) == [InterruptWorker(1, creation.seq)]
    why = "t1 has exceeded its timeout of 10 s"
    if end == "interrupted":
        found = core.answer(1, answer(creation, Ended.INTERRUPTED), now=10.1)
    else:
        core.timer(11.0)
        found = core.reclaimed(1, now=11.0)
    assert found == [KillWorker(1, why)]
    found = core.exited(1, now=11.0)
    if max_restarts:
        assert (actor.state, creation.attempt) == (ActorStatus.RESTARTING, 1)
        assert [each.kind for each in creation.failures] == [FailureKind.TIMEOUT]
        assert creation.cancellation is None
        core.live(actor, now=12.0)
        assert call.state is TaskStatus.SUBMITTED_TO_WORKER
    else:
        assert actor.death.cause is DeathCause.CREATION_FAILED
        assert actor.death.detail.kind is FailureKind.TIMEOUT
        assert failures(found)[call].detail is actor.death


def test_the_loop_on_which_an_actor_is_made_is_told() -> None:
    core = Core()
    actor = making(core, TIMEOUT, concurrency_groups=(1000,), ordered=False, asynchronous=True)
    assert interrupted(core, actor.creation) == [CancelCall(1, actor.creation.seq)]


def test_an_actor_that_is_not_made_by_its_deadline_is_dead() -> None:
    core = Core()
    actor = making(core, DEADLINE, max_restarts=-1)
    core.timer(10.0)
    core.reclaimed(1, now=10.0)
    locate(core, actor.creation, 10.0)
    core.reclaimed(1, now=10.0)
    core.answer(1, answer(actor.creation, Ended.INTERRUPTED), now=10.1)
    core.exited(1, now=10.2)
    assert actor.state is ActorStatus.DEAD
    assert actor.death is not None
    assert actor.death.detail.detail.option == "deadline"


def test_the_deadline_of_an_actor_is_met_when_it_is_made() -> None:
    core = Core()
    actor = making(core, DEADLINE, max_restarts=1)
    core.live(actor, now=1.0)
    core.crash(actor, now=9.0)
    assert actor.state is ActorStatus.RESTARTING
    core.timer(30.0)
    core.live(actor, now=31.0)


# --- how much it costs ------------------------------------------------------------------------


def test_a_hundred_thousand_deadlines_are_a_tuple_each_and_one_timer() -> None:
    core = Core()
    scheduler = core.scheduler
    tasks = [core.task(limits=TaskLimits(deadline=60.0)) for _ in range(100_000)]
    for at in range(0, len(tasks), 1000):
        scheduler.handle(TasksSubmitted(tasks[at : at + 1000]), 0)
    assert [timer.when for timer in scheduler.turn.timers] == [60.0]
    assert sum(1 for _ in scheduler.alarms) == 100_000
    found = scheduler.handle(TimerFired(), 60.0)
    assert len(failures(found)) == 100_000
    assert scheduler.next_deadline() is None


def test_alarms_of_ended_tasks_are_swept_and_hold_no_tasks() -> None:
    core = Core()
    scheduler = core.scheduler
    scheduler.handle(WorkerReady(1), 0.0)
    most = 0
    for at in range(5 * SWEPT_SIZE):
        task = core.task(limits=TaskLimits(timeout=1e6, deadline=1e6))
        found = core.scheduler.handle(TasksSubmitted([task]), float(at))
        if of(StartWorker, found):
            scheduler.handle(WorkerReady(1), float(at))
        scheduler.handle(AnswersReceived(1, [answer(task)]), float(at))
        most = max(most, len(scheduler.alarms._heap))
    assert most <= SWEPT_SIZE + 1
    assert list(scheduler.alarms) == []


def test_alarms_are_listed_the_next_one_first() -> None:
    core = Core()
    first = core.running(limits=TaskLimits(timeout=5.0, deadline=20.0))
    second = core.task(limits=DEADLINE)
    core.submit(second)
    assert list(core.scheduler.alarms) == [
        (5.0, first, first.seq),
        (10.0, second, 0),
        (20.0, first, 0),
    ]


# --- what is rare -------------------------------------------------------------------------------


def test_two_that_are_due_at_once_and_one_needs_the_other() -> None:
    core = Core()
    core.running()
    first = core.task(limits=DEADLINE)
    second = core.task(first, limits=DEADLINE)
    core.submit(first, second)
    found = failures(core.timer(10.0))
    assert found[first].kind is FailureKind.TIMEOUT
    assert found[second].kind is FailureKind.DEPENDENCY


def test_a_second_look_at_what_is_being_ended_changes_nothing() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    overrun(core, task)
    assert see(core, task, 0.0, 10.1) == []


@pytest.mark.parametrize(
    ("limits", "shortest", "of_time"),
    [
        (TaskLimits(), None, False),
        (DEADLINE, None, True),
        (TIMEOUT, 10.0, True),
        (STALL, 10.0, True),
        (TaskLimits(timeout=3.0, stall_timeout=2.0), 2.0, True),
    ],
)
def test_what_limits_say(limits: TaskLimits, shortest: float | None, of_time: bool) -> None:
    assert (limits.shortest, limits.are_of_time) == (shortest, of_time)


def test_nothing_is_interrupted_before_it_is_known_where_it_is() -> None:
    core = Core()
    task = core.running(limits=TIMEOUT)
    overrun(core, task)
    assert core.reclaimed(1, now=10.1) == []
    assert core.timer(10.2) == []


def test_a_constructor_that_raises_an_interrupt_itself_has_failed() -> None:
    core = Core()
    actor = making(core, TIMEOUT, max_restarts=1)
    found = core.answer(1, answer(actor.creation, Ended.INTERRUPTED), now=1.0)
    assert failures(found)[actor.creation].kind is FailureKind.CANCELLED
    assert actor.state is ActorStatus.DEAD
