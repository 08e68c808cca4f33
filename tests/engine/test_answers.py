"""When the driver looks at a worker's answers itself, and when it leaves that to the doorbell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from aioray.engine.processes.inbound import AnswerReader
from aioray.shared.wire import ANSWER, NOTE_REFS, Status, note_frame

if TYPE_CHECKING:
    from collections.abc import Iterator


class NoLoans:
    """Nothing lies in the store."""

    by_seq: dict[int, Any] = {}  # noqa: RUF012


def answer(seq: int, payload: bytes = b"\x80") -> bytes:
    return ANSWER.pack(len(payload), seq, Status.RETURNED, 1.0, 0.5, 0.0) + payload


@pytest.fixture
def ends() -> Iterator[tuple[AnswerReader, int]]:
    """A reader, and the worker's end of its pipe."""
    answers, writer = os.pipe2(os.O_NONBLOCK)
    reader = AnswerReader(answers, os.eventfd(0, os.EFD_NONBLOCK), NoLoans(), "")
    reader.expects = lambda _seq: True
    yield reader, writer
    os.close(writer)
    reader.close()


def test_answers_are_left_to_the_doorbell_until_a_single_is_sent(ends: Any) -> None:
    reader, writer = ends
    assert not reader.needs_watch
    os.write(writer, answer(1))
    reader.read()
    assert not reader.needs_watch
    reader.sent_single(2)
    assert reader.needs_watch


def test_answers_are_looked_at_until_the_worker_has_answered_something_it_rings_for(
    ends: Any,
) -> None:
    reader, writer = ends
    reader.sent_single(2)
    os.write(writer, answer(2))
    reader.read()
    assert reader.needs_watch  # it still does not ring, and the next is likely to be alone too
    os.write(writer, note_frame(NOTE_REFS, b"", 0))
    reader.read()
    assert reader.needs_watch
    os.write(writer, answer(3))
    reader.read()
    assert not reader.needs_watch


def test_single_is_looked_for_also_while_others_ring(ends: Any) -> None:
    reader, writer = ends
    reader.sent_single(2)
    os.write(writer, answer(3))
    reader.read()
    assert reader.needs_watch
    os.write(writer, answer(2))
    reader.read()
    assert not reader.needs_watch


def test_rest_of_a_frame_is_looked_for(ends: Any) -> None:
    reader, writer = ends
    frame = answer(1, b"\x80" + b"x" * 100)
    os.write(writer, frame[:60])
    reader.read()
    assert reader.needs_watch
    os.write(writer, frame[60:])
    reader.read()
    assert not reader.needs_watch


@pytest.mark.parametrize("last", [b"", b"\xff" * 200], ids=["nobody writes", "garbage"])
def test_nothing_is_looked_at_that_will_not_say_more(last: bytes) -> None:
    answers, writer = os.pipe2(os.O_NONBLOCK)
    reader = AnswerReader(answers, os.eventfd(0, os.EFD_NONBLOCK), NoLoans(), "")
    reader.sent_single(1)
    os.write(writer, last)
    os.close(writer)
    reader.read()
    assert not reader.needs_watch
    reader.close()
