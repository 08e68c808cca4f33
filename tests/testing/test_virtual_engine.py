"""`VirtualEngine`: functions of users in virtual time, exact to the second and done in no time."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any, get_args

import anyio
import pytest

import aioray
from aioray import CancelOutcome, RetryPolicy
from aioray.client.protocol import registry
from aioray.core.commands import Command, ReportMemoryShort
from aioray.exceptions import (
    ActorUnavailableError,
    EngineShutdownError,
    GetTimeoutError,
    RayTaskError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from aioray.testing import VirtualEngine, takes
from aioray.util.state import list_tasks


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    threads = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= threads
    assert time.sleep.__name__ == "sleep"


@aioray.remote
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@aioray.remote(max_retries=0)
def stubborn() -> None:
    while True:
        try:
            takes(float("inf"))
        except KeyboardInterrupt:
            continue


async def test_backoff_follows_the_policy_exactly() -> None:
    begun: list[float] = []
    policy = RetryPolicy(initial_delay=10.0, factor=2.0, jitter=False)
    async with VirtualEngine() as engine:

        @aioray.remote(retry_exceptions=True, retry=policy)
        def flaky() -> str:
            begun.append(engine.clock.elapsed)
            time.sleep(1)
            if len(begun) < 4:
                raise ValueError("again")
            return "done"

        assert await flaky.remote() == "done"
        assert begun == [0.0, 11.0, 32.0, 73.0]
        assert engine.clock.elapsed == 74.0


async def test_jitter_is_that_of_the_seed() -> None:
    async def ends_at(seed: int) -> float:
        policy = RetryPolicy(initial_delay=60.0, factor=1.0)
        async with VirtualEngine(seed=seed) as engine:

            @aioray.remote(retry_exceptions=True, retry=policy, max_retries=3)
            def fail() -> None:
                raise ValueError("no")

            with pytest.raises(ValueError):
                await fail.remote()
            return engine.clock.elapsed

    assert await ends_at(1) == await ends_at(1)
    assert await ends_at(1) != await ends_at(2)


def test_a_story_goes_the_same_way_whatever_the_machine_s_clock_says() -> None:
    """Sums of floats are rounded by their size, and ties are broken by what is rounded."""

    def ends_at(uptime: float) -> float:
        async def story() -> float:
            loop = asyncio.get_running_loop()
            loop.time = lambda: uptime
            async with VirtualEngine(seed=1) as engine:
                for _ in range(20):
                    await asyncio.sleep(0.1)
                    await asyncio.sleep(1 / 3)
                return engine.clock.elapsed

        return asyncio.run(story())

    assert ends_at(3.7) == ends_at(127.9) == ends_at(70_000.3)


async def test_a_timeout_around_the_engine_counts_its_time() -> None:
    began = []
    with anyio.move_on_after(5) as scope:
        async with VirtualEngine() as engine:
            began.append(engine.clock)
            await asyncio.sleep(4)
            began.append(engine.clock)
            await asyncio.sleep(2)
    assert scope.cancelled_caught
    assert len(began) == 2
    assert began[0].elapsed == pytest.approx(5, abs=1)


async def test_time_budget_ends_the_retries() -> None:
    policy = RetryPolicy(initial_delay=10.0, factor=1.0, jitter=False, time_budget=25.0)
    async with VirtualEngine() as engine:

        @aioray.remote(retry_exceptions=True, retry=policy, max_retries=-1)
        def fail() -> None:
            raise ValueError("no")

        with pytest.raises(RayTaskError) as caught:
            await fail.remote()
        assert [attempt.number for attempt in caught.value.attempts] == [0, 1, 2]
        assert [attempt.duration for attempt in caught.value.attempts] == [0.0, 0.0, 0.0]
        assert engine.clock.elapsed == 20.0


async def test_tasks_share_the_cpus() -> None:
    async with VirtualEngine(num_cpus=2) as engine:
        assert await asyncio.gather(*[nap.remote(10) for _ in range(5)]) == [10] * 5
        assert engine.clock.elapsed == 30.0


async def test_a_task_that_waits_for_others_lends_its_cpu() -> None:
    @aioray.remote
    def parent(n: int) -> float:
        return sum(aioray.get([nap.remote(2) for _ in range(n)]))

    @aioray.remote
    async def async_parent(n: int) -> float:
        await asyncio.sleep(1)
        return sum(await asyncio.gather(*[nap.remote(2) for _ in range(n)]))

    @aioray.remote
    def impatient() -> str:
        with pytest.raises(GetTimeoutError):
            aioray.get(nap.remote(100), timeout=7)
        ready, _ = aioray.wait([nap.remote(3), nap.remote(1)], num_returns=1)
        return str(len(ready))

    async with VirtualEngine(num_cpus=1) as engine:
        assert await parent.remote(3) == 6
        assert engine.clock.elapsed == 6.0
        assert await async_parent.remote(3) == 6
        assert engine.clock.elapsed == 13.0
        await impatient.remote()


async def test_interrupt_and_grace_work_on_functions_that_sleep() -> None:
    async with VirtualEngine() as engine:
        ref = nap.remote(3600)
        await asyncio.sleep(5)
        assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
        with pytest.raises(TaskCancelledError):
            await ref
        assert engine.clock.elapsed == 5.0
        deaf = stubborn.remote()
        await asyncio.sleep(1)
        assert await aioray.cancel(deaf, grace=30) is CancelOutcome.KILLED
        assert engine.clock.elapsed == 36.0
        deaf = stubborn.remote()
        await asyncio.sleep(1)
        assert await aioray.cancel(deaf, force=True) is CancelOutcome.KILLED


async def test_coroutines_are_cancelled_where_they_wait() -> None:
    said: list[str] = []

    @aioray.remote
    async def waiting() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            said.append("cleaned up")
            raise

    async with VirtualEngine() as engine:
        ref = waiting.remote()
        await asyncio.sleep(5)
        assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
        assert said == ["cleaned up"]
        assert engine.clock.elapsed == 5.0


async def test_crashes_back_off_and_are_told() -> None:
    async with VirtualEngine() as engine:

        @aioray.remote(max_retries=3)
        def leave() -> None:
            time.sleep(1)
            sys.exit(3)

        with pytest.raises(WorkerCrashedError) as caught:
            await leave.remote()
        assert caught.value.exit_code == 3
        assert engine.clock.elapsed == pytest.approx(4 + 0.05 + 0.1)


async def test_actors_take_their_time_and_restart_by_their_policy() -> None:
    policy = aioray.RestartPolicy()

    @aioray.remote(max_restarts=1, restart_policy=policy)
    class Slow:
        def __init__(self) -> None:
            takes(10)
            self.count = 0

        def add(self) -> int:
            takes(1)
            self.count += 1
            return self.count

        def crash(self) -> None:
            sys.exit(1)

    async with VirtualEngine() as engine:
        slow = Slow.remote()
        assert await asyncio.gather(slow.add.remote(), slow.add.remote()) == [1, 2]
        assert engine.clock.elapsed == 12.0
        with pytest.raises(ActorUnavailableError):
            await slow.crash.remote()
        assert await slow.add.remote() == 1


async def test_asynchronous_and_threaded_actors_run_calls_side_by_side() -> None:
    @aioray.remote
    class Door:
        def __init__(self) -> None:
            self.open = asyncio.Event()

        async def passing(self) -> str:
            await self.open.wait()
            return "through"

        async def let(self) -> None:
            await asyncio.sleep(9)
            self.open.set()

    @aioray.remote(max_concurrency=3)
    class Threads:
        def work(self) -> None:
            takes(10)

    async with VirtualEngine() as engine:
        door = Door.remote()
        passing = door.passing.remote()
        await door.let.remote()
        assert await passing == "through"
        assert engine.clock.elapsed == 9.0
        threads = Threads.remote()
        await asyncio.gather(*[threads.work.remote() for _ in range(4)])
        assert engine.clock.elapsed == 29.0


async def test_generators_yield_in_time_and_wait_to_be_read() -> None:
    made: list[int] = []

    @aioray.remote(_generator_backpressure_num_objects=2)
    def count() -> Any:
        for number in range(6):
            takes(1)
            made.append(number)
            yield number

    async with VirtualEngine() as engine:
        generator = count.remote()
        await asyncio.sleep(100)
        assert made == [0, 1]
        got = [await ref async for ref in generator]
        assert got == [0, 1, 2, 3, 4, 5]
        assert engine.clock.elapsed == 104.0


async def test_timeouts_of_asyncio_and_anyio_are_virtual() -> None:
    async with VirtualEngine() as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await nap.remote(3600)
        assert engine.clock.elapsed == 7.0
        with anyio.move_on_after(5) as scope:
            await anyio.sleep(60)
        assert scope.cancelled_caught
        assert engine.clock.elapsed == 12.0


async def test_time_passes_by_advance_only_if_asked_for() -> None:
    async with VirtualEngine(autojump=False) as engine:
        ref = nap.remote(60)
        await engine.advance(59)
        assert not ref.done()
        await engine.advance(1)
        assert await ref == 60
        assert engine.clock.elapsed == 60.0


def test_a_plain_block_has_a_loop_of_its_own() -> None:
    with VirtualEngine() as engine:
        assert aioray.get(nap.remote(50)) == 50
        assert engine.clock.elapsed == 50.0
        with pytest.raises(GetTimeoutError):
            aioray.get(nap.remote(100), timeout=20)
        assert engine.clock.elapsed == 70.0
        engine.advance(5)
        assert engine.clock.elapsed == 75.0
        ready, pending = aioray.wait([nap.remote(1), nap.remote(2)], num_returns=2, timeout=60)
        assert (len(ready), pending) == (2, [])


async def test_what_is_left_ends_with_the_engine() -> None:
    async with VirtualEngine() as engine:
        refs = [nap.remote(10), stubborn.remote()]
        await asyncio.sleep(1)
    assert engine.closed
    for ref in refs:
        with pytest.raises(EngineShutdownError):
            await ref


async def test_the_loop_has_its_clock_back_afterwards() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with VirtualEngine() as engine:
        await engine.advance(1000)
    after = loop.time()
    assert after >= before + 1000  # it never goes back
    begin = time.monotonic()
    await asyncio.sleep(0.05)
    assert time.monotonic() >= begin + 0.04


async def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioray.testing.clock.PATIENCE", 0.01)

    def main() -> None:
        async def stuck() -> None:
            async with VirtualEngine():
                await asyncio.get_running_loop().create_future()

        loop = asyncio.SelectorEventLoop()
        try:
            with pytest.raises(RuntimeError, match="a deadlock"):
                loop.run_until_complete(stuck())
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0.1))
            loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()


async def test_state_api_tells_virtual_times() -> None:
    async with VirtualEngine():
        await nap.remote(3600)
        (row,) = list_tasks(detail=True)
        assert row.name == "nap"
        assert row.end_time_ms - row.start_time_ms == 3_600_000


def test_uvloop_is_refused() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="without uvloop"):
            async with VirtualEngine():
                pass

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_a_timeout_interrupts_and_then_kills_and_says_where() -> None:
    async with VirtualEngine() as engine:
        with pytest.raises(TaskTimeoutError) as caught:
            await nap.options(timeout=30).remote(3600)
        assert engine.clock.elapsed == 30.0
        assert (caught.value.limit, caught.value.seconds) == ("timeout", 30)
        assert "in nap" in caught.value.python_stack
        with pytest.raises(TaskTimeoutError):
            await stubborn.options(timeout=30).remote()
        assert engine.clock.elapsed > 60.0
        assert await nap.options(timeout=30).remote(29) == 29


async def test_a_deadline_counts_queueing_and_backoff() -> None:
    policy = RetryPolicy(initial_delay=60.0, factor=1.0, jitter=False)
    async with VirtualEngine(num_cpus=1) as engine:
        nap.remote(100)
        with pytest.raises(TaskTimeoutError):
            await nap.options(deadline=50).remote(1)
        assert engine.clock.elapsed == 50.0

        @aioray.remote(retry_exceptions=True, retry=policy, max_retries=-1, deadline=150)
        def fail() -> None:
            raise ValueError("no")

        with pytest.raises(TaskTimeoutError):
            await fail.remote()
        assert engine.clock.elapsed == 200.0


async def test_heartbeats_keep_a_task_from_stalling() -> None:
    @aioray.remote(stall_timeout=10)
    def beating() -> str:
        for _ in range(5):
            takes(9)
            aioray.heartbeat()
        takes(float("inf"))
        return "never"

    @aioray.remote(stall_timeout=10)
    async def stalled() -> None:
        await asyncio.sleep(3600)

    async with VirtualEngine() as engine:
        with pytest.raises(TaskTimeoutError) as caught:
            await beating.remote()
        assert engine.clock.elapsed == 55.0
        assert caught.value.limit == "stall_timeout"
        with pytest.raises(TaskTimeoutError) as caught:
            await stalled.remote()
        assert engine.clock.elapsed == 65.0
        assert "in stalled" in caught.value.python_stack


async def test_a_timeout_of_an_actor_s_call_and_its_retry() -> None:
    tries: list[int] = []

    @aioray.remote(retry_exceptions=[TaskTimeoutError], timeout=10, max_retries=2)
    def slow_at_first() -> int:
        tries.append(1)
        takes(100 if len(tries) < 2 else 1)
        return len(tries)

    @aioray.remote
    class Door:
        async def passing(self) -> None:
            await asyncio.Event().wait()

    async with VirtualEngine() as engine:
        assert await slow_at_first.remote() == 2
        assert engine.clock.elapsed == 11.0
        door = Door.remote()
        with pytest.raises(TaskTimeoutError):
            await door.passing.options(timeout=5).remote()
        assert engine.clock.elapsed == 16.0


async def test_a_circle_of_waiting_calls_is_told() -> None:
    @aioray.remote
    class Circular:
        def wait(self) -> int:
            return aioray.get(aioray.get_runtime_context().current_actor.one.remote())

        def one(self) -> int:
            return 1

    async with VirtualEngine():
        circular = Circular.remote()
        with pytest.raises(ActorUnavailableError, match="can never begin"):
            await circular.wait.remote()
        assert await circular.one.remote() == 1


async def test_scopes_gather_and_bound_waits_are_virtual_too() -> None:
    async with VirtualEngine() as engine:
        assert await aioray.gather(nap.remote(5), nap.remote(7)) == [5, 7]
        assert engine.clock.elapsed == 7.0
        with pytest.raises(ExceptionGroup):
            async with aioray.scope() as scope:
                slow = scope.submit(nap, 3600)
                scope.submit(nap, -1)
                await slow
        assert engine.clock.elapsed == 7.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await nap.remote(3600).bound()
        assert await nap.remote(1) == 1
        assert engine.clock.elapsed == 13.0


async def test_every_command_of_the_core_is_carried_out() -> None:
    """But what tells of memory, at which nobody looks here."""
    async with VirtualEngine():
        client: Any = registry.current()
        assert set(get_args(Command)) - {ReportMemoryShort} <= set(client.orders)
