"""What the parts of the core share while one event is handled: the time, the commands, the timers.

Room: core. A `Turn` decides nothing. Every part is given the same one when it is built, adds its
commands to `out`, and says `dirty` when something may have become free or ready: then there is one
dispatch when the event, or the timer, has been dealt with. A part speaks to those above it by
`announce`, see `facts`.

Timers are data: `(when, number, fact)`, which can be listed and cancelled.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from .records import NamedTuple
from .states import Phase, Story, Tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .commands import Command
    from .facts import Fact

__all__ = ["Life", "Timer", "Timers", "Turn"]


class Timer(NamedTuple):
    """What is to be told, and when."""

    when: float
    number: int  # of those for the same time the older one comes first
    fact: Fact


class Timers:
    """What is to be told later, the next one first."""

    __slots__ = ("_cancelled", "_heap", "_last")

    def __init__(self) -> None:
        """Begin with no timers."""
        self._heap: list[Timer] = []
        self._last = 0
        self._cancelled: set[int] = set()  # numbers of those that are still in the heap

    def set(self, when: float, fact: Fact) -> Timer:
        """Have a fact told at the time `when`."""
        self._last += 1
        timer = Timer(when, self._last, fact)
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Cancel a timer whose fact was not told yet."""
        self._cancelled.add(timer.number)
        self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        heap = self._heap
        while heap and heap[0].number in self._cancelled:
            self._cancelled.discard(heapq.heappop(heap).number)

    def next(self) -> float | None:
        """Return when the next timer is due; None: there is none."""
        return self._heap[0].when if self._heap else None

    def due(self, now: float) -> Iterator[Fact]:
        """Take out the facts that are due, one by one; what is set meanwhile may be due at once."""
        while self._heap and self._heap[0].when <= now:
            fact = heapq.heappop(self._heap).fact
            self._drop_cancelled()
            yield fact

    def clear(self) -> None:
        """Forget all timers."""
        self._heap.clear()
        self._cancelled.clear()

    def __iter__(self) -> Iterator[Timer]:
        return (timer for timer in sorted(self._heap) if timer.number not in self._cancelled)


class Life(Tracked):
    """How far the end of the engine has come."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        """Begin with an engine that is open."""
        self.state = Phase.OPEN

    @property
    def identity(self) -> str:
        """What the engine is called in a story."""
        return "the engine"

    def __repr__(self) -> str:
        return f"<Engine {self.state.name}>"


class Turn:
    """One event and what follows from it, again and again."""

    __slots__ = ("announce", "dirty", "facts", "life", "now", "out", "story", "timers")

    def __init__(self) -> None:
        """Begin at no time; what is told is collected until somebody takes `tell` over."""
        self.now = 0.0  # of the event, in monotonic seconds
        self.out: list[Command] = []  # always the same list
        self.dirty = False  # there is something to dispatch
        self.life = Life()
        self.story = Story()
        self.timers = Timers()
        self.facts: list[Fact] = []
        self.announce: Callable[[Fact], None] = self.facts.append

    def begin(self, now: float, event: str, worker_id: int | None) -> None:
        """Take up an event."""
        self.now = now
        self.story.events.append((now, event, worker_id))

    def end(self) -> list[Command]:
        """Hand over the commands that follow from the event."""
        commands = self.out.copy()
        self.out.clear()
        return commands
