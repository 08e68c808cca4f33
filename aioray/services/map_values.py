"""The values of a map, as they are iterated: in a thread, or on an event loop.

Room: services. `Map` lends its thread, or its loop, to what `map_run` does; see `maps` for what a
map is. Nothing goes on while nobody iterates, but the task that reads an asynchronous input.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ..api.session import client_for_call
from ..client.protocol import refuse_to_block
from ..shared.chunks import ItemFunction
from ..shared.options import RESOURCE_UNITS, default_max_retries
from .map_plan import MOST_ITEMS, FailedItem, MapCounts, MapPlan, RetryRules
from .map_run import MapRun
from .map_waiting import Input, Pump, Waker, poll, wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..client.protocol import Call, Client
    from ..shared.options import TaskOptions

__all__ = ["ItemCode", "Map", "MappedCall", "retry_rules"]

R_co = TypeVar("R_co", covariant=True)

LOOK_SECONDS = 1e-3  # between two looks for news while there are values to read
YIELD_SECONDS = 5e-3  # after which `async for` lets others run


class ItemCode:
    """The code of the chunks of maps over one function, for clients."""

    __slots__ = ("__weakref__", "function", "name", "seconds")

    def __init__(self, function: Callable[..., Any], name: str, *, star: bool) -> None:
        self.function = ItemFunction(function, star)
        self.name = name
        self.seconds: float | None = None  # that an item has taken in the last map


class MappedCall:
    """What is called on items, with which options."""

    __slots__ = ("call", "code", "name", "options")

    def __init__(self, call: Call, code: ItemCode, name: str, options: TaskOptions) -> None:
        self.call = call  # of chunks
        self.code = code
        self.name = name  # of the function
        self.options = options  # of items


def retry_rules(options: TaskOptions) -> RetryRules:
    """Return when an item that has failed is tried again, by the options of the function."""
    retries = options.max_retries
    if retries is None:
        variables = (options.runtime_env or {}).get("env_vars") or {}
        retries = default_max_retries({**os.environ, **variables})
    return RetryRules(retries, options.retry, random.Random(), options.deadline)


def _slots(client: Client, options: TaskOptions) -> int:
    """Return how many tasks with these options can run at once."""
    totals = client.cluster_resources()
    demand = [(name, amount / RESOURCE_UNITS) for name, amount in options.demand]
    found = min(
        (totals.get(name, 0.0) / amount for name, amount in demand), default=totals.get("CPU", 1.0)
    )
    return max(1, math.floor(found))


class Map(Generic[R_co]):
    """The values of `aioray.map`, to be iterated once, with `for` or `async for`.

    `next` and `anext` do too. Leaving a `with` or an `async with` block closes it; so does the end
    of a loop over it, however that comes.
    """

    def __init__(
        self,
        mapped: MappedCall,
        items: Any,
        *,
        ordered: bool,
        return_exceptions: bool,
        window: int | None,
        most: int,
    ) -> None:
        self._mapped = mapped
        self._items = items
        self._ordered = ordered
        self._returns_exceptions = return_exceptions
        self._window = window
        self._most = most
        self._run: MapRun | None = None
        self._closed = False
        self._values: Iterator[R_co] | None = None  # for `next`
        self._awaited: AsyncIterator[R_co] | None = None  # for `anext`

    @property
    def counts(self) -> MapCounts:
        """How many items were taken, are done, have failed, are in flight, were tried again."""
        return MapCounts(0, 0, 0, 0, 0) if self._run is None else self._run.plan.counts

    def _start(self) -> MapRun:
        """Begin, once. Raises RuntimeError."""
        if self._run is not None or self._closed:
            state = "was closed" if self._closed else "can be iterated once only"
            raise RuntimeError(f"This map {state}. Call aioray.map() again.")
        client = client_for_call()
        mapped = self._mapped
        options = mapped.options
        plan = MapPlan(
            retry_rules(options),
            slots=_slots(client, options),
            ordered=self._ordered,
            window=self._window,
            most=min(self._most, options.max_calls or MOST_ITEMS),
            seconds=mapped.code.seconds,
        )
        self._run = run = MapRun(client, mapped.call, mapped.name, options, plan)
        return run

    def _next_values(self, run: MapRun) -> list[Any]:
        """Return the values to be read next. Raises the error of an item, if that is wished."""
        found = run.plan.out.popleft()
        if isinstance(found, FailedItem):
            if not self._returns_exceptions:
                raise run.error(found)
            return [run.error(found)]
        run.reading = found
        return found

    # ------------------------------------------------------------ for

    def __iter__(self) -> Iterator[R_co]:
        if self._values is not None:
            return self._values
        if not isinstance(self._items, Iterable) and hasattr(self._items, "__aiter__"):
            raise TypeError(
                "The items of this map come from an asynchronous iterable: iterate over it with "
                "`async for`."
            )
        # A list is iterated faster without a frame of ours in between.
        return chain.from_iterable(self._iterate(self._start()))

    def __next__(self) -> R_co:
        if self._values is None:
            self._values = iter(self)
        return next(self._values)

    def _iterate(self, run: MapRun) -> Iterator[list[R_co]]:
        """Yield values that are read next, some at a time."""
        client, plan = run.client, run.plan
        refuse_to_block(client, "`for` over aioray.map()", "`async for`", runs_loop=True)
        out = plan.out
        looked = 0.0
        try:
            source = Input(self._items)
            while not run.closed:
                if not out or source.is_quick:
                    source.fill(run)
                if not out:
                    if plan.finished:
                        return
                    wait(run, block=not plan.room())
                    continue
                now = time.monotonic()
                if now - looked > LOOK_SECONDS:
                    looked = now
                    poll(run)
                batch = self._next_values(run)
                count = len(batch)
                yield batch
                plan.read(count)
        finally:
            self._mapped.code.seconds = plan.sizes.seconds
            run.close()

    # ------------------------------------------------------------ async for

    def __aiter__(self) -> AsyncIterator[R_co]:
        if self._awaited is not None:
            return self._awaited
        return self._iterate_on_loop(self._start())

    def __anext__(self) -> Coroutine[Any, Any, R_co]:
        if self._awaited is None:
            self._awaited = aiter(self)
        return self._awaited.__anext__()  # type: ignore[return-value]

    async def _iterate_on_loop(self, run: MapRun) -> AsyncIterator[R_co]:
        plan = run.plan
        out = plan.out
        waker = Waker(run)
        paused = time.monotonic()
        try:
            source: Input | Pump
            if hasattr(self._items, "__aiter__"):
                source = Pump(self._items, run, waker)
            else:
                source = Input(self._items)
            run.on_close = source.stop, waker.stop
            while not run.closed:
                if not out or source.is_quick:
                    source.fill(run)
                now = time.monotonic()
                if not out:
                    if plan.finished:
                        return
                    if plan.room() and not source.comes_by_itself:
                        await asyncio.sleep(0)
                        waker.watch()
                    else:
                        await waker.wait()
                    await waker.read()
                    paused = now
                    continue
                if now - paused > YIELD_SECONDS:
                    await asyncio.sleep(0)  # others have been waiting long enough
                    waker.watch()
                    await waker.read()
                    paused = time.monotonic()
                batch = self._next_values(run)
                count = len(batch)
                for value in batch:
                    yield value
                plan.read(count)
        finally:
            self._mapped.code.seconds = plan.sizes.seconds
            run.close()

    # ------------------------------------------------------------ ending

    def close(self) -> None:
        """Cancel what is in flight; nothing more is iterated. Does not wait for that."""
        self._closed = True
        if self._run is not None:
            self._run.close()

    async def aclose(self) -> None:
        """Cancel what is in flight, and wait until that has taken hold."""
        self._closed = True
        run = self._run
        if run is not None:
            run.close()
            for request in run.requests:
                await request

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> NoReturn:
        raise TypeError("A map cannot be pickled: it is iterated where it was made.")

    def __repr__(self) -> str:
        return f"<aioray map over {self._mapped.name}: {self.counts}>"
