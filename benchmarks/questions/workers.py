"""Do more workers do more?

Fixed: 1 to 16 workers on whatever processors there are; no-op tasks at once; tasks that wait 5 ms
and use no processor, 40 for each worker, of which n workers can at best do 200 n a second.
Unit: tasks per second; the share of that best rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PEERS
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "workers"
WHO = ("aioray", "aioray sync", *PEERS, "ray")
NAP = 0.005  # seconds
NAPS = 40  # for each worker
FEWER_FOR_RAY = 5  # times


def run(bench: Bench) -> None:
    rates: dict[str, dict[float, list[float]]] = {}
    shares: dict[str, dict[float, list[float]]] = {}
    workers = 1
    while workers <= bench.scale.most_workers:
        naps = NAPS * workers

        def turn(runner: Runner, naps: int = naps) -> tuple[float, float]:
            few = bench.scale.tasks // (FEWER_FOR_RAY if runner.name == "ray" else 1)
            rate = few / runner.ask("batch", count=few)
            best = NAPS * NAP
            return rate, 100 * best / runner.ask("naps", count=naps, seconds=NAP)

        taken = bench.runners.rounds(
            bench.scale.peer_rounds, same_turn(WHO, turn), workers=workers, fewer=bench.fewer
        )
        for name, pairs in taken.items():
            rates.setdefault(name, {})[workers] = [rate for rate, _ in pairs]
            shares.setdefault(name, {})[workers] = [share for _, share in pairs]
        workers *= 2
    bench.table.add_curves(NAME, "no-op tasks at once", "workers", "tasks/s", rates)
    bench.table.add_curves(NAME, "tasks that wait 5 ms", "workers", "% of the ideal", shares)
