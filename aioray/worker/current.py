"""What this worker is doing now: read by the runtime context and by the output streams.

Room: child. Two globals, written by `serve` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..wire import Attempt

__all__ = ["Place", "place"]


class Place:
    """Where user code in this process runs."""

    __slots__ = (
        "attempt",
        "env",
        "function",
        "hook",
        "job",
        "namespace",
        "node_id",
        "session",
        "visible_devices",
        "worker_id",
    )

    def __init__(self) -> None:
        self.attempt: Attempt | None = None  # None: between attempts
        self.function: Any = None  # what runs; None: between attempts
        self.job = b""  # empty: not a worker
        self.node_id = ""
        self.namespace = ""
        self.session = ""
        self.visible_devices: str | None = None  # CUDA_VISIBLE_DEVICES as the worker found it
        self.worker_id = ""
        self.env: dict[str, Any] = {}  # the runtime environment
        self.hook = b""  # of that, pickled


place = Place()
