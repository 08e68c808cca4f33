"""mpire's WorkerPool, kept alive between maps, one task to a chunk: tasks that arrive singly."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mpire import WorkerPool

from benchmarks.contestants.base import Library, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Mpire(Library):
    """Blocks in `map`."""

    def open(self) -> None:
        self.pool = WorkerPool(n_jobs=self.workers, keep_alive=True)

    def version(self) -> str:
        return version("mpire")

    def close(self) -> None:
        self.pool.stop_and_join()

    def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        start = time.perf_counter()
        values = self.pool.map(function, list(calls), chunk_size=1, concatenate_numpy_output=False)
        seconds = time.perf_counter() - start
        checked(values, last)
        return seconds

    def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        taken = []
        clock = time.perf_counter
        for args in calls:
            start = clock()
            self.pool.apply(function, args)
            taken.append(clock() - start)
        return taken
