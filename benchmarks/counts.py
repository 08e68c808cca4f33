"""What a no-op task costs in counts, which do not depend on the speed of a machine.

Of the main thread of the driver and of its one worker: reads and writes, as the kernel counts them;
times that it went to sleep; calls of what the standard library has for the system (`os`, `select`,
`socket` and their like); calls of Python functions, which can be counted everywhere, and
instructions of the processor in user space, where the kernel lets one count them. Of the driver
alone: objects that the collector tracks, and bytes, for each task that waits, its ref included.

Counts are the difference between many tasks and fewer, so what comes once is not in them. How many
answers fit into one message depends on the moment, so they are exact for round trips and nearly so
for queued tasks.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import gc
import os
import platform
import struct
import sys
import tracemalloc
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import aioray

from . import tasks
from .report import markdown_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUEUED, TRIPS, WAITING = 5_000, 300, 5_000  # tasks that are counted
FEW_QUEUED, FEW_TRIPS = 1_000, 100  # tasks whose counts are taken off
READS_AND_WRITES, SYSTEM_CALLS = "reads and writes", "calls of the system"
SLEEPS, INSTRUCTIONS, CALLS = "sleeps", "instructions", "calls of Python functions"
TRACKED, BYTES = "tracked objects", "bytes"


@dataclass(frozen=True, slots=True)
class Count:
    """Of one thing, for each task."""

    load: str
    process: str
    what: str
    each: float


def measure() -> list[Count]:
    """All counts. Instructions are left out where the kernel does not count them for us."""
    return asyncio.run(_measure())


async def _measure() -> list[Count]:
    aioray.init(num_cpus=1, log_to_driver=False)
    try:
        worker: int = await aioray.remote(os.getpid).remote()
        add_one = aioray.remote(tasks.add_one)

        async def queued(count: int) -> None:
            await asyncio.gather(*[add_one.remote(i).as_future() for i in range(count)])

        async def trips(count: int) -> None:
            for i in range(count):
                await add_one.remote(i)

        counts = []
        for load, work, many, few in (
            ("queued", queued, QUEUED, FEW_QUEUED),
            ("round trip", trips, TRIPS, FEW_TRIPS),
        ):
            await work(few)  # all is loaded and warm
            for process, pid in (("driver", os.getpid()), ("worker", worker)):
                less = await _counted(work, few, pid)
                more = await _counted(work, many, pid)
                counts += [
                    Count(load, process, what, (more[what] - less[what]) / (many - few))
                    for what in more
                ]
        return [*counts, *await _of_waiting(add_one)]
    finally:
        await aioray.shutdown()


async def _counted(work: Callable[[int], Awaitable[None]], count: int, pid: int) -> dict[str, int]:
    """Everything that can be counted in one process, each in a run of its own."""
    found = {}
    for what, read in ((READS_AND_WRITES, _reads_and_writes), (SLEEPS, _sleeps)):
        before = read(pid)
        await work(count)
        found[what] = read(pid) - before
    if pid == os.getpid():
        start_calls()
        await work(count)
        calls = stop_calls()
    else:
        await aioray.remote(start_calls).remote()
        await work(count)
        calls = await aioray.remote(stop_calls).remote()
    found |= {CALLS: calls[0], SYSTEM_CALLS: calls[1]}
    counter = open_counter(pid)
    if counter is not None:
        try:
            fcntl.ioctl(counter, _ENABLE, 0)
            await work(count)
            found[INSTRUCTIONS] = int.from_bytes(os.read(counter, 8), sys.byteorder)
        finally:
            os.close(counter)
    return found


def _reads_and_writes(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/io") as file:
        found = dict(line.split(": ") for line in file.read().splitlines())
    return int(found["syscr"]) + int(found["syscw"])


def _sleeps(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("voluntary_ctxt_switches"):
                return int(line.split()[1])
    raise OSError(f"/proc/{pid}/status does not tell of context switches")


# ------------------------------------------------------------ calls


_SYSTEM = {"posix", "select", "socket", "_socket", "fcntl", "mmap", "_signal", "signal"}
_calls = [0, 0]


def _count_call(_frame: object, event: str, argument: Any) -> None:
    if event == "call":
        _calls[0] += 1
    elif event == "c_call":
        owner = getattr(argument, "__self__", None)
        module = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__module__
        if module in _SYSTEM:
            _calls[1] += 1


def start_calls() -> None:
    """Count the calls of this thread, from here on."""
    _calls[:] = [0, 0]
    sys.setprofile(_count_call)


def stop_calls() -> list[int]:
    """End that; calls of Python functions, and of the system."""
    sys.setprofile(None)
    return _calls


# ------------------------------------------------------------ instructions

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTES = struct.Struct("IIQQQQQ")  # type, size, config, period, sample, read, flags
_SIZE = 112  # bytes of `struct perf_event_attr`
_HARDWARE, _RETIRED = 0, 1
_USER_SPACE_ONLY = 1 << 0 | 1 << 5 | 1 << 6  # disabled; not the kernel, not a hypervisor
_ENABLE = 0x2400


def open_counter(pid: int, kind: int = _HARDWARE, event: int = _RETIRED) -> int | None:
    """The descriptor of a counter of the main thread of a process; None: it cannot be had."""
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        return None
    attributes = _ATTRIBUTES.pack(kind, _SIZE, event, 0, 0, 0, _USER_SPACE_ONLY)
    buffer = ctypes.create_string_buffer(attributes, _SIZE)
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(number, buffer, pid, -1, -1, 0)
    return descriptor if descriptor >= 0 else None


# ------------------------------------------------------------ what waits


async def _of_waiting(add_one: Any) -> list[Count]:
    """Objects and bytes for each task that waits behind another, and its ref."""
    gate = aioray.remote(tasks.nap).remote(3600)
    found = []
    for what, read in ((TRACKED, lambda: len(gc.get_objects())), (BYTES, _traced)):
        if what == BYTES:
            tracemalloc.start()
        gc.collect()
        before = read()
        refs = [add_one.remote(i) for i in range(WAITING)]
        await asyncio.sleep(0)  # submissions get into the engine
        gc.collect()
        found.append(Count("waiting", "driver", what, (read() - before) / len(refs)))
        for ref in refs:
            aioray.cancel(ref)
        del refs
    tracemalloc.stop()
    aioray.cancel(gate, force=True)
    return found


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def lines(counts: list[Count]) -> list[str]:
    """Markdown: a line for each thing that was counted, a column for each load and process."""
    columns = list(dict.fromkeys((count.load, count.process) for count in counts))
    by_place = {(count.what, count.load, count.process): count.each for count in counts}
    grid = [["for each task", *(f"{load}, {process}" for load, process in columns)]]
    for what in dict.fromkeys(count.what for count in counts):
        figures = (by_place.get((what, *column)) for column in columns)
        grid.append([what, *("" if each is None else f"{each:,.2f}" for each in figures)])
    return markdown_table(grid)
