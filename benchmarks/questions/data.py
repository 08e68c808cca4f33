"""How long does ordinary work with numpy and pandas take?

Fixed: 2 workers. Arrays: 20 tasks get the same array of 8 MB, as an argument, and each returns a
new one; all results are held at the end. Groups: a table of pandas is split in the driver, and each
of 50 groups is described by a task that returns a small table. One round before the first does not
count: after it workers have loaded what they need.
Unit: milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import BATCHING, PEERS
from benchmarks.report import times_the_best

from .large_values import OWN, rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "data"
MEGABYTES = 8
GROUPS = 50


def run(bench: Bench) -> None:
    count = 2 * bench.scale.arrays

    def arrays(runner: Runner) -> float:
        return 1e3 * runner.ask("arrays_in_and_out", megabytes=MEGABYTES, count=count)

    def groups(runner: Runner) -> float:
        return 1e3 * runner.ask("groups", rows=bench.scale.frame, count=GROUPS)

    for what, turn, module in (
        (f"{count} arrays of {MEGABYTES} MB in and out", arrays, "numpy"),
        (f"pandas: {GROUPS} groups of {bench.scale.frame:,} rows", groups, "pandas"),
    ):
        samples = rounds(bench, (*OWN, *PEERS, BATCHING, "ray"), turn, module)
        aims = {
            name: times_the_best(samples, name, (*PEERS, BATCHING), 1, more_is_better=False)
            for name in OWN
        }
        bench.table.add(NAME, what, "ms", samples, aims)
