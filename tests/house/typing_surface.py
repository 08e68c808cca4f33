"""What type checkers make of the public surface, seen from a program that uses it.

Checked by mypy and pyright, both strict, and never run: a line whose type is another than the one
asserted is an error of theirs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, assert_type

import aioray
from aioray import (
    CancelOutcome,
    DoNotRetry,
    DynamicObjectRefGenerator,
    Engine,
    ObjectRef,
    ObjectRefGenerator,
    RemoteFunction,
    RestartPolicy,
    RetryPolicy,
    RetryTask,
    RuntimeContext,
    exceptions,
)
from aioray.actor import Actor, ActorClass, ActorHandle, ActorMethod
from aioray.options.runtime_env import RuntimeEnv, RuntimeEnvConfig
from aioray.shared.id_classes import TaskID
from aioray.testing import FaultPoint, Faults, VirtualEngine, faults, takes
from aioray.util import ActorPool, Executor, Queue, as_completed, map_unordered
from aioray.util.multiprocessing import Pool
from aioray.util.placement_group import PlacementGroup
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from aioray.util.state import get_task, list_tasks, summarize_tasks
from aioray.util.state.common import TaskState


@aioray.remote
def length(text: str, times: int = 1) -> int:
    return len(text) * times


@aioray.remote(max_retries=5, retry_exceptions=[OSError], retry=RetryPolicy(initial_delay=0.1))
def fetch(url: str) -> bytes:
    if url:
        raise RetryTask(delay=1.5, message="busy")
    raise DoNotRetry("no address")


@aioray.remote
def nothing() -> None: ...


@aioray.remote
async def shout(word: str) -> str:
    return word.upper()


@aioray.remote
def letters(word: str) -> Iterator[str]:
    yield from word


@aioray.remote(num_cpus=0.5)
async def slow_letters(word: str) -> AsyncIterator[str]:
    for letter in word:
        yield letter


@aioray.remote(num_returns=2)
def pair(number: int) -> tuple[int, str]:
    return number, str(number)


@aioray.remote(num_returns=3, max_retries=0)
def thrice(number: int) -> list[int]:
    return [number] * 3


@aioray.remote(num_returns=0)
def aside(number: int) -> None: ...


@aioray.remote(num_returns="dynamic")
def all_at_once(number: int) -> Iterator[int]:
    yield from range(number)


@aioray.remote
def total(*numbers: int) -> int:
    return sum(numbers)


@aioray.remote
def anything(value: Any) -> Any:
    return value


def functions() -> None:
    made: RemoteFunction[..., int] = length
    exact: RemoteFunction[[str], bytes] = fetch
    assert_type(made.remote("a"), ObjectRef[int])
    assert_type(exact.remote("a"), ObjectRef[bytes])
    assert_type(length.remote("a"), ObjectRef[int])
    assert_type(fetch.options(num_cpus=2).remote(""), ObjectRef[bytes])
    assert_type(nothing.remote(), ObjectRef[None])
    assert_type(length.function("a"), int)


def refs_as_arguments() -> None:
    word, times = aioray.put("a"), aioray.put(2)
    assert_type(length.remote(word, times=2), ObjectRef[int])
    assert_type(length.remote(word, times), ObjectRef[int])
    assert_type(length.remote("a", times=times), ObjectRef[int])
    assert_type(length.remote(fetched.remote(word), times), ObjectRef[int])
    assert_type(total.remote(1, times, 3), ObjectRef[int])
    assert_type(total.remote(*[times, times]), ObjectRef[int])
    anything.remote(word)
    anything.remote([word])


@aioray.remote
def fetched(url: str) -> str:
    return url


async def results() -> None:
    assert_type(shout.remote("a"), ObjectRef[str])
    assert_type(await shout.options(num_cpus=1, num_returns=1).remote("a"), str)
    assert_type(letters.remote("a"), ObjectRefGenerator[str])
    assert_type(slow_letters.remote("a"), ObjectRefGenerator[str])
    assert_type(letters.options(num_returns=2).remote("ab"), list[ObjectRef[str]])
    assert_type(letters.options(num_returns="streaming").remote("a"), ObjectRefGenerator[str])
    for ref in letters.remote("a"):
        assert_type(aioray.get(ref), str)
    async for ref in slow_letters.remote("a"):
        assert_type(await ref, str)
    assert_type(pair.remote(1), tuple[ObjectRef[int], ObjectRef[str]])
    assert_type(aioray.get(pair.remote(1)), list[int | str])
    assert_type(pair.options(num_returns=1).remote(1), ObjectRef[tuple[int, str]])
    assert_type(thrice.remote(1), list[ObjectRef[int]])
    assert_type(fetch.options(num_returns=2).remote("a"), list[ObjectRef[int]])
    assert_type(aside.remote(1), None)
    assert_type(length.options(num_returns=0).remote("a"), None)
    assert_type(aioray.get(all_at_once.remote(1)), DynamicObjectRefGenerator[int])


async def structured() -> None:
    async with aioray.scope(on_exit="wait", grace=1.0) as scope:
        assert_type(scope.submit(length, "a"), ObjectRef[int])
        assert_type(scope.submit(length, "a", times=2), ObjectRef[int])
        assert_type(scope.submit(length, aioray.put("a"), aioray.put(2)), ObjectRef[int])
        assert_type(scope.submit(fetch.options(num_cpus=2), "a"), ObjectRef[bytes])
        assert_type(scope.submit(letters, "a"), ObjectRefGenerator[str])
        assert_type(scope.submit(pair, 1), tuple[ObjectRef[int], ObjectRef[str]])
        assert_type(scope.submit(Counter, 5), ActorHandle[Plain])
        assert_type(await scope.submit(length, "a"), int)
        await scope.join()
        scope.cancel()
    assert_type(await length.remote("a"), int)
    assert_type(await length.remote("a").bound(grace=1), int)
    number, data = await aioray.gather(length.remote("a"), fetch.remote("b"))
    assert_type(number, int)
    assert_type(data, bytes)
    refs = [length.remote("a")]
    assert_type(await aioray.gather(*refs), list[int])
    assert_type(await aioray.gather(*refs, return_exceptions=True), list[int | BaseException])
    async for ref in aioray.as_completed(refs, timeout=5):
        assert_type(ref, ObjectRef[int])
    for ref in aioray.as_completed(refs):
        assert_type(aioray.get(ref), int)
    assert_type(aioray.health(), dict[str, Any])


@aioray.asgi.cancel_on_disconnect
async def endpoint(number: int) -> int:
    return await length.remote("a") + number


async def watched() -> None:
    refs = [length.remote("a")]
    for value in aioray.progress(refs, desc="lengths", total=1):
        assert_type(value, int)
    async for value in aioray.progress(refs):
        assert_type(value, int)
    assert_type(await aioray.progress(refs), list[int])
    assert_type(await aioray.progress(refs, return_exceptions=True), list[int | BaseException])
    assert_type(await aioray.progress(refs, yield_obj_refs=True), list[ObjectRef[int]])


class Plain:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    @aioray.method(num_returns=2, max_task_retries=1)
    def pair(self) -> tuple[int, int]:
        return self.value, 1

    @aioray.method
    def add(self, by: int) -> int:
        if not by:
            aioray.exit_actor()
        return self.value + by


class Required:
    def __init__(self, start: int) -> None:
        self.value = start


Counter = aioray.remote(Plain)
Needy = aioray.remote(num_cpus=1)(Required)
Guarded = aioray.remote(max_restarts=3, restart_policy=RestartPolicy(intensity=2))(Plain)


def actors() -> None:
    made: ActorClass[Plain] = Counter
    assert_type(made.remote(5), ActorHandle[Plain])
    counter = Counter.remote(5)
    assert_type(counter, ActorHandle[Plain])
    assert_type(Needy.remote(aioray.put(1)), ActorHandle[Required])
    unknown: ActorHandle = counter
    unknown.whatever.remote(1, 2, x=3)
    assert_type(Guarded.remote(start=5), ActorHandle[Plain])
    assert_type(Counter.options(name="a").remote(1), ActorHandle[Plain])
    assert_type(Counter.remote(aioray.put(1)), ActorHandle[Plain])
    assert_type(counter.add, ActorMethod[..., Any, Any])
    refs: list[ObjectRef[int]] = [counter.add.remote(1), counter.add.options(name="x").remote(2)]
    assert_type(aioray.get(refs), list[int])
    assert_type(Plain().add(1), int)
    assert_type(aioray.get_actor("a", namespace="n"), ActorHandle)
    assert_type(aioray.kill(counter, no_restart=False), None)
    aioray.util.list_named_actors(all_namespaces=True)


@aioray.remote
class Decorated:
    def double(self, number: int) -> int:
        return number * 2


@aioray.remote(max_restarts=1)
class Typed(Actor):
    def __init__(self, start: int, name: str = "") -> None:
        self.value = start

    @aioray.method
    def add(self, by: int, times: int = 1) -> int:
        return self.value + by * times

    @aioray.method
    async def shout(self, word: str) -> str:
        return word.upper()

    @aioray.method(num_returns=2, max_task_retries=1)
    def both(self) -> tuple[int, str]:
        return self.add(1), ""

    @aioray.method
    def values(self) -> Iterator[int]:
        yield self.value


def typed_classes() -> None:
    typed = Typed.remote(1, name="a")
    assert_type(typed, Typed)
    assert_type(Typed.remote(aioray.put(1), aioray.put("a")), Typed)
    assert_type(Typed.options(name="a", lifetime="detached").remote(1), Typed)
    assert_type(typed.add.remote(1, times=2), ObjectRef[int])
    assert_type(typed.add.remote(aioray.put(1)), ObjectRef[int])
    assert_type(typed.add.options(name="x").remote(by=1), ObjectRef[int])
    assert_type(typed.shout.remote("a"), ObjectRef[str])
    assert_type(typed.both.remote(), tuple[ObjectRef[int], ObjectRef[str]])
    assert_type(typed.values.remote(), ObjectRefGenerator[int])
    aioray.kill(typed)
    pool = aioray.util.ActorPool([typed])
    assert_type(list(pool.map(lambda actor, by: actor.add.remote(by), [1])), list[int])


def decorated_classes() -> None:
    # mypy leaves classes as they are, whatever their decorators return (python/mypy#3135): there,
    # derive from Actor or write `A = aioray.remote(Plain)`. pyright knows all forms.
    handle: ActorHandle[Decorated] = Decorated.remote()  # type: ignore[attr-defined]
    ref: ObjectRef[int] = handle.double.remote(2)
    assert_type(aioray.get(ref), int)


def values() -> None:
    ref = length.remote("a")
    assert_type(aioray.put("a"), ObjectRef[str])
    assert_type(aioray.get(ref), int)
    assert_type(aioray.get(ref, timeout=1.5), int)
    assert_type(aioray.get([ref, ref]), list[int])
    assert_type(aioray.wait([ref], timeout=0), tuple[list[ObjectRef[int]], list[ObjectRef[int]]])
    assert_type(ref.hex(), str)
    assert_type(ref.binary(), bytes)
    assert_type(ref.task_id(), TaskID)
    assert_type(ref.done(), bool)
    assert_type(ref.result(), int)
    assert_type(ref.exception(), BaseException | None)
    assert_type(ref.future(), concurrent.futures.Future[int])


def several_values() -> None:
    number, word = aioray.put(1), aioray.put("a")
    nested = aioray.put(number)
    assert_type(aioray.get(nested), ObjectRef[int])
    assert_type(aioray.get([nested]), list[ObjectRef[int]])
    stream = letters.remote("a")
    assert_type(aioray.get(stream), ObjectRefGenerator[str])
    ready, rest = aioray.wait([stream], num_returns=1)
    assert_type(ready, list[ObjectRefGenerator[str]])
    aioray.wait([stream, *rest, word])
    aioray.wait(pair.remote(1))
    aioray.cancel(stream)


def tools() -> None:
    number = aioray.put(1)
    assert_type(list(as_completed([number])), list[int])
    assert_type(list(as_completed([number], yield_obj_refs=True)), list[ObjectRef[int]])
    assert_type(list(map_unordered(length, ["a"])), list[int])
    assert_type(list(map_unordered(length, [aioray.put("a")])), list[int])
    assert_type(list(map_unordered(shout.options(num_cpus=1), ["a"])), list[str])
    assert_type(
        list(map_unordered(shout, ["a"], yield_obj_refs=True, chunk_size=1)), list[ObjectRef[str]]
    )
    pool = ActorPool([Counter.remote(1)])
    assert_type(list(pool.map(lambda actor, by: actor.add.remote(by), [1])), list[Any])
    assert_type(pool.get_next(), Any)
    queue: Queue[int] = Queue(maxsize=2)
    queue.put(1)
    queue.put(number)
    assert_type(queue.get(), int)
    assert_type(queue.get_nowait_batch(2), list[int])
    assert_type(Queue().get(), Any)
    with Pool(2) as processes:
        assert_type(processes.map(len, ["a"]), list[int])
        assert_type(list(processes.imap(str, [1])), list[str])
        assert_type(processes.map_async(len, ["a"]).get(), list[int])
    with Executor(num_cpus=1) as executor:
        assert_type(executor.submit(len, "a").result(), int)


async def engines() -> None:
    async with Engine(num_cpus=2, history=0) as engine:
        number = engine.put(1)
        assert_type(number, ObjectRef[int])
        assert_type(engine.get(number, timeout=1), int)
        assert_type(engine.get([number]), list[int])
        assert_type(
            engine.wait([number], timeout=1), tuple[list[ObjectRef[int]], list[ObjectRef[int]]]
        )
        assert_type(await engine.cancel(number, grace=1), CancelOutcome)
        assert_type(engine.cluster_resources(), dict[str, float])


async def awaiting() -> None:
    ref = length.remote("a")
    assert_type(await ref, int)
    assert_type(await asyncio.wait_for(ref, 1), int)
    assert_type(await asyncio.gather(ref, fetch.remote("")), tuple[int, bytes])
    assert_type(ref.as_future(), asyncio.Future[int])
    async with asyncio.timeout(1):
        assert_type(await nothing.remote(), None)


async def cancelling() -> None:
    ref = length.remote("a")
    assert_type(await aioray.cancel(ref, grace=2), CancelOutcome)
    assert_type(aioray.cancel(ref, force=True).result(timeout=1), CancelOutcome)


async def sessions() -> None:
    with aioray.init(num_cpus=2) as session:
        assert_type(session.address_info, dict[str, Any])
    assert_type(aioray.is_initialized(), bool)
    assert_type(await aioray.shutdown(drain=5), None)
    async with Engine(num_cpus=2) as engine:
        assert_type(engine, Engine)
        assert_type(engine.pids(), list[int])
        with engine.activate():
            assert_type(await length.remote("a"), int)
        assert_type(await engine.shutdown(drain=1), None)


def surroundings() -> None:
    context = aioray.get_runtime_context()
    assert_type(context, RuntimeContext)
    assert_type(context.get_attempt_number(), int | None)
    assert_type(context.get_task_id(), str | None)
    assert_type(context.namespace, str)
    assert_type(aioray.cluster_resources(), dict[str, float])
    assert_type(aioray.available_resources(), dict[str, float])
    assert_type(aioray.nodes(), list[dict[str, Any]])
    assert_type(aioray.__version__, str)


def environments() -> None:
    env = RuntimeEnv(working_dir=".", py_modules=[asyncio], config=RuntimeEnvConfig(30))
    assert_type(env.working_dir(), str | None)
    assert_type(env.py_modules(), list[str] | None)
    assert_type(env.env_vars(), dict[str, str])
    assert_type(aioray.get_runtime_context().runtime_env, RuntimeEnv)
    aioray.init(runtime_env=env)


def placement() -> None:
    group = aioray.util.placement_group([{"CPU": 1, "GPU": 0.5}], strategy="SPREAD", name="mine")
    assert_type(group, PlacementGroup)
    assert_type(group.ready(), ObjectRef[PlacementGroup])
    assert_type(group.wait(1), bool)
    assert_type(group.bundle_specs, list[dict[str, float]])
    assert_type(aioray.util.get_current_placement_group(), PlacementGroup | None)
    inside = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    assert_type(length.options(scheduling_strategy=inside, priority=2).remote("a"), ObjectRef[int])
    assert_type(aioray.get_gpu_ids(), list[int] | list[str])
    aioray.util.remove_placement_group(group)


def errors() -> None:
    try:
        aioray.get(length.remote("a"))
    except exceptions.WorkerCrashedError as crash:
        assert_type(crash.exit_code, int | None)
        assert_type(crash.signal, str | None)
        assert_type(crash.stderr_tail, str)
        assert_type(crash.attempts, tuple[exceptions.AttemptInfo, ...])
        assert_type(crash.attempts[0].duration, float | None)
    except exceptions.RayTaskError as error:
        assert_type(error.cause, BaseException | None)
        assert_type(error.as_instanceof_cause(), exceptions.RayTaskError)
    except exceptions.TaskCancelledError as cancelled:
        assert_type(cancelled.task_id, str | None)


@aioray.remote
def _half(number: int, by: int = 2) -> float:
    return number / by


@aioray.remote
async def _later(number: int) -> str:
    return str(number)


def _plain(number: int) -> bytes:
    return bytes(number)


def maps() -> None:
    for half in aioray.map(_half, [1, 2]):
        assert_type(half, float)
    for text in aioray.map(_later, range(3), ordered=False, max_in_flight=10):
        assert_type(text, str)
    for half in aioray.map(_half.options(num_cpus=2), [1, 2]):
        assert_type(half, float)
    for data in aioray.map(_plain, [1, 2]):
        assert_type(data, bytes)
    for half_or_error in aioray.map(_half, [1, 2], return_exceptions=True):
        assert_type(half_or_error, float | Exception)
    for half in aioray.map(_half, [(1, 2), (3, 4)], star=True):
        assert_type(half, float)


async def maps_on_a_loop() -> None:
    async with aioray.map(_half, [1, 2]) as values:
        async for half in values:
            assert_type(half, float)
    assert_type([text async for text in aioray.map(_later, range(3))], list[str])


def what_goes_on() -> None:
    rows = list_tasks(filters=[("state", "=", "FAILED"), ("attempt_number", "=", 0)], detail=True)
    assert_type(rows, list[TaskState])
    assert_type(rows[0].worker_pid, int | None)
    assert_type(rows[0]["name"], Any)
    assert_type(get_task(length.remote("a")), TaskState | list[TaskState] | None)
    assert_type(summarize_tasks(), dict[str, Any])
    assert_type(aioray.timeline(), list[dict[str, Any]] | None)


def _worth_it(error: BaseException) -> bool:
    return isinstance(error, OSError)


def policies() -> None:
    breaker = aioray.CrashBreaker(crashes=2, period=60, rest=30.5)
    limited = fetch.options(timeout=1, deadline=2.5, stall_timeout=None, breaker=breaker)
    assert_type(limited.remote("a"), ObjectRef[bytes])
    aioray.heartbeat()
    policy = RetryPolicy(initial_delay=0.5, factor=3, maximum_delay=30, jitter=False)
    assert_type(policy.time_budget, float | None)
    assert_type(
        fetch.options(retry=policy, retry_exceptions=_worth_it).remote("a"), ObjectRef[bytes]
    )


async def tests_in_virtual_time() -> None:
    async with VirtualEngine(seed=1, num_cpus=2, autojump=False) as engine:
        assert_type(engine.clock.elapsed, float)
        assert_type(await engine.advance(60), None)
        assert_type(await length.remote("a"), int)
    with VirtualEngine() as engine:
        assert_type(engine.seed, int | None)
        takes(5)


def _at_first(point: FaultPoint) -> bool:
    return point.attempt == 0 and point.function == "length"


def tests_with_faults() -> None:
    with faults(crash_at={"length": 0.25, "fetch": 0.5}, hang=_at_first, seed=3) as ordered:
        assert_type(ordered, Faults)
        assert_type(ordered.happened, list[tuple[str, FaultPoint]])
    faults(crash_at=1, crash="after", lose=0.5, refuse_start=[1, 2])
    aioray.init(local_mode=True).disconnect()


GenericT = TypeVar("GenericT")


@aioray.remote
def the_same(value: GenericT) -> GenericT:
    return value


@aioray.remote(max_retries=2)
def first_of(values: list[GenericT]) -> GenericT:
    return values[0]


def generics() -> None:
    the_same.remote(1)
    the_same.options(num_cpus=2).remote("a")
    first_of.remote([1])


# An ignore that is not needed is an error of mypy's, so these lines assert that it objects.
_ = aioray.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
length.remot("a")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
aioray.kill(length.remote("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
aioray.cancel(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
