"""Which objects there are, how large, and who holds them: the rows of `aioray memory`.

Room: engine. Nobody keeps a list of entries: that would cost every call something,
and this is asked for seldom. So the garbage collector is asked for the entries and refs that it
knows, which takes less than one of its own full collections; all else is done in slices, between
which the loop runs. What `gc.freeze` has hidden from the collector is not found.

One row says that one process holds one object, with the strongest reason that it has. Columns are
those of Ray's `list objects`; beyond them `location` says where the value lies ("inline": it is at
most 100 KB and lies with its ref; "memory", "disk" or "memory, disk"; empty: there is none), and
`count` how many ref objects the process has, without those in values and in arguments of tasks.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from ...client.entry import ObjectEntry, StoredFailure
from ...client.refs import ObjectRef
from ...shared import ids
from ..objects.stored import Stored
from .reports import NODE_IP

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from ...client.protocol import Client
    from ...core.model import Task
    from ..requests.session import WorkerSession

__all__ = ["list_objects"]

SLICE = 1_000  # rows made at once


def list_objects(
    client: Client,
    unfinished: Collection[Task],
    sessions: Iterable[WorkerSession],
    pinned: Collection[ObjectEntry],
    call_site: Callable[[ObjectEntry], str],
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in slices; what changes meanwhile may be seen or not.

    client: the engine. unfinished: its tasks without an outcome. sessions: its workers. pinned:
    entries that are kept for the session. call_site: where a value was made.
    """
    entries, refs = _known_to_collector(client)
    holders: Counter[int] = Counter()  # by ref: how often tasks and values have it
    used = _count(holders, ((task.arguments, task.held) for task in tuple(unfinished)))
    yield []
    captured = _count(holders, (entry.contains for entry in entries))
    yield []
    counts = _held_by_others(refs, holders)
    del refs
    yield []
    kept = {id(entry) for entry in pinned}
    in_workers: set[int] = set()
    rows: list[dict[str, Any]] = []
    for row, entry in _worker_rows(tuple(sessions), entries, call_site):
        in_workers.add(id(entry))
        rows.append(row)
        if len(rows) == SLICE:
            yield rows
            rows = []
    for entry in entries:
        key = id(entry)
        if ids.is_actor(entry.binary()):
            kind = "ACTOR_HANDLE"
        elif key in used:
            kind = "USED_BY_PENDING_TASK"
        elif key in kept:
            kind = "PINNED_IN_MEMORY"
        elif counts[key]:
            kind = "LOCAL_REFERENCE"
        elif key in captured:
            kind = "CAPTURED_IN_OBJECT"
        elif key in in_workers:
            continue
        else:
            kind = "UNKNOWN_STATUS"  # somebody waits for it, and has no ref
        rows.append(_row(entry, kind, "DRIVER", os.getpid(), counts[key], call_site))
        if len(rows) == SLICE:
            yield rows
            rows = []
    yield rows


def _known_to_collector(client: Client) -> tuple[list[ObjectEntry], list[ObjectRef[Any]]]:
    """Return the entries of this client, and the refs to them."""
    entries: list[ObjectEntry] = []
    refs: list[ObjectRef[Any]] = []
    for thing in gc.get_objects():
        kind = type(thing)
        if kind is ObjectRef:
            refs.append(thing)
        elif (
            issubclass(kind, ObjectEntry)
            and getattr(thing, "client", None) is client  # it may just be made, in another thread
            and thing.index < ids.SIGNAL_INDEX
        ):
            entries.append(thing)
    return entries, refs


def _count(holders: Counter[int], held: Iterable[Any]) -> set[int]:
    """Count the refs in what is held, and return whose entries are. Binds no ref for longer."""
    found: set[int] = set()
    for some in held:
        for entry, ref in _held_in(some):
            found.add(id(entry))
            holders[id(ref)] += 1
    return found


def _held_by_others(refs: list[ObjectRef[Any]], holders: Counter[int]) -> Counter[int]:
    """Count by entry the refs that somebody else has than the engine's tasks and values."""
    known = [*refs, ObjectRef(refs[0].entry)] if refs else []  # the last is only in here
    refs.clear()
    references = [getrefcount(ref) for ref in known]
    unheld = references.pop() if references else 0
    counts: Counter[int] = Counter()
    for ref, count in zip(known, references, strict=False):
        if count > unheld + holders[id(ref)]:
            counts[id(ref.entry)] += 1
    return counts


def _held_in(held: Any) -> Iterator[tuple[ObjectEntry, ObjectRef[Any] | None]]:
    if isinstance(held, ObjectEntry):
        yield held, None
    elif isinstance(held, ObjectRef):
        yield held.entry, held
    elif isinstance(held, list | tuple):
        for item in held:
            yield from _held_in(item)


def _worker_rows(
    sessions: Iterable[WorkerSession],
    entries: list[ObjectEntry],
    call_site: Callable[[ObjectEntry], str],
) -> Iterator[tuple[dict[str, Any], ObjectEntry]]:
    by_extent = {
        id(entry.outcome.extent): entry
        for entry in entries
        if type(entry.outcome) is Stored and entry.outcome.extent is not None
    }
    for session in sessions:
        pid = session.handle.pid or 0
        for extent in session.handle.loans.extents():
            entry = by_extent.get(id(extent))
            if entry is not None:
                yield _row(entry, "PINNED_IN_MEMORY", "WORKER", pid, 0, call_site), entry
        for identifier, (entry, count) in list(session.refs.items()):
            kind = "ACTOR_HANDLE" if ids.is_actor(identifier) else "LOCAL_REFERENCE"
            yield _row(entry, kind, "WORKER", pid, count, call_site), entry


def _row(
    entry: ObjectEntry,
    kind: str,
    process: str,
    pid: int,
    count: int,
    call_site: Callable[[ObjectEntry], str],
) -> dict[str, Any]:
    outcome, task = entry.outcome, entry.task
    size, location = -1, ""
    if kind == "ACTOR_HANDLE":
        pass  # its value means nothing
    elif type(outcome) is bytes:
        size, location = len(outcome), "inline"
    elif type(outcome) is Stored:
        size = outcome.size
        places = {"memory": outcome.extent is not None, "disk": outcome.file is not None}
        location = ", ".join(name for name, there in places.items() if there)
    if kind == "ACTOR_HANDLE" or process == "WORKER":
        status = "NIL"
    elif isinstance(outcome, StoredFailure):
        status = "FAILED"
    elif outcome is not None or task is None:
        status = "FINISHED"
    else:
        status = "PENDING_NODE_ASSIGNMENT" if task.state.name == "BACKOFF" else task.state.name
    return {
        "object_id": entry.binary().hex(),
        "object_size": size,
        "task_status": status,
        "attempt_number": 1 if task is None else task.attempt + 1,
        "reference_type": kind,
        "call_site": call_site(entry),
        "type": process,
        "pid": pid,
        "ip": NODE_IP,
        "location": location,
        "count": count,
    }
