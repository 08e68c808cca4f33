"""Calls of actors: which are sent, and what their answers mean.

Room: core. A synchronous actor with one concurrency group is sent many calls ahead, because nobody
else could run them, and what it has not claimed comes back when it dies. All others are sent no
more than may run at once: what is in flight there runs. A call whose error may be retried is
followed by no other until it is answered; nor is one whose memory is measured, which follows no
other either. In which order calls wait is known to `call_queues`, whether their actor lives to
`actors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .call_queues import actor_of, room_in
from .commands import ResolveValues, SendAttempts
from .outcomes import CancelOutcome, DeathCause, Ended, FailureKind
from .queues import rank
from .states import ActorStatus, TaskStatus, WorkerStatus

if TYPE_CHECKING:
    from .actors import ActorSupervisor
    from .attempts import Attempts
    from .call_queues import CallQueues
    from .events import AnswersReceived, AttemptsNotSent
    from .model import SchedulingClass, SupervisedActor, Task, Worker
    from .permits import Permits
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .resources import Resources
    from .starts import Starts
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["ActorCalls"]

MAX_AHEAD = 256  # calls given to one synchronous actor, the running one included
MAX_BUNDLE = 64  # calls per SendAttempts

_ALIVE = ActorStatus.ALIVE  # members are slow to look up
_DEAD = ActorStatus.DEAD
_READY = WorkerStatus.READY
_RETURNED = Ended.RETURNED
_ARGUMENT_LOST = Ended.ARGUMENT_LOST
_EXITED = Ended.EXITED
_OF_INTERRUPT = (Ended.INTERRUPTED, Ended.NOT_STARTED)
_DROPPED = (Ended.RETURNED, Ended.INTERRUPTED)  # of a call that was told of its cancel


class ActorCalls:
    """The calls that actors run."""

    __slots__ = (
        "_attempts",
        "_call_queues",
        "_permits",
        "_pool",
        "_prefetch",
        "_resources",
        "_starts",
        "_supervisor",
        "_table",
        "_turn",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        call_queues: CallQueues,
        permits: Permits,
        table: TaskTable,
        pool: WorkerPool,
        starts: Starts,
        attempts: Attempts,
        prefetch: Prefetch,
        supervisor: ActorSupervisor,
    ) -> None:
        """Take the parts below, and begin with no calls."""
        self._turn = turn
        self._resources = resources
        self._call_queues = call_queues
        self._permits = permits
        self._table = table
        self._pool = pool
        self._starts = starts
        self._attempts = attempts
        self._prefetch = prefetch
        self._supervisor = supervisor

    def dispatch(self, now: float) -> None:
        """Give calls to the actors that may take some."""
        for actor in self._call_queues.take_calling():
            self._serve(actor, now)

    def _serve(self, actor: SupervisedActor, now: float) -> None:
        worker = actor.worker
        if worker is None or actor.state is not _ALIVE or worker.state is not _READY:
            return
        if not actor.ahead:
            if actor.concurrency_groups[-1].base is not None:
                self._serve_in_turn(actor, worker, now)
                return
            for group in actor.concurrency_groups:
                if group.queue and group.leases < group.limit:
                    self._send(worker, group, group.limit - group.leases, now)
            return
        group, in_flight = actor.concurrency_groups[0], worker.in_flight
        if worker.reclaims:
            self._call_queues.calling[actor] = None  # what comes back goes before all else
            return
        if not group.queue or 2 * len(in_flight) > MAX_AHEAD:
            return
        last = next(reversed(in_flight.values())) if in_flight else None
        if last is None or not (last.traits.retries_errors or _is_alone(last)):
            self._send(worker, group, MAX_AHEAD - len(in_flight), now)

    def _serve_in_turn(self, actor: SupervisedActor, worker: Worker, now: float) -> None:
        """Send calls one by one, the first by rank among those that limits and limiters allow."""
        groups = list(actor.concurrency_groups)
        while groups := [each for each in groups if each.queue and room_in(each) > 0]:
            group = min(groups, key=lambda each: rank(each.queue[0]))
            limiter = group.limiter
            if limiter is not None and limiter.room(now) <= 0:
                self._permits.park(group, limiter)
                groups.remove(group)
            else:
                self._send(worker, group, 1, now)

    def _send(self, worker: Worker, group: SchedulingClass, room: int, now: float) -> None:
        out, queue = self._turn.out, group.queue
        ahead = group.actor is not None and group.actor.ahead
        if not worker.in_flight:
            worker.last_progress = now
        begin = self._attempts.begin
        bundle: list[Task] = []
        while queue and room:
            task = queue[0]
            alone = ahead and _is_alone(task)
            if alone and worker.in_flight:
                break
            limiter = None if task.kind.limits is None else task.kind.limits.limiter
            if limiter is not None:
                if ahead and worker.in_flight:
                    break  # it would wait there, with a permit
                if limiter.room(now) <= 0:
                    self._permits.park(group, limiter)
                    break
            queue.popleft()
            room -= 1
            group.leases += 1
            begin(task, worker, now)
            bundle.append(task)
            if alone or (ahead and task.kind.traits.retries_errors):
                break
            if len(bundle) == MAX_BUNDLE:
                out.append(SendAttempts(worker.id, bundle))
                bundle = []
        if bundle:
            out.append(SendAttempts(worker.id, bundle))
        self._prefetch.watch(worker)

    def progressed(self, worker: Worker, now: float) -> None:
        """Let an actor go on that has answered, or lost calls that were taken back."""
        actor = worker.actor
        assert actor is not None
        worker.last_progress = now
        self._prefetch.stalled.pop(worker, None)
        if worker.in_flight:
            self._prefetch.watch(worker)
        self._serve(actor, now)

    def answers(self, worker: Worker, event: AnswersReceived | AttemptsNotSent, now: float) -> None:
        """Take what the worker of an actor has answered, or is taken for its answers."""
        actor = worker.actor
        assert actor is not None
        results: list[tuple[Task, Any]] = []
        unstarted: list[Task] = []
        created = False
        for answer in event.answers:
            task = worker.in_flight.pop(answer.seq, None)
            if task is None:
                if answer.seq in worker.given_up:
                    worker.given_up.discard(answer.seq)
                elif self._pool.is_lying(worker):
                    break
                continue
            call = task.actor is None
            if call:
                task.kind.scheduling_class.leases -= 1
            ended = answer.ended
            if ended is _ARGUMENT_LOST:
                unstarted.append(task)
            elif ended is _EXITED:
                task.started_at, task.seconds = answer.started_at, answer.duration
                if actor.state is not ActorStatus.DEAD:
                    self._supervisor.die(actor, DeathCause.EXITED)
                self._supervisor.fail_dead(actor, task)
            elif call and ended in _DROPPED and self._is_flagged(task):
                if self._attempts.overrun_of(task):
                    record = self._attempts.record_of(task, worker, answer, FailureKind.TIMEOUT)
                    self._attempts.overran(task, record, now)
                    continue
                record = self._attempts.record_of(task, worker, answer, FailureKind.CANCELLED)
                self._attempts.record(task, record)
                self._table.fail_cancelled(task, CancelOutcome.INTERRUPTED)
            elif not call and ended in _OF_INTERRUPT and self._ends_with_worker(task, worker):
                continue
            elif ended is _RETURNED:
                created = created or not call
                self._table.finish(task, answer, results)
                if call:
                    self._call_queues.count(actor, task.caller, 1)
            else:
                self._attempts.judge(task, worker, answer, now)
        if results:
            self._turn.out.append(ResolveValues(results))
        if unstarted and actor.ordered and worker.in_flight and worker.state is WorkerStatus.READY:
            self._prefetch.reclaim(worker)  # what was sent behind these waits for them
        for task in unstarted:  # not before: what they lack may be among the results
            self._argument_lost(task, worker)
        self._starts.has_served(worker)
        if worker.blocked:
            self._resources.take_cpus_back(
                worker
            )  # what has waited is answered: it was the first in flight
        if created:
            self._supervisor.created(actor, worker)
        if worker.actor is None:
            return  # its creation has not begun: the worker is as any other again
        if actor.state is _DEAD:
            self._supervisor.leave(worker, now)
        else:
            self.progressed(worker, now)

    def _ends_with_worker(self, creation: Task, worker: Worker) -> bool:
        """Kill a worker whose actor was not made in time, so that it is as if it had crashed.

        Tell whether that was so.
        """
        overrun = self._attempts.overrun_of(creation)
        if overrun is None:
            return False
        worker.in_flight[creation.seq] = creation
        self._pool.kill(worker, overrun.text(creation.name))
        return True

    @staticmethod
    def _is_flagged(task: Task) -> bool:
        """Tell whether a method was told of a cancel, so that its outcome does not count."""
        cancellation = task.cancellation
        return cancellation is not None and cancellation.told and not actor_of(task).asynchronous

    def _argument_lost(self, task: Task, worker: Worker) -> None:
        """Let a call, or a creation, wait again whose attempt could not begin."""
        actor = task.actor
        if actor is not None:
            self._supervisor.let_go(actor, worker)
            if task.number in self._table.unfinished:
                self._table.wait_for_lost(task)
                if actor.state is not ActorStatus.DEAD:
                    self._supervisor.wait(actor)
        elif task.kind.scheduling_class.forbidden is not None and task.cancellation is None:
            self._supervisor.fail_dead(actor_of(task), task)
        else:
            self._table.wait_for_lost(task)
            if task.state is TaskStatus.PENDING_ARGS_AVAIL:
                self._call_queues.waits(task)


def _is_alone(task: Task) -> bool:
    """Tell whether nothing else may be in the worker of a call."""
    return task.kind.limits is not None and task.kind.limits.alone
