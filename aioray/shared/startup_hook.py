"""Runs `_tracing_startup_hook`, in the driver and in each of its workers.

Room: shared. The hook is named, not sent: "module:function". It sets up what
is to happen with spans, such as OpenTelemetry's TracerProvider, which a process has once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_startup_hook"]

_have_run: set[str] = set()


def run_startup_hook(hook: str) -> None:
    """Call the function that `hook` names, unless this process has done so before.

    A module of `ray.util.tracing` is taken to be aioray's. Raises what importing and calling raise.
    """
    if hook in _have_run:
        return
    module, _, name = hook.partition(":")
    if module.startswith("ray.util.tracing."):
        module = f"aio{module}"
    function: Callable[[], object] = getattr(importlib.import_module(module), name)
    function()
    _have_run.add(hook)
