"""A limiter: how many attempts may run at once, and how many may start within a time.

Room: core. Data, and what follows from it. A *permit* is held by every attempt of a limited task or
call that is in a worker: so it comes back with whatever ends that, and none can be lost. Limited
attempts are never sent ahead, so being sent is the start. Starts are counted in a sliding window:
in no `per` seconds, wherever they begin, there are more than `rate`. Retries are starts like
others.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NamedTuple

    class Permitted(NamedTuple):
        """What a limiter needs to know of a task that has a permit."""

        seq: int
        worker: Any


__all__ = ["StartLimiter"]

UNLIMITED = 1_000_000


class StartLimiter:
    """One limiter, shared by all tasks and calls that name it."""

    __slots__ = ("_holders", "_starts", "alarm", "concurrency", "name", "parked", "per", "rate")

    def __init__(
        self, name: str, concurrency: int | None, rate: int | None = None, per: float = 1.0
    ) -> None:
        """Begin with all permits there. None: as many as you like."""
        self.name = name
        self.concurrency = concurrency
        self.rate = rate
        self.per = per  # seconds
        self.parked: dict[Any, None] = {}  # `SchedulingClass`: those that wait for permits
        self.alarm = False  # a timer is set for when the window has room
        self._holders: dict[int, Any] = {}  # `Task` by seq; some may have ended
        self._starts: deque[float] = deque()  # when, within the window

    @property
    def figures(self) -> tuple[int | None, int | None, float]:
        """What was asked for."""
        return self.concurrency, self.rate, self.per

    def take(self, task: Any, now: float) -> None:
        """Give a permit to a task whose attempt begins; there must be room."""
        if self.concurrency is not None:
            self._holders[task.seq] = task
        if self.rate is not None:
            self._starts.append(now)

    def holders(self) -> list[Any]:
        """Return the tasks that hold permits: those whose attempts are in their workers."""
        self._holders = {
            seq: task
            for seq, task in self._holders.items()
            if task.seq == seq
            and task.worker is not None
            and task.worker.in_flight.get(seq) is task
        }
        return list(self._holders.values())

    def room(self, now: float) -> int:
        """Count how many attempts may begin now."""
        room = UNLIMITED
        if self.concurrency is not None:
            room = self.concurrency - len(self._holders)
            if room <= 0:
                room = self.concurrency - len(self.holders())
        if self.rate is not None:
            room = min(room, self._window(now))
        return room

    def _window(self, now: float) -> int:
        """Count how many more may start."""
        starts = self._starts
        while starts and starts[0] + self.per <= now:
            starts.popleft()
        assert self.rate is not None
        return self.rate - len(starts)

    def waiting(self) -> int:
        """Count the tasks in queues that wait for permits."""
        return sum(len(cls.queue) for cls in self.parked)

    def started(self, now: float) -> int:
        """Count the starts within the window."""
        return 0 if self.rate is None else self.rate - self._window(now)

    def due(self) -> float | None:
        """Return when the window has room again; None: it has."""
        if self.rate is None or len(self._starts) < self.rate:
            return None
        return self._starts[0] + self.per

    def __repr__(self) -> str:
        return f"<StartLimiter {self.name!r} {len(self._holders)} of {self.concurrency}>"
