"""The functions and actors that workers run. All of them are right whatever happens to a worker."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import aioray

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOATS = 625_000  # 5 MB
SEATS = 2  # in the limited section
WAYS = ("exit", "SIGKILL", "SIGSEGV", "SIGABRT")  # in which a task ends its worker
EXIT_CODE = 42


class PlannedError(Exception):
    """What a task raises that is to raise."""


def square(n: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return n * n


def burn(n: int, seconds: float) -> int:
    """The same with the processor."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return n * n


async def square_later(n: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return n * n


def tree(depth: int, width: int, n: int) -> int:
    """A sum over a tree of tasks: the number of its leaves times n."""
    if depth == 0:
        return n
    below = aioray.remote(max_retries=-1)(tree)
    return sum(aioray.get([below.remote(depth - 1, width, n) for _ in range(width)]))


def add(first: int, second: int) -> int:
    return first + second


def fail(n: int, seconds: float) -> None:
    time.sleep(seconds)
    raise PlannedError(n)


def flaky(n: int, notes: str, failures: int) -> int:
    """Fail so many times, which a file counts: attempts count crashes too."""
    descriptor = _open(notes)
    try:
        before = os.fstat(descriptor).st_size
        if before < failures:
            os.write(descriptor, b"x")
            raise PlannedError(n)
    finally:
        os.close(descriptor)
    return n * n


def die(way: str) -> None:
    if way == "exit":
        os._exit(EXIT_CODE)
    number = getattr(signal, way)
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    time.sleep(60)


def make(n: int) -> Any:
    """5 MB that can be told from others."""
    return np.arange(n, n + FLOATS, dtype=np.float64)


def total(values: Any) -> float:
    return float(values.sum())


def plus_one(values: Any) -> Any:
    return values + 1.0


def true_total(n: int) -> float:
    """What `total(make(n))` is."""
    return float(FLOATS * n + FLOATS * (FLOATS - 1) // 2)


def count(start: int, items: int, size: int) -> Iterator[Any]:
    for number in range(start, start + items):
        yield np.full(size, number) if size else number


def hang(notes: str, seconds: float, way: str) -> str:
    """Run until interrupted, or so long; whoever is done leaves a mark."""
    os.close(_open(f"{notes}-begun"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if way == "sleep":
            time.sleep(0.01)
        elif way == "deaf":
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(0.01)
    os.close(_open(notes))
    return "done"


def sit(folder: str, n: int, seconds: float) -> tuple[str, int]:
    """Take one of the seats; "crowded" if all are taken."""
    for seat in range(SEATS):
        descriptor = _open(f"{folder}/seat-{seat}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(seconds)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        return "seated", n * n
    return "crowded", n


def _open(path: str) -> int:
    """Open a file of notes. Descriptors may be out just now."""
    while True:
        try:
            return os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            time.sleep(0.01)


class Account:
    """An actor whose state outlives its process."""

    def __init__(self) -> None:
        self.entries = self.sum = 0

    def __aioray_save__(self) -> tuple[int, int]:
        return self.entries, self.sum

    def __aioray_restore__(self, state: tuple[int, int]) -> None:
        self.entries, self.sum = state

    def add(self, amount: int) -> tuple[int, int]:
        self.entries += 1
        self.sum += amount
        return self.entries, self.sum


class Counter:
    """An actor whose state does not."""

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> tuple[int, int]:
        """The process, and how many calls it had."""
        self.count += 1
        return os.getpid(), self.count


class Choir:
    """Coroutines."""

    async def square(self, n: int, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return n * n


class Threads:
    """Threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def square(self, n: int, seconds: float) -> int:
        time.sleep(seconds)
        with self.lock:
            return n * n
