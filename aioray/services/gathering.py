"""`gather` and `as_completed`: many refs awaited at once, without an asyncio task for each.

Room: services. As asyncio's functions of these names, for refs alone. Who is cancelled while it
waits leaves the tasks alone, unless awaits are bound here (`client.refs.binding`).
"""

# Of overloads that overlap the first that fits is meant.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ..api.checks import check_seconds
from ..client.awaiting import get_running_loop
from ..client.entry import NotInMemory, StoredFailure
from ..client.refs import ObjectRef, binding
from ..client.stopping import stop_bound
from .arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from typing import Self

    from ..client.entry import ObjectEntry

__all__ = ["Completions", "as_completed", "gather"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
T = TypeVar("T")


@overload
def gather(
    a: ObjectRef[A], /, *, return_exceptions: Literal[False] = False
) -> Coroutine[Any, Any, tuple[A]]: ...
@overload
def gather(
    a: ObjectRef[A], b: ObjectRef[B], /, *, return_exceptions: Literal[False] = False
) -> Coroutine[Any, Any, tuple[A, B]]: ...
@overload
def gather(
    a: ObjectRef[A],
    b: ObjectRef[B],
    c: ObjectRef[C],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> Coroutine[Any, Any, tuple[A, B, C]]: ...
@overload
def gather(
    a: ObjectRef[A],
    b: ObjectRef[B],
    c: ObjectRef[C],
    d: ObjectRef[D],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> Coroutine[Any, Any, tuple[A, B, C, D]]: ...
@overload
def gather(
    *refs: ObjectRef[T], return_exceptions: Literal[False] = False
) -> Coroutine[Any, Any, list[T]]: ...
@overload
def gather(
    *refs: ObjectRef[T], return_exceptions: bool
) -> Coroutine[Any, Any, list[T | BaseException]]: ...


def gather(*refs: ObjectRef[Any], return_exceptions: bool = False) -> Coroutine[Any, Any, Any]:
    """Await the values of refs: `a, b = await aioray.gather(f.remote(1), g.remote(2))`.

    A list in the order of the refs. The first failure is raised as soon as it is known, while the
    other tasks go on; return_exceptions: errors stand in the list, in place of values. Cancelling
    the wait cancels no task: see `scope` and `ObjectRef.bound` for that. Unlike asyncio.gather it
    makes no asyncio task for each ref.
    Raises the error of a task; TypeError for anything but refs.
    """
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"aioray.gather() takes refs, one by one, as in gather(*refs); it was given "
                f"{_of_type(ref)}. Coroutines and other awaitables are for asyncio.gather()."
            )
    return _gather(refs, return_exceptions=return_exceptions)


def _of_type(value: object) -> str:
    return f"an object of type {type(value).__name__}"


async def _gather(refs: tuple[ObjectRef[Any], ...], *, return_exceptions: bool) -> list[Any]:
    entries = [ref.entry for ref in refs]
    if not return_exceptions:
        for entry in entries:
            if type(entry.outcome) is StoredFailure:
                raise entry.outcome.exception()
    pending = [entry for entry in entries if entry.outcome is None]
    if pending:
        failed = await _until_ready(pending, or_failed=not return_exceptions)
        if failed is not None:
            failed.value()
    values: list[Any] = []
    for ref in refs:
        try:
            values.append(await _value(ref))
        except Exception as error:
            if not return_exceptions:
                raise
            values.append(error)
        except BaseException as error:
            if not (return_exceptions and type(ref.entry.outcome) is StoredFailure):
                raise
            values.append(error)
    return values


async def _until_ready(entries: list[ObjectEntry], *, or_failed: bool) -> ObjectEntry | None:
    """Wait until all entries are ready, or one has failed: that one is returned."""
    loop = get_running_loop()
    over: asyncio.Future[ObjectEntry | None] = loop.create_future()

    def look() -> None:
        for entry in arrivals.take():
            if or_failed and type(entry.outcome) is StoredFailure and not over.done():
                over.set_result(entry)
        if not arrivals.watched and not over.done():
            over.set_result(None)

    arrivals = Arrivals(loop, look)
    for entry in entries:
        arrivals.watch(entry)
    return await _bound(over, arrivals)


async def _bound(future: asyncio.Future[T], arrivals: Arrivals) -> T:
    """Await a future; who is cancelled takes the watched tasks along, if awaits are bound here."""
    try:
        return await future
    except asyncio.CancelledError:
        grace = binding.get()
        if grace is not None:
            await stop_bound(list(arrivals.watched), grace)
        raise
    finally:
        arrivals.forget()


async def _value(ref: ObjectRef[T]) -> T:
    try:
        value: T = ref.entry.value()
    except NotInMemory:  # it has to come from the disk, or be computed again
        return await ref
    return value


def as_completed(refs: Iterable[ObjectRef[T]], *, timeout: float | None = None) -> Completions[T]:
    """Iterate over refs in the order in which they become ready: `async for ref in …`, or `for`.

    Each ref comes once, ready: `await ref`, or `aioray.get(ref)`, gives its value, or raises the
    task's error, without waiting. `async for` makes no asyncio task for each ref; `for` blocks, and
    is for code without an event loop. Leaving the loop early cancels no task. timeout: seconds for
    all of it, from the first step on; TimeoutError is raised then, and the tasks go on.
    Raises TypeError for anything but refs, ValueError for a negative timeout.
    """
    if isinstance(refs, ObjectRef):
        raise TypeError("aioray.as_completed() takes a list, or another iterable, of refs: [ref]")
    given = list(refs)
    for ref in given:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"aioray.as_completed() takes refs; one of those given is {_of_type(ref)}. "
                f"Coroutines and other awaitables are for asyncio.as_completed()."
            )
    return Completions(given, None if timeout is None else check_seconds("timeout", timeout))


class Completions(Generic[T]):
    """What `as_completed` returns: iterate over it, once."""

    def __init__(self, refs: list[ObjectRef[T]], timeout: float | None) -> None:
        self._refs: dict[ObjectEntry, ObjectRef[T]] = {ref.entry: ref for ref in refs}
        self._timeout = timeout
        self._deadline: float | None = None
        self._arrivals: Arrivals | None = None
        self._ready: deque[ObjectEntry] = deque()
        self._woken: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        if not self._refs:
            raise StopAsyncIteration
        if self._arrivals is None:
            loop = get_running_loop()
            if self._timeout is not None:
                self._deadline = loop.time() + self._timeout
            self._arrivals = Arrivals(loop, self._look)
            for entry in self._refs:
                self._arrivals.watch(entry)
        while not self._ready:
            self._ready.extend(self._arrivals.take())
            if not self._ready:
                await self._wait(self._arrivals)
        return self._refs.pop(self._ready.popleft())

    async def _wait(self, arrivals: Arrivals) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        try:
            if self._deadline is None:
                await self._woken
            else:
                async with asyncio.timeout_at(self._deadline):
                    await self._woken
        except TimeoutError:
            raise self._timed_out() from None
        except asyncio.CancelledError:
            grace = binding.get()
            if grace is not None:
                await stop_bound(list(arrivals.watched), grace)
            raise

    def _look(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _timed_out(self) -> TimeoutError:
        return TimeoutError(
            f"{len(self._refs)} refs were not ready after {self._timeout:g} seconds; "
            f"their tasks go on."
        )

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        from ..api.objects import wait

        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pending = list(self._refs.values())
        while pending:
            ready, pending = wait(pending, num_returns=len(pending), timeout=0)
            if not ready:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready, pending = wait(pending, timeout=left)
            if not ready:
                raise self._timed_out()
            for ref in ready:
                del self._refs[ref.entry]
                yield ref

    def __del__(self) -> None:
        arrivals = getattr(self, "_arrivals", None)
        if arrivals is not None:
            arrivals.forget()
