"""How one waits for objects in virtual time: in the driver, in a fiber, in a coroutine.

Room: api. A call that waits lends its CPUs, as in a process.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import TYPE_CHECKING, Any

from ..client.protocol import refuse_to_block
from ..client.rest import PlainCompletions
from ..client.results import are_ready, entries_to_get, get_is_over, get_timed_out, has_failed
from ..core.events import AttemptWaits, WorkerBlocked, WorkerUnblocked
from ..local.worker import running_call
from .fibers import Fiber

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from ..client.entry import ObjectEntry
    from ..client.refs import ObjectRef
    from ..local.worker import InProcessCall
    from .virtual import CoreInVirtualTime

__all__ = ["VirtualWaits"]


class VirtualWaits:
    """The ways to wait for objects: of the driver, of fibers, and of coroutines."""

    def __init__(self, engine: CoreInVirtualTime) -> None:
        client = engine.client
        self._engine = engine
        self._client = client
        self._feed = engine._mailbox.feed
        self._get, self._wait = client.get, client.wait  # of the driver
        self._has_signal = client.entries.has_signal
        self._blocked: dict[tuple[ObjectEntry, Callable[[], None]], Any] = {}
        self._counts: dict[int, int] = {}  # by seq: for how many objects an attempt waits

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, *, in_memory: bool = False
    ) -> None:
        """Block until all refs have an outcome, or one has failed. See `Client`."""
        fiber = self._fiber()
        if fiber is None:
            self._get(refs, _whole(timeout), in_memory=in_memory)
            return
        pending = entries_to_get(refs, in_memory=in_memory)
        if not pending or has_failed(ref.entry for ref in refs):
            return

        over = functools.partial(get_is_over, pending, in_memory=in_memory)
        if not self._block(fiber, pending, over, timeout):
            raise get_timed_out()

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[bool]:
        """Block until `num_returns` refs are ready or the time is over; return which ones are."""
        fiber = self._fiber()
        if fiber is None:
            return self._wait(refs, num_returns, _whole(timeout))
        entries = [ref.entry for ref in refs]
        look = functools.partial(are_ready, entries, self._has_signal)

        def is_over() -> bool:
            return sum(look()) >= num_returns

        if not is_over():
            self._block(fiber, [e for e in entries if e.outcome is None], is_over, timeout)
        return look()

    def completions(self, refs: Sequence[ObjectRef[Any]]) -> PlainCompletions:
        """Return what knows which of these are ready. See `Client`."""
        return PlainCompletions(self._client, refs)

    def _fiber(self) -> Fiber | None:
        """Return the fiber that asks; None: the driver does, or a call that runs on its loop."""
        call = running_call.get()
        if call is None:
            return None
        call.check()
        if isinstance(call.runner, Fiber):
            return call.runner
        refuse_to_block(self._client, "get()", "`await ref`, or `await asyncio.gather(*refs)`")
        return None

    def _block(
        self,
        fiber: Fiber,
        pending: Sequence[ObjectEntry],
        is_over: Callable[[], bool],
        timeout: float | None,
    ) -> bool:
        """Block a fiber until something is over; False if the time is over before."""
        if is_over():
            return True
        call = fiber.call
        assert call is not None
        worker_id, seq = call.worker.id, call.attempt.seq
        clock = self._engine.clock
        timeout = _whole(timeout)
        end = None if timeout is None else clock() + timeout
        told = end is None

        def begin(go_on: Callable[[], None]) -> None:
            self._engine._mailbox.drain()  # the core is to know what is waited for
            self._feed(WorkerBlocked(worker_id, seq))
            if told:
                tasks = [entry.task for entry in pending if entry.task is not None]
                self._feed(AttemptWaits(worker_id, seq, tasks))
            for entry in pending:
                if not entry.in_memory:
                    entry.add_waiter(go_on)
            if end is not None:
                timers.append(self._engine.loop.call_at(end, go_on))  # type: ignore[union-attr]
            waiters.append(go_on)
            if is_over():  # by what the core has just been told
                go_on()

        def stop() -> None:
            for waiter in waiters:
                for entry in pending:
                    entry.drop_waiter(waiter)
            for timer in timers:
                timer.cancel()
            if told:
                self._feed(AttemptWaits(worker_id, seq, ()))
            self._feed(WorkerUnblocked(worker_id, seq))

        while not is_over():
            if end is not None and clock() >= end:
                return False
            timers: list[asyncio.TimerHandle] = []
            waiters: list[Callable[[], None]] = []
            call.beat(math.inf)
            try:
                fiber.pause(begin)
            finally:
                call.beat()
                fiber.do(stop)
        return True

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call back as soon as an entry has its outcome; a call that waits lends its CPUs."""
        call = running_call.get()

        def begin() -> None:
            if call is None or call.worker.gone:
                entry.add_waiter(callback)
                return
            self._count(call, +1)

            def found() -> None:
                self._end(entry, callback)
                callback()

            self._blocked[entry, callback] = call, found
            entry.add_waiter(found)

        self._on_loop(begin)

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Take a callback of `when_ready` back."""

        def forget() -> None:
            found = self._end(entry, callback)
            entry.drop_waiter(callback if found is None else found)

        self._on_loop(forget)

    def _end(self, entry: ObjectEntry, callback: Callable[[], None]) -> Any:
        call, found = self._blocked.pop((entry, callback), (None, None))
        if call is not None:
            self._count(call, -1)
        return found

    def _count(self, call: InProcessCall, change: int) -> None:
        seq = call.attempt.seq
        before = self._counts.pop(seq, 0)
        if before + change:
            self._counts[seq] = before + change
        if not before:
            self._feed(WorkerBlocked(call.worker.id, seq))
        elif not before + change:
            self._feed(WorkerUnblocked(call.worker.id, seq))

    def _on_loop(self, action: Callable[[], None]) -> None:
        """Do something in the loop's thread, now if it may be."""
        call = running_call.get()
        fiber = None if call is None else call.runner
        if isinstance(fiber, Fiber) and threading.get_ident() != self._engine._mailbox.thread_id:
            fiber.do(action)
        elif threading.get_ident() == self._engine._mailbox.thread_id:
            action()
        else:
            self._engine._mailbox.post(action)


def _whole(timeout: float | None) -> float | None:
    """Return a time-out without the fraction of a millisecond that the machine has taken so far."""
    return None if timeout is None else math.ceil(timeout * 1000) / 1000
