"""Equivalents of the rows of `ray microbenchmark`, for every library that has Ray's API.

A row has the name that it has there. What it does once is made by a function that gets a `Stage`:
the library, the remote functions and classes, and how large everything is. A second item of the
pair says how much is done each time, in the unit of the rate: calls, or gigabytes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    Once = tuple[Callable[[], object], float]

CLIENTS = 2  # that submit beside each other
SERVERS = 2  # actors that are called by each
REFS_PER_CALL = 10  # within one object: 10,000 where 1,000 calls are made at once


class Server:
    """An actor whose methods do nothing."""

    def answer(self) -> bytes:
        return b"ok"

    def answer_to(self, value: object) -> bytes:
        return b"ok"


class AsyncServer:
    """The same on a loop."""

    async def answer(self) -> bytes:
        return b"ok"

    async def answer_to(self, value: object) -> bytes:
        return b"ok"


def answer() -> bytes:
    return b"ok"


@dataclass
class Stage:
    """What rows act on."""

    library: Any
    size: int  # calls at once
    megabytes: int  # of a large array

    @cached_property
    def small(self) -> Any:
        """The task that does nothing."""
        return self.library.remote(answer)

    def server(self, kind: type, **options: Any) -> Any:
        """A new actor, which has answered."""
        actor = self.library.remote(kind).options(num_cpus=0, **options).remote()
        self.library.get(actor.answer.remote())
        return actor

    def many(self, submit: Callable[[], Any], count: int) -> Callable[[], object]:
        """Have so many submitted, and got."""
        return lambda: self.library.get([submit() for _ in range(count)])

    def beside(self, work: Callable[..., None], *arguments: Any) -> Callable[[], object]:
        """The same work in several tasks, which submit for themselves."""
        client = self.library.remote(work)
        return lambda: self.library.get([client.remote(*arguments) for _ in range(CLIENTS)])


def _get_small(stage: Stage) -> Once:
    ref = stage.library.put(0)
    return lambda: stage.library.get(ref), 1


def _put_small(stage: Stage) -> Once:
    return lambda: stage.library.put(0), 1


def _put_small_beside(stage: Stage) -> Once:
    library = stage.library

    def client(count: int) -> None:
        for _ in range(count):
            library.put(0)

    return stage.beside(client, stage.size // 10), CLIENTS * (stage.size // 10)


def _put_large(stage: Stage) -> Once:
    array = tasks.ones(stage.megabytes)
    return lambda: stage.library.put(array), stage.megabytes / 1000


def _put_large_beside(stage: Stage) -> Once:
    library = stage.library

    def client(megabytes: int) -> None:
        array = tasks.ones(megabytes)
        for _ in range(10):
            library.put(array)

    share = max(1, stage.megabytes // 10)
    return stage.beside(client, share), CLIENTS * 10 * share / 1000


def _batch(stage: Stage) -> Once:
    return stage.many(stage.small.remote, stage.size), 1


def _refs_within(stage: Stage) -> Once:
    library = stage.library

    def many_refs(count: int) -> list[Any]:
        return [library.put(1) for _ in range(count)]

    ref = library.remote(many_refs).remote(REFS_PER_CALL * stage.size)
    return lambda: library.get(ref), 1


def _wait(stage: Stage) -> Once:
    def once() -> None:
        waiting = [stage.small.remote() for _ in range(stage.size)]
        while waiting:
            _, waiting = stage.library.wait(waiting)

    return once, 1


def _task_sync(stage: Stage) -> Once:
    return lambda: stage.library.get(stage.small.remote()), 1


def _task_async(stage: Stage) -> Once:
    return stage.many(stage.small.remote, stage.size), stage.size


def _task_async_beside(stage: Stage) -> Once:
    library, small = stage.library, stage.small

    def client(count: int) -> None:
        library.get([small.remote() for _ in range(count)])

    return stage.beside(client, stage.size), CLIENTS * stage.size


def _actor_sync(kind: type) -> Callable[[Stage], Once]:
    def row(stage: Stage) -> Once:
        actor = stage.server(kind)
        return lambda: stage.library.get(actor.answer.remote()), 1

    return row


def _actor_async(kind: type, **options: Any) -> Callable[[Stage], Once]:
    def row(stage: Stage) -> Once:
        return stage.many(stage.server(kind, **options).answer.remote, stage.size), stage.size

    return row


def _actor_async_with_arguments(kind: type) -> Callable[[Stage], Once]:
    def row(stage: Stage) -> Once:
        method = stage.server(kind).answer_to
        return stage.many(lambda: method.remote(1), stage.size), stage.size

    return row


def _actors_async(kind: type, clients: int, *, with_put: bool = False) -> Callable[[Stage], Once]:
    def row(stage: Stage) -> Once:
        library = stage.library
        servers = [stage.server(kind) for _ in range(SERVERS)]

        def client(actors: list[Any], count: int) -> None:
            if with_put:
                ref = library.put(0)
                library.get([actors[i % SERVERS].answer_to.remote(ref) for i in range(count)])
            else:
                library.get([actors[i % SERVERS].answer.remote() for i in range(count)])

        remote = library.remote(client)
        return (
            lambda: library.get([remote.remote(servers, stage.size) for _ in range(clients)]),
            clients * stage.size,
        )

    return row


def _placement_groups(stage: Stage) -> Once:
    from importlib import import_module

    util = import_module(f"{stage.library.__name__}.util")

    def once() -> None:
        groups = [util.placement_group([{"CPU": 0.001}]) for _ in range(10)]
        for group in groups:
            group.wait(30)
        for group in groups:
            util.remove_placement_group(group)

    return once, 10


ROWS: dict[str, Callable[[Stage], Once]] = {
    "single client get calls (Plasma Store)": _get_small,
    "single client put calls (Plasma Store)": _put_small,
    "multi client put calls (Plasma Store)": _put_small_beside,
    "single client put gigabytes": _put_large,
    "single client tasks and get batch": _batch,
    "multi client put gigabytes": _put_large_beside,
    "single client get object containing 10k refs": _refs_within,
    "single client wait 1k refs": _wait,
    "single client tasks sync": _task_sync,
    "single client tasks async": _task_async,
    "multi client tasks async": _task_async_beside,
    "1:1 actor calls sync": _actor_sync(Server),
    "1:1 actor calls async": _actor_async(Server),
    "1:1 actor calls concurrent": _actor_async(Server, max_concurrency=16),
    "1:n actor calls async": _actors_async(Server, 1),
    "n:n actor calls async": _actors_async(Server, CLIENTS),
    "n:n actor calls with arg async": _actors_async(Server, CLIENTS, with_put=True),
    "1:1 async-actor calls sync": _actor_sync(AsyncServer),
    "1:1 async-actor calls async": _actor_async(AsyncServer),
    "1:1 async-actor calls with args async": _actor_async_with_arguments(AsyncServer),
    "1:n async-actor calls async": _actors_async(AsyncServer, 1),
    "n:n async-actor calls async": _actors_async(AsyncServer, CLIENTS),
    "placement group create/removal": _placement_groups,
}


def rate(library: Any, name: str, seconds: float, size: int, megabytes: int) -> float:
    """How much a second, over at least so many seconds, after once that does not count."""
    once, amount = ROWS[name](Stage(library, size, megabytes))
    once()
    done = 0
    start = now = time.perf_counter()
    while now < start + seconds:
        once()
        done += 1
        now = time.perf_counter()
    return amount * done / (now - start)
