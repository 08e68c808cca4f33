"""Calls that wait for room: `max_pending`, and `await f.submit(...)`.

Room: client; loaded where a limit or `submit` is used. A call *pends* from its submission to its
outcome. `PendingCount` counts those of one function, one actor or one engine that this process has
made with a limit. Over the limit `.remote()` raises; `.submit()` waits in the order in which it was
asked for, and what was granted to somebody who is cancelled goes to the next.
"""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..exceptions import GetTimeoutError, PendingCallsLimitExceeded
from .protocol import refuse_to_block

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Iterable, Mapping

    from .entry import ObjectEntry
    from .protocol import Call, Client
    from .refs import ObjectRef

__all__ = [
    "Gate",
    "PendingCount",
    "WaitingCall",
    "gates_of",
    "pending_entry",
    "pending_of",
    "submit_counted",
    "submit_through",
]

T = TypeVar("T")


class PendingCount:
    """The calls that pend, and those who wait until there are fewer."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.RLock()  # a finalizer may come while the same thread has it
        self._entries: dict[ObjectEntry, None] = {}
        self._reserved = 0  # room of calls that are being submitted
        self._waiters: deque[_Waiter] = deque()

    def enter(self, limit: int) -> bool:
        """Take room for one call, if there is some."""
        with self._lock:
            return not self._waiters and self._take(limit)

    def _take(self, limit: int) -> bool:
        if len(self._entries) + self._reserved >= limit:
            # What is done may not have been told yet.
            for entry in [each for each in self._entries if each.outcome is not None]:
                del self._entries[entry]
            if len(self._entries) + self._reserved >= limit:
                return False
        self._reserved += 1
        return True

    def queue(self, limit: int, wake: Callable[[], None]) -> _Waiter:
        """Wait behind the others; `wake` is called, in some thread, when there is room."""
        waiter = _Waiter(limit, wake)
        with self._lock:
            if not self._waiters and self._take(limit):
                waiter.granted = True
            else:
                self._waiters.append(waiter)
        return waiter

    def withdraw(self, waiter: _Waiter) -> None:
        """Give up waiting; what was granted meanwhile goes to the next."""
        with self._lock:
            if waiter.granted:
                waiter.granted = False
                self._reserved -= 1
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            self._serve()

    def note(self, client: Client, entry: ObjectEntry | None) -> None:
        """Let a call pend that was submitted without asking for room."""
        if entry is not None:
            with self._lock:
                self._reserved += 1
            self.submitted(client, entry)

    def cancel(self) -> None:
        """Give back room that was taken: the call was not submitted."""
        with self._lock:
            self._reserved -= 1
            self._serve()

    def submitted(self, client: Client, entry: ObjectEntry) -> None:
        """Let a call pend for which room was taken, until the entry has an outcome."""
        with self._lock:
            self._reserved -= 1
            self._entries[entry] = None
        client.when_ready(entry, lambda: self._done(entry))

    def _done(self, entry: ObjectEntry) -> None:
        with self._lock:
            self._entries.pop(entry, None)
            self._serve()

    def _serve(self) -> None:
        waiters = self._waiters
        while waiters and self._take(waiters[0].limit):
            waiter = waiters.popleft()
            waiter.granted = True
            try:
                waiter.wake()
            except RuntimeError:  # its loop is closed, and so it will never ask
                waiter.granted = False
                self._reserved -= 1


class _Waiter:
    """One who waits for room."""

    __slots__ = ("granted", "limit", "wake")

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.wake = wake
        self.granted = False


class Gate:
    """A limit on the calls that pend of something, which has a name for messages."""

    __slots__ = ("limit", "pending", "what")

    def __init__(self, pending: PendingCount, limit: int, what: str) -> None:
        """Limit the calls of `what`, the start of messages: who has them, and the option."""
        self.pending = pending
        self.limit = limit
        self.what = what

    def refusal(self) -> PendingCallsLimitExceeded:
        """Return the error of a call for which there is no room."""
        return PendingCallsLimitExceeded(
            f"{self.what}={self.limit}, and as many calls have not ended. Wait for some of them, "
            f"or let the call wait for room: `await ….submit(...)`."
        )

    async def wait(self) -> None:
        """Wait for room, and take it."""
        import asyncio

        loop = asyncio.get_running_loop()
        has_room: asyncio.Future[None] = loop.create_future()
        waiter = self.pending.queue(
            self.limit, lambda: _none(loop.call_soon_threadsafe(_set, has_room))
        )
        if waiter.granted:
            return
        try:
            await has_room
        except BaseException:
            self.pending.withdraw(waiter)
            raise

    def block(self, end: float | None) -> None:
        """Wait for room in this thread, and take it; GetTimeoutError at the time `end`."""
        has_room = threading.Event()
        waiter = self.pending.queue(self.limit, has_room.set)
        if waiter.granted:
            return
        try:
            if has_room.wait(None if end is None else max(0.0, end - time.monotonic())):
                return
        except BaseException:
            self.pending.withdraw(waiter)
            raise
        self.pending.withdraw(waiter)
        raise GetTimeoutError(f"{self.what}={self.limit}, and there was no room in time.")


def _set(has_room: asyncio.Future[None]) -> None:
    if not has_room.done():
        has_room.set_result(None)


def _none(_handle: object) -> None:
    """Drop a result."""


def pending_entry(result: Any) -> ObjectEntry | None:
    """Return the entry that has an outcome when a call has ended; None: it has no refs at all."""
    if isinstance(result, list):
        return result[0].entry if result else None
    completed = getattr(result, "_completed", result)  # of an ObjectRefGenerator
    return getattr(completed, "entry", None)


_of: weakref.WeakKeyDictionary[Any, PendingCount] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def pending_of(owner: Any) -> PendingCount:
    """Return the calls of a function, or of an actor, that this process has made with a limit.

    owner: the remote function, or the entry of the actor's ref.
    """
    with _lock:
        found = _of.get(owner)
        if found is None:
            found = _of[owner] = PendingCount()
        return found


def gates_of(client: Client, owner: Any, limit: int | None, what: str) -> list[Gate]:
    """Return the limits that a call is subject to: its own, and the session's.

    owner: see `pending_of`. limit: None, or not above 0: it has no own one. what: see `Gate`.
    """
    gates = [] if limit is None or limit <= 0 else [Gate(pending_of(owner), limit, what)]
    return gates if client.gate is None else [*gates, client.gate]


def submit_counted(
    client: Client,
    actor: ObjectRef[Any],
    limit: int,
    call: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Submit a call of an actor if the session allows, and count it if the actor has a limit.

    That limit has been looked at. Raises PendingCallsLimitExceeded.
    """
    gates = [] if client.gate is None else [client.gate]
    returned = submit_through(gates, client, lambda: client.submit(call, args, kwargs))
    if limit > 0:
        pending_of(actor.entry).note(client, pending_entry(returned))
    return returned


def submit_through(gates: Iterable[Gate], client: Client, submit: Callable[[], T]) -> T:
    """Submit a call if all gates have room. Raises PendingCallsLimitExceeded."""
    entered: list[Gate] = []
    for gate in gates:
        if not gate.pending.enter(gate.limit):
            for each in entered:
                each.pending.cancel()
            raise gate.refusal()
        entered.append(gate)
    return _submit(entered, client, submit)


def _submit(entered: list[Gate], client: Client, submit: Callable[[], T]) -> T:
    try:
        result = submit()
        entry = pending_entry(result)
    except BaseException:
        for gate in entered:
            gate.pending.cancel()
        raise
    for gate in entered:
        if entry is None:
            gate.pending.cancel()
        else:
            gate.pending.submitted(client, entry)
    return result


class WaitingCall(Generic[T]):
    """What `f.submit(...)` returns: await it, and the call is submitted as soon as there is room.

    What comes is what `f.remote(...)` returns, a ref. Cancelling the wait submits nothing. Code
    that cannot await uses `.result(timeout)`. The arguments are serialized when there is room.
    """

    def __init__(self, gates: list[Gate], client: Client, submit: Callable[[], T]) -> None:
        self._gates = gates
        self._client = client
        self._submit: Callable[[], T] | None = submit

    def _take(self) -> Callable[[], T]:
        submit, self._submit = self._submit, None
        if submit is None:
            raise RuntimeError("This call was submitted already. Make another one, f.submit(...).")
        return submit

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        submit, entered = self._take(), []
        try:
            for gate in self._gates:
                await gate.wait()
                entered.append(gate)
        except BaseException:
            for gate in entered:
                gate.pending.cancel()
            raise
        return _submit(entered, self._client, submit)

    def result(self, timeout: float | None = None) -> T:
        """Block until there is room, and return the ref; GetTimeoutError after `timeout` seconds.

        Raises RuntimeError on the event loop that the engine runs on.
        """
        submit, entered = self._take(), []
        refuse_to_block(self._client, "submit().result()", "`await f.submit(...)`")
        end = None if timeout is None else time.monotonic() + timeout
        try:
            for gate in self._gates:
                gate.block(end)
                entered.append(gate)
        except BaseException:
            for gate in entered:
                gate.pending.cancel()
            raise
        return _submit(entered, self._client, submit)

    def __del__(self) -> None:
        if self._submit is not None:
            warnings.warn(
                "A call of .submit(...) was never awaited, so nothing was submitted.",
                RuntimeWarning,
                stacklevel=2,
            )
