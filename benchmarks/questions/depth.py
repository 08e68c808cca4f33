"""Does a task cost more when many wait?

Fixed: 2 workers; `f(i) -> i + 1`, from 1 to 1,000,000 of them submitted before the first result is
waited for; the clock runs from the first submission to the last result in hand. A contestant stops
where the next depth would take it more than a minute (`curve_seconds`). The share is the rate at
the greatest depth to that at 10,000, or at the depth before the last, in the same turn.
Unit: tasks per second; the share of one rate in the other.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.contestants import BATCHING, PEERS
from benchmarks.report import at_least

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "depth"
OWN = ("aioray", "aioray sync")
USUAL = 10_000
AIM_SHARE = 0.95


def run(bench: Bench) -> None:
    deepest = bench.scale.deepest
    depths = [10**power for power in range(10) if 10**power <= deepest]
    usual = USUAL if deepest > USUAL else depths[-2]

    def rate(runner: Runner, depth: int) -> float:
        # A single task's time is the noise of the machine: the median of some.
        taken = [runner.ask("batch", count=depth) for _ in range(max(1, 10 // depth))]
        return depth / statistics.median(taken)

    rates = bench.along(
        ("floor", *OWN, *PEERS, BATCHING, "ray"), depths, rate, is_proportional=True
    )
    bench.table.add_curves(NAME, "no-op tasks at once, 2 workers", "tasks queued", "tasks/s", rates)
    shares = {
        name: [
            deep / shallow for deep, shallow in zip(points[deepest], points[usual], strict=False)
        ]
        for name, points in rates.items()
        if points.get(deepest)
    }
    aims = {
        name: [at_least(statistics.median(s), AIM_SHARE)]
        for name, s in shares.items()
        if name in OWN
    }
    what = f"rate with {deepest:,} queued / rate with {usual:,}"
    bench.table.add(NAME, what, "share", shares, aims, more_is_better=True)
