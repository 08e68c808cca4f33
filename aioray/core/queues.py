"""The queue of a scheduling class whose tasks differ in priority.

Room: core. As long as all tasks are equally urgent, a class queues them in a plain deque, which is
as fast as can be. A `RankedQueue` takes its place with the first task that has a priority, until it
is empty. It does what the scheduler asks of a deque, but keeps its own order, by `rank`: whether a
task is put in front or behind makes no difference.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["AGEING_SECONDS", "Rank", "RankedQueue", "rank"]

AGEING_SECONDS = 10.0  # waiting for so long is worth as much as one unit of priority

Rank = tuple[float, int, int]
_Entry = list[Any]  # rank, number, and the task, or None if it was taken out


class Queued(Protocol):
    """What a queue needs to know of a task."""

    number: int
    queued_at: float
    priority: float
    rank: int
    scheduling_class: Any


def rank(task: Queued) -> Rank:
    """Return the place of a task among all that wait: the lowest goes first.

    A priority makes it as if the task had been queued so much earlier. As everything ages alike,
    the order of two tasks never changes while they wait. Tasks of one family have the same place
    unless their priorities differ: of these the deeper one goes first, as others may wait for it.
    """
    depth = task.scheduling_class.depth
    return task.queued_at - task.priority * AGEING_SECONDS, task.rank, -depth


class RankedQueue:
    """Tasks in the order of their ranks."""

    __slots__ = ("_entries", "_heap")

    def __init__(self, tasks: Iterable[Queued]) -> None:
        """Take over the tasks that wait."""
        self._heap: list[_Entry] = []
        self._entries: dict[int, _Entry] = {}  # by number, of what is still there
        for task in tasks:
            self.append(task)

    def append(self, task: Queued) -> None:
        """Put a task where it belongs."""
        entry: _Entry = [rank(task), task.number, task]
        self._entries[task.number] = entry
        heapq.heappush(self._heap, entry)

    appendleft = append

    def popleft(self) -> Any:
        """Take out the first task."""
        task = self[0]
        self.remove(task)
        return task

    def remove(self, task: Queued) -> None:
        """Take out this task, which must be there."""
        self._entries.pop(task.number)[2] = None
        heap = self._heap
        while heap and heap[0][2] is None:  # others go when they come to the front
            heapq.heappop(heap)

    def __getitem__(self, index: int) -> Any:
        """Return the first task, the only one whose place is known."""
        assert index == 0
        return self._heap[0][2]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        return (task for _, _, task in sorted(self._entries.values()))
