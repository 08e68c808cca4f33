"""`aioray.Limiter`, as it is given to tasks: a name and figures.

Room: shared. It is data, and travels to the engine with the options that name it; there is the one
that counts, see `core.limiters`.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.records import record

__all__ = ["Limiter"]

_LARGEST = math.nextafter(math.inf, 0.0)  # there are ints beyond all floats


@record(frozen=True, slots=True)
class Limiter:
    """How many attempts may run at once, and how many may start within a time.

    Given to functions and methods, `@aioray.remote(limiter=Limiter("api", concurrency=4))`. All in
    a session that name a limiter share it: the driver, tasks and actors. concurrency: attempts that
    run at once; rate: starts within any `per` seconds (a sliding window, not a bucket that fills
    up); None: as many as you like. What has to wait is queued without a worker or resources, and
    holds up nothing that does not need the same limiter; of those that wait the oldest, or the one
    with the highest priority, goes first. A retry is a start. An attempt that waits for others
    keeps its permit.

    Raises TypeError and ValueError for what is no name or figure, and if there is no limit at all.
    A limiter of the same name with other figures is refused where it is used. Beyond Ray.
    """

    name: str
    concurrency: int | None = None
    rate: int | None = None
    per: float = 1.0

    def __post_init__(self) -> None:
        """Check name and figures."""
        if not isinstance(self.name, str):
            raise TypeError(f"Limiter: name must be a str, got {_show(self.name)}")
        if not self.name:
            raise ValueError("Limiter: name must not be empty")
        for figure in ("concurrency", "rate"):
            value = getattr(self, figure)
            advice = ". For less than one start in a time, make `per` longer" * (figure == "rate")
            expected = f"Limiter: {figure} must be an int >= 1, or None for no limit"
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{expected}, got {_show(value)}{advice}")
            if value < 1:
                raise ValueError(f"{expected}, got {value}{advice}")
        expected = "Limiter: per must be a finite number of seconds > 0"
        if isinstance(self.per, bool) or not isinstance(self.per, int | float):
            raise TypeError(f"{expected}, got {_show(self.per)}")
        if not 0 < self.per <= _LARGEST:
            raise ValueError(f"{expected}, got {self.per!r:.100}")
        if self.concurrency is None and self.rate is None:
            raise ValueError("Limiter: give a concurrency, a rate, or both")


def _show(value: Any) -> str:
    return f"{value!r:.100} of type {type(value).__name__}"
