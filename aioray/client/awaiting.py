"""What asyncio is given where a ref is awaited, or asked for a future (`ObjectRef.as_future`).

Room: client. Apart from `refs`, so that a worker in which refs pass by need not load asyncio.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from .entry import NotInMemory
from .refs import wake_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

    from .entry import ObjectEntry

__all__ = ["Awaiter", "ValueFuture", "current_loop", "get_running_loop", "running_loop"]

T = TypeVar("T")
running_loop = asyncio._get_running_loop  # in C: None if there is none


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


class Awaiter:
    """Stands for one coroutine that awaits a ref: to its task what a future is, without a value.

    A future wakes the task that waits for it in the next pass of the loop. This one does so when
    the engine is through with what has come, in the same pass: see `Client.call_back`.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_is_over",
        "_loop",
        "_soon",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        soon: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """Wait on `loop`. soon: calls back there; None: `wake` is called by the loop itself."""
        self._asyncio_future_blocking = False
        self._is_over = False
        self._callback: Callable[[Awaiter], object] | None = None
        self._context: Context | None = None
        self._cancelled: tuple[Any, ...] | None = None  # by which arguments
        self._loop = loop
        self._soon = soon

    def __iter__(self) -> Generator[Awaiter, None, None]:
        if not self._is_over:
            self._asyncio_future_blocking = True
            yield self

    def wake(self) -> None:
        """Let the coroutine go on, unless it was cancelled."""
        if not self._is_over:
            self._is_over = True
            if self._callback is None:
                return  # it has not begun to wait
            if self._soon is None:
                self._go_on()
            else:
                self._soon(self._go_on)

    def _go_on(self) -> None:
        callback, self._callback = self._callback, None
        assert callback is not None
        assert self._context is not None
        self._context.run(callback, self)

    # -- what a task asks of what it waits for

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop on which the task waits."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Awaiter], object], *, context: Context | None = None
    ) -> None:
        """Call back once, when the wait is over."""
        if self._is_over:
            self._loop.call_soon(callback, self, context=context)
            return
        self._callback = callback
        self._context = context or copy_context()

    def cancel(self, msg: Any | None = None) -> bool:
        """End the wait with CancelledError; False if it is over."""
        if self._is_over:
            return False
        self._is_over = True
        self._cancelled = () if msg is None else (msg,)
        if self._callback is not None:
            self._loop.call_soon(self._go_on)
        return True

    def result(self) -> None:
        """Raise CancelledError if that is how the wait has ended."""
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)


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
