"""What waits for resources and a worker: the queues of the scheduling classes.

Room: core. A ready task stands in the queue of its scheduling class (same resources, environment,
depth). `waiting` holds the classes that have something in their queues and may be served some day;
the dispatcher takes out those that cannot, and puts them back by `wake`. Classes are served by the
rank of their heads, see `queues`. Calls of actors do not stand here but in `call_queues`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .model import SchedulingClass
from .outcomes import GROUP_IS_REMOVED, Failure, FailureKind
from .queues import RankedQueue, rank
from .states import GroupStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .devices import Demand
    from .groups import Group
    from .limiters import StartLimiter
    from .model import Environment, Task

__all__ = ["Backlog"]


class Backlog:
    """All scheduling classes, and which of them wait."""

    __slots__ = ("classes", "limited", "waiting")

    def __init__(self) -> None:
        """Begin with an empty backlog."""
        self.classes: dict[Any, SchedulingClass] = {}
        self.waiting: dict[SchedulingClass, None] = {}  # classes with a non-empty queue
        self.limited: dict[StartLimiter, None] = {}  # those for which some wait, see `permits`

    def scheduling_class(
        self,
        demand: Demand,
        environment: Environment,
        depth: int = 0,
        *,
        group: Group | None = None,
        bundle: int | None = None,
        refusal: str | None = None,
        creates: bool = False,
        limiter: StartLimiter | None = None,
    ) -> SchedulingClass:
        """Return the one class of tasks that need this, submitted by tasks so many levels down.

        group: on whose bundles they draw; the demand must fit into one: see `Group.demands`.
        bundle: index of the one that it has to be; None: any. refusal: why they cannot run at all.
        creates: they make actors. limiter: whose permits they need.
        """
        place = None if group is None else group.key
        key = (demand, environment, depth, place, bundle, refusal, creates, limiter)
        found = self.classes.get(key)
        if found is not None:
            return found
        demands = None if group is None else group.demands(demand, bundle)
        found = SchedulingClass(
            demand,
            environment,
            depth,
            demands=demands,
            group=group,
            creates=creates,
            limiter=limiter,
        )
        if refusal is not None:
            found.forbidden = Failure(FailureKind.UNSCHEDULABLE, refusal)
        if group is not None:
            # In this order: another thread may be removing it, and looks at its classes last.
            group.classes.append(found)
            if group.state is GroupStatus.REMOVED:
                found.forbidden = GROUP_IS_REMOVED
        self.classes[key] = found
        return found

    def reservation_class(self, group: Group) -> SchedulingClass:
        """Make the class of the one task that is finished when the group is placed."""
        found = self.classes[group.key] = SchedulingClass(group.demand, None, reserves=group)
        group.classes.append(found)
        return found

    def put(self, task: Task) -> None:
        """Queue a task behind the others, or where its rank says in a class with priorities."""
        cls = task.kind.scheduling_class
        if task.priority and type(cls.queue) is deque:
            cls.queue = RankedQueue(cls.queue)
        cls.queue.append(task)
        self.waiting[cls] = None

    def put_first(self, task: Task) -> None:
        """Queue a task before the others, unless ranks count."""
        cls = task.kind.scheduling_class
        if task.priority and type(cls.queue) is deque:
            cls.queue = RankedQueue(cls.queue)
        cls.queue.appendleft(task)
        self.waiting[cls] = None

    def remove(self, task: Task) -> None:
        """Take a task out of its queue. Rare and linear: only for cancels and shutdown."""
        cls = task.kind.scheduling_class
        cls.queue.remove(task)
        if not cls.queue:
            self.emptied(cls)

    def emptied(self, cls: SchedulingClass) -> None:
        """Take note that the last task has left this queue."""
        if type(cls.queue) is not deque:
            cls.queue = deque()
        cls.passed_over_since = None
        self.waiting.pop(cls, None)

    def in_order(self) -> Iterable[SchedulingClass]:
        """Return the classes that wait now, the one with the lowest rank first."""
        waiting = self.waiting
        if len(waiting) == 1:
            return tuple(waiting)
        return sorted(waiting, key=lambda cls: rank(cls.queue[0]))

    def older_than(self, cls: SchedulingClass) -> list[SchedulingClass]:
        """Return the other classes that wait and go before this one."""
        own = rank(cls.queue[0])
        return [each for each in self.waiting if each is not cls and rank(each.queue[0]) < own]

    def wake(self, group: Group) -> None:
        """Let what waits for the placing of this group wait for workers."""
        for cls in group.classes:
            if cls.queue:
                self.waiting[cls] = None

    def forget(self, group: Group) -> None:
        """Refuse whatever else comes for this group, which is removed."""
        for cls in group.classes:
            cls.forbidden = GROUP_IS_REMOVED
        for key, cls in tuple(self.classes.items()):
            if group in (cls.group, cls.reserves):
                del self.classes[key]

    def demands(self) -> list[tuple[SchedulingClass, int]]:
        """Return the classes that have tasks in their queues, and how many of each."""
        return [(cls, len(cls.queue)) for cls in self.classes.values() if cls.queue]
