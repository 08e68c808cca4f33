"""What are the rows of Ray's own microbenchmark here?

Fixed: 2 workers; the rows of `ray microbenchmark` by their names there, each written anew for both
libraries alike (`benchmarks.contestants.micro`), blocking. Whoever submits beside others is a task,
two of them; there are two actors where there are n. A row is repeated for half a second.
Unit: times a second, or gigabytes a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants.micro import ROWS
from benchmarks.report import times_the_best

from .large_values import those_with_numpy

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "microbenchmark"
OWN, PEER = "aioray sync", "ray"


def run(bench: Bench) -> None:
    sizes = {
        "seconds": bench.scale.micro_seconds,
        "size": bench.scale.micro_size,
        "megabytes": bench.scale.megabytes,
    }

    def turn(runner: Runner) -> dict[str, float]:
        return {row: runner.ask("microbenchmark", row=row, **sizes) for row in ROWS}

    taken = bench.runners.rounds(
        bench.scale.peer_rounds,
        dict.fromkeys(those_with_numpy(bench, (OWN, PEER)), turn),
        fewer={PEER: bench.scale.slow_rounds},
    )
    for row in ROWS:
        rates = {name: [one[row] for one in some] for name, some in taken.items()}
        unit = "GB/s" if row.endswith("gigabytes") else "1/s"
        aims = {OWN: times_the_best(rates, OWN, (PEER,), 1, more_is_better=True)}
        bench.table.add(NAME, row, unit, rates, aims, reference=OWN)
