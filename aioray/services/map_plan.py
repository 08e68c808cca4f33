"""Decides for `aioray.map`: how many items go together, which again, which value comes next.

Room: services. Pure: no I/O, no clock, no asyncio; time comes as an argument, in seconds, and who
waits until when is asked (`due`). `maps` carries out what is decided here.

Items are numbered as they come out of the input. A `Piece` is a run of consecutive ones that
travel together; one that was tried before is alone. What becomes of them is told as the worker
tells it (`aioray.shared.chunks`), and as the end of a chunk:

- an item whose error may be retried goes alone, after its delay;
- when a worker dies, the item that it was running alone has failed an attempt. Those without an
  answer go again, at no cost. If nobody can say which item it was, each goes alone, and will say;
- what a worker gives back, because an item took much longer than the ones before, goes again.

Values come in the order of the input, or as they come. Room is made by values that were taken:
`window` items may be between the input and whoever reads, so memory does not grow.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple, record
from ..core.retries import crash_delay
from ..shared.chunks import GIVEN_BACK, RAISED, RAN
from ..shared.wire import Status

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from ..core.retries import RetryPolicy

__all__ = [
    "ChunkEnd",
    "ChunkSizes",
    "FailedItem",
    "MapCounts",
    "MapPlan",
    "Piece",
    "Retried",
    "RetryRules",
]

CHUNK_SECONDS = 5e-3  # that a chunk should take; what a worker needs between two is then little
CHUNK_BYTES = 96 * 1024  # of its items, serialized: they are part of the message then
MOST_ITEMS = 32 * 1024  # in a chunk
GROWTH = 8  # of the size of a chunk from one measurement to the next, at most
WEIGHT = 0.5  # of the newest measurement in the moving average, if it is less
WEIGHT_UP = 0.1  # if it is more: a process that had to wait for its turn does not count for much
AHEAD = 3  # chunks for each slot: one runs, one waits in the worker, one in the queue
LEAST_WINDOW = 64  # items
LEAD_SHARE = 6  # of the items that were read, one may be ahead for each so many

_MAY_RETRY = frozenset(
    (Status.RAISED_RETRYABLE, Status.RAISED_CANCELLED_RETRYABLE, Status.ASKED_FOR_RETRY)
)


class ChunkEnd(NamedTuple):
    """How a chunk has ended before all its items had answers."""

    crashed: bool  # its worker died: that counts as an attempt, and may be retried
    splits: bool  # another chunk of fewer items may do better
    detail: Any  # what is to be told of it; the shell knows


class FailedAttempt(NamedTuple):
    """One attempt of an item that has failed."""

    number: int  # from 0
    detail: Any
    started: float | None
    seconds: float | None


class FailedItem(NamedTuple):
    """Stands where the value of an item should: it has failed for good."""

    number: int  # of the item
    failures: tuple[FailedAttempt, ...]  # the last one is why


class Retried(NamedTuple):
    """Says that an item has failed and is tried again."""

    number: int  # of the item
    failure: FailedAttempt
    retries_left: int  # this one included; below 0: without end
    delay: float


class MapCounts(NamedTuple):
    """How far a map has come, in items."""

    taken: int  # from the input
    done: int  # that have a value
    failed: int  # for good
    in_flight: int  # with workers, or on their way
    retries: int  # attempts that were not the first


@record(frozen=True, slots=True)
class RetryRules:
    """When an item that has failed is tried again."""

    max_retries: int  # below 0: without end
    policy: RetryPolicy | None
    rng: random.Random
    deadline: float | None = None  # seconds for all attempts of an item, from its first on

    def delay(self, status: int | None, asked: float, attempt: int) -> float:
        """Return how long to wait before the attempt after this one. status: None: a crash."""
        if status == Status.ASKED_FOR_RETRY:
            return asked
        if self.policy is None:
            return crash_delay(attempt + 1) if status is None else 0.0
        return self.policy.delay(attempt + 1, self.rng)


class Piece:
    """Consecutive items that travel together, or one that was tried before."""

    __slots__ = ("failures", "items", "retries", "since", "start")

    def __init__(
        self,
        start: int,
        items: Sequence[Any],
        failures: tuple[FailedAttempt, ...] = (),
        retries: int = 0,
        since: float | None = None,
    ) -> None:
        self.start = start  # number of the first
        self.items = items
        self.failures = failures
        self.retries = retries  # used up
        self.since = since  # when they were sent first

    def part(self, begin: int, end: int | None = None) -> Piece:
        """Return some of the items, which have failed no attempt here."""
        return Piece(self.start + begin, self.items[begin:end], since=self.since)


class ChunkSizes:
    """How many items a chunk should have, from how long they take and how large they are."""

    def __init__(self, most: int, seconds: float | None = None, least: int = 1) -> None:
        """Begin with the least. most: there may never be more.

        seconds: that an item took when the function was mapped before: begin as it ended then.
        """
        self._most = self._limit = max(1, min(most, MOST_ITEMS))
        self._least = least  # unless they are large
        self.seconds = seconds  # of one item
        self.size = min(least, self._limit) if seconds is None else self._limit
        if seconds is not None:
            self._settle()

    def ran(self, count: int, seconds: float) -> None:
        """Take in how long some items took together."""
        mean = seconds / count
        if self.seconds is None:
            self.seconds = mean
        else:
            weight = WEIGHT if mean < self.seconds else WEIGHT_UP
            self.seconds += weight * (mean - self.seconds)
        self._settle()

    def measured(self, count: int, size: int) -> None:
        """Take in how many bytes some items have together."""
        self._limit = max(1, min(self._most, CHUNK_BYTES * count // max(1, size)))
        self.size = min(self.size, self._limit)

    def _settle(self) -> None:
        wanted = CHUNK_SECONDS / max(self.seconds or 0.0, 1e-9)
        wanted = max(self._least, min(int(wanted), GROWTH * self.size))
        self.size = min(wanted, self._limit)

    @property
    def are_large(self) -> bool:
        """Whether items are so large that each goes alone."""
        return self._limit == 1


class _Flight:
    """A chunk that is with the engine."""

    __slots__ = ("measured", "next", "piece", "running", "seconds", "size")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.size = len(piece.items)  # without those that were given back
        self.next = 0  # position of the first without an answer
        self.running: int | None = None  # position of the item that ended the attempt
        self.seconds = 0.0  # that its items have run, from `measured` on
        self.measured = 0  # position


class MapPlan:
    """The items of one map that have been taken from the input, until their values are read."""

    def __init__(
        self,
        rules: RetryRules,
        *,
        slots: int,
        ordered: bool,
        window: int | None = None,
        most: int = MOST_ITEMS,
        seconds: float | None = None,
        least: int = 1,
        ahead: int = AHEAD,
        is_bounded: bool = False,
    ) -> None:
        """Begin with nothing.

        slots: chunks that can run at once. ordered: values come in the order of the items. window:
        items that may be taken and not read; None: as many as keep the slots busy. most: items in
        a chunk. seconds, least: see `ChunkSizes`. ahead: chunks for each slot. is_bounded: no more
        items may be ahead of who reads than they have at first, until many were read.
        """
        self._rules = rules
        self._slots = max(1, slots)
        self._most_flights = ahead * self._slots
        self._lead = self._most_flights * least if is_bounded else None
        self._ordered = ordered
        self._window = window
        if window is not None:
            most = min(most, -(-window // self._most_flights))
        self.sizes = ChunkSizes(most, seconds, least)
        self._ready: deque[Piece] = deque()
        self._delayed: list[tuple[float, int, Piece]] = []
        self._flights: dict[Any, _Flight] = {}
        self._arrived: dict[
            int, list[Any] | FailedItem
        ] = {}  # by number of the first: not their turn
        self._turn = 0  # number of the item whose value is next, if ordered
        self.out: deque[list[Any] | FailedItem] = deque()  # to be read
        self.retried: list[Retried] = []  # to be told of
        self._taken = self._read = self._done = self._failed = self._retries = 0
        self.exhausted = False  # the input has no more

    # ------------------------------------------------------------ what to do

    @property
    def finished(self) -> bool:
        """Whether every item of the input has been read."""
        return self.exhausted and self._read == self._taken

    @property
    def counts(self) -> MapCounts:
        """How far the map has come."""
        in_flight = sum(flight.size - flight.next for flight in self._flights.values())
        return MapCounts(self._taken, self._done, self._failed, in_flight, self._retries)

    def time_left(self, piece: Piece, now: float) -> float | None:
        """Return the seconds until the deadline of items that were sent before; None: it is whole.

        Their first attempt has begun it.
        """
        deadline = self._rules.deadline
        if deadline is None or piece.since is None:
            return None
        return max(0.0, piece.since + deadline - now)

    def room(self) -> int:
        """Return how many items should be taken from the input now."""
        if self.exhausted or self._ready or len(self._flights) >= self._most_flights:
            return 0
        size = self.sizes.size
        window = self._window
        if window is None:
            window = max(LEAST_WINDOW, (AHEAD + 2) * self._slots * size)
        if self._lead is not None:
            share = 0 if self.sizes.are_large else self._read // LEAD_SHARE
            window = max(self._lead, min(window, share))
            size = min(size, window // self._most_flights)
        left = window - (self._taken - self._read)
        if left < size and self._flights:
            return 0  # rather a whole chunk a little later
        return max(0, min(size, left))

    @property
    def unread(self) -> int:
        """Count the items that were taken from the input and whose values were not read."""
        return self._taken - self._read

    @property
    def is_idle(self) -> bool:
        """Whether nothing is with the engine, or has to go there."""
        return self.exhausted and not (self._flights or self._ready or self._delayed)

    def take_all(self) -> None:
        """Let all items be taken from the input, whether values are read or not."""
        self._lead, self._window = None, sys.maxsize

    def take(self, items: Sequence[Any]) -> None:
        """Take in items from the input."""
        self._ready.append(Piece(self._taken, items))
        self._taken += len(items)

    def next_piece(self, now: float) -> Piece | None:
        """Return what is to be sent now; None: nothing."""
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            self._ready.appendleft(heapq.heappop(delayed)[2])
        if not self._ready or len(self._flights) >= self._most_flights:
            return None
        return self._ready.popleft()

    def due(self) -> float | None:
        """Return when `next_piece` has to be asked again, if nothing happens until then."""
        if not self._delayed or len(self._flights) >= self._most_flights:
            return None
        return self._delayed[0][0]

    def sent(self, key: Any, piece: Piece, now: float) -> None:
        """Note that a piece is with the engine, as the chunk `key`."""
        if piece.since is None:
            piece.since = now
        self._flights[key] = _Flight(piece)

    def refused(self, piece: Piece, detail: Any) -> None:
        """Note that a piece cannot be sent: of several items each goes alone, one has failed."""
        if len(piece.items) == 1:
            self._fail(
                piece.start, (*piece.failures, FailedAttempt(piece.retries, detail, None, None))
            )
        else:
            self._split(piece)

    # ------------------------------------------------------------ what has happened

    def told(self, key: Any, news: tuple[Any, ...], now: float) -> None:
        """Take in what a chunk has told: of RAN the first position, the values, the seconds.

        See `aioray.shared.chunks`.
        """
        flight = self._flights[key]
        kind = news[0]
        if kind == RAN:
            _, first, values, seconds = news
            flight.seconds += seconds
            if first < flight.next:  # some were told before
                values = values[flight.next - first :]
                first = flight.next
            if not values:
                return
            flight.next = first + len(values)
            self._done += len(values)
            self._give(flight.piece.start + first, values)
        elif kind == RAISED:
            _, position, status, detail, asked, started, seconds = news
            if position < flight.next:
                return
            flight.next = position + 1
            flight.seconds += seconds
            piece = self._alone(flight.piece, position)
            failure = FailedAttempt(piece.retries, (status, detail), started, seconds)
            self._judge(piece, failure, status, asked, now)
        elif kind == GIVEN_BACK:
            left = flight.size - news[1]
            self._ready.appendleft(flight.piece.part(left, flight.size))
            flight.size = left
            self._measure(flight)
        else:
            flight.running = news[1]

    def ended(self, key: Any, end: ChunkEnd | None, now: float) -> None:
        """Note that a chunk has ended. end: None: all its items have answers."""
        flight = self._flights.pop(key)
        self._measure(flight)
        first, size, piece = flight.next, flight.size, flight.piece
        if end is None or first >= size:
            return
        running = flight.running
        if running is None or not first <= running < size:
            if size - first > 1 and end.splits:
                self._split(piece.part(first, size))
                return
            running = first
        if not end.splits:
            for position in range(first, size):
                self._fail_at(piece, position, end.detail)
            return
        if running + 1 < size:
            self._ready.appendleft(piece.part(running + 1, size))
        if first < running:
            self._ready.appendleft(piece.part(first, running))
        if end.crashed:
            alone = self._alone(piece, running)
            self._judge(alone, FailedAttempt(alone.retries, end.detail, None, None), None, 0.0, now)
        else:
            self._fail_at(piece, running, end.detail)

    def _alone(self, piece: Piece, position: int) -> Piece:
        return piece if len(piece.items) == 1 else piece.part(position, position + 1)

    def _split(self, piece: Piece) -> None:
        for position in reversed(range(len(piece.items))):
            self._ready.appendleft(piece.part(position, position + 1))

    def _measure(self, flight: _Flight) -> None:
        count = flight.next - flight.measured
        if count and flight.seconds > 0.0:
            self.sizes.ran(count, flight.seconds)
            flight.seconds, flight.measured = 0.0, flight.next

    # ------------------------------------------------------------ how items fail

    def _judge(
        self, piece: Piece, failure: FailedAttempt, status: int | None, asked: float, now: float
    ) -> None:
        """Try an item again after this failure, or let it fail. status: None: a crash."""
        rules = self._rules
        failures = (*piece.failures, failure)
        if (status is None or status in _MAY_RETRY) and rules.max_retries != piece.retries:
            delay = rules.delay(status, asked, piece.retries)
            budget = None if rules.policy is None else rules.policy.time_budget
            first = failures[0].started
            if budget is None or first is None or now + delay - first <= budget:
                self._retries += 1
                left = rules.max_retries - piece.retries if rules.max_retries >= 0 else -1
                self.retried.append(Retried(piece.start, failure, left, delay))
                again = Piece(piece.start, piece.items, failures, piece.retries + 1, piece.since)
                if rules.deadline is not None and piece.since is not None:
                    delay = min(delay, piece.since + rules.deadline - now)  # then it fails
                if delay <= 0.0:
                    self._ready.appendleft(again)
                else:
                    heapq.heappush(self._delayed, (now + delay, again.start, again))
                return
        self._fail(piece.start, failures)

    def _fail_at(self, piece: Piece, position: int, detail: Any) -> None:
        alone = self._alone(piece, position)
        failure = FailedAttempt(alone.retries, detail, None, None)
        self._fail(alone.start, (*alone.failures, failure))

    def _fail(self, number: int, failures: tuple[FailedAttempt, ...]) -> None:
        self._failed += 1
        self._give(number, FailedItem(number, failures))

    # ------------------------------------------------------------ what is read

    def _give(self, number: int, values: list[Any] | FailedItem) -> None:
        """Put values, or a failure, where they are read, or where they wait for their turn."""
        if not self._ordered:
            self._put(values)
            return
        if number != self._turn:
            self._arrived[number] = values
            return
        found: list[Any] | FailedItem | None = values
        while found is not None:
            self._put(found)
            self._turn += 1 if type(found) is FailedItem else len(found)
            found = self._arrived.pop(self._turn, None)

    def _put(self, values: list[Any] | FailedItem) -> None:
        out = self.out
        if out and type(values) is list and type(out[-1]) is list:
            out[-1] += values
        else:
            out.append(values)

    def read(self, count: int) -> None:
        """Note that so many items were read: there is room for others."""
        self._read += count

    def forget(self) -> None:
        """Forget all items: nobody wants them any more."""
        self._ready.clear()
        self._delayed.clear()
        self._flights.clear()
        self._arrived.clear()
        self.out.clear()
        self.exhausted = True
