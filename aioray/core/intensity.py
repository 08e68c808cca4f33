"""How many failed starts are tolerated, and how often an actor may restart, in OTP's terms.

Room: core. `RestartIntensity` counts failures within a sliding period and answers after how many
seconds the next try is due, or that there is no point in trying on. It does not know what failed;
when an attempt of a task runs again is another decision, made in `retries`. `RestartPolicy` is what
a user asks for.
Source: Erlang/OTP, supervisor, "Tuning the intensity and period".
"""

from __future__ import annotations

import math
from collections import deque

from .records import record
from .retries import RetryPolicy

__all__ = ["RestartIntensity", "RestartPolicy"]

_LARGEST = math.nextafter(math.inf, 0.0)  # there are ints beyond all floats


@record(frozen=True, slots=True)
class RestartPolicy:
    """How often an actor may restart within which time, and how long each restart waits.

    An actor that dies more than `intensity` times within `period` seconds stays dead, whatever
    `max_restarts` still allows: what fails so often will fail again. The first restart within a
    period is immediate; restart n after that waits min(maximum_delay, initial_delay * factor **
    (n - 2)) seconds. A call that has waited for a restart for `patience` seconds raises
    ActorUnavailableError: the constructor may be waiting for the caller.

    Raises TypeError for a value that is no number (or bool), ValueError for one that is not finite
    or out of range, or if initial_delay exceeds maximum_delay.
    Source: Erlang/OTP, supervisor flags `intensity` and `period`.
    """

    intensity: int | None = None  # deaths within a period that are tolerated, >= 0; None: any
    period: float = 10.0  # seconds, > 0
    initial_delay: float = 0.05  # seconds before the second restart within a period, >= 0
    factor: float = 2.0  # growth from one restart to the next, >= 1
    maximum_delay: float = 5.0  # seconds, >= initial_delay
    patience: float | None = 1_800.0  # seconds, > 0; None: calls wait as long as it takes

    def __post_init__(self) -> None:
        """Check every field."""
        intensity, period = self.intensity, self.period
        expected = "RestartPolicy: intensity must be an int >= 0, or None for no limit"
        if intensity is not None:
            if isinstance(intensity, bool) or not isinstance(intensity, int):
                raise TypeError(f"{expected}, got {intensity!r} of type {type(intensity).__name__}")
            if intensity < 0:
                raise ValueError(f"{expected}, got {intensity}")
        _check_seconds("period", period)
        if self.patience is not None:
            _check_seconds("patience", self.patience)
        try:
            self.backoff()
        except (TypeError, ValueError) as error:
            text = str(error).replace("RetryPolicy", "RestartPolicy", 1)
            raise type(error)(text) from None

    def backoff(self) -> RetryPolicy:
        """Return the delays of restarts after the first."""
        return RetryPolicy(self.initial_delay, self.factor, self.maximum_delay, jitter=False)


def _check_seconds(name: str, value: float) -> None:
    expected = f"RestartPolicy: {name} must be a finite number of seconds above 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}")
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{expected}, got {value!r}")


START_BACKOFF = RetryPolicy(initial_delay=0.02, factor=2.0, maximum_delay=1.0, jitter=False)


class RestartIntensity:
    """Tolerates `intensity` failures within `period` seconds; one more is too many."""

    def __init__(
        self,
        intensity: int | None = 3,
        period: float = 10.0,
        backoff: RetryPolicy = START_BACKOFF,
        *,
        first_at_once: bool = False,
    ) -> None:
        """Begin with no failures. intensity: None: any number.

        first_at_once: the first try within a period does not wait.
        backoff: of the tries that do wait.
        """
        self.intensity = intensity
        self.period = period
        self._backoff = backoff
        self._first_at_once = first_at_once
        self._failures: deque[float] = deque()

    @classmethod
    def of(cls, policy: RestartPolicy) -> RestartIntensity:
        """Make the count that a policy asks for."""
        return cls(policy.intensity, policy.period, policy.backoff(), first_at_once=True)

    def failed(self, now: float) -> float | None:
        """Count a failure; return the seconds until the next try, or None if there were too many.

        After None the count starts afresh, so that later work gets its own tries.
        """
        failures = self._failures
        failures.append(now)
        while failures[0] <= now - self.period:
            failures.popleft()
        count = len(failures)
        if self.intensity is not None and count > self.intensity:
            failures.clear()
            return None
        if self._first_at_once:
            count -= 1
        return self._backoff.ceiling(count) if count else 0.0

    def succeeded(self) -> None:
        """Forget the failures: a worker has come up and served."""
        self._failures.clear()
