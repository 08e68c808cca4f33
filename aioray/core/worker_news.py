"""What is told of workers: answers, attempts that came back, and their ends.

Room: core. `WorkerNews` asks the parts below what each means, for a worker of tasks or of an actor,
and lets the worker go on. An answer for an attempt that a worker does not have is a lie, and
nothing counts that it says from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .commands import ResolveValues
from .events import AnswersReceived
from .outcomes import CancelOutcome, Ended
from .states import WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .actors import ActorSupervisor
    from .attempts import Attempts
    from .backlog import Backlog
    from .call_queues import CallQueues
    from .calls import ActorCalls
    from .cancellation import Cancellations
    from .dispatch import Dispatcher
    from .events import AttemptsNotSent, AttemptsReclaimed, WorkerExited
    from .memory import MemoryGuard
    from .model import Task, Worker
    from .outcomes import Excess
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .resources import Resources
    from .starts import Starts
    from .tasks import TaskTable
    from .turn import Turn
    from .waits import Waits

__all__ = ["WorkerNews"]

MEAN_WEIGHT = 0.2  # of the newest run in a function's moving average

_RETURNED = Ended.RETURNED  # members are slow to look up
_ARGUMENT_LOST = Ended.ARGUMENT_LOST


class WorkerNews:
    """The one who hears from workers."""

    __slots__ = (
        "_attempts",
        "_backlog",
        "_call_queues",
        "_calls",
        "_cancels",
        "_dispatcher",
        "_memory",
        "_pool",
        "_prefetch",
        "_resources",
        "_starts",
        "_supervisor",
        "_table",
        "_turn",
        "_waits",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        backlog: Backlog,
        call_queues: CallQueues,
        table: TaskTable,
        pool: WorkerPool,
        starts: Starts,
        attempts: Attempts,
        prefetch: Prefetch,
        supervisor: ActorSupervisor,
        calls: ActorCalls,
        waits: Waits,
        cancels: Cancellations,
        memory: MemoryGuard,
        dispatcher: Dispatcher,
    ) -> None:
        """Take the parts below."""
        self._turn = turn
        self._resources = resources
        self._backlog = backlog
        self._call_queues = call_queues
        self._table = table
        self._pool = pool
        self._starts = starts
        self._attempts = attempts
        self._prefetch = prefetch
        self._supervisor = supervisor
        self._calls = calls
        self._waits = waits
        self._cancels = cancels
        self._memory = memory
        self._dispatcher = dispatcher

    def answer(self, event: AnswersReceived, now: float) -> None:
        """Take what a worker has answered."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None:
            return
        if worker.excess is not None:
            event = _without_condemned(event, worker.excess)
        if worker.actor is not None:
            self._calls.answers(worker, event, now)
            if worker.actor is None:
                self._dispatcher.go_on(worker, now)
            if (
                self._backlog.waiting
                or self._backlog.limited
                or self._prefetch.stalled
                or self._call_queues.calling
            ):
                self._turn.dirty = True
            return
        results: list[tuple[Task, Any]] = []
        unstarted: list[Task] = []
        in_flight, finish = worker.in_flight, self._table.finish
        for answer in event.answers:
            task = in_flight.pop(answer.seq, None)
            if task is None:
                if self._pool.is_lying(worker):
                    break
                continue
            if answer.ended is _ARGUMENT_LOST:
                self._pool.uncount_call(worker, task)
                unstarted.append(task)
                continue
            function = task.kind.function
            worker.functions.add(function.key)
            duration = answer.duration
            if duration:
                mean = function.mean_seconds
                function.mean_seconds = (
                    duration if mean is None else mean + MEAN_WEIGHT * (duration - mean)
                )
            if answer.ended is _RETURNED:
                finish(task, answer, results)
            else:
                self._attempts.judge(task, worker, answer, now)
        if results:
            self._turn.out.append(ResolveValues(results))
        for task in unstarted:  # not before: what they lack may be among the results
            self._table.wait_for_lost(task)
        self._starts.has_served(worker)
        self._dispatcher.go_on(worker, now)
        if (
            self._backlog.waiting
            or self._backlog.limited
            or self._prefetch.stalled
            or self._call_queues.calling
        ):
            self._turn.dirty = True

    def refuse(self, event: AttemptsNotSent, now: float) -> None:
        """Take the failures of attempts that the system had no room to send."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None:
            return
        if worker.actor is not None:
            self._calls.answers(worker, event, now)
        else:
            for answer in event.answers:
                task = worker.in_flight.pop(answer.seq, None)
                if task is not None:  # else the shutdown has given it up
                    self._pool.uncount_call(worker, task)
                    self._attempts.judge(task, worker, answer, now)
            self._dispatcher.go_on(worker, now)
        self._turn.dirty = True

    def reclaim(self, event: AttemptsReclaimed, now: float) -> None:
        """Take attempts that have come back, and go on cancelling those that have not."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None:
            return
        self._put_back(worker, event.seqs)
        self._memory.reclaimed(worker)
        in_flight = worker.in_flight
        newest = worker.reclaims.popleft() if worker.reclaims else self._attempts.last_seq
        if worker.state not in (WorkerStatus.KILLED, WorkerStatus.DEAD) and any(
            task.cancellation is not None for task in in_flight.values()
        ):
            self._cancels.escalate(worker, newest, now)
        if event.seqs and not in_flight:
            self._dispatcher.go_on(worker, now)
        self._turn.dirty = True

    def _put_back(self, worker: Worker, seqs: Sequence[int]) -> None:
        """Put attempts that never ran where they came from."""
        for seq in sorted(seqs, reverse=True):
            task = worker.in_flight.pop(seq, None)
            if task is None:
                worker.given_up.discard(seq)
                continue  # a shutdown has given it up, or a circle
            self._pool.uncount_call(worker, task)
            if worker.actor is not None:
                self._supervisor.taken_back(task, worker)
            task.worker = None
            task.seq = 0
            if task.number not in self._table.unfinished:
                continue  # it was to make an actor that nobody wants any more
            if self._table.has_failed_of_deadline(task):
                continue
            if task.cancellation is not None:
                self._table.fail_cancelled(task, CancelOutcome.NOT_STARTED)
            else:
                self._table.enqueue(task, front=True)

    def bury(self, event: WorkerExited, now: float) -> None:
        """Take the end of a worker: what it ran is harmed."""
        worker = self._pool.remove(event.worker_id)
        if worker is None:
            return
        expected = worker.state in (WorkerStatus.STOPPING, WorkerStatus.KILLED)
        self._prefetch.stalled.pop(worker, None)
        self._resources.release(worker)
        if event.begun:
            self._put_back(worker, _unbegun(worker, event.begun))
        harmed = tuple(worker.in_flight.values())
        worker.in_flight.clear()
        self._waits.forget(harmed)
        if worker.actor is not None:
            self._supervisor.exited(worker, event, harmed, now)
        else:
            for task in harmed:
                self._attempts.crash(task, worker, event, now)
        if not (expected or harmed or worker.served):
            # It never did anything: as good as a failed start, and must not spin like one.
            self._starts.start_failed(worker, event.report, now)
        self._turn.dirty = True


def _without_condemned(event: AnswersReceived, excess: Excess) -> AnswersReceived:
    """Leave out the answer of an attempt that has exceeded its limit: its worker is killed."""
    if excess.shortage is not None:
        return event
    answers = [answer for answer in event.answers if answer.seq != excess.seq]
    return AnswersReceived(event.worker_id, answers)


def _unbegun(worker: Worker, begun: Sequence[int]) -> list[int]:
    """Find the calls that an asynchronous actor has claimed and its loop had not come to."""
    actor = worker.actor
    if actor is None or not actor.asynchronous:
        return []
    last = dict(zip(actor.concurrency_groups, begun, strict=False))
    return [
        seq
        for seq, task in worker.in_flight.items()
        if task.actor is None and seq > last.get(task.kind.scheduling_class, seq)
    ]
