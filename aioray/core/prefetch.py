"""Work sent ahead: how much of it, and how it is taken back from workers that have stalled.

Room: core. Functions known to be short are sent ahead, about `PREFETCH_SECONDS` of expected work
per worker; what is stuck behind an attempt that turned out long is reclaimed when somebody else
could run it, or when a class that waits longer could use the lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import PollWorker, ReclaimAttempts
from .facts import ProgressOverdue
from .queues import rank

if TYPE_CHECKING:
    from .attempts import Attempts
    from .backlog import Backlog
    from .functions import Function
    from .model import SchedulingClass, Worker
    from .pool import WorkerPool
    from .queues import Rank
    from .resources import Resources
    from .starts import Starts
    from .turn import Turn

__all__ = ["MAX_IN_FLIGHT", "STALL_SECONDS", "Prefetch"]

PREFETCH_SECONDS = 0.002  # expected work sent ahead to one worker
MAX_IN_FLIGHT = 256  # attempts given to one worker, running one included; waking it is what costs
STALL_SECONDS = 0.005  # without an answer, after which a worker with attempts waiting is looked at
LONGEST_STALL_CHECK = 0.1  # seconds between two looks at it


class Prefetch:
    """What workers have in flight beyond what they run."""

    __slots__ = ("_attempts", "_backlog", "_pool", "_resources", "_starts", "_turn", "stalled")

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        backlog: Backlog,
        pool: WorkerPool,
        starts: Starts,
        attempts: Attempts,
    ) -> None:
        """Begin with nobody stalled."""
        self._turn = turn
        self._resources = resources
        self._backlog = backlog
        self._pool = pool
        self._starts = starts
        self._attempts = attempts
        self.stalled: dict[Worker, None] = {}

    def target(self, function: Function) -> int:
        """Return how many attempts of this function one worker may have in flight."""
        mean = function.mean_seconds
        if mean is None:
            return 1
        if mean * MAX_IN_FLIGHT <= PREFETCH_SECONDS:
            return MAX_IN_FLIGHT
        return 1 + int(PREFETCH_SECONDS / mean)

    def outranked(self, cls: SchedulingClass, own: Rank) -> bool:
        """Tell whether a class that waits longer could make use of a lease of this one."""
        held = {name for demand in cls.demands for name, _ in demand}
        for other in self._backlog.waiting:
            if other is cls or rank(other.queue[0]) >= own:
                continue
            short = self._resources.shortage(other)
            if short:
                if not held.isdisjoint(short):
                    return True
            elif (
                other.environment == cls.environment
                and other.devices_wanted == cls.devices_wanted
                and other.reserves is None
            ):
                return True  # it lacks nothing but a worker
        return False

    def watch(self, worker: Worker) -> None:
        """Plan a look at a worker, if something waits in it."""
        if len(worker.in_flight) > 1:
            due = worker.last_progress + STALL_SECONDS
            if worker.stall_check is None or due < worker.stall_check:
                self._plan_stall_check(worker, due)

    def _plan_stall_check(self, worker: Worker, due: float) -> None:
        worker.stall_check = due
        self._turn.timers.set(due, ProgressOverdue(worker, due))

    def look(self, fact: ProgressOverdue) -> None:
        """Look whether a worker has stalled, unless that was done since this was planned."""
        worker, planned, now = fact.worker, fact.planned, self._turn.now
        if planned != worker.stall_check:
            return  # an earlier look was planned since, and was taken
        worker.stall_check = None
        if len(worker.in_flight) < 2 or self._pool.workers.get(worker.id) is not worker:
            return
        due = worker.last_progress + STALL_SECONDS
        if due <= now:
            self.stalled[worker] = None
            self._turn.out.append(PollWorker(worker.id))
            self.release_stalled(now)
            # Look again, ever less often: it may answer, and not announce it before a long attempt.
            due = now + min(LONGEST_STALL_CHECK, now - worker.last_progress)
        self._plan_stall_check(worker, due)

    def release_stalled(self, now: float) -> None:
        """Take back what waits behind long attempts, where somebody could make use of that."""
        for worker in tuple(self.stalled):
            cls = worker.lease
            if cls is None or worker.actor is not None or len(worker.in_flight) < 2:
                continue
            last = next(reversed(worker.in_flight.values()))
            if self._could_run_elsewhere(cls, now) or self.outranked(cls, rank(last)):
                del self.stalled[worker]
                self.reclaim(worker)

    def take_back_older(self, cls: SchedulingClass) -> bool:
        """Reclaim attempts of this class that wait behind long ones, and longer than its queue.

        A worker that is free must not begin with what was submitted later.
        """
        own = rank(cls.queue[0])
        found = False
        for worker in tuple(self.stalled):
            if worker.lease is cls and worker.actor is None and len(worker.in_flight) > 1:
                last = next(reversed(worker.in_flight.values()))
                if rank(last) < own:
                    del self.stalled[worker]
                    self.reclaim(worker)
                    found = True
        return found

    def _could_run_elsewhere(self, cls: SchedulingClass, now: float) -> bool:
        if not self._resources.free_leases(cls):
            return False
        environment = cls.environment
        return self._pool.has_idle(cls) or (
            self._pool.room() > 0
            and not self._pool.starting.get(environment)
            and self._starts.blocked_until.get(environment, 0.0) <= now
        )

    def reclaim(self, worker: Worker) -> None:
        """Take back what a worker has not claimed."""
        worker.reclaims.append(self._attempts.last_seq)
        self._turn.out.append(ReclaimAttempts(worker.id))
