"""Checks of what functions of the API are called with.

Room: api. Apart from the checks of options, which workers do without.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["check_seconds"]


def check_seconds(name: str, value: Any, *, minus_one: bool = False) -> Any:
    """Return a number of seconds as a float; None with minus_one for -1. TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds or None, got {value!r}")
    if minus_one and value == -1:
        return None
    if not value >= 0:
        raise ValueError(f"{name} must be a number of seconds >= 0 or None, got {value!r}")
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return math.inf
