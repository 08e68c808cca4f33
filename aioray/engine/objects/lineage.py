"""What it takes to run a finished task again, for as long as a large result of it may be lost.

Room: engine. A `Lineage` takes the place of a finished task's payload. It keeps no value alive but
the task's own arguments: of each ref among them it knows only where its value came from. A value
that nobody else needs is freed, and would be computed again like any other. Kept up to a number of
bytes; beyond that the oldest half is given up, as in Ray.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from ...client.entry import ObjectEntry, PlainEntry, StoredFailure
from ...client.refs import ObjectRef
from ...shared.ids import FIRST_ITEM
from ..telemetry.errors import unreconstructable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...client.protocol import Client
    from ...core.model import Task

__all__ = ["EVICTED", "PUT", "Ledger", "Lineage", "entries_of"]

OVERHEAD = 1024  # bytes that one lineage is taken for besides its arguments

EVICTED = "LINEAGE_EVICTED"
PUT = "PUT"
REF_NOT_FOUND = "REF_NOT_FOUND"


def entries_of(task: Task, client: Client) -> list[ObjectEntry]:
    """Return the entries of a task's results. One that is gone is made again, as lost."""
    returns = task.returns
    if isinstance(returns, ObjectEntry):
        return [returns]
    if type(returns) is list:
        if task.stream is not None:
            return [*returns[:1], *task.stream.items.values()]
        return returns
    entries = []
    for index, ref in enumerate(returns, 1):
        entry = ref()
        if entry is None:
            entry = PlainEntry(client, task.task_key, index, task)
            entry.missing = True
        entries.append(entry)
    if task.stream is not None:
        entries[1:] = task.stream.items.values()
    task.returns = tuple(map(weakref.ref, entries))
    return entries


def _entry_of(task: Task, index: int, client: Client) -> ObjectEntry:
    """Return the entry of one result. If it is gone it is made again, as lost."""
    if task.stream is None or index < FIRST_ITEM:
        return entries_of(task, client)[index - 1]
    entry: ObjectEntry | None = task.stream.items.get(index - FIRST_ITEM)
    if entry is None:
        entry = task.stream.new_entry(index - FIRST_ITEM)
        entry.missing = True
    return entry


class _Origin:
    """Where the value of a ref came from."""

    __slots__ = ("entry", "identifier", "index", "task", "value")

    def __init__(self, entry: ObjectEntry) -> None:
        self.entry = weakref.ref(entry)
        self.identifier = entry.binary()
        outcome = entry.outcome
        self.value = outcome if type(outcome) is bytes else None  # small: it lives with the driver
        self.task: Task | None = entry.task if self.value is None else None
        self.index = entry.index

    def find(self, client: Client, say_lost: Callable[[Task], None]) -> ObjectEntry:
        """Return the entry of the ref, made again if it is gone."""
        entry = self.entry()
        if entry is not None:
            return entry
        task = self.task
        if self.value is None and task is not None:
            returns = task.returns
            if returns is not None and not isinstance(returns, StoredFailure):
                entry = _entry_of(task, self.index, client)
                if entry.missing:
                    say_lost(task)
                return entry
        entry = PlainEntry(client, 0 if task is None else task.task_key, self.index, task)
        entry.identifier = self.identifier
        if self.value is not None:
            entry.outcome = self.value
        elif task is not None and isinstance(task.returns, StoredFailure):
            entry.outcome = task.returns
        else:
            reason = PUT if task is None else REF_NOT_FOUND
            entry.outcome = unreconstructable(self.identifier.hex(), reason)
        return entry


class Lineage:
    """The arguments of one finished task."""

    __slots__ = (
        "__weakref__",
        "_entries",
        "_held",
        "_payload",
        "given_up",
        "size",
    )

    def __init__(self, task: Task) -> None:
        self._payload = task.payload
        self._entries = [_Origin(entry) for entry in task.arguments or ()]
        self._held = [_Origin(ref.entry) for ref in _refs_in(task.held)]
        self.given_up = False
        self.size = OVERHEAD + _size(self._payload)
        self.size += sum(len(origin.value or b"") for origin in (*self._entries, *self._held))

    def give_up(self) -> None:
        """Forget all arguments: the task can not be run again."""
        self.given_up = True
        self._payload = None
        self._entries, self._held = [], []

    def revive(self, task: Task, client: Client, say_lost: Callable[[Task], None]) -> None:
        """Give the task its arguments back. say_lost: is told of tasks whose values are gone."""
        entries = [origin.find(client, say_lost) for origin in self._entries]
        held: list[ObjectRef[Any]] = [
            ObjectRef(origin.find(client, say_lost)) for origin in self._held
        ]
        for ref in held:
            client.export_entry(ref.entry)  # the pickled arguments know it by its id
        task.payload, task.arguments, task.held = self._payload, entries or None, held


def _size(payload: Any) -> int:
    return len(payload) if type(payload) is bytes else payload.size


def _refs_in(held: Any) -> Iterator[ObjectRef[Any]]:
    if isinstance(held, ObjectRef):
        yield held
    elif held:
        for item in held:
            yield from _refs_in(item)


class _Item(weakref.ref[Lineage]):
    """A lineage and the bytes that it is counted with, 0 once they are no longer counted."""

    __slots__ = ("size",)
    size: int


class Ledger:
    """All lineage of one engine."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes
        self._size = 0
        self._items: deque[_Item] = deque()  # oldest first
        self._gone: deque[Any] = deque()  # those that ended, in whatever thread
        self._pruned_at = 64  # how many there may be until those that ended are sorted out

    @property
    def size(self) -> int:
        """Bytes of lineage."""
        while self._gone:
            self._uncount(self._gone.popleft())
        return self._size

    def _uncount(self, item: _Item) -> None:
        self._size -= item.size
        item.size = 0

    def keep(self, task: Task) -> None:
        """Turn a finished task's arguments into lineage."""
        lineage = task.payload = Lineage(task)
        task.arguments = task.held = None
        item = _Item(lineage, self._gone.append)
        item.size = lineage.size
        self._size += item.size
        self._items.append(item)
        if self.size > self.limit:
            self._give_up_oldest()
        elif len(self._items) > self._pruned_at:
            self._items = deque(item for item in self._items if item() is not None)
            self._pruned_at = 2 * len(self._items) + 64

    def _give_up_oldest(self) -> None:
        while self._items and self.size > self.limit // 2:
            item = self._items.popleft()
            lineage = item()
            if lineage is not None:
                lineage.give_up()
                self._uncount(item)
