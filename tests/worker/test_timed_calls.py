"""What a worker notes of calls with time limits, and what the driver reads of it."""

from __future__ import annotations

import math
import mmap
import struct
import threading
from typing import Any

import pytest

from aioray.engine.processes.control import ControlPage
from aioray.shared.wire import PAGE_BEAT, PAGE_CALLS, PAGE_SIZE
from aioray.worker.actor.timed import TimedCalls


@pytest.fixture
def page() -> Any:
    found = ControlPage(ControlPage.create_file())
    yield found
    found.close()


@pytest.fixture
def memory(page: Any) -> Any:
    with mmap.mmap(page.fd, PAGE_SIZE) as found:
        yield found


def test_a_call_is_seen_from_its_entry_to_its_end(page: Any, memory: Any) -> None:
    calls = TimedCalls(memory)
    assert page.progress(7) == (None, 0.0)
    calls.enter(7)
    entered, beat = page.progress(7)
    assert entered > 0.0
    assert beat == 0.0
    assert page.thread(7) == threading.get_ident()
    calls.leave(7)
    assert page.progress(7) == (None, 0.0)
    assert page.thread(7) == 0


def test_a_heartbeat_is_that_of_one_call_or_of_all(page: Any, memory: Any) -> None:
    calls = TimedCalls(memory)
    calls.enter(1)
    calls.enter(2)
    calls.beat(1, 50.0)
    calls.beat(9, 60.0)  # it has ended
    assert [page.progress(seq)[1] for seq in (1, 2)] == [50.0, 0.0]
    struct.pack_into("<d", memory, PAGE_BEAT, 55.0)
    assert [page.progress(seq)[1] for seq in (1, 2)] == [55.0, 55.0]
    calls.beat(2, math.inf)
    assert page.progress(2)[1] == math.inf


def test_calls_beyond_the_table_count_from_when_they_were_sent(page: Any, memory: Any) -> None:
    calls = TimedCalls(memory)
    for seq in range(1, PAGE_CALLS + 2):
        calls.enter(seq)
    assert page.progress(1)[0] > 0.0
    assert page.progress(PAGE_CALLS + 1)[0] == 0.0
    calls.leave(PAGE_CALLS + 1)
    calls.leave(5)
    assert page.progress(5)[0] is None
    calls.enter(6_000)
    assert page.progress(6_000)[0] > 0.0


def test_what_user_code_has_written_over_is_no_time(page: Any, memory: Any) -> None:
    struct.pack_into("<d", memory, PAGE_BEAT, math.nan)
    assert page.progress(3) == (None, 0.0)
