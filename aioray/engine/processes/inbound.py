"""What a worker says: frames taken apart as they arrive, into answers and notes.

Room: engine. Reading never blocks. What no worker writes makes the handle deaf, and is told as its
`fault`.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.outcomes import Answer, Ended
from ...shared.wire import (
    ANSWER,
    GOT,
    HELD,
    LET_GO,
    LONGEST_FRAME,
    NOTE_ASKED,
    NOTE_KEPT,
    NOTE_MEASURED,
    NOTE_REFS,
    NOTE_RELEASED,
    NOTE_SAVED,
    NOTE_UNUSED,
    NOTE_YIELDED,
    NUMBER,
    PAIR,
    REF_CHANGE,
    Status,
)
from .lending import Lending, _Garbage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Asked", "Inbound", "Item", "RefsChanged", "Saved", "Yielded"]

READ_SIZE = 64 * 1024  # bytes; larger reads would be allocated by mmap each time

_ENDED = tuple(Ended)[: len(Status)]  # in the order of wire.Status
_ASKED = Ended.ASKED_FOR_RETRY
_NOTES = range(NOTE_ASKED, NOTE_MEASURED + 1)
_PLAIN = 0x80  # how nearly all values begin, see `aioray.shared.serialization`


class Asked(NamedTuple):
    """A worker has asked something."""

    seq: int  # of the attempt on whose behalf; 0: none
    request: int  # number of the reply; 0: none is wanted
    verb: int  # an `Ask`
    arguments: tuple[Any, ...]


class RefsChanged(NamedTuple):
    """A worker holds refs that it did not hold, or no longer."""

    changes: bytes  # see NOTE_REFS


class Yielded(NamedTuple):
    """A generator has yielded an item, or come to its end."""

    seq: int
    number: int  # of the item, from 0; at the end, how many there were
    value: Any  # bytes or Stored; None: the end


class Saved(NamedTuple):
    """An actor has saved its state; the answer of the call follows."""

    seq: int
    value: Any  # bytes or Stored


Item = Asked | RefsChanged | Yielded | Saved
"""What a worker says besides its answers, and in order with them."""


class Inbound(Lending):
    """The part of a handle that reads."""

    hex_id: str
    ready: bool
    answers: int
    bell: int
    expects: Callable[[int], bool]
    deaf: bool
    fault: str
    _ended: bool
    _measures: bool
    _yielded: set[int]
    _saved: dict[int, Any]
    _chunks: list[bytes]
    _have: int
    _need: int

    def silence_bell(self) -> None:
        """Take note of the bell."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def read_answers(self) -> list[Answer | Item]:
        """What the worker has answered, and asked, since the last call."""
        answers: list[Answer | Item] = []
        while not self.deaf:
            try:
                data = os.read(self.answers, READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                self._ended = True
                break
            try:
                self._take(data, answers)
            except Exception as error:  # noqa: BLE001 - garbage can be of any kind
                self._chunks.clear()
                self._have = 0
                why = str(error) if isinstance(error, _Garbage) else repr(error)
                self.fault = f"the answers pipe: {why}"
                self.deaf = True
                break
            if len(data) < READ_SIZE and not self._have:
                break
        return answers

    @property
    def in_mid_frame(self) -> bool:
        """Whether an answer has arrived in part: the rest will come without a bell."""
        return self._have > 0 and not self._ended

    def _take(self, data: bytes, answers: list[Answer | Item]) -> None:
        """Take frames apart. Raises _Garbage, or whatever parsing raises."""
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._have = 0
        position, end, header = 0, len(data), ANSWER.size
        while end - position >= header:
            length, seq, status, started, duration, delay = ANSWER.unpack_from(data, position)
            start = position + header
            if end - start < length:
                break
            position = start + length
            if status >= NOTE_ASKED:
                if started or duration or delay:
                    raise _Garbage(f"a note of the kind {status} with times")
                self._note(status, seq, data[start:position], answers)
                continue
            payload: Any = data[start:position]
            ended = _ENDED[status]
            if not status and length and data[start] != _PLAIN:
                payload = self.find_stored(payload)
            if self._loans:
                self._end_loan(seq)
            if self._saved and seq in self._saved:
                answers.append(Saved(seq, self._saved.pop(seq)))
            answer = Answer(
                seq, ended, payload, started, duration, delay if ended is _ASKED else None
            )
            if self._yielded and seq in self._yielded:
                self._yielded.discard(seq)
                answer = answer._replace(partial=True)
            answers.append(answer)
        if position < end:
            rest = data[position:]
            self._chunks.append(rest)
            self._have = len(rest)
            self._need = header
            if len(rest) >= header:
                self._need += self._check_begun(*ANSWER.unpack_from(rest))

    def _check_begun(
        self, length: int, seq: int, status: int, started: float, duration: float, delay: float
    ) -> int:
        """Return the length of a frame of which the rest is to come, if it is worth waiting for."""
        if status in _NOTES:
            plausible = not (started or duration or delay)
        else:
            plausible = status < len(_ENDED) and (self.expects(seq) if self.ready else not seq)
        if length > LONGEST_FRAME or not plausible:
            raise _Garbage(f"a frame of {length} bytes and the kind {status}, for attempt {seq}")
        return length

    def _note(self, kind: int, seq: int, payload: bytes, answers: list[Answer | Item]) -> None:
        """Take in a frame that is no answer. Raises as `_take` does."""
        if kind == NOTE_ASKED:
            request, verb, arguments = marshal.loads(payload)
            if type(request) is not int or type(verb) is not int or type(arguments) is not tuple:
                raise _Garbage("a question that is none")
            answers.append(Asked(seq, request, verb, arguments))
        elif kind == NOTE_REFS:
            marks = payload[::REF_CHANGE]
            if len(payload) % REF_CHANGE or marks.strip(HELD + LET_GO):
                raise _Garbage("changes of refs that are none")
            answers.append(RefsChanged(payload))
        elif kind == NOTE_UNUSED:
            for key in PAIR.iter_unpack(payload):
                del self._room[key]
        elif kind == NOTE_KEPT:
            lent = {extent.offset: extent for extent in self._loans.get(seq, ())}
            for offset, number in PAIR.iter_unpack(payload):
                if number not in self._kept:
                    extent = self._kept[number] = lent[offset]
                    extent.lent += 1
            if seq & GOT:
                self._end_loan(seq)
        elif kind == NOTE_SAVED:
            if not self.expects(seq):
                raise _Garbage(f"a state saved by attempt {seq}, which it does not have")
            self._saved[seq] = self.find_value(payload)
        elif kind == NOTE_YIELDED:
            (number,) = NUMBER.unpack_from(payload)
            rest = payload[NUMBER.size :]
            self._yielded.add(seq)
            answers.append(Yielded(seq, number, self.find_value(rest) if rest else None))
        elif kind == NOTE_RELEASED:
            for (number,) in NUMBER.iter_unpack(payload):
                self._end_view(number)
        elif kind == NOTE_MEASURED:
            from ...shared.meters import board

            self._measures = True
            board.merge(payload, self.hex_id)
        else:
            raise _Garbage(f"a frame of the kind {kind}, which there is not")
