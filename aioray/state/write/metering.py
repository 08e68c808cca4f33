"""What engines count about themselves, for Prometheus: tasks, retries, times, crashes.

Room: state. `Metering` listens to the batches that the history writers of all sessions of this
process write (`writer.HistoryListener`), in their threads: nothing is done when a task ends, and
nothing at all unless somebody wants the numbers. Counters go on when a session ends. What is going
on now is not counted here but asked of the engines, see `prometheus`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from ...shared.meters import COUNTER, HISTOGRAM, Board
from ..schema import ATTEMPT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Metering"]

SECONDS = (0.0001, 0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0)
"""Upper ends of the buckets of times: tasks take from some microseconds to hours."""

_SIGNATURE, _READY, _STARTED, _ENDED, _ERROR = map(
    ATTEMPT_COLUMNS.index, ("signature", "ready", "started", "ended", "error_type")
)
_OUT_OF_MEMORY = "NODE_OUT_OF_MEMORY"
_CRASHES = ("SYSTEM_ERROR", _OUT_OF_MEMORY)


class Metering:
    """A `writer.HistoryListener`."""

    def __init__(self) -> None:
        self.board = board = Board()
        self._finished = board.meter("aioray_tasks_finished", COUNTER, "Tasks that have a value.")
        self._failed = board.meter("aioray_tasks_failed", COUNTER, "Tasks that have failed.")
        self._retries = board.meter(
            "aioray_task_retries", COUNTER, "Attempts that have failed, and are followed by others."
        )
        self._queue = board.meter(
            "aioray_task_queue_seconds",
            HISTOGRAM,
            "Time of an attempt from when it could run to when it did.",
            SECONDS,
        )
        self._run = board.meter(
            "aioray_task_run_seconds", HISTOGRAM, "Time that an attempt has run.", SECONDS
        )
        self._crashes = board.meter(
            "aioray_worker_crashes", COUNTER, "Worker processes that have died unexpectedly."
        )

    def attempts(
        self,
        signatures: Mapping[int, dict[str, Any]],
        rows: Sequence[tuple[Any, ...]],
        retried: Sequence[tuple[Any, ...]],
    ) -> None:
        """Count tasks, retries and times. See `writer.HistoryListener`."""
        add = self.board.add_all
        finished = Counter(row[_SIGNATURE] for row in rows if row[_ERROR] is None)
        for signature, count in finished.items():
            add(self._finished, _of(signatures[signature]), [count])
        for meter, failed in ((self._failed, rows), (self._retries, retried)):
            errors = Counter(
                (row[_SIGNATURE], row[_ERROR]) for row in failed if row[_ERROR] is not None
            )
            for (signature, error), count in errors.items():
                add(meter, _of(signatures[signature], error_type=error), [count])
        queued: defaultdict[int, list[float]] = defaultdict(list)
        ran: defaultdict[int, list[float]] = defaultdict(list)
        for row in (*rows, *retried):
            signature, ready, started = row[_SIGNATURE], row[_READY], row[_STARTED]
            if started is not None:
                ran[signature].append(row[_ENDED] - started)
                if ready is not None:
                    queued[signature].append(started - ready)
        for meter, seconds in ((self._queue, queued), (self._run, ran)):
            for signature, values in seconds.items():
                add(meter, _of(signatures[signature]), values)

    def entities(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """Count crashes. See `writer.HistoryListener`."""
        for kind, _, attributes in rows:
            if kind == "worker" and attributes["exit_type"] in _CRASHES and attributes["ready"]:
                cause = attributes["exit_detail"].removeprefix("worker ")
                if attributes["exit_type"] == _OUT_OF_MEMORY and cause.startswith("was killed"):
                    cause = "was killed for its memory"  # without the numbers
                self.board.add_all(self._crashes, (("cause", cause),), [1])

    def events(self, rows: Sequence[tuple[float, str, str, str]]) -> None:
        """Count nothing. See `writer.HistoryListener`."""


def _of(signature: Mapping[str, Any], **more: str) -> tuple[tuple[str, str], ...]:
    # Not its name: that can be another one for each task.
    return tuple(sorted({"function": signature["func_or_class_name"], **more}.items()))
