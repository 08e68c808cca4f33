"""Finds attempts and calls of actors of which each waits for the next, in a circle, for ever.

Room: core. An attempt that blocks without a limit has said what for (`AttemptWaits`). What else
cannot end before something has ended follows from where it stands: a task in the `dependents` of
its argument's, a call behind the creation of its actor, behind the one call that a synchronous
actor runs, behind the head of its line, or on the event loop that a call blocks. So the search
begins with the attempt that blocks and goes on to all that is held up by it; if that is what it
waits for, nothing of it will ever end.

What is not seen: waiting with a limit, by polling, in coroutines and in threads of the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import SupervisedActor, Task

__all__ = ["Blocked", "find", "standing"]

Blocked = dict[int, tuple["Task", frozenset["Task"]]]
"""The attempts that block, by seq: and the tasks without which they cannot go on."""


def find(task: Task, blocked: Blocked) -> tuple[list[Task], Task] | None:
    """Find the circle that a blocking attempt closes, itself first, and the call that can break it.

    Each member waits for the next one, the last for the first. The call waits for an actor, which
    could run it if it did not wait itself. None if there is no such circle.
    """
    holds_up: dict[Task, Task] = {}  # by what is held up
    stuck: set[Task] = set()  # calls that are held up by their actor
    reached = [task]
    for each in reached:
        for held in _awaiting(each, blocked):
            if held not in holds_up:
                holds_up[held] = each
                reached.append(held)
        if task in holds_up:
            break
        for held in _behind(each, blocked):
            if held not in holds_up:
                holds_up[held] = each
                stuck.add(held)
                reached.append(held)
    else:
        return None
    circle = [task]
    while holds_up[circle[-1]] is not task:
        circle.append(holds_up[circle[-1]])
    call = next((each for each in circle if each in stuck), None)
    return None if call is None else (circle, call)


def _awaiting(task: Task, blocked: Blocked) -> Iterator[Task]:
    """Yield the tasks that need the outcome of a task."""
    for dependent in task.dependents or ():
        if dependent.state is TaskStatus.PENDING_ARGS_AVAIL:
            yield dependent
    for other, needed in blocked.values():
        if task in needed:
            yield other


def _behind(task: Task, blocked: Blocked) -> Iterator[Task]:
    """Yield the calls that their actor cannot run before a task has ended."""
    if task.actor is not None:
        yield from standing(task.actor)
        return
    group = task.scheduling_class
    actor = group.actor
    if actor is None:
        return
    worker = task.worker
    if worker is None:
        line = actor.lines.get(task.caller, ())
        if line and line[0] is task:
            yield from (each for each in line if each is not task)
    elif actor.asynchronous:
        if task.seq not in blocked:
            return  # the loop of its concurrency group goes on
        yield from (
            each
            for each in (*worker.in_flight.values(), *group.queue)
            if each is not task and each.scheduling_class is group
        )
    elif actor.ahead and next(iter(worker.in_flight.values())) is task:
        yield from (each for each in worker.in_flight.values() if each is not task)
        yield from standing(actor)


def standing(actor: SupervisedActor) -> list[Task]:
    """Return the calls in the queues and lines of an actor."""
    queues = (
        *(group.queue for group in actor.concurrency_groups),
        *actor.lines.values(),
    )
    return [task for queue in queues for task in queue]
