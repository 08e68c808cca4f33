"""A tracing hook that writes spans to files, as `ray.util.tracing.setup_local_tmp_tracing` does.

Room: api, also used in workers. For trying it out: each process appends its spans, as JSON, to
a file of its own, `/tmp/spans/PID.txt`.
"""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

__all__ = ["setup_tracing"]

FOLDER = "/tmp/spans"  # noqa: S108  # where Ray's hook of this name writes


def setup_tracing() -> None:
    """Set up OpenTelemetry in this process."""
    os.makedirs(FOLDER, exist_ok=True)
    out = open(os.path.join(FOLDER, f"{os.getpid()}.txt"), "a", encoding="utf-8")  # noqa: SIM115
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
    trace.set_tracer_provider(provider)
