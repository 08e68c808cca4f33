"""What does each of many arrays of middle size cost?

Fixed: 2 workers; arrays of 200 kB, 5,000 of them, 1 GB, all kept until the end of a turn. Put and
get: in the driver, one array after the other, and one float of each is checked. Results: each is
made by a task, all tasks at once, got in one list. The floor is memcpy of the same bytes into warm
shared memory by one process, in both cases.
Unit: microseconds per array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import aims_for, at_most

from .large_values import OWN, rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "objects_many"
AIM_PUT_AND_GET = 60  # us


def run(bench: Bench) -> None:
    count = bench.scale.blocks
    for operation, what in (
        ("put_and_get_many", "put and get of 200 kB"),
        ("return_many", "results of 200 kB"),
    ):

        def turn(runner: Runner, operation: str = operation) -> float:
            return 1e6 * runner.ask(operation, count=count) / count

        samples = rounds(bench, ("floor", *OWN, "ray"), turn)
        shown = {"memcpy" if name == "floor" else name: s for name, s in samples.items()}
        aims = {}
        if operation == "put_and_get_many":
            aims = aims_for(shown, dict.fromkeys(OWN, AIM_PUT_AND_GET), at_most)
        bench.table.add(NAME, f"{count:,} x {what}", "us", shown, aims)
