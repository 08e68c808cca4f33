"""The engine in virtual time: delays, ladders and shutdown, to the second and without waiting."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import aioray
from aioray import CancelOutcome, RetryPolicy
from aioray.exceptions import (
    DoNotRetry,
    EngineShutdownError,
    RaySystemError,
    RayTaskError,
    RetryTask,
    TaskCancelledError,
    WorkerCrashedError,
    WorkerStartupError,
)

from . import fake
from .fake import Die, FakeEngine, FakeProcesses, Hang, Raise, Return, VirtualLoop

TICK = 0.01  # seconds that timers may be late: the engine rounds them up to milliseconds

Story = Callable[[FakeEngine], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def no_start_failures() -> Any:
    FakeProcesses.start_failures = 0
    yield
    FakeProcesses.start_failures = 0


def play(story: Story, *, num_cpus: int = 1, **settings: Any) -> FakeEngine:
    """Run a story on a new engine and loop; the engine as it was left."""
    engines: list[FakeEngine] = []

    async def run() -> None:
        async with FakeEngine(num_cpus=num_cpus, **settings) as engine:
            engines.append(engine)
            await story(engine)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    assert engines[0].closed
    assert engines[0].processes.closed
    return engines[0]


def now() -> float:
    return asyncio.get_running_loop().time()


def scripted(*acts: Any, **options: Any) -> Any:
    """A remote function that plays one act per attempt, the last one for ever."""
    remaining = list(acts)

    def job(key: int = id(remaining)) -> Any:
        return fake.next_act(key)

    fake.acts[id(remaining)] = remaining
    return aioray.remote(**{"max_retries": 3, **options})(job)


def test_value_arrives_when_its_worker_answers() -> None:
    async def story(engine: FakeEngine) -> None:
        begin = now()
        assert await scripted(Return(42, after=3600.0)).remote() == 42
        assert now() - begin == pytest.approx(3600.0, abs=TICK)

    play(story)


def test_backoff_follows_the_policy_and_leaves_the_cpu_to_others() -> None:
    policy = RetryPolicy(initial_delay=10.0, factor=2.0, jitter=False)
    boom = Raise(ValueError("no"))

    async def story(engine: FakeEngine) -> None:
        begin = now()
        slow = scripted(boom, boom, boom, Return("late"), retry=policy, retry_exceptions=True)
        ref = slow.remote()
        await asyncio.sleep(1.0)
        assert await scripted(Return("between", after=5.0)).remote() == "between"
        assert now() - begin == pytest.approx(6.0, abs=TICK)
        assert await ref == "late"
        assert now() - begin == pytest.approx(10.0 + 20.0 + 40.0, abs=4 * TICK)

    play(story)


def test_jitter_is_reproducible_with_a_seed() -> None:
    policy = RetryPolicy(initial_delay=100.0, factor=1.0, maximum_delay=100.0)

    def duration(seed: int) -> float:
        seconds: list[float] = []

        async def story(engine: FakeEngine) -> None:
            begin = now()
            boom = Raise(ValueError("no"))
            f = scripted(boom, boom, Return(1), retry=policy, retry_exceptions=True)
            await f.remote()
            seconds.append(now() - begin)

        play(story, retry_seed=seed)
        return seconds[0]

    assert duration(7) == duration(7)
    assert duration(7) != duration(8)
    assert duration(7) < 200.0


def test_time_budget_ends_retrying() -> None:
    policy = RetryPolicy(initial_delay=10.0, factor=1.0, jitter=False, time_budget=25.0)

    async def story(engine: FakeEngine) -> None:
        begin = now()
        f = scripted(Raise(ValueError("no")), retry=policy, retry_exceptions=True, max_retries=-1)
        with pytest.raises(ValueError) as caught:
            await f.remote()
        assert now() - begin == pytest.approx(20.0, abs=4 * TICK)
        assert isinstance(caught.value, RayTaskError)
        assert [attempt.number for attempt in caught.value.attempts] == [0, 1, 2]

    play(story)


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_crashes_are_retried_so_often_and_all_attempts_are_told(max_retries: int) -> None:
    async def story(engine: FakeEngine) -> None:
        with pytest.raises(WorkerCrashedError) as caught:
            await scripted(Die(), max_retries=max_retries).remote()
        attempts = caught.value.attempts
        assert [attempt.number for attempt in attempts] == list(range(max_retries + 1))
        assert {attempt.error_type for attempt in attempts} == {"WORKER_DIED"}
        assert len({attempt.worker_id for attempt in attempts}) == max_retries + 1
        assert caught.value.signal == "SIGKILL"

    engine = play(story)
    assert [what for _, what, _ in engine.processes.log].count("run") == max_retries + 1


def test_first_crash_is_retried_at_once_and_later_ones_ever_later() -> None:
    async def story(engine: FakeEngine) -> None:
        assert await scripted(Die(), Die(), Die(), Return(1)).remote() == 1

    engine = play(story)
    runs = [at for at, what, _ in engine.processes.log if what == "run"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(runs)]
    assert gaps == pytest.approx([0.0, 0.05, 0.1], abs=TICK)


def test_a_task_may_ask_for_a_retry_or_forbid_it() -> None:
    async def story(engine: FakeEngine) -> None:
        begin = now()
        assert await scripted(Raise(RetryTask(30.0)), Return("again")).remote() == "again"
        assert now() - begin == pytest.approx(30.0, abs=TICK)
        f = scripted(Raise(DoNotRetry("hopeless")), Return("never"), retry_exceptions=True)
        with pytest.raises(DoNotRetry, match="hopeless"):
            await f.remote()

    play(story)


def test_grace_turns_an_ignored_interrupt_into_a_kill() -> None:
    async def story(engine: FakeEngine) -> None:
        ref = scripted(Hang(ignores_interrupts=True)).remote()
        await asyncio.sleep(1.0)
        begin = now()
        assert await aioray.cancel(ref, grace=5.0) is CancelOutcome.KILLED
        assert now() - begin == pytest.approx(5.0, abs=TICK)
        with pytest.raises(TaskCancelledError):
            await ref
        interrupts = [at for at, what, _ in engine.processes.log if what == "interrupt"]
        assert len(interrupts) == pytest.approx(100, abs=20)  # one each 50 ms until it obeys

    play(story)


def test_interrupt_ends_a_task_and_its_dependents_but_not_its_worker() -> None:
    async def story(engine: FakeEngine) -> None:
        ref = scripted(Hang()).remote()
        dependent = aioray.remote(_after).remote(ref)
        await asyncio.sleep(1.0)
        assert await aioray.cancel(ref) is CancelOutcome.INTERRUPTED
        for failed in (ref, dependent):
            with pytest.raises(TaskCancelledError):
                await failed
        assert await scripted(Return(1)).remote() == 1
        assert [what for _, what, _ in engine.processes.log].count("start") == 1

    play(story)


def _after(value: Any) -> Return:
    return Return(value)


def test_queued_task_is_cancelled_without_having_run() -> None:
    async def story(engine: FakeEngine) -> None:
        first = scripted(Return(1, after=10.0)).remote()
        queued = scripted(Return(2)).remote()
        await asyncio.sleep(1.0)
        assert await aioray.cancel(queued) is CancelOutcome.NOT_STARTED
        assert await first == 1
        assert await aioray.cancel(first) is CancelOutcome.FINISHED_FIRST
        with pytest.raises(TaskCancelledError):
            await queued

    engine = play(story)
    assert [what for _, what, _ in engine.processes.log].count("run") == 1


def test_task_in_backoff_is_cancelled_at_once() -> None:
    policy = RetryPolicy(initial_delay=1000.0, maximum_delay=1000.0, jitter=False)

    async def story(engine: FakeEngine) -> None:
        ref = scripted(Raise(ValueError()), retry=policy, retry_exceptions=True).remote()
        begin = now()
        await asyncio.sleep(1.0)
        assert await aioray.cancel(ref) is CancelOutcome.NOT_STARTED
        assert now() - begin == pytest.approx(1.0, abs=TICK)

    play(story)


def test_time_out_of_one_awaiter_touches_neither_task_nor_other_awaiters() -> None:
    async def story(engine: FakeEngine) -> None:
        ref = scripted(Return("value", after=10.0)).remote()
        other = asyncio.ensure_future(asyncio.gather(ref, ref))
        for impatient in (
            lambda: asyncio.wait_for(ref, 1.0),
            lambda: asyncio.wait_for(asyncio.gather(ref), 1.0),
            lambda: asyncio.wait_for(ref.as_future(), 1.0),
        ):
            with pytest.raises(TimeoutError):
                await impatient()
        done, pending = await asyncio.wait([ref], timeout=1.0)
        assert (done, pending) == (set(), {ref})
        assert await other == ["value", "value"]
        done, pending = await asyncio.wait([ref])
        assert (done, pending) == ({ref}, set())

    play(story)


def test_drain_lets_tasks_finish_and_refuses_new_ones() -> None:
    async def story(engine: FakeEngine) -> None:
        running = scripted(Return("ran", after=5.0)).remote()
        queued = scripted(Return("too", after=5.0)).remote()
        await asyncio.sleep(1.0)
        begin = now()
        ending = asyncio.ensure_future(engine.shutdown(drain=60.0))
        await asyncio.sleep(0)
        late = scripted(Return("late")).remote()
        with pytest.raises(EngineShutdownError):
            await late
        assert (await running, await queued) == ("ran", "too")
        await ending
        assert now() - begin == pytest.approx(9.0, abs=4 * TICK)
        assert "kill" not in [what for _, what, _ in engine.processes.log]

    play(story)


def test_drain_that_is_not_enough_interrupts_and_then_kills() -> None:
    async def story(engine: FakeEngine) -> None:
        hanging = scripted(Hang(ignores_interrupts=True)).remote()
        polite = scripted(Hang()).remote()
        queued = scripted(Return(1)).remote()
        await asyncio.sleep(1.0)
        begin = now()
        await engine.shutdown(drain=10.0)
        assert now() - begin == pytest.approx(11.0, abs=4 * TICK)
        for ref in (hanging, polite, queued):
            with pytest.raises(EngineShutdownError):
                await ref

    engine = play(story, num_cpus=2)
    kills = [at for at, what, _ in engine.processes.log if what == "kill"]
    assert kills


def test_shutdown_at_once_resolves_every_ref() -> None:
    async def story(engine: FakeEngine) -> None:
        refs = [scripted(Hang()).remote() for _ in range(5)]
        await asyncio.sleep(1.0)
        await engine.shutdown()
        for ref in refs:
            with pytest.raises(EngineShutdownError):
                await ref

    play(story)


def test_workers_that_cannot_start_are_tried_a_few_times_and_then_told() -> None:
    async def story(engine: FakeEngine) -> None:
        FakeProcesses.start_failures = 1000
        begin = now()
        with pytest.raises(WorkerStartupError, match="no room") as caught:
            await scripted(Return(1)).remote()
        assert caught.value.stderr == "its last words"
        assert now() - begin < 1.0
        FakeProcesses.start_failures = 0
        assert await scripted(Return(1)).remote() == 1

    engine = play(story)
    assert [what for _, what, _ in engine.processes.log].count("start") == 5


def test_idle_worker_beyond_the_cpus_is_stopped_after_a_second() -> None:
    async def story(engine: FakeEngine) -> None:
        refs = [scripted(Return(1, after=2.0), num_cpus=0.5).remote() for _ in range(2)]
        await asyncio.gather(*refs)
        begin = now()
        await asyncio.sleep(5.0)
        stops = [at for at, what, _ in engine.processes.log if what == "stop"]
        assert [at - begin for at in stops] == pytest.approx([1.0], abs=TICK)

    play(story)


def test_a_bug_in_the_engine_ends_the_session_instead_of_hanging(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(engine: FakeEngine) -> None:
        waiting = scripted(Hang()).remote()
        await asyncio.sleep(1.0)

        def broken(core: Any, event: Any, at: float) -> Any:
            raise AssertionError("impossible")

        monkeypatch.setattr(type(engine._core), "handle", broken)
        late = scripted(Return(1)).remote()
        for ref in (waiting, late):
            with pytest.raises(RaySystemError, match="impossible"):
                await ref
        assert engine.closed

    with caplog.at_level(logging.CRITICAL, "aioray"):
        play(story)
    assert "failed internally" in caplog.text


class AlarmError(Exception):
    pass


class LimitReached(BaseException):
    pass


@pytest.mark.parametrize("error", [AlarmError, LimitReached, KeyboardInterrupt])
def test_what_a_signal_handler_raises_into_the_engine_is_told_from_a_bug(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: an alarm in the midst of the scheduler's work was told to be a bug of aioray's."""

    def ring(_signum: int, _frame: Any) -> None:
        raise error("time is up")

    async def story(engine: FakeEngine) -> None:
        waiting = scripted(Hang()).remote()
        await asyncio.sleep(1.0)
        handle = engine._core.handle

        def interrupted(core: Any, event: Any, at: float) -> Any:
            signal.raise_signal(signal.SIGUSR1)
            return handle(event, at)

        monkeypatch.setattr(type(engine._core), "handle", interrupted)
        late = scripted(Return(1)).remote()
        with pytest.raises(error, match="time is up"):
            engine._mailbox.drain()
        for ref in (waiting, late):
            with pytest.raises(RaySystemError, match="handler of a signal") as raised:
                await ref
            assert "bug" not in str(raised.value)
        assert engine.closed

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with caplog.at_level(logging.ERROR, "aioray"):
            play(story)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "time is up" in caplog.text
    assert "internally" not in caplog.text


@pytest.mark.parametrize("awaited", [True, False])
def test_error_that_nobody_looked_at_is_logged(
    awaited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(engine: FakeEngine) -> None:
        ref = scripted(Raise(ValueError("lost"))).remote()
        await asyncio.wait([ref])
        if awaited:
            with pytest.raises(ValueError, match="lost"):
                await ref
        del ref

    with caplog.at_level(logging.ERROR, "aioray"):
        play(story)
    assert ("Unhandled error" in caplog.text) is not awaited
