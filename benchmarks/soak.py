"""The command `soak`: a very long run, and what it leaves in memory, descriptors, threads and disk.

Asks whether driver, template and workers stay as they are over millions of no-ops with crashes
among them: the worker that lives longest is looked at, and the youngest is killed. The slope is
that of the straight line through the samples after the first part of the run, in which a process
warms up and the history fills. Own memory is what no file backs and nobody else shares (RssAnon).

With actors it asks how many can be made, called once and dropped in a second, and which process
pays how much for one. The processor time of workers is the template's word, who has reaped them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field

import click

import aioray
from aioray.exceptions import WorkerCrashedError

from . import tasks as jobs
from .processes import cpu_seconds, pss_kb

WORKERS = 2
BATCH = 1_000  # tasks that are submitted together
IN_FLIGHT = 3  # batches
SAMPLES = 100
WARM = 0.2  # share of the run that does not count for the slope
ALLOWED_KB = 3_000  # that a process may have grown in the rest of it
ALLOWED_HISTORY = 0.1  # share by which the history may have, when it has filled
ACTORS_AT_A_TIME = 8
AIM_ACTORS = 100.0  # a second, on an idle machine
TICK = 1 / os.sysconf("SC_CLK_TCK")
WHO = ("driver", "template", "worker")


@dataclass(slots=True)
class Sample:
    """What was seen at some point."""

    tasks: int
    own_kb: dict[str, float]
    pss: dict[str, float]
    descriptors: dict[str, int]
    threads: dict[str, int]
    history: int  # bytes


@dataclass
class Soak:
    """One run of tasks."""

    tasks: int
    crash_every: int
    folder: str  # of the session's files
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    crashes: int = 0
    seconds: float = 0.0

    async def run(self) -> None:
        async with aioray.Engine(num_cpus=WORKERS, log_to_driver=False) as engine:
            add = aioray.remote(max_retries=-1)(jobs.add_one)
            die = aioray.remote(max_retries=0)(jobs.exit_at_once)
            await add.remote(0)
            start = time.monotonic()
            done, due = 0, iter(range(0, self.tasks + 1, max(BATCH, self.tasks // SAMPLES)))
            next_sample, crash_at = next(due), self.crash_every
            flying: list[tuple[int, list[aioray.ObjectRef[int]]]] = []
            for first in itertools.chain(range(0, self.tasks, BATCH), [None] * IN_FLIGHT):
                if first is not None:
                    size = min(BATCH, self.tasks - first)
                    flying.append((first, [add.remote(n) for n in range(first, first + size)]))
                if len(flying) < IN_FLIGHT and first is not None:
                    continue
                if flying:
                    done += await self._take(*flying.pop(0))
                if done >= crash_at:
                    crash_at += self.crash_every
                    await self._crash(engine, die)
                if done >= next_sample:
                    next_sample = next(due, self.tasks + 1)
                    self.samples.append(self._look(engine, done))
            self.seconds = time.monotonic() - start
            if done != self.tasks:
                self.wrong.append(f"{self.tasks - done} tasks were lost")

    async def _take(self, first: int, refs: list[aioray.ObjectRef[int]]) -> int:
        for n, ref in enumerate(refs, first):
            value = await ref
            if value != n + 1:
                self.wrong.append(f"task {n} returned {value}")
        return len(refs)

    async def _crash(self, engine: aioray.Engine, die: aioray.RemoteFunction[..., None]) -> None:
        """Kill the youngest worker; every other time by what it runs."""
        self.crashes += 1
        if self.crashes % 2:
            *_, youngest = sorted(engine.pids()[1:], key=_started)
            os.kill(youngest, signal.SIGKILL)
            return
        try:
            await die.remote()
        except WorkerCrashedError:
            return
        self.wrong.append("a task that ends its worker did not fail")

    def _look(self, engine: aioray.Engine, done: int) -> Sample:
        gc.collect()
        template, *workers = engine.pids()
        # The one that lives longest; a crash by a task may meet it as well.
        pids = dict(zip(WHO, (os.getpid(), template, min(workers, key=_started)), strict=True))
        return Sample(
            done,
            {who: _own_kb(pid) for who, pid in pids.items()},
            {who: pss_kb(pid) for who, pid in pids.items()},
            {who: len(os.listdir(f"/proc/{pid}/fd")) for who, pid in pids.items()},
            {who: len(os.listdir(f"/proc/{pid}/task")) for who, pid in pids.items()},
            _size(self.folder),
        )


def _size(folder: str) -> int:
    """Bytes of all files below a folder; those of a database come and go."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(where, name)).st_size
    return total


def _own_kb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        return float(file.read().split("RssAnon:")[1].split()[0])


def _started(pid: int) -> int:
    """When a process was started, in ticks of the kernel."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except OSError:
        return sys.maxsize


def slope(points: list[tuple[float, float]]) -> float:
    """Of the line of least squares."""
    if len(points) < 2:
        return 0.0
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0


def judge(soak: Soak) -> tuple[list[str], list[str]]:
    """Return what there is to be printed, and what is not flat or wrong."""
    rows = soak.samples[int(len(soak.samples) * WARM) :]
    faults = list(soak.wrong)
    rate = soak.tasks / soak.seconds if soak.seconds else 0.0
    head = f"{soak.tasks:,} no-ops, {soak.crashes} crashes, {soak.seconds:.0f} s"
    lines = [
        f"{head}, {rate:,.0f} a second",
        f"{'':10}{'own kB':>16}{'slope, kB per':>16}{'PSS kB':>16}  descriptors  threads",
        f"{'':10}{'first':>8}{'last':>8}{'million tasks':>16}{'first':>8}{'last':>8}",
    ]
    if not rows:
        return lines, [*faults, "there are too few tasks for a sample"]
    first, last = rows[0], rows[-1]
    for who in WHO:
        per_task = slope([(each.tasks, each.own_kb[who]) for each in rows])
        lines.append(
            f"{who:10}{first.own_kb[who]:>8.0f}{last.own_kb[who]:>8.0f}{per_task * 1e6:>16.1f}"
            f"{first.pss[who]:>8.0f}{last.pss[who]:>8.0f}"
            f"{first.descriptors[who]:>8}..{last.descriptors[who]:<3}"
            f"{first.threads[who]:>4}..{last.threads[who]}"
        )
        if per_task * (last.tasks - first.tasks) > ALLOWED_KB:
            faults.append(f"the memory of the {who} grows")
        for what in ("descriptors", "threads"):
            counts = [getattr(each, what)[who] for each in rows]  # successors come and go
            if min(counts[-len(counts) // 4 :]) > max(counts[: len(counts) // 2 + 1]):
                faults.append(f"the {who} has ever more {what}")
    half = rows[len(rows) // 2].history
    lines.append(f"history: {first.history / 1e6:.1f} MB, later {last.history / 1e6:.1f} MB")
    if half and last.history > half * (1 + ALLOWED_HISTORY) and soak.tasks >= 1_000_000:
        faults.append("the history grows")
    return [*lines, f"verdict: {'; '.join(faults) or 'flat'}"], faults


@dataclass(frozen=True, slots=True)
class Actors:
    """What many actors have cost."""

    count: int
    seconds: float
    milliseconds: dict[str, float]  # of processor time for one, by process


async def make_and_drop(count: int) -> Actors:
    """Make, call and drop so many actors, some at a time."""
    preload = ["benchmarks.tasks"]  # not to measure its import
    async with aioray.Engine(num_cpus=WORKERS, log_to_driver=False, preload=preload) as engine:
        adder = aioray.remote(jobs.Adder)

        async def some(numbers: range) -> None:
            for n in numbers:
                actor = adder.remote()
                assert await actor.add_one.remote(n) == n + 1

        await some(range(ACTORS_AT_A_TIME))
        template = engine.pids()[0]
        before = _spent(template)
        start = time.monotonic()
        await asyncio.gather(
            *[some(range(first, count, ACTORS_AT_A_TIME)) for first in range(ACTORS_AT_A_TIME)]
        )
        seconds = time.monotonic() - start
        after = _spent(template)
    spent = {who: (after[who] - before[who]) * 1000 / count for who in before}
    return Actors(count, seconds, spent)


def _spent(template: int) -> dict[str, float]:
    """Seconds of processor time so far; those of workers that the template has reaped."""
    with open(f"/proc/{template}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return {
        "driver": time.process_time(),
        "template": cpu_seconds(template),
        "workers": (int(fields[13]) + int(fields[14])) * TICK,
    }


@click.command()
@click.option("--tasks", default=10_000_000, show_default=True, help="No-ops in all.")
@click.option("--crash-every", default=20_000, show_default=True, help="Tasks from crash to crash.")
@click.option("--actors", type=int, help="So many actors are made and dropped; no tasks then.")
def soak(*, tasks: int, crash_every: int, actors: int | None) -> None:
    """Run ten million no-ops with crashes, and see whether everything stays as it is.

    Prints the memory of driver, template and the oldest worker, its slope, descriptors, threads and
    the size of the history. Exits with 1 if any of it grows, or a value was wrong.

    With --actors: makes that many, calls each once and drops it, and prints how many a second and
    what one costs.
    """
    if actors is not None:
        made = asyncio.run(make_and_drop(actors))
        rate = made.count / made.seconds
        print(f"{made.count:,} actors made, called and dropped: {rate:.0f} a second")
        print(f"aim on an idle machine: {AIM_ACTORS:.0f} a second, {_met(rate >= AIM_ACTORS)}")
        for who, milliseconds in made.milliseconds.items():
            print(f"processor time of one: {who:9}{milliseconds:6.2f} ms")
        return
    with tempfile.TemporaryDirectory(prefix="aioray-soak-") as folder:
        os.environ["RAY_TMPDIR"] = folder
        run = Soak(tasks, crash_every, folder)
        asyncio.run(run.run())
    lines, faults = judge(run)
    print("\n".join(lines))
    if faults:
        sys.exit(1)


def _met(yes: bool) -> str:
    return "reached" if yes else "NOT reached"
