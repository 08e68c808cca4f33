"""Attempts: how one begins, what its end means, and whether there is another.

Room: core. An attempt that ended without a value is retried, at once or after a delay, within the
task's budget of tries and of time; else the task fails, with the record of every attempt.

Who wins when news cross. An answer always stands: a value that was written before a cancel, a kill
or the death of the worker took hold is the result. A reclaimed attempt never ran. What was claimed
and not answered when the worker died is the one attempt that the death harmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import ReportOrphans, ReportRetry
from .facts import BackoffEnded
from .outcomes import AttemptRecord, AttemptTimes, CancelOutcome, Ended, Failure, FailureKind
from .retries import crash_delay
from .states import TaskStatus

if TYPE_CHECKING:
    import random

    from .events import WorkerExited
    from .lanes import Lanes
    from .model import Task, Worker
    from .outcomes import Answer
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Attempts"]

_OF_CANCEL = (Ended.RAISED_CANCELLED, Ended.RAISED_CANCELLED_RETRYABLE)
_MAY_RETRY = (Ended.RAISED_RETRYABLE, Ended.RAISED_CANCELLED_RETRYABLE, Ended.ASKED_FOR_RETRY)
_TOO_LATE = CancelOutcome.FINISHED_FIRST
_SUBMITTED = TaskStatus.SUBMITTED_TO_WORKER  # members are slow to look up


class Attempts:
    """The attempts of all tasks."""

    __slots__ = ("_lanes", "_move", "_rng", "_table", "_turn", "last_seq")

    def __init__(self, turn: Turn, table: TaskTable, lanes: Lanes, rng: random.Random) -> None:
        """Begin with no attempts. rng: source of jitter."""
        self._turn = turn
        self._move = turn.story.move
        self._table = table
        self._lanes = lanes
        self._rng = rng
        self.last_seq = 0

    def begin(self, task: Task, worker: Worker, now: float) -> None:
        """Begin a new attempt of a task, on its way to a worker."""
        self.last_seq = seq = self.last_seq + 1
        task.seq = seq
        task.worker = worker
        task.sent_to = worker.id
        task.sent_at = now
        self._move(task, _SUBMITTED)
        worker.in_flight[seq] = task

    @staticmethod
    def record_of(task: Task, worker: Worker, answer: Answer, kind: FailureKind) -> AttemptRecord:
        """Make the record of an attempt that has answered."""
        return AttemptRecord(
            task.attempt,
            worker.id,
            answer.started_at,
            answer.duration,
            kind,
            answer.payload,
            AttemptTimes.of(task),
        )

    @staticmethod
    def record_of_crash(
        task: Task, worker: Worker, event: WorkerExited, kind: FailureKind, now: float
    ) -> AttemptRecord:
        """Make the record of an attempt whose worker has died."""
        started = event.started_at if event.started_at is not None else task.sent_at
        duration = max(0.0, now - started)
        return AttemptRecord(
            task.attempt, worker.id, started, duration, kind, event.report, AttemptTimes.of(task)
        )

    def record(self, task: Task, record: AttemptRecord) -> None:
        """Keep a record with its task."""
        if task.failures is None:
            task.failures = []
        task.failures.append(record)

    def judge(self, task: Task, worker: Worker, answer: Answer, now: float) -> None:
        """Judge an attempt that has ended without a value: try again, or fail the task.

        If it was to be cancelled, and raises that one which it waited for was, that is how the
        cancel has reached it: a recursive one is after both, and either may hear of it first.
        """
        ended = answer.ended
        of_cancel = ended in _OF_CANCEL
        interrupted = ended in (Ended.INTERRUPTED, Ended.NOT_STARTED) or (
            of_cancel and task.cancellation is not None
        )
        kind = self._table.cancelled_kind(task) if interrupted else FailureKind.APPLICATION
        record = self.record_of(task, worker, answer, kind)
        if ended in _MAY_RETRY and task.cancellation is None:
            if ended is Ended.ASKED_FOR_RETRY:
                delay = answer.delay or 0.0
            else:
                delay = self._policy_delay(task)
            if self.retry(task, record, delay, now):
                return
        self.record(task, record)
        outcome, detail = CancelOutcome.INTERRUPTED, answer.payload
        if ended is Ended.NOT_STARTED:
            outcome, detail = CancelOutcome.NOT_STARTED, None
        if kind is FailureKind.SHUTDOWN or not (interrupted or of_cancel):
            outcome = _TOO_LATE
        failure = Failure(kind, detail, attempts=tuple(task.failures or ()))
        partial = answer.partial and kind is FailureKind.APPLICATION
        self._table.fail(task, failure, outcome, partial=partial)

    def crash(self, task: Task, worker: Worker, event: WorkerExited, now: float) -> None:
        """Judge an attempt that has died with its worker: try again, or fail the task."""
        if task.children:
            self._turn.out.append(ReportOrphans(tuple(task.children.values())))
        cancelled = task.cancellation is not None
        forbidden = task.scheduling_class.forbidden
        if cancelled:
            kind = self._table.cancelled_kind(task)
        else:
            kind = FailureKind.WORKER_DIED if forbidden is None else forbidden.kind
        record = self.record_of_crash(task, worker, event, kind, now)
        if not cancelled:
            crash = task.policy is None
            delay = crash_delay(task.attempt + 1) if crash else self._policy_delay(task)
            if self.retry(task, record, delay, now):
                return
        self.record(task, record)
        if cancelled:
            self._table.fail_cancelled(task, CancelOutcome.KILLED)
            return
        attempts = tuple(task.failures or ())
        detail = event.report if kind is FailureKind.WORKER_DIED else None
        self._table.fail(task, Failure(kind, detail, attempts=attempts))

    def _policy_delay(self, task: Task) -> float:
        if task.policy is None:
            return 0.0 if task.scheduling_class.actor is None else crash_delay(task.attempt + 1)
        return task.policy.delay(task.attempt + 1, self._rng)

    def retry(self, task: Task, record: AttemptRecord, delay: float, now: float) -> bool:
        """Arrange another attempt; False if the budget of tries or of time is used up."""
        left = task.retries_left
        if left == 0 or task.scheduling_class.forbidden is not None:
            return False
        budget = task.policy.time_budget if task.policy is not None else None
        first = (task.failures[0] if task.failures else record).started_at
        if budget is not None and first is not None and now + delay - first > budget:
            return False
        self.record(task, record)
        self._turn.out.append(ReportRetry(task, record, left, delay))
        if left > 0:
            task.retries_left = left - 1
        self._table.next_attempt(task)
        if delay <= 0.0:
            self._table.requeue(task, now)
        else:
            self._move(task, TaskStatus.BACKOFF)
            if task.scheduling_class.actor is not None:
                self._lanes.waits(task)
            self._turn.timers.set(now + delay, BackoffEnded(task))
        return True

    def end_backoff(self, fact: BackoffEnded) -> None:
        """Queue a task whose delay is over, if it still waits for that."""
        if fact.task.state is TaskStatus.BACKOFF:
            self._table.requeue(fact.task, self._turn.now)
            self._turn.dirty = True
