"""Who gets the next attempt: what waits, workers and resources brought together.

Room: core. A worker that gets the first attempt of a class takes a *lease*: it holds the class's
resources until it has nothing in flight, and gets only attempts of that class meanwhile.

Who is served first. Classes by the rank of their head: when it was submitted, or when it came back
for a second retry or a later one, so that a task which always fails starves nobody; less what its
priority is worth, which no stream of more urgent tasks can outrun for ever. A lease is not topped
up while a longer waiting class needs what it holds; and for a class of which nothing runs, because
it asks for more than is free at any one time, resources are saved up after `STARVATION_SECONDS`.

What tasks submit queues apart from what their like have submitted, with the rank of the task that
it comes from, so that parents do not pile up before their children; the deeper goes first. A worker
whose task waits for others gives its CPUs back (`WorkerBlocked`), those of a bundle to its bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import ReportInfeasible, SendAttempts
from .prefetch import MAX_IN_FLIGHT, STALL_SECONDS
from .queues import rank
from .states import WorkerStatus

if TYPE_CHECKING:
    from .actors import ActorSupervisor
    from .attempts import Attempts
    from .backlog import Backlog
    from .call_queues import CallQueues
    from .calls import ActorCalls
    from .events import WorkerBlocked, WorkerUnblocked
    from .functions import Function
    from .model import SchedulingClass, Task, Worker
    from .permits import Permits
    from .placement import Placement
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .resources import Resources
    from .starts import Starts
    from .starvation import Starvation
    from .turn import Turn

__all__ = ["Dispatcher"]

MAX_BUNDLE = 64  # attempts per SendAttempts
STARVATION_SECONDS = 1.0  # after which resources are saved for a class that others overtake

_RETIRING = WorkerStatus.RETIRING  # members are slow to look up
_READY = WorkerStatus.READY


class Dispatcher:
    """The one who gives work to workers."""

    __slots__ = (
        "_attempts",
        "_backlog",
        "_call_queues",
        "_calls",
        "_permits",
        "_placed",
        "_placement",
        "_pool",
        "_prefetch",
        "_resources",
        "_starts",
        "_starvation",
        "_supervisor",
        "_turn",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        backlog: Backlog,
        call_queues: CallQueues,
        permits: Permits,
        pool: WorkerPool,
        starts: Starts,
        attempts: Attempts,
        prefetch: Prefetch,
        supervisor: ActorSupervisor,
        calls: ActorCalls,
        placement: Placement,
        starvation: Starvation,
    ) -> None:
        """Take the parts below, and begin with nothing to do."""
        self._turn = turn
        self._resources = resources
        self._backlog = backlog
        self._call_queues = call_queues
        self._permits = permits
        self._pool = pool
        self._starts = starts
        self._attempts = attempts
        self._prefetch = prefetch
        self._supervisor = supervisor
        self._calls = calls
        self._placement = placement
        self._starvation = starvation
        self._placed = False  # a group, during this dispatch

    def run(self, now: float) -> None:
        """Give queued tasks to workers, lowest rank first, and order what is missing."""
        self._turn.dirty = False
        waiting, limited = self._backlog.waiting, self._backlog.limited
        if limited:
            self._permits.wake(now)
        if self._call_queues.calling:
            self._calls.dispatch(now)
        if waiting:
            for cls in self._backlog.in_order():
                self._dispatch_class(cls, now)
            self._resources.stop_reserving()
            if self._placed:
                self._placed = False
                self.run(now)  # there are more classes now whose tasks can run
                return
        if limited and self._permits.wake(now):
            self.run(now)  # those that were woken first had no use for all permits
            return
        if self._prefetch.stalled:
            self._prefetch.release_stalled(now)
        if self._prefetch.supplied and self._pool.idle_count:
            self._prefetch.share_out(now)

    def _dispatch_class(self, cls: SchedulingClass, now: float) -> None:
        if cls.reserves is not None:
            if self._placement.reserve(cls, cls.reserves):
                self._placed = True
            else:
                self._mark_starved(cls, now)
            return
        queue = cls.queue
        idle = self._pool.idle.get(cls.environment)
        free = self._resources.free_leases(cls)
        limiter = cls.limiter
        if limiter is not None:
            permits = limiter.room(now)
            if permits <= 0:
                self._permits.park(cls, limiter)
                return
            limiter.parked.pop(cls, None)
            free = min(free, permits)
        if (
            self._prefetch.stalled
            and queue
            and idle
            and free
            and self._prefetch.take_back_older(cls)
        ):
            return  # they come back at once, and then they are first
        alone = cls.creates or limiter is not None  # nothing is sent behind such a task
        while queue and idle and free:
            # Share what is queued between the workers that could take it; one each if it is long.
            share = 1
            if not alone and self._prefetch.target(queue[0].function) > 2:
                share = -(-len(queue) // min(len(idle), free))
            worker = self._pool.take_idle(cls)
            if worker is None:
                break
            self._resources.acquire(worker, cls)
            free -= 1
            head = queue[0]
            self._fill(worker, cls, share, now)
            if cls.creates:
                self._supervisor.placed(worker, head)
        if queue and limiter is not None and limiter.room(now) <= 0:
            self._permits.park(cls, limiter)
            return
        if queue and free:
            self._starts.order(cls, min(len(queue), free), now)
        if queue and not alone and not self._pool.starting.get(cls.environment):
            for worker in tuple(self._pool.workers.values()):
                if worker.lease is cls:
                    self._top_up(worker, cls, now)
                    if not queue:
                        break
        if not queue:
            self._backlog.emptied(cls)
        elif not free:
            self._mark_starved(cls, now)

    def _mark_starved(self, cls: SchedulingClass, now: float) -> None:
        """Let later classes go ahead of one for which too little is free, but not for ever."""
        if self._resources.never_fits(cls):
            del self._backlog.waiting[
                cls
            ]  # nothing will ever make it fit, but the placing of its group
            if cls.group is None and not cls.reported_infeasible:
                cls.reported_infeasible = True
                self._turn.out.append(ReportInfeasible(cls.queue[0]))
        elif not cls.leases:
            if cls.passed_over_since is None:
                cls.passed_over_since = now
            elif now >= cls.passed_over_since + STARVATION_SECONDS:
                some = self._resources.blocked_workers or self._supervisor.living
                self._resources.reserve_for(cls, self._pool.workers.values() if some else ())
            self._starvation.watch(cls.passed_over_since)

    def _fill(self, worker: Worker, cls: SchedulingClass, limit: int, now: float) -> None:
        """Send up to `limit` attempts, at least one, from the head of the queue."""
        queue = cls.queue
        in_flight = worker.in_flight
        known = worker.functions
        begin = self._attempts.begin
        bundle: list[Task] = []
        if not in_flight:
            worker.last_progress = now
        function: Function | None = None
        target = MAX_IN_FLIGHT
        limit = max(1, limit)
        while queue and limit:
            task = queue[0]
            if task.kind.function is not function:
                function = task.kind.function
                # The smallest so far: nothing goes behind what may run for long.
                target = min(target, self._prefetch.target(function))
            alone = task.kind.limits is not None and task.kind.limits.alone
            if in_flight and (
                alone or len(in_flight) >= target or (not bundle and function.key not in known)
            ):
                break
            if task.kind.max_calls:
                self._pool.count_call(worker, task)
            queue.popleft()
            limit -= 1
            begin(task, worker, now)
            bundle.append(task)
            if len(bundle) == MAX_BUNDLE:
                self._turn.out.append(SendAttempts(worker.id, bundle))
                bundle = []
            if alone or worker.state is _RETIRING:
                break
        if bundle:
            self._turn.out.append(SendAttempts(worker.id, bundle))
        self._prefetch.watch(worker)

    def _top_up(self, worker: Worker, cls: SchedulingClass, now: float) -> None:
        """Send a busy worker more, if what is next is short and its code is surely there."""
        if worker.state is not _READY or worker.blocked:
            return
        if now >= worker.last_progress + STALL_SECONDS:
            return
        in_flight = len(worker.in_flight)
        head = cls.queue[0]
        target = self._prefetch.target(head.kind.function)
        if in_flight * 2 > target or head.kind.function.key not in worker.functions:
            return
        if len(self._backlog.waiting) > 1 and self._prefetch.outranked(cls, rank(head)):
            return  # let the lease end
        task = next(iter(worker.in_flight.values()))
        if task.kind.limits is not None and task.kind.limits.alone:
            return
        running = task.kind.function
        if running is not head.kind.function and self._prefetch.target(running) <= in_flight:
            return
        share = -(-len(cls.queue) // max(1, cls.leases))  # others will want some too
        self._fill(worker, cls, min(target - in_flight, share), now)

    def go_on(self, worker: Worker, now: float) -> None:
        """Keep a worker busy that has answered or given back, or let go of what it holds."""
        if worker.actor is not None:
            self._calls.progressed(worker, now)
            return
        cls = worker.lease
        if cls is None:
            return  # late news only
        worker.last_progress = now
        self._prefetch.stalled.pop(worker, None)
        if worker.in_flight:
            if cls.queue:
                self._top_up(worker, cls, now)
                if not cls.queue:
                    self._backlog.emptied(cls)
            self._prefetch.watch(worker)
            return
        self._resources.release(worker)
        if worker.state is _READY:
            self._pool.make_idle(worker, now)
            if self._prefetch.supplied:
                self._turn.dirty = True  # it may have use for what waits elsewhere
        elif worker.state is _RETIRING:
            self._pool.stop(worker, now)

    def block(self, event: WorkerBlocked, now: float) -> None:
        """Lend the CPUs of a worker whose task waits for others."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None or worker.blocked or event.seq not in worker.in_flight:
            return
        actor = worker.actor
        if worker.lease is None or (actor is not None and not actor.ahead):
            return  # it holds nothing, or other calls use that
        self._resources.lend_cpus(worker)
        self._prefetch.stalled.pop(worker, None)
        if len(worker.in_flight) > 1 and actor is None:
            self._prefetch.reclaim(worker)
        self._turn.dirty = True

    def unblock(self, event: WorkerUnblocked, _now: float) -> None:
        """Give a worker its CPUs again: its task goes on."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None or not worker.blocked or event.seq not in worker.in_flight:
            return
        self._resources.take_cpus_back(worker)
