"""`faults`: what a test orders happens, on virtual workers, in local mode and on real ones."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import aioray
from aioray import CancelOutcome
from aioray.exceptions import (
    ActorDiedError,
    ObjectReconstructionFailedError,
    TaskCancelledError,
    WorkerCrashedError,
    WorkerStartupError,
)
from aioray.testing import FaultPoint, VirtualEngine, faults, takes


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    from aioray.client.protocol import registry

    assert registry.opened == []
    assert not registry.by_job


@aioray.remote
def attempt_number() -> int | None:
    return aioray.get_runtime_context().get_attempt_number()


@aioray.remote(max_retries=0)
def fragile() -> str:
    return "whole"


@aioray.remote
def large(size: int = 200_000) -> Any:
    return np.zeros(size, dtype="b")


async def test_the_nth_attempt_crashes() -> None:
    async with VirtualEngine(num_cpus=1):
        with faults(crash_at=[2, 3]) as ordered:
            assert await attempt_number.remote() == 0
            assert await attempt_number.remote() == 2
            assert await attempt_number.remote() == 0
        assert [(what, point.nth, point.attempt) for what, point in ordered.happened] == [
            ("crash_at", 2, 0),
            ("crash_at", 3, 1),
        ]
        assert await attempt_number.remote() == 0


@pytest.mark.parametrize(("crash", "runs"), [("before", 1), ("after", 2)])
async def test_a_crash_comes_before_or_after_the_function_has_run(crash: Any, runs: int) -> None:
    ran: list[int] = []

    @aioray.remote
    def run() -> None:
        ran.append(1)

    @aioray.remote
    async def run_on_loop() -> None:
        ran.append(1)

    @aioray.remote
    def generate() -> Any:
        ran.append(1)
        yield 1

    async with VirtualEngine():
        for function in (run, run_on_loop):
            ran.clear()
            with faults(crash_at=1, crash=crash):
                await function.remote()
            assert len(ran) == runs
        ran.clear()
        with faults(crash_at=1, crash=crash):
            assert [await ref async for ref in generate.remote()] == [1]
        assert len(ran) == runs


async def test_functions_are_picked_by_name_and_by_what_a_function_says() -> None:
    @aioray.remote(max_restarts=0)
    class Shop:
        def sell(self) -> int:
            return 1

        def buy(self) -> int:
            return 2

    async with VirtualEngine():
        with faults(crash_at={"fragile": 1, "Shop.buy": lambda at: at.attempt == 0}):
            assert await attempt_number.remote() == 0
            with pytest.raises(WorkerCrashedError) as caught:
                await fragile.remote()
            assert caught.value.signal == "SIGKILL"
            shop = Shop.remote()
            assert await shop.sell.remote() == 1
            with pytest.raises(ActorDiedError):
                await shop.buy.remote()


async def test_probability_follows_from_the_seed_alone() -> None:
    async def crashes(seed: int | None, gap: float = 0.0) -> tuple[int, list[Any]]:
        async with VirtualEngine(num_cpus=4):
            with faults(crash_at=0.3, seed=seed) as ordered:
                refs = []
                for _ in range(30):
                    refs.append(attempt_number.options(max_retries=-1).remote())
                    await asyncio.sleep(gap)
                await asyncio.gather(*refs)
            return ordered.seed, sorted(
                (point.task, point.attempt) for _, point in ordered.happened
            )

    seed, found = await crashes(None)
    assert found
    assert await crashes(seed) == (seed, found)
    assert await crashes(seed, gap=1.0) == (seed, found)
    assert (await crashes(seed + 1))[1] != found


async def test_what_hangs_ends_by_a_kill_only() -> None:
    @aioray.remote(max_retries=0)
    async def on_loop() -> None:
        pass

    async with VirtualEngine() as engine:
        for function in (fragile, on_loop):
            with faults(hang=1):
                ref = function.remote()
                await asyncio.sleep(3600)
                assert not ref.done()
                before = engine.clock.elapsed
                assert await aioray.cancel(ref, grace=5) is CancelOutcome.KILLED
                assert engine.clock.elapsed == before + 5
                with pytest.raises(TaskCancelledError):
                    await ref
        assert await fragile.remote() == "whole"


async def test_stored_values_are_lost_and_computed_again() -> None:
    async with VirtualEngine():
        with faults(lose=1) as ordered:
            assert (await large.remote()).size == 200_000
        assert [what for what, _ in ordered.happened] == ["lose"]
        with faults(lose=1.0), pytest.raises(ObjectReconstructionFailedError):
            await large.options(max_retries=0).remote()


async def test_refused_starts_are_tried_again_and_given_up_in_the_end() -> None:
    async with VirtualEngine() as engine:
        with faults(refuse_start=[1, 2]) as ordered:
            assert await fragile.remote() == "whole"
        assert len(ordered.happened) == 2
        assert engine.clock.elapsed > 0
    async with VirtualEngine():
        with faults(refuse_start=1.0), pytest.raises(WorkerStartupError, match="faults"):
            await fragile.remote()


async def test_a_test_that_fails_has_the_seed_in_a_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with VirtualEngine():
            with faults(crash_at={"attempt_number": 1}, seed=7):
                await attempt_number.remote()
                raise ZeroDivisionError
    (note,) = caught.value.__notes__
    assert "seed=7" in note
    assert "crash_at: attempt_number (task 1, attempt 0)" in note


def test_faults_in_local_mode() -> None:
    with faults(crash_at={"attempt_number": 1}, lose=1):
        aioray.init(local_mode=True)
        try:
            assert aioray.get(attempt_number.remote()) == 1
            assert aioray.get(large.remote()).size == 200_000
            with pytest.raises(ValueError, match="in local mode"), faults(hang=1):
                pass
        finally:
            aioray.shutdown()


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"crash_at": 0}, ValueError, "counts from 1"),
        ({"crash_at": 1.5}, ValueError, "no probability"),
        ({"crash_at": "f"}, TypeError, "takes a number"),
        ({"crash_at": True}, TypeError, "whole numbers"),
        ({"crash_at": {"f": {"g": 1}}}, TypeError, "by function"),
        ({"crash_at": {1: 1}}, TypeError, "by function"),
        ({"hang": [1, "x"]}, TypeError, "whole numbers"),
        ({"refuse_start": {"f": 1}}, TypeError, "takes a number"),
        ({"crash": "during"}, ValueError, "crash must be"),
        ({"seed": "x"}, TypeError, "seed must be"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        faults(**settings)


async def test_real_workers_crash_hang_lose_and_do_not_start() -> None:
    async with aioray.Engine(num_cpus=1):
        with faults(crash_at={"attempt_number": [1, 2]}, refuse_start=1, seed=1) as ordered:
            assert await attempt_number.remote() == 2
        assert [what for what, _ in ordered.happened].count("crash_at") == 2
        with faults(crash_at=1, crash="after"), pytest.raises(WorkerCrashedError) as caught:
            await fragile.remote()
        assert caught.value.signal == "SIGKILL"
        with faults(hang=1):
            ref = fragile.remote()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ref.as_future(), 0.2)
            assert await aioray.cancel(ref, grace=0.1) is CancelOutcome.KILLED
        with faults(lose=1) as ordered:
            assert (await large.remote()).size == 200_000
        assert [what for what, _ in ordered.happened] == ["lose"]

        @aioray.remote(max_restarts=1, max_task_retries=1)
        class Counter:
            def __init__(self) -> None:
                self.count = 0

            def add(self) -> int:
                self.count += 1
                return self.count

        @aioray.remote(max_restarts=1)
        class Waiter:
            async def wait(self) -> str:
                return "waited"

        counter, waiter = Counter.remote(), Waiter.remote()
        assert await counter.add.remote() == 1
        with faults(crash_at={"Counter.add": 1, "Waiter.wait": 1}):
            assert await counter.add.remote() == 1
            with pytest.raises(aioray.exceptions.RayActorError):
                await waiter.wait.remote()
        assert await waiter.wait.remote() == "waited"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_everything_at_once_ends_well_and_the_same_each_time(seed: int) -> None:
    @aioray.remote(max_retries=-1, retry_exceptions=True, timeout=60)
    def job(number: int) -> Any:
        takes(number % 7 + 1)
        return b"x" * 200_000 if number % 3 == 0 else number

    async def story() -> tuple[float, list[tuple[str, FaultPoint]]]:
        async with VirtualEngine(seed=seed, num_cpus=4) as engine:
            with faults(crash_at=0.2, hang=0.05, lose=0.2, refuse_start=0.1, seed=seed) as ordered:
                values = await asyncio.gather(*[job.remote(number) for number in range(100)])
            assert [len(value) for value in values[::3]] == [200_000] * 34
            assert values[1::3] == list(range(1, 100, 3))
            return engine.clock.elapsed, ordered.happened

    first = await story()
    assert {what for what, _ in first[1]} == {"crash_at", "hang", "lose", "refuse_start"}
    assert await story() == first
