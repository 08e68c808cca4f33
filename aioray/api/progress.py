"""`aioray.progress`: a bar for tasks that take long, and their values.

Room: api. Who waits for refs finds their values here one by one, with a bar that says how many
are there, have failed, run now and were run again. Bars are drawn by `aioray.shared.terminal`,
below everybody's lines; in a notebook, where there is no terminal, as an output that is updated.

In the driver every ref tells when it is ready, so that waiting costs the same for a few and for
many. In tasks that would need somebody who listens, and between two runs of the engine's loop
somebody who runs it; there `wait` is asked for a part of them at a time. In tasks the driver, who
knows which tasks run, is not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import queue
import time
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from aioray.api.notebook import kernel_shell
from aioray.api.objects import get, wait
from aioray.client.current import execution_context
from aioray.client.entry import StoredFailure
from aioray.client.generators import ObjectRefGenerator
from aioray.client.protocol import refuse_to_block
from aioray.client.refs import ObjectRef
from aioray.experimental import tqdm_ray

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Generator,
        Iterable,
        Iterator,
    )

__all__ = ["Progress", "progress"]

T = TypeVar("T")

COLUMNS = 100  # of a bar in a notebook
INTERVAL = 0.5  # seconds between two looks at the tasks
TASK_SHARE = 50  # in tasks: one `wait` is for 1/50 of what is left, so that there are not too many
LOOK_SHARE = 20  # a look at the tasks is not repeated before 20 times what it has taken


@overload
def progress(
    refs: Iterable[ObjectRef[T]],
    *,
    total: int | None = None,
    desc: str | None = None,
    unit: str = "task",
    return_exceptions: Literal[False] = False,
    yield_obj_refs: Literal[False] = False,
    disable: bool = False,
) -> Progress[T]: ...
@overload
def progress(
    refs: Iterable[ObjectRef[T]],
    *,
    total: int | None = None,
    desc: str | None = None,
    unit: str = "task",
    return_exceptions: Literal[True],
    yield_obj_refs: Literal[False] = False,
    disable: bool = False,
) -> Progress[T | BaseException]: ...
@overload
def progress(
    refs: Iterable[ObjectRef[T]],
    *,
    total: int | None = None,
    desc: str | None = None,
    unit: str = "task",
    return_exceptions: bool = False,
    yield_obj_refs: Literal[True],
    disable: bool = False,
) -> Progress[ObjectRef[T]]: ...
def progress(
    refs: Iterable[ObjectRef[Any]],
    *,
    total: int | None = None,
    desc: str | None = None,
    unit: str = "task",
    return_exceptions: bool = False,
    yield_obj_refs: bool = False,
    disable: bool = False,
) -> Progress[Any]:
    """Wait for refs with a progress bar.

        for value in aioray.progress(refs): ...         # values, as they become ready
        async for value in aioray.progress(refs): ...   # the same on an event loop
        values = await aioray.progress(refs)            # a list, in the order of the refs

    The bar says how many are done, how fast that goes and how long it will take, and, where it is
    not zero, how many tasks run now, have failed and were retried. It is drawn on stderr below what
    workers print, in a notebook as an output of its cell; without a terminal it is a plain line
    every 5 seconds and one at the end.

    refs: an iterable of refs, all of which are taken at once, or an ObjectRefGenerator, whose
    items come in their order. total: what counts as all, by default the number of refs; for
    generators not known. desc: text before the bar. unit: what is counted. return_exceptions:
    errors are values. yield_obj_refs: the refs instead of their values, those of failed tasks too.
    disable: no bar.
    A task's error is raised at its place and ends the iteration, or the wait, as with
    `aioray.util.as_completed` and `asyncio.gather`; neither that, nor breaking off, nor Ctrl-C
    cancels tasks.
    Raises TypeError for what is no ref; when iterating, RuntimeError on the engine's own event
    loop, where `async for` is meant.
    """
    if not isinstance(refs, ObjectRefGenerator):
        if isinstance(refs, ObjectRef):
            raise TypeError("progress() takes several refs: use progress([ref]).")
        refs = list(refs)
        for ref in refs:
            if not isinstance(ref, ObjectRef):
                raise TypeError(f"progress() takes ObjectRefs, and got {type(ref).__name__!r}.")
    return Progress(
        refs,
        total=total,
        desc=desc,
        unit=unit,
        return_exceptions=return_exceptions,
        yield_obj_refs=yield_obj_refs,
        disable=disable,
    )


class Progress(Generic[T]):
    """What `progress` returns: iterate over it, with or without async, or await it."""

    def __init__(
        self,
        refs: list[ObjectRef[Any]] | ObjectRefGenerator[Any],
        *,
        total: int | None,
        desc: str | None,
        unit: str,
        return_exceptions: bool,
        yield_obj_refs: bool,
        disable: bool,
    ) -> None:
        self._refs = refs
        if total is None and isinstance(refs, list):
            total = len(refs)
        self._new_bar: Callable[[], _Bar] = lambda: _Bar(
            [] if isinstance(refs, ObjectRefGenerator) else refs, total, desc, unit, disable=disable
        )
        self._return_exceptions = return_exceptions
        self._yield_refs = yield_obj_refs

    # -- without a loop

    def __iter__(self) -> Iterator[T]:
        self._refuse_on_loop()
        bar = self._new_bar()
        try:
            for ref in self._ready(bar):
                yield self._value(ref)
        finally:
            bar.close()

    def _refuse_on_loop(self) -> None:
        refs = self._refs
        some = [refs.completed()] if isinstance(refs, ObjectRefGenerator) else refs[:1]
        for ref in some:
            client = ref.entry.owner()
            refuse_to_block(client, "Iterating over progress()", "`async for`", runs_loop=True)

    def _value(self, ref: ObjectRef[Any]) -> Any:
        if self._yield_refs:
            return ref
        try:
            return get(ref)
        except Exception as error:
            if not self._return_exceptions:
                raise
            return error

    def _ready(self, bar: _Bar) -> Iterator[ObjectRef[Any]]:
        """Yield the refs, each when it is ready, and count them on the bar."""
        refs = self._refs
        if isinstance(refs, ObjectRefGenerator):
            for ref in refs:
                bar.count(ref)
                yield ref
        elif execution_context.job or any(ref.entry.owner().between_runs() for ref in refs[:1]):
            yield from _ready_by_waiting(refs, bar)
        else:
            yield from _ready_in_driver(refs, bar)

    # -- on a loop

    async def __aiter__(self) -> AsyncIterator[T]:
        bar = self._new_bar()
        try:
            async with contextlib.aclosing(self._ready_on_loop(bar)) as ready:
                async for ref in ready:
                    yield await self._value_on_loop(ref)
        finally:
            bar.close()

    async def _value_on_loop(self, ref: ObjectRef[Any]) -> Any:
        if self._yield_refs:
            return ref
        try:
            return await ref
        except Exception as error:
            if not self._return_exceptions:
                raise
            return error

    async def _ready_on_loop(self, bar: _Bar) -> AsyncGenerator[ObjectRef[Any], None]:
        refs = self._refs
        if isinstance(refs, ObjectRefGenerator):
            async for ref in refs:
                bar.count(ref)
                yield ref
            return
        arrivals = _Arrivals(refs, bar)
        try:
            for _ in refs:
                yield await arrivals.next()
        finally:
            arrivals.close()

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._gather().__await__()

    async def _gather(self) -> list[T]:
        bar = self._new_bar()
        found: list[ObjectRef[Any]] = []
        try:
            async with contextlib.aclosing(self._ready_on_loop(bar)) as ready:
                async for ref in ready:
                    found.append(ref)
                    if not (self._yield_refs or self._return_exceptions):
                        error = ref.entry.error()
                        if error is not None:
                            raise error
        finally:
            bar.close()
        order = found if isinstance(self._refs, ObjectRefGenerator) else self._refs
        return [await self._value_on_loop(ref) for ref in order]


def _ready_in_driver(refs: list[ObjectRef[Any]], bar: _Bar) -> Iterator[ObjectRef[Any]]:
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
    waiters: dict[int, Callable[[], None]] = {}
    try:
        for at, ref in enumerate(refs):
            if ref.done():
                arrived.put(at)
                continue
            client = ref.entry.owner()
            waiters[at] = lambda at=at: arrived.put(at)  # type: ignore[misc]
            client.when_ready(ref.entry, waiters[at])
        known: list[int] = []  # ready, newest first
        for _ in refs:
            while not known:
                try:
                    known.append(arrived.get(timeout=INTERVAL))
                    while True:
                        known.append(arrived.get_nowait())
                except queue.Empty:
                    pass
                known.reverse()
                for at in known:
                    waiters.pop(at, None)
                    bar.count(refs[at])
                bar.show()
            yield refs[known.pop()]
    finally:
        for at, waiter in waiters.items():
            entry = refs[at].entry
            entry.owner().forget(entry, waiter)


def _ready_by_waiting(refs: list[ObjectRef[Any]], bar: _Bar) -> Iterator[ObjectRef[Any]]:
    pending = refs
    while pending:
        some = list(dict.fromkeys(pending))  # `wait` takes each once
        wait(some, num_returns=max(1, len(some) // TASK_SHARE), timeout=INTERVAL)
        done: list[ObjectRef[Any]] = []
        rest: list[ObjectRef[Any]] = []
        for ref in pending:  # asked once: the answer may change at any moment
            (done if ref.done() else rest).append(ref)
        pending = rest
        for ref in done:
            bar.count(ref)
        bar.show()
        yield from done


class _Arrivals:
    """Refs as they become ready, for a coroutine; redraws the bar meanwhile."""

    def __init__(self, refs: list[ObjectRef[Any]], bar: _Bar) -> None:
        self._queue: asyncio.Queue[ObjectRef[Any]] = asyncio.Queue()
        self._bar = bar
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[ObjectRef[Any], Callable[[ObjectRef[Any]], None]]] = {}
        for at, ref in enumerate(refs):
            if ref.done():
                self._arrived(ref)
            else:
                self._watch(at, ref)
        self._timer = self._loop.call_later(INTERVAL, self._redraw)

    def _watch(self, at: int, ref: ObjectRef[Any]) -> None:
        def arrived(ref: ObjectRef[Any]) -> None:
            self._waiting.pop(at, None)
            self._arrived(ref)

        self._waiting[at] = ref, arrived
        ref.add_done_callback(arrived)

    def _arrived(self, ref: ObjectRef[Any]) -> None:
        self._bar.count(ref)
        self._queue.put_nowait(ref)

    def _redraw(self) -> None:
        self._bar.show()
        self._timer = self._loop.call_later(INTERVAL, self._redraw)

    async def next(self) -> ObjectRef[Any]:
        """Wait for the next ref that is ready, and return it."""
        return await self._queue.get()

    def close(self) -> None:
        """Stop the timer, and take the callbacks off the refs that are not ready."""
        self._timer.cancel()
        for ref, arrived in self._waiting.values():
            ref.remove_done_callback(arrived)


class _Bar:
    """What is known of the refs, and the bar that says it."""

    _numbers = itertools.count()

    def __init__(
        self,
        refs: list[ObjectRef[Any]],
        total: int | None,
        desc: str | None,
        unit: str,
        *,
        disable: bool,
    ) -> None:
        self._tasks = {_task_of(ref): ref.entry.task for ref in refs if ref.entry.task}
        self._total, self._desc, self._unit = total, desc or "", unit
        self._disabled = disable
        number = next(_Bar._numbers)
        self._key, self._position = f"progress-{number}", number
        self._began = time.monotonic()
        self._done = self._failed = self._retried = 0
        self._note = ""
        self._due = 0.0  # when the bar is drawn again
        self._notebook = None if disable else _Notebook.find()
        self._closed = False
        self.show(force=True)

    def count(self, ref: ObjectRef[Any]) -> None:
        """Count a ref that is ready."""
        entry = ref.entry
        self._done += 1
        self._failed += isinstance(entry.outcome, StoredFailure)
        key = _task_of(ref)
        task = self._tasks.get(key)
        if task is not None and entry.outcome is not None:
            del self._tasks[key]  # other values of it came at the same time
            self._retried += task.attempt
        self.show()

    def show(self, *, force: bool = False) -> None:
        """Draw the bar, unless that was done just now."""
        now = time.monotonic()
        if self._disabled or self._closed or (now < self._due and not force):
            return
        self._draw(now)
        took = time.monotonic() - now
        self._due = now + max(INTERVAL, LOOK_SHARE * took)

    def close(self) -> None:
        """Draw the bar for the last time."""
        if not (self._closed or self._disabled):
            self._closed = True
            self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        state: dict[str, Any] = {
            "key": self._key,
            "n": self._done,
            "total": self._total,
            "desc": self._desc[: tqdm_ray.MAX_DESC],
            "unit": self._unit[: tqdm_ray.MAX_UNIT],
            "elapsed": now - self._began,
            "position": self._position,
            "closed": self._closed,
            "postfix": self._postfix(),
        }
        if self._notebook is None:
            tqdm_ray.show(state)
        else:
            self._notebook.show(state)

    def _postfix(self) -> str:
        running, retried = _look(self._tasks.values())
        if self._closed:
            running = 0
        counts = {
            "running": running,
            "failed": self._failed,
            "retried": self._retried + retried,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _task_of(ref: ObjectRef[Any]) -> Any:
    """Return what tells the task of a ref from others: for all its values the same."""
    entry = ref.entry
    return entry.client, entry.task and entry.task.number


def _look(tasks: Iterable[Any]) -> tuple[int, int]:
    """Count the tasks that run and the retries of all. Reads what the engine writes."""
    workers: set[Any] = set()  # a worker runs one task, and has got others in advance
    beside = retried = 0
    for task in tasks:
        retried += task.attempt
        worker = task.worker
        if worker is not None:
            actor = task.scheduling_class.actor
            if actor is None or actor.ahead:
                workers.add(worker)
            else:
                beside += 1
    return len(workers) + beside, retried


class _Notebook:
    """An output of a notebook's cell that is updated."""

    def __init__(self, shell_display: Any) -> None:
        self._display = shell_display
        self._handle: Any = None

    @classmethod
    def find(cls) -> _Notebook | None:
        """Make an output for the bar; None if this process is not the kernel of a notebook."""
        if execution_context.job or kernel_shell() is None:
            return None
        return cls(importlib.import_module("IPython.display").display)

    def show(self, state: dict[str, Any]) -> None:
        """Show the bar, in the place where it was shown before."""
        from aioray.shared.terminal import Bar

        text = {"text/plain": Bar(**state).text(COLUMNS)}
        if self._handle is None:
            self._handle = self._display(text, raw=True, display_id=True)
        else:
            self._handle.update(text, raw=True)
