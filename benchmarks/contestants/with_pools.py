"""Pools with the API of `multiprocessing.Pool`: that of the standard library, and aioray's."""

from __future__ import annotations

import platform
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.contestants.base import Library, each_of, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class PoolContestant(Library):
    """Tasks that arrive singly are `apply_async`; maps are the pool's own."""

    def open(self) -> None:
        self.pool = self.new_pool()

    @abstractmethod
    def new_pool(self) -> Any:
        """A pool with that many workers."""

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()

    def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        submit = self.pool.apply_async
        return seconds_of(
            lambda: [result.get() for result in [submit(function, args) for args in calls]], last
        )

    def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        return each_of(lambda *args: self.pool.apply(function, args), calls)

    def mapped(self, count: int, how: str, chunk: int | None) -> float:
        """Seconds for a map over so many integers: `map`, `imap` or `imap_unordered`."""
        size = () if chunk is None else (chunk,)
        start = time.perf_counter()
        total = sum(getattr(self.pool, how)(tasks.add_one, range(count), *size))
        seconds = time.perf_counter() - start
        assert total == count * (count + 1) // 2
        return seconds


class Stdlib(PoolContestant):
    """`multiprocessing.Pool`, with the start method that is its default."""

    def new_pool(self) -> Any:
        import multiprocessing

        return multiprocessing.Pool(self.workers)

    def version(self) -> str:
        return platform.python_version()


class AiorayPool(PoolContestant):
    """`aioray.util.multiprocessing.Pool`."""

    def new_pool(self) -> Any:
        from aioray.util.multiprocessing import Pool

        return Pool(self.workers)

    def version(self) -> str:
        import aioray

        return aioray.__version__
