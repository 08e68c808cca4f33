"""Contestants that live on an event loop: their operations are coroutines of one task."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.contestants.base import MARK_SECONDS, Library, awaited, each_awaited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

TICK = 0.001  # seconds between two looks at how late the loop is


class AsyncContestant(Library):
    """The whole dialogue is one `asyncio.run`."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def run(self, dialogue: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(dialogue)

    @abstractmethod
    def call(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """The result of one call."""

    async def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        call = self.call
        return await awaited(
            lambda: asyncio.gather(*[call(function, *args) for args in calls]), last
        )

    async def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        return await each_awaited(functools.partial(self.call, function), calls)

    async def service(self, clients: int, seconds: float, iterations: int) -> dict[str, Any]:
        return await serve(self.call, clients, seconds, iterations)

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def serve(
    call: Callable[..., Awaitable[Any]], clients: int, seconds: float, iterations: int
) -> dict[str, Any]:
    """Let so many clients ask one after the other, each for the next answer when it has the last.

    Returns the seconds of each answer, how long it all took, and how late a ticker was on the loop.
    """
    clock = time.perf_counter
    taken: list[float] = []
    late: list[float] = []
    start = clock()
    deadline = start + seconds

    async def client() -> None:
        while (asked := clock()) < deadline:
            await call(tasks.burn, iterations)
            taken.append(clock() - asked)

    async def tick() -> None:
        while True:
            due = clock() + TICK
            await asyncio.sleep(TICK)
            late.append(clock() - due)

    ticker = asyncio.ensure_future(tick())
    await asyncio.gather(*[client() for _ in range(clients)])
    whole = clock() - start
    ticker.cancel()
    return {"answers": taken, "late": late, "seconds": whole}


async def file_appears(path: str) -> None:
    """What `wait_for_file` is, without blocking."""
    async with asyncio.timeout(MARK_SECONDS):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240  # another process makes it
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.005)
