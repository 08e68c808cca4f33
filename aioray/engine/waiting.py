"""How a thread, or a coroutine, waits for what becomes of objects and of requests to cancel.

Room: engine. Refs are futures: a coroutine awaits them, a thread blocks in `get` and `wait`. The
waiters of an entry are called on the engine's thread; who waits in another one sleeps on a lock
that they release. In the engine's own thread, between two runs of its loop, who waits runs the
loop. To cancel is to `interrupt` a task or to `force_kill` its worker: the core climbs the ladder,
and says what has become of it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from ..client.entry import ObjectEntry, StoredFailure
from ..client.protocol import refuse_to_block
from ..client.results import CancelRequest, are_ready, entries_to_get, get_timed_out, has_failed
from ..core.events import CancelRequested
from ..core.outcomes import CancelOutcome
from ..shared import ids
from .completions import EntryCompletions, drop_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..client.protocol import Client
    from ..client.refs import ObjectRef
    from ..core.commands import ReportCancel
    from ..core.model import Task
    from .mailbox import Mailbox

__all__ = ["CancelRequests", "Countdown", "ObjectWaits", "PendingCancel", "Watch"]

LONGEST_WAIT = 4_000_000  # seconds, that a lock takes
MANY_ENTRIES = 16  # which it is worth to go on watching between two waits


class PendingCancel(CancelRequest):
    """A request to cancel in the driver."""

    def __init__(self, client: Client) -> None:
        """Make a request without an outcome. client: who cancels."""
        self._client = client
        self._future: concurrent.futures.Future[CancelOutcome] = concurrent.futures.Future()

    def __await__(self) -> Generator[Any, None, CancelOutcome]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout: float | None = None) -> CancelOutcome:
        """Block for the outcome. See `CancelRequest`."""
        if not self._future.done():
            refuse_to_block(self._client, "result()", "`await aioray.cancel(ref)`")
        return self._future.result(timeout)

    def resolve(self, outcome: CancelOutcome) -> None:
        """Take the outcome, unless there is one, and wake those who wait for it."""
        if not self._future.done():
            self._future.set_result(outcome)

    def when_known(self, callback: Callable[[CancelOutcome], None]) -> None:
        """Call back with the outcome, on the engine's thread."""
        self._future.add_done_callback(lambda future: callback(future.result()))


class Countdown:
    """Lets a thread wait for several entries; the engine's thread counts them."""

    __slots__ = ("_at_end", "_lock", "_loop", "left", "stop_on_failure")

    def __init__(
        self,
        left: int,
        at_end: Callable[[Callable[[], None]], None],
        *,
        stop_on_failure: bool,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Count down from `left`.

        at_end: see `Mailbox.at_end`. stop_on_failure: the first that has failed is enough. loop: of
        the engine, if nobody runs it: then `wait` does.
        """
        self.left = left
        self._at_end = at_end
        self.stop_on_failure = stop_on_failure
        self._loop = loop
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        """Count an entry that is ready, and wake the thread that waits if it was the last."""
        self.left -= 1
        if self.left == 0:
            self._at_end(self._open)

    def failed(self) -> None:
        """Count an entry that has failed."""
        self.left -= 1
        if self.left == 0 or self.stop_on_failure:
            self._at_end(self._open)

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # released already, by a failure before
            self._lock.release()
        if self._loop is not None:
            self._loop.stop()

    def wait(self, timeout: float | None) -> bool:
        """Block until all entries are counted; False if the time is over. Ctrl-C gets through."""
        limit = -1 if timeout is None else min(timeout, LONGEST_WAIT)
        if self._loop is not None:
            self._run(self._loop, limit)
            limit = 0
        return self._lock.acquire(timeout=limit)

    def _run(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        """Run the loop until the wait is over; others may stop the loop meanwhile."""
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
        """Watch nothing yet, for the thread that runs here."""
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

    def begin(self, entries: list[ObjectEntry]) -> None:
        """Have these entries watched, on the engine's thread."""
        alone = (self,)
        for entry in entries:
            if entry.outcome is not None:
                self()
                continue
            waiters = entry.waiters
            if waiters is None:
                entry.add_waiters(alone)
            elif self not in waiters:
                drop_ended(entry)
                entry.add_waiters(alone)

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended."""
        return not self.thread.is_alive()


class CancelRequests:
    """The requests to cancel that have no outcome yet."""

    def __init__(self, client: Client, mailbox: Mailbox) -> None:
        """Begin with no requests. client: who cancels."""
        self._client = client
        self._mailbox = mailbox
        self._request_ids = itertools.count(1)
        self._requests: dict[int, PendingCancel] = {}

    def interrupt(
        self, entry: ObjectEntry, *, recursive: bool, grace: float | None
    ) -> PendingCancel:
        """Have the task of an entry interrupted by SIGINT, or never begun if it waits.

        recursive: and the tasks that it has submitted. grace: seconds after which a task that still
        runs is killed; None: never.
        """
        return self._ask(entry, force=False, recursive=recursive, grace=grace)

    def force_kill(
        self, entry: ObjectEntry, *, recursive: bool, grace: float | None
    ) -> PendingCancel:
        """Have the worker that runs the task of an entry killed, or the task never begun."""
        return self._ask(entry, force=True, recursive=recursive, grace=grace)

    def _ask(
        self, entry: ObjectEntry, *, force: bool, recursive: bool, grace: float | None
    ) -> PendingCancel:
        """Hand a request to the core, unless the task has ended."""
        if entry.task is None or entry.outcome is not None:
            request = PendingCancel(self._client)
            request.resolve(_cancel_outcome(entry))
            return request
        return self.of_task(entry.task, force=force, recursive=recursive, grace=grace)

    def of_task(
        self, task: Task, *, force: bool, recursive: bool, grace: float | None
    ) -> PendingCancel:
        """Hand a request to cancel a task to the core."""
        request = PendingCancel(self._client)
        request_id = next(self._request_ids)
        self._requests[request_id] = request
        event = CancelRequested(task, request_id, force, grace, recursive)
        self._mailbox.post(lambda: self._mailbox.feed(event))
        return request

    def report(self, command: ReportCancel) -> None:
        """Resolve a request with what became of it."""
        request = self._requests.pop(command.request_id, None)
        if request is not None:
            request.resolve(command.outcome)

    def end(self) -> None:
        """Resolve the requests left: the engine has ended, and so has what they were about."""
        for request in self._requests.values():
            request.resolve(CancelOutcome.KILLED)
        self._requests.clear()


def _cancel_outcome(entry: ObjectEntry) -> CancelOutcome:
    """Say what has become of a task that had its value, or error, when the cancel was asked for."""
    task = entry.task
    if task is not None and (
        isinstance(entry.outcome, StoredFailure)
        or (task.stream is not None and entry.index < ids.FIRST_ITEM)  # its last item is the error
    ):
        outcome: CancelOutcome = task.cancel_outcome
        return outcome
    return CancelOutcome.FINISHED_FIRST


class ObjectWaits:
    """The ways in which threads and coroutines wait for the objects of one engine."""

    def __init__(
        self, client: Client, mailbox: Mailbox, has_signal: Callable[[ObjectEntry], bool]
    ) -> None:
        """Wait for what belongs to `client`. has_signal: see `Entries`."""
        self._client = client
        self._mailbox = mailbox
        self._has_signal = has_signal
        self._watches = threading.local()  # of each thread, one Watch

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, *, in_memory: bool = False
    ) -> None:
        """Block until all refs have an outcome, or one has failed.

        See `aioray.client.protocol.Client`.
        """
        refuse_to_block(
            self._client, "get()", "`await ref`, or `await asyncio.gather(*refs)`", runs_loop=True
        )
        pending = entries_to_get(refs, in_memory=in_memory)
        if (
            pending
            and (len(pending) == len(refs) or not has_failed(ref.entry for ref in refs))
            and not self._block(pending, len(pending), timeout, stop_on_failure=True)
        ):
            raise get_timed_out()

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[bool]:
        """Block until `num_returns` refs are ready or the time is over; return which ones are."""
        refuse_to_block(self._client, "wait()", "`await asyncio.wait(refs)`", runs_loop=True)
        entries = [ref.entry for ref in refs]
        pending = [entry for entry in entries if entry.outcome is None]
        missing = num_returns - (len(entries) - len(pending))
        if missing > 0 and (timeout is None or timeout > 0):
            if len(pending) < MANY_ENTRIES or self._mailbox.in_own_thread():
                self._block(pending, missing, timeout, stop_on_failure=False)
            else:
                self._watch(pending, missing, timeout)
        return are_ready(entries, self._has_signal)

    def completions(self, refs: Sequence[ObjectRef[Any]]) -> EntryCompletions:
        """Return what knows which of these are ready. See `aioray.client.protocol.Client`."""
        return EntryCompletions(refs, self._mailbox.post, self._block_for)

    def _block_for(self, completions: EntryCompletions, count: int, timeout: float | None) -> None:
        """Block until so many are ready, or the time is over."""
        refuse_to_block(self._client, "wait()", "`await asyncio.wait(refs)`", runs_loop=True)
        if self._mailbox.in_own_thread():
            missing = count - completions.count()
            if missing > 0:
                at_end, loop = self._mailbox.at_end, self._mailbox.loop
                countdown = Countdown(missing, at_end, stop_on_failure=False, loop=loop)
                completions.wake = countdown
                countdown.wait(timeout)
            return
        watch = completions.wake = self._own_watch()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = watch.hits  # before looking: who is ready later makes it more
            missing = count - completions.count()
            left = None if deadline is None else deadline - time.monotonic()
            if missing <= 0 or not watch.wait(seen + missing, left):
                return

    def _own_watch(self) -> Watch:
        """Return the watch of this thread."""
        watch: Watch | None = getattr(self._watches, "watch", None)
        if watch is None:
            watch = self._watches.watch = Watch()
        return watch

    def _watch(self, entries: list[ObjectEntry], count: int, timeout: float | None) -> None:
        """Block until `count` of many entries have an outcome or the time is over.

        A loop that waits for them one by one comes back with the rest: those stay watched in
        between, so that a call costs little for each that goes on waiting.
        """
        watch = self._own_watch()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = watch.hits  # before looking: who is ready later makes it more
            pending = [entry for entry in entries if entry.outcome is None]
            count -= len(entries) - len(pending)
            if count <= 0:
                return
            entries = pending
            # The lists change on the engine's thread: `begin` looks again there.
            new = [entry for entry in entries if watch not in (entry.waiters or ())]
            if new:
                self._mailbox.post(functools.partial(watch.begin, new))
            left = None if deadline is None else deadline - time.monotonic()
            if not watch.wait(seen + count, left):
                return

    def _block(
        self,
        entries: list[ObjectEntry],
        count: int,
        timeout: float | None,
        *,
        stop_on_failure: bool,
    ) -> bool:
        """Block until `count` entries are ready, or one has failed; False if the time is over."""
        loop = self._mailbox.loop if self._mailbox.in_own_thread() else None
        countdown = Countdown(
            count, self._mailbox.at_end, stop_on_failure=stop_on_failure, loop=loop
        )
        waiters = (countdown,)  # one for all: as many as there are refs would be the collector's

        def register() -> None:  # on the engine's thread
            for entry in entries:
                entry.add_waiters(waiters)

        def withdraw() -> None:
            for entry in entries:
                entry.drop_waiter(countdown)

        self._mailbox.post(register)
        done = False
        try:
            done = countdown.wait(timeout)
        finally:
            if not done or countdown.left > 0:
                with contextlib.suppress(RuntimeError):
                    self._mailbox.post(withdraw)
        return done

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call back on the engine's thread as soon as an entry has its outcome."""
        if threading.get_ident() == self._mailbox.thread_id:
            entry.add_waiter(callback)
        else:
            self._mailbox.post(lambda: entry.add_waiter(callback))

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Take a callback of `when_ready` back."""
        if threading.get_ident() == self._mailbox.thread_id:
            entry.drop_waiter(callback)
        elif not self._mailbox.closed:
            self._mailbox.post(lambda: entry.drop_waiter(callback))
