"""How a thread, or a coroutine, waits for what becomes of objects and of requests to cancel.

Room: engine. An entry's waiters are called on the engine's thread; whoever waits in another one
sleeps on a lock that they release. In the engine's own thread, between two runs of its loop, who
waits runs the loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import threading
from typing import TYPE_CHECKING, Any

from ..client.protocol import refuse_to_block
from ..client.refs import ObjectEntry, StoredFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..client.protocol import Client
    from ..core.outcomes import CancelOutcome

__all__ = ["CancelRequest", "Countdown", "Watch"]

LONGEST_WAIT = 4_000_000  # seconds, that a lock takes
FEW_WAITERS = 8  # of one entry; where there are more, some may be of threads that have ended


class CancelRequest:
    """A request to cancel; await it for what became of it, a `CancelOutcome`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._future: concurrent.futures.Future[CancelOutcome] = concurrent.futures.Future()

    def __await__(self) -> Generator[Any, None, CancelOutcome]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout: float | None = None) -> CancelOutcome:
        """Block for the outcome, up to `timeout` seconds; TimeoutError after that.

        Raises RuntimeError on the engine's own loop: there `await` it.
        """
        if not self._future.done():
            refuse_to_block(self._client, "result()", "`await aioray.cancel(ref)`")
        return self._future.result(timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # elsewhere it is what Ray's cancel returns

    def resolve(self, outcome: CancelOutcome) -> None:
        """Told by the engine."""
        if not self._future.done():
            self._future.set_result(outcome)

    def when_known(self, callback: Callable[[CancelOutcome], None]) -> None:
        """Call back with the outcome, on the engine's thread."""
        self._future.add_done_callback(lambda future: callback(future.result()))


class Countdown:
    """Lets a thread wait for several entries. `hit` runs on the engine's thread."""

    __slots__ = ("_lock", "_loop", "left", "stop_on_failure")

    def __init__(
        self, left: int, *, stop_on_failure: bool, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """loop: of the engine, which nobody runs: who waits does."""
        self.left = left
        self.stop_on_failure = stop_on_failure
        self._loop = loop
        self._lock = threading.Lock()
        self._lock.acquire()

    def hit(self, entry: ObjectEntry) -> None:
        """One entry is ready."""
        self.left -= 1
        if self.left == 0 or (self.stop_on_failure and type(entry.outcome) is StoredFailure):
            with contextlib.suppress(RuntimeError):  # released already, by a failure before
                self._lock.release()
            if self._loop is not None:
                self._loop.stop()

    def wait(self, timeout: float | None) -> bool:
        """Block; False if the time is over. Ctrl-C gets through."""
        limit = -1 if timeout is None else min(timeout, LONGEST_WAIT)
        if self._loop is not None:
            self._run(self._loop, limit)
            limit = 0
        return self._lock.acquire(timeout=limit)

    def _run(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        """Run the loop until it is over; others may stop the loop meanwhile."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            loop.stop()

        timer = loop.call_later(LONGEST_WAIT if limit < 0 else limit, give_up)
        try:
            while self._lock.locked() and not late.is_set():
                loop.run_forever()
        finally:
            timer.cancel()


class Watch:
    """Lets one thread wait again and again for some of many entries, watched in between.

    The engine's thread calls it once for each entry that is ready. That may have been watched for
    an earlier wait of the thread: whoever wakes looks again.
    """

    __slots__ = ("_gate", "hits", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.hits = 0  # how many entries were ready so far
        self._gate: tuple[float, threading.Lock] = math.inf, threading.Lock()

    def __call__(self) -> None:
        """Count one entry that is ready, and wake the thread if those are enough."""
        self.hits += 1
        goal, lock = self._gate
        if self.hits >= goal and lock.locked():
            lock.release()

    def wait(self, goal: int, timeout: float | None) -> bool:
        """Block until there were `goal` hits; False if the time is over. Ctrl-C gets through."""
        lock = threading.Lock()
        lock.acquire()
        self._gate = goal, lock
        return self.hits >= goal or lock.acquire(
            timeout=-1 if timeout is None else max(0.0, min(timeout, LONGEST_WAIT))
        )

    @classmethod
    def begin(cls, watch: Watch, entries: list[ObjectEntry]) -> None:
        """Have these entries watched, on the engine's thread."""
        for entry in entries:
            if entry.outcome is not None:
                watch()
                continue
            waiters = entry.waiters
            if waiters is None:
                entry.add_waiter(watch)
            elif watch not in waiters:
                if len(waiters) >= FEW_WAITERS:
                    waiters[:] = [waiter for waiter in waiters if not cls._is_over(waiter)]
                entry.add_waiter(watch)

    @classmethod
    def _is_over(cls, waiter: Callable[[], None]) -> bool:
        return isinstance(waiter, cls) and not waiter.thread.is_alive()
