"""Supervision of actors: their birth, what a death means, and when one starts again or is no more.

Room: core. `ActorSupervisor` changes the records of actors; which call runs next is known to
`calls`.

Birth. An actor is made by a task, its *creation*, which queues for resources like any other, in a
class of its own kind: what gets a creation becomes the actor's worker and is nobody else's from
then on. It keeps what its start took, but the CPUs only if it has named some.

Death. What the actor was running is harmed: it is tried again if it may be and the actor comes
back, else it fails. All else waits for the next incarnation. The creation then runs again, as one
more attempt; how often, and after which delay, say `max_restarts` and the `RestartPolicy`. An actor
that wanted to end, was killed for good, or cannot be made does not come back, and every call of it
fails with the reason, an `ActorDeath`. A call that waits for a restart fails after the `patience`
of its `RestartPolicy`.

Life hangs on handles, which the shell counts; every unfinished call holds one. When the last is
gone (`ActorReleased`), the actor is asked to leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import circles
from .commands import ReportActor, ReportOrphans
from .facts import BackoffEnded, PatienceEnded
from .outcomes import ActorDeath, CancelOutcome, DeathCause, Failure, FailureKind, Overdue
from .records import replace
from .states import ActorStatus, Phase, TaskStatus, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .attempts import Attempts
    from .call_queues import CallQueues
    from .events import ActorKilled, ActorReleased, WorkerExited
    from .facts import CreationFailed, CreationWaits
    from .model import SupervisedActor, Task, Worker
    from .pool import WorkerPool
    from .resources import Resources
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["ActorSupervisor"]


class ActorSupervisor:
    """The actors that are not dead."""

    __slots__ = (
        "_attempts",
        "_call_queues",
        "_move",
        "_pool",
        "_resources",
        "_table",
        "_turn",
        "living",
        "reported",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        call_queues: CallQueues,
        table: TaskTable,
        pool: WorkerPool,
        attempts: Attempts,
    ) -> None:
        """Begin with no actors."""
        self._turn = turn
        self._move = turn.story.move
        self._resources = resources
        self._call_queues = call_queues
        self._table = table
        self._pool = pool
        self._attempts = attempts
        self.living: dict[SupervisedActor, None] = {}
        self.reported: set[SupervisedActor] = set()  # during one event

    # ------------------------------------------------------------ birth

    def note_waiting(self, fact: CreationWaits) -> None:
        """Take note that a creation waits."""
        self.wait(fact.actor)

    def wait(self, actor: SupervisedActor) -> None:
        """Take note that the creation of an actor waits for arguments, or for a worker."""
        unready = actor.creation.state is TaskStatus.PENDING_ARGS_AVAIL
        state = ActorStatus.DEPENDENCIES_UNREADY if unready else ActorStatus.PENDING_CREATION
        known = actor in self.living
        self.living[actor] = None
        if actor.state is not ActorStatus.RESTARTING and not (known and actor.state is state):
            if actor.state is not state:
                self._move(actor, state)
            self._report(actor)

    def _report(self, actor: SupervisedActor) -> None:
        """Order that an actor's state is told; once in an event, as the shell sees the last one."""
        if actor not in self.reported:
            self.reported.add(actor)
            self._turn.out.append(ReportActor(actor))

    def placed(self, worker: Worker, task: Task) -> None:
        """Give an actor the worker that has got its creation."""
        actor = task.actor
        assert actor is not None
        self._pool.house(worker, actor)

    def let_go(self, actor: SupervisedActor, worker: Worker) -> None:
        """Take a worker back from an actor whose creation did not begin there.

        And it need not begin any more if nobody wants the actor.
        """
        self._pool.vacate(worker)
        actor.creation.worker = None
        if actor.state is ActorStatus.DEAD:
            self.fail_dead(actor, actor.creation)
        elif actor.released:
            self.die(actor, DeathCause.OUT_OF_SCOPE)

    def taken_back(self, task: Task, worker: Worker) -> None:
        """Count an attempt out that never ran, and was taken back from a worker."""
        if task.actor is not None:
            self.let_go(task.actor, worker)
        else:
            task.scheduling_class.leases -= 1

    def created(self, actor: SupervisedActor, worker: Worker) -> None:
        """Let an actor live whose constructor has returned."""
        if actor.state is ActorStatus.DEAD:
            return
        self._move(actor, ActorStatus.ALIVE)
        self._table.met_deadline(actor.creation)
        self._report(actor)
        self._resources.keep_only(worker, cpus=actor.keeps_cpus)
        self._call_queues.calling[actor] = None
        if actor.released:
            self.die(actor, DeathCause.OUT_OF_SCOPE)

    # ------------------------------------------------------------ ends

    def released(self, event: ActorReleased, now: float) -> None:
        """End an actor to which no handle is left."""
        actor = event.actor
        actor.released = True
        worker = actor.worker
        if actor.state is ActorStatus.DEAD:
            return
        if worker is not None and actor.state is not ActorStatus.ALIVE:
            return  # it leaves as soon as it is made
        self.die(actor, DeathCause.OUT_OF_SCOPE)
        if worker is not None:
            self.leave(worker, now)
        self._turn.dirty = True

    def killed(self, event: ActorKilled, now: float) -> None:
        """End an actor at once, for good or as if it had crashed."""
        actor = event.actor
        if actor.state is ActorStatus.DEAD:
            return
        worker = actor.worker
        if event.no_restart:
            self.die(actor, DeathCause.KILLED)
        elif worker is None:
            self._killed_unborn(actor)
        if worker is not None:
            self._pool.kill(worker)
        self._turn.dirty = True

    def _killed_unborn(self, actor: SupervisedActor) -> None:
        """Use up a restart, and no more, for a kill before an actor is made (again). As in Ray.

        `exited` does that for one that has a worker.
        """
        if not actor.restarts_left:
            self.die(actor, DeathCause.KILLED)
            return
        if actor.restarts_left > 0:
            actor.restarts_left -= 1
        actor.num_restarts += 1
        if actor.state is not ActorStatus.RESTARTING:  # else it was told of the death before
            self._report(actor)

    def group_removed(self, group: Any) -> None:
        """End the actors that live in a placement group."""
        for actor in tuple(self.living):
            if actor.creation.scheduling_class.group is group:
                if actor.worker is not None:
                    self._pool.kill(actor.worker)
                self.die(actor, DeathCause.GROUP_REMOVED)

    def creation_failed(self, fact: CreationFailed) -> None:
        """End an actor that cannot be made."""
        actor, failure = fact.actor, fact.failure
        if failure.kind is FailureKind.SHUTDOWN and actor.state is not ActorStatus.DEAD:
            self.die(actor, DeathCause.SHUTDOWN)
        elif actor.state is not ActorStatus.DEAD:
            self.die(actor, DeathCause.CREATION_FAILED, failure)

    def leave(self, worker: Worker, now: float) -> None:
        """Let a dead actor's worker end in its own time, and give its resources back then."""
        if worker.state is WorkerStatus.READY:
            self._pool.stop(worker, now)

    def die(self, actor: SupervisedActor, cause: DeathCause, detail: Any = None) -> None:
        """Mark an actor dead and fail its calls that wait; what runs fails when the worker ends."""
        self._move(actor, ActorStatus.DEAD)
        actor.death = ActorDeath(actor, cause, detail)
        self.living.pop(actor, None)
        self._call_queues.calling.pop(actor, None)
        self._report(actor)
        kind = FailureKind.SHUTDOWN if cause is DeathCause.SHUTDOWN else FailureKind.ACTOR_DIED
        failure = Failure(kind, actor.death)
        for group in actor.concurrency_groups:
            group.forbidden = failure
        if cause is DeathCause.OUT_OF_SCOPE:  # each holds a handle: only a lost result can be
            waiting = circles.standing(actor)
        else:
            waiting = [
                task
                for task in self._table.unfinished.values()
                if task.scheduling_class.actor is actor
            ]
        for task in (*waiting, actor.creation):
            if task.worker is None and task.number in self._table.unfinished:
                self.fail_dead(actor, task)

    def fail_dead(self, actor: SupervisedActor, task: Task) -> None:
        """Fail a call of an actor that is no more, or its creation, with the reason."""
        failure = actor.concurrency_groups[0].forbidden
        assert failure is not None
        self._table.fail(task, replace(failure, attempts=tuple(task.failures or ())))

    def end(self) -> None:
        """End all actors: none comes back when its worker ends."""
        for actor in tuple(self.living):
            self.die(actor, DeathCause.SHUTDOWN)

    def exited(
        self, worker: Worker, event: WorkerExited, harmed: Sequence[Task], now: float
    ) -> None:
        """Judge the end of an actor's worker: what it ran is harmed, and it may start again."""
        actor = worker.actor
        assert actor is not None
        self._pool.lost_tenant(actor)
        actor.loss = event.report
        for task in harmed:
            if task.children:
                self._turn.out.append(ReportOrphans(tuple(task.children.values())))
        if actor.state is not ActorStatus.DEAD:
            self._born_or_dead(actor, harmed, event, worker, now)
        for task in reversed(harmed):  # so that those which go back to the front keep their order
            if task.actor is None:
                self._harmed(task, actor, worker, event, now)
            elif actor.state is ActorStatus.DEAD:
                self.fail_dead(actor, task)

    def _born_or_dead(
        self,
        actor: SupervisedActor,
        harmed: Sequence[Task],
        event: WorkerExited,
        worker: Worker,
        now: float,
    ) -> None:
        """Arrange that an actor which has lost its worker is made again, or mark it dead."""
        creation, failure, record = actor.creation, None, None
        if creation in harmed:
            kind = self._attempts.kind_of_death(creation, worker)
            record = self._attempts.record_of_crash(creation, worker, event, kind, now)
            overrun = self._table.forgive(creation)
            if overrun is not None:
                record = replace(record, kind=FailureKind.TIMEOUT, detail=overrun)
                attempts = (*(creation.failures or ()), record)
                failure = Failure(FailureKind.TIMEOUT, overrun, attempts=attempts)
                if overrun.is_final:
                    self.die(actor, DeathCause.CREATION_FAILED, failure)
                    return
        delay = self._next_start(actor, event.report, failure, now)
        if delay is not None:
            if record is not None:
                self._attempts.record(creation, record)
            self._restart(actor, delay, now)

    def _next_start(
        self, actor: SupervisedActor, report: Any, failure: Failure | None, now: float
    ) -> float | None:
        """Return the seconds until an actor is to be made again; None: it is dead now.

        failure: of its constructor, which took too long.
        """
        if self._turn.life.state not in (Phase.OPEN, Phase.DRAINING):
            self.die(actor, DeathCause.SHUTDOWN)
        elif actor.released:
            self.die(actor, DeathCause.OUT_OF_SCOPE)
        elif not actor.restarts_left and failure is not None:
            self.die(actor, DeathCause.CREATION_FAILED, failure)
        elif not actor.restarts_left:
            self.die(actor, DeathCause.WORKER_DIED, report)
        else:
            delay = actor.intensity.failed(now)
            if delay is not None:
                return delay
            self.die(actor, DeathCause.TOO_OFTEN, report)
        return None

    def _restart(self, actor: SupervisedActor, delay: float, now: float) -> None:
        creation = actor.creation
        if actor.restarts_left > 0:
            actor.restarts_left -= 1
        actor.num_restarts += 1
        self._move(actor, ActorStatus.RESTARTING)
        self._report(actor)
        self._table.next_attempt(creation)
        self._table.unfinished[creation.number] = creation
        if (parent := creation.parent) is not None:
            self._table.join(parent, creation)
        if delay <= 0.0:
            self._table.enqueue(creation, front=True)
        else:
            self._move(creation, TaskStatus.BACKOFF)
            self._turn.timers.set(now + delay, BackoffEnded(creation))
        if actor.patience is not None:
            self._turn.timers.set(
                now + actor.patience, PatienceEnded(actor, actor.num_restarts, now)
            )

    def lose_patience(self, fact: PatienceEnded) -> None:
        """Fail the calls that have waited too long for a restart, and plan the next look."""
        actor, patience, now = fact.actor, fact.actor.patience, self._turn.now
        if (
            patience is None
            or actor.state is not ActorStatus.RESTARTING
            or actor.num_restarts != fact.restart
        ):
            return
        detail = Overdue(actor, patience)
        latest = now
        for call in circles.standing(actor):
            began = max(call.created_at, fact.since)
            if began + patience > now:
                latest = min(latest, began)
            elif call.number in self._table.unfinished:  # it has not failed with one before
                attempts = tuple(call.failures or ())
                failure = Failure(FailureKind.OVERDUE, detail, attempts=attempts)
                self._table.fail(call, failure)
        self._turn.timers.set(latest + patience, fact)

    def _harmed(
        self, task: Task, actor: SupervisedActor, worker: Worker, event: WorkerExited, now: float
    ) -> None:
        """Judge a call that was running when the worker of its actor died."""
        group = task.scheduling_class
        group.leases -= 1
        if self._attempts.overrun_of(task):
            record = self._attempts.record_of_crash(task, worker, event, FailureKind.TIMEOUT, now)
            self._attempts.overran(task, record, now)
            return
        if task.cancellation is not None:
            kind = self._table.cancelled_kind(task)
            self._attempts.record(
                task, self._attempts.record_of_crash(task, worker, event, kind, now)
            )
            self._table.fail_cancelled(task, CancelOutcome.KILLED)
            return
        failure, excess = group.forbidden, None
        if self._attempts.kind_of_death(task, worker) is FailureKind.OUT_OF_MEMORY:
            failure, excess = Failure(FailureKind.OUT_OF_MEMORY, event.report), worker.excess
        elif failure is None:
            death = ActorDeath(actor, DeathCause.WORKER_DIED, event.report)
            failure = Failure(FailureKind.ACTOR_UNAVAILABLE, death)
        record = self._attempts.record_of_crash(task, worker, event, failure.kind, now)
        if self._attempts.retry(task, record, 0.0, now, excess):
            return
        self._attempts.record(task, record)
        self._table.fail(task, replace(failure, attempts=tuple(task.failures or ())))
