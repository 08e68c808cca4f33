"""The span that surrounds an attempt in this worker: OpenTelemetry's current context.

Room: worker; loaded by the first attempt whose span the driver has named, so that others know
nothing of OpenTelemetry. The driver makes the span; here it is the parent of those that user code
makes, and of the tasks that it submits. Where each call has a context of its own, as in actors
whose calls run side by side, nothing has to be left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context, propagate
from opentelemetry.context import Context

from ..client.protocol import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["current", "enter", "leave"]

_tokens: list[object] = []  # of the main thread's attempt


def enter(trace: Sequence[tuple[str, str]]) -> None:
    """Let what this thread or asyncio task does belong to the span of its attempt."""
    registry.traces = True
    token = context.attach(propagate.extract(dict(trace), Context()))
    _tokens[:] = [token]


def leave() -> None:
    """Leave an attempt's span at its end; for the main thread, which runs one after the other."""
    context.detach(_tokens.pop())  # type: ignore[arg-type]  # Token is opaque


def current() -> list[tuple[str, str]]:
    """Return the span that surrounds whoever asks, in the form of `wire.Attempt.trace`."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return list(carrier.items())
