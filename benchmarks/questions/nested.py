"""How fast are tasks that use tasks, and streams?

Fixed: 2 workers. `tree`: one task that submits many no-op tasks and gets them all; seconds until
the driver has the sum. `stream`: a generator task whose items the driver reads and gets one by one.
Unit: seconds; items a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import at_most, median_of
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "nested"
WHO = ("aioray", "aioray sync", "ray")
AIM_SECONDS = 0.1  # for 1,000 leaves; fewer are no slower


def run(bench: Bench) -> None:
    count = bench.scale.leaves
    few = {"ray": bench.scale.slow_rounds}

    def tree(runner: Runner) -> float:
        seconds: float = runner.ask("tree", leaves=count)
        return seconds

    seconds = bench.runners.rounds(bench.scale.rounds, same_turn(WHO, tree), fewer=few)
    aims = {
        name: [at_most(median_of(seconds, name), AIM_SECONDS)]
        for name in ("aioray", "aioray sync")
        if name in seconds
    }
    bench.table.add(NAME, f"a task that submits and gets {count:,} others", "s", seconds, aims)

    def stream(runner: Runner) -> float:
        rate: float = runner.ask("stream", items=count)
        return rate

    rates = bench.runners.rounds(bench.scale.rounds, same_turn(WHO, stream), fewer=few)
    bench.table.add(NAME, f"a stream of {count:,} items, read one by one", "items/s", rates)
