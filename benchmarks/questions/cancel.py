"""How soon is a running task stopped, and its worker at work on the next one?

Fixed: 1 worker; the task sleeps in one `time.sleep`, or loops in Python, for 3 s, and another one
is queued behind it. Both times are from the call of cancel: to the error in the caller's hands, and
to the value of the next task. aioray and Ray interrupt by default and kill when forced. An
interrupt of Ray does not wake a task that sleeps: its figure there is the rest of the sleep. pebble
and anyio can only kill, and forget a cancelled task at once: their "error seen" says nothing about
its process.
Unit: milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import at_most, median_of
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "cancel"
ONLY_KILL = ("pebble", "anyio")


def run(bench: Bench) -> None:
    both = ("aioray", "aioray sync", "ray")
    _ask(bench, both, "interrupt a sleep", {"loops": False, "force": False}, (0.5, 5))
    _ask(bench, both, "interrupt a loop", {"loops": True, "force": False}, (0.5, 5))
    killers = ("aioray", *ONLY_KILL, "ray")
    _ask(bench, killers, "kill (force)", {"loops": False, "force": True}, (5, 10))


def _ask(
    bench: Bench, names: tuple[str, ...], how: str, case: dict[str, bool], aims: tuple[float, float]
) -> None:
    def turn(runner: Runner) -> dict[str, float]:
        seconds: dict[str, float] = runner.ask("cancel", **case)
        return seconds

    taken = bench.runners.rounds(
        bench.scale.incidents,
        same_turn(names, turn),
        workers=1,
        fewer={"ray": bench.scale.slow_rounds},
    )
    for measure, key, aim in (
        (f"{how}: call -> error seen", "seen", aims[0]),
        (f"{how}: call -> value of the next task", "next", aims[1]),
    ):
        samples = {
            name: [1000 * one[key] for one in all_of_it] for name, all_of_it in taken.items()
        }
        own = median_of(samples, "aioray")
        bench.table.add(NAME, measure, "ms", samples, {"aioray": [at_most(own, aim)]})
