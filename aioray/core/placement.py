"""Placement groups: reserving what one needs, and removing it with all that it has.

Room: core. The reservation of a group waits in line like a task; then tasks of the group draw on
its bundles, see `groups`. When it is removed, its workers are killed, and the machine gets its
resources back with the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import ResolveValues
from .outcomes import GROUP_IS_REMOVED
from .records import replace
from .states import GroupStatus, TaskStatus

if TYPE_CHECKING:
    from .actors import ActorSupervisor
    from .backlog import Backlog
    from .events import GroupRemoved
    from .groups import Group
    from .model import SchedulingClass
    from .pool import WorkerPool
    from .resources import Resources
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Placement"]


class Placement:
    """The placement groups, as they come and go."""

    __slots__ = (
        "_backlog",
        "_move",
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
        """Begin with no groups."""
        self._turn = turn
        self._move = turn.story.move
        self._resources = resources
        self._backlog = backlog
        self._table = table
        self._pool = pool
        self._supervisor = supervisor

    def reserve(self, cls: SchedulingClass, group: Group) -> bool:
        """Reserve what a group needs; False, and nothing, if there is no room for all of it."""
        if not self._resources.take_for(cls, group, self._backlog.older_than(cls)):
            return False
        task = cls.queue.popleft()
        self._backlog.emptied(cls)
        self._move(group, GroupStatus.CREATED)
        self._backlog.wake(group)
        self._move(task, TaskStatus.FINISHED)
        del self._table.unfinished[task.number]
        self._turn.out.append(ResolveValues([(task, task.payload)]))
        self._table.finish_dependents(task)
        return True

    def remove(self, event: GroupRemoved, now: float) -> None:
        """End what runs in a group, and fail what waits for it."""
        group = event.group
        if group.state is GroupStatus.REMOVED:
            return
        self._move(group, GroupStatus.REMOVED)
        self._backlog.forget(group)
        self._supervisor.group_removed(group)  # before its creation fails, which would be the cause
        for task in tuple(self._table.unfinished.values()):
            cls = task.scheduling_class
            concerned = cls.group is group or cls.reserves is group
            if concerned and task.worker is None and task.number in self._table.unfinished:
                self._table.fail(
                    task, replace(GROUP_IS_REMOVED, attempts=tuple(task.failures or ()))
                )
        for worker in tuple(self._pool.workers.values()):
            if worker.lease is not None and worker.lease.group is group:
                self._pool.kill(worker)
        self._resources.dissolve(group)
        self._turn.dirty = True
