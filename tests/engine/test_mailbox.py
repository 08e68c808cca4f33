"""What feeds the core, without a core, without processes, and in virtual time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from aioray.core.commands import ResolveFailure, ResolveValues
from aioray.core.events import TasksSubmitted, TimerFired
from aioray.core.functions import Function
from aioray.core.model import Kind, SchedulingClass, Task
from aioray.engine.mailbox import Mailbox
from aioray.engine.processes.descriptors import DescriptorsClosedError

from ..shell.fake import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TICK = 0.01  # seconds that the coroutine may be late: timers are rounded up to milliseconds
GUARD = 30.0  # real seconds after which a test has failed


@dataclass(frozen=True)
class Noted:
    """An event that means nothing, and a command that is noted."""

    text: str


class Heard(Noted):
    """A command of the fake core."""


class FakeCore:
    """Notes what it is fed, and orders what it was told to order."""

    def __init__(self) -> None:
        self.fed: list[tuple[Any, float]] = []
        self.answers: dict[Any, Any] = {}  # by event: commands, or the error to raise
        self.deadline: float | None = None
        self.unfinished: list[Task] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        self.fed.append((event, now))
        if isinstance(event, TimerFired):
            self.deadline = None
        key = type(event) if isinstance(event, TasksSubmitted | TimerFired) else event
        answer = self.answers.get(key, [])
        if callable(answer):
            answer = answer()
        return list(answer)

    def next_deadline(self) -> float | None:
        return self.deadline

    def unfinished_tasks(self) -> list[Task]:
        return self.unfinished


@dataclass
class FakeSentinel:
    """Says whether descriptors are intact."""

    intact: bool = True

    def is_intact(self) -> bool:
        return self.intact


@dataclass
class Bench:
    """A mailbox, and what it has asked of the engine around it."""

    core: FakeCore = field(default_factory=FakeCore)
    now: Callable[[], float] = lambda: 0.0
    heard: list[str] = field(default_factory=list)
    failed: list[tuple[Task, str]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.box = Mailbox(
            self.core,
            self._clock,
            fail=lambda task, text: self.failed.append((task, text)),
            close=self._close,
            let_go=self._let_go,
        )
        self.box.orders = {Heard: lambda command: self.heard.append(command.text)}

    def _clock(self) -> float:
        return self.now()

    def _close(self) -> None:
        self.ends.append("closed")
        if not self.box.ended:
            self.box.end()

    def _let_go(self) -> None:
        self.ends.append("let go")
        self.box.abandon()

    @property
    def events(self) -> list[Any]:
        return [event for event, _ in self.core.fed]


def task(number: int = 1) -> Task:
    return Task(
        number, Kind("job", Function(1, "job"), SchedulingClass((), None, 0)), max_retries=0
    )


def play(story: Callable[[Bench], Coroutine[Any, Any, None]]) -> Bench:
    """Run a story with a mailbox that has begun, in virtual time; the mailbox as it was left."""
    bench = Bench()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        bench.now = loop.time
        bench.box.begin(loop, owns_thread=False)
        try:
            await story(bench)
        finally:
            if not bench.box.ended:
                bench.box.end()
            assert bench.box.backoff is not None
            await asyncio.wait([bench.box.backoff])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    return bench


async def pass_time(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


# ---------------------------------------------------------------- feeding


def test_what_an_order_makes_happen_is_handled_after_it_and_not_within() -> None:
    bench = Bench()
    bench.core.answers = {
        Noted("a"): [Heard("a1"), Heard("a2")],
        Noted("b"): [Heard("b1")],
    }

    def hear(command: Heard) -> None:
        bench.heard.append(command.text)
        if command.text == "a1":
            bench.box.feed(Noted("b"))

    bench.box.orders = {Heard: hear}
    bench.box.feed(Noted("a"))
    assert bench.heard == ["a1", "a2", "b1"]
    assert bench.events == [Noted("a"), Noted("b")]


def test_partial_is_called_when_what_came_before_it_is_handled() -> None:
    bench = Bench()
    bench.core.answers = {Noted("a"): [Heard("first"), Heard("second")]}

    def hear(command: Heard) -> None:
        if command.text == "first":
            bench.box.feed(functools.partial(bench.heard.append, "then"))
        bench.heard.append(command.text)

    bench.box.orders = {Heard: hear}
    bench.box.feed(Noted("a"))
    assert bench.heard == ["first", "second", "then"]


def test_events_are_handled_at_the_time_of_the_clock() -> None:
    async def story(bench: Bench) -> None:
        bench.box.feed(Noted("early"))
        await pass_time(5.0)
        bench.box.feed(Noted("late"))

    (_, early), (_, late) = play(story).core.fed
    assert late - early == 5.0


# ---------------------------------------------------------------- the inbox


def test_task_that_finds_nothing_to_be_done_is_handled_at_once_and_the_next_soon() -> None:
    first, second, third = task(1), task(2), task(3)

    async def story(bench: Bench) -> None:
        bench.box.post(first)
        assert [event.tasks for event in bench.events] == [[first]]
        bench.core.unfinished = [first]
        bench.box.post(second)
        bench.box.post(third)
        assert len(bench.events) == 1
        await pass_time()

    assert [event.tasks for event in play(story).events] == [[first], [second, third]]


def test_task_of_who_is_called_while_an_event_is_handled_waits_for_its_end() -> None:
    first, second = task(1), task(2)

    async def story(bench: Bench) -> None:
        def answer() -> list[Any]:
            bench.core.answers.clear()
            bench.box.post(second)
            return []

        bench.core.answers[TasksSubmitted] = answer
        bench.box.post(first)
        assert [event.tasks for event in bench.events] == [[first]]
        await pass_time()

    assert [event.tasks for event in play(story).events] == [[first], [second]]


def test_who_waits_for_an_answer_is_called_back_in_the_pass_in_which_it_comes() -> None:
    async def story(bench: Bench) -> None:
        box, heard = bench.box, bench.heard

        def answer() -> None:
            box.call_back(lambda: heard.append("first"))
            box.call_back(lambda: heard.append("second"))
            heard.append("handled")

        box.in_pass(answer)
        assert heard == ["handled", "first", "second"]
        box.call_back(lambda: heard.append("later"))
        assert heard[3:] == []  # it was not the loop that has called
        await pass_time()
        assert heard[3:] == ["later"]

    play(story)


def test_thread_that_waits_is_woken_at_the_end_of_a_pass_and_at_once_out_of_one() -> None:
    async def story(bench: Bench) -> None:
        box, heard = bench.box, bench.heard

        def answer() -> None:
            box.call_back(lambda: box.at_end(lambda: heard.append("out of user code")))
            box.at_end(lambda: heard.append("at the end"))
            heard.append("handled")

        box.in_pass(answer)
        assert heard == ["handled", "out of user code", "at the end"]
        box.at_end(lambda: heard.append("at once"))
        assert heard[3:] == ["at once"]

    play(story)


def test_those_who_wait_are_called_back_after_one_whose_code_has_raised() -> None:
    async def story(bench: Bench) -> None:
        def answer() -> None:
            bench.box.call_back(sys.exit)
            bench.box.call_back(lambda: bench.heard.append("called"))

        with pytest.raises(SystemExit):
            bench.box.in_pass(answer)
        await pass_time()
        assert bench.heard == ["called"]

    play(story)


def test_tasks_of_one_wake_up_are_one_event_and_calls_keep_their_place() -> None:
    first, second, third = task(1), task(2), task(3)

    async def story(bench: Bench) -> None:
        bench.core.unfinished = [task(4)]
        bench.box.post(first)
        bench.box.post(second)
        bench.box.post(lambda: bench.heard.append(f"after {len(bench.core.fed)} events"))
        bench.box.post(third)
        assert bench.core.fed == []
        await pass_time()

    bench = play(story)
    assert [event.tasks for event in bench.events] == [[first, second], [third]]
    assert bench.heard == ["after 1 events"]


def test_loop_is_woken_once_for_many_tasks_of_another_thread() -> None:
    wakings: list[str] = []

    async def story(bench: Bench) -> None:
        loop = bench.box.loop
        assert loop is not None
        wake = loop.call_soon_threadsafe

        def noted(callback: Any, *args: Any) -> Any:
            if callback == bench.box.drain:
                wakings.append("woken")
            return wake(callback, *args)

        loop.call_soon_threadsafe = noted  # type: ignore[assignment]
        thread = threading.Thread(target=lambda: [bench.box.post(task(n)) for n in range(100)])
        thread.start()
        thread.join(GUARD)
        await pass_time()
        assert [len(event.tasks) for event in bench.events] == [100]
        thread = threading.Thread(target=lambda: bench.box.post(task(100)))
        thread.start()
        thread.join(GUARD)
        await pass_time()

    bench = play(story)
    assert wakings == ["woken", "woken"]
    assert len(bench.events) == 2


def test_history_is_woken_after_tasks_only() -> None:
    async def story(bench: Bench) -> None:
        bench.box.after_tasks = lambda: bench.heard.append("woken")
        bench.box.post(lambda: None)
        await pass_time()
        assert bench.heard == []
        bench.box.post(task())
        await pass_time()

    assert play(story).heard == ["woken"]


def test_mailbox_that_has_not_begun_refuses_everything_and_keeps_nothing() -> None:
    """Bug: what was refused was kept, and whatever came after it was never handled."""
    bench = Bench()
    refused = task()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not started"):
            bench.box.post(refused)

    async def run() -> None:
        bench.box.begin(asyncio.get_running_loop(), owns_thread=False)
        bench.box.post(lambda: bench.heard.append("called"))
        await pass_time()
        bench.box.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    assert (bench.heard, bench.events) == (["called"], [])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_every_caller_is_told_that_the_loop_is_closed(elsewhere: bool) -> None:
    """Bug: the second one was not, and waited for ever."""
    bench = Bench()
    loop = VirtualLoop()
    bench.box.loop = loop
    bench.box.thread_id = 0 if elsewhere else threading.get_ident()
    loop.close()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="loop is closed"):
            bench.box.post(lambda: None)
    assert bench.box.closed


def test_call_of_another_thread_gets_what_comes_of_it() -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        idents = [threading.get_ident()]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            there = loop.run_in_executor(pool, bench.box.do_now, threading.get_ident)
            while not there.done():
                await _turn()
            idents.append(await there)
        assert idents[0] == idents[1]

    play(story)


def test_call_of_the_own_thread_comes_after_what_was_posted_before() -> None:
    async def story(bench: Bench) -> None:
        bench.box.post(lambda: bench.heard.append("posted"))
        assert bench.box.do_now(bench.heard.copy) == ["posted"]
        bench.box.on_thread(lambda: bench.heard.append("at once"))
        assert bench.heard == ["posted", "at once"]

    play(story)


def test_only_the_own_thread_is_own_and_only_before_the_end() -> None:
    async def story(bench: Bench) -> None:
        box, found = bench.box, []
        assert box.in_own_thread()
        assert not box.between_runs()  # the loop runs
        thread = threading.Thread(target=lambda: found.append(box.in_own_thread()))
        thread.start()
        thread.join(GUARD)
        assert found == [False]
        box.end()
        assert not box.in_own_thread()

    play(story)


async def _turn() -> None:
    """Let the loop run once, in which its clock stands still."""
    asyncio.get_running_loop().call_soon(lambda: None)
    await asyncio.sleep(0)


# ---------------------------------------------------------------- the backoff coroutine


def fired(bench: Bench) -> list[float]:
    return [now for event, now in bench.core.fed if type(event) is TimerFired]


def test_backoff_coroutine_sleeps_until_the_core_wants_to_be_called() -> None:
    async def story(bench: Bench) -> None:
        begin = bench.now()
        bench.core.deadline = begin + 3600.0
        bench.box.feed(Noted("failed, and will be retried"))
        await pass_time(3599.0)
        assert fired(bench) == []
        await pass_time(2.0)
        assert [now - begin for now in fired(bench)] == pytest.approx([3600.0], abs=TICK)

    play(story)


def test_backoff_that_is_over_earlier_moves_the_alarm() -> None:
    async def story(bench: Bench) -> None:
        begin = bench.now()
        for seconds in (100.0, 10.0, 1.0):
            bench.core.deadline = begin + seconds
            bench.box.feed(Noted("failed"))
        await pass_time(200.0)
        assert [now - begin for now in fired(bench)] == pytest.approx([1.0], abs=TICK)

    play(story)


def test_backoffs_that_follow_each_other_are_slept_through_one_by_one() -> None:
    async def story(bench: Bench) -> None:
        begin = bench.now()
        left = [10.0, 30.0, 70.0]

        def next_one() -> list[Any]:
            bench.core.deadline = begin + left.pop(0) if left else None
            return []

        bench.core.answers = {TimerFired: next_one, Noted("failed"): next_one}
        bench.box.feed(Noted("failed"))
        await pass_time(100.0)
        assert [now - begin for now in fired(bench)] == pytest.approx([10.0, 30.0, 70.0], abs=TICK)

    play(story)


def test_alarm_that_rings_before_the_coroutine_has_begun_is_heard() -> None:
    """A loop may look at its timers first."""

    async def story(bench: Bench) -> None:
        bench.core.deadline = bench.now()
        bench.box.feed(Noted("failed"))
        bench.box._wake(asyncio.get_running_loop())
        await pass_time()
        await pass_time()
        assert len(fired(bench)) == 1

    play(story)


@pytest.mark.parametrize("begun", [False, True])
def test_backoffs_end_also_if_somebody_has_cancelled_the_coroutine(begun: bool) -> None:
    async def story(bench: Bench) -> None:
        box = bench.box
        assert box.backoff is not None
        if begun:
            await pass_time()
        box.backoff.cancel()
        await asyncio.wait([box.backoff])
        for number in range(1, 3):
            bench.core.deadline = bench.now() + 10.0
            box.feed(Noted("failed"))
            await pass_time(20.0)
            assert len(fired(bench)) == number

    play(story)


def test_backoff_coroutine_ends_with_the_mailbox() -> None:
    async def story(bench: Bench) -> None:
        bench.core.deadline = bench.now() + 10.0
        bench.box.feed(Noted("failed"))
        bench.box.end()
        backoff = bench.box.backoff
        assert backoff is not None
        bench.core.deadline = bench.now() + 5.0
        bench.box.feed(Noted("the last news of a worker"))
        await pass_time(20.0)
        assert backoff.done()
        assert bench.box.backoff is backoff

    assert fired(play(story)) == []


# ---------------------------------------------------------------- failing


def broken() -> list[Any]:
    raise AssertionError("impossible")


def test_bug_fails_every_task_that_is_known_or_on_its_way_and_ends_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known, sent, resolved, failing, posted = (task(number) for number in range(1, 6))

    async def story(bench: Bench) -> None:
        bench.core.unfinished = [known]
        bench.core.answers = {
            Noted("a"): [ResolveValues([(resolved, b"")]), ResolveFailure(failing, None)],
        }

        def resolve(_command: ResolveValues) -> None:
            bench.box.feed(TasksSubmitted([sent]))
            bench.box.post(posted)
            broken()

        bench.box.orders[ResolveValues] = resolve
        bench.box.feed(Noted("a"))

    with caplog.at_level(logging.CRITICAL, "aioray"):
        bench = play(story)
    assert [each for each, _ in bench.failed] == [known, resolved, failing, sent, posted]
    assert all("bug in aioray" in text and "impossible" in text for _, text in bench.failed)
    assert bench.ends == ["closed"]
    assert "failed internally" in caplog.text


@pytest.mark.parametrize("where", ["call", "timer", "submission"])
def test_bug_ends_the_engine_wherever_it_comes_to_light(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(bench: Bench) -> None:
        bench.core.answers = {TimerFired: broken, TasksSubmitted: broken}
        if where == "call":
            bench.box.post(broken)
        elif where == "submission":
            bench.box.post(task())
        else:
            bench.core.deadline = bench.now() + 1.0
            bench.box.feed(Noted("failed"))
        await pass_time(2.0)

    with caplog.at_level(logging.CRITICAL, "aioray"):
        bench = play(story)
    assert bench.ends == ["closed"]
    assert bench.box.ended


class AlarmError(Exception):
    pass


@pytest.mark.parametrize("where", ["event", "timer"])
def test_what_a_signal_handler_raises_is_told_from_a_bug_and_goes_on(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def ring(_number: int, _frame: Any) -> None:
        raise AlarmError("time is up")

    def interrupted() -> list[Any]:
        signal.raise_signal(signal.SIGUSR1)
        return []

    reported: list[BaseException] = []

    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
        bench.core.unfinished = [task()]
        bench.core.answers = {Noted("a"): interrupted, TimerFired: interrupted}
        if where == "event":
            with pytest.raises(AlarmError, match="time is up"):
                bench.box.feed(Noted("a"))
        else:
            bench.core.deadline = bench.now() + 1.0
            bench.box.feed(Noted("failed"))
            await pass_time(2.0)

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with caplog.at_level(logging.ERROR, "aioray"):
            bench = play(story)
    finally:
        signal.signal(signal.SIGUSR1, before)
    ((_, text),) = bench.failed
    assert "handler of a signal" in text
    assert "bug" not in text
    assert bench.ends == ["closed"]
    assert [type(error) for error in reported] == ([AlarmError] if where == "timer" else [])


def test_lost_descriptors_are_told_to_every_caller_and_nothing_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting = task()

    async def story(bench: Bench) -> None:
        sentinel = FakeSentinel()
        bench.box.sentinel = sentinel  # type: ignore[assignment]
        bench.core.unfinished = [waiting]
        bench.box.post(lambda: bench.heard.append("done all the same"))
        sentinel.intact = False
        assert bench.box.lost
        with pytest.raises(DescriptorsClosedError):
            bench.box.refuse_lost()
        with pytest.raises(DescriptorsClosedError):
            bench.box.post(task())
        bench.box.feed(Noted("late"))
        assert not bench.box.closed  # it still tells every caller why
        bench.box.forgotten = True
        assert bench.box.closed

    with caplog.at_level(logging.CRITICAL, "aioray"):
        bench = play(story)
    assert [each for each, _ in bench.failed] == [waiting]
    assert bench.ends == ["let go"]
    assert bench.heard == ["done all the same"]
    assert bench.events == []
