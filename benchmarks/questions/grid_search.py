"""How long does a grid search take under joblib?

Fixed: 2 workers; `Parallel(n_jobs=2)`, kept open, over linear models for 10 penalties and 5 parts
of the data that are left out in turn, which numpy fits; the data of 20 features is an argument of
each of the 50 calls. A round before the first does not count. loky is joblib's own backend.
Unit: milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import times_the_best

from .large_values import rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "grid_search"
OWN, PEER = "aioray joblib", "joblib"
FEATURES, PENALTIES, FOLDS = 20, 10, 5


def run(bench: Bench) -> None:
    def turn(runner: Runner) -> float:
        return 1e3 * runner.ask(
            "grid_search",
            rows=bench.scale.search,
            features=FEATURES,
            penalties=PENALTIES,
            folds=FOLDS,
        )

    samples = rounds(bench, (OWN, PEER), turn)
    aims = {OWN: times_the_best(samples, OWN, (PEER,), 1, more_is_better=False)}
    what = f"{PENALTIES * FOLDS} fits of {bench.scale.search:,} rows"
    bench.table.add(NAME, what, "ms", samples, aims, reference=OWN)
