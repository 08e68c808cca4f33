"""What the tools for calling functions share: names for the calls.

Room: facade.
"""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["name_of"]


def name_of(function: Any) -> str:
    """What to call a task: the name of the function, inside partials too, or of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
