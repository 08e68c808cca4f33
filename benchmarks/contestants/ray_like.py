"""What can be written once for every library that has the API of Ray: the names are the same.

`RemoteFunctions` serves whoever uses such a library, `RayLike` is the plain script that blocks in
`get`. What only one of them can do is in the module of that one.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.contestants import micro
from benchmarks.contestants.base import Library, each_of, seconds_of, wait_for_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STORE_BYTES = 2_000_000_000
"""The limit of shared memory; it holds what the questions keep at once, which is half as much."""


class RemoteFunctions:
    """The functions of `tasks` as remote functions of a library."""

    def __init__(self, library: Any) -> None:
        remote = library.remote
        self.add_one = remote(tasks.add_one)
        self.burn = remote(tasks.burn)
        self.describe = remote(tasks.describe)
        self.nap = remote(tasks.nap)
        self.size_of = remote(tasks.size_of)
        self.die = remote(max_retries=0)(tasks.die)
        self.die_once = remote(max_retries=1)(tasks.die_once)
        self.hold = remote(tasks.hold)
        self.hundred_ints = remote(tasks.hundred_ints)
        self.mark_and_loop = remote(tasks.mark_and_loop)
        self.mark_and_sleep = remote(tasks.mark_and_sleep)
        self.next_block = remote(tasks.next_block)
        self.numbered_block = remote(tasks.numbered_block)
        self.ones = remote(tasks.ones)
        self.total = remote(tasks.total)
        self.count = remote(tasks.count)
        self.adder = remote(tasks.Adder)
        add_one = self.add_one

        @remote
        def tree(leaves: int) -> int:
            values: list[int] = library.get([add_one.remote(number) for number in range(leaves)])
            return sum(values)

        self.tree = tree

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What submits a function of `tasks`."""
        remote: Callable[..., Any] = getattr(self, function.__name__).remote
        return remote


class RayLike(Library):
    """A script without a loop. Those who are it name their library and its remote functions."""

    ray: Any
    do: RemoteFunctions

    def version(self) -> str:
        version: str = self.ray.__version__
        return version

    def close(self) -> None:
        self.ray.shutdown()

    def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        submit = self.do.of(function)
        return seconds_of(lambda: self.ray.get([submit(*args) for args in calls]), last)

    def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        get, submit = self.ray.get, self.do.of(function)
        return each_of(lambda *args: get(submit(*args)), calls)

    def wait_one_by_one(self, count: int) -> float:
        """Seconds to take the results of so many no-ops one at a time, by `wait`."""
        waiting = [self.do.add_one.remote(i) for i in range(count)]
        start = time.perf_counter()
        while waiting:
            _, waiting = self.ray.wait(waiting)
        return time.perf_counter() - start

    def new_actors(self, count: int) -> list[float]:
        """Seconds for each of so many actors to be made and called once."""
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            actor = self.do.adder.remote()
            self.ray.get(actor.add_one.remote(0))
            taken.append(time.perf_counter() - start)
            self.ray.kill(actor)
        return taken

    def microbenchmark(self, row: str, seconds: float, size: int, megabytes: int) -> float:
        """How much a second, of one row of Ray's own microbenchmark."""
        return micro.rate(self.ray, row, seconds, size, megabytes)

    def chain(self, length: int) -> float:
        start = time.perf_counter()
        ref = self.do.add_one.remote(0)
        for _ in range(length - 1):
            ref = self.do.add_one.remote(ref)
        assert self.ray.get(ref) == length
        return time.perf_counter() - start

    def tree(self, leaves: int) -> float:
        start = time.perf_counter()
        assert self.ray.get(self.do.tree.remote(leaves)) == leaves * (leaves + 1) // 2
        return time.perf_counter() - start

    def stream(self, items: int) -> float:
        """Items a second."""
        start = time.perf_counter()
        total = sum(self.ray.get(ref) for ref in self.do.count.remote(items))
        seconds = time.perf_counter() - start
        assert total == items * (items - 1) // 2
        return items / seconds

    def actor_calls(self, count: int) -> float:
        """Seconds for so many calls of one actor, at once."""
        actor = self.do.adder.remote()
        self.ray.get(actor.add_one.remote(0))
        start = time.perf_counter()
        values = self.ray.get([actor.add_one.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    def actor_round_trips(self, count: int) -> list[float]:
        """Seconds for each of so many calls, one after the other."""
        actor = self.do.adder.remote()
        self.ray.get(actor.add_one.remote(0))
        taken = []
        clock, get = time.perf_counter, self.ray.get
        for i in range(count):
            start = clock()
            get(actor.add_one.remote(i))
            taken.append(clock() - start)
        return taken

    def crash(self) -> dict[str, float]:
        path = self.fresh_path()
        try:
            self.ray.get(self.do.die.remote(path))
        except self.ray.exceptions.WorkerCrashedError:
            noticed = time.monotonic() - tasks.time_of_death(path)
        self.ray.get(self.do.add_one.remote(1))
        died = self.ray.get(self.do.die_once.remote(self.fresh_path()))
        return {"noticed": noticed, "retried": time.monotonic() - died}

    def first_crash(self) -> float:
        """Seconds from the death of a worker to the result of the second attempt."""
        died = self.ray.get(self.do.die_once.remote(self.fresh_path()))
        return time.monotonic() - died

    def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        path = self.fresh_path()
        ref = (self.do.mark_and_loop if loops else self.do.mark_and_sleep).remote(path)
        following = self.do.add_one.remote(1)
        wait_for_file(path)
        start = time.perf_counter()
        self.ray.cancel(ref, force=force)
        try:
            self.ray.get(ref)
        except self.ray.exceptions.RayError:
            seen = time.perf_counter() - start
        self.ray.get(following)
        return {"seen": seen, "next": time.perf_counter() - start}

    def enqueue(self, count: int) -> None:
        path = self.fresh_path()
        self.kept += [self.do.hold.remote(path) for _ in range(self.workers)]
        self.kept += [self.do.add_one.remote(i) for i in range(count)]
        time.sleep(0.5)

    # ------------------------------------------------------------ large values

    def share(self, megabytes: int, count: int) -> float:
        """Put an array once, and have each of so many tasks sum it."""
        array = tasks.ones(megabytes)
        start = time.perf_counter()
        ref = self.ray.put(array)
        totals = self.ray.get([self.do.total.remote(ref) for _ in range(count)])
        seconds = time.perf_counter() - start
        assert totals == [array.size] * count
        return seconds

    def pass_directly(self, megabytes: int, count: int) -> float:
        """Give the array itself to each of the tasks."""
        array = tasks.ones(megabytes)
        return self.many(tasks.total, itertools.repeat((array,), count), array.size)

    def return_arrays(self, megabytes: int, count: int) -> float:
        """Have so many arrays made, fetch all of them and look at their ends."""
        start = time.perf_counter()
        arrays = self.ray.get([self.do.ones.remote(megabytes) for _ in range(count)])
        ends = [tasks.sum_of_ends(array) for array in arrays]
        seconds = time.perf_counter() - start
        assert ends == [2] * count
        return seconds

    def put_and_get_many(self, count: int) -> float:
        """Put blocks and get each of them; all refs are kept until the end."""
        put, get = self.ray.put, self.ray.get
        block = tasks.numbered_block(0)
        refs = []
        start = time.perf_counter()
        for i in range(count):
            block[0] = i
            ref = put(block)
            assert get(ref)[0] == i
            refs.append(ref)
        return time.perf_counter() - start

    def return_many(self, count: int) -> float:
        """The same number of blocks from tasks, got in one list."""
        start = time.perf_counter()
        blocks = self.ray.get([self.do.numbered_block.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert [tasks.sum_of_ends(block) for block in blocks] == [2 * i for i in range(count)]
        return seconds

    def get_small(self, count: int) -> float:
        """Seconds for one more get of a number that is there."""
        ref = self.do.add_one.remote(41)
        assert self.ray.get(ref) == 42
        return self._seconds_of_get(ref, count)

    def get_large(self, megabytes: int, count: int) -> float:
        """Seconds for one more get of an array that is there."""
        ref = self.ray.put(tasks.ones(megabytes))
        assert tasks.sum_of_ends(self.ray.get(ref)) == 2
        return self._seconds_of_get(ref, count)

    def _seconds_of_get(self, ref: Any, count: int) -> float:
        get = self.ray.get
        start = time.perf_counter()
        for _ in range(count):
            get(ref)
        return (time.perf_counter() - start) / count

    def put_one(self, megabytes: int) -> float:
        """Put an array; it is deleted when this is over."""
        array = tasks.ones(megabytes)
        start = time.perf_counter()
        ref = self.ray.put(array)
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(self.ray.get(ref)) == 2
        return seconds
