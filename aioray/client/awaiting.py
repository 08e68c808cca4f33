"""The asyncio future of a ref's value, for those who ask for one (`ObjectRef.as_future`).

Room: client. Apart from `refs`, so that a worker in which refs pass by need not load asyncio.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from .entry import NotInMemory
from .refs import wake_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from .entry import ObjectEntry

__all__ = ["ValueFuture", "current_loop", "get_running_loop"]

T = TypeVar("T")


def get_running_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop of asyncio. Raises RuntimeError if there is none, as in trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None or not trio.lowlevel.in_trio_run():
            raise
        raise RuntimeError(
            "aioray can be awaited in asyncio's event loop only, and this is trio's: wait in a "
            "thread, `await trio.to_thread.run_sync(aioray.get, ref)`."
        ) from None


def current_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that runs, else the one that asyncio has set for this thread.

    Raises RuntimeError if there is neither.
    """
    try:
        return get_running_loop()
    except RuntimeError as error:
        if "trio" in str(error):
            raise
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        raise RuntimeError(
            "No event loop runs in this thread, and none is set that will. Use as_future() in a "
            "coroutine, or call asyncio.set_event_loop(loop) before. Without a loop, ref.future() "
            "gives a future of concurrent.futures."
        ) from None


class ValueFuture(asyncio.Future[T]):
    """The future of one awaiter; cancelling it withdraws this awaiter only."""

    entry: ObjectEntry
    wake: Callable[[], None] | None = None  # what the entry calls, while it waits

    def resolve(self) -> None:
        """Set the value or error of the ready entry, or wait again if its value is not at hand."""
        self.wake = None
        if not self.done():
            try:
                self.set_result(self.entry.value())
            except NotInMemory:
                self.wait(self.get_loop())
            except BaseException as error:  # noqa: BLE001 - the caller's, whatever it is
                self.set_exception(_settable(error))
                if type(error).__name__ == "EngineShutdownError":
                    self.exception()  # nobody who has not awaited this needs to hear of it

    def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `resolve` called on `loop` when the entry is ready."""
        entry = self.entry
        client = entry.owner()
        if client.loop is loop:
            wake = self.wake = self.resolve
            entry.add_waiter(wake)
        else:
            self.wake = functools.partial(wake_elsewhere, loop, self.resolve)
            client.when_ready(entry, self.wake)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and let the entry forget it."""
        wake, self.wake = self.wake, None
        if wake is not None:
            self.entry.owner().forget(self.entry, wake)
        return super().cancel(msg)


def _settable(error: BaseException) -> BaseException:
    """Return an exception that a future accepts: StopIteration would vanish inside `await`."""
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("The task raised StopIteration.")
    wrapped.__cause__ = error
    return wrapped
