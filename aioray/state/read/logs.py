"""Reads back what workers have printed: by attempt, actor, worker, or by the names of Ray's files.

Room: state. A selection is a function from a `View` to `Part`s: what one attempt, or one process,
has written. `chunks` reads them, once or for as long as something may come, and looks at the
session anew each time. Bytes are as they were written. stdout and stderr of a process are two
pipes, so their order among each other is that in which the driver has read them.

There are no files; the names that Ray gives to its own are understood, for programs that know them.
"""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING, Any

from ...core.records import NamedTuple
from ..soundness import OUTPUT_IS_SOUND
from .sessions import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ..record import Record
    from .view import View

__all__ = [
    "BOTH",
    "STREAMS",
    "LogChunk",
    "NoSuchLogError",
    "Part",
    "chunks",
    "files",
    "has_output",
    "is_incomplete",
    "of_actor",
    "of_file",
    "of_task",
    "of_worker",
]

STREAMS = {"out": (1,), "err": (2,)}
BOTH = (1, 2)
POLL_SECONDS = 0.25
PATIENCE = 4  # a look at the session may take this part of the time: one in five
_TASK_DIGITS, _ACTOR_DIGITS, _WORKER_DIGITS = 48, 32, 56  # of ids
_ENDED = frozenset({"FINISHED", "FAILED"})


class NoSuchLogError(SessionError):
    """The session knows of no such task, attempt, actor, worker or file. The text says what to do.

    Not raised for what has printed nothing.
    """


class Part(NamedTuple):
    """What one attempt or one process has written."""

    title: str
    worker: int | None  # the engine's number; None: it has not got to one
    seq: int | None  # of the attempt in the worker; None: all that the worker has written
    began: float | None  # Unix seconds; None: unknown
    has_ended: bool  # nothing more will come
    since: int = 0  # if all: but not what attempts before this seq have


class LogChunk(NamedTuple):
    """A piece of output. The first of each part is empty."""

    part: Part
    of_several: bool  # parts
    stream: int  # 1 or 2; 0: it is empty
    data: bytes
    is_cut: bool = False  # lines before it were left out, as `tail` demands
    is_incomplete: bool = False  # of its part some may be missing, see `is_incomplete`


# ---------------------------------------------------------------- what to read


def of_task(view: View, task_id: str, attempt: int | None = None) -> list[Part]:
    """Select the attempts of a task, or one of them. Raises NoSuchLogError."""
    wanted = _id(task_id, _TASK_DIGITS, "task", "tasks")
    found = sorted(_records(view, wanted), key=lambda record: record.attempt)
    if not found:
        raise NoSuchLogError(
            f"There is no task {task_id} in session {_name(view)}. `aioray list tasks` shows the "
            f"ids of those there are; the oldest of very many are forgotten."
        )
    if attempt is not None:
        numbers = [record.attempt for record in found]
        found = [record for record in found if record.attempt == attempt]
        if not found:
            raise NoSuchLogError(
                f"The task {task_id} has no attempt {attempt}; there are: "
                f"{', '.join(map(str, numbers))}."
            )
    return [_attempt_part(view, record) for record in found]


def of_actor(view: View, actor: str = "", *, pid: int | None = None) -> list[Part]:
    """Select the processes that have been this actor, in order. Raises NoSuchLogError.

    actor: its id, or its name; of several actors of one name, the newest. pid: of a process that
    is or was an actor.
    """
    if pid is not None:
        processes = [
            attributes
            for attributes in _workers(view)
            if attributes["pid"] == pid and attributes["actor_id"]
        ]
        if not processes:
            raise NoSuchLogError(
                f"No actor of session {_name(view)} had a process {pid}. `aioray list actors` "
                f"shows the actors there are."
            )
        actor = processes[-1]["actor_id"]
    found = [attributes for attributes in view.actors if attributes["actor_id"] == actor]
    found = found or [
        attributes for attributes in view.actors if actor and attributes["name"] == actor
    ]
    if not found:
        raise NoSuchLogError(
            f"There is no actor with the id or name {actor!r} in session {_name(view)}. "
            f"`aioray list actors` shows those there are."
        )
    attributes = max(found, key=lambda attributes: attributes.get("created") or 0.0)
    numbers = [w["number"] for w in _workers(view) if w["actor_id"] == attributes["actor_id"]]
    makers = {
        n for n, signature in view.signatures.items() if _makes(signature, attributes["actor_id"])
    }
    made = {
        record.worker: record.seq or 0 for record in view.records() if record.signature in makers
    }
    if not numbers:
        state = attributes["state"]
        return [Part(f"{_call(attributes)} ({state})", None, None, None, state == "DEAD")]
    return [
        _worker_part(
            view.workers[number],
            f"{_call(attributes)}, process {at} of {len(numbers)}",
            attributes["state"] == "DEAD",
            made.get(number, 0),
        )
        for at, number in enumerate(numbers, 1)
    ]


def of_worker(view: View, worker: str) -> list[Part]:
    """Select what a worker has printed, whatever ran in it. Raises NoSuchLogError.

    worker: its id, or its pid; there may have been several with one pid.
    """
    if worker.isdecimal() and len(worker) < _WORKER_DIGITS:
        found = [attributes for attributes in _workers(view) if attributes["pid"] == int(worker)]
    else:
        found = [attributes for attributes in _workers(view) if attributes["worker_id"] == worker]
    if not found:
        driver = view.workers.get(0, {})
        if worker in (str(driver.get("pid")), driver.get("worker_id")):
            raise NoSuchLogError("That is the driver, whose own output goes where it was told to.")
        raise NoSuchLogError(
            f"There is no worker with the id or pid {worker} in session {_name(view)}. "
            f"`aioray list workers` shows those there are."
        )
    return [_worker_part(attributes, "worker") for attributes in found]


def of_file(view: View, name: str) -> list[Part]:
    """Select the worker whose output Ray would keep in file `name`. Raises NoSuchLogError."""
    for attributes in _workers(view):
        if name in _file_names(view, attributes):
            return [_worker_part(attributes, "worker")]
    raise NoSuchLogError(
        f"There is no log {name} in session {_name(view)}. `aioray logs` lists those there are."
    )


def files(view: View, pattern: str = "*") -> dict[str, list[str]]:
    """List the names, as Ray would call its files, that match a shell pattern, in Ray's groups."""
    groups: dict[str, list[str]] = {}
    for attributes in _workers(view):
        for suffix, name in zip(STREAMS, _file_names(view, attributes), strict=False):
            if fnmatch.fnmatchcase(name, pattern):
                groups.setdefault(f"worker_{suffix}", []).append(name)
    return groups


def _file_names(view: View, attributes: dict[str, Any]) -> list[str]:
    if attributes["pid"] is None:
        return []
    stem = f"worker-{attributes['worker_id']}-{view.meta['job']}-{attributes['pid']}"
    return [f"{stem}.{suffix}" for suffix in STREAMS]


def _workers(view: View) -> list[dict[str, Any]]:
    return [attributes for number, attributes in sorted(view.workers.items()) if number]


def _records(view: View, wanted: bytes) -> Iterator[Record]:
    """Yield the attempts of a task; compute ids for those only that it may be."""
    signatures = set()
    for number, attributes in view.signatures.items():
        creation = attributes["creation"]
        if creation is None or bytes.fromhex(creation)[8:] == wanted[8:]:
            signatures.add(number)
    text = wanted.hex()
    for record in view.records():
        if isinstance(record.task_key, bytes):
            if record.task_key == wanted:
                yield record
        elif record.signature in signatures and view.task_id(record) == text:
            yield record


def _attempt_part(view: View, record: Record) -> Part:
    name = view.signatures[record.signature]["name"]
    pid = view.workers.get(record.worker or 0, {}).get("pid") if record.worker else None
    process = "" if pid is None else f"pid={pid}, "
    return Part(
        f"{name}, attempt {record.attempt} ({process}{record.state})",
        record.worker,
        record.seq,
        record.started or record.sent,
        record.state in _ENDED,
    )


def _makes(signature: dict[str, Any], actor_id: str) -> bool:
    return signature["type"] == "ACTOR_CREATION_TASK" and bool(signature["actor_id"] == actor_id)


def _worker_part(
    attributes: dict[str, Any], title: str, has_ended: bool | None = None, since: int = 0
) -> Part:
    return Part(
        f"{title} (pid={attributes['pid']})",
        attributes["number"],
        None,
        attributes["forked"] or attributes["launched"],
        not attributes["is_alive"] if has_ended is None else has_ended,
        since,
    )


def _call(actor: dict[str, Any]) -> str:
    return f"{actor['name']} ({actor['class_name']})" if actor["name"] else str(actor["class_name"])


def _id(text: str, digits: int, what: str, resource: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if 2 * len(found) == digits:
        return found
    hint = f" This looks like an actor's: `aioray logs actor {text}`."
    raise NoSuchLogError(
        f"{text!r} is no id of a {what}: those have {digits} hexadecimal digits. "
        f"`aioray list {resource}` shows them." + (hint if 2 * len(found) == _ACTOR_DIGITS else "")
    )


def _name(view: View) -> str:
    return "" if view.session is None else view.session.name


# ---------------------------------------------------------------- reading


def is_incomplete(view: View, part: Part) -> bool:
    """Tell whether output of `part` may have been dropped: a session keeps a limited amount."""
    if not view.meta.get("output_dropped"):
        return False
    oldest = view.connection.execute(
        f"SELECT rowid, at FROM output WHERE {OUTPUT_IS_SOUND} ORDER BY rowid LIMIT 1"
    ).fetchone()
    # If the very first is there, it was not the oldest that went: the disk was too slow.
    return oldest is None or oldest[0] == 1 or part.began is None or part.began <= oldest[1]


def has_output(view: View, part: Part, stream: int) -> bool:
    """Tell whether the part has written anything to this stream."""
    return next(_rows(view, part, (stream,), 0), None) is not None


def chunks(
    look: Callable[[], AbstractContextManager[View]],
    select: Callable[[View], list[Part]],
    streams: tuple[int, ...],
    *,
    tail: int = -1,
    follow: bool = False,
    interval: float = POLL_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[LogChunk]:
    """Read what has been written, part by part, in order.

    look: opens a view. select: see `of_task` and the others. streams: of 1 and 2. tail: this many
    lines from the end of each part; below 0, all. follow: go on until nothing more will come: all
    parts have ended, or the session has. interval: seconds between two looks, at least.
    Raises what `look` and `select` do.
    """
    known: dict[tuple[int | None, int | None], int] = {}  # the last row that was read of each part
    parts: list[Part] = []
    was_over = False
    while True:
        started = time.monotonic()
        with look() as view:
            try:
                parts = select(view)
            except NoSuchLogError:
                if view.alive or not known:
                    raise
                # The driver was killed before its history knew of this.
            for part in parts:
                if part.worker is None and follow:
                    continue  # it will get to one
                key = part.worker, part.seq
                if key not in known:
                    known[key] = 0
                    yield from _first(view, part, len(parts) > 1, streams, tail, known)
                for row, stream, data in _rows(view, part, streams, known[key]):
                    known[key] = row
                    yield LogChunk(part, len(parts) > 1, stream, data)
            is_over = not view.alive or all(part.has_ended for part in parts)
        # Twice, because what ends may begin again, and what was printed may come a little later.
        if not follow or (is_over and was_over):
            return
        was_over = is_over
        sleep(max(interval, PATIENCE * (time.monotonic() - started)))


def _first(
    view: View,
    part: Part,
    of_several: bool,
    streams: tuple[int, ...],
    tail: int,
    known: dict[tuple[int | None, int | None], int],
) -> Iterator[LogChunk]:
    """Yield the beginning of a part: its title, and the last lines if only those are wanted."""
    rows: list[tuple[int, int, bytes]] = []
    is_cut = False
    if tail >= 0:
        rows, is_cut = _last_lines(_rows(view, part, streams, 0, "DESC"), tail)
    yield LogChunk(part, of_several, 0, b"", is_cut, is_incomplete(view, part))
    for row, stream, data in rows:
        known[part.worker, part.seq] = row
        if data:
            yield LogChunk(part, of_several, stream, data)


def _rows(
    view: View, part: Part, streams: tuple[int, ...], after: int, order: str = "ASC"
) -> Iterator[tuple[int, int, bytes]]:
    """Select the pieces that the part has written: row, stream and bytes of each."""
    condition, seq = "worker = ? AND (seq >= ? OR seq = 0)", part.since
    if part.seq is not None:
        condition, seq = "worker = ? AND seq = ?", part.seq
    which = ", ".join("?" * len(streams))
    found: Iterator[tuple[int, int, bytes]] = view.connection.execute(
        f"SELECT rowid, stream, data FROM output WHERE {condition} AND rowid > ? "
        f"AND stream IN ({which}) AND {OUTPUT_IS_SOUND} ORDER BY rowid {order}",
        (part.worker, seq, after, *streams),
    )
    return found


def _last_lines(
    rows: Iterator[tuple[int, int, bytes]], lines: int
) -> tuple[list[tuple[int, int, bytes]], bool]:
    """Find the last lines, in order, and whether any were before them. rows: newest first."""
    found: list[tuple[int, int, bytes]] = []
    for row, stream, data in rows:
        end = len(data)
        if not found:
            found.append((row, stream, b""))  # where reading goes on, even if no line is wanted
            if data.endswith(b"\n"):
                end -= 1  # ends the last line, and begins none
        while lines and (end := data.rfind(b"\n", 0, end)) >= 0:
            lines -= 1
            if not lines:
                found.append((row, stream, data[end + 1 :]))
                return found[::-1], True
        if not lines:
            return found[::-1], True
        found.append((row, stream, data))
    return found[::-1], False
