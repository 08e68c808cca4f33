"""What each call costs that is not over: objects for the collector to visit, and bytes.

And what becomes of a record that is a task and the entry of its value in one.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
import weakref
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import aioray
from aioray.client.entry import ObjectEntry, PlainEntry, StoredFailure
from aioray.client.refs import ObjectRef
from aioray.core.functions import Function
from aioray.core.model import Kind, SchedulingClass, Task
from aioray.engine.engine import LocalEngine
from aioray.engine.objects.entries import SWEPT_SIZE, Entries
from aioray.engine.tasks.owned import OwnedTask
from aioray.engine.telemetry.inventory import list_objects
from aioray.shared import ids
from aioray.shared.serialization import dump

from .test_waiting import GUARD, FakeMailbox, settle, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


import pytest

MANY = 1000
MOST_POINTERS = 42  # of a record to anything at all, shared or not; each visit follows them
SOURCE = str(Path(aioray.__file__).parent)
NONE = dump(None)[0]


class Growth:
    """How many objects that the collector visits there are more than before."""

    def __init__(self) -> None:
        self._before = len(gc.get_objects())

    def each(self) -> float:
        """Return the growth by call, rounded: some are of the test itself."""
        return round((len(gc.get_objects()) - self._before) / MANY, 1)


@pytest.fixture
def still() -> Iterator[None]:
    """Keep the collector from running: what it would untrack or free is counted."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("way", ["get", "wait"])
def test_thread_that_waits_for_many_refs_adds_no_object_to_each(way: str) -> None:
    entries = [PlainEntry(None, 0, index + 1) for index in range(MANY)]
    refs = [ObjectRef(entry) for entry in entries]
    mailbox = FakeMailbox()
    registered = threading.Event()
    mailbox.after_post = registered.set
    waiting: Any = waits(mailbox)
    before = Growth()
    args = (refs, None) if way == "get" else (refs, MANY, None)
    thread = threading.Thread(target=getattr(waiting, way), args=args, daemon=True)
    thread.start()
    assert registered.wait(GUARD)
    assert all(entry.waiters for entry in entries)
    assert before.each() == 0.0
    for entry in entries:
        settle(entry)
    thread.join(GUARD)
    assert not thread.is_alive()


class Calls:
    """Counts the calls of functions that are written in Python: those of aioray, and others."""

    def __init__(self) -> None:
        self.count = 0
        self.elsewhere = -1  # leaving the block is one

    def __call__(self, frame: Any, event: str, _arg: Any) -> None:
        if event == "call":
            here = frame.f_code.co_filename.startswith(SOURCE)
            self.count += here
            self.elsewhere += not here

    def __enter__(self) -> Self:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class ClientHere:
    """Lives on the loop that runs here."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.call_back = self.loop.call_soon


async def settle_soon(entries: list[ObjectEntry]) -> None:
    for entry in entries:
        settle(entry, NONE)


async def test_awaited_ref_costs_fourteen_calls() -> None:
    client: Any = ClientHere()
    entries: list[ObjectEntry] = [PlainEntry(client, 1, 1) for _ in range(MANY)]
    refs = [ObjectRef(entry) for entry in entries]
    settling = []
    with Calls() as calls:
        for ref in refs:
            settling.append(asyncio.create_task(settle_soon([ref.entry])))
            await ref
    assert round(calls.count / MANY, 1) <= 14


async def test_gather_of_refs_makes_no_ids() -> None:
    client: Any = ClientHere()
    entries: list[ObjectEntry] = [PlainEntry(client, 1, 1 + index) for index in range(3)]
    settling = asyncio.create_task(settle_soon(entries))
    assert await asyncio.gather(*map(ObjectRef, entries)) == [None] * 3
    await settling
    assert [entry.identifier for entry in entries] == [None] * 3


def test_refs_are_equal_and_hash_alike_if_they_are_of_one_object() -> None:
    made: ObjectEntry = PlainEntry(None, 1, 1)
    other: ObjectEntry = PlainEntry(None, 2, 1)
    assert ObjectRef(made) == ObjectRef(made) != ObjectRef(other)
    assert len({ObjectRef(made), ObjectRef(made), ObjectRef(other)}) == 2
    known = [ObjectRef.from_binary(b"x" * 28) for _ in range(2)]  # two entries, and one id
    assert known[0].entry is not known[1].entry
    assert known[0] == known[1] != ObjectRef(made)
    assert len({*known, ObjectRef.nil()}) == 2


@aioray.remote
def nothing() -> None:
    """Is never run."""


@pytest.fixture
def queue() -> Iterator[Callable[[int], list[ObjectRef[Any]]]]:
    """Submit calls to an engine whose core is told of them, and whose orders are never heard."""
    engine = LocalEngine(num_cpus=1)
    loop = asyncio.new_event_loop()
    mailbox: Any = engine._mailbox
    mailbox.begin(loop, owns_thread=False)
    mailbox.orders = defaultdict(lambda: lambda _command: None)
    engine.client.job = b"\x01\0\0\0"

    def submit(count: int) -> list[ObjectRef[Any]]:
        with engine.activate():
            refs = [nothing.remote() for _ in range(count)]
        loop.run_until_complete(asyncio.sleep(0))
        assert len(engine.client.unfinished()) >= count
        return refs

    yield submit
    mailbox.end()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.usefixtures("still")
def test_queued_call_is_two_objects_for_the_collector(queue: Any) -> None:
    first = queue(10)
    before = Growth()
    refs = queue(MANY)
    assert before.each() <= 2.0
    assert len(gc.get_referents(refs[0].entry)) <= MOST_POINTERS
    assert len(first) + len(refs) == MANY + 10


@pytest.mark.usefixtures("still")
def test_queued_call_takes_at_most_600_bytes(queue: Any) -> None:
    first = queue(10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        refs = queue(20 * MANY)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(refs) <= 600
    assert first


def finished(client: Any) -> OwnedTask:
    """A task that has run with some arguments."""
    cls = SchedulingClass((), ())
    task = OwnedTask(
        7, Kind("f", Function(1, "f"), cls), task_key=7, payload=b"args", held=["refs"]
    )
    task.expect(client)
    task.attempt = 2
    return task


def test_task_is_the_entry_of_its_value() -> None:
    client: Any = object()
    record = finished(client)
    assert record.returns is record.task is record
    assert (record.client, record.index, record.task_key) == (client, 1, 7)
    assert ObjectRef(record).entry is record


def test_task_apart_from_its_value_keeps_all_that_another_attempt_needs_but_not_the_value() -> None:
    record = finished(None)
    recipe = record.part()
    assert type(recipe) is Task
    assert record.task is recipe
    assert (recipe.number, recipe.payload, recipe.held, recipe.attempt) == (7, b"args", ["refs"], 2)
    assert (record.payload, record.held, record.returns) == (None, None, None)
    assert recipe.returns is record  # until it is finished for good
    recipe.returns = None
    gone = weakref.ref(record)
    del record
    assert gone() is None


def named(entries: Entries, number: int) -> ObjectEntry:
    """An exported entry with an id of this number."""
    entry: ObjectEntry = PlainEntry(None, 0, 0)
    entry.identifier = number.to_bytes(ids.OBJECT_ID_SIZE, "big")
    entries.export_entry(entry)
    return entry


def test_exported_entry_is_found_as_long_as_it_lives_and_its_id_is_swept_out_later() -> None:
    entries = Entries(cast("Any", None), cast("Any", None), {})
    kept = [named(entries, number) for number in range(10)]
    for number in range(10, 10 + 4 * SWEPT_SIZE):
        named(entries, number)
        assert len(entries._exported) <= 2 * len(kept) + SWEPT_SIZE + 4
    for entry in kept:
        assert entry.identifier is not None
        assert entries.entry_of(entry.identifier) is entry
    gone = entries.entry_of((10).to_bytes(ids.OBJECT_ID_SIZE, "big"))
    assert isinstance(gone.outcome, StoredFailure)


def test_to_export_an_entry_and_to_lose_it_is_one_call() -> None:
    entries = Entries(cast("Any", None), cast("Any", None), {})
    some: list[ObjectEntry] = [PlainEntry(None, 0, 0) for _ in range(10)]
    for number, entry in enumerate(some):
        entry.identifier = bytes([number])
    with Calls() as calls:
        for entry in some:
            entries.export_entry(entry)
        del entry
        some.clear()
    assert calls.count == 10
    assert calls.elsewhere == 0


def test_record_that_is_just_being_made_is_no_object_yet() -> None:
    client: Any = object()
    kind = Kind("f", Function(1, "f"), SchedulingClass((), ()))
    record = OwnedTask(7, kind, task_key=7)
    assert [row for rows in list_objects(client, [], [], [], str) for row in rows] == []
    assert record.returns is None
