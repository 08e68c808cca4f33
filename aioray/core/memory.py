"""Who is killed for the memory it has: for more than its limit, or because the machine runs short.

Room: core. The shell measures, here it is decided what that means. Whoever exceeds is *condemned*:
it is taken off the work, what it has been sent and has not begun comes back, and then it is killed.
`attempts` judges what it was running, which is the only attempt that is harmed.

A limit is the attempt's own: nothing else is in its worker meanwhile, and what it answers once it
has been condemned does not count. That of making an actor holds for as long as the actor lives.

When the machine runs short, what is killed is what exceeds most: what has the most memory beyond
that which it has asked for. Among those that exceed about equally it is one that will be tried
again, and then the newest. Workers that keep memory and run nothing go before all others. One at a
time: the next look tells whether that was enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import ReportMemoryShort
from .devices import UNIT
from .outcomes import Excess, Shortage
from .records import NamedTuple, replace
from .states import LEAVING, Phase, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .attempts import Attempts
    from .events import MemoryMeasured, MemoryRanShort
    from .model import Task, Worker
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .turn import Turn

__all__ = ["Candidate", "MemoryGuard", "who_exceeds_most"]

WORTH_KILLING = 32 * 1024 * 1024  # bytes; to free less than this helps nobody
ABOUT_EQUAL = 0.9  # of what the one who exceeds most does
TOLD_SECONDS = 60.0  # between two reports that there is nobody to kill


class Candidate(NamedTuple):
    """A worker that could be killed, to free memory."""

    worker: Worker
    excess: int  # bytes beyond those that were asked for
    retried: bool  # what it runs will be tried again
    began: float  # what it runs; of an actor, its creation


def who_exceeds_most(candidates: Sequence[Candidate]) -> Candidate | None:
    """Choose whom to kill; None: nobody has anything that would help."""
    worth = [each for each in candidates if each.excess >= WORTH_KILLING]
    if not worth:
        return None
    most = ABOUT_EQUAL * max(each.excess for each in worth)
    equals = [each for each in worth if each.excess >= most]
    return max(equals, key=lambda each: (each.retried, each.began, each.worker.id))


class MemoryGuard:
    """The one who condemns."""

    __slots__ = ("_attempts", "_pool", "_prefetch", "_told_at", "_turn")

    def __init__(
        self, turn: Turn, pool: WorkerPool, attempts: Attempts, prefetch: Prefetch
    ) -> None:
        """Begin with nobody condemned."""
        self._turn = turn
        self._pool = pool
        self._attempts = attempts
        self._prefetch = prefetch
        self._told_at: float | None = None

    def measured(self, event: MemoryMeasured, _now: float) -> None:
        """Compare what an attempt was seen to use with its limit."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None or worker.excess is not None or worker.state in LEAVING:
            return
        task = worker.in_flight.get(event.seq)
        seq = event.seq
        if task is None and worker.actor is not None and worker.actor.creation.seq == seq:
            task, seq = worker.actor.creation, 0  # it is made, and has the limit ever since
        if task is None or task.limits is None or task.limits.memory_limit is None:
            return
        if event.used > task.limits.memory_limit:
            excess = Excess(seq, event.used, task.limits.memory_limit)
            worker.excess = excess
            self._pool.kill(worker, excess=excess)

    def ran_short(self, event: MemoryRanShort, now: float) -> None:
        """Kill somebody, unless one is about to give its memory back."""
        workers = self._pool.workers
        if self._turn.life.state not in (Phase.OPEN, Phase.DRAINING) or any(
            worker.excess is not None for worker in workers.values()
        ):
            return
        shortage = Shortage(event.used, event.total, event.allowed)
        found = [
            (workers[worker_id], used)
            for worker_id, used in event.measures
            if worker_id in workers and workers[worker_id].state not in LEAVING
        ]
        busy = [(each, used) for each, used in found if each.in_flight or each.actor is not None]
        idle = [Candidate(each, used, True, each.idle_since) for each, used in found
                if not each.in_flight and each.actor is None]  # fmt: skip
        shortage = replace(shortage, alone=len(busy) == 1)
        working = [self._candidate(each, used, shortage) for each, used in busy]
        victim = who_exceeds_most(idle) or who_exceeds_most(working)
        if victim is None:
            if self._told_at is None or now >= self._told_at + TOLD_SECONDS:
                self._told_at = now
                self._turn.out.append(ReportMemoryShort(shortage))
            return
        worker = victim.worker
        used = next(used for each, used in found if each is worker)
        worker.excess = Excess(0, used, None, shortage)
        if worker.actor is None and len(worker.in_flight) > 1:
            self._pool.retire(worker, now)
            self._prefetch.reclaim(worker)  # and then, see `reclaimed`
        else:
            self._kill(worker)

    def reclaimed(self, worker: Worker) -> None:
        """Kill a condemned worker, now that what it has not begun is taken back."""
        if worker.excess is not None and worker.state is WorkerStatus.RETIRING:
            self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        assert worker.excess is not None
        if worker.actor is None and worker.in_flight:
            # All before the last are answered, and will be read.
            worker.excess = replace(worker.excess, seq=next(reversed(worker.in_flight)))
        self._pool.kill(worker, excess=worker.excess)

    def _candidate(self, worker: Worker, used: int, shortage: Shortage) -> Candidate:
        actor = worker.actor
        if actor is not None:
            excess = used - _asked_for(actor.creation)
            return Candidate(worker, excess, actor.restarts_left != 0, actor.creation.sent_at)
        task = next(reversed(worker.in_flight.values()))
        retried = self._attempts.memory_retries(task, shortage) != 0
        return Candidate(worker, used - _asked_for(task), retried, task.sent_at)


def _asked_for(task: Task) -> int:
    """Return how many bytes a task has reserved, or may have."""
    reserved = dict(task.scheduling_class.demand).get("memory", 0) // UNIT
    limit = None if task.limits is None else task.limits.memory_limit
    return max(reserved, limit or 0)
