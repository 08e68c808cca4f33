"""Values and arguments: what goes into a worker and what comes back."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref

import numpy as np
import pytest

import aioray
from aioray.exceptions import RayTaskError

from . import jobs, nested
from .support import everywhere

add = aioray.remote(jobs.add)
same = aioray.remote(jobs.same)


@everywhere
async def test_functions_run_in_another_process_by_name_by_value_and_decorated():
    offset = 10

    def local(value):
        return value + offset

    assert await add.remote(1, b=2) == 3
    assert await aioray.remote(local).remote(5) == 15
    assert await aioray.remote(lambda: "lambda").remote() == "lambda"
    assert await nested.decorated.remote(21) == 42
    assert await aioray.remote(jobs.pid).remote() != os.getpid()


@everywhere
async def test_many_results_come_back_each_to_its_own_ref():
    refs = [add.remote(number, 1) for number in range(2_000)]
    assert await asyncio.gather(*refs) == list(range(1, 2_001))


def test_get_returns_values_in_order(session):
    assert aioray.get(add.remote(1, 2)) == 3
    assert aioray.get([add.remote(number) for number in range(500)]) == list(range(500))
    assert aioray.get([]) == []


def test_get_from_many_threads(session):
    results = {}

    def ask(number):
        results[number] = aioray.get([add.remote(number, 1) for _ in range(50)])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number + 1] * 50 for number in range(8)}


@everywhere
async def test_num_returns_gives_as_many_refs():
    several = aioray.remote(jobs.several)
    assert several.options(num_returns=0).remote(0) is None
    first, second = several.options(num_returns=2).remote(2)
    assert (await first, await second) == (0, 1)
    refs = several.options(num_returns=100).remote(100)
    assert await asyncio.gather(*refs) == list(range(100))


@everywhere
async def test_num_returns_that_does_not_fit_is_a_value_error_on_every_ref():
    refs = aioray.remote(num_returns=2, max_retries=3, retry_exceptions=True)(jobs.several).remote(
        3
    )
    for ref in refs:
        with pytest.raises(ValueError, match=r"Task returned 3 objects, but num_returns=2") as info:
            await ref
        assert isinstance(info.value, RayTaskError)
        assert len(info.value.attempts) == 1


@everywhere
@pytest.mark.parametrize("value", [7, None, 0.5, len], ids=repr)
async def test_one_result_where_there_should_be_several_is_a_value_error_on_every_ref(value):
    for ref in same.options(num_returns=2).remote(value):
        with pytest.raises(TypeError, match=r"returned 1 object, .* but num_returns=2") as info:
            await ref
        assert isinstance(info.value, RayTaskError)


@everywhere
async def test_arguments_that_cannot_be_serialized_fail_at_remote_and_submit_nothing(notes):
    note = aioray.remote(jobs.note_argument)
    with pytest.raises(TypeError, match="lock") as info:
        note.remote(notes, {"inner": [threading.Lock()]})
    assert "inner" in str(info.value)
    assert isinstance(info.value.__cause__, TypeError)
    assert await add.remote(1, 1) == 2
    assert jobs.notes(notes) == []


@everywhere
async def test_function_that_cannot_be_serialized_fails_at_remote():
    lock = threading.Lock()

    @aioray.remote
    def closes_over_lock():
        return lock

    with pytest.raises(TypeError, match="closes_over_lock"):
        closes_over_lock.remote()


@everywhere
async def test_argument_that_fails_to_load_fails_the_task_and_is_not_retried(notes):
    note = aioray.remote(max_retries=3, retry_exceptions=True)(jobs.note_argument)
    with pytest.raises(LookupError, match="not here") as info:
        await note.remote(notes, jobs.Loads())
    assert len(info.value.attempts) == 1
    assert jobs.notes(notes) == []


@everywhere
async def test_result_that_cannot_be_serialized_fails_the_task_and_is_never_retried(notes):
    returns_lock = aioray.remote(max_retries=3, retry_exceptions=True)(jobs.return_lock)
    with pytest.raises(TypeError, match="lock") as info:
        await returns_lock.remote(notes)
    assert isinstance(info.value, RayTaskError)
    assert jobs.notes(notes) == ["ran"]


@everywhere
async def test_wrong_arguments_are_refused_at_remote():
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        add.remote()
    with pytest.raises(TypeError, match="too many positional arguments"):
        add.remote(1, 2, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        add.remote(1, c=3)


@everywhere
async def test_arguments_are_taken_as_they_are_at_remote():
    values = [1]
    ref = same.remote(values)
    values.append(2)
    assert await ref == [1]


@everywhere
async def test_each_await_gives_a_fresh_copy():
    ref = same.remote([1])
    once, again = await ref, await ref
    once.append(2)
    assert again == [1]


@everywhere
async def test_result_and_argument_of_fifty_megabytes():
    size = 50_000_000
    data = await aioray.remote(jobs.big).remote(size)
    assert len(data) == size
    assert data[:1] == data[-1:] == b"x"
    assert await aioray.remote(jobs.weigh).remote(b"y" * size) == size
    assert await aioray.remote(jobs.weigh).remote(aioray.put(data)) == size


@everywhere
async def test_arguments_and_results_around_the_sizes_where_the_transport_changes():
    for size in (0, 1, 65_000, 65_536, 66_000, 70_000, 300_000):
        data = os.urandom(size)
        refs = [same.remote(data) for _ in range(5)]
        refs += [same.remote(ref) for ref in refs]
        assert await asyncio.gather(*refs) == [data] * 10


@everywhere
async def test_arrays_come_back_whole_and_read_only():
    array = np.arange(200_000)
    back = await same.remote(array)
    assert (back == array).all()
    assert not back.flags.writeable
    assert await aioray.remote(jobs.writable).remote(array) is False


@everywhere
async def test_refs_at_top_level_become_values_also_as_keywords():
    one, two = same.remote(1), aioray.put(2)
    assert await add.remote(one, b=two) == 3
    chain = same.remote(0)
    for _ in range(50):
        chain = add.remote(chain, 1)
    assert await chain == 50


@everywhere
async def test_same_ref_twice_gives_two_copies():
    ref = aioray.put([1])
    assert await add.remote(ref, ref) == [1, 1]


@everywhere
async def test_refs_inside_values_stay_refs_and_come_back_the_same():
    ref = aioray.put("value")
    assert await aioray.remote(jobs.inside).remote([ref, {"a": 1}]) == ["ObjectRef", "dict"]
    back = await aioray.remote(jobs.first).remote([ref])
    assert back == ref
    assert await back == "value"


@everywhere
async def test_ref_inside_an_argument_keeps_the_object_until_the_task_is_done(started, gate):
    ref = aioray.put("kept")
    identifier = ref.hex()

    @aioray.remote
    def hold_and_return(values, started, gate):
        jobs.hold(started, gate)
        return values

    held = hold_and_return.remote([ref], started.path, gate.path)
    del ref
    gc.collect()
    await started.heard()
    gate.tell()
    (back,) = await held
    assert back.hex() == identifier
    assert await back == "kept"


@everywhere
async def test_ref_inside_a_result_keeps_the_object():
    inner = same.remote("kept")
    await inner
    outer = same.remote([inner])
    await outer
    del inner
    gc.collect()
    (back,) = await outer
    assert await back == "kept"


@everywhere
async def test_object_is_freed_with_its_last_ref():
    ref = aioray.put("short-lived")
    entry = weakref.ref(ref.entry)
    assert await same.remote(ref) == "short-lived"
    del ref
    gc.collect()
    # The task that had it as an argument is gone once the loop has gone on.
    await same.remote(None)
    gc.collect()
    assert entry() is None


@everywhere
async def test_pending_task_keeps_its_arguments(started, gate):
    ref = aioray.remote(jobs.hold).remote(started.path, gate.path)
    await started.heard()
    put = aioray.put("argument")
    waiting = [add.remote(ref, put)]
    del ref, put
    gc.collect()
    gate.tell("first")
    assert await waiting[0] == "firstargument"


@everywhere(runtime_env={"env_vars": {"AIORAY_TEST_A": "session"}})
async def test_env_vars_of_the_session_and_of_the_task(monkeypatch):
    variable = aioray.remote(jobs.variable)
    assert await variable.remote("AIORAY_TEST_A") == "session"
    changed = variable.options(runtime_env={"env_vars": {"AIORAY_TEST_A": "task"}})
    assert await changed.remote("AIORAY_TEST_A") == "task"
    assert await variable.remote("AIORAY_TEST_A") == "session"
    both = variable.options(runtime_env={"env_vars": {"AIORAY_TEST_B": "b"}})
    assert await both.remote("AIORAY_TEST_A") == "session"
    assert await both.remote("AIORAY_TEST_B") == "b"
    assert "AIORAY_TEST_A" not in os.environ


@everywhere
async def test_runtime_context_in_a_task():
    ref = aioray.remote(num_cpus=0.5, name="named")(jobs.context).remote()
    where = await ref
    assert where["task"] == ref.task_id() == ref.task_id().hex()
    assert ref.task_id().binary() == ref.binary()[:24]
    assert where["job"] == ref.job_id()
    assert where["name"] == "named"
    assert where["function"].endswith("jobs.context")
    assert where["attempt"] == 0
    assert where["resources"] == {"CPU": 0.5}
    assert where["pid"] != os.getpid()
    assert where["node"] == aioray.get_runtime_context().get_node_id()
    assert len(where["worker"]) == 56


@everywhere
async def test_runtime_context_knows_the_attempt(notes):
    @aioray.remote(max_retries=2)
    def attempt(path):
        jobs.note(path, aioray.get_runtime_context().get_attempt_number())
        if len(jobs.notes(path)) < 3:
            os._exit(1)

    await attempt.remote(notes)
    assert jobs.notes(notes) == ["0", "1", "2"]
