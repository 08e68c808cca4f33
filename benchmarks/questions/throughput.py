"""How many small tasks per second, when many are submitted at once?

Fixed: 2 workers; every task submitted before the first result is waited for; one call per task, no
chunks made by the caller; the clock runs from the first submission to the last result in hand.
Three measures: `f(i) -> i + 1`; the same with ten times as many queued, as the ratio of the two
rates (1.0: the cost of a task does not depend on how many wait); a dict of 1 kB in and a list of
100 ints out. "aioray" is `asyncio.gather(*[ref.as_future() ...])` on uvloop, "gather(refs)"
`asyncio.gather(*refs)` there, "std loop" the former on asyncio's own loop, "sync"
`aioray.get(list)` in a plain script. The floor is pickle and a socket pair with 32 tasks to a
message and no engine.
Unit: tasks per second.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.contestants import PEERS
from benchmarks.report import Aim, at_least, median_of
from benchmarks.runner import OWN, same_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "throughput"
SLOW_SHARE = 5  # Ray gets so many times fewer tasks: their rate does not depend on it


def run(bench: Bench) -> None:
    _no_op(bench)
    if bench.scale.backlog:
        _backlog(bench)
    _payload(bench)


def _no_op(bench: Bench) -> None:
    count = bench.scale.tasks

    def turn(runner: Runner) -> float:
        return count / runner.ask("batch", count=count)

    def slow_turn(runner: Runner) -> float:
        return count / SLOW_SHARE / runner.ask("batch", count=count // SLOW_SHARE)

    rates = bench.runners.rounds(
        bench.scale.rounds,
        {**same_turn(("floor", *OWN, *PEERS), turn), "ray": slow_turn},
        fewer=bench.fewer,
    )
    aims: dict[str, list[Aim]] = {}
    if own := rates.get("aioray"):
        aims["aioray"] = [at_least(statistics.median(own), 50_000)]
        if peers := [name for name in PEERS if name in rates]:
            best = max(peers, key=lambda name: statistics.median(rates[name]))
            aims[best] = [_times_faster(own, rates[best], 5, "best peer")]
        if "ray" in rates:
            aims["ray"] = [_times_faster(own, rates["ray"], 50, "Ray")]
    bench.table.add(NAME, f"{count:,} no-op tasks at once, 2 workers", "tasks/s", rates, aims)


def _times_faster(own: Sequence[float], others: Sequence[float], aim: float, whom: str) -> Aim:
    times = statistics.median(a / b for a, b in zip(own, others, strict=False))
    return at_least(times, aim, f"aioray >= {aim:g} x {whom}, is {times:.1f} x")


def _backlog(bench: Bench) -> None:
    few, many = bench.scale.tasks, bench.scale.backlog

    def turn(runner: Runner) -> float:
        cost_of_few = runner.ask("batch", count=few) / few
        return cost_of_few / (runner.ask("batch", count=many) / many)

    ratios = bench.runners.rounds(
        bench.scale.backlog_rounds,
        same_turn(("aioray", "aioray sync", "ProcessPoolExecutor"), turn),
        fewer={"ProcessPoolExecutor": 1},
    )
    aims = {"aioray": [at_least(median_of(ratios, "aioray"), 1.0)]}
    bench.table.add(NAME, f"rate with {many:,} queued / rate with {few:,}", "ratio", ratios, aims)


def _payload(bench: Bench) -> None:
    count = bench.scale.payloads

    def turn(runner: Runner) -> float:
        return count / runner.ask("payload", count=count)

    def slow_turn(runner: Runner) -> float:
        return count / SLOW_SHARE / runner.ask("payload", count=count // SLOW_SHARE)

    rates = bench.runners.rounds(
        bench.scale.rounds,
        {**same_turn((*OWN, *PEERS), turn), "ray": slow_turn},
        fewer=bench.fewer,
    )
    aims = {"aioray": [at_least(median_of(rates, "aioray"), 30_000)]}
    bench.table.add(NAME, "1 kB dict in, 100 ints out", "tasks/s", rates, aims)
