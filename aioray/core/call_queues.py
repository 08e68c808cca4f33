"""The order of calls: in which queue, and behind which others, a call of an actor waits.

Room: core. Ready calls queue in their concurrency group, which is a scheduling class.
Where order is kept, the calls of one caller run in the order in which they were made: a call that
is not ready, because an argument is late or because it waits for its next attempt, heads the *line*
of its caller, in which all later ones stand behind it. `CallQueues` knows neither workers nor
whether an actor lives; it says in `calling` whose calls somebody should look at.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .model import SchedulingClass
from .states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .limiters import StartLimiter
    from .model import SupervisedActor, Task

__all__ = ["CallQueues", "actor_of", "limited_group", "room_in"]


class CallQueues:
    """The calls that wait for their actors."""

    __slots__ = ("calling",)

    def __init__(self) -> None:
        """Begin with no calls."""
        self.calling: dict[SupervisedActor, None] = {}  # those that may be given more calls

    def take_calling(self) -> Iterable[SupervisedActor]:
        """Return the actors that may be given more calls; from now on they are noted anew."""
        calling, self.calling = self.calling, {}
        return calling

    def submitted(self, task: Task) -> None:
        """Put a new call behind what its caller has called before, if that waits in a line."""
        actor = actor_of(task)
        line = actor.lines.get(task.caller) if actor.ordered else None
        if line is not None:
            line.append(task)
            actor.held.add(task.number)

    def waits(self, task: Task) -> None:
        """Let a call that is not ready head the line of its caller, before all later ones."""
        actor = actor_of(task)
        if not actor.ordered or task.number in actor.held:
            return
        queue = task.kind.scheduling_class.queue
        later = [o for o in queue if o.caller == task.caller and o.number > task.number]
        for other in later:
            queue.remove(other)
        self._line_up(actor, task.caller, (task, *later))

    @staticmethod
    def _line_up(actor: SupervisedActor, caller: int, tasks: Iterable[Task]) -> None:
        """Put calls into the line of their caller, in the order in which they were made."""
        line = sorted((*actor.lines.get(caller, ()), *tasks), key=lambda task: task.number)
        actor.lines[caller] = deque(line)
        actor.held.update(task.number for task in line)

    def enqueue(self, task: Task, *, front: bool) -> None:
        """Queue a call that is ready to run, in its concurrency group or its line."""
        actor = actor_of(task)
        self.calling[actor] = None
        line = actor.lines.get(task.caller)
        if task.number in actor.held:
            if line is not None and line[0] is task:
                self._advance(actor, task.caller)
        elif line is not None and line[0].number < task.number:
            self._line_up(actor, task.caller, (task,))  # it had been sent ahead of that one
        elif front:
            task.kind.scheduling_class.queue.appendleft(task)
        else:
            task.kind.scheduling_class.queue.append(task)

    def _advance(self, actor: SupervisedActor, caller: int) -> None:
        """Let those at the head of a line go that are ready."""
        line = actor.lines[caller]
        while line and line[0].state is TaskStatus.PENDING_NODE_ASSIGNMENT:
            task = line.popleft()
            actor.held.discard(task.number)
            task.kind.scheduling_class.queue.append(task)
            self.calling[actor] = None
        if not line:
            del actor.lines[caller]

    def drop(self, task: Task) -> None:
        """Take out a call that has failed, if it waits here."""
        actor = actor_of(task)
        self.count(actor, task.caller, 1)
        if task.number in actor.held:
            actor.held.discard(task.number)
            line = actor.lines[task.caller]
            was_first = line[0] is task
            line.remove(task)
            if was_first:
                self._advance(actor, task.caller)
        elif task.state is TaskStatus.PENDING_NODE_ASSIGNMENT:
            task.kind.scheduling_class.queue.remove(task)

    def recovered(self, task: Task) -> None:
        """Count a call as unfinished again, whose value was lost."""
        self.count(actor_of(task), task.caller, -1)

    @staticmethod
    def count(actor: SupervisedActor, caller: int, change: int) -> None:
        """Count the calls of a caller that have an outcome, if somebody wants to know."""
        if actor.counts_calls:
            actor.done[caller] = actor.done.get(caller, 0) + change


def limited_group(group: SchedulingClass, limiter: StartLimiter) -> SchedulingClass:
    """Return the queue for calls in a concurrency group that need permits of a limiter.

    It shares the group's limit, so that others need not wait behind these. Where calls run one
    after the other they keep their places, and it is the group itself.
    """
    actor = group.actor
    assert actor is not None
    if actor.ahead:
        return group
    for each in actor.concurrency_groups:
        if each.base is group and each.limiter is limiter:
            return each
    made = SchedulingClass(
        (), group.environment, actor=actor, limit=group.limit, limiter=limiter, base=group
    )
    # In this order: the actor may be dying in another thread, which looks at its groups last.
    actor.concurrency_groups += (made,)
    made.forbidden = group.forbidden
    return made


def room_in(group: SchedulingClass) -> int:
    """Count how many more calls of a concurrency group may run now."""
    actor = group.actor
    assert actor is not None
    base = group.base or group
    taken = base.leases
    for each in actor.concurrency_groups:
        if each.base is base:
            taken += each.leases
    return group.limit - taken


def actor_of(task: Task) -> SupervisedActor:
    """Return the actor whose method a call is."""
    actor = task.kind.scheduling_class.actor
    assert actor is not None
    return actor
