"""What a worker says: frames taken apart as they arrive, into answers and notes.

Room: engine. Reading never blocks. After something that no worker writes the reader is `deaf`, and
its `fault` says what it was. What a frame says of the store is for the worker's `Loans`.
"""

from __future__ import annotations

import contextlib
import operator
import os
from typing import TYPE_CHECKING, Any

from ...core.outcomes import Answer, Ended
from ...core.records import NamedTuple
from ...shared.asks import unpack
from ...shared.wire import (
    ANSWER,
    HELD,
    LET_GO,
    LONGEST_FRAME,
    NOTE_ASKED,
    NOTE_ITEMS,
    NOTE_KEPT,
    NOTE_MEASURED,
    NOTE_OUTGROWN,
    NOTE_REFS,
    NOTE_RELEASED,
    NOTE_SAVED,
    NOTE_UNUSED,
    NOTE_YIELDED,
    NUMBER,
    REF_CHANGE,
    Status,
)
from .lending import Garbage

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lending import Loans

__all__ = [
    "AnswerReader",
    "Asked",
    "ChunkNews",
    "Item",
    "News",
    "Outgrown",
    "RefsChanged",
    "Saved",
    "Yielded",
]

READ_SIZE = 64 * 1024  # bytes; larger reads would be allocated by mmap each time

_ENDED = tuple(Ended)[: len(Status)]  # in the order of wire.Status
_ASKED = Ended.ASKED_FOR_RETRY
_NOTES = range(NOTE_ASKED, NOTE_ITEMS + 1)
_INF = float("inf")
_PLAIN = 0x80  # how nearly all values begin, see `aioray.shared.serialization`
_PICKLE = bytes((_PLAIN,))


class Asked(NamedTuple):
    """Says that a worker has asked something."""

    seq: int  # of the attempt on whose behalf; 0: none
    request: int  # number of the reply; 0: none is wanted
    ask: Any  # see `aioray.shared.asks`


class RefsChanged(NamedTuple):
    """Says that a worker holds refs that it did not hold, or no longer."""

    changes: bytes  # see NOTE_REFS


class Yielded(NamedTuple):
    """Says that a generator has yielded an item, or come to its end."""

    seq: int
    number: int  # of the item, from 0; at the end, how many there were
    value: Any  # bytes or Stored; None: the end


class ChunkNews(NamedTuple):
    """Says what has become of items of a chunk, see `aioray.shared.chunks`.

    What was said several times in a row is one of these, because each becomes an object.
    """

    seq: int
    value: Any  # list of pickles, one for each time; or a value that is more, bytes or Stored


class Saved(NamedTuple):
    """Says that an actor has saved its state; the answer of the call follows."""

    seq: int
    value: Any  # bytes or Stored


class Outgrown(NamedTuple):
    """Says that a worker keeps too much memory."""

    size: int  # bytes


Item = Asked | RefsChanged | Yielded | ChunkNews | Saved
"""What a worker says besides its answers, and in order with them, on behalf of what it runs."""

News = Answer | Item | Outgrown


class AnswerReader:
    """The driver's end of one worker's answers pipe, and of the doorbell that announces them."""

    def __init__(self, answers: int, doorbell: int, loans: Loans, hex_id: str) -> None:
        """Read from these descriptors, which the reader owns from now on."""
        self.answers = answers
        self.doorbell = doorbell
        self.single = 0  # seq of an attempt that was sent alone and has no answer yet
        self.is_rung = True  # its answers are announced by the doorbell
        self.is_watched = False  # the loop looks at the pipe, see `needs_watch`
        self.fault = ""  # what there was in the pipe that no worker writes
        self.deaf = False  # answers cannot be told from garbage any more
        # Whether an attempt has no answer yet; until the worker is ready, its greeting is expected.
        self.expects: Callable[[int], bool] = operator.not_
        self._loans = loans
        self._lent = loans.by_seq
        self._hex_id = hex_id
        self._measures = False  # user code in the worker has measured something
        self._yielded: set[int] = set()  # seqs of attempts that have told of values before the end
        self._saved: dict[int, Any] = {}  # by seq: states of an actor, until the call is answered
        self._ended = False  # the pipe has no writer
        self._chunks: list[bytes] = []  # of a frame that is not whole yet
        self._have = 0
        self._need = ANSWER.size

    def close(self) -> None:
        """Close both descriptors; the process is gone, and so is what it has measured."""
        os.close(self.answers)
        os.close(self.doorbell)
        if self._measures:
            from ...shared.meters import board

            board.drop(self._hex_id)

    def silence_doorbell(self) -> None:
        """Let the doorbell wait for its next ring."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.doorbell)

    def read(self) -> list[News]:
        """Return what the worker has answered, and asked, since the last call."""
        answers: list[News] = []
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
                why = str(error) if isinstance(error, Garbage) else repr(error)
                self.fault = f"the answers pipe: {why}"
                self.deaf = True
                break
            if len(data) < READ_SIZE and not self._have:
                break
        return answers

    def sent_single(self, seq: int) -> None:
        """Note that the worker gets an attempt, and rings no more from when it claims that."""
        self.single = seq
        self.is_rung = False

    @property
    def needs_watch(self) -> bool:
        """Return whether what comes next comes without a ring.

        The answer of a single does, and the rest of an answer that has arrived in part.
        """
        if self.deaf or self._ended:
            return False
        return not self.is_rung or self.single > 0 or self._have > 0

    def _take(self, data: bytes, answers: list[News]) -> None:
        """Take frames apart. Raises Garbage, or whatever parsing raises."""
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
                    raise Garbage(f"a note of the kind {status} with times")
                self._note(status, seq, data[start:position], answers)
                continue
            if not (started >= 0.0 and duration >= 0.0 and started + duration + delay < _INF):
                raise Garbage(f"an answer that began at {started} and took {duration} seconds")
            if seq != self.single:
                self.is_rung = True  # it has claimed something else, and rings from then on
            else:
                self.single = 0
            payload: Any = data[start:position]
            ended = _ENDED[status]
            if not status and length and data[start] != _PLAIN:
                payload = self._loans.result(payload)
            if self._lent:
                self._loans.end(seq)
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
            plausible = status < len(_ENDED) and self.expects(seq)
        if length > LONGEST_FRAME or not plausible:
            raise Garbage(f"a frame of {length} bytes and the kind {status}, for attempt {seq}")
        return length

    def _note(self, kind: int, seq: int, payload: bytes, answers: list[News]) -> None:
        """Take in a frame that is no answer. Raises as `_take` does."""
        if kind == NOTE_ASKED:
            answers.append(Asked(seq, *unpack(payload)))
        elif kind == NOTE_REFS:
            marks = payload[::REF_CHANGE]
            if len(payload) % REF_CHANGE or marks.strip(HELD + LET_GO):
                raise Garbage("changes of refs that are none")
            answers.append(RefsChanged(payload))
        elif kind == NOTE_UNUSED:
            self._loans.take_back(payload)
        elif kind == NOTE_KEPT:
            self._loans.keep_views(seq, payload)
        elif kind == NOTE_SAVED:
            if not self.expects(seq):
                raise Garbage(f"a state saved by attempt {seq}, which it does not have")
            self._saved[seq] = self._loans.value(payload)
        elif kind == NOTE_YIELDED:
            (number,) = NUMBER.unpack_from(payload)
            if not self.expects(seq):
                raise Garbage(f"an item of attempt {seq}, which it does not have")
            rest = payload[NUMBER.size :]
            self._yielded.add(seq)
            answers.append(Yielded(seq, number, self._loans.value(rest) if rest else None))
        elif kind == NOTE_ITEMS:
            self._take_news(seq, payload, answers)
        elif kind == NOTE_RELEASED:
            self._loans.end_views(payload)
        elif kind == NOTE_OUTGROWN:
            answers.append(Outgrown(*NUMBER.unpack(payload)))
        elif kind == NOTE_MEASURED:
            from ...shared.meters import board

            self._measures = True
            board.merge(payload, self._hex_id)
        else:
            raise Garbage(f"a frame of the kind {kind}, which there is not")

    def _take_news(self, seq: int, payload: bytes, answers: list[News]) -> None:
        """Take in what a chunk has told, together with what it has told just before."""
        if payload[:1] != _PICKLE:
            answers.append(ChunkNews(seq, self._loans.value(payload)))
            return
        last = answers[-1] if answers else None
        if type(last) is ChunkNews and last.seq == seq and type(last.value) is list:
            last.value.append(payload)
        else:
            answers.append(ChunkNews(seq, [payload]))
