"""The life of a session: several at once, forks, shutdown with work pending, failed starts."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

import aioray
from aioray import CancelOutcome
from aioray.compat import alias as ray_alias
from aioray.exceptions import EngineShutdownError, GetTimeoutError, WorkerStartupError

from . import jobs
from .support import GUARD, LOOPS, everywhere, on_both_loops
from .test_errors import error_of

same = aioray.remote(jobs.same)
sleep = aioray.remote(jobs.sleep)
hold = aioray.remote(jobs.hold)


@on_both_loops
async def test_several_engines_in_one_process():
    async with aioray.Engine(num_cpus=1) as one:
        mine = aioray.remote(jobs.pid).remote()
        async with aioray.Engine(num_cpus=1) as two:
            theirs = aioray.remote(jobs.pid).remote()
            assert await mine in one.pids()
            assert await theirs in two.pids()
            with pytest.raises(ValueError, match="another engine"):
                same.remote(mine)
        assert await same.remote("after the inner one") == "after the inner one"
        with one.activate():
            assert await same.remote(mine) == await mine


@on_both_loops
async def test_methods_of_an_engine_are_for_that_engine_wherever_they_are_called():
    async with aioray.Engine(num_cpus=1) as one, aioray.Engine(num_cpus=1) as two:
        mine, theirs = one.put([5]), two.put([6])
        assert mine.job_id() != theirs.job_id() == aioray.put(7).job_id()
        assert one.nodes()[0]["NodeID"] != two.nodes()[0]["NodeID"] == aioray.nodes()[0]["NodeID"]
        assert await asyncio.to_thread(one.get, [mine], timeout=GUARD) == [[5]]
        assert await asyncio.to_thread(one.wait, [mine], num_returns=1) == ([mine], [])
        assert await one.cancel(mine) is CancelOutcome.FINISHED_FIRST
        for call in (one.get, one.wait):
            with pytest.raises(RuntimeError, match="await"):
                call([same_in(one)])
        assert (one.closed, two.closed) == (False, False)
    assert (one.closed, two.closed) == (True, True)
    assert one.get(mine) == [5]
    with pytest.raises(RuntimeError, match="not running"):
        one.put(5)


def same_in(engine):
    with engine.activate():
        return same.remote(5)


def test_engines_on_loops_of_different_threads(session):
    results = {}

    def run(name, new_loop):
        async def main():
            async with aioray.Engine(num_cpus=1):
                results[name] = await asyncio.gather(*[same.remote(n) for n in range(100)])

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    threads = [threading.Thread(target=run, args=item) for item in LOOPS.items()]
    for thread in threads:
        thread.start()
    assert aioray.get([same.remote(number) for number in range(100)]) == list(range(100))
    for thread in threads:
        thread.join()
    assert results == {name: list(range(100)) for name in LOOPS}


def test_init_and_shutdown_again_and_again():
    for number in range(5):
        aioray.init(num_cpus=1)
        assert aioray.get(same.remote(number)) == number
        aioray.shutdown()
    assert not aioray.is_initialized()


@on_both_loops
async def test_init_in_a_running_loop_lives_there():
    aioray.init(num_cpus=1)
    try:
        assert await same.remote(1) == 1
        with pytest.raises(RuntimeError, match="twice"):
            aioray.init()
    finally:
        await aioray.shutdown()


def lives_on_running_loop():
    return aioray.api.session._session.engine.loop is asyncio.get_running_loop()


@pytest.fixture
def written_for_ray():
    ray_alias.install(inherit=False)
    yield
    ray_alias.uninstall()


@pytest.mark.parametrize("settings", [{"loop": "thread"}, {}])
@on_both_loops
async def test_coroutine_of_a_program_for_ray_may_block(settings, written_for_ray):
    aioray.init(num_cpus=1, **settings)
    try:
        refs = [same.remote(number) for number in range(3)]
        assert aioray.get(refs) == [0, 1, 2]
        assert aioray.wait(refs, num_returns=3) == (refs, [])
        assert list(aioray.progress(refs, disable=True)) == [0, 1, 2]
        assert await asyncio.gather(*refs) == [0, 1, 2]
    finally:
        await aioray.shutdown()


@on_both_loops
async def test_where_the_engine_lives_in_async_code_can_be_said(monkeypatch):
    for loop, expected in [("thread", False), ("running", True), ("auto", True), (None, True)]:
        aioray.init(num_cpus=1, loop=loop)
        assert lives_on_running_loop() is expected
        assert aioray.shutdown() is not None  # it can be awaited
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # a prompt
    aioray.init(num_cpus=1)
    assert not lives_on_running_loop()
    aioray.shutdown()


def test_running_loop_that_is_asked_for_must_run():
    with pytest.raises(RuntimeError, match="no event loop runs"):
        aioray.init(num_cpus=1, loop="running")
    assert not aioray.is_initialized()


def test_engine_that_is_held_has_no_thread_of_its_own():
    with pytest.raises(ValueError, match="use init"):
        aioray.Engine(num_cpus=1, loop="thread")


def test_shutdown_of_a_plain_script_gives_none():
    aioray.init(num_cpus=1)
    assert aioray.shutdown() is None
    assert aioray.shutdown() is None


@pytest.mark.parametrize("loop_name", LOOPS)
def test_plain_code_between_two_runs_of_the_engines_loop_may_block(loop_name, started):
    async def set_up():
        aioray.init(num_cpus=2)
        return await same.remote(1)

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        assert runner.run(set_up()) == 1
        refs = [same.remote(number) for number in range(30)]
        assert aioray.get(refs[:3], timeout=GUARD) == [0, 1, 2]
        assert aioray.wait(refs, num_returns=30, timeout=GUARD) == (refs, [])
        assert sorted(aioray.progress(refs, disable=True)) == list(range(30))
        with pytest.raises(ValueError, match="bad"):
            aioray.get(aioray.remote(jobs.fail).remote())
        running = sleep.remote(started.path)
        with pytest.raises(GetTimeoutError):
            aioray.get(running, timeout=0.01)
        assert aioray.wait([running], timeout=0.01) == ([], [running])
        with pytest.raises(RuntimeError, match="would block"):
            running.future().result()
        assert runner.run(await_(same.remote(2))) == 2
        aioray.shutdown()


async def await_(ref):
    return await ref


@pytest.mark.parametrize("loop_name", LOOPS)
def test_shutdown_between_two_runs_of_the_engines_loop_drains(loop_name):
    async def set_up():
        aioray.init(num_cpus=1)

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(set_up())
        refs = [same.remote(number) for number in range(3)]
        assert aioray.shutdown(drain=GUARD) is None
        assert aioray.get(refs) == [0, 1, 2]


@on_both_loops
async def test_shutdown_with_work_pending_fails_every_ref(started, notes):
    async with aioray.Engine(num_cpus=1):
        running = sleep.remote(started.path, notes)
        await started.heard()
        queued = [aioray.remote(jobs.return_note).remote(notes, number) for number in range(20)]
        waiting = same.remote(running)
        awaited = asyncio.create_task(error_of(running))
        await asyncio.sleep(0)
    assert type(await awaited) is EngineShutdownError
    for ref in (running, waiting, *queued):
        error = await error_of(ref)
        assert isinstance(error, EngineShutdownError), error
    assert jobs.notes(notes) == []


def test_shutdown_of_a_plain_script_fails_who_waits_in_another_thread(started):
    aioray.init(num_cpus=1)
    ref = sleep.remote(started.path)
    started.hear()
    errors = []

    def wait():
        try:
            aioray.get(ref)
        except EngineShutdownError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    aioray.shutdown()
    thread.join()
    assert len(errors) == 1


@on_both_loops
async def test_shutdown_keeps_what_was_finished():
    async with aioray.Engine(num_cpus=1):
        ref = same.remote("kept")
        await ref
    assert await ref == "kept"


@on_both_loops
async def test_drain_lets_tasks_finish_and_takes_no_new_ones(started, gate):
    async with aioray.Engine(num_cpus=1) as engine:
        running = hold.remote(started.path, gate.path)
        queued = [same.remote(number) for number in range(20)]
        await started.heard()
        ending = asyncio.create_task(engine.shutdown(drain=1_000.0))
        await asyncio.sleep(0)
        late = await error_of(same.remote("late"))
        assert isinstance(late, EngineShutdownError)
        gate.tell("in time")
        await ending
    assert await running == "in time"
    assert await asyncio.gather(*queued) == list(range(20))


@on_both_loops
async def test_drain_that_is_over_interrupts_and_then_kills(started, pipes, notes):
    swallowed = pipes()
    async with aioray.Engine(num_cpus=2) as engine:
        polite = aioray.remote(jobs.clean_up).remote(started.path, notes)
        stubborn = aioray.remote(jobs.swallow).remote(started.path, swallowed.path)
        await started.heard()
        await started.heard()
        await engine.shutdown(drain=0.05)
        await swallowed.heard()
    assert isinstance(await error_of(polite), EngineShutdownError)
    assert isinstance(await error_of(stubborn), EngineShutdownError)
    assert jobs.notes(notes) == ["cleaned up"]


@on_both_loops
async def test_shutdown_answers_requests_to_cancel(started, pipes):
    swallowed = pipes()
    async with aioray.Engine(num_cpus=1):
        ref = aioray.remote(jobs.swallow).remote(started.path, swallowed.path)
        await started.heard()
        request = aioray.cancel(ref)
        await swallowed.heard()
    assert isinstance(await request, CancelOutcome)


@pytest.mark.parametrize("loop_name", LOOPS)
def test_loop_that_ends_without_shutdown_leaves_nothing(loop_name, started):
    """The runner cancels what is left on the loop, and the engine goes with it."""

    async def main():
        aioray.Engine(num_cpus=2).start()
        return sleep.remote(started.path), await same.remote(1)

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        ref, one = runner.run(main())
    assert one == 1
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        assert isinstance(runner.run(error_of(ref)), EngineShutdownError)


@on_both_loops
async def test_shutdown_leaves_no_asyncio_task():
    async with aioray.Engine(num_cpus=1):
        await same.remote(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@everywhere(preload=["tests.process.no_such_module"])
async def test_broken_preload_is_told_to_every_waiting_task():
    refs = [same.remote(number) for number in range(5)]
    for ref in refs:
        error = await error_of(ref)
        assert isinstance(error, WorkerStartupError)
        assert "no_such_module" in str(error)
        assert "ModuleNotFoundError" in str(error)
    assert isinstance(await error_of(same.remote(1)), WorkerStartupError)


@everywhere(preload=["tests.process.jobs"])
async def test_preloaded_module_is_there(monkeypatch):
    @aioray.remote
    def loaded(name):
        import sys

        return name in sys.modules

    assert await loaded.remote("tests.process.jobs") is True


def test_fork_of_the_driver_makes_a_session_of_its_own(session, started):
    ref = same.remote("parent")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            assert not aioray.is_initialized()
            aioray.init(num_cpus=1)
            os.write(writer, aioray.get(same.remote("child")).encode())
            aioray.shutdown()
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as answer:
        assert answer.read() == b"child"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert aioray.get(ref) == "parent"
    assert aioray.get(same.remote("again")) == "again"


def test_fork_of_the_driver_that_only_exits_harms_nobody(session):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert aioray.get([same.remote(number) for number in range(50)]) == list(range(50))
