"""mpire's WorkerPool, kept alive between maps, one task to a chunk: tasks that arrive singly."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mpire import WorkerPool

from benchmarks.contestants.base import Library, each_of, seconds_of

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
        return seconds_of(
            lambda: self.pool.map(
                function, list(calls), chunk_size=1, concatenate_numpy_output=False
            ),
            last,
        )

    def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        return each_of(lambda *args: self.pool.apply(function, args), calls)
