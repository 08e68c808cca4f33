"""A tracing hook that writes spans to files, as `ray.util.tracing.setup_local_tmp_tracing` does.

Room: api, also used in workers. For trying it out: each process appends its spans, as JSON, to
a file of its own, `/tmp/spans/PID.txt`. That place is everybody's: what somebody else has put there
is not written to.
"""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from ...state.folders import make_folder

__all__ = ["setup_tracing"]

FOLDER = "/tmp/spans"  # noqa: S108  # where Ray's hook of this name writes


def setup_tracing() -> None:
    """Set up OpenTelemetry in this process.

    Raises PermissionError if the folder is not this user's alone.
    """
    make_folder(FOLDER)
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(os.path.join(FOLDER, f"{os.getpid()}.txt"), flags, 0o600)
    out = open(fd, "a", encoding="utf-8")  # noqa: SIM115
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
    trace.set_tracer_provider(provider)
