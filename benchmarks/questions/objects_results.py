"""How long does it take to have large arrays made and to hold all of them?

Fixed: 2 workers; 10 tasks at once, each of which returns a new `numpy.ones` of 100 MB. The driver
fetches all arrays, then reads the first and the last float of each, nothing between; it holds all
of them at the end. The clock runs from the first call to the last read. In the floor two processes
make the arrays and copy them into warm shared memory, where the driver reads the same floats.
Unit: seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .large_values import COPYING, OWN, at_most_times, rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "objects_results"


def run(bench: Bench) -> None:
    megabytes, count = bench.scale.megabytes, bench.scale.arrays

    def turn(runner: Runner) -> float:
        seconds: float = runner.ask("return_arrays", megabytes=megabytes, count=count)
        return seconds

    seconds = rounds(bench, ("floor", *OWN, *COPYING, "ray"), turn)
    aims = {name: at_most_times(seconds, name, "floor", 1.1) for name in OWN}
    bench.table.add(NAME, f"{count} results of {megabytes} MB", "s", seconds, aims)
