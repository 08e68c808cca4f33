"""pebble's ProcessPool, which goes on when a worker dies and kills one to cancel its task."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pebble

from benchmarks import tasks
from benchmarks.contestants.base import wait_for_file
from benchmarks.contestants.with_futures import FuturesContestant

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class Pebble(FuturesContestant):
    """Tasks are scheduled one by one."""

    broken = pebble.ProcessExpired

    def new_pool(self) -> pebble.ProcessPool:
        return pebble.ProcessPool(self.workers)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.pool.schedule(function, args=args)

    def replace_pool(self) -> None:
        """It has replaced the worker itself."""

    def version(self) -> str:
        return version("pebble")

    def close(self) -> None:
        self.pool.stop()
        self.pool.join()

    def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        del loops, force  # a kill is the only way it has
        path = self.fresh_path()
        future = self.submit(tasks.mark_and_sleep, path)
        following = self.submit(tasks.add_one, 1)
        wait_for_file(path)
        start = time.perf_counter()
        future.cancel()
        try:
            future.result()
        except CancelledError:
            seen = time.perf_counter() - start
        following.result()
        return {"seen": seen, "next": time.perf_counter() - start}
