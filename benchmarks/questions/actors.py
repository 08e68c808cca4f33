"""How fast are the calls of one actor?

Fixed: one synchronous actor, `m(i) -> i + 1`. `calls`: many at once, then all values. `round trip`:
the next call when the last value is there; one sample is the median of one round, and the floor is
that of the question round_trip, in the same round.
Unit: calls a second; microseconds.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.report import Aim, at_least, at_most, median_of, paired_ratio
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "actors"
FLOOR = "floor"
WHO = ("aioray", "aioray sync", "ray")
AIM_CALLS = 40_000  # a second
AIM_RATIO = 1.5  # to the floor


def run(bench: Bench) -> None:
    count = bench.scale.tasks
    few = {"ray": bench.scale.slow_rounds}

    def calls(runner: Runner) -> float:
        seconds: float = runner.ask("actor_calls", count=count)
        return count / seconds

    rates = bench.runners.rounds(bench.scale.rounds, same_turn(WHO, calls), fewer=few)
    aims: dict[str, list[Aim]] = {
        name: [at_least(median_of(rates, name), AIM_CALLS)] for name in WHO[:2] if name in rates
    }
    bench.table.add(NAME, f"{count:,} calls of one actor at once", "calls/s", rates, aims)

    def round_trip(runner: Runner) -> float:
        question = "round_trips" if runner.name == FLOOR else "actor_round_trips"
        taken: list[float] = runner.ask(question, count=bench.scale.round_trips)
        return 1e6 * statistics.median(taken)

    times = bench.runners.rounds(
        bench.scale.rounds, same_turn((FLOOR, *WHO), round_trip), fewer=few
    )
    aims = {}
    for name in WHO[:2]:
        ratio = paired_ratio(times.get(name, ()), times.get(FLOOR, ()))
        if ratio is not None:
            text = f"<= {AIM_RATIO} x floor, is {ratio:.2f} x"
            aims[name] = [at_most(ratio, AIM_RATIO, text)]
    bench.table.add(NAME, "one call of an actor after another, p50", "us", times, aims)
