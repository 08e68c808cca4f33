"""mpire's WorkerPool, kept alive between maps, one task to a chunk: tasks that arrive singly."""

from __future__ import annotations

import time
from importlib.metadata import version

from mpire import WorkerPool

from benchmarks import tasks
from benchmarks.contestants.base import Contestant


class Mpire(Contestant):
    """Blocks in `map`."""

    def open(self) -> None:
        self.pool = WorkerPool(n_jobs=self.workers, keep_alive=True)

    def version(self) -> str:
        return version("mpire")

    def close(self) -> None:
        self.pool.stop_and_join()

    def batch(self, count: int) -> float:
        start = time.perf_counter()
        values = self.pool.map(tasks.add_one, range(count), chunk_size=1)
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    def payload(self, count: int) -> float:
        # A dict would be unpacked into keywords; the tuple around it is unpacked instead.
        record = tasks.record_of_1kb()
        start = time.perf_counter()
        self.pool.map(tasks.hundred_ints, [(record,)] * count, chunk_size=1)
        return time.perf_counter() - start

    def round_trips(self, count: int) -> list[float]:
        taken = []
        clock = time.perf_counter
        for i in range(count):
            start = clock()
            self.pool.apply(tasks.add_one, i)
            taken.append(clock() - start)
        return taken

    def burns(self, count: int, iterations: int) -> float:
        start = time.perf_counter()
        self.pool.map(tasks.burn_and_return, [(iterations, i) for i in range(count)], chunk_size=1)
        return time.perf_counter() - start
