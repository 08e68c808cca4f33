"""How soon is a lost result there again?

Fixed: 2 idle workers; results are thrown away by `aioray.testing.lose`; the clock runs from then
to the value in the caller's hands. One result: an array of 1 MB that a task makes. A chain: 100
arrays of 200 kB, each made from the one before by a task of its own, all of them lost; the last is
asked for. aioray alone, because no other has a way to lose one value.
Unit: milliseconds, seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .large_values import OWN, rounds

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "objects_recovery"


def run(bench: Bench) -> None:
    length = bench.scale.lost_chain

    def one(runner: Runner) -> float:
        taken = [1000 * runner.ask("recover") for _ in range(bench.scale.incidents)]
        return sorted(taken)[len(taken) // 2]

    def chain(runner: Runner) -> float:
        seconds: float = runner.ask("recover_chain", length=length)
        return seconds

    bench.table.add(NAME, "a lost result of 1 MB", "ms", rounds(bench, OWN, one))
    what = f"a chain of {length} lost results of 200 kB"
    bench.table.add(NAME, what, "s", rounds(bench, OWN, chain))
