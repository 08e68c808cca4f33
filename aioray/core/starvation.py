"""Who waits for what others keep for life, and is to be told.

Room: core. What actors hold, and what placed groups have reserved, comes back with none of the
tasks that run. If that is what a class of tasks, creations or reservations has waited for, for
`STARVED_SECONDS`, one `ReportStarved` says so, for each class and set of holders. One timer looks
at all classes that were passed over; it is set only where somebody may keep something.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .commands import Holding, ReportStarved
from .facts import StarvationLookDue
from .resources import kept_by
from .states import GroupStatus, TaskStatus, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .actors import ActorSupervisor
    from .backlog import Backlog
    from .model import SchedulingClass, Task, Worker
    from .pool import WorkerPool
    from .resources import Resources
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["STARVED_SECONDS", "Starvation"]

STARVED_SECONDS = 10.0  # after which it is told who holds what a class waits for, if for life


class Starvation:
    """The look at what has waited for long."""

    __slots__ = (
        "_backlog",
        "_last_look",
        "_planned",
        "_pool",
        "_resources",
        "_supervisor",
        "_table",
        "_turn",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        backlog: Backlog,
        table: TaskTable,
        pool: WorkerPool,
        supervisor: ActorSupervisor,
    ) -> None:
        """Begin with no look planned."""
        self._turn = turn
        self._resources = resources
        self._backlog = backlog
        self._table = table
        self._pool = pool
        self._supervisor = supervisor
        self._planned = False  # a look is in the timer heap
        self._last_look = -STARVED_SECONDS

    def watch(self, since: float) -> None:
        """See to it that somebody looks in time at a class that was passed over since then."""
        resources = self._resources
        if not self._planned and (
            resources.groups or self._supervisor.living or resources.blocked_workers
        ):
            self._plan(since)

    def _plan(self, since: float) -> None:
        """Look in time whether what waits since then can ever be served; not all the time."""
        self._planned = True
        due = since + STARVED_SECONDS
        if due <= self._last_look:
            due = self._last_look + STARVED_SECONDS
        self._turn.timers.set(due, StarvationLookDue())

    def report(self, _fact: StarvationLookDue) -> None:
        """Tell of what waits for something that no task will free, and who holds that."""
        now = self._turn.now
        self._planned = False
        self._last_look = now
        waits = [
            (c, c.passed_over_since)
            for c in self._backlog.waiting
            if c.passed_over_since is not None
        ]
        due = [cls for cls, since in waits if since <= now - STARVED_SECONDS]
        workers = self._holders_for_life() if due else []
        for cls in due:
            self._report(cls, workers)
        later = [since for _, since in waits if since > now - STARVED_SECONDS]
        if later:
            self._plan(min(later))

    def _holders_for_life(self) -> list[Worker]:
        """Return the workers that keep what they hold however many tasks end.

        Those are the ones of actors. If no task can go on, it is also those whose tasks wait.
        """
        workers = self._pool.workers.values()
        holders = [
            worker for worker in workers if worker.settled and worker.state is WorkerStatus.READY
        ]
        if any(
            worker.state is not WorkerStatus.READY or (worker.in_flight and not worker.blocked)
            for worker in workers
        ) or any(task.state is TaskStatus.BACKOFF for task in self._table.unfinished.values()):
            return holders
        return holders + [each for each in workers if each.blocked and not each.settled]

    def _report(self, cls: SchedulingClass, workers: Sequence[Worker]) -> None:
        groups = [
            each for each in self._resources.groups.values() if each.state is GroupStatus.CREATED
        ]
        short = self._resources.short_beside(cls, groups, workers)
        if not short:
            return
        holdings = {
            group.key: Holding(group, group.demand)
            for group in groups
            if not short.isdisjoint(dict(group.demand))
        }
        for worker in workers:
            held = kept_by(worker)
            if not short.isdisjoint(dict(held)):
                actor, lease = worker.actor, worker.lease
                task = next(iter(worker.in_flight.values())) if actor is None else actor.creation
                if lease is not None and lease.group is not None:
                    held = lease.group.plain(held)
                holdings[f"task {task.number}"] = Holding(actor or task, held)
        holders = frozenset(holdings)
        if holders and holders not in cls.told_starved:
            cls.told_starved.add(holders)
            firsts: dict[str, Task] = {}
            counts: Counter[str] = Counter()
            for task in cls.queue:
                firsts.setdefault(task.name, task)
                counts[task.name] += 1
            waiting = tuple((task, counts[name]) for name, task in firsts.items())
            self._turn.out.append(ReportStarved(waiting, tuple(holdings.values())))
