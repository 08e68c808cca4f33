"""Every unfinished task: what it waits for, what waits for it, and how it ends.

Room: core. `TaskTable` moves tasks between waiting for arguments, the backlog (or the queues of
calls, if they are calls of actors), and their outcomes. It knows no workers: attempts are begun and
judged in `attempts`.

What is lost. The shell says so (`ResultLost`), and when somebody wants it, or a task that is to run
needs it, its task runs again as one more attempt within the same budget. `Revive` asks the shell
for the arguments; what is missing there is wanted in turn, one task per event, however long the
chain. A task that finds an argument gone when it is about to run goes back to waiting, at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .alarms import Alarms
from .breakers import Breakers
from .cancels import Cancellation
from .commands import ReportCancel, ResolveFailure, Revive
from .facts import CreationFailed, CreationWaits
from .outcomes import (
    LOST_CANCELLED,
    LOST_MAX_ATTEMPTS,
    LOST_RETRIES_DISABLED,
    CancelOutcome,
    Failure,
    FailureKind,
    Overrun,
)
from .records import replace
from .states import CancelStatus, Phase, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .backlog import Backlog
    from .call_queues import CallQueues
    from .events import ResultLost, ResultWanted, Revived, TasksSubmitted
    from .model import SchedulingClass, Task
    from .outcomes import Answer
    from .turn import Turn

__all__ = ["TaskTable"]

_PENDING = TaskStatus.PENDING_NODE_ASSIGNMENT  # members are slow to look up
_FINISHED = TaskStatus.FINISHED
_OPEN = Phase.OPEN
_TOO_LATE = CancelOutcome.FINISHED_FIRST


class TaskTable:
    """The tasks that have no outcome yet."""

    __slots__ = (
        "_backlog",
        "_call_queues",
        "_move",
        "_turn",
        "alarms",
        "breakers",
        "newest",
        "unfinished",
    )

    def __init__(self, turn: Turn, backlog: Backlog, call_queues: CallQueues) -> None:
        """Begin with no tasks."""
        self._turn = turn
        self._move = turn.story.move
        self._backlog = backlog
        self._call_queues = call_queues
        self.unfinished: dict[int, Task] = {}  # by number
        self.alarms = Alarms(turn, self.unfinished)
        self.breakers = Breakers(turn)
        self.newest = 0  # number of the task submitted last

    def submit(self, event: TasksSubmitted, now: float) -> None:
        """Take the tasks of a `TasksSubmitted`."""
        tasks = self.unfinished
        phase = self._turn.life.state
        for task in event.tasks:
            tasks[task.number] = task
            task.created_at = now
            parent = None if task.submitter is None else task.parent
            task.queued_at = now
            if parent is not None:
                if parent.number in tasks:  # else nothing in it waits: a thread of an actor asks
                    task.queued_at = parent.queued_at
                self.join(parent, task)
            call = task.kind.scheduling_class.actor is not None
            if call:
                self._call_queues.submitted(task)
            if task.kind.limits is not None:
                self.alarms.submitted(task, now)
            if phase is not _OPEN and not (
                phase is Phase.DRAINING and parent is not None and parent.number in tasks
            ):
                self.fail(task, Failure(FailureKind.SHUTDOWN))
            elif parent is not None and task.actor is None and self._takes_children_along(parent):
                task.cancellation = Cancellation()
                task.cancellation.recursive = True
                self.fail_cancelled(task, CancelOutcome.NOT_STARTED)
            elif task.kind.limits is not None and (refusal := self._refusal(task)) is not None:
                self.fail(task, refusal)
            elif call and task.kind.scheduling_class.forbidden is not None:
                self.enqueue(task)  # its actor is dead, whatever it may wait for
            elif task.dependencies:
                # Held no longer than needed: a chain of finished tasks would otherwise stay whole.
                dependencies, task.dependencies = task.dependencies, ()
                self._await_dependencies(task, dependencies)
                if call and task.state is TaskStatus.PENDING_ARGS_AVAIL:
                    self._call_queues.waits(task)
            else:
                self.enqueue(task)
            if task.actor is not None and task.number in tasks:
                self._turn.announce(CreationWaits(task.actor))
        if event.tasks:
            self.newest = event.tasks[-1].number
        self._turn.dirty = True

    def join(self, parent: Task, task: Task) -> None:
        """Count a task among the unfinished ones that its parent has submitted."""
        if parent.children is None:
            parent.children = {}
        parent.children[task.number] = task

    def _leave(self, task: Task) -> None:
        if (parent := task.parent) is not None:
            (parent.children or {}).pop(task.number, None)

    @staticmethod
    def _takes_children_along(task: Task) -> bool:
        return task.cancellation is not None and task.cancellation.recursive

    def _await_dependencies(self, task: Task, dependencies: Sequence[Task]) -> None:
        unready = 0
        for dependency in dependencies:
            if dependency.lost:
                self._recover(dependency)
            state = dependency.state
            if state is TaskStatus.FAILED:
                self.fail(task, Failure(FailureKind.DEPENDENCY, upstream=dependency))
                return
            if state is not TaskStatus.FINISHED:
                if dependency.dependents is None:
                    dependency.dependents = []
                dependency.dependents.append(task)
                unready += 1
        task.unready_dependencies = unready
        if not unready:
            self.enqueue(task)

    def enqueue(self, task: Task, *, front: bool = False) -> None:
        """Queue a task that is ready, or fail it if its class is forbidden."""
        cls = task.kind.scheduling_class
        if cls.forbidden is not None:
            self.fail(task, replace(cls.forbidden, attempts=tuple(task.failures or ())))
            return
        if task.kind.limits is not None and (refusal := self.breakers.refusal(task)) is not None:
            self.fail(task, refusal)
            return
        self._move(task, _PENDING)
        task.ready_at = self._turn.now
        if cls.actor is not None:
            self._call_queues.enqueue(task, front=front)
            return
        if task.actor is not None:
            self._turn.announce(CreationWaits(task.actor))
        if front:
            self._backlog.put_first(task)
        else:
            self._backlog.put(task)

    def finish(self, task: Task, answer: Answer, results: list[tuple[Task, Any]]) -> None:
        """Finish a task with its value, which goes to the results that are about to be told."""
        self._move(task, _FINISHED)
        task.started_at = answer.started_at
        task.seconds = answer.duration
        del self.unfinished[task.number]
        task.worker = None
        if task.submitter is not None:
            self._leave(task)
        results.append((task, answer.payload))
        if task.dependents is not None:
            self.finish_dependents(task)
        if task.kind.limits is not None:
            self.breakers.survived(task)
        if task.cancellation is not None:
            self._move(task.cancellation, CancelStatus.ENDED)
            self._report_cancel(task.cancellation, CancelOutcome.FINISHED_FIRST)
            if task.cancellation.overrun is not None:
                task.cancellation = None  # nobody has asked for it

    def finish_dependents(self, task: Task) -> None:
        """Queue what has waited for nothing but this task."""
        dependents, task.dependents = task.dependents, None
        for dependent in dependents or ():
            if dependent.state is TaskStatus.PENDING_ARGS_AVAIL:
                dependent.unready_dependencies -= 1
                if not dependent.unready_dependencies:
                    self.enqueue(dependent)

    def fail(
        self,
        task: Task,
        failure: Failure,
        outcome: CancelOutcome = CancelOutcome.FINISHED_FIRST,
        *,
        partial: bool = False,
    ) -> None:
        """Fail the task and, one after the other, everything that waits for it.

        partial: some of its values are there, and what waits for it may want those: that finds out
        when it is to run, see `_argument_lost`. outcome: what those are told who have asked to
        cancel the task, or do so from now on; FINISHED_FIRST unless the failure is of cancelling.
        """
        self._fail_one(task, failure, outcome)
        if task.cancellation is not None:
            self._report_cancel(task.cancellation, outcome)
        if partial:
            self.finish_dependents(task)
        work = [task]
        while work:
            upstream = work.pop()
            dependents, upstream.dependents = upstream.dependents, None
            for dependent in dependents or ():
                if dependent.state is TaskStatus.PENDING_ARGS_AVAIL:
                    self._fail_one(dependent, Failure(FailureKind.DEPENDENCY, upstream=upstream))
                    work.append(dependent)

    def _fail_one(
        self, task: Task, failure: Failure, outcome: CancelOutcome = CancelOutcome.FINISHED_FIRST
    ) -> None:
        cls = task.kind.scheduling_class
        if failure.upstream is not None and failure.upstream.cancel_outcome is not _TOO_LATE:
            outcome = CancelOutcome.NOT_STARTED  # it was cancelled along with that
        if outcome is not _TOO_LATE:
            if task.cancellation is None:
                task.cancellation = Cancellation()
            task.cancellation.outcome = outcome
        if task.cancellation is not None and task.cancellation.state is not CancelStatus.ENDED:
            self._move(task.cancellation, CancelStatus.ENDED)
        if cls.actor is not None:
            self._call_queues.drop(task)
        elif task.state is _PENDING:
            self._backlog.remove(task)
        self._move(task, TaskStatus.FAILED)
        if task.kind.limits is not None:
            self.breakers.gave_up(task)
        del self.unfinished[task.number]
        if task.submitter is not None:
            self._leave(task)
        self._turn.out.append(ResolveFailure(task, failure))
        task.worker = None
        if task.actor is not None:
            self._turn.announce(CreationFailed(task.actor, failure))

    def fail_cancelled(self, task: Task, outcome: CancelOutcome) -> None:
        """Fail a task because it was to be cancelled, which has happened in this way."""
        failure = Failure(self.cancelled_kind(task), attempts=tuple(task.failures or ()))
        if failure.kind is not FailureKind.CANCELLED:
            outcome = _TOO_LATE  # it was the shutdown's doing
        self.fail(task, failure, outcome)

    def cancelled_kind(self, task: Task) -> FailureKind:
        """Tell who has ended a task: somebody that cancelled it, or the shutdown."""
        cancellation = task.cancellation
        if cancellation is None or not (cancellation.by_shutdown or cancellation.overrun):
            return FailureKind.CANCELLED
        return FailureKind.SHUTDOWN

    def forgive(self, task: Task) -> Overrun | None:
        """Let a task go on whose attempt took too long; return by what, unless nothing did."""
        cancellation = task.cancellation
        if cancellation is None or cancellation.overrun is None:
            return None
        self._move(cancellation, CancelStatus.ENDED)
        task.cancellation = None
        return cancellation.overrun

    def has_failed_of_deadline(self, task: Task) -> bool:
        """Fail a task that took too long and has not begun; tell whether its time is over.

        It is not if only the attempt has a limit, which does not count then.
        """
        overrun = self.forgive(task)
        if overrun is None or not overrun.is_final:
            return False
        attempts = tuple(task.failures or ())
        self.fail(task, Failure(FailureKind.TIMEOUT, overrun, attempts=attempts))
        return True

    def _refusal(self, task: Task) -> Failure | None:
        """Return why a task that is submitted must not run; None: it may."""
        if task.kind.limits is not None and task.kind.limits.deadline == 0.0:
            return Failure(FailureKind.TIMEOUT, Overrun.of_deadline(0.0, 0.0))
        return self.breakers.refusal(task)

    def fail_of_open_circuit(self, task: Task) -> None:
        """Fail what waits and has the same breaker as this task, which has opened it."""
        for other in tuple(self.unfinished.values()):
            if other.worker is None and self.breakers.shares(task, other):
                refusal = self.breakers.refusal(other)
                if refusal is not None and other.number in self.unfinished:
                    self.fail(other, refusal)

    @staticmethod
    def met_deadline(task: Task) -> None:
        """Let no deadline count for a task any more: it was finished once."""
        limits = task.kind.limits
        if limits is not None and limits.deadline is not None:
            task.limits = replace(limits, deadline=None)

    def _report_cancel(self, cancellation: Cancellation, outcome: CancelOutcome) -> None:
        for request_id in cancellation.request_ids:
            self._turn.out.append(ReportCancel(request_id, outcome))
        cancellation.request_ids.clear()

    def fail_waiting(self, cls: SchedulingClass, kind: FailureKind, report: Any) -> None:
        """Fail what waits in this queue: no worker will come for it."""
        for task in tuple(cls.queue):
            attempts = tuple(task.failures or ())
            self.fail(task, Failure(kind, report, attempts=attempts))

    # ------------------------------------------------------------ again

    def next_attempt(self, task: Task) -> None:
        """Count from now on what the task does as another attempt."""
        task.attempt += 1
        task.worker = None
        task.seq = 0
        task.created_at = self._turn.now

    def requeue(self, task: Task, now: float) -> None:
        """Queue for another attempt: the first retry in front, later ones behind all others.

        Calls of actors keep their place: when they run again is a matter of their order.
        """
        call = task.kind.scheduling_class.actor is not None
        if task.attempt > 1 and not call:
            task.queued_at, task.rank = now, self.newest
        self.enqueue(task, front=task.attempt == 1 or call)

    def lose(self, event: ResultLost, _now: float) -> None:
        """Note that a value is gone; nothing is done before somebody wants it."""
        if event.task.state is TaskStatus.FINISHED:
            event.task.lost = True

    def want(self, event: ResultWanted, _now: float) -> None:
        """Compute a lost value again."""
        if event.task.lost:
            self._recover(event.task)

    def _recover(self, task: Task) -> None:
        """Have a finished task run again, unless a rule forbids it."""
        task.lost = False
        self.met_deadline(task)
        self.unfinished[task.number] = task
        if task.kind.scheduling_class.actor is not None:
            self._call_queues.recovered(task)
        if (parent := task.parent) is not None:
            self.join(parent, task)
        self._move(task, TaskStatus.PENDING_ARGS_AVAIL)
        attempts = tuple(task.failures or ())
        if self._turn.life.state is not _OPEN:
            self.fail(task, Failure(FailureKind.SHUTDOWN, attempts=attempts))
        elif task.cancellation is not None:
            self.fail(task, Failure(FailureKind.LOST, LOST_CANCELLED, attempts=attempts))
        elif not task.retries_left:
            why = LOST_MAX_ATTEMPTS if task.max_retries else LOST_RETRIES_DISABLED
            self.fail(task, Failure(FailureKind.LOST, why, attempts=attempts))
        else:
            if task.retries_left > 0:
                task.retries_left -= 1
            self.next_attempt(task)
            self._turn.out.append(Revive(task))

    def wait_for_lost(self, task: Task) -> None:
        """Let a task wait again whose attempt could not begin: nothing has failed."""
        task.worker = None
        task.seq = 0
        if self.has_failed_of_deadline(task):
            return
        if task.cancellation is not None:
            self.fail_cancelled(task, CancelOutcome.NOT_STARTED)
            return
        self._move(task, TaskStatus.PENDING_ARGS_AVAIL)
        self._turn.out.append(Revive(task))

    def revive(self, event: Revived, now: float) -> None:
        """Go on with a task whose arguments were looked for."""
        task = event.task
        if task.state is not TaskStatus.PENDING_ARGS_AVAIL:
            return  # cancelled, or given up by the shutdown
        if event.forbidden is not None:
            attempts = tuple(task.failures or ())
            self.fail(task, Failure(FailureKind.LOST, event.forbidden, attempts=attempts))
        else:
            self._await_dependencies(task, event.dependencies)
        self._turn.dirty = True
