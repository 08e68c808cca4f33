"""What does it cost that every attempt is recorded?

Fixed: as the question throughput, with the history on, which is the default, and off; in turns, so
that each rate has a partner measured a moment later. Many tasks, so that what is written in the
background falls into the time that is measured.
Unit: the rate with history as a share of that without.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.report import Aim, at_least
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "history"
WHO = ("aioray", "aioray sync")
WITHOUT = ", no history"
SHARE = 0.9  # of the rate that has to be left
PAIRS = 3  # times as many rounds as elsewhere: it is a small difference


def run(bench: Bench) -> None:
    count = bench.scale.queued

    def turn(runner: Runner) -> float:
        seconds: float = runner.ask("batch", count=count)
        return count / seconds

    names = [name + suffix for name in WHO for suffix in ("", WITHOUT)]
    rates = bench.runners.rounds(PAIRS * bench.scale.rounds, same_turn(names, turn))
    shares: dict[str, list[float]] = {}
    aims: dict[str, list[Aim]] = {}
    for name in WHO:
        pairs = zip(rates.get(name, ()), rates.get(name + WITHOUT, ()), strict=False)
        found = [on / off for on, off in pairs]
        if found:
            shares[name] = found
            aims[name] = [at_least(statistics.median(found), SHARE)]
    bench.table.add(NAME, f"{count:,} no-op tasks, history on / off", "ratio", shares, aims)
