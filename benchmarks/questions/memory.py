"""What does the driver pay for each waiting task, and everybody for doing nothing?

Fixed: 2 workers in fresh processes. Per queued task: both workers are kept busy, `f(i)` is
submitted many times and the futures or refs are kept; growth of the driver's proportional set size
/ tasks, without tracemalloc, which would count itself.
Idle: the sum of the proportional set sizes of the driver and all its descendants after 300 small
tasks, how many processes these are, and the processor time that they use while nothing happens. A
bare interpreter with the code of these benchmarks is part of each figure. Queue sizes differ: fewer
tasks for Ray, which is slow at submitting.
Unit: kB per task, MB, processes, per cent of one processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import processes
from benchmarks.report import at_most, median_of
from benchmarks.runner import ContestantError

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "memory"
ROUNDED_TO_ZERO = 0.5  # per cent; asking and answering is in it
SETTLE_SECONDS = 2.0  # for what is done in the background after the last task
CONTESTANTS = ("aioray", "ProcessPoolExecutor", "pebble", "loky", "ray")


def run(bench: Bench) -> None:
    queued: dict[str, list[float]] = {}
    idle: dict[str, tuple[float, float, float]] = {}
    for name in CONTESTANTS:
        runner = bench.runners.fresh(name)
        if runner is None:
            continue
        count = bench.scale.slow_queued if name == "ray" else bench.scale.queued
        try:
            idle[name] = _idle(runner, bench.scale.idle_seconds)
            queued[name] = [_per_queued_task(runner, count)]
        except ContestantError as failed:
            bench.runners.failed(name, str(failed))
        finally:
            if name == "ray":
                runner.close()  # its processes are not all descendants that a kill would find
            else:
                runner.kill()  # rather than wait for the queue
    bench.table.add(
        NAME,
        f"driver, per queued task ({bench.scale.queued:,}; Ray {bench.scale.slow_queued:,})",
        "kB",
        queued,
        {"aioray": [at_most(median_of(queued, "aioray"), 0.8)]},
    )
    for index, (measure, unit, aim, text) in enumerate(
        (
            ("idle: memory of driver and descendants (PSS)", "MB", 40, None),
            ("idle: processes", "", 4, None),
            ("idle: processor time", "%", ROUNDED_TO_ZERO, "0, rounded"),
        )
    ):
        samples = {name: [figures[index]] for name, figures in idle.items()}
        aims = {"aioray": [at_most(median_of(samples, "aioray"), aim, text)]}
        bench.table.add(NAME, measure, unit, samples, aims)


def _idle(runner: Runner, seconds: float) -> tuple[float, float, float]:
    members = processes.tree(runner.pid)
    megabytes = processes.pss_kb(*members) / 1024
    runner.ask("idle", seconds=SETTLE_SECONDS)
    before = processes.cpu_seconds(*members)
    runner.ask("idle", seconds=seconds)
    used = processes.cpu_seconds(*members) - before
    return megabytes, float(len(members)), 100 * used / seconds


def _per_queued_task(runner: Runner, count: int) -> float:
    before = processes.pss_kb(runner.pid)
    runner.ask("enqueue", count=count)
    return (processes.pss_kb(runner.pid) - before) / count
