"""What does it cost to get a value that is there?

Fixed: the value was got once before; then it is got again many times, nothing else to do. Small: an
integer that a task has returned. Large: an array of 100 MB that was put; each get gives a new array
over the same memory, which is not read, and which is dropped before the next. "aioray" is
`await ref`, "sync" `aioray.get(ref)`. One sample is the mean of one round.
Unit: microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .large_values import OWN, rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "objects_get"


def run(bench: Bench) -> None:
    megabytes, count = bench.scale.megabytes, bench.scale.gets

    def small(runner: Runner) -> float:
        return 1e6 * runner.ask("get_small", count=count)

    def large(runner: Runner) -> float:
        return 1e6 * runner.ask("get_large", megabytes=megabytes, count=count // 10)

    for what, turn in (("integer", small), (f"array of {megabytes} MB", large)):
        bench.table.add(NAME, f"an {what} again", "us", rounds(bench, (*OWN, "ray"), turn))
