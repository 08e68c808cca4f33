"""How threads wait for objects, and what becomes of requests to cancel, without an engine."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aioray.client.entry import ObjectEntry, PlainEntry, StoredFailure
from aioray.client.refs import ObjectRef
from aioray.core.commands import ReportCancel
from aioray.core.events import CancelRequested
from aioray.core.functions import Function
from aioray.core.model import Kind, SchedulingClass, Task
from aioray.core.outcomes import CancelOutcome
from aioray.engine.waiting import MANY_ENTRIES, CancelRequests, ObjectWaits, PendingCancel
from aioray.exceptions import GetTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD = 30.0  # seconds after which a test has failed
VALUE = b"\0"


class FakeMailbox:
    """Does at once, in whatever thread, what is to be done on the engine's."""

    loop = None
    thread_id = 0
    closed = False

    def __init__(self) -> None:
        self.fed: list[Any] = []
        self.after_post: Callable[[], None] = lambda: None

    def post(self, item: Callable[[], None]) -> None:
        item()
        self.after_post()

    def at_end(self, callback: Callable[[], None]) -> None:
        callback()

    def feed(self, event: Any) -> None:
        self.fed.append(event)

    def in_own_thread(self) -> bool:
        return False


class FakeClient:
    """Lives in a thread of its own, or in this one."""

    def __init__(self, *, here: bool = False) -> None:
        self.here = here

    def in_own_thread(self) -> bool:
        return self.here

    def between_runs(self) -> bool:
        return False


def pending(count: int) -> tuple[list[ObjectRef[Any]], list[ObjectEntry]]:
    entries: list[ObjectEntry] = [PlainEntry(None, 0, index + 1) for index in range(count)]
    return [ObjectRef(entry) for entry in entries], entries


def settle(entry: ObjectEntry, outcome: Any = VALUE) -> None:
    entry.outcome = outcome
    entry.wake_waiters()


def failure() -> StoredFailure:
    found = StoredFailure(lambda: ValueError("no"))
    found.seen = True
    return found


def waits(mailbox: FakeMailbox | None = None, *, here: bool = False) -> ObjectWaits:
    box: Any = mailbox or FakeMailbox()
    client: Any = FakeClient(here=here)
    return ObjectWaits(client, box, lambda _entry: False)


def waiters_of(entries: list[ObjectEntry]) -> int:
    return sum(len(entry.waiters or ()) for entry in entries)


# ---------------------------------------------------------------- get and wait


@pytest.mark.parametrize("last", [VALUE, "failure"])
def test_get_returns_with_the_last_outcome_or_the_first_failure(last: Any) -> None:
    refs, entries = pending(3)
    mailbox = FakeMailbox()
    thread = threading.Thread(target=waits(mailbox).get, args=(refs, None), daemon=True)
    registered = threading.Event()
    mailbox.after_post = registered.set
    thread.start()
    assert registered.wait(GUARD)
    if last == "failure":
        settle(entries[1], failure())
    else:
        for entry in entries:
            settle(entry)
    thread.join(GUARD)
    assert not thread.is_alive()
    assert waiters_of(entries) == 0


@pytest.mark.parametrize("count", [2, MANY_ENTRIES])
def test_who_gives_up_waiting_gets_what_there_is(count: int) -> None:
    refs, entries = pending(count)
    settle(entries[1])
    assert waits().wait(refs, count, 0.01) == [index == 1 for index in range(count)]
    with pytest.raises(GetTimeoutError):
        waits().get(refs, 0.01)


def test_get_that_has_given_up_leaves_no_waiter_behind() -> None:
    refs, entries = pending(3)
    with pytest.raises(GetTimeoutError):
        waits().get(refs, 0.0)
    assert waiters_of(entries) == 0


def test_loop_that_waits_for_one_of_many_watches_each_once() -> None:
    refs, entries = pending(MANY_ENTRIES + 5)
    waiting = waits()
    for number in range(5):
        settle(entries[number])
        found = waiting.wait(refs[number:], 1, GUARD)
        assert found[0]
        waiting.wait(refs[number + 1 :], 1, 0.0)
    waiting.wait(refs[5:], 1, 0.001)
    waiting.wait(refs[5:], 1, 0.001)
    assert {len(entry.waiters or ()) for entry in entries[5:]} == {1}


def test_nobody_may_block_where_the_engine_lives() -> None:
    refs, _ = pending(1)
    for blocks in (
        lambda: waits(here=True).get(refs, None),
        lambda: waits(here=True).wait(refs, 1, None),
    ):
        with pytest.raises(RuntimeError, match="would block the event loop"):
            blocks()


# ---------------------------------------------------------------- cancelling


def cancels(mailbox: FakeMailbox, *, here: bool = False) -> CancelRequests:
    box: Any = mailbox
    client: Any = FakeClient(here=here)
    return CancelRequests(client, box)


def running() -> ObjectEntry:
    task = Task(1, Kind("job", Function(1, "job"), SchedulingClass((), None, 0)), max_retries=0)
    return PlainEntry(None, 1, 1, task)


@pytest.mark.parametrize("force", [False, True])
def test_interrupt_and_force_kill_ask_the_core_and_tell_what_it_reports(force: bool) -> None:
    mailbox, entry = FakeMailbox(), running()
    asking = cancels(mailbox)
    ask = asking.force_kill if force else asking.interrupt
    request = ask(entry, recursive=True, grace=2.0)
    (event,) = mailbox.fed
    assert event == CancelRequested(entry.task, event.request_id, force, 2.0, recursive=True)
    asking.report(ReportCancel(event.request_id, CancelOutcome.INTERRUPTED))
    asking.report(ReportCancel(event.request_id, CancelOutcome.KILLED))  # late: it is known
    assert request.result(GUARD) is CancelOutcome.INTERRUPTED
    assert asyncio.run(_awaited(request)) is CancelOutcome.INTERRUPTED


async def _awaited(request: PendingCancel) -> CancelOutcome:
    return await request


def test_what_has_its_value_is_not_asked_for() -> None:
    mailbox, entry = FakeMailbox(), running()
    settle(entry)
    request = cancels(mailbox).interrupt(entry, recursive=True, grace=None)
    assert request.result(0) is CancelOutcome.FINISHED_FIRST
    assert mailbox.fed == []


def test_requests_that_are_left_at_the_end_are_resolved() -> None:
    asking = cancels(FakeMailbox())
    requests = [asking.interrupt(running(), recursive=False, grace=None) for _ in range(3)]
    asking.end()
    assert {request.result(0) for request in requests} == {CancelOutcome.KILLED}


def test_outcome_of_a_cancel_is_awaited_and_not_blocked_for_on_the_engines_loop() -> None:
    request = cancels(FakeMailbox(), here=True).interrupt(running(), recursive=True, grace=None)
    with pytest.raises(RuntimeError, match=r"await aioray\.cancel"):
        request.result()
