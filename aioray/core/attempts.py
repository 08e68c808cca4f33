"""Attempts: how one begins, what its end means, and whether there is another.

Room: core. An attempt that ended without a value is retried, at once or after a delay, within the
task's budget of tries and of time; else the task fails, with the record of every attempt.

What is killed for its memory has a budget of its own, as in Ray: `task_oom_retries`, for whatever
may be tried again at all. Unless that is set, a task that has exceeded its own limit is tried again
as often as after crashes, and one that had to go because the machine ran short any number of times,
if it was not the only one that ran: then nothing will be better next time.

Who wins when news cross. An answer always stands: a value that was written before a cancel, a kill
or the death of the worker took hold is the result. A reclaimed attempt never ran. What was claimed
and not answered when the worker died is the one attempt that the death harmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .commands import ReportOrphans, ReportRetry
from .facts import BackoffEnded
from .outcomes import AttemptRecord, AttemptTimes, CancelOutcome, Ended, Failure, FailureKind
from .records import replace
from .retries import SHORTAGE_BACKOFF, crash_delay
from .states import TaskStatus

if TYPE_CHECKING:
    import random

    from .call_queues import CallQueues
    from .events import WorkerExited
    from .model import Task, Worker
    from .outcomes import Answer, Excess, Overrun, Shortage
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Attempts"]

_OF_CANCEL = (Ended.RAISED_CANCELLED, Ended.RAISED_CANCELLED_RETRYABLE)
_OF_INTERRUPT = (Ended.INTERRUPTED, Ended.NOT_STARTED)
_MAY_RETRY = (Ended.RAISED_RETRYABLE, Ended.RAISED_CANCELLED_RETRYABLE, Ended.ASKED_FOR_RETRY)
_TOO_LATE = CancelOutcome.FINISHED_FIRST
_SUBMITTED = TaskStatus.SUBMITTED_TO_WORKER  # members are slow to look up


class Attempts:
    """The attempts of all tasks."""

    __slots__ = (
        "_alarms",
        "_call_queues",
        "_memory_retries",
        "_move",
        "_rng",
        "_table",
        "_turn",
        "last_seq",
    )

    def __init__(
        self,
        turn: Turn,
        table: TaskTable,
        call_queues: CallQueues,
        rng: random.Random,
        memory_retries: int | None = None,
    ) -> None:
        """Begin with no attempts. rng: source of jitter.

        memory_retries: how often a task is tried again that was killed for its memory; -1: any
        number of times; None: that depends, see above.
        """
        self._turn = turn
        self._move = turn.story.move
        self._table = table
        self._alarms = table.alarms
        self._call_queues = call_queues
        self._rng = rng
        self._memory_retries = memory_retries
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
        if task.kind.limits is not None:
            self._alarms.begun(task, now)
            if task.kind.limits.limiter is not None:
                task.kind.limits.limiter.take(task, now)

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
        if task.kind.limits is not None:
            self._table.breakers.survived(task)
        if ended in _OF_INTERRUPT and self.overrun_of(task):
            if task.children:
                self._turn.out.append(ReportOrphans(tuple(task.children.values())))
            record = self.record_of(task, worker, answer, FailureKind.TIMEOUT)
            self.overran(task, record, now, answer.payload)
            return
        overrun = self._table.forgive(task)  # else it has an outcome of its own
        has_time = overrun is None or not overrun.is_final
        of_cancel = ended in _OF_CANCEL
        interrupted = ended in _OF_INTERRUPT or (of_cancel and task.cancellation is not None)
        kind = self._table.cancelled_kind(task) if interrupted else FailureKind.APPLICATION
        record = self.record_of(task, worker, answer, kind)
        if ended in _MAY_RETRY and task.cancellation is None and has_time:
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
        if self.overrun_of(task):
            record = self.record_of_crash(task, worker, event, FailureKind.TIMEOUT, now)
            opened = self._table.breakers.died(task, record)
            self.overran(task, record, now)
            if opened:
                self._table.fail_of_open_circuit(task)
            return
        cancelled = task.cancellation is not None
        forbidden = task.kind.scheduling_class.forbidden
        if cancelled:
            kind = self._table.cancelled_kind(task)
        else:
            kind = self.kind_of_death(task, worker) if forbidden is None else forbidden.kind
        record = self.record_of_crash(task, worker, event, kind, now)
        harmless = cancelled or kind is not FailureKind.WORKER_DIED
        if not harmless and self._table.breakers.died(task, record):
            self._fail_crashed(task, event, record, kind)
            self._table.fail_of_open_circuit(task)
            return
        if not cancelled and self.retry_crashed(task, worker, record, now):
            return
        if cancelled:
            self.record(task, record)
            self._table.fail_cancelled(task, CancelOutcome.KILLED)
            return
        self._fail_crashed(task, event, record, kind)

    def _fail_crashed(
        self, task: Task, event: WorkerExited, record: AttemptRecord, kind: FailureKind
    ) -> None:
        self.record(task, record)
        attempts = tuple(task.failures or ())
        died = (FailureKind.WORKER_DIED, FailureKind.OUT_OF_MEMORY)
        detail = event.report if kind in died else None
        self._table.fail(task, Failure(kind, detail, attempts=attempts))

    @staticmethod
    def overrun_of(task: Task) -> Overrun | None:
        """Return what an attempt has exceeded that is to end for that; None: it is not."""
        return None if task.cancellation is None else task.cancellation.overrun

    def overran(self, task: Task, record: AttemptRecord, now: float, payload: Any = None) -> None:
        """Judge an attempt that has ended for taking too long: try again if asked for, or fail.

        payload: what it has answered to the interrupt.
        """
        overrun = self._table.forgive(task)
        assert overrun is not None
        if payload is not None:
            overrun = replace(overrun, payload=payload)
        record = replace(record, detail=overrun)
        if (
            overrun.retries
            and not overrun.is_final
            and self.retry(task, record, self._policy_delay(task), now)
        ):
            return
        self.record(task, record)
        attempts = tuple(task.failures or ())
        self._table.fail(task, Failure(FailureKind.TIMEOUT, overrun, attempts=attempts))

    @staticmethod
    def kind_of_death(task: Task, worker: Worker) -> FailureKind:
        """Tell why a task is harmed by the death of its worker."""
        excess = worker.excess
        if excess is not None and excess.seq in (0, task.seq):
            return FailureKind.OUT_OF_MEMORY
        return FailureKind.WORKER_DIED

    def retry_crashed(self, task: Task, worker: Worker, record: AttemptRecord, now: float) -> bool:
        """Arrange another attempt of a task whose worker has died; False if there is none left."""
        delay = crash_delay(task.attempt + 1)
        excess = worker.excess if record.kind is FailureKind.OUT_OF_MEMORY else None
        if task.policy is not None:
            delay = self._policy_delay(task)
        elif excess is not None and excess.shortage is not None:
            delay = SHORTAGE_BACKOFF.ceiling(_killed_for_memory(task) + 1)
        return self.retry(task, record, delay, now, excess)

    def memory_retries(self, task: Task, shortage: Shortage | None) -> int:
        """Count the tries that a task has left which is killed for its memory; -1: any number.

        shortage: of the machine; None: the task has exceeded its own limit.
        """
        if not task.max_retries:
            return 0
        allowed = self._memory_retries
        if allowed is None:
            allowed = -1
            if shortage is None:
                allowed = task.max_retries
            elif shortage.alone:
                allowed = 0
        return allowed if allowed < 0 else max(0, allowed - _killed_for_memory(task))

    def _policy_delay(self, task: Task) -> float:
        if task.policy is None:
            return (
                0.0 if task.kind.scheduling_class.actor is None else crash_delay(task.attempt + 1)
            )
        return task.policy.delay(task.attempt + 1, self._rng)

    def retry(
        self,
        task: Task,
        record: AttemptRecord,
        delay: float,
        now: float,
        excess: Excess | None = None,
    ) -> bool:
        """Arrange another attempt; False if the budget of tries or of time is used up.

        excess: why it was killed, if that was for its memory, which has a budget of its own.
        """
        left = task.retries_left
        if excess is not None:
            left = self.memory_retries(task, excess.shortage)
        if left == 0 or task.kind.scheduling_class.forbidden is not None:
            return False
        if task.kind.limits is not None and not self._table.breakers.allows_retry(task):
            return False
        budget = task.policy.time_budget if task.policy is not None else None
        first = (task.failures[0] if task.failures else record).started_at
        if budget is not None and first is not None and now + delay - first > budget:
            return False
        self.record(task, record)
        self._turn.out.append(ReportRetry(task, record, left, delay))
        if left > 0 and excess is None:
            task.retries_left = left - 1
        self._table.next_attempt(task)
        if delay <= 0.0:
            self._table.requeue(task, now)
        else:
            self._move(task, TaskStatus.BACKOFF)
            if task.kind.scheduling_class.actor is not None:
                self._call_queues.waits(task)
            self._turn.timers.set(now + delay, BackoffEnded(task))
        return True

    def end_backoff(self, fact: BackoffEnded) -> None:
        """Queue a task whose delay is over, if it still waits for that."""
        if fact.task.state is TaskStatus.BACKOFF:
            self._table.requeue(fact.task, self._turn.now)
            self._turn.dirty = True


def _killed_for_memory(task: Task) -> int:
    """Count the attempts that were killed for the memory that they had."""
    return sum(record.kind is FailureKind.OUT_OF_MEMORY for record in task.failures or ())
