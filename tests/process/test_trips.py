"""What one trip to a worker and back costs, counted: system calls, passes of the loop, wake-ups.

Counted by the kernel for each thread (`/proc/PID/task/TID/io`: read and write, whatever they read),
and by the loop's selector. Never by a clock: so these hold at any load.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import aioray

from . import jobs
from .support import GUARD

TRIPS = 200
SPARE = 0.3  # calls a trip of what goes on beside it: the history, a look around each second


class Counting(selectors.EpollSelector):
    """Counts the passes of a loop."""

    passes = 0

    def select(self, timeout: float | None = None) -> Any:
        self.passes += 1
        return super().select(timeout)


same = aioray.remote(jobs.same)
pid = aioray.remote(jobs.pid)


@aioray.remote
class Plain:
    def pid(self) -> int:
        return os.getpid()


@aioray.remote
class Asynchronous:
    async def pid(self) -> int:
        return os.getpid()


@aioray.remote(max_concurrency=2)
class Threaded:
    def pid(self) -> int:
        return os.getpid()


CALLS = {
    "task": lambda: pid.remote,
    "actor": lambda: Plain.remote().pid.remote,
    "asynchronous actor": lambda: Asynchronous.remote().pid.remote,
    "threaded actor": lambda: Threaded.remote().pid.remote,
}


def calls_of_thread(thread: int) -> int:
    """How many times a thread of this process has read or written."""
    return _calls(Path(f"/proc/self/task/{thread}/io"))


def calls_of_process(number: int) -> int:
    """How many times all threads of a process have, that live."""
    return sum(_calls(path) for path in Path(f"/proc/{number}/task").glob("*/io"))


def _calls(path: Path) -> int:
    fields = dict(line.split(": ") for line in path.read_text().splitlines())
    return int(fields["syscr"]) + int(fields["syscw"])


def title_of(number: int) -> str:
    return Path(f"/proc/{number}/cmdline").read_text().rstrip("\0")


def _wait_for_title(number: int, title: str) -> None:
    while title_of(number) != title:  # nothing tells of it
        time.sleep(0.001)


def engine_thread() -> int:
    (thread,) = (each for each in threading.enumerate() if each.name == "aioray-engine")
    assert thread.native_id is not None
    return thread.native_id


@pytest.mark.parametrize("kind", CALLS)
def test_awaited_trip_is_one_write_and_one_read_at_either_end_and_one_pass_of_the_loop(
    kind: str,
) -> None:
    selector = Counting()

    async def main() -> None:
        async with aioray.Engine(num_cpus=1):
            call = CALLS[kind]()
            worker = await call()
            for _ in range(20):
                await call()
            passes, here = selector.passes, calls_of_thread(threading.get_native_id())
            there = calls_of_process(worker)
            for _ in range(TRIPS):
                assert await call() == worker
            passes = selector.passes - passes
            here = calls_of_thread(threading.get_native_id()) - here
            there = calls_of_process(worker) - there
        assert passes / TRIPS <= 1 + SPARE
        assert here / TRIPS <= 2 + SPARE
        assert there / TRIPS <= 2 + SPARE

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(asyncio.wait_for(main(), GUARD))


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("kind", CALLS)
def test_trip_of_a_thread_that_blocks_wakes_the_engine_twice(kind: str) -> None:
    call = CALLS[kind]()
    worker = aioray.get(call())
    for _ in range(20):
        aioray.get(call())
    thread = engine_thread()
    here, there = calls_of_thread(thread), calls_of_process(worker)
    for _ in range(TRIPS):
        assert aioray.get(call()) == worker
    here, there = calls_of_thread(thread) - here, calls_of_process(worker) - there
    assert here / TRIPS <= 3 + SPARE  # it is woken, sends, and reads the answer
    assert there / TRIPS <= 2 + SPARE


def test_many_tasks_at_once_are_a_read_each_for_the_worker_and_few_calls_for_the_driver() -> None:
    async def main() -> None:
        async with aioray.Engine(num_cpus=1):
            worker = await pid.remote()
            await asyncio.gather(*(same.remote(number) for number in range(1000)))
            here = calls_of_thread(threading.get_native_id())
            there = calls_of_process(worker)
            await asyncio.gather(*(same.remote(number) for number in range(5000)))
            here = calls_of_thread(threading.get_native_id()) - here
            there = calls_of_process(worker) - there
        assert here / 5000 <= 0.3
        assert there / 5000 <= 2 + SPARE

    asyncio.run(asyncio.wait_for(main(), GUARD))


def test_lone_task_and_many_of_the_same_worker_are_all_answered_in_any_order_of_both() -> None:
    """Each change of who rings, and who looks, while a single is on its way or has come."""

    async def main() -> None:
        async with aioray.Engine(num_cpus=1):
            for count in (1, 2, 1, 40, 1, 1, 3, 300, 1, 2, 2, 1):
                lone = same.remote(-1)  # it goes at once, alone
                rest = [same.remote(number) for number in range(count)]
                assert await asyncio.gather(*rest) == list(range(count))
                assert await lone == -1
                assert await same.remote(-2) == -2

    asyncio.run(asyncio.wait_for(main(), GUARD))


@pytest.mark.parametrize("code", [b"", b"x" * 5000], ids=["in a packet", "in a message"])
def test_lone_task_gets_its_arguments_whatever_their_size(code: bytes) -> None:
    async def main() -> None:
        async with aioray.Engine(num_cpus=1):
            for _ in range(3):
                assert await same.remote(code) == code
                assert await same.remote(1) == 1

    asyncio.run(asyncio.wait_for(main(), GUARD))


def test_title_of_a_worker_says_what_runs_and_soon_that_nothing_does(
    started: Any, gate: Any
) -> None:
    async def main() -> None:
        async with aioray.Engine(num_cpus=1):
            hold = aioray.remote(jobs.hold)
            worker = await pid.remote()
            held = hold.remote(started.path, gate.path)
            await started.heard()
            assert title_of(worker) == "ray::hold"
            gate.tell()
            await held
            await asyncio.to_thread(_wait_for_title, worker, "ray::IDLE")

    asyncio.run(asyncio.wait_for(main(), GUARD))


@pytest.fixture
def without_packet_pipes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As in a sandbox that has no pipes of packets; how often one was asked for."""
    pipe2, asked = os.pipe2, []

    def refuse(flags: int) -> tuple[int, int]:
        if flags & os.O_DIRECT:
            asked.append(flags)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return pipe2(flags)

    monkeypatch.setattr(os, "pipe2", refuse)
    return asked


async def test_where_there_are_no_pipes_of_packets_sockets_do(
    without_packet_pipes: list[int],
) -> None:
    async with aioray.Engine(num_cpus=1):
        assert [await same.remote(each) for each in range(3)] == [0, 1, 2]
        assert without_packet_pipes
        for actor in (Plain.remote(), Asynchronous.remote(), Threaded.remote()):
            assert await actor.pid.remote() == await actor.pid.remote()
            aioray.kill(actor)
        first = await pid.remote()
        os.kill(first, signal.SIGKILL)
        assert await pid.remote() != first
