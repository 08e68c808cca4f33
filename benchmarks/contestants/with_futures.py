"""Pools in the manner of concurrent.futures; here the one of the standard library.

`chain` and the second attempt of `crash` are what a user of such a pool writes by hand: wait and
submit the next one, make a new pool and submit again.
"""

from __future__ import annotations

import asyncio
import itertools
import platform
import time
from abc import abstractmethod
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.contestants.asynchronous import serve
from benchmarks.contestants.base import Library, each_of, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future


class FuturesContestant(Library):
    """A pool with `submit`."""

    broken: type[BaseException] = BrokenProcessPool

    def open(self) -> None:
        self.pool = self.new_pool()

    @abstractmethod
    def new_pool(self) -> Any:
        """A pool with that many workers."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.pool.submit(function, *args)

    def replace_pool(self) -> None:
        """A pool in which a worker has died is of no more use."""
        self.pool.shutdown(wait=False)
        self.pool = self.new_pool()

    def close(self) -> None:
        self.pool.shutdown()

    def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        submit = self.submit
        return seconds_of(
            lambda: [future.result() for future in [submit(function, *args) for args in calls]],
            last,
        )

    def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        return each_of(lambda *args: self.submit(function, *args).result(), calls)

    def service(self, clients: int, seconds: float, iterations: int) -> dict[str, Any]:
        def call(function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            return asyncio.wrap_future(self.submit(function, *args))

        return asyncio.run(serve(call, clients, seconds, iterations))

    def chain(self, length: int) -> float:
        start = time.perf_counter()
        value = 0
        for _ in range(length):
            value = self.submit(tasks.add_one, value).result()
        assert value == length
        return time.perf_counter() - start

    def crash(self) -> dict[str, float]:
        path = self.fresh_path()
        try:
            self.submit(tasks.die, path).result()
        except self.broken:
            noticed = time.monotonic() - tasks.time_of_death(path)
        self.replace_pool()
        self.submit(tasks.add_one, 1).result()
        path = self.fresh_path()
        try:
            self.submit(tasks.die_once, path).result()
        except self.broken:
            self.replace_pool()
            died = self.submit(tasks.die_once, path).result()
        return {"noticed": noticed, "retried": time.monotonic() - died}

    def enqueue(self, count: int) -> None:
        path = self.fresh_path()
        self.kept += [self.submit(tasks.hold, path) for _ in range(self.workers)]
        self.kept += [self.submit(tasks.add_one, i) for i in range(count)]
        time.sleep(0.5)

    def pass_directly(self, megabytes: int, count: int) -> float:
        array = tasks.ones(megabytes)
        return self.many(tasks.total, itertools.repeat((array,), count), array.size)

    def return_arrays(self, megabytes: int, count: int) -> float:
        start = time.perf_counter()
        futures = [self.submit(tasks.ones, megabytes) for _ in range(count)]
        ends = [tasks.sum_of_ends(future.result()) for future in futures]
        seconds = time.perf_counter() - start
        assert ends == [2] * count
        return seconds


class Stdlib(FuturesContestant):
    """ProcessPoolExecutor, with the start method that is its default."""

    def mapped(self, count: int, how: str, chunk: int) -> float:
        """Seconds for a map over so many integers."""
        assert how == "map"
        start = time.perf_counter()
        total = sum(self.pool.map(tasks.add_one, range(count), chunksize=chunk))
        seconds = time.perf_counter() - start
        assert total == count * (count + 1) // 2
        return seconds

    def new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers)

    def version(self) -> str:
        return platform.python_version()
