"""Who waits for the end of which worker.

Room: engine. Shared by all that runs workers, in processes of their own or in this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Container

__all__ = ["Departures"]


class Departures:
    """Callbacks by worker, each called once, when that is gone."""

    def __init__(self, workers: Container[Any]) -> None:
        """Begin with nobody who waits. workers: the ids of those that are there."""
        self._workers = workers
        self._waiting: dict[int, list[Callable[[], None]]] = {}

    def wait(self, worker_id: int, callback: Callable[[], None]) -> None:
        """Call back when a worker is gone, at once if it is."""
        if worker_id in self._workers:
            self._waiting.setdefault(worker_id, []).append(callback)
        else:
            callback()

    def tell(self, worker_id: int) -> None:
        """Call those who wait for this worker, which is gone."""
        for callback in self._waiting.pop(worker_id, ()):
            callback()

    def tell_all(self) -> None:
        """Call everybody: no worker is left."""
        for worker_id in tuple(self._waiting):
            self.tell(worker_id)
