"""What does a task cost whose argument is large?

Fixed: 2 workers; numpy arrays of bytes, from none to 1 GB, the same one given to each task, which
returns its size; for sizes up to 10 kB many tasks at once, then fewer, as many as make 100 MB, and
one of 1 GB. One sample is the time of all tasks by their number. Nothing is changed in between,
but none of the libraries knows. A round before the first does not count.
Unit: microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import BATCHING, PEERS

from .large_values import OWN, those_with_numpy

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "payload"
BYTES_AT_ONCE = 100_000_000


def run(bench: Bench) -> None:
    sizes = [0, *(10**power for power in range(2, 10) if 10**power <= bench.scale.largest)]

    def cost(runner: Runner, size: int) -> float:
        count = max(1, min(bench.scale.payloads, BYTES_AT_ONCE // max(size, 10_000)))
        if not size:
            runner.ask("blobs", size=0, count=count)  # its workers load numpy
        return 1e6 * runner.ask("blobs", size=size, count=count) / count

    names = those_with_numpy(bench, (*OWN, *PEERS, BATCHING, "ray"))
    costs = bench.along(names, sizes, cost)
    bench.table.add_curves(NAME, "a task with an array", "bytes of its argument", "us", costs)
