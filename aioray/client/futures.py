"""`concurrent.futures.Future`s of refs, which nobody can wait for where that would be for ever.

Room: client; loaded when the first such future is made, because asyncio programs have no need of
it.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from .protocol import refuse_to_block

if TYPE_CHECKING:
    from .entry import ObjectEntry

__all__ = ["RefFuture"]

T = TypeVar("T")


class RefFuture(concurrent.futures.Future[T]):
    """A future of the value of a ref, resolved by the engine.

    Where the engine itself runs, its methods and the functions of `concurrent.futures` raise
    RuntimeError instead of waiting.
    """

    def __init__(self, entry: ObjectEntry) -> None:
        super().__init__()
        self.entry = entry
        self._waiters = _Waiters(self)

    def result(self, timeout: float | None = None) -> T:
        """Wait up to `timeout` seconds for the value, and return it; raise the task's error."""
        self.refuse_to_block("result()", timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait up to `timeout` seconds for the end, and return the task's error, or None."""
        self.refuse_to_block("exception()", timeout)
        return super().exception(timeout)

    def refuse_to_block(self, what: str, timeout: float | None = None) -> None:
        """Raise RuntimeError if `what`, which waits `timeout` seconds, would block the engine."""
        client = self.entry.client
        if client is not None and (timeout is None or timeout > 0) and not self.done():
            refuse_to_block(client, what, "`await ref`, or `await asyncio.wrap_future(future)`")


class _Waiters(list[Any]):
    """The waiters of a future. `concurrent.futures` offers no other place to stop them."""

    def __init__(self, future: RefFuture[Any]) -> None:
        self._future = future

    def append(self, waiter: Any) -> None:
        """Add a waiter, whose event refuses to block where the engine runs."""
        if not isinstance(waiter.event, _Event):
            waiter.event = _Event(self._future)
        super().append(waiter)


class _Event(threading.Event):
    """The event on which `concurrent.futures.wait` and `as_completed` block."""

    def __init__(self, future: RefFuture[Any]) -> None:
        super().__init__()
        self._future = future  # one of those that are waited for

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._future.refuse_to_block("Waiting for futures", timeout)
        return super().wait(timeout)
