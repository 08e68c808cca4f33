"""Mistakes that type checkers have to find in a program that uses the public surface.

Checked by mypy and pyright, both strict, and never run. Each has to complain of exactly the lines
that end in `# error`, and of nothing else; `tests/house/check_typing.py` compares.
"""

from __future__ import annotations

from collections.abc import Iterator

import aioray
from aioray import Engine, ObjectRef, RestartPolicy, RetryPolicy
from aioray.actor import Actor
from aioray.util import ActorPool, Executor, Queue, as_completed, map_unordered
from aioray.util.multiprocessing import Pool


@aioray.remote
def length(text: str, times: int = 1) -> int:
    return len(text) * times


@aioray.remote(num_cpus=1)
def only_by_name(*, text: str) -> int:
    return len(text)


@aioray.remote
def nothing() -> None: ...


@aioray.remote
def total(*numbers: int) -> int:
    return sum(numbers)


@aioray.remote
async def fetch(url: str) -> bytes:
    return url.encode()


@aioray.remote
def count(limit: int) -> Iterator[int]:
    yield from range(limit)


@aioray.remote(num_returns=2)
def pair(number: int) -> tuple[int, str]:
    return number, str(number)


def arguments(number: ObjectRef[int], text: ObjectRef[str]) -> None:
    length.remote("a")
    length.remote()  # error
    length.remote(1)  # error
    length.remote("a", "b")  # error
    length.remote("a", 1, 2)  # error
    length.remote("a", tims=2)  # error
    length.remote("a", times="b")  # error
    length.remote(text=1)  # error
    length.remote(times=1)  # error
    nothing.remote(1)  # error
    only_by_name.remote("a")  # error
    only_by_name.remote()  # error
    only_by_name.remote(txt="a")  # error
    total.remote("a")  # error
    total.remote(1, 2, "a")  # error
    fetch.remote(b"a")  # error
    count.remote("a")  # error
    pair.remote("a")  # error
    length("a").bit_length()  # error


def refs_as_arguments(number: ObjectRef[int], text: ObjectRef[str]) -> None:
    length.remote(text, number)
    length.remote("a", times=number)
    length.remote(number)  # error
    length.remote(text, text)  # error
    length.remote("a", text)  # error
    length.remote(text, tims=1)  # error
    length.remote(text, number, 1)  # error
    nothing.remote(number)  # error
    total.remote(number, text)  # error
    fetch.remote(number)  # error


def options() -> None:
    length.options(num_cpus=0.5, max_retries=1, retry=RetryPolicy()).remote("a")
    length.options(num_cpus=1).remote(1)  # error
    length.options(num_cpus="1")  # error
    length.options(nmu_cpus=1)  # error
    length.options(max_calls=1)  # error
    length.options(max_restarts=1)  # error
    length.options(num_returns="two")  # error
    aioray.remote(nmu_cpus=1)  # error
    aioray.remote(max_retries="3")  # error
    aioray.remote(max_restarts=1, max_retries=1)  # error
    aioray.remote(max_restarts="1")  # error
    aioray.remote(max_restarts=1)(len)  # error
    aioray.method(num_cpus=1)  # error
    aioray.init(num_cpu=1)  # error
    aioray.init(num_cpus="1")  # error
    aioray.init(5)  # error
    Engine(num_cpu=1)  # error
    Engine().get(length.remote("a")).upper()  # error
    Engine().get(length)  # error
    Engine().wait([length.remote("a")], timeouts=1)  # error
    Engine().own_session()  # error


async def results(ref: ObjectRef[int]) -> None:
    number: int = length.remote("a")  # error
    print(1 + length.remote("a"))  # error
    words: str = aioray.get(length.remote("a"))  # error
    content: str = await fetch.remote("a")  # error
    for item in count.remote(1):
        item.upper()  # error
    async for item in count.remote(1):
        (await item).upper()  # error
    await count.remote(1)  # error
    first, second = pair.remote(1)
    aioray.get(first).upper()  # error
    aioray.get(second).bit_length()  # error
    first, second, _ = pair.remote(1)  # error
    aioray.get(pair.options(num_returns=1).remote(1)).upper()  # error
    aioray.get(length.options(num_returns=0).remote("a"))  # error
    aioray.get(5)  # error
    aioray.get([1])  # error
    aioray.get(ref, 5)  # error
    aioray.get(ref, timeout="5")  # error
    aioray.get(aioray.put(ref)).bit_length()  # error
    aioray.wait(ref)  # error
    aioray.wait([ref], num_return=1)  # error
    aioray.wait([1])  # error
    aioray.put()  # error
    aioray.put(1, owner=None)  # error
    aioray.cancel(5)  # error
    aioray.cancel(ref, forced=True)  # error
    aioray.kill(ref)  # error
    print(aioray.nonsense)  # error
    print(ref.nonsense)  # error
    print(number, words, content)


class Plain:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, by: int) -> int:
        return self.value + by


class Required:
    def __init__(self, start: int) -> None:
        self.value = start


def plain_classes(number: ObjectRef[int], text: ObjectRef[str]) -> None:
    made = aioray.remote(Plain)
    required = aioray.remote(max_restarts=1, restart_policy=RestartPolicy())(Required)
    actor = made.remote(number)
    required.remote(start=1)
    made.remote("a")  # error
    made.remote(text)  # error
    made.remote(start="a")  # error
    made.remote(begin=1)  # error
    made.remote(1, 2)  # error
    made(1).add(2)  # error
    required.remote()  # error
    required.options(name="a").remote()  # error
    made.options(nmae="a")  # error
    made.options(max_retries=1)  # error
    made.options(lifetime="long")  # error
    aioray.get(actor.add)  # error
    aioray.get(actor)  # error
    actor.add(1).bit_length()  # error


@aioray.remote
class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.value = start

    @aioray.method
    def add(self, by: int, times: int = 1) -> int:
        self.add("a")  # error
        return self.value + by * times

    @aioray.method(num_returns=2)
    async def both(self) -> tuple[int, str]:
        return self.value, ""

    @aioray.method(concurrency_group="io")
    def values(self) -> Iterator[str]:
        yield str(self.value)


def typed_classes(number: ObjectRef[int], text: ObjectRef[str]) -> None:
    counter = Counter.remote(number)
    Counter.remote()  # error
    Counter.remote("a")  # error
    Counter.remote(text)  # error
    Counter.remote(begin=1)  # error
    Counter.options(nmae="a")  # error
    Counter.options(name="a").remote("a")  # error
    counter.add.remote()  # error
    counter.add.remote("a")  # error
    counter.add.remote(text)  # error
    counter.add.remote(1, tims=1)  # error
    counter.add.options(nmae="a")  # error
    counter.add.options(name="a").remote("a")  # error
    counter.ad.remote(1)  # error
    aioray.get(counter.add.remote(1)).upper()  # error
    first, _ = counter.both.remote()
    aioray.get(first).upper()  # error
    aioray.get(next(counter.values.remote())).bit_length()  # error


def tools(number: ObjectRef[int], text: ObjectRef[str]) -> None:
    for value in as_completed([number]):
        value.upper()  # error
    for ref in as_completed([number], yield_obj_refs=True):
        ref.bit_length()  # error
    for value in map_unordered(length, ["a"]):
        value.upper()  # error
    map_unordered(length, [1])  # error
    map_unordered(length, [number])  # error
    as_completed([number], chunks=1)  # error
    for value in aioray.progress([number]):
        value.upper()  # error
    pool = ActorPool([Counter.remote(1)])
    for value in pool.map(lambda actor, by: actor.add.remote(by), [1]):
        value.upper()  # error
    pool.map(lambda actor, by: actor.add.remote(by), ["a"])  # error
    queue: Queue[int] = Queue()
    queue.put("a")  # error
    queue.put(text)  # error
    queue.get().upper()  # error
    with Pool() as processes:
        processes.map(len, ["a"])[0].upper()  # error
        processes.map(len, [1])  # error
    with Executor() as executor:
        executor.submit(len, 1)  # error
        executor.submit(len, "a").result().upper()  # error
