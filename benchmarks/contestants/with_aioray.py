"""aioray, in its own loop or from a plain script."""

from __future__ import annotations

import asyncio
import itertools
import resource
import time
from typing import TYPE_CHECKING, Any

import aioray
from aioray.exceptions import RayError, WorkerCrashedError
from aioray.testing import lose
from benchmarks import tasks
from benchmarks.contestants.asynchronous import AsyncContestant, file_appears
from benchmarks.contestants.base import awaited, each_awaited
from benchmarks.contestants.ray_like import STORE_BYTES, RayLike, RemoteFunctions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

do = RemoteFunctions(aioray)

SETTLE_SECONDS = 0.5  # for submissions to get from the caller's hands into the engine


def _init(workers: int, *, history: bool = True) -> None:
    settings = {} if history else {"history": 0}
    aioray.init(num_cpus=workers, object_store_memory=STORE_BYTES, log_to_driver=False, **settings)


def _fill_and_empty(megabytes: int, times: int) -> float:
    """Bytes in use after as many arrays as the limit holds were put and deleted, so many times."""
    array = tasks.ones(megabytes)
    for _ in range(times * STORE_BYTES // array.nbytes):
        aioray.put(array)
    total, free = aioray.cluster_resources(), aioray.available_resources()
    return total["object_store_memory"] - free.get("object_store_memory", 0.0)


def _chain_of_blocks(length: int) -> list[Any]:
    """Refs of tasks, each of which adds one to the block of the one before; the first has 1."""
    refs = [do.numbered_block.remote(1)]
    while len(refs) < length:
        refs.append(do.next_block.remote(refs[-1]))
    return refs


class AsyncAioray(AsyncContestant):
    """The engine lives in the driver's loop."""

    def __init__(
        self,
        workers: int,
        directory: str,
        *,
        as_futures: bool = True,
        use_uvloop: bool = True,
        history: bool = True,
    ) -> None:
        super().__init__(workers, directory)
        self.history = history
        if use_uvloop:
            import uvloop

            self.loop_factory = uvloop.new_event_loop
        self.as_futures = as_futures

    async def open(self) -> None:
        _init(self.workers, history=self.history)

    def version(self) -> str:
        return aioray.__version__

    async def close(self) -> None:
        await aioray.shutdown()

    async def _all(self, refs: list[Any]) -> list[Any]:
        if self.as_futures:
            return await asyncio.gather(*[ref.as_future() for ref in refs])
        return await asyncio.gather(*refs)

    def call(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        ref: Awaitable[Any] = do.of(function)(*args)
        return ref

    async def many(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: object = None
    ) -> float:
        submit = do.of(function)
        return await awaited(lambda: self._all([submit(*args) for args in calls]), last)

    async def one_by_one(
        self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]
    ) -> list[float]:
        return await each_awaited(do.of(function), calls)

    async def new_actors(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            start = time.perf_counter()
            actor = do.adder.remote()
            await actor.add_one.remote(0)
            taken.append(time.perf_counter() - start)
            aioray.kill(actor)
        return taken

    async def chain(self, length: int) -> float:
        start = time.perf_counter()
        ref = do.add_one.remote(0)
        for _ in range(length - 1):
            ref = do.add_one.remote(ref)
        assert await ref == length
        return time.perf_counter() - start

    async def tree(self, leaves: int) -> float:
        start = time.perf_counter()
        assert await do.tree.remote(leaves) == leaves * (leaves + 1) // 2
        return time.perf_counter() - start

    async def stream(self, items: int) -> float:
        start = time.perf_counter()
        total = 0
        async for ref in do.count.remote(items):
            total += await ref
        seconds = time.perf_counter() - start
        assert total == items * (items - 1) // 2
        return items / seconds

    async def actor_calls(self, count: int) -> float:
        actor = do.adder.remote()
        await actor.add_one.remote(0)
        start = time.perf_counter()
        values = await self._all([actor.add_one.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    async def actor_round_trips(self, count: int) -> list[float]:
        actor = do.adder.remote()
        await actor.add_one.remote(0)
        taken = []
        clock = time.perf_counter
        for i in range(count):
            start = clock()
            await actor.add_one.remote(i)
            taken.append(clock() - start)
        return taken

    async def new_workers(self, count: int) -> float:
        """Seconds for tasks that no living worker may run: their environment is new."""
        variants = [
            do.add_one.options(runtime_env={"env_vars": {"BENCHMARK": self.fresh_path()}})
            for _ in range(count)
        ]
        start = time.perf_counter()
        await self._all([variant.remote(i) for i, variant in enumerate(variants)])
        return time.perf_counter() - start

    async def crash(self) -> dict[str, float]:
        path = self.fresh_path()
        try:
            await do.die.remote(path)
        except WorkerCrashedError:
            noticed = time.monotonic() - tasks.time_of_death(path)
        await do.add_one.remote(1)
        died = await do.die_once.remote(self.fresh_path())
        return {"noticed": noticed, "retried": time.monotonic() - died}

    async def first_crash(self) -> float:
        died = await do.die_once.remote(self.fresh_path())
        return time.monotonic() - died

    async def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        path = self.fresh_path()
        ref = (do.mark_and_loop if loops else do.mark_and_sleep).remote(path)
        following = do.add_one.remote(1)
        await file_appears(path)
        start = time.perf_counter()
        aioray.cancel(ref, force=force)
        try:
            await ref
        except RayError:
            seen = time.perf_counter() - start
        await following
        return {"seen": seen, "next": time.perf_counter() - start}

    async def enqueue(self, count: int) -> None:
        path = self.fresh_path()
        self.kept += [do.hold.remote(path) for _ in range(self.workers)]
        self.kept += [do.add_one.remote(i) for i in range(count)]
        await asyncio.sleep(SETTLE_SECONDS)

    # ------------------------------------------------------------ large values: see RayLike

    async def share(self, megabytes: int, count: int) -> float:
        array = tasks.ones(megabytes)
        start = time.perf_counter()
        ref = aioray.put(array)
        totals = await self._all([do.total.remote(ref) for _ in range(count)])
        seconds = time.perf_counter() - start
        assert totals == [array.size] * count
        return seconds

    async def pass_directly(self, megabytes: int, count: int) -> float:
        array = tasks.ones(megabytes)
        return await self.many(tasks.total, itertools.repeat((array,), count), array.size)

    async def return_arrays(self, megabytes: int, count: int) -> float:
        start = time.perf_counter()
        arrays = await self._all([do.ones.remote(megabytes) for _ in range(count)])
        ends = [tasks.sum_of_ends(array) for array in arrays]
        seconds = time.perf_counter() - start
        assert ends == [2] * count
        return seconds

    async def put_and_get_many(self, count: int) -> float:
        block = tasks.numbered_block(0)
        refs = []
        start = time.perf_counter()
        for i in range(count):
            block[0] = i
            ref = aioray.put(block)
            assert (await ref)[0] == i
            refs.append(ref)
        return time.perf_counter() - start

    async def return_many(self, count: int) -> float:
        start = time.perf_counter()
        blocks = await self._all([do.numbered_block.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert [tasks.sum_of_ends(block) for block in blocks] == [2 * i for i in range(count)]
        return seconds

    async def get_small(self, count: int) -> float:
        ref = do.add_one.remote(41)
        assert await ref == 42
        return await self._seconds_of_await(ref, count)

    async def get_large(self, megabytes: int, count: int) -> float:
        ref = aioray.put(tasks.ones(megabytes))
        assert tasks.sum_of_ends(await ref) == 2
        return await self._seconds_of_await(ref, count)

    async def _seconds_of_await(self, ref: Any, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            await ref
        return (time.perf_counter() - start) / count

    async def put_one(self, megabytes: int) -> float:
        array = tasks.ones(megabytes)
        start = time.perf_counter()
        ref = aioray.put(array)
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(await ref) == 2
        return seconds

    async def fill_and_empty(self, megabytes: int, times: int) -> float:
        return _fill_and_empty(megabytes, times)

    async def recover(self) -> float:
        """Seconds until a lost array of 1 MB is there again."""
        ref = do.ones.remote(1)
        assert tasks.sum_of_ends(await ref) == 2
        lose(ref)
        start = time.perf_counter()
        array = await ref
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(array) == 2
        return seconds

    async def recover_chain(self, length: int) -> float:
        """Seconds until the last of a chain is there again, all of which are lost."""
        refs = _chain_of_blocks(length)
        assert (await refs[-1])[0] == length
        for ref in refs:
            lose(ref)
        start = time.perf_counter()
        block = await refs[-1]
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(block) == 2 * length
        return seconds


class SyncAioray(RayLike):
    """The engine has a thread of its own; the driver blocks in `get`."""

    ray = aioray
    do = do

    def __init__(self, workers: int, directory: str, *, history: bool = True) -> None:
        super().__init__(workers, directory)
        self.history = history

    def open(self) -> None:
        _init(self.workers, history=self.history)

    def mapped(self, count: int, how: str, chunk: None) -> float:
        """Seconds for `aioray.map` over so many integers; it finds the size of a chunk itself."""
        del chunk
        start = time.perf_counter()
        total = sum(aioray.map(do.add_one, range(count), ordered=how != "unordered"))
        seconds = time.perf_counter() - start
        assert total == count * (count + 1) // 2
        return seconds

    def growth_of_map(self, count: int) -> float:
        """Megabytes by which the peak of the process's memory grows over so many items."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.mapped(count, "map", None)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    def fill_and_empty(self, megabytes: int, times: int) -> float:
        return _fill_and_empty(megabytes, times)

    def recover(self) -> float:
        ref = do.ones.remote(1)
        assert tasks.sum_of_ends(aioray.get(ref)) == 2
        lose(ref)
        start = time.perf_counter()
        array = aioray.get(ref)
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(array) == 2
        return seconds

    def recover_chain(self, length: int) -> float:
        refs = _chain_of_blocks(length)
        assert aioray.get(refs[-1])[0] == length
        for ref in refs:
            lose(ref)
        start = time.perf_counter()
        block = aioray.get(refs[-1])
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(block) == 2 * length
        return seconds
