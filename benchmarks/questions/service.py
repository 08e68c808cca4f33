"""What does an asyncio service get that has 100 clients waiting?

Fixed: 2 workers; each client, a coroutine of the service's process, asks for the next task when it
has the answer to the last; tasks of 0.5, 2 and 10 ms of CPU, for some seconds each. Executors are
awaited by `asyncio.wrap_future`. A task waits for those of the other clients, so its time is that
of a queue of 100. Lag: how late a ticker of 1 ms is on the service's loop, 99th percentile.
Unit: answers per second; milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import times_the_best
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "service"
OWN = ("aioray", "aioray std loop")
PEERS = ("ProcessPoolExecutor", "pebble", "loky", "aiomultiprocess", "anyio")
LENGTHS = (0.5, 2.0, 10.0)  # milliseconds


MEASURES = (
    ("answers", "tasks/s"),
    ("p50", "ms"),
    ("p99", "ms"),
    ("lag of the loop, p99", "ms"),
)


def run(bench: Bench) -> None:
    clients, seconds = bench.scale.clients, bench.scale.service_seconds
    work = {length: bench.iterations(length) for length in LENGTHS}

    def turn(runner: Runner) -> dict[float, tuple[float, ...]]:
        return {
            length: _figures(
                runner.ask("service", clients=clients, seconds=seconds, iterations=iterations)
            )
            for length, iterations in work.items()
        }

    taken = bench.runners.rounds(
        bench.scale.peer_rounds, same_turn((*OWN, *PEERS, "ray"), turn), fewer=bench.fewer
    )
    for length in LENGTHS:
        for index, (what, unit) in enumerate(MEASURES):
            samples = {name: [one[length][index] for one in some] for name, some in taken.items()}
            aims = {}
            if index == 0:
                aims["aioray"] = times_the_best(samples, "aioray", PEERS, 1, more_is_better=True)
            measure = f"{clients} clients, tasks of {length:g} ms: {what}"
            bench.table.add(NAME, measure, unit, samples, aims)


def _figures(found: dict[str, Any]) -> tuple[float, ...]:
    answers, late = sorted(found["answers"]), sorted(found["late"])
    p50, p99 = (1e3 * answers[len(answers) * share // 100] for share in (50, 99))
    return len(answers) / found["seconds"], p50, p99, 1e3 * late[len(late) * 99 // 100]
