"""How many failed worker starts are tolerated, in OTP's terms.

Room: core. `RestartIntensity` counts failures within a sliding period and answers after how many
seconds the next try is due, or that there is no point in trying on. It does not know what failed;
when an attempt of a task runs again is another decision, made in `retries`.
Source: Erlang/OTP, supervisor, "Tuning the intensity and period".
"""

from __future__ import annotations

from collections import deque

__all__ = ["RestartIntensity"]

FIRST_DELAY = 0.02  # seconds; doubles with each failure in the period
LONGEST_DELAY = 1.0  # seconds


class RestartIntensity:
    """Tolerates `intensity` failures within `period` seconds; one more is too many."""

    def __init__(self, intensity: int = 3, period: float = 10.0) -> None:
        self.intensity = intensity
        self.period = period
        self._failures: deque[float] = deque()

    def failed(self, now: float) -> float | None:
        """Count a failure: seconds until the next try, or None if there were too many.

        After None the count starts afresh, so that later work gets its own tries.
        """
        failures = self._failures
        failures.append(now)
        while failures[0] <= now - self.period:
            failures.popleft()
        if len(failures) > self.intensity:
            failures.clear()
            return None
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(len(failures) - 1, 10))

    def succeeded(self) -> None:
        """Forget the failures: a worker has come up and served."""
        self._failures.clear()
