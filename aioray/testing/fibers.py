"""Threads that run functions in virtual time: one at a time, while the event loop stands still.

Room: api. A *fiber* runs a call until that ends, waits or sleeps; then the loop goes on. What is to
be done in the loop's thread meanwhile it hands over as an errand. `takes` is how a call sleeps.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ..local.worker import running_call

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    from ..local.worker import InProcessCall
    from .virtual_workers import VirtualWorkers

__all__ = ["Fiber", "replace_sleep", "takes"]

_sleep = time.sleep
_sleepers = 0  # engines that have `time.sleep` replaced
UNWINDS = 100  # how often a call may come to aioray again when its worker is gone


def takes(seconds: float) -> None:
    """Take so many seconds: virtual ones on a VirtualEngine, elsewhere as `time.sleep`.

    float("inf"): for ever, until the call is interrupted or its worker is killed.
    """
    call = running_call.get()
    if call is not None and isinstance(call.runner, Fiber):
        call.runner.sleep(seconds)
    else:
        _sleep(seconds)


def replace_sleep(change: int) -> None:
    """Let `time.sleep` be virtual in virtual workers while there is such an engine."""
    global _sleepers
    _sleepers += change
    replaced: Any = takes
    time.sleep = replaced if _sleepers else _sleep


class Fiber:
    """A thread that runs while the loop's stands still, and the other way round."""

    def __init__(self, workers: VirtualWorkers, number: int) -> None:
        self._workers = workers
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._errand: Callable[[], None] | None = None  # to be done in the loop's thread
        self._error: BaseException | None = None
        self._pauses = 0  # so far: who wants to wake a fiber names the pause
        self.is_paused = False
        self.call: InProcessCall | None = None
        self._thread = threading.Thread(
            target=self._work, name=f"aioray-virtual-{number}", daemon=True
        )
        self._thread.start()

    # -- the loop's thread

    def run(self, call: InProcessCall) -> None:
        """Run a call until it ends, or waits."""
        self.call = call
        call.runner = self
        self._switch()

    def resume(self, pause: int) -> None:
        """Go on with the call, if it is still in this pause."""
        if self.is_paused and pause == self._pauses:
            self._switch()

    def wake(self) -> None:
        """Have a call that waits look soon at what is wanted of it."""
        if self.is_paused:
            self._workers.loop.call_soon(self.resume, self._pauses)

    def unwind(self) -> None:
        """Have a call whose worker is gone end now."""
        for _ in range(UNWINDS):
            if not self.is_paused:
                return
            self._switch()

    def end(self) -> None:
        """End the thread, which must have no call."""
        if self.call is None:
            self._go.release()
            self._thread.join()

    def _switch(self) -> None:
        self.is_paused = False
        while True:
            self._go.release()
            self._back.acquire()
            errand, self._errand = self._errand, None
            if errand is None:
                break
            try:
                errand()
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                self._error = error
        if self.call is None:
            self._workers.idle.append(self)

    # -- the fiber's thread

    def _work(self) -> None:
        while True:
            self._go.acquire()
            call = self.call
            if call is None:
                return
            worker = call.worker
            worker.context_for(call).run(worker.execute, call)
            self.do(lambda call=call: self._workers.ended(call))  # type: ignore[misc]
            self.call = call = None
            self._back.release()

    def frames(self) -> list[FrameType]:
        """Return the frames of the thread, innermost first."""
        ident = self._thread.ident
        frame = None if ident is None else sys._current_frames().get(ident)
        found: list[FrameType] = []
        while frame is not None:
            found.append(frame)
            frame = frame.f_back
        return found

    def do(self, errand: Callable[[], None]) -> None:
        """Do something in the loop's thread, now."""
        self._errand = errand
        self._back.release()
        self._go.acquire()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def pause(self, begin: Callable[[Callable[[], None]], None]) -> None:
        """Wait until somebody calls what `begin` is given, in the loop's thread.

        Raises what is wanted of the call meanwhile.
        """
        call = self.call
        assert call is not None
        call.check()
        self._pauses += 1
        go_on = functools.partial(self._workers.loop.call_soon, self.resume, self._pauses)
        self.do(lambda: begin(go_on))
        self.is_paused = True
        self._back.release()
        self._go.acquire()
        call.check()

    def sleep(self, seconds: float) -> None:
        """Sleep in virtual time."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        timers: list[asyncio.TimerHandle] = []
        loop = self._workers.loop

        def begin(go_on: Callable[[], None]) -> None:
            if seconds != float("inf"):
                timers.append(loop.call_later(seconds, go_on))

        try:
            self.pause(begin)
        finally:
            if timers:
                self.do(timers[0].cancel)

    def hang(self) -> None:
        """Wait until the worker is killed, whatever else is wanted of the call."""
        assert self.call is not None
        self.call.worker.hangs = True
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                self.pause(lambda _go_on: None)
