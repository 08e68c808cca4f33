"""What a cancel is told, and what the ref says: the same, whoever asks, and however late."""

from __future__ import annotations

import pytest

from aioray.core.commands import ReportCancel, ResolveFailure
from aioray.core.events import ShutdownRequested
from aioray.core.outcomes import CancelOutcome, Ended, Failure, FailureKind

from .support import Core, answer, record
from .test_nesting import child_of

OF_CANCEL = [Ended.RAISED_CANCELLED, Ended.RAISED_CANCELLED_RETRYABLE]


def failures(commands):
    return {c.task: c.failure.kind for c in commands if isinstance(c, ResolveFailure)}


def reports(commands):
    return [c.outcome for c in commands if isinstance(c, ReportCancel)]


class Listening(Core):
    """A core that keeps the commands."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def __call__(self, event, now=0.0):
        commands = super().__call__(event, now)
        self.heard += commands
        return commands


def outcome_of_another_cancel(core, task, **options):
    """What somebody is told who asks when the task is done: nothing else happens."""
    [report] = core.cancel(task, 99, **options)
    return report.outcome


@pytest.mark.parametrize("ended", OF_CANCEL)
def test_cancelled_parent_that_raises_the_cancel_of_its_child_is_cancelled(ended):
    """Bug: of a recursive cancel the child heard first, and its parent was told FINISHED_FIRST.

    1. Both are to be cancelled. 2. The child is interrupted. 3. The parent, which waits for it,
    raises its TaskCancelledError before its own interrupt has come.
    """
    core = Core(2)
    parent = core.running(max_retries=-1)
    child = child_of(core, parent)
    core.submit(child)
    core.ready(2)
    core.cancel(parent, recursive=True)
    core.reclaimed(2)
    core.answer(2, answer(child, Ended.INTERRUPTED))
    end = record(0, 1, FailureKind.CANCELLED)
    assert core.answer(1, answer(parent, ended)) == [
        ResolveFailure(parent, Failure(FailureKind.CANCELLED, "value", attempts=(end,))),
        ReportCancel(1, CancelOutcome.INTERRUPTED),
    ]


def test_parent_that_nobody_has_cancelled_fails_by_the_error_that_it_raises():
    core = Core()
    parent = core.running()
    assert failures(core.answer(1, answer(parent, Ended.RAISED_CANCELLED))) == {
        parent: FailureKind.APPLICATION
    }
    # It is a TaskCancelledError all the same.
    assert outcome_of_another_cancel(core, parent) is CancelOutcome.INTERRUPTED


def test_error_of_a_cancelled_child_may_be_retried():
    core = Core()
    parent = core.running(max_retries=1)
    core.answer(1, answer(parent, Ended.RAISED_CANCELLED_RETRYABLE))
    assert parent.attempt == 1


def test_shutdown_that_reaches_a_parent_by_its_child_is_no_cancel():
    core = Core()
    parent = core.running()
    core(ShutdownRequested(drain=1.0))
    core.timer(1.0)
    commands = core.answer(1, answer(parent, Ended.RAISED_CANCELLED), now=1.0)
    assert failures(commands) == {parent: FailureKind.SHUTDOWN}
    assert outcome_of_another_cancel(core, parent) is CancelOutcome.FINISHED_FIRST


def waiting(core):
    task = core.task()
    core.submit(task)
    core.cancel(task)
    return task


def interrupted(core):
    task = core.running()
    core.cancel(task)
    core.answer(1, answer(task, Ended.INTERRUPTED))
    return task


def not_entered(core):
    task = core.running()
    core.cancel(task)
    core.answer(1, answer(task, Ended.NOT_STARTED))
    return task


def killed(core):
    task = core.running()
    core.cancel(task, force=True)
    core.reclaimed(1)
    core.exited(1)
    return task


def interrupted_by_itself(core):
    task = core.running()
    core.answer(1, answer(task, Ended.INTERRUPTED))
    return task


def child_to_come(core):
    parent = core.running()
    core.cancel(parent, recursive=True)
    child = child_of(core, parent)
    core.submit(child)
    return child


def waiting_child(core):
    parent = core.running()
    child = child_of(core, parent)
    core.submit(child)
    core.cancel(parent, recursive=True)
    return child


def running_child(core):
    parent = core.running()
    child = child_of(core, parent, demand=())
    core.submit(child)
    core.ready(2)
    core.cancel(parent, recursive=True)
    core.answer(2, answer(child, Ended.INTERRUPTED))
    return child


def dependent(core):
    upstream = core.running()
    middle = core.task(upstream)
    last = core.task(middle)
    core.submit(middle, last)
    core.cancel(upstream)
    core.answer(1, answer(upstream, Ended.INTERRUPTED))
    return last


def dependent_to_come(core):
    upstream = waiting(core)
    late = core.task(upstream)
    core.submit(late)
    return late


def told_call(core):
    actor = core.alive()
    (call,) = core.called(actor)
    core.cancel(call)
    core.reclaimed(1)
    core.answer(1, answer(call))
    return call


def coroutine(core):
    actor = core.alive(concurrency_groups=(9,), ordered=False, asynchronous=True)
    (call,) = core.called(actor)
    core.cancel(call)
    core.reclaimed(1)
    core.answer(1, answer(call, Ended.RAISED_CANCELLED))
    return call


def queued_call(core):
    actor = core.making()
    (call,) = core.called(actor)
    core.cancel(call)
    return call


def call_of_a_killed_actor(core):
    actor = core.alive(max_restarts=-1)
    (call,) = core.called(actor, max_retries=-1)
    core.cancel(call)
    core.kill(actor)
    core.exited(1)
    return call


def call_that_lost_its_argument_to_a_killed_actor(core):
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive()
    call = core.call(actor, upstream)
    core.submit(call)
    core.cancel(call)
    core.kill(actor)
    core.answer(1, answer(call, Ended.ARGUMENT_LOST))
    return call


def cancelled_and_shut_down(core):
    task = core.running()
    core.cancel(task)
    core(ShutdownRequested())
    return task


def shut_down_and_cancelled(core):
    task = core.running()
    core(ShutdownRequested(drain=1.0))
    core.timer(1.0)
    core.cancel(task, now=1.0)
    core.answer(1, answer(task, Ended.INTERRUPTED), now=1.0)
    return task


@pytest.mark.parametrize(
    ("make", "outcome", "asked_for_itself"),
    [
        (waiting, CancelOutcome.NOT_STARTED, True),
        (interrupted, CancelOutcome.INTERRUPTED, True),
        (not_entered, CancelOutcome.NOT_STARTED, True),
        (killed, CancelOutcome.KILLED, True),
        (interrupted_by_itself, CancelOutcome.INTERRUPTED, False),
        (child_to_come, CancelOutcome.NOT_STARTED, False),
        (waiting_child, CancelOutcome.NOT_STARTED, False),
        (running_child, CancelOutcome.INTERRUPTED, False),
        (dependent, CancelOutcome.NOT_STARTED, False),
        (dependent_to_come, CancelOutcome.NOT_STARTED, False),
        (told_call, CancelOutcome.INTERRUPTED, True),
        (coroutine, CancelOutcome.INTERRUPTED, True),
        (queued_call, CancelOutcome.NOT_STARTED, True),
        (call_of_a_killed_actor, CancelOutcome.KILLED, True),
        (call_that_lost_its_argument_to_a_killed_actor, CancelOutcome.NOT_STARTED, True),
        (cancelled_and_shut_down, CancelOutcome.KILLED, True),
        (shut_down_and_cancelled, CancelOutcome.INTERRUPTED, True),
    ],
)
def test_what_is_cancelled_already_is_told_as_it_was_told_before(make, outcome, asked_for_itself):
    core = Listening()
    task = make(core)
    assert failures(core.heard)[task] in (FailureKind.CANCELLED, FailureKind.DEPENDENCY)
    if asked_for_itself:
        assert reports(core.heard) == [outcome]
    assert outcome_of_another_cancel(core, task, recursive=True, force=True) is outcome


def test_what_fails_by_itself_is_told_that_it_finished_first():
    """Whatever else was to end it: its group, its actor, the shutdown."""
    core = Core(2)
    actor = core.alive()
    (call,) = core.called(actor)
    core.kill(actor)
    core.exited(1)
    failed = core.running()
    core.answer(2, answer(failed, Ended.RAISED))
    running = core.running()
    core(ShutdownRequested())
    for task in (call, failed, running):
        assert outcome_of_another_cancel(core, task) is CancelOutcome.FINISHED_FIRST
