"""The functions of the API that tell of a session: nodes, resources, timeline.

Room: api.
"""

from __future__ import annotations

from typing import Any

from .session import client_for_call

__all__ = ["available_resources", "cluster_resources", "nodes", "timeline"]


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
