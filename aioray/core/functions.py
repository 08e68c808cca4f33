"""What is called: functions, and what the scheduler has to know of an actor's methods.

Room: core.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["CallTraits", "Function"]


class Function:
    """One remote function as the scheduler sees it: how long it usually runs."""

    __slots__ = ("__weakref__", "code", "key", "mean_seconds", "name")

    def __init__(self, key: int, name: str, code: Any = None) -> None:
        self.key = key
        self.name = name
        self.code = code  # the shell's: what a worker needs to load it
        self.mean_seconds: float | None = None  # moving average; None: never ran yet


class CallTraits(NamedTuple):
    """What calls of one method have in common."""

    interruptible: bool  # a cancel is an interrupt
    retries_errors: bool  # an error of the method may be followed by another attempt
