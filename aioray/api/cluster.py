"""The functions of the API that tell of a session: nodes, resources, timeline.

Room: api.
"""

from __future__ import annotations

from typing import Any

from ..client.protocol import registry
from .session import client_for_call

__all__ = ["available_resources", "cluster_resources", "health", "nodes", "timeline"]


def nodes() -> list[dict[str, Any]]:
    """List the nodes: this machine. Source: Ray API reference, ray.nodes."""
    return client_for_call().nodes()


def cluster_resources() -> dict[str, float]:
    """Return all resources of the session, by name.

    Source: Ray API reference, ray.cluster_resources.
    """
    return client_for_call().cluster_resources()


def available_resources() -> dict[str, float]:
    """Return the resources that no running task holds; what is used up is missing.

    Source: Ray API reference, ray.available_resources.
    """
    return client_for_call().available_resources()


def health() -> dict[str, Any]:
    """Say how the session is, at once: a dict that JSON takes, for a health endpoint.

    "ready": tasks are taken, and a worker has come up; "status": "starting", "ready", "shutting
    down", "ended" or "not started"; "workers" and "tasks" count them; "starved" lists tasks that
    others pass by, because too little is free at once; "object_store" says what is used, in bytes;
    "loop_lag": seconds that the event loop took to get to what it was given at the last question.
    Blocks nothing, starts no session, and may be called from any thread and on the event loop.
    Raises RuntimeError inside a task: it is the driver that knows. Beyond Ray.
    """
    client: Any = registry.current()
    if client is None:
        from ..engine.telemetry.health import no_engine

        return no_engine("not started")
    if not hasattr(client, "health"):
        raise RuntimeError("health() tells of the engine in its own process, the driver's.")
    told: dict[str, Any] = client.health()
    return told


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Tell what ran when, as events for https://ui.perfetto.dev and chrome://tracing.

    filename: a file to write them to, as JSON; the result is None then. Without it the events are
    returned, a list of dicts, with times in microseconds.
    Source: Ray API reference, ray.timeline; Trace Event Format.
    """
    from aioray.state.read.timeline import trace

    with client_for_call().own_session().view() as view:
        events = trace(view)
    if filename is None:
        return events
    import json

    with open(filename, "w", encoding="utf-8") as file:
        file.write(json.dumps(events))  # `dump` takes ten times as long
    return None
