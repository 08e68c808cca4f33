"""How long do tasks take that all read one large array?

Fixed: 2 workers; float64 values, 100 MB of them; 10 tasks, each of which returns the sum, all at
once. Put once: the array is put, and the tasks get the ref. Passed directly: each task gets the
array itself, as it is at the call, so there are 10 copies. The clock runs from the first copy to
the last sum. The floor copies as often, into warm shared memory that two processes have mapped, and
these do the sums. Processor time for the sums is in all figures.
Unit: seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .large_values import COPYING, OWN, at_most_times, rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "objects_put_once"


def run(bench: Bench) -> None:
    megabytes, count = bench.scale.megabytes, bench.scale.arrays
    for operation, how, names in (
        ("share", f"put once, passed to {count} tasks", ("floor", *OWN, "ray")),
        ("pass_directly", f"passed directly to {count} tasks", ("floor", *OWN, *COPYING, "ray")),
    ):

        def turn(runner: Runner, operation: str = operation) -> float:
            seconds: float = runner.ask(operation, megabytes=megabytes, count=count)
            return seconds

        seconds = rounds(bench, names, turn)
        aims = {
            name: at_most_times(seconds, name, "ray", 1.0)
            + at_most_times(seconds, name, "floor", 1.3)
            for name in OWN
        }
        bench.table.add(NAME, f"{megabytes} MB {how} that sum it", "s", seconds, aims)
