"""How long does one task take from call to value, when nothing else is to do?

Fixed: 2 workers; `f(i) -> i + 1`, the next call when the last value is there. The floor is one
message of 100 bytes to another process and back over a socket pair, in two ways: on the processors
that the kernel chooses, often one for both, and with the two processes held apart. Waking a
processor that sleeps takes from 25 to 100 us, depending on the moment. So the floors have their
turns in each round just before aioray, and the ratio is taken within the round; the aim is held
against the floor that the kernel chose, and the ratio to the other is shown. One sample is the
percentile of one round.
Unit: microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import PEERS
from benchmarks.report import Aim, at_most, paired_ratio
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "round_trip"
FLOOR, APART = "floor", "floor, two processors"
ROUNDS = 3  # times the usual number: rounds are short
POLLING = "aiomultiprocess"  # takes 16 ms for each, always: fewer will do
POLLING_SHARE = 10


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
    for name in ("aioray", "aioray sync"):
        times, times_apart = (paired_ratio(p50.get(name, ()), p50[f]) for f in (FLOOR, APART))
        if times is not None:
            text = f"<= 1.5 x floor, is {times:.2f} x ({times_apart:.2f} x the other)"
            aims[name] = [at_most(times, 1.5, text)]
    bench.table.add(NAME, "one call after another, p50", "us", p50, aims)
    bench.table.add(NAME, "one call after another, p99", "us", p99)
