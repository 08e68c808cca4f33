"""How many small tasks per second, when many are submitted at once?

Fixed: 2 workers; every task submitted before the first result is waited for; one call per task, no
chunks made by the caller; the clock runs from the first submission to the last result in hand.
Two measures: `f(i) -> i + 1`; a dict of 1 kB in and a list of 100 ints out. "aioray" is
`asyncio.gather(*[ref.as_future() ...])` on uvloop, "gather(refs)" `asyncio.gather(*refs)` there,
"std loop" the former on asyncio's own loop, "sync" `aioray.get(list)` in a plain script. The floor
is pickle and a socket pair with 32 tasks to a message and no engine.
Unit: tasks per second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import BATCHING, PEERS
from benchmarks.report import Aim, at_least, median_of, times_the_best
from benchmarks.runner import OWN, same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "throughput"
AIM_PEERS, AIM_RAY = 5, 50  # times the rate of the best of them
SLOW_SHARE = 5  # Ray gets so many times fewer tasks: their rate does not depend on it


def run(bench: Bench) -> None:
    _no_op(bench)
    _payload(bench)


def _no_op(bench: Bench) -> None:
    count = bench.scale.tasks

    def turn(runner: Runner) -> float:
        return count / runner.ask("batch", count=count)

    def slow_turn(runner: Runner) -> float:
        return count / SLOW_SHARE / runner.ask("batch", count=count // SLOW_SHARE)

    rates = bench.runners.rounds(
        bench.scale.rounds,
        {**same_turn(("floor", *OWN, *PEERS, BATCHING), turn), "ray": slow_turn},
        fewer=bench.fewer,
    )
    aims: dict[str, list[Aim]] = {}
    for name in ("aioray", "aioray sync"):
        aims[name] = [
            *times_the_best(rates, name, PEERS, AIM_PEERS, more_is_better=True),
            *times_the_best(rates, name, ("ray",), AIM_RAY, more_is_better=True),
        ]
    bench.table.add(NAME, f"{count:,} no-op tasks at once, 2 workers", "tasks/s", rates, aims)


def _payload(bench: Bench) -> None:
    count = bench.scale.payloads

    def turn(runner: Runner) -> float:
        return count / runner.ask("payload", count=count)

    def slow_turn(runner: Runner) -> float:
        return count / SLOW_SHARE / runner.ask("payload", count=count // SLOW_SHARE)

    rates = bench.runners.rounds(
        bench.scale.rounds,
        {**same_turn((*OWN, *PEERS, BATCHING), turn), "ray": slow_turn},
        fewer=bench.fewer,
    )
    aims = {"aioray": [at_least(median_of(rates, "aioray"), 30_000)]}
    bench.table.add(NAME, "1 kB dict in, 100 ints out", "tasks/s", rates, aims)
