"""What contestants can be asked, and what is the same for all of them.

Every operation takes plain data and returns it, or a coroutine of it; times are in seconds. A
contestant has those operations that its library can do: the questions know who takes part. A
`Library` states how it runs many calls at once and one after the other, and has all operations that
are nothing else; what only some can do (crash, cancel, actors) is written in their own classes.
"""

from __future__ import annotations

import itertools
import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from benchmarks import tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

WARM_UP_TASKS = 300
MARK_SECONDS = 20.0  # a task that has not begun by then never will


class Contestant(ABC):
    """Holds the number of workers and a directory for files by which tasks tell of themselves."""

    def __init__(self, workers: int, directory: str) -> None:
        self.workers = workers
        self.directory = directory
        self._numbers = itertools.count()
        self.kept: list[object] = []  # what the driver holds for tasks that stay queued

    def run(self, dialogue: Coroutine[Any, Any, None]) -> None:
        """Run the dialogue with the asking side, here without a loop: it never has to wait."""
        try:
            dialogue.send(None)
        except StopIteration:
            return
        raise RuntimeError("an operation waits for a loop, and there is none")

    @abstractmethod
    def open(self) -> Any:
        """Start the workers."""

    @abstractmethod
    def close(self) -> Any:
        """End the workers."""

    @abstractmethod
    def version(self) -> str:
        """Of the library."""

    @abstractmethod
    def warm_up(self) -> Any:
        """Have all code loaded."""

    def idle(self, seconds: float) -> Any:
        """Do nothing, as a driver does that waits."""
        time.sleep(seconds)

    def fresh_path(self) -> str:
        """The name of a file that does not exist."""
        return os.path.join(self.directory, str(next(self._numbers)))


class Library(Contestant):
    """Runs functions of `tasks` in its workers."""

    @abstractmethod
    def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> Any:
        """Seconds from the first call to the last result, all calls at once.

        last: what the last value has to be; None: whatever it is.
        """

    @abstractmethod
    def one_by_one(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Any:
        """Seconds for each call, the next one when the last result is there."""

    def warm_up(self) -> Any:
        return self.batch(WARM_UP_TASKS)

    def batch(self, count: int) -> Any:
        """Of no-ops."""
        return self.many(tasks.add_one, ((i,) for i in range(count)), count)

    def payload(self, count: int) -> Any:
        """A dict of 1 kB in, a list of 100 ints out."""
        record = tasks.record_of_1kb()
        return self.many(tasks.hundred_ints, itertools.repeat((record,), count))

    def burns(self, count: int, iterations: int) -> Any:
        """Of a fixed amount of work each."""
        return self.many(tasks.burn, itertools.repeat((iterations,), count))

    def naps(self, count: int, seconds: float) -> Any:
        """Tasks that wait and use no processor."""
        return self.many(tasks.nap, itertools.repeat((seconds,), count))

    def blobs(self, size: int, count: int) -> Any:
        """An array of so many bytes given to each of the tasks, which return its size."""
        return self.many(tasks.size_of, itertools.repeat((tasks.blob(size),), count), size)

    def arrays_in_and_out(self, megabytes: int, count: int) -> Any:
        """Arrays that a task returns with one added to all floats."""
        array = tasks.ones(megabytes)
        return self.many(tasks.next_block, itertools.repeat((array,), count))

    def groups(self, rows: int, count: int) -> Any:
        """The groups of a table of pandas, each described by a task."""
        return self.many(tasks.describe, [(group,) for group in tasks.frames(rows, count)])

    def round_trips(self, count: int) -> Any:
        """Of no-ops."""
        return self.one_by_one(tasks.add_one, ((i,) for i in range(count)))


def seconds_of(work: Callable[[], list[Any]], last: object) -> float:
    """Seconds until all values are there. last: see `Library.many`."""
    start = time.perf_counter()
    values = work()
    seconds = time.perf_counter() - start
    _check(values, last)
    return seconds


async def awaited(work: Callable[[], Awaitable[list[Any]]], last: object) -> float:
    """Seconds until all values are there that are awaited. last: see `Library.many`."""
    start = time.perf_counter()
    values = await work()
    seconds = time.perf_counter() - start
    _check(values, last)
    return seconds


def each_of(call: Callable[..., object], calls: Iterable[tuple[Any, ...]]) -> list[float]:
    """Seconds for each call, which returns when its result is there."""
    taken, clock = [], time.perf_counter
    for args in calls:
        start = clock()
        call(*args)
        taken.append(clock() - start)
    return taken


async def each_awaited(
    call: Callable[..., Awaitable[object]], calls: Iterable[tuple[Any, ...]]
) -> list[float]:
    """Seconds for each call, of which the result is awaited."""
    taken, clock = [], time.perf_counter
    for args in calls:
        start = clock()
        await call(*args)
        taken.append(clock() - start)
    return taken


def _check(values: list[Any], last: object) -> None:
    """Have the last value compared with what it has to be."""
    assert last is None or values[-1] == last, values[-1]


def wait_for_file(path: str) -> None:
    """Block until a task has made its mark, and a little longer, so that it is at its work."""
    deadline = time.monotonic() + MARK_SECONDS
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError("the task did not begin")
        time.sleep(0.001)
    time.sleep(0.005)
