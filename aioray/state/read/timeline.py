"""Writes a session's attempts as a timeline that chrome://tracing and ui.perfetto.dev show.

Room: state. The format is the Trace Event Format: a list of events with times in microseconds. Each
worker is a row ("thread") with what it ran; calls that an actor ran side by side get rows of their
own below it, because slices of one row must nest. A second group of rows tells how long attempts
waited: for their arguments, for a worker, and in the worker. A failed attempt is red and has a mark
with the error's type where it ended; an attempt after the first one has its number in its name.

The columns `cat`, `name`, `ts`, `dur`, `ph` and `args` are as in what `ray.timeline` returns, for
programs that read it. Rows are numbered, and metadata events give them names. Source: Trace Event
Format, "Complete Events", "Async Events" and "Metadata Events"; Ray API reference, ray.timeline.
"""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .rows import attempt_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..record import Record
    from .view import View

__all__ = ["trace"]

_US = 1_000_000
_WORKERS, _WAITING = 1, 2  # processes, in the format's words: the two groups of rows
_ROWS_OF_A_WORKER = 1000  # that many numbers each worker has for its rows
_PHASES = ("waits for arguments", "waits for a worker", "waits in the worker")
_GOOD, _BAD, _UNFINISHED = "good", "terrible", "thread_state_running"  # the format's colours


def trace(view: View) -> list[dict[str, Any]]:
    """Make the events of a session's timeline, in no particular order.

    Attempts that still run end at the moment of asking.
    """
    records = list(view.records())
    identifier = attempt_id(view)
    now = view.live.get("now") or _last_moment(records)
    events = [_named("process_name", _WORKERS, 0, f"Workers of {view.meta.get('session')}")]
    events.append(_named("process_name", _WAITING, 0, "Waiting"))
    events += [_sorted("process_sort_index", process, 0) for process in (_WORKERS, _WAITING)]
    events += _running(view, records, now)
    for number, record in enumerate(records):
        task = identifier(record).hex()
        events += _waiting(_title(view, record), task, number, record, now)
    return events


def _last_moment(records: Iterable[Record]) -> float:
    moments = (_first(record.ended, record.started, record.created) for record in records)
    return max(moments, default=0.0)


def _title(view: View, record: Record) -> str:
    name: str = view.signatures[record.signature]["name"]
    return f"{name} (attempt {record.attempt})" if record.attempt else name


# ------------------------------------------------------------ what workers ran


def _running(view: View, records: Iterable[Record], now: float) -> Iterator[dict[str, Any]]:
    by_worker: dict[int, list[Record]] = {}
    for record in records:
        if record.started is not None and record.worker is not None:
            by_worker.setdefault(record.worker, []).append(record)
    identifier = attempt_id(view)
    actors = {attributes["actor_id"]: attributes for attributes in view.actors}
    for worker, ran in sorted(by_worker.items()):
        attributes = view.workers.get(worker, {})
        ran.sort(key=lambda record: record.started or 0.0)
        rows = 0
        for row, record in _side_by_side(ran, now):
            rows = max(rows, row + 1)
            yield from _slice(view, record, identifier(record).hex(), worker, row, now)
        for row in range(rows):
            yield from _row_names(attributes, actors.get(attributes.get("actor_id")), worker, row)


def _side_by_side(records: Iterable[Record], now: float) -> Iterator[tuple[int, Record]]:
    """Give each record, ordered by their starts, the lowest row that is free then."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []  # until when, row
    rows = 0
    for record in records:
        start = record.started or 0.0
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            row = heapq.heappop(free)
        else:
            row, rows = rows, rows + 1
        heapq.heappush(busy, (now if record.ended is None else record.ended, row))
        yield row, record


def _slice(
    view: View, record: Record, task: str, worker: int, row: int, now: float
) -> Iterator[dict[str, Any]]:
    start = record.started or 0.0
    end = max(now if record.ended is None else record.ended, start)
    name = view.signatures[record.signature]["name"]
    where = {"pid": _WORKERS, "tid": _row(worker, row)}
    failed = record.error_type is not None
    args = {
        "name": name,
        "task_id": task,
        "attempt_number": record.attempt,
        "state": record.state,
    }
    if failed:
        args |= {"error_type": record.error_type, "error_message": record.error_message}
    yield {
        "cat": f"task::{name}",
        "name": _title(view, record),
        "ph": "X",
        "ts": start * _US,
        "dur": (end - start) * _US,
        "cname": _BAD if failed else _UNFINISHED if record.ended is None else _GOOD,
        "args": args,
        **where,
    }
    if failed:
        yield {
            "cat": "error",
            "name": record.error_type,
            "ph": "i",
            "s": "t",  # of this row
            "ts": end * _US,
            "args": {"task_id": task},
            **where,
        }


def _row(worker: int, row: int) -> int:
    return worker * _ROWS_OF_A_WORKER + min(row, _ROWS_OF_A_WORKER - 1)


def _row_names(
    attributes: dict[str, Any], actor: dict[str, Any] | None, worker: int, row: int
) -> Iterator[dict[str, Any]]:
    of = f", actor {actor['class_name']}" if actor else ""
    again = f" ({row + 1})" if row else ""
    tid = _row(worker, row)
    yield _named("thread_name", _WORKERS, tid, f"pid {attributes.get('pid')}{of}{again}")
    yield _sorted("thread_sort_index", _WORKERS, tid)


def _named(what: str, process: int, row: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": row, "args": {"name": name}}


def _sorted(what: str, process: int, row: int) -> dict[str, Any]:
    index = {"sort_index": row or process}
    return {"name": what, "ph": "M", "pid": process, "tid": row, "args": index}


# ------------------------------------------------------------ what waited


def _waiting(
    title: str, task: str, number: int, record: Record, now: float
) -> Iterator[dict[str, Any]]:
    """Yield the time before the attempt ran, and inside of it its phases if there are several."""
    until = _first(record.started, record.ended, now)
    moments = [record.created, _first(record.ready, until), _first(record.sent, until), until]
    phases = [
        (name, start, end)
        for name, (start, end) in zip(_PHASES, pairwise(moments), strict=True)
        if end > start
    ]
    if not phases:
        return
    args = {"task_id": task} | ({"reason": phases[0][0]} if len(phases) == 1 else {})
    yield from _pair(title, number, record.created, until, args)
    if len(phases) > 1:
        for name, start, end in phases:
            yield from _pair(name, number, start, end, {})


def _first(*moments: float | None) -> float:
    """Return the first of `moments` that is known; the last one always is."""
    return next(moment for moment in moments if moment is not None)


def _pair(
    name: str, number: int, start: float, end: float, args: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    common = {"cat": "waiting", "name": name, "id": number, "pid": _WAITING, "tid": 0}
    yield {**common, "ph": "b", "ts": start * _US, "args": args}
    yield {**common, "ph": "e", "ts": end * _US, "args": {}}
