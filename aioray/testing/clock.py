"""Virtual time for a standard event loop: when nobody has anything to do, the clock jumps.

Room: api. `VirtualClock` takes over the clock and the selector of a loop, while it runs, and gives
them back. Timers then fire in their order, each at its exact time, and take none of the machine's:
`asyncio.sleep`, `timeout`, `call_later`, and what anyio makes of them. What is ready, also a file,
or a thread that calls back, always goes before the clock. uvloop cannot be taken over.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["VirtualClock"]

BEGIN = 2.0**22  # 48 days: more than a machine has been up for, and times are exact to a nanosecond
PATIENCE = 10.0  # real seconds in which something outside may still happen when no timer is set


class _JumpingSelector(selectors.BaseSelector):
    """Does not wait: moves the clock instead."""

    def __init__(self, selector: selectors.BaseSelector, clock: VirtualClock) -> None:
        self.selector = selector
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        ready = self.selector.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None and self._clock.jump(timeout):
            return ready
        ready = self.selector.select(PATIENCE)
        if not ready:
            raise RuntimeError(self._clock.explain(timeout))
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.selector.get_map() or {}

    def close(self) -> None:
        self.selector.close()


class VirtualClock:
    """The time of one event loop, in seconds."""

    def __init__(self, *, autojump: bool = True) -> None:
        """Begin with a clock that is nobody's. autojump: time passes whenever all wait for it.

        Else it passes by `VirtualEngine.advance` only.
        """
        self._now = 0.0
        self._begun = 0.0
        self._limit = math.inf if autojump else 0.0
        self._autojump = autojump
        self._loop: Any = None

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the clock began."""
        return self._now - self._begun

    def time(self) -> float:
        """Return what `loop.time()` returns."""
        return self._now

    def __repr__(self) -> str:
        return f"<VirtualClock {self.elapsed:g} s>"

    def take_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Become the clock of this loop. Raises RuntimeError if it is none of the standard kind."""
        target: Any = loop
        selector = getattr(loop, "_selector", None)
        if not isinstance(loop, asyncio.SelectorEventLoop) or selector is None:
            raise RuntimeError(
                f"Virtual time needs asyncio's own event loop, and this one is a "
                f"{type(loop).__module__}.{type(loop).__qualname__}. Run the test without uvloop."
            )
        if isinstance(selector, _JumpingSelector):
            raise RuntimeError("There is a VirtualEngine on this event loop already.")
        self._begin(target)
        if not self._autojump:
            self._limit = self._now
        target._selector = _JumpingSelector(selector, self)
        target.time = self.time
        self._loop = loop

    def _begin(self, loop: Any) -> None:
        """Let time begin at a whole number that has as many binary digits on every machine.

        Then sums are rounded alike, whatever the machine's clock says, and a story goes the same
        way each time. Timers that the loop has already keep their distance.
        """
        real = loop.time()
        self._now = self._begun = max(BEGIN, float(math.ceil(real)))
        if self._now == BEGIN:
            for timer in loop._scheduled:  # in their order, which stays
                timer._when += BEGIN - real

    def give_back(self) -> None:
        """Let the loop have the machine's clock again, which goes on from the virtual time."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop._selector = loop._selector.selector
        real: Callable[[], float] = type(loop).time.__get__(loop)
        ahead = self._now - real()
        loop.time = lambda: real() + ahead

    def jump(self, seconds: float) -> bool:
        """Put the clock forward to the next timer; False if time does not pass by itself."""
        due = self._now + seconds
        timers = getattr(self._loop, "_scheduled", None)
        if timers and timers[0].when() == math.inf:
            return False
        if timers:
            due = max(due, timers[0].when())  # sums of floats are rounded
        if due > self._limit:
            if self._limit > self._now:
                self._now = self._limit
                return True
            return False
        self._now = due
        return True

    def allow(self, seconds: float) -> None:
        """Let so much time pass, where it does not by itself."""
        self._limit = max(self._limit, self._now + seconds)

    def explain(self, timeout: float | None) -> str:
        """Say why nothing happens."""
        if timeout is not None and self._limit < math.inf:
            return (
                "Everybody waits for time to pass, and it stands still: let it pass with "
                "engine.advance(seconds), or make the VirtualEngine with autojump=True."
            )
        return (
            "Everybody waits, and nothing is ready, nor will be at any time: this would have been "
            "a deadlock. Look at what the test awaits."
        )
