"""joblib's `Parallel`, with its own backend (loky), and with that of aioray."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import joblib

from benchmarks import tasks
from benchmarks.contestants.base import Library, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Joblib(Library):
    """One `Parallel`, which is kept open, so that its workers are."""

    backend = "loky"

    def open(self) -> None:
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(joblib.parallel_config(self.backend, n_jobs=self.workers))
        self.parallel = self._stack.enter_context(joblib.Parallel())

    def version(self) -> str:
        version: str = joblib.__version__
        return version

    def close(self) -> None:
        self._stack.close()

    def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        delayed = joblib.delayed(function)
        return seconds_of(lambda: self.parallel(delayed(*args) for args in calls), last)

    def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        return [self.many(function, [args]) for args in calls]

    def grid_search(self, rows: int, features: int, penalties: int, folds: int) -> float:
        """Fit a linear model for each penalty and each part of the data that is left out."""
        data, target = tasks.regression(rows, features)
        candidates = [
            (data, target, fold, folds, 10.0**power)
            for power in range(penalties)
            for fold in range(folds)
        ]
        return self.many(tasks.fit_and_score, candidates)


class AiorayJoblib(Joblib):
    """The same through `register_ray`."""

    backend = "ray"

    def open(self) -> None:
        import aioray
        from aioray.util.joblib import register_ray

        aioray.init(num_cpus=self.workers, log_to_driver=False)
        self._stack = contextlib.ExitStack()
        self._stack.callback(aioray.shutdown)
        register_ray()
        self._stack.enter_context(joblib.parallel_config(self.backend, n_jobs=self.workers))
        self.parallel = self._stack.enter_context(joblib.Parallel())
