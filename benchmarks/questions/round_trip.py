"""How long does one task take from call to value, when nothing else is to do?

Fixed: 2 workers; `f(i) -> i + 1`, the next call when the last value is there. The floor is one
message of 100 bytes to another process and back over a socket pair, in two ways: on the processors
that the kernel chooses, often one for both, and with the two processes held apart. Waking a
processor that sleeps takes from 25 to 100 us, depending on the moment. So the floors have their
turns in each round just before aioray. One sample is the percentile of one round.
Unit: microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PEERS
from benchmarks.report import Aim, at_most, median_of, times_the_best
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "round_trip"
FLOOR, APART = "floor", "floor, two processors"
ROUNDS = 3  # times the usual number: rounds are short
POLLING = "aiomultiprocess"  # takes 16 ms for each, always: fewer will do
POLLING_SHARE = 10
PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5)
AIMS = {"aioray": 100, "aioray sync": 110}  # us, p50
AIM_TAIL = 2  # p99, in medians


def run(bench: Bench) -> None:
    count = bench.scale.round_trips

    def turn(runner: Runner) -> list[list[float]]:
        few = runner.name == POLLING
        taken = [runner.ask("round_trips", count=count // POLLING_SHARE if few else count)]
        if runner.name == FLOOR:
            taken.append(runner.ask("round_trips_apart", count=count))
        return [sorted(1e6 * seconds for seconds in one) for one in taken]

    names = (FLOOR, "aioray", "aioray sync", "aioray std loop", *PEERS, "ray")
    rounds = bench.runners.rounds(ROUNDS * bench.scale.rounds, same_turn(names, turn))
    sorted_times: dict[str, list[list[float]]] = {}
    for name, samples in rounds.items():
        sorted_times[name] = [one[0] for one in samples]
        if name == FLOOR:
            sorted_times[APART] = [one[1] for one in samples]
    p50, p99 = (
        {
            name: [one[len(one) * percent // 100] for one in taken]
            for name, taken in sorted_times.items()
        }
        for percent in (50, 99)
    )
    aims: dict[str, list[Aim]] = {}
    for name, most in AIMS.items():
        if name in p50:
            aims[name] = [at_most(median_of(p50, name), most)]
            aims[name] += times_the_best(p50, name, PEERS, 1, more_is_better=False)
    bench.table.add(NAME, "one call after another, p50", "us", p50, aims)
    tails = {
        name: [at_most(median_of(p99, name), AIM_TAIL * median_of(p50, name))]
        for name in AIMS
        if name in p99
    }
    bench.table.add(NAME, "one call after another, p99", "us", p99, tails)
    bench.table.add_curves(
        NAME,
        "one call after another",
        "percentile",
        "us",
        {
            name: {
                percent: [one[int(len(one) * percent / 100)] for one in taken]
                for percent in PERCENTILES
            }
            for name, taken in sorted_times.items()
        },
    )
