"""How long does a chain of tasks take, each of which needs the value of the one before?

Fixed: 2 workers; `f(i) -> i + 1`. aioray and Ray get the whole chain at once, with refs as
arguments; the others have no such thing: there the caller waits for each value and submits the next
task.
Unit: seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import at_most, median_of
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "chain"
BY_HAND = ("ProcessPoolExecutor", "pebble", "loky")
FULL_LENGTH = 500
AIM_SECONDS = 0.1  # for the full length


def run(bench: Bench) -> None:
    length = bench.scale.chain

    def turn(runner: Runner) -> float:
        seconds: float = runner.ask("chain", length=length)
        return seconds

    seconds = bench.runners.rounds(
        bench.scale.rounds,
        same_turn(("aioray", "aioray sync", *BY_HAND, "ray"), turn),
        fewer={"ray": bench.scale.slow_rounds},
    )
    aim = AIM_SECONDS * length / FULL_LENGTH
    aims = {
        name: [at_most(median_of(seconds, name), aim)]
        for name in ("aioray", "aioray sync")
        if name in seconds
    }
    shown = {f"{name} (by hand)" if name in BY_HAND else name: s for name, s in seconds.items()}
    bench.table.add(NAME, f"{length} dependent tasks", "s", shown, aims)
