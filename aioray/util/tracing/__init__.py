"""Spans of tasks for OpenTelemetry, if a program asks for them.

Room: api. Needs the extra `aioray[tracing]`. Each task, actor and call of an actor gets one
span, a child of the span in which `.remote()` was called, wherever that was: in a task too. The
driver makes it, with the TracerProvider that it has. Inside the task it is the current span, so
what user code makes there is its child, if the worker has a provider: a hook has to set one up.

There are two ways in: `enable()`, for programs that have set up OpenTelemetry; and, as in Ray,
`init(_tracing_startup_hook="module:function")`, a hook that does so in the driver and in each
worker. Whoever does neither pays nothing, and loads nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

from aioray.client.protocol import registry

__all__ = ["enable"]


def enable() -> None:
    """Give each task a span from now on, in this session and in later ones. Idempotent.

    Workers set up their own providers, if they make spans: name a function that does so as
    `runtime_env={"worker_process_setup_hook": "module.function"}`. Beyond Ray.
    Raises ImportError, with the command that helps, if OpenTelemetry is not installed.
    """
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.trace") is None:
        raise ImportError(
            "Tracing needs the package opentelemetry-api: pip install 'aioray[tracing]'"
        )
    registry.traces = True
    for client in tuple(registry.by_job.values()):
        trace = getattr(client, "trace", None)
        if trace is not None:  # else this is a worker
            trace()
