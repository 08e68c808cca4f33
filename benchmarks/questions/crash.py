"""How soon does the caller know that a worker has died, and how soon is the task done nevertheless?

Fixed: 1 worker, so the second attempt needs a new process; the task writes down the time and calls
`os._exit`. Noticed: from then to the error in the caller's hands, without retries. Retried: from
then to the result of the second attempt. aioray and Ray retry by themselves; with the others the
caller submits again, after making a new pool where the old one is broken. The first death is the
first incident of a fresh session, retried.
Unit: milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import aims_for, at_most, median_of
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "crash"
BY_HAND = ("ProcessPoolExecutor", "pebble", "loky", "anyio")


def run(bench: Bench) -> None:
    def turn(runner: Runner) -> dict[str, float]:
        seconds: dict[str, float] = runner.ask("crash")
        return seconds

    def first(runner: Runner) -> float:
        return 1000 * runner.ask("first_crash")

    taken = bench.runners.rounds(
        bench.scale.incidents,
        same_turn(("aioray", *BY_HAND, "ray"), turn),
        workers=1,
        fewer={"ray": 2 * bench.scale.slow_rounds},
    )
    for measure, key, aim in (
        ("worker dies -> error seen", "noticed", 2),
        ("worker dies -> result of the next attempt", "retried", 10),
    ):
        samples = {
            f"{name} (by hand)" if name in BY_HAND and key == "retried" else name: [
                1000 * one[key] for one in all_of_it
            ]
            for name, all_of_it in taken.items()
        }
        aims = {"aioray": [at_most(median_of(samples, "aioray"), aim)]}
        bench.table.add(NAME, measure, "ms", samples, aims)
    firsts: dict[str, list[float]] = {}
    for _ in range(bench.scale.starts):
        taken = bench.runners.rounds(1, same_turn(("aioray", "aioray sync"), first), workers=1)
        for name, (milliseconds,) in taken.items():
            firsts.setdefault(name, []).append(milliseconds)
    aims = aims_for(firsts, dict.fromkeys(firsts, 10), at_most)
    what = "first death in a session -> result of the next attempt"
    bench.table.add(NAME, what, "ms", firsts, aims)
