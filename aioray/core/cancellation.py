"""Cancelling: a ladder per task, from the request to the kill.

Room: core. Requested: the worker is asked for what it has not claimed, which then never runs.
Interrupted: SIGINT, repeated until delivered. Killed: if asked for, or when the grace period is
over. See `CancelStatus`; what a request has asked for is a `Cancellation`.

A worker claims one attempt after it has answered the one before; so of those that could not be
reclaimed only the last can be running, and only on its account may the worker be interrupted or
killed. An actor is not killed because one call is cancelled.

An attempt that takes too long (see `overruns`) climbs the same ladder, but that it is located
before it is interrupted, and that it may be followed by another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cancels import Cancellation
from .commands import CancelCall, InterruptWorker, LocateAttempt, PollWorker, ReportCancel
from .facts import GraceEnded, InterruptUnanswered, OverrunGraceEnded
from .outcomes import CancelOutcome
from .states import CancelStatus, TaskStatus, WorkerStatus

if TYPE_CHECKING:
    from .events import CancelRequested
    from .model import Task, Worker
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Cancellations", "with_descendants"]

GRACE_SECONDS = 1.0  # between interrupt and kill of what takes too long
INTERRUPT_PERIOD = 0.05  # seconds between two interrupts of one attempt


def with_descendants(task: Task) -> list[Task]:
    """List a task and the unfinished ones that it, and they in turn, have submitted.

    Actors that they have made are not among them.
    """
    family = [task]
    for member in family:  # it grows meanwhile
        children = (member.children or {}).values()
        family.extend([child for child in children if child.actor is None])
    return family


class Cancellations:
    """What is to be cancelled."""

    __slots__ = ("_move", "_pool", "_prefetch", "_table", "_turn")

    def __init__(self, turn: Turn, table: TaskTable, pool: WorkerPool, prefetch: Prefetch) -> None:
        """Begin with no request to cancel."""
        self._turn = turn
        self._move = turn.story.move
        self._table = table
        self._pool = pool
        self._prefetch = prefetch

    def cancel(self, event: CancelRequested, now: float) -> None:
        """Take up a request to cancel a task."""
        task = event.task
        # A reservation is no work that could be cancelled: its group can be removed. Nor is the
        # making of an actor, which can be killed.
        done = task.state in (TaskStatus.FINISHED, TaskStatus.FAILED)
        if done or task.scheduling_class.reserves is not None or task.actor is not None:
            self._turn.out.append(ReportCancel(event.request_id, task.cancel_outcome))
            return
        family = with_descendants(task) if event.recursive else [task]
        for member in family:
            if member.cancellation is None:
                member.cancellation = Cancellation()
            member.cancellation.recursive |= event.recursive
            member.cancellation.by_shutdown = False  # no longer only that
            member.cancellation.overrun = None
        task.cancellation.request_ids.append(event.request_id)  # type: ignore[union-attr]
        for member in family:
            self._begin(member, event, now)
        self._turn.dirty = True  # others may have waited for it to go first

    def _begin(self, task: Task, event: CancelRequested, now: float) -> None:
        """Begin to climb the ladder with one task."""
        cancellation, worker = task.cancellation, task.worker
        if cancellation is None or task.number not in self._table.unfinished:
            return  # it has failed together with one before
        if worker is None:
            self._table.fail_cancelled(task, CancelOutcome.NOT_STARTED)
            return
        if task.scheduling_class.actor is None:  # what has state is not killed for one call
            cancellation.force = cancellation.force or event.force
        if event.grace is not None:
            self._turn.timers.set(now + event.grace, GraceEnded(task))
        # If the worker has not claimed it, it never will; else AttemptsReclaimed climbs on.
        self._prefetch.reclaim(worker)

    def escalate(self, worker: Worker, newest: int, now: float) -> None:
        """Take the next step for what is to be cancelled of that which a worker has claimed.

        newest: the last attempt that had been sent when the others were reclaimed.
        """
        if worker.actor is not None:
            self._escalate_calls(worker, now)
            return
        if next(reversed(worker.in_flight)) > newest:
            self._prefetch.reclaim(worker)  # more was sent since, and may be running by now
            return
        *answered, running = worker.in_flight.values()
        if any(task.cancellation is not None for task in answered):
            self._turn.out.append(PollWorker(worker.id))  # there lies their outcome
        cancellation = running.cancellation
        if cancellation is None:
            return
        if cancellation.force:
            self._kill(running, cancellation, worker)
        elif self._is_to_interrupt(running, cancellation, worker):
            self._move(cancellation, CancelStatus.INTERRUPTED)
            self._interrupt(running, worker, now)
            self._limit(running, cancellation, now)

    def _kill(self, task: Task, cancellation: Cancellation, worker: Worker) -> None:
        """Take the last step: kill the worker, which is neither dead nor killed already."""
        overrun = cancellation.overrun
        self._move(cancellation, CancelStatus.KILLED)
        self._pool.want_spare(worker, self._turn.now)
        self._pool.kill(worker, "" if overrun is None else overrun.text(task.name))

    def _is_to_interrupt(self, task: Task, cancellation: Cancellation, worker: Worker) -> bool:
        """Tell whether it is time to interrupt; if the task must be located first, order that."""
        overrun = cancellation.overrun
        if overrun is None or overrun.report is not None:
            return cancellation.state in (CancelStatus.REQUESTED, CancelStatus.LOCATED)
        if cancellation.state is CancelStatus.REQUESTED:
            self._move(cancellation, CancelStatus.LOCATED)
            self._turn.out.append(LocateAttempt(worker.id, task, overrun))
        return False

    def _limit(self, task: Task, cancellation: Cancellation, now: float) -> None:
        """Give what takes too long its time to end."""
        if cancellation.overrun is not None:
            due = now + GRACE_SECONDS
            self._turn.timers.set(due, OverrunGraceEnded(task, cancellation))

    def insist(self, task: Task) -> None:
        """See to it that a task which is cancelled, and takes too long, ends: after a grace."""
        assert task.cancellation is not None
        due = self._turn.now + GRACE_SECONDS
        self._turn.timers.set(due, OverrunGraceEnded(task, task.cancellation))

    def end_overrun_grace(self, fact: OverrunGraceEnded) -> None:
        """Kill what still takes too long, also if it is a call of an actor."""
        task, cancellation = fact.task, fact.cancellation
        if task.cancellation is cancellation and task.worker is not None:
            cancellation.force = True
            self._turn.out.append(PollWorker(task.worker.id))  # it may have answered just now
            self._prefetch.reclaim(task.worker)

    def _escalate_calls(self, worker: Worker, now: float) -> None:
        """Take the next step for what is to be cancelled of that which an actor has claimed.

        Nothing was sent since the rest was taken back, see `_serve`.
        """
        actor = worker.actor
        assert actor is not None
        running = list(worker.in_flight.values())
        if actor.ahead:
            *answered, last = running
            if any(task.cancellation is not None for task in answered):
                self._turn.out.append(PollWorker(worker.id))
            running = [last]
        for task in running:
            cancellation = task.cancellation
            if cancellation is None:
                continue
            overruns = cancellation.overrun is not None
            if cancellation.force:
                self._kill(task, cancellation, worker)
            elif task.actor is not None and not overruns:
                continue
            elif self._is_to_interrupt(task, cancellation, worker):
                self._move(cancellation, CancelStatus.INTERRUPTED)
                if task.actor is not None:
                    in_main_thread = not actor.asynchronous
                else:
                    in_main_thread = actor.ahead if overruns else task.traits.interruptible
                if in_main_thread:
                    self._interrupt(task, worker, now)
                else:
                    cancellation.told = True
                    self._turn.out.append(CancelCall(worker.id, task.seq))
                self._limit(task, cancellation, now)

    def repeat(self, fact: InterruptUnanswered) -> None:
        """Interrupt a task once more, unless it is at another attempt by now."""
        if fact.task.cancellation is not None:
            self._interrupt(fact.task, fact.worker, self._turn.now)

    def _interrupt(self, task: Task, worker: Worker, now: float) -> None:
        if task.worker is worker and worker.state not in (WorkerStatus.KILLED, WorkerStatus.DEAD):
            self._turn.out.append(InterruptWorker(worker.id, task.seq))
            self._turn.timers.set(now + INTERRUPT_PERIOD, InterruptUnanswered(task, worker))

    def end_grace(self, fact: GraceEnded) -> None:
        """Kill what is still running after its grace period."""
        task = fact.task
        call = task.scheduling_class.actor is not None  # what has state is not killed for one
        if task.worker is not None and task.cancellation is not None and not call:
            task.cancellation.force = True
            # It may be answered already, and the worker be at another: look before killing.
            self._prefetch.reclaim(task.worker)
