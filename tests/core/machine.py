"""A machine in virtual time: a scheduler, a driver that takes its time, and workers that run tasks.

Everything takes as long as it does on a real one: an answer has to get to the driver, which handles
one thing after the other, and what it sends has to get to its worker. So it shows what a rule of
the scheduler costs in time, without a clock.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

from aioray.core.commands import PollWorker, ReclaimAttempts, SendAttempts, StartWorker
from aioray.core.events import (
    AnswersReceived,
    AttemptsReclaimed,
    TasksSubmitted,
    TimerFired,
    WorkerReady,
)

from .support import Core, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioray.core.events import Event
    from aioray.core.model import Task
    from aioray.core.outcomes import Answer

__all__ = ["Machine"]

WAKE = 100e-6  # seconds from a ring, or a message, until whoever it wakes does something
HANDLING = 30e-6  # seconds of the driver for one event
SHORT = 100e-6  # what runs longer rings when it has ended
START = 5e-3  # seconds until a worker is ready


class Process:
    """A worker's process: what it was sent and has not claimed, and what it runs."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent: deque[tuple[float, Task]] = deque()  # and when that is there
        self.busy = False
        self.answers: list[Answer] = []
        self.unrung_since: float | None = None
        self.dry = 0  # how often it had nothing to do


class Machine:
    """Runs tasks whose lengths are given on workers of one CPU each."""

    def __init__(self, cpus: int, usual: float, *, latency: float = WAKE) -> None:
        self.core = Core(cpus)
        self.latency = latency
        self.now = 0.0
        self.lengths: dict[int, float] = {}  # by number of the task
        self.started: list[Task] = []
        self.reclaims = 0
        self.sends = 0
        self._driver_free = 0.0
        self._processes: dict[int, Process] = {}
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._finished_at = 0.0
        self._timer: float | None = None
        # Its workers are up, and it is known how long the function usually takes.
        warm = self.core.tasks(2 * cpus)
        self.lengths |= dict.fromkeys([task.number for task in warm], usual)
        self._hand(TasksSubmitted(warm))
        self._run()

    def run(self, *batches: tuple[float, Sequence[float]]) -> float:
        """Return how long it takes to run tasks of these lengths, submitted at these times."""
        self._finished_at = begin = self.now
        self.started.clear()
        for process in self._processes.values():
            process.dry = 0
        for at, lengths in batches:
            tasks = self.core.tasks(len(lengths))
            self.lengths |= {
                task.number: seconds for task, seconds in zip(tasks, lengths, strict=True)
            }
            self._at(begin + at, functools.partial(self._hand, TasksSubmitted(tasks)))
        self._run()
        assert not self.core.scheduler.unfinished_tasks()
        return self._finished_at - begin

    @property
    def dry(self) -> int:
        """How often a worker had nothing to do."""
        return sum(process.dry for process in self._processes.values())

    # ------------------------------------------------------------ the agenda

    def _at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), do))

    def _run(self) -> None:
        while self._agenda:
            self.now, _, do = heapq.heappop(self._agenda)
            do()

    # ------------------------------------------------------------ the driver

    def _driver(self, when: float, do: Callable[[], None]) -> None:
        """Have the driver do something as soon as it hears of it and has time for it."""

        def begin() -> None:
            if self._driver_free > self.now:
                self._at(self._driver_free, begin)
            else:
                do()

        self._at(when, begin)

    def _hand(self, event: Event) -> None:
        events: deque[Event] = deque([event])
        while events:
            self._driver_free = max(self._driver_free, self.now) + HANDLING
            for command in self.core.scheduler.handle(events.popleft(), self.now):
                if type(command) is SendAttempts:
                    self._send(self._processes[command.worker_id], command.tasks)
                elif type(command) is ReclaimAttempts:
                    self.reclaims += 1
                    sent = self._processes[command.worker_id].sent
                    seqs = [task.seq for _, task in sent]
                    sent.clear()
                    events.append(AttemptsReclaimed(command.worker_id, seqs))
                elif type(command) is PollWorker:
                    found = self._take(self._processes[command.worker_id])
                    if found:
                        events.append(AnswersReceived(command.worker_id, found))
                elif type(command) is StartWorker:
                    self._processes[command.worker_id] = Process(command.worker_id)
                    ready = WorkerReady(command.worker_id)
                    self._driver(self.now + START, functools.partial(self._hand, ready))
        due = self.core.deadline
        if due is not None and (self._timer is None or due < self._timer):
            self._timer = due
            self._driver(max(due, self.now), self._ring_timer)

    def _ring_timer(self) -> None:
        self._timer = None
        self._hand(TimerFired())

    def _send(self, process: Process, tasks: Sequence[Task]) -> None:
        self.sends += 1
        at = self._driver_free
        if not process.busy and not process.sent:
            at += self.latency  # it sleeps
        process.sent.extend((at, task) for task in tasks)
        if not process.busy:
            self._at(at, lambda: self._claim(process))

    def _take(self, process: Process) -> list[Answer]:
        answers, process.answers = process.answers, []
        process.unrung_since = None
        return answers

    def _hear(self, process: Process) -> None:
        found = self._take(process)
        if found:
            self._hand(AnswersReceived(process.number, found))

    # ------------------------------------------------------------ the workers

    def _ring(self, process: Process) -> None:
        process.unrung_since = None
        self._driver(self.now + self.latency, lambda: self._hear(process))

    def _claim(self, process: Process) -> None:
        if process.busy:
            return
        if not process.sent or process.sent[0][0] > self.now:
            if process.unrung_since is not None:
                self._ring(process)
            process.dry += 1
            if process.sent:
                self._at(process.sent[0][0], lambda: self._claim(process))
            return
        _, task = process.sent.popleft()
        self.started.append(task)
        process.busy = True
        began, seconds = self.now, self.lengths[task.number]
        self._at(began + seconds, lambda: self._end(process, task, began, seconds))

    def _end(self, process: Process, task: Task, began: float, seconds: float) -> None:
        process.busy = False
        self._finished_at = max(self._finished_at, self.now)
        process.answers.append(answer(task, started_at=began, duration=seconds))
        if process.unrung_since is None:
            process.unrung_since = self.now
        if seconds > SHORT or self.now - process.unrung_since > SHORT:
            self._ring(process)
        self._claim(process)
