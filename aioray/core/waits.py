"""Which attempts block, and for what: so that a circle of them is noticed, and broken.

Room: core. What an attempt waits for, while it holds up calls of an actor, may itself wait for one
of them: the constructor for a task that calls the actor, a method for a call of its own actor. That
call fails, and says who waits for whom, see `circles`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import circles
from .call_queues import actor_of
from .commands import CancelCall
from .outcomes import Circle, Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import AttemptWaits
    from .model import Task
    from .pool import WorkerPool
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Waits"]


class Waits:
    """The attempts that block without a limit."""

    __slots__ = ("_pool", "_table", "_turn", "blocked")

    def __init__(self, turn: Turn, table: TaskTable, pool: WorkerPool) -> None:
        """Begin with no attempts that block."""
        self._turn = turn
        self._table = table
        self._pool = pool
        self.blocked: circles.Blocked = {}

    def wait(self, event: AttemptWaits, now: float) -> None:
        """Note that an attempt blocks, or goes on; if it closes a circle, one call fails."""
        seq = event.seq
        task = self._pool.task_in_flight(event.worker_id, seq)
        needed = frozenset(task for task in event.tasks if task.number in self._table.unfinished)
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
            self._turn.out.append(CancelCall(worker.id, call.seq))
        attempts = tuple(call.failures or ())
        self._table.fail(call, Failure(FailureKind.CIRCLE, Circle(actor, names), attempts=attempts))
        self._turn.dirty = True

    def forget(self, tasks: Sequence[Task]) -> None:
        """Forget attempts that have died."""
        if self.blocked:
            for task in tasks:
                self.blocked.pop(task.seq, None)
