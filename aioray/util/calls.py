"""What the tools for calling functions share: names for the calls, and where one must not wait.

Room: facade.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from aioray.client import registry

__all__ = ["name_of", "on_engine_loop", "refuse_on_loop"]


def name_of(function: Any) -> str:
    """What to call a task: the name of the function, inside partials too, or of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def on_engine_loop() -> bool:
    """Whether this code runs on the event loop of an engine, which needs it to go on."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return any(client.loop is loop for client in registry.by_job.values())


def refuse_on_loop(what: str, instead: str) -> None:
    """Raise RuntimeError on the event loop of an engine: `what` would wait there for ever."""
    if on_engine_loop():
        raise RuntimeError(
            f"{what} would block the event loop that the engine itself runs on, for ever. "
            f"In async code use {instead}."
        )
