"""aiomultiprocess: coroutine functions in worker processes, so the tasks are wrapped into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiomultiprocess

from benchmarks.contestants.asynchronous import AsyncContestant
from benchmarks.contestants.base import awaited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


async def run(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


class Aiomultiprocess(AsyncContestant):
    """A Pool with its default settings."""

    async def open(self) -> None:
        self.pool = aiomultiprocess.Pool(processes=self.workers)

    def version(self) -> str:
        return aiomultiprocess.__version__

    async def close(self) -> None:
        self.pool.terminate()
        await self.pool.join()

    def call(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return self.pool.apply(run, (function, *args))

    async def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        return await awaited(
            lambda: self.pool.starmap(run, [(function, *args) for args in calls]), last
        )
