"""How much of two processors do tasks of 1 ms get?

Fixed: 2 workers; every task does the same amount of work, which takes 1 ms of CPU at best when the
question is asked. The ideal is the same work, shared evenly by two plain processes that do nothing
else, measured in the same round. Efficiency is ideal time / time taken. The driver needs processor
time too, so on two processors nobody can reach 100 %.
Unit: per cent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PEERS
from benchmarks.report import at_least, median_of
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "efficiency"
TASK_MILLISECONDS = 1.0


def run(bench: Bench) -> None:
    count = bench.scale.burns
    floor = bench.runners.get("floor")
    assert floor is not None, "it needs the standard library only"
    iterations = floor.ask("calibrate", milliseconds=TASK_MILLISECONDS)

    def turn(runner: Runner) -> float:
        seconds: float = runner.ask("burns", count=count, iterations=iterations)
        return seconds

    seconds = bench.runners.rounds(
        bench.scale.rounds,
        same_turn(("floor", "aioray", "aioray sync", *PEERS, "ray"), turn),
        fewer=bench.fewer,
    )
    ideal = seconds.pop("floor")
    efficiency = {
        name: [100 * best / own for best, own in zip(ideal, taken, strict=False)]
        for name, taken in seconds.items()
    }
    aims = {"aioray": [at_least(median_of(efficiency, "aioray"), 88)]}
    bench.table.add(NAME, "ideal, measured in the same rounds", "s", {"two processes": ideal})
    bench.table.add(NAME, f"{count:,} tasks of 1 ms CPU, 2 workers", "%", efficiency, aims)
