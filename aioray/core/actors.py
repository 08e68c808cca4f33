"""Actors: which call runs next, what a death means, and when an actor starts again or is no more.

Room: core. `Actors` is a part of `Scheduler`, which hands it everything that concerns an actor and
whose records it changes; like that it knows no clock and no process.

Birth. An actor is made by a task, its *creation*, which queues for resources like any other, in a
class of its own kind: what gets a creation becomes the actor's worker and is nobody else's from
then on. It keeps what its start took, but the CPUs only if it has named some.

Calls wait here until the actor lives. They queue in the *lane* of their concurrency group, which is
a scheduling class. A synchronous actor with one lane is sent many calls ahead, because nobody else
could run them, and what it has not claimed comes back when it dies. All others are sent no more
than may run at once: what is in flight there runs.

Order. Where it is kept, the calls of one caller run in the order in which they were made. A call
that is not ready, because an argument is late or because it waits for its next attempt, heads the
*line* of its caller, in which all later ones stand behind it. A call whose error may be retried is
followed by no other until it is answered.

Death. What the actor was running is harmed: it is tried again if it may be and the actor comes
back, else it fails. All else waits for the next incarnation. The creation then runs again, as one
more attempt; how often, and after which delay, say `max_restarts` and the `RestartPolicy`. An actor
that wanted to end, was killed for good, or cannot be made does not come back, and every call of it
fails with the reason, an `ActorDeath`.

Circles. What an attempt waits for, while it holds up calls of an actor, may itself wait for one of
them: the constructor for a task that calls the actor, a method for a call of its own actor. That
call fails, and says who waits for whom, see `circles`. Where that cannot be seen, a call that waits
for a restart fails after the `patience` of its `RestartPolicy`.

Life hangs on handles, which the shell counts; every unfinished call holds one. When the last is
gone (`ActorReleased`), the actor is asked to leave.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import circles
from .commands import (
    CancelCall,
    PollWorker,
    ReportActor,
    ReportOrphans,
    ResolveValues,
    SendAttempts,
)
from .facts import BackoffEnded, PatienceEnded
from .lanes import actor_of
from .outcomes import (
    ActorDeath,
    CancelOutcome,
    Circle,
    DeathCause,
    Ended,
    Failure,
    FailureKind,
    Overdue,
)
from .states import ActorState, CancelState, Phase, TaskState, WorkerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import (
        ActorKilled,
        ActorReleased,
        AnswersReceived,
        AttemptsNotSent,
        AttemptWaits,
        WorkerExited,
    )
    from .model import Actor, SchedulingClass, Task, Worker
    from .scheduler import Scheduler

__all__ = ["Actors"]

MAX_AHEAD = 256  # calls given to one synchronous actor, the running one included
MAX_BUNDLE = 64  # calls per SendAttempts

_DROPPED = (Ended.RETURNED, Ended.INTERRUPTED)  # of a call that was told of its cancel


class Actors:
    """The actors of one scheduler that are not dead."""

    def __init__(self, core: Scheduler) -> None:
        self._core = core
        self.living: dict[Actor, None] = {}
        self.lanes = core._lanes
        self.reported: set[Actor] = set()  # during one event
        self.blocked: circles.Blocked = {}

    # ------------------------------------------------------------ giving

    def dispatch(self, now: float) -> None:
        """Give calls to the actors that may take some."""
        lanes = self.lanes
        calling, lanes.calling = lanes.calling, {}
        for actor in calling:
            self._serve(actor, now)

    def _serve(self, actor: Actor, now: float) -> None:
        worker = actor.worker
        if (
            worker is None
            or actor.state is not ActorState.ALIVE
            or worker.state is not WorkerState.READY
        ):
            return
        if not actor.ahead:
            for lane in actor.lanes:
                if lane.queue and lane.leases < lane.limit:
                    self._send(worker, lane, lane.limit - lane.leases, now)
            return
        lane, in_flight = actor.lanes[0], worker.in_flight
        if worker.reclaims:
            self.lanes.calling[actor] = None  # what comes back goes before all else
            return
        if not lane.queue or 2 * len(in_flight) > MAX_AHEAD:
            return
        if not (in_flight and next(reversed(in_flight.values())).traits.retries_errors):
            self._send(worker, lane, MAX_AHEAD - len(in_flight), now)

    def _send(self, worker: Worker, lane: SchedulingClass, room: int, now: float) -> None:
        out, queue, core = self._core._turn.out, lane.queue, self._core
        ahead = lane.actor is not None and lane.actor.ahead
        if not worker.in_flight:
            worker.last_progress = now
        bundle: list[Task] = []
        while queue and room:
            task = queue.popleft()
            room -= 1
            lane.leases += 1
            core._attempts.begin(task, worker, now)
            bundle.append(task)
            if ahead and task.traits.retries_errors:
                break
            if len(bundle) == MAX_BUNDLE:
                out.append(SendAttempts(worker.id, bundle))
                bundle = []
        if bundle:
            out.append(SendAttempts(worker.id, bundle))
        core._prefetch.watch(worker)

    def progressed(self, worker: Worker, now: float) -> None:
        """An actor has answered, or calls were taken back from it."""
        actor = worker.actor
        assert actor is not None
        core = self._core
        worker.last_progress = now
        core._prefetch.stalled.pop(worker, None)
        if worker.in_flight:
            core._prefetch.watch(worker)
        self._serve(actor, now)

    # ------------------------------------------------------------ answers

    def answers(self, worker: Worker, event: AnswersReceived | AttemptsNotSent, now: float) -> None:
        """What the worker of an actor has answered, or is taken for its answers."""
        core, actor = self._core, worker.actor
        assert actor is not None
        results: list[tuple[Task, Any]] = []
        unstarted: list[Task] = []
        created = False
        for answer in event.answers:
            task = worker.in_flight.pop(answer.seq, None)
            if task is None:
                if answer.seq in worker.given_up:
                    worker.given_up.discard(answer.seq)
                elif core._pool.is_lying(worker):
                    break
                continue
            call = task.actor is None
            if call:
                task.scheduling_class.leases -= 1
            ended = answer.ended
            if ended is Ended.ARGUMENT_LOST:
                unstarted.append(task)
            elif ended is Ended.EXITED:
                task.started_at, task.seconds = answer.started_at, answer.duration
                if actor.state is not ActorState.DEAD:
                    self._die(actor, DeathCause.EXITED)
                self._fail_dead(actor, task)
            elif call and ended in _DROPPED and self._is_flagged(task):
                record = core._attempts.record_of(task, worker, answer, FailureKind.CANCELLED)
                core._attempts.record(task, record)
                core._table.fail_cancelled(task, CancelOutcome.INTERRUPTED)
            elif ended is Ended.RETURNED:
                created = created or not call
                core._table.finish(task, answer, results)
                if call:
                    self.lanes.count(actor, task.caller, 1)
            else:
                core._attempts.judge(task, worker, answer, now)
        if results:
            core._turn.out.append(ResolveValues(results))
        if unstarted and actor.ordered and worker.in_flight and worker.state is WorkerState.READY:
            core._prefetch.reclaim(worker)  # what was sent behind these waits for them
        for task in unstarted:  # not before: what they lack may be among the results
            self._argument_lost(task, worker)
        core._starts.has_served(worker)
        if worker.blocked:
            core._resources.take_cpus_back(
                worker
            )  # what has waited is answered: it was the first in flight
        if created:
            self._created(actor, worker)
        if worker.actor is None:
            core._after_progress(worker, now)
        elif actor.state is ActorState.DEAD:
            self._leave(worker, now)
        else:
            self.progressed(worker, now)

    @staticmethod
    def _is_flagged(task: Task) -> bool:
        """Whether a cancel is told to the method, and its outcome does not count any more."""
        cancellation = task.cancellation
        return (
            cancellation is not None
            and cancellation.state is CancelState.INTERRUPTED
            and not task.traits.interruptible
            and not actor_of(task).asynchronous
        )

    def _argument_lost(self, task: Task, worker: Worker) -> None:
        """An attempt could not begin."""
        core, actor = self._core, task.actor
        if actor is not None:
            self._let_go(actor, worker)
            if task.number in core._tasks:
                core._table.wait_for_lost(task)
                if actor.state is not ActorState.DEAD:
                    self.waiting(actor)
        elif task.scheduling_class.forbidden is not None and task.cancellation is None:
            self._fail_dead(actor_of(task), task)
        else:
            core._table.wait_for_lost(task)
            if task.state is TaskState.PENDING_ARGS_AVAIL:
                self.lanes.waits(task)

    # ------------------------------------------------------------ birth

    def waiting(self, actor: Actor) -> None:
        """Its creation waits for arguments, or for a worker."""
        unready = actor.creation.state is TaskState.PENDING_ARGS_AVAIL
        state = ActorState.DEPENDENCIES_UNREADY if unready else ActorState.PENDING_CREATION
        known = actor in self.living
        self.living[actor] = None
        if actor.state is not ActorState.RESTARTING and not (known and actor.state is state):
            if actor.state is not state:
                self._core._move(actor, state)
            self._report(actor)

    def _report(self, actor: Actor) -> None:
        """Its state has changed. Once in an event: it is the last of them that the shell sees."""
        if actor not in self.reported:
            self.reported.add(actor)
            self._core._turn.out.append(ReportActor(actor))

    def placed(self, worker: Worker, task: Task) -> None:
        """A creation was given to a worker."""
        actor = task.actor
        assert actor is not None
        self._core._pool.house(worker, actor)

    def _let_go(self, actor: Actor, worker: Worker) -> None:
        """A creation did not begin: its worker is as any other again.

        And it need not begin any more if nobody wants the actor.
        """
        self._core._pool.vacate(worker)
        actor.creation.worker = None
        if actor.state is ActorState.DEAD:
            self._fail_dead(actor, actor.creation)
        elif actor.released:
            self._die(actor, DeathCause.OUT_OF_SCOPE)

    def taken_back(self, task: Task, worker: Worker) -> None:
        """An attempt that never ran was taken out of a worker."""
        if task.actor is not None:
            self._let_go(task.actor, worker)
        else:
            task.scheduling_class.leases -= 1

    def _created(self, actor: Actor, worker: Worker) -> None:
        core = self._core
        if actor.state is ActorState.DEAD:
            return
        core._move(actor, ActorState.ALIVE)
        self._report(actor)
        core._resources.keep_only(worker, cpus=actor.keeps_cpus)
        self.lanes.calling[actor] = None
        if actor.released:
            self._die(actor, DeathCause.OUT_OF_SCOPE)

    # ------------------------------------------------------------ ends

    def released(self, event: ActorReleased, now: float) -> None:
        """The last handle is gone."""
        actor = event.actor
        actor.released = True
        worker = actor.worker
        if actor.state is ActorState.DEAD:
            return
        if worker is not None and actor.state is not ActorState.ALIVE:
            return  # it leaves as soon as it is made
        self._die(actor, DeathCause.OUT_OF_SCOPE)
        if worker is not None:
            self._leave(worker, now)
        self._core._turn.dirty = True

    def killed(self, event: ActorKilled, now: float) -> None:
        """Somebody wants it to end at once."""
        actor = event.actor
        if actor.state is ActorState.DEAD:
            return
        worker = actor.worker
        if event.no_restart:
            self._die(actor, DeathCause.KILLED)
        elif worker is None:
            self._killed_unborn(actor)
        if worker is not None:
            self._core._pool.kill(worker)
        self._core._turn.dirty = True

    def _killed_unborn(self, actor: Actor) -> None:
        """A kill before it is made, or made again, uses up a restart, and nothing else. As in Ray.

        `exited` does that for one that has a worker.
        """
        if not actor.restarts_left:
            self._die(actor, DeathCause.KILLED)
            return
        if actor.restarts_left > 0:
            actor.restarts_left -= 1
        actor.num_restarts += 1
        if actor.state is not ActorState.RESTARTING:  # else it was told of the death before
            self._report(actor)

    def group_removed(self, group: Any) -> None:
        """End the actors that live in a placement group."""
        for actor in tuple(self.living):
            if actor.creation.scheduling_class.group is group:
                if actor.worker is not None:
                    self._core._pool.kill(actor.worker)
                self._die(actor, DeathCause.GROUP_REMOVED)

    def creation_failed(self, actor: Actor, failure: Failure) -> None:
        """It cannot be made."""
        if failure.kind is FailureKind.SHUTDOWN and actor.state is not ActorState.DEAD:
            self._die(actor, DeathCause.SHUTDOWN)
        elif actor.state is not ActorState.DEAD:
            self._die(actor, DeathCause.CREATION_FAILED, failure)

    def _leave(self, worker: Worker, now: float) -> None:
        """Let a dead actor's worker end in its own time, and give its resources back then."""
        if worker.state is WorkerState.READY:
            self._core._pool.stop(worker, now)

    def _die(self, actor: Actor, cause: DeathCause, detail: Any = None) -> None:
        """Fail what waits; what runs fails when the worker has ended."""
        core = self._core
        core._move(actor, ActorState.DEAD)
        actor.death = ActorDeath(actor, cause, detail)
        self.living.pop(actor, None)
        self.lanes.calling.pop(actor, None)
        self._report(actor)
        kind = FailureKind.SHUTDOWN if cause is DeathCause.SHUTDOWN else FailureKind.ACTOR_DIED
        failure = Failure(kind, actor.death)
        for lane in actor.lanes:
            lane.forbidden = failure
        if cause is DeathCause.OUT_OF_SCOPE:  # each holds a handle: only a lost result can be
            waiting = circles.standing(actor)
        else:
            waiting = [
                task for task in core._tasks.values() if task.scheduling_class.actor is actor
            ]
        for task in (*waiting, actor.creation):
            if task.worker is None and task.number in core._tasks:
                self._fail_dead(actor, task)

    def _fail_dead(self, actor: Actor, task: Task) -> None:
        """Fail a call of an actor that is no more, or its creation, with the reason."""
        failure = actor.lanes[0].forbidden
        assert failure is not None
        self._core._table.fail(task, replace(failure, attempts=tuple(task.failures or ())))

    def end(self) -> None:
        """Everything is over: no actor comes back when its worker ends."""
        for actor in tuple(self.living):
            self._die(actor, DeathCause.SHUTDOWN)

    def exited(
        self, worker: Worker, event: WorkerExited, harmed: Sequence[Task], now: float
    ) -> None:
        """The worker of an actor is reaped: what it ran is harmed, and it may start again."""
        core, actor = self._core, worker.actor
        assert actor is not None
        core._pool.lost_tenant(actor)
        actor.loss = event.report
        for task in harmed:
            if task.children:
                core._turn.out.append(ReportOrphans(tuple(task.children.values())))
        if actor.state is not ActorState.DEAD:
            delay = self._next_start(actor, event.report, now)
            if delay is not None:
                self._restart(actor, harmed, event, worker, delay, now)
        for task in reversed(harmed):  # so that those which go back to the front keep their order
            if task.actor is None:
                self._harmed(task, actor, worker, event, now)
            elif actor.state is ActorState.DEAD:
                self._fail_dead(actor, task)

    def _next_start(self, actor: Actor, report: Any, now: float) -> float | None:
        """Seconds until it is to be made again; None: it is dead now."""
        core = self._core
        if core._turn.life.state not in (Phase.OPEN, Phase.DRAINING):
            self._die(actor, DeathCause.SHUTDOWN)
        elif actor.released:
            self._die(actor, DeathCause.OUT_OF_SCOPE)
        elif not actor.restarts_left:
            self._die(actor, DeathCause.WORKER_DIED, report)
        else:
            delay = actor.intensity.failed(now)
            if delay is not None:
                return delay
            self._die(actor, DeathCause.TOO_OFTEN, report)
        return None

    def _restart(
        self,
        actor: Actor,
        harmed: Sequence[Task],
        event: WorkerExited,
        worker: Worker,
        delay: float,
        now: float,
    ) -> None:
        core, creation = self._core, actor.creation
        if actor.restarts_left > 0:
            actor.restarts_left -= 1
        actor.num_restarts += 1
        core._move(actor, ActorState.RESTARTING)
        self._report(actor)
        if creation in harmed:
            record = core._attempts.record_of_crash(
                creation, worker, event, FailureKind.WORKER_DIED, now
            )
            core._attempts.record(creation, record)
        core._table.next_attempt(creation)
        core._tasks[creation.number] = creation
        if creation.parent is not None:
            core._table.join(creation.parent, creation)
        if delay <= 0.0:
            core._table.enqueue(creation, front=True)
        else:
            core._move(creation, TaskState.BACKOFF)
            core._turn.timers.set(now + delay, BackoffEnded(creation))
        if actor.patience is not None:
            core._turn.timers.set(
                now + actor.patience, PatienceEnded(actor, actor.num_restarts, now)
            )

    def lose_patience(self, fact: PatienceEnded) -> None:
        """Fail the calls that have waited too long for a restart, and plan the next look."""
        actor, patience, now = fact.actor, fact.actor.patience, self._core._turn.now
        if (
            patience is None
            or actor.state is not ActorState.RESTARTING
            or actor.num_restarts != fact.restart
        ):
            return
        detail = Overdue(actor, patience)
        latest = now
        for call in circles.standing(actor):
            began = max(call.created_at, fact.since)
            if began + patience > now:
                latest = min(latest, began)
            elif call.number in self._core._tasks:  # it has not failed with one before
                attempts = tuple(call.failures or ())
                failure = Failure(FailureKind.OVERDUE, detail, attempts=attempts)
                self._core._table.fail(call, failure)
        self._core._turn.timers.set(latest + patience, fact)

    def _harmed(
        self, task: Task, actor: Actor, worker: Worker, event: WorkerExited, now: float
    ) -> None:
        """A call was running when the worker of its actor died."""
        core = self._core
        lane = task.scheduling_class
        lane.leases -= 1
        if task.cancellation is not None:
            kind = core._table.cancelled_kind(task)
            core._attempts.record(
                task, core._attempts.record_of_crash(task, worker, event, kind, now)
            )
            core._table.fail_cancelled(task, CancelOutcome.KILLED)
            return
        failure = lane.forbidden
        if failure is None:
            death = ActorDeath(actor, DeathCause.WORKER_DIED, event.report)
            failure = Failure(FailureKind.ACTOR_UNAVAILABLE, death)
        record = core._attempts.record_of_crash(task, worker, event, failure.kind, now)
        if core._attempts.retry(task, record, 0.0, now):
            return
        core._attempts.record(task, record)
        core._table.fail(task, replace(failure, attempts=tuple(task.failures or ())))

    # ------------------------------------------------------------ circles

    def blocks(self, event: AttemptWaits, now: float) -> None:
        """An attempt blocks, or goes on. If it closes a circle, one call fails."""
        core, seq = self._core, event.seq
        task = core.task_in_flight(event.worker_id, seq)
        needed = frozenset(task for task in event.tasks if task.number in core._tasks)
        if task is None or not needed:
            self.blocked.pop(seq, None)
            return
        self.blocked[seq] = task, needed
        found = circles.find(task, self.blocked)
        if found is None:
            return
        members, call = found
        actor, worker = actor_of(call), call.worker
        at = members.index(call)
        names = tuple(each.name for each in (*members[at:], *members[:at]))
        if worker is not None:  # it has got it, and will find it cancelled when it comes to it
            del worker.in_flight[call.seq]
            worker.given_up.add(call.seq)
            call.scheduling_class.leases -= 1
            core._turn.out.append(CancelCall(worker.id, call.seq))
        attempts = tuple(call.failures or ())
        core._table.fail(call, Failure(FailureKind.CIRCLE, Circle(actor, names), attempts=attempts))
        core._turn.dirty = True

    def block_no_more(self, tasks: Sequence[Task]) -> None:
        """Attempts have died."""
        if self.blocked:
            for task in tasks:
                self.blocked.pop(task.seq, None)

    # ------------------------------------------------------------ cancelling

    def climb(self, worker: Worker, now: float) -> None:
        """Take the next step for what is to be cancelled of that which an actor has claimed.

        Nothing was sent since the rest was taken back, see `_serve`.
        """
        core, actor = self._core, worker.actor
        assert actor is not None
        running = list(worker.in_flight.values())
        if actor.ahead:
            *answered, last = running
            if any(task.cancellation is not None for task in answered):
                core._turn.out.append(PollWorker(worker.id))
            running = [last]
        for task in running:
            cancellation = task.cancellation
            if (
                cancellation is None
                or cancellation.state is not CancelState.REQUESTED
                or task.actor is not None
            ):
                continue
            core._move(cancellation, CancelState.INTERRUPTED)
            if task.traits.interruptible:
                core._interrupt(task, worker, now)
            else:
                core._turn.out.append(CancelCall(worker.id, task.seq))

    # ------------------------------------------------------------ invariants

    def check(self) -> None:
        """Assert what must hold between two events. For tests; raises AssertionError."""
        core = self._core
        for actor in self.living:
            assert actor.state is not ActorState.DEAD, actor
            creation, worker = actor.creation, actor.worker
            unborn = creation.number in core._tasks
            assert unborn == (actor.state is not ActorState.ALIVE), actor
            if worker is not None:
                assert worker.actor is actor, actor
                assert core._workers.get(worker.id) is worker, actor
                assert unborn == (creation.seq in worker.in_flight), actor
            else:
                assert unborn, actor
        assert core._pool.housed == sum(w.actor is not None for w in core._workers.values())
        for worker in core._workers.values():
            inhabitant = worker.actor
            if inhabitant is None:
                continue
            calls = [task for task in worker.in_flight.values() if task.actor is None]
            assert all(actor_of(task) is inhabitant for task in calls), worker
            for lane in inhabitant.lanes:
                count = sum(task.scheduling_class is lane for task in calls)
                assert lane.leases == count, inhabitant
                assert count <= (MAX_AHEAD if inhabitant.ahead else lane.limit), inhabitant
        for actor in self._called():
            held = [task.number for line in actor.lines.values() for task in line]
            assert len(held) == len(actor.held) == len(actor.held.intersection(held)), actor
            for caller, line in actor.lines.items():
                assert line, actor
                assert line[0].state is not TaskState.PENDING_NODE_ASSIGNMENT, actor
                assert [task.caller for task in line] == [caller] * len(line), actor
            if actor.state is ActorState.DEAD:
                assert not any(lane.queue for lane in actor.lanes), actor
                assert not held, actor

    def queued(self) -> list[Task]:
        """All calls that stand in a queue or a line. For tests."""
        calls = [task for actor in self._called() for task in circles.standing(actor)]
        return [task for task in calls if task.state is TaskState.PENDING_NODE_ASSIGNMENT]

    def _called(self) -> set[Actor]:
        """The actors of all unfinished calls."""
        tasks = self._core._tasks.values()
        return {actor_of(task) for task in tasks if task.scheduling_class.actor is not None}
