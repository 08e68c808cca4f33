"""CrashBreaker: what a user may say about functions that kill their workers.

Room: shared. It only checks and holds what was said: tasks that call such functions take it along,
so it loads next to nothing. What becomes of it is decided in `core.breakers`.
"""

from __future__ import annotations

import math
import sys

from ..core.records import record

__all__ = ["CrashBreaker"]

_LARGEST = math.nextafter(math.inf, 0.0)  # there are ints beyond all floats


@record(frozen=True, slots=True)
class CrashBreaker:
    """After how many deaths of workers a function is not called any more, and for how long.

    If `crashes` attempts die with their workers within `period` seconds, the breaker opens: calls
    raise CircuitOpenError, which lists these deaths, and start nothing. After `rest` seconds one
    call is let through. If its worker survives that, the breaker closes and everything is as
    before; if not, it rests again. Errors of the function itself do not count.

    Functions that are given the same breaker, or equal ones, share it. `name` tells it from others,
    and is shown; without one it is the module and the line in which it is made.

    Raises TypeError for a value of a wrong type, ValueError for one out of range.
    """

    crashes: int = 3  # >= 1
    period: float = 60.0  # seconds, > 0
    rest: float = 30.0  # seconds, > 0
    name: str = ""

    def __post_init__(self) -> None:
        """Check every field, and find a name."""
        crashes = self.crashes
        expected = "CrashBreaker: crashes must be an int >= 1"
        if isinstance(crashes, bool) or not isinstance(crashes, int):
            raise TypeError(f"{expected}, got {crashes!r} of type {type(crashes).__name__}")
        if crashes < 1:
            raise ValueError(f"{expected}, got {crashes}")
        for option in ("period", "rest"):
            value = getattr(self, option)
            expected = f"CrashBreaker: {option} must be a finite number of seconds above 0"
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}")
            if not 0 < value <= _LARGEST:
                raise ValueError(f"{expected}, got {value!r}")
            object.__setattr__(self, option, float(value))
        name: object = self.name
        if not isinstance(name, str):
            raise TypeError(
                f"CrashBreaker: name must be a str, got {name!r} of type {type(name).__name__}"
            )
        if not name:
            maker = sys._getframe(2)  # below is the __init__ that was generated
            if maker.f_code.co_name == "_first_init" and maker.f_back is not None:
                maker = maker.f_back  # it was generated just now
            module = maker.f_globals.get("__name__", "?")
            object.__setattr__(self, "name", f"{module}:{maker.f_lineno}")
