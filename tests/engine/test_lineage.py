"""What it takes to run a finished task again: how long it is kept, and what it finds."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from aioray.client.entry import PlainEntry, StoredFailure
from aioray.client.refs import ObjectRef
from aioray.engine.objects.lineage import OVERHEAD, Ledger, Lineage, entries_of
from aioray.exceptions import ObjectReconstructionFailedError
from aioray.shared import ids


class FakeStored:
    """A large value, of which only the size counts here."""

    in_memory = True

    def __init__(self, size):
        self.size = size


class FakeTask:
    """As much of a task as lineage looks at."""

    def __init__(self, number, payload=None, arguments=None, held=None):
        self.number = self.task_key = number
        self.stream = None
        self.payload, self.arguments, self.held = payload, arguments, held
        self.returns: Any = None


def revived(lineage, client, say_lost):
    """What a task gets back: payload, arguments, and what is held for them."""
    task = FakeTask(1001)
    lineage.revive(task, client, say_lost)
    return task.payload, task.arguments, task.held


class FakeClient:
    """As much of an engine."""

    def __init__(self):
        self.job = ids.job_id(3)
        self.exported = {}

    def export_entry(self, entry):
        self.exported[entry.binary()] = entry

    def put(self, index, outcome):
        entry = PlainEntry(self, 0, ids.PUT_INDEX + index)
        entry.outcome = outcome
        return entry

    def run(self, task, *outcomes, recoverable=True):
        """Finish a task as the engine does; its entries."""
        entries = [PlainEntry(self, task.task_key, i, task) for i in range(1, len(outcomes) + 1)]
        for entry, outcome in zip(entries, outcomes, strict=True):
            entry.outcome = outcome
        task.returns = tuple(map(weakref.ref, entries)) if recoverable else None
        return entries


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def ledger():
    return Ledger(100_000)


def kept(ledger, number, size):
    """A finished task whose lineage takes `size` bytes."""
    task = FakeTask(number, b"x" * (size - OVERHEAD), None, None)
    ledger.keep(task)
    assert task.payload.given_up or task.payload.size == size
    return task


def lineage_of(ledger, args=b"args", entries=None, held=None):
    task = FakeTask(1000, args, entries, held)
    ledger.keep(task)
    assert type(task.payload) is Lineage
    return task.payload


def failure(message="bad"):
    """One that nobody need look at."""
    failed = StoredFailure(lambda: ValueError(message))
    failed.seen = True
    return failed


def reason_of(entry):
    assert isinstance(entry.outcome, StoredFailure)
    error = entry.outcome.exception()
    assert isinstance(error, ObjectReconstructionFailedError)
    assert entry.binary().hex() in str(error)
    return error.reason


def nobody(task):
    raise AssertionError(f"task {task.number} has lost nothing")


# ---------------------------------------------------------------- the ledger


def test_sizes_add_up_while_tasks_live_and_to_zero_when_they_are_gone(ledger, client):
    task = FakeTask(1, b"x" * 100, [client.put(1, b"y" * 10)], None)
    ledger.keep(task)
    assert ledger.size == OVERHEAD + 110
    held = ((ObjectRef(client.put(2, b"z" * 7)), ObjectRef(client.put(3, None))), [])
    other = FakeTask(2, FakeStored(5000), None, held)
    ledger.keep(other)
    assert ledger.size == 2 * OVERHEAD + 110 + 5007
    third = FakeTask(3, b"", [client.put(4, FakeStored(10**9))], None)
    ledger.keep(third)  # of a large argument it only knows where it came from
    assert ledger.size == 3 * OVERHEAD + 110 + 5007
    del task
    assert ledger.size == 2 * OVERHEAD + 5007
    other.payload = None
    assert ledger.size == OVERHEAD
    del third
    assert ledger.size == 0


def test_beyond_the_limit_the_oldest_half_is_given_up(ledger):
    tasks = [kept(ledger, number, 10_000) for number in range(10)]
    assert not any(task.payload.given_up for task in tasks)
    assert ledger.size == ledger.limit
    tasks.append(kept(ledger, 10, 10_000))
    assert [task.payload.given_up for task in tasks] == [True] * 6 + [False] * 5
    assert ledger.size == 50_000
    tasks += [kept(ledger, number, 10_000) for number in range(11, 17)]
    assert [task.payload.given_up for task in tasks] == [True] * 12 + [False] * 5
    tasks.clear()
    assert ledger.size == 0


def test_lineage_that_is_given_up_lets_go_of_its_arguments(ledger):
    stored = FakeStored(1000)
    watch = weakref.ref(stored)
    task = FakeTask(1, stored, None, None)
    ledger.keep(task)
    del stored
    assert watch() is not None
    other = kept(ledger, 2, 99_000)
    assert task.payload.given_up
    assert watch() is None
    assert other.payload.given_up  # it is more than half by itself
    assert ledger.size == 0


def test_lineage_larger_than_all_is_given_up_at_once(ledger):
    old = kept(ledger, 1, 10_000)
    task = FakeTask(2, FakeStored(10**12), None, None)
    ledger.keep(task)
    assert task.payload.given_up
    assert old.payload.given_up
    assert ledger.size == 0
    assert not kept(ledger, 3, 10_000).payload.given_up


def test_tasks_that_are_gone_do_not_count(ledger):
    old = kept(ledger, 0, 10_000)
    for number in range(1, 1000):
        kept(ledger, number, 50_000)
    assert not old.payload.given_up
    assert ledger.size == 10_000


def test_tasks_that_are_gone_are_not_remembered(ledger):
    alive = [kept(ledger, number, 1100) for number in range(10)]
    for number in range(1000):
        kept(ledger, number, 1100)
        assert len(ledger._items) <= 64 + 2 * 11  # twice the living ones, and some
    assert not any(task.payload.given_up for task in alive)
    alive += [kept(ledger, 2000, 90_000)]  # the oldest are still known, in their order
    assert [task.payload.given_up for task in alive] == [True] * 11
    assert ledger.size == 0


def test_tasks_may_go_in_any_thread(ledger):
    tasks = [[kept(ledger, number, 1100)] for number in range(80)]
    threads = [threading.Thread(target=each.clear) for each in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert ledger.size == 0


def test_lineage_that_is_revived_and_kept_again_counts_once(ledger, client):
    task = kept(ledger, 1, 5000)
    for _ in range(3):
        task.payload.revive(task, client, nobody)
        assert ledger.size == 0
        ledger.keep(task)
        assert ledger.size == 5000


# ---------------------------------------------------------------- what is found again


def test_payload_comes_back_as_it_was(ledger, client):
    arguments = [client.put(1, FakeStored(10**6)), client.put(2, b"small")]
    captured, inside = ObjectRef(client.put(3, b"x")), ObjectRef(client.put(4, b"y"))
    args = FakeStored(500)
    lineage = lineage_of(ledger, args, arguments, (([captured]), [inside]))
    got, entries, held = revived(lineage, client, nobody)
    assert got is args
    assert [id(entry) for entry in entries] == [id(entry) for entry in arguments]
    assert [ref.entry for ref in held] == [captured.entry, inside.entry]
    assert not lineage.given_up


@pytest.mark.parametrize("held", [None, (), [], ([], None)])
def test_payload_without_refs_comes_back_as_it_was(ledger, client, held):
    lineage = lineage_of(ledger, b"args", None, held)
    assert revived(lineage, client, nobody) == (b"args", None, [])
    assert client.exported == {}


def test_no_value_is_kept_alive(ledger, client):
    producer = FakeTask(1)
    entries = client.run(producer, FakeStored(10**6), FakeStored(10**6))
    entries.append(client.put(1, FakeStored(10**6)))
    lineage = lineage_of(ledger, entries=entries[:2], held=[ObjectRef(entries[2])])
    watched = [weakref.ref(found) for entry in entries for found in (entry, entry.outcome)]
    del entries
    gc.collect()
    assert [ref() for ref in watched] == [None] * 6
    assert lineage.size < 10_000


def test_lost_argument_is_made_again_by_the_task_it_came_from(ledger, client):
    producer = FakeTask(7)
    (entry,) = client.run(producer, FakeStored(10**6))
    identifier = entry.binary()
    lineage = lineage_of(ledger, entries=[entry, entry])
    del entry
    lost = []
    one, two = revived(lineage, client, lost.append)[1]
    assert one is two
    assert (one.binary(), one.task_key, one.index) == (identifier, 7, 1)
    assert one.task is producer
    assert (one.missing, one.outcome) == (True, None)
    assert set(lost) == {producer}
    assert [ref() for ref in producer.returns] == [one]


def test_lost_argument_is_found_among_several_results(ledger, client):
    producer = FakeTask(7)
    entries = client.run(producer, FakeStored(10**6), FakeStored(10**6), FakeStored(10**6))
    names = [entry.binary() for entry in entries]
    first = entries[0]
    lineage = lineage_of(ledger, entries=[entries[2]])
    del entries
    lost = []
    (found,) = revived(lineage, client, lost.append)[1]
    assert (found.binary(), found.index, found.missing) == (names[2], 3, True)
    assert lost == [producer]
    assert producer.returns[0]() is first
    assert (first.missing, first.outcome.size) == (False, 10**6)
    assert producer.returns[2]() is found


def test_argument_that_somebody_else_has_made_again_is_found(ledger, client):
    producer = FakeTask(7)
    (entry,) = client.run(producer, FakeStored(10**6))
    lineage = lineage_of(ledger, entries=[entry])
    del entry
    again: Any
    (again,) = entries_of(producer, client)
    again.missing = False
    again.outcome = FakeStored(10**6)
    assert revived(lineage, client, nobody)[1] == [again]


def test_argument_of_a_task_that_runs_again_is_found(ledger, client):
    producer = FakeTask(7)
    entries = client.run(producer, FakeStored(10**6), FakeStored(10**6))
    lineage = lineage_of(ledger, entries=[entries[1]])
    del entries
    lost = []
    producer.returns = entries_of(producer, client)  # the engine holds them while it runs
    (found,) = revived(lineage, client, lost.append)[1]
    assert found is producer.returns[1]
    single = FakeTask(8)
    (entry,) = client.run(single, FakeStored(10**6))
    lineage = lineage_of(ledger, entries=[entry])
    del entry
    (single.returns,) = entries_of(single, client)
    assert revived(lineage, client, lost.append)[1] == [single.returns]


def test_living_argument_whose_value_is_lost_is_left_to_its_entry(ledger, client):
    producer = FakeTask(7)
    (entry,) = client.run(producer, FakeStored(10**6))
    lineage = lineage_of(ledger, entries=[entry])
    entry.outcome, entry.missing = None, True
    assert revived(lineage, client, nobody)[1] == [entry]


def test_put_that_was_freed_is_a_failure(ledger, client):
    entry = client.put(5, FakeStored(10**6))
    identifier = entry.binary()
    lineage = lineage_of(ledger, entries=[entry])
    del entry
    (found,) = revived(lineage, client, nobody)[1]
    assert found.binary() == identifier
    assert found.task is None
    assert reason_of(found) == "OBJECT_UNRECONSTRUCTABLE_PUT"


def test_small_values_are_part_of_the_lineage(ledger, client):
    producer = FakeTask(7)
    (small,) = client.run(producer, b"of a task", recoverable=False)
    entries = [small, client.put(1, b"put"), client.put(2, b"")]
    names = [entry.binary() for entry in entries]
    lineage = lineage_of(ledger, entries=entries[:2], held=[ObjectRef(entries[2])])
    assert lineage.size == OVERHEAD + len(b"argsof a taskput")
    del small, entries
    _, found, held = revived(lineage, client, nobody)
    found.append(held[0].entry)
    assert [entry.outcome for entry in found] == [b"of a task", b"put", b""]
    assert [entry.binary() for entry in found] == names
    assert not any(entry.missing for entry in found)


def test_argument_of_a_task_that_has_failed_since_is_its_failure(ledger, client):
    producer = FakeTask(7)
    (entry,) = client.run(producer, FakeStored(10**6))
    identifier = entry.binary()
    lineage = lineage_of(ledger, entries=[entry])
    del entry
    producer.returns = failure()
    (found,) = revived(lineage, client, nobody)[1]
    assert found.outcome is producer.returns
    assert (found.binary(), found.task) == (identifier, producer)


def test_result_that_was_not_yet_there_and_is_gone_is_a_failure(ledger, client):
    producer = FakeTask(7)
    pending = PlainEntry(client, 7, 1, producer)
    producer.returns = pending
    lineage = lineage_of(ledger, held=[ObjectRef(pending)])
    pending.outcome = b"small"
    producer.returns = None
    identifier = pending.binary()
    del pending
    (ref,) = revived(lineage, client, nobody)[2]
    assert ref.binary() == identifier
    assert reason_of(ref.entry) == "OBJECT_UNRECONSTRUCTABLE_REF_NOT_FOUND"


def test_refs_inside_arguments_are_exported_under_their_old_ids(ledger, client):
    producer = FakeTask(7)
    (entry,) = client.run(producer, FakeStored(10**6))
    put, alive = client.put(1, FakeStored(10**6)), client.put(2, b"x")
    names = [each.binary() for each in (entry, put, alive)]
    held = ((ObjectRef(entry),), [ObjectRef(put), ObjectRef(alive)])
    lineage = lineage_of(ledger, held=held)
    del entry, put, held
    lost = []
    refs = revived(lineage, client, lost.append)[2]
    assert [ref.binary() for ref in refs] == names
    assert client.exported == {ref.binary(): ref.entry for ref in refs}
    assert refs[0].entry.missing
    assert refs[2].entry is alive
    assert lost == [producer]
    assert reason_of(refs[1].entry) == "OBJECT_UNRECONSTRUCTABLE_PUT"


def test_whole_chains_are_said_to_be_lost_one_by_one(ledger, client):
    """Only the task next in the chain is told; its own arguments are found when it is revived."""
    first, second, third = FakeTask(1, b"", None, None), FakeTask(2), FakeTask(3)
    ledger.keep(first)
    (one,) = client.run(first, FakeStored(10**6))
    second.payload, second.arguments = b"", [one]
    ledger.keep(second)
    (two,) = client.run(second, FakeStored(10**6))
    third.payload, third.arguments = b"", [two]
    ledger.keep(third)
    del one, two
    lost = []
    payload = revived(third.payload, client, lost.append)
    assert lost == [second]
    payload = revived(second.payload, client, lost.append)
    assert lost == [second, first]
    assert payload[1][0].task is first


# ---------------------------------------------------------------- entries of a task


def test_entries_of_a_task_that_runs_are_those_it_holds(client):
    task = FakeTask(1)
    task.returns = entry = PlainEntry(client, 1, 1, task)
    assert entries_of(task, client) == [entry]
    task.returns = [entry, PlainEntry(client, 1, 2, task)]
    assert entries_of(task, client) is task.returns


def test_entries_of_a_finished_task_are_made_again_where_they_are_gone(client):
    task = FakeTask(1)
    entries = client.run(task, FakeStored(1), FakeStored(2), FakeStored(3))
    names = [entry.binary() for entry in entries]
    living = entries[1]
    del entries
    found = entries_of(task, client)
    assert found[1] is living
    assert [entry.missing for entry in found] == [True, False, True]
    assert [entry.binary() for entry in found] == names
    assert all(entry.task is task for entry in found)
    assert entries_of(task, client) == found


def test_lost_lineage_of_a_task_is_freed_with_it(ledger, client):
    """Tasks and the entries of their results refer to each other only as long as needed."""
    task = kept(ledger, 1, 2000)
    (entry,) = client.run(task, FakeStored(10**6))
    watch = weakref.ref(task)
    del task
    assert watch() is not None
    assert ledger.size == 2000
    del entry
    assert watch() is None
    assert ledger.size == 0
