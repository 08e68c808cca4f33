"""When tasks with time limits are to be looked at: at their deadlines, and while an attempt runs.

Room: core. A heap of plain tuples, one for each limit that runs, which hold no tasks: what has
ended meanwhile is dropped when its time comes, or when most of the heap is of that kind. The turn
has one timer for all of them. What a look finds is decided in `overruns`.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from .facts import AlarmDue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .model import Task
    from .turn import Turn

__all__ = ["Alarms"]

SWEPT_SIZE = 1_024  # alarms at least before those of ended tasks are looked for


class Alarms:
    """What is to be looked at later, the next one first."""

    __slots__ = ("_heap", "_sweep_size", "_turn", "_unfinished", "due_at")

    def __init__(self, turn: Turn, unfinished: Mapping[int, Task]) -> None:
        """Begin with none. unfinished: the tasks that have no outcome, by number."""
        self._turn = turn
        self._unfinished = unfinished
        self._heap: list[tuple[float, int, int]] = []  # when, task, seq of the attempt or 0
        self._sweep_size = SWEPT_SIZE
        self.due_at = math.inf  # not before then

    def submitted(self, task: Task, now: float) -> None:
        """Set the alarm of a task that has a deadline."""
        limits = task.limits
        if limits is not None and limits.deadline is not None:
            self._set(now + limits.deadline, task, 0)

    def begun(self, task: Task, now: float) -> None:
        """Set the alarm of an attempt that has a limit of its own, and cannot exceed it before."""
        limits = task.limits
        shortest = None if limits is None else limits.shortest
        if shortest is not None:
            self._set(now + shortest, task, task.seq)

    def again(self, task: Task, when: float) -> None:
        """Set the alarm of an attempt that was looked at, and has not exceeded its limits."""
        self._set(when, task, task.seq)

    def _set(self, when: float, task: Task, seq: int) -> None:
        if len(self._heap) >= self._sweep_size:
            self._sweep()
        heapq.heappush(self._heap, (when, task.number, seq))
        if when < self.due_at:
            self._plan()

    def _sweep(self) -> None:
        """Drop the alarms of what has ended."""
        self._heap = [alarm for alarm in self._heap if self._subject(alarm) is not None]
        heapq.heapify(self._heap)
        self._sweep_size = max(SWEPT_SIZE, 2 * len(self._heap))

    def _plan(self) -> None:
        """Have the first alarm told of in time."""
        self.due_at = self._heap[0][0] if self._heap else math.inf
        if self._heap:
            self._turn.timers.set(self.due_at, AlarmDue())

    def _subject(self, alarm: tuple[float, int, int]) -> Task | None:
        """Return the task that an alarm is about; None: it, or the attempt, has ended."""
        _, number, seq = alarm
        task = self._unfinished.get(number)
        if task is None or task.limits is None:
            return None
        if seq:
            return task if task.seq == seq else None
        return None if task.limits.deadline is None else task

    def due(self, now: float) -> list[tuple[float, Task, int]]:
        """Take out what is due: when that was, which task, and the seq of the attempt or 0."""
        found = []
        heap = self._heap
        while heap:
            task = self._subject(heap[0])
            if task is not None and heap[0][0] > now:
                break
            when, _, seq = heapq.heappop(heap)
            if task is not None:
                found.append((when, task, seq))
        self._plan()
        return found

    def __iter__(self) -> Iterator[tuple[float, Task, int]]:
        for alarm in sorted(self._heap):
            task = self._subject(alarm)
            if task is not None:
                yield alarm[0], task, alarm[2]
