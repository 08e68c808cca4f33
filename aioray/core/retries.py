"""Says how long to wait before a failed task runs again.

Room: core. No clock and no randomness of its own: the random generator is an argument, and
`random` is imported for its type only. Delays are in seconds. Retries are counted from 1: retry 1
follows attempt 0.

RetryPolicy is what a user asks for: exponential growth to a maximum, "full jitter" below it, and
optionally a budget of time. CRASH_BACKOFF with crash_delay() is what is done unasked for a worker
that keeps crashing. Neither knows how many retries are allowed nor which failure may be retried,
and neither restarts workers: those are other decisions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .records import record

if TYPE_CHECKING:
    from random import Random

__all__ = ["CRASH_BACKOFF", "SHORTAGE_BACKOFF", "RetryPolicy", "crash_delay"]


@record(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before each retry, and for how long to go on retrying.

    Without jitter, retry n waits min(maximum_delay, initial_delay * factor ** (n - 1)) seconds.
    With it (full jitter) that number is a ceiling, and the wait is drawn evenly from 0 to it, so
    that tasks which failed together do not come back together.

    Every number given is kept as a float. Raises TypeError for a value that is no number (or
    bool), ValueError for a number that is not finite or out of range, or if initial_delay exceeds
    maximum_delay.
    """

    initial_delay: float = 0.0  # seconds before the first retry, >= 0; 0 means never wait
    factor: float = 2.0  # growth from one retry to the next, >= 1; 1 means constant
    maximum_delay: float = 60.0  # seconds, >= initial_delay
    jitter: bool = True  # full jitter
    # Seconds from the first attempt's start within which another attempt may start, >= 0.
    # None means no limit, 0 that nothing is retried.
    time_budget: float | None = None

    def __post_init__(self) -> None:
        """Check every field and turn the numbers into floats."""
        for field, least in (("initial_delay", 0.0), ("factor", 1.0), ("maximum_delay", 0.0)):
            object.__setattr__(self, field, _number(field, getattr(self, field), least))
        if self.time_budget is not None:
            budget = _number("time_budget", self.time_budget, 0.0, ", or None for no limit")
            object.__setattr__(self, "time_budget", budget)
        if not isinstance(self.jitter, bool):
            raise TypeError(
                f"RetryPolicy: jitter must be True (full jitter) or False (none), "
                f"got {self.jitter!r}"
            )
        if self.initial_delay > self.maximum_delay:
            raise ValueError(
                f"RetryPolicy: initial_delay ({self.initial_delay}) must not exceed maximum_delay "
                f"({self.maximum_delay}): lower the first or raise the second"
            )

    def ceiling(self, retry: int) -> float:
        """Return the longest wait, in seconds, before retry number `retry` (from 1).

        Raises ValueError if `retry` is below 1. Safe for any size of `retry`.
        """
        _check_count(retry)
        if self.initial_delay == 0.0 or self.factor == 1.0:
            return self.initial_delay
        try:
            return min(self.maximum_delay, self.initial_delay * self.factor ** (retry - 1))
        except OverflowError:  # beyond any float, so beyond the maximum as well
            return self.maximum_delay

    def delay(self, retry: int, rng: Random) -> float:
        """Return the seconds to wait before retry number `retry` (from 1).

        `rng` is asked once if there is something to draw (jitter, and a ceiling above 0), else
        not at all. Raises ValueError if `retry` is below 1.
        """
        ceiling = self.ceiling(retry)
        if not self.jitter or ceiling == 0.0:
            return ceiling
        return rng.uniform(0.0, ceiling)


def _number(field: str, value: object, least: float, alternative: str = "") -> float:
    """Return `value` as a finite float of at least `least`, or raise an error naming `field`."""
    expected = f"RetryPolicy: {field} must be a finite number >= {least:g}{alternative}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{expected}, got an integer too large for a float") from None
    if not math.isfinite(number) or number < least:
        raise ValueError(f"{expected}, got {value!r}")
    return number


def _check_count(retry: int) -> None:
    if retry < 1:
        raise ValueError(f"retries are counted from 1, got {retry!r}")


# A task that kills its worker again and again would otherwise fork processes at full speed. No
# jitter: nothing is shared between crashing tasks that coming back together could overload.
CRASH_BACKOFF = RetryPolicy(initial_delay=0.05, factor=2.0, maximum_delay=5.0, jitter=False)


# After a kill because the machine had little memory left, which takes its time to pass. As in Ray.
SHORTAGE_BACKOFF = RetryPolicy(initial_delay=1.0, factor=2.0, maximum_delay=60.0, jitter=False)


def crash_delay(retry: int) -> float:
    """Return the seconds to wait before retry number `retry` (from 1) after a worker crash.

    The first is immediate, since most crashes happen once; the following wait as CRASH_BACKOFF
    says: 0.05 s, doubling up to 5 s. For tasks without a RetryPolicy of their own.
    Raises ValueError if `retry` is below 1.
    """
    _check_count(retry)
    return 0.0 if retry == 1 else CRASH_BACKOFF.ceiling(retry - 1)
