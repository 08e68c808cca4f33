"""An engine for scripts that have no event loop: the same engine, on a loop in a thread.

Room: engine. uvloop where it is installed, because waking its loop from another thread is ten times
cheaper. The thread is a daemon: it never keeps a program from ending.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["LoopThread", "new_loop"]

T = TypeVar("T")


def new_loop() -> asyncio.AbstractEventLoop:
    """Make a uvloop loop, or a standard one where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class LoopThread:
    """A thread that runs one event loop until `close`."""

    def __init__(self, on_broken: Callable[[], None]) -> None:
        """Start the thread. on_broken: called in it if the loop may not be able to go on."""
        self.loop = new_loop()
        self._on_broken = on_broken
        self.loop.set_exception_handler(self._callback_failed)
        self._thread = threading.Thread(target=self._run, name="aioray-engine", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # no room for another thread
            self.loop.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            try:
                self.loop.run_forever()
            except OSError:  # of its selector; callbacks raise none
                self._on_broken()
                raise
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._on_broken()
        loop.default_exception_handler(context)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the thread and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def close(self) -> None:
        """Stop the loop and wait for the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
