"""Work sent ahead: how much of it, and how it is taken back from workers that have stalled.

Room: core. Functions known to be short are sent ahead, about `PREFETCH_SECONDS` of expected work
per worker, and of all others but the longest one attempt, so that a worker goes on without the
driver when it has ended what it runs.

What was sent ahead comes back as soon as somebody is idle who would begin with it sooner. What is
stuck behind an attempt that turned out long comes back also for a worker that is to be started, for
a class that waits longer and could use the lease, and for those of its own class that are about to
begin with what was submitted later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import PollWorker, ReclaimAttempts
from .facts import ProgressOverdue
from .queues import rank
from .states import LEAVING

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

PREFETCH_SECONDS = 0.003  # expected work sent ahead to one worker
NEXT_SECONDS = 0.1  # mean of the functions of which a worker has its next one always at hand
WORTH_SECONDS = 0.002  # of waiting, for which what waits is taken back if somebody is idle
MAX_IN_FLIGHT = 256  # attempts given to one worker, running one included; waking it is what costs
STALL_SECONDS = 0.005  # without an answer, after which a worker with attempts waiting is looked at
LONGEST_STALL_CHECK = 0.1  # seconds between two looks at it
LATE = 1.25  # times the mean, after which an attempt has turned out long


class Prefetch:
    """What workers have in flight beyond what they run."""

    __slots__ = (
        "_attempts",
        "_backlog",
        "_pool",
        "_resources",
        "_starts",
        "_turn",
        "stalled",
        "supplied",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        backlog: Backlog,
        pool: WorkerPool,
        starts: Starts,
        attempts: Attempts,
    ) -> None:
        """Begin with nothing sent."""
        self._turn = turn
        self._resources = resources
        self._backlog = backlog
        self._pool = pool
        self._starts = starts
        self._attempts = attempts
        self.stalled: dict[Worker, None] = {}
        # Those in which something waits, or has just now; their progress when it was shared out.
        self.supplied: dict[Worker, float | None] = {}

    def target(self, function: Function) -> int:
        """Return how many attempts of this function one worker may have in flight."""
        mean = function.mean_seconds
        if mean is None:
            return 1
        if mean * MAX_IN_FLIGHT <= PREFETCH_SECONDS:
            return MAX_IN_FLIGHT
        if PREFETCH_SECONDS < mean <= NEXT_SECONDS:
            return 2
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
        self.supplied.setdefault(worker)
        worker.stall_check = due
        self._turn.timers.set(due, ProgressOverdue(worker, due))

    def check_progress(self, fact: ProgressOverdue) -> None:
        """Look whether a worker has stalled, unless that was done since this was planned."""
        worker, planned, now = fact.worker, fact.planned, self._turn.now
        if planned != worker.stall_check:
            return  # an earlier look was planned since, and was taken
        worker.stall_check = None
        if len(worker.in_flight) < 2 or self._pool.workers.get(worker.id) is not worker:
            self.supplied.pop(worker, None)
            return
        due = worker.last_progress + STALL_SECONDS
        if due <= now:
            self.stalled[worker] = None
            self._turn.out.append(PollWorker(worker.id))
            self.release_stalled(now)
            # Look again, ever less often: it may answer, and not announce it before a long attempt.
            elapsed = now - worker.last_progress
            rest = _usual_seconds(worker) - elapsed
            due = now + min(LONGEST_STALL_CHECK, max(elapsed, rest))
        self._plan_stall_check(worker, due)

    def release_stalled(self, now: float) -> None:
        """Take back what waits behind long attempts, where somebody could make use of that.

        Those of its class do if it takes longer than usual: they begin with what came later.
        """
        for worker in tuple(self.stalled):
            cls = worker.lease
            if cls is None or worker.actor is not None or len(worker.in_flight) < 2:
                continue
            last = next(reversed(worker.in_flight.values()))
            if (
                self._could_run_elsewhere(cls, now)
                or (cls.queue and now - worker.last_progress > LATE * _usual_seconds(worker))
                or self.outranked(cls, rank(last))
            ):
                del self.stalled[worker]
                self.reclaim(worker)

    def share_out(self, now: float) -> None:
        """Take back what waits longest in a worker, if somebody idle would begin with it sooner.

        From one at a time, and from each once only until it answers.
        """
        longest, victim = WORTH_SECONDS, None
        for worker, shared_at in self.supplied.items():
            cls = worker.lease
            if (
                cls is None
                or cls.queue
                or worker.actor is not None
                or worker.reclaims
                or worker.state in LEAVING
                or len(worker.in_flight) < 2
                or shared_at == worker.last_progress
                or not (self._resources.free_leases(cls) and self._pool.has_idle(cls))
            ):
                continue
            wait = self._longest_wait(worker, now)
            if wait >= longest:
                longest, victim = wait, worker
        if victim is not None:
            self.supplied[victim] = victim.last_progress
            self.reclaim(victim)

    def _longest_wait(self, worker: Worker, now: float) -> float:
        """Return in how many seconds a worker will probably begin with the last that it has."""
        mean = _usual_seconds(worker)
        elapsed = now - worker.last_progress
        # What has taken longer than usual already may take as long again.
        rest = mean - elapsed if elapsed < mean else elapsed
        return rest + (len(worker.in_flight) - 2) * mean

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


def _usual_seconds(worker: Worker) -> float:
    """Return how long what a worker runs usually takes."""
    return next(iter(worker.in_flight.values())).function.mean_seconds or 0.0
