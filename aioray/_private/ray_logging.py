"""What libraries import from `ray._private.ray_logging`.

Room: api.
"""

from __future__ import annotations

from typing import Final

__all__ = ["WorkerStandardStreamDispatcher", "global_worker_stdstream_dispatcher"]

PRINTER: Final = "ray_print_logs"  # the handler that prints what workers print, in Ray


class WorkerStandardStreamDispatcher:
    """What Ray hands the output of workers to, as far as somebody wants to silence it."""

    def remove_handler(self, name: str) -> None:
        """Print no more of what the workers of the running session print. Other names: nothing."""
        from aioray.client.protocol import registry

        client = registry.default
        if name == PRINTER and client is not None and hasattr(client, "silence"):
            client.silence()


global_worker_stdstream_dispatcher = WorkerStandardStreamDispatcher()
