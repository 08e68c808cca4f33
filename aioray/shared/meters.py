"""Meters: what counters, gauges and histograms stand at, in this process and in its workers.

Room: shared; stdlib only. Loaded by programs that measure something only.

A `Board` holds the meters of one process. `record` only puts a sample into a deque, so it needs no
lock, and neither an interrupt nor a finalizer that measures something too can do harm; samples are
folded into the meters when there are many, or somebody looks. A worker's board is emptied by `take`
whenever it says something to the driver, whose board takes in what has changed by `merge`: counters
and histograms of all processes add up, a gauge stands for one process and has its id as a tag.
"""

from __future__ import annotations

import marshal
import threading
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "COUNTER",
    "GAUGE",
    "HISTOGRAM",
    "WORKER_TAG",
    "Board",
    "Distribution",
    "Meter",
    "Reading",
    "board",
    "sorted_tags",
]

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"
WORKER_TAG = "WorkerId"  # as in Ray; of gauges that a worker has set

FOLD_AT = 1_000  # samples; more of them take more memory than what they are folded into

Tags = tuple[tuple[str, str], ...]
"""Sorted by key."""


class Distribution(NamedTuple):
    """The values that a histogram has seen, by bucket."""

    boundaries: tuple[float, ...]  # upper ends of the buckets, which belong to them
    counts: tuple[int, ...]  # of each bucket, and last of what lies above all of them
    total: float  # of all values

    @property
    def seen(self) -> int:
        """The number of values that the histogram has seen."""
        return sum(self.counts)


class Reading(NamedTuple):
    """The values that one meter stands at."""

    name: str
    kind: str  # COUNTER, GAUGE or HISTOGRAM
    description: str
    values: dict[Tags, float | Distribution]  # the latter: of a histogram


class Meter:
    """All values of one name; made by a board, which alone looks into it."""

    __slots__ = ("boundaries", "description", "kind", "name", "values")

    def __init__(
        self, name: str, kind: str, description: str, boundaries: tuple[float, ...]
    ) -> None:
        self.name = name
        self.kind = kind
        self.description = description
        self.boundaries = boundaries  # of a histogram
        # Of a histogram, [count of each bucket ..., count above all, sum].
        self.values: dict[Tags, Any] = {}

    def take_in(self, tags: Tags, value: float) -> None:
        """Take in one sample: count, set or observe it."""
        if self.kind == COUNTER:
            self.values[tags] = self.values.get(tags, 0.0) + value
        elif self.kind == GAUGE:
            self.values[tags] = value
        else:
            found = self._histogram(tags)
            found[bisect_left(self.boundaries, value)] += 1
            found[-1] += value

    def add(self, tags: Tags, changes: Any, boundaries: Sequence[float]) -> None:
        """Add what another process has seen. boundaries: its own, of a histogram."""
        if self.kind != HISTOGRAM:
            self.take_in(tags, changes)
            return
        found = self._histogram(tags)
        *counts, total = changes
        found[-1] += total
        for end, count in zip((*boundaries, float("inf")), counts, strict=True):
            found[bisect_left(self.boundaries, end)] += count

    def read(self) -> Reading:
        """Return a copy of what the meter stands at."""
        values: dict[Tags, float | Distribution]
        if self.kind == HISTOGRAM:
            values = {
                tags: Distribution(self.boundaries, tuple(found[:-1]), found[-1])
                for tags, found in self.values.items()
            }
        else:
            values = dict(self.values)
        return Reading(self.name, self.kind, self.description, values)

    def _histogram(self, tags: Tags) -> list[Any]:
        found: list[Any] | None = self.values.get(tags)
        if found is None:
            found = self.values[tags] = [0] * (len(self.boundaries) + 1) + [0.0]
        return found


class Board:
    """The meters of one process. All methods are for any thread."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] | None = None  # called once between two `take`
        self._announced = False
        self._samples: deque[tuple[Meter, Tags, float]] = deque()
        self._lock = threading.Lock()  # of what follows
        self._meters: dict[tuple[str, str], Meter] = {}

    def meter(
        self, name: str, kind: str, description: str = "", boundaries: Sequence[float] = ()
    ) -> Meter:
        """Return the meter of this name and kind; its first boundaries and description stay."""
        with self._lock:
            return self._meter(name, kind, description, boundaries)

    def _meter(self, name: str, kind: str, description: str, boundaries: Sequence[float]) -> Meter:
        found = self._meters.get((name, kind))
        if found is None:
            ends = tuple(sorted(map(float, boundaries)))
            found = self._meters[name, kind] = Meter(name, kind, description, ends)
        return found

    def record(self, meter: Meter, tags: Tags, value: float) -> None:
        """Count, set or observe a value."""
        samples = self._samples
        samples.append((meter, tags, float(value)))
        if self.on_change is not None and not self._announced:
            self._announced = True
            self.on_change()
        if len(samples) > FOLD_AT and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def add_all(self, meter: Meter, tags: Tags, values: Sequence[float]) -> None:
        """Count, set or observe several values, at once."""
        with self._lock:
            for value in values:
                meter.take_in(tags, value)

    def _fold(self) -> None:
        samples = self._samples
        while samples:
            meter, tags, value = samples.popleft()
            meter.take_in(tags, value)

    def drain(self) -> bytes | None:
        """Take what has changed since the last call, for `merge`; None: it cannot be had right now.

        Never waits, since a finalizer may call this while its own thread is at work here.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            self._announced = False  # before looking: whatever comes from now on announces itself
            self._fold()
            changes = [
                (meter.name, meter.kind, meter.description, meter.boundaries, meter.values)
                for meter in self._meters.values()
                if meter.values
            ]
            data = marshal.dumps(changes)
            for meter in self._meters.values():
                meter.values = {}
        finally:
            self._lock.release()
        return data

    def merge(self, data: bytes, worker: str) -> None:
        """Take in what a worker has measured. worker: its id."""
        with self._lock:
            for name, kind, description, boundaries, values in marshal.loads(data):
                meter = self._meter(name, kind, description, boundaries)
                for tags, changes in values.items():
                    if kind == GAUGE:
                        meter.add(_tagged(tags, worker), changes, boundaries)
                    else:
                        meter.add(tags, changes, boundaries)

    def drop(self, worker: str) -> None:
        """Forget the gauges of a worker, which has ended."""
        tag = (WORKER_TAG, worker)
        with self._lock:
            for meter in self._meters.values():
                if meter.kind == GAUGE:
                    for tags in [tags for tags in meter.values if tag in tags]:
                        del meter.values[tags]

    def read(self) -> list[Reading]:
        """Return what all meters that have a value stand at, in the order of their first use."""
        with self._lock:
            self._fold()
            return [meter.read() for meter in self._meters.values() if meter.values]

    def clear(self) -> None:
        """Forget all values; the meters stay."""
        with self._lock:
            self._samples.clear()
            self._announced = False
            for meter in self._meters.values():
                meter.values = {}


def sorted_tags(tags: Mapping[str, str]) -> Tags:
    """Return tags as a board wants them, sorted by key."""
    return tuple(sorted(tags.items()))


def _tagged(tags: Tags, worker: str) -> Tags:
    return sorted_tags({**dict(tags), WORKER_TAG: worker})


board = Board()
"""That of this process, for the user's metrics."""
