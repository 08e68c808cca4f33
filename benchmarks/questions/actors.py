"""How fast are the calls of one actor?

Fixed: one synchronous actor, `m(i) -> i + 1`. Calls: many at once, then all values. Round trip: the
next call when the last value is there; the floor is that of the question round_trip, in the same
round. Making: a new actor, up to the value of its first call. One sample is the median of one
round.
Unit: calls a second; microseconds; milliseconds.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.report import aims_for, at_least, at_most
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "actors"
FLOOR = "floor"
OWN = ("aioray", "aioray sync")
WHO = (*OWN, "ray")
AIM_CALLS = 80_000  # a second
AIM_ROUND_TRIP = 100  # us
AIM_MAKING = 6  # ms


def run(bench: Bench) -> None:
    count = bench.scale.tasks
    few = {"ray": bench.scale.slow_rounds}

    def calls(runner: Runner) -> float:
        seconds: float = runner.ask("actor_calls", count=count)
        return count / seconds

    rates = bench.runners.rounds(bench.scale.rounds, same_turn(WHO, calls), fewer=few)
    aims = aims_for(rates, dict.fromkeys(OWN, AIM_CALLS), at_least)
    bench.table.add(NAME, f"{count:,} calls of one actor at once", "calls/s", rates, aims)

    def round_trip(runner: Runner) -> float:
        question = "round_trips" if runner.name == FLOOR else "actor_round_trips"
        taken: list[float] = runner.ask(question, count=bench.scale.round_trips)
        return 1e6 * statistics.median(taken)

    times = bench.runners.rounds(
        bench.scale.rounds, same_turn((FLOOR, *WHO), round_trip), fewer=few
    )
    aims = aims_for(times, dict.fromkeys(OWN, AIM_ROUND_TRIP), at_most)
    bench.table.add(NAME, "one call of an actor after another, p50", "us", times, aims)

    def making(runner: Runner) -> float:
        taken: list[float] = runner.ask("new_actors", count=bench.scale.incidents)
        return 1e3 * statistics.median(taken)

    times = bench.runners.rounds(bench.scale.rounds, same_turn(WHO, making), fewer=few)
    aims = aims_for(times, dict.fromkeys(OWN, AIM_MAKING), at_most)
    bench.table.add(NAME, "an actor made and called once, p50", "ms", times, aims)
