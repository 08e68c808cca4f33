"""How a map waits: for items of its input, and for news of its chunks, in a thread or on a loop.

Room: services. An input must not hold up values that are there, and may be slow: it is asked for
more items at a time the quicker it is. An asynchronous one is read by an asyncio task, the `Pump`,
which lives as long as the iteration.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..client.refs import wake_elsewhere
from .map_plan import MOST_ITEMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence

    from ..client.refs import ObjectRef
    from .map_run import MapRun

__all__ = ["Input", "Pump", "Waker", "poll", "read", "wait"]

QUICK_SECONDS = 2e-3  # that an input may take without holding up values that are there


class Input:
    """Items that are read where the map is iterated."""

    comes_by_itself = False

    def __init__(self, items: Iterable[Any], limit: int = 1) -> None:
        """Begin with the first. limit: items to take at first. Raises what `iter` does."""
        self._range = items if type(items) is range else None  # what is left of it
        self._items: Iterator[Any] = iter(items)
        self._limit = limit  # items to take at a time
        self.is_quick = False  # to take some takes no time that matters

    def fill(self, run: MapRun) -> None:
        """Send what is to be sent, taking items as there is room; only once if that is slow."""
        plan = run.plan
        run.send()
        while count := min(plan.room(), self._limit):
            started = time.monotonic()
            items = self._take(count)
            seconds = time.monotonic() - started
            self.is_quick = seconds < QUICK_SECONDS
            if not self.is_quick:
                self._limit = max(1, int(count * QUICK_SECONDS / seconds))
            elif seconds < QUICK_SECONDS / 2:
                self._limit = min(4 * self._limit, MOST_ITEMS)
            if items:
                plan.take(items)
            if len(items) < count:
                plan.exhausted = True
            run.send()
            if not self.is_quick:
                break

    def _take(self, count: int) -> Sequence[Any]:
        """Return the next items, fewer if there are no more."""
        rest = self._range
        if rest is None:
            return list(islice(self._items, count))
        self._range = rest[count:]
        return rest[:count]  # a range too, which costs nothing to send

    def stop(self) -> None:
        """Do nothing: nobody reads but who iterates."""


class Pump:
    """Reads an asynchronous iterable of items, as far as there is room for them."""

    comes_by_itself = True
    is_quick = True

    def __init__(self, items: AsyncIterable[Any], run: MapRun, waker: Waker) -> None:
        self._run = run
        self._waker = waker
        self._found: deque[Any] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._has_room = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._read(items))

    async def _read(self, items: AsyncIterable[Any]) -> None:
        plan = self._run.plan
        try:
            async for item in items:
                self._found.append(item)
                self._waker.wake()
                while len(self._found) >= plan.room():
                    self._has_room.clear()
                    await self._has_room.wait()
        except Exception as error:  # noqa: BLE001 - of the user's iterable
            self._error = error
        self._ended = True
        self._waker.wake()

    def fill(self, run: MapRun) -> None:
        """Send what is to be sent, and what was read. Raises the error of the iterable."""
        plan, found = run.plan, self._found
        run.send()
        while found and (count := min(plan.room(), len(found))):
            plan.take([found.popleft() for _ in range(count)])
            run.send()
        if self._ended and not found:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            plan.exhausted = True
        if plan.room() > len(found):
            self._has_room.set()

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()


class Waker:
    """Lets one coroutine wait for news of any chunk of a map."""

    def __init__(self, run: MapRun) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._direct = run.client.loop is self._loop
        self._watched: dict[int, tuple[ObjectRef[bool], Callable[[], None]]] = {}
        self._ready: list[int] = []  # chunks that have news
        self._sleeper: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Wake who waits, if anybody does."""
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def _fire(self, key: int) -> None:
        if self._watched.pop(key, None) is not None:
            self._ready.append(key)
            self.wake()

    def watch(self) -> None:
        """Watch every chunk that is not watched yet."""
        client, watched = self._run.client, self._watched
        for key, signal in self._run.signals().items():
            if key in watched or key in self._ready:
                continue
            call = functools.partial(self._fire, key)
            if not self._direct:
                call = functools.partial(wake_elsewhere, self._loop, call)
            watched[key] = signal, call
            client.when_ready(signal.entry, call)

    async def wait(self) -> None:
        """Wait until a chunk has news, or an item is to be tried again, or somebody wakes."""
        self.watch()
        if self._ready:
            return
        due = self._run.plan.due()
        sleeper = self._sleeper = self._loop.create_future()
        timer = None
        if due is not None:
            timer = self._loop.call_later(max(0.0, due - time.monotonic()), self.wake)
        try:
            await sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    async def read(self) -> None:
        """Read what the chunks have told."""
        ready, self._ready = self._ready, []
        for key in ready:
            for ref in self._run.read(key):
                await self._until_ready(ref)

    async def _until_ready(self, ref: ObjectRef[Any]) -> None:
        future: asyncio.Future[None] = self._loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        call: Callable[[], None] = resolve
        if not self._direct:
            call = functools.partial(wake_elsewhere, self._loop, resolve)
        client = self._run.client
        client.when_ready(ref.entry, call)
        try:
            await future
        finally:
            client.forget(ref.entry, call)

    def stop(self) -> None:
        """Watch nothing any more, and wait for nothing."""
        self.wake()
        client = self._run.client
        watched, self._watched = self._watched, {}
        if not client.closed:
            for signal, call in watched.values():
                client.forget(signal.entry, call)


def poll(run: MapRun) -> None:
    """Read what chunks have told, without waiting."""
    for key in run.look():
        read(run, key)


def wait(run: MapRun, *, block: bool, until: float | None = None) -> None:
    """Wait in this thread until a chunk has news, or an item is to be tried again; and read.

    block: False: wait for nothing. until: and no longer.
    """
    signals = run.signals()
    due = run.plan.due() if block else 0.0
    if until is not None:
        due = until if due is None else min(due, until)
    timeout = None if due is None else max(0.0, due - time.monotonic())
    if not signals:
        time.sleep(timeout or 0.0)
        return
    refs = list(signals.values())
    for key, ref, is_ready in zip(signals, refs, run.client.wait(refs, 1, timeout), strict=True):
        if is_ready:
            run.client.get([ref], None, in_memory=True)
            read(run, key)


def read(run: MapRun, key: int) -> None:
    """Read what a chunk has told, whose signal has come, in this thread."""
    for ref in run.read(key):
        run.client.get([ref], None, in_memory=True)
