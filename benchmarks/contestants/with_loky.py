"""loky's executor, with the start method that is its default."""

from __future__ import annotations

import loky
from loky.process_executor import TerminatedWorkerError

from benchmarks.contestants.with_futures import FuturesContestant


class Loky(FuturesContestant):
    """Not the reusable one: that is the same with a registry before it."""

    broken = TerminatedWorkerError

    def new_pool(self) -> loky.ProcessPoolExecutor:
        return loky.ProcessPoolExecutor(self.workers, timeout=None)

    def version(self) -> str:
        return loky.__version__
