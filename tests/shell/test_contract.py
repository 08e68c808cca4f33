"""What a worker promises, asked of real workers and of the fake ones that other tests rely on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import aioray
from aioray import CancelOutcome
from aioray.exceptions import (
    EngineShutdownError,
    RetryTask,
    TaskCancelledError,
    WorkerCrashedError,
)

from .fake import Die, FakeEngine, Hang, Raise, Return, VirtualLoop

Story = Callable[[Any], Coroutine[Any, Any, None]]


def perform(act: Any) -> Any:
    """Do in a real worker what the fake one only plays."""
    if isinstance(act, Return):
        return act.value
    if isinstance(act, Raise):
        raise act.error
    if isinstance(act, Die):
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            if not act.ignores_interrupts:
                raise


def play(act: Any) -> Any:
    return act


@pytest.fixture(params=["real", "fake"])
def tell(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Runs a story with a remote function that does what its argument says."""
    real = request.param == "real"

    def run(story: Story) -> None:
        async def inside() -> None:
            engine = aioray.Engine(num_cpus=1) if real else FakeEngine(num_cpus=1)
            async with engine:
                await story(aioray.remote(perform if real else play))

        with asyncio.Runner(loop_factory=None if real else VirtualLoop) as runner:
            runner.run(inside())

    return run


def attempts_of(caught: pytest.ExceptionInfo[Any]) -> Any:
    """The attempts of the task that has raised this."""
    return caught.value.attempts


async def running(job: Any, act: Any) -> Any:
    """A task that its worker has surely taken: the one before it on the only CPU is done."""
    first, ref = job.remote(Return(0)), job.remote(act)
    await first
    return ref


def test_value_and_error_come_back(tell: Callable[[Story], None]) -> None:
    async def story(job: Any) -> None:
        assert await job.remote(Return({"a": [1]})) == {"a": [1]}
        with pytest.raises(ValueError, match="mine") as caught:
            await job.remote(Raise(ValueError("mine")))
        assert [attempt.error_type for attempt in attempts_of(caught)] == [
            "TASK_EXECUTION_EXCEPTION"
        ]

    tell(story)


def test_attempts_are_taken_in_the_order_sent(tell: Callable[[Story], None]) -> None:
    async def story(job: Any) -> None:
        order: list[int] = []
        refs = [job.remote(Return(number)) for number in range(100)]
        for ref in refs:
            ref.add_done_callback(lambda done: order.append(done.result()))
        await asyncio.wait(refs)
        await asyncio.sleep(0)
        assert order == list(range(100))

    tell(story)


def test_death_harms_the_running_attempt_only(tell: Callable[[Story], None]) -> None:
    async def story(job: Any) -> None:
        careful = job.options(max_retries=0)
        before = [careful.remote(Return(number)) for number in range(40)]
        doomed = careful.remote(Die())
        after = [careful.remote(Return(number)) for number in range(40)]
        with pytest.raises(WorkerCrashedError) as caught:
            await doomed
        assert caught.value.signal == "SIGKILL"
        assert await asyncio.gather(*before, *after) == [*range(40), *range(40)]

    tell(story)


def test_interrupt_ends_the_attempt_and_keeps_the_worker(tell: Callable[[Story], None]) -> None:
    async def story(job: Any) -> None:
        ref = await running(job, Hang())
        outcome = await aioray.cancel(ref)
        assert outcome in (CancelOutcome.INTERRUPTED, CancelOutcome.NOT_STARTED)
        with pytest.raises(TaskCancelledError):
            await ref
        assert await job.remote(Return("next")) == "next"

    tell(story)


def test_kill_ends_what_ignores_interrupts(tell: Callable[[Story], None]) -> None:
    async def story(job: Any) -> None:
        ref = await running(job, Hang(ignores_interrupts=True))
        queued = job.remote(Return("unharmed"))
        assert await aioray.cancel(ref, grace=0.3) in (
            CancelOutcome.KILLED,
            CancelOutcome.NOT_STARTED,
        )
        assert await queued == "unharmed"

    tell(story)


def test_a_task_that_asks_for_a_retry_gets_it(tell: Callable[[Story], None]) -> None:
    async def story(job: Any) -> None:
        with pytest.raises(RetryTask) as caught:
            await job.options(max_retries=2).remote(Raise(RetryTask(0.01)))
        assert [attempt.number for attempt in attempts_of(caught)] == [0, 1, 2]

    tell(story)


def test_shutdown_resolves_what_runs_and_what_waits(tell: Callable[[Story], None]) -> None:
    refs: list[Any] = []

    async def story(job: Any) -> None:
        refs.append(await running(job, Hang()))
        refs.append(job.remote(Return(1)))

    tell(story)
    for ref in refs:
        assert isinstance(ref.exception(), EngineShutdownError)
