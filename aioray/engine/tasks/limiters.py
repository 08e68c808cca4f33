"""The limiters of one engine, by name.

Room: engine. Asked from any thread, before anything of a call reaches the event loop.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ...core.limiters import StartLimiter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...core.limits import TaskLimits
    from ...shared.limiter import Limiter

__all__ = ["StartLimiters"]


class StartLimiters:
    """What counts for each `aioray.Limiter` that somebody has used."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_name: dict[str, StartLimiter] = {}
        self._lock = threading.Lock()

    def of(self, limits: TaskLimits | None) -> StartLimiter | None:
        """Return the one limiter that these limits name, if they do.

        Raises ValueError if it is known with other figures.
        """
        asked: Limiter | None = None if limits is None else limits.limiter
        if asked is None:
            return None
        figures = asked.concurrency, asked.rate, asked.per
        with self._lock:
            found = self._by_name.get(asked.name)
            if found is None:
                found = self._by_name[asked.name] = StartLimiter(asked.name, *figures)
        if found.figures != figures:
            raise ValueError(
                f"The limiter {asked.name!r} has {_text(*found.figures)} in this session, and was "
                f"now given as one with {_text(*figures)}. Use the same figures wherever it is "
                f"named, or another name."
            )
        return found

    def all(self) -> Iterable[StartLimiter]:
        """Return all limiters."""
        with self._lock:
            return tuple(self._by_name.values())


def _text(concurrency: int | None, rate: int | None, per: float) -> str:
    parts = [] if concurrency is None else [f"concurrency={concurrency}"]
    if rate is not None:
        parts.append(f"rate={rate} per={per:g}")
    return " ".join(parts)
