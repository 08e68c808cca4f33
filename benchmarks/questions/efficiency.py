"""How much of two processors do tasks get, by their length?

Fixed: 2 workers; every task does the same amount of work, which takes from 0.1 to 100 ms of CPU at
best when the question is asked; as many at once as make 1 s for each processor. The ideal is the
same work, shared evenly by two plain processes that do nothing else, measured in the same round.
The share is ideal time / time taken. The driver needs processor time too, so where there are two
processors nobody can reach 100 % with short tasks.
Unit: per cent.
"""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING

from benchmarks.contestants import BATCHING, PEERS
from benchmarks.report import at_least, times_the_best
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.bench import Bench
    from benchmarks.report import Aim
    from benchmarks.runner import Runner

NAME = "efficiency"
OWN = ("aioray", "aioray sync")
LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 5.0, 10.0, 30.0, 100.0)  # milliseconds
AIM_SHARE, AIM_FROM = 95, 1.0  # per cent, milliseconds


def run(bench: Bench) -> None:
    work = {
        length: (
            max(4, 2 * round(1000 * bench.scale.burn_seconds / length)),
            bench.iterations(length),
        )
        for length in LENGTHS
    }
    due: dict[str, Iterator[float]] = {}

    def turn(runner: Runner) -> float:
        """The next length, so that all contestants have their turns at it one after the other."""
        count, iterations = work[next(due.setdefault(runner.name, itertools.cycle(LENGTHS)))]
        seconds: float = runner.ask("burns", count=count, iterations=iterations)
        return seconds

    taken = bench.runners.rounds(
        bench.scale.rounds * len(LENGTHS),
        same_turn(("floor", *OWN, *PEERS, BATCHING, "ray"), turn),
        fewer={name: rounds * len(LENGTHS) for name, rounds in bench.fewer.items()},
    )
    ideal = taken.pop("floor")
    shares = {
        name: [100 * best / own for best, own in zip(ideal, seconds, strict=False)]
        for name, seconds in taken.items()
    }
    curves: dict[str, dict[float, list[float]]] = {name: {} for name in shares}
    for index, length in enumerate(LENGTHS):
        samples = {
            name: found
            for name, all_of_it in shares.items()
            if (found := all_of_it[index :: len(LENGTHS)])
        }
        for name, found in samples.items():
            curves[name][length] = found
        aims: dict[str, list[Aim]] = {}
        for name in OWN:
            aims[name] = times_the_best(samples, name, PEERS, 1, more_is_better=True)
            if name in samples and length >= AIM_FROM:
                aims[name].append(at_least(statistics.median(samples[name]), AIM_SHARE))
        what = f"{work[length][0]:,} tasks of {length:g} ms CPU, 2 workers"
        bench.table.add(NAME, what, "%", samples, aims, more_is_better=True)
    bench.table.add_curves(
        NAME, "share of the ideal, 2 workers", "ms of CPU of a task", "%", curves
    )
