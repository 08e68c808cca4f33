"""What type checkers make of the public surface, seen from a program that uses it.

Checked by mypy and pyright, both strict, and never run: a line whose type is another than the one
asserted is an error of theirs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any, assert_type

import aioray
from aioray import (
    CancelOutcome,
    DoNotRetry,
    Engine,
    ObjectRef,
    RemoteFunction,
    RestartPolicy,
    RetryPolicy,
    RetryTask,
    RuntimeContext,
    exceptions,
)
from aioray.actor import ActorClass, ActorHandle, ActorMethod
from aioray.ids import HexId
from aioray.runtime_env import RuntimeEnv, RuntimeEnvConfig
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


def functions() -> None:
    made: RemoteFunction[..., int] = length
    assert_type(made.remote("a"), ObjectRef[int])
    assert_type(length.remote("a"), ObjectRef[int])
    assert_type(length.remote(aioray.put("a"), times=2), ObjectRef[int])
    assert_type(fetch.options(num_cpus=2).remote(""), ObjectRef[bytes])
    assert_type(nothing.remote(), ObjectRef[None])
    assert_type(length.function("a"), int)


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


Counter = aioray.remote(Plain)
Guarded = aioray.remote(max_restarts=3, restart_policy=RestartPolicy(intensity=2))(Plain)


def actors() -> None:
    assert_type(Counter, ActorClass)
    assert_type(Guarded, ActorClass)
    counter = Counter.remote(5)
    assert_type(counter, ActorHandle)
    assert_type(Counter.options(name="a").remote(1), ActorHandle)
    assert_type(counter.add, ActorMethod)
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


def decorated_classes() -> None:
    # mypy leaves classes as they are, whatever their decorators return (python/mypy#3135): there,
    # write `A = aioray.remote(Plain)`. pyright knows both forms.
    handle: ActorHandle = Decorated.remote()  # type: ignore[attr-defined]
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
    assert_type(ref.task_id(), HexId)
    assert_type(ref.done(), bool)
    assert_type(ref.result(), int)
    assert_type(ref.exception(), BaseException | None)
    assert_type(ref.future(), concurrent.futures.Future[int])


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
    policy = RetryPolicy(initial_delay=0.5, factor=3, maximum_delay=30, jitter=False)
    assert_type(policy.time_budget, float | None)
    assert_type(
        fetch.options(retry=policy, retry_exceptions=_worth_it).remote("a"), ObjectRef[bytes]
    )


# An ignore that is not needed is an error of mypy's, so these lines assert that it objects.
_ = aioray.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
length.remot("a")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
aioray.kill(length.remote("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
aioray.cancel(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
