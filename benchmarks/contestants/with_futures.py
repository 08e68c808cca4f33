"""Pools in the manner of concurrent.futures; here the one of the standard library.

`chain` and the second attempt of `crash` are what a user of such a pool writes by hand: wait and
submit the next one, make a new pool and submit again.
"""

from __future__ import annotations

import platform
import time
from abc import abstractmethod
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.contestants.base import Contestant

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class FuturesContestant(Contestant):
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

    def batch(self, count: int) -> float:
        start = time.perf_counter()
        futures = [self.submit(tasks.add_one, i) for i in range(count)]
        values = [future.result() for future in futures]
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    def payload(self, count: int) -> float:
        record = tasks.record_of_1kb()
        start = time.perf_counter()
        for future in [self.submit(tasks.hundred_ints, record) for _ in range(count)]:
            future.result()
        return time.perf_counter() - start

    def round_trips(self, count: int) -> list[float]:
        taken = []
        clock = time.perf_counter
        for i in range(count):
            start = clock()
            self.submit(tasks.add_one, i).result()
            taken.append(clock() - start)
        return taken

    def burns(self, count: int, iterations: int) -> float:
        start = time.perf_counter()
        futures = [self.submit(tasks.burn_and_return, iterations, i) for i in range(count)]
        for future in futures:
            future.result()
        return time.perf_counter() - start

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
        start = time.perf_counter()
        futures = [self.submit(tasks.total, array) for _ in range(count)]
        totals = [future.result() for future in futures]
        seconds = time.perf_counter() - start
        assert totals == [array.size] * count
        return seconds

    def return_arrays(self, megabytes: int, count: int) -> float:
        start = time.perf_counter()
        futures = [self.submit(tasks.ones, megabytes) for _ in range(count)]
        ends = [tasks.sum_of_ends(future.result()) for future in futures]
        seconds = time.perf_counter() - start
        assert ends == [2] * count
        return seconds


class Stdlib(FuturesContestant):
    """ProcessPoolExecutor, with the start method that is its default."""

    def new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers)

    def version(self) -> str:
        return platform.python_version()
