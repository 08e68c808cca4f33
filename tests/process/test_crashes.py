"""Workers that die: what is known of it, who is harmed, and who is not."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from typing import Any

import psutil
import pytest

import aioray
from aioray.engine.processes.pool import WorkerProcesses
from aioray.exceptions import RayTaskError, WorkerCrashedError

from . import jobs
from .support import GUARD, everywhere
from .test_errors import error_of

die = aioray.remote(max_retries=0)(jobs.die)
same = aioray.remote(jobs.same)


WAYS_TO_DIE = [
    ("exit 0", 0, None),
    ("exit 3", 3, None),
    ("_exit 42", 42, None),
    ("SIGKILL", None, "SIGKILL"),
    ("SIGTERM", None, "SIGTERM"),
    ("segfault", None, "SIGSEGV"),
    ("abort", None, "SIGABRT"),
]


@everywhere
async def test_crash_tells_how_the_worker_died(tmp_path):
    for how, exit_code, signal_name in WAYS_TO_DIE:
        notes = str(tmp_path / how)
        ref = die.options(name="victim").remote(how, notes)
        error = await error_of(ref)
        assert type(error) is WorkerCrashedError
        assert (error.exit_code, error.signal) == (exit_code, signal_name)
        assert [str(error.pid)] == jobs.notes(notes)
        assert (error.task_name, error.attempt) == ("victim", 0)
        assert error.task_id == ref.task_id()
        assert 0 <= error.seconds < GUARD
        assert len(error.worker_id) == 56
        (attempt,) = error.attempts
        assert (attempt.number, attempt.pid, attempt.error_type) == (0, error.pid, "WORKER_DIED")
        assert attempt.worker_id == error.worker_id
        assert (signal_name or f"code {exit_code}") in attempt.ended
        assert (signal_name or f"code {exit_code}") in str(error)
        assert await same.remote(1) == 1


@pytest.mark.parametrize("how", ["segfault", "abort"])
@everywhere
async def test_fatal_signal_leaves_the_python_stack(how):
    error = await error_of(die.remote(how))
    expected = "dereference_null" if how == "segfault" else "in die"
    assert expected in error.python_stack
    assert expected in str(error)


@everywhere
async def test_crash_keeps_the_last_lines_of_stderr():
    error = await error_of(aioray.remote(max_retries=0)(jobs.complain_and_die).remote())
    assert error.stderr_tail.splitlines() == ["the last words", "without a newline"]


@everywhere
async def test_every_attempt_is_on_the_record(notes):
    error = await error_of(die.options(max_retries=2).remote("_exit 42", notes))
    assert type(error) is WorkerCrashedError
    assert error.attempt == 2
    assert [attempt.number for attempt in error.attempts] == [0, 1, 2]
    assert [str(attempt.pid) for attempt in error.attempts] == jobs.notes(notes)
    assert all("code 42" in attempt.ended for attempt in error.attempts)
    assert len({attempt.worker_id for attempt in error.attempts}) == 3
    starts: list[Any] = [attempt.started_at for attempt in error.attempts]
    assert starts == sorted(starts)


@everywhere
async def test_worker_killed_from_outside_while_it_runs(started, gate, notes):
    ref = aioray.remote(max_retries=0)(jobs.hold).remote(started.path, gate.path)
    os.kill(int(await started.heard()), signal.SIGKILL)
    assert (await error_of(ref)).signal == "SIGKILL"


@everywhere
async def test_death_is_explained_though_the_loop_stood_still_meanwhile(monkeypatch, started, gate):
    """Bug: uvloop looks at its timers first, so a late loop never heard what the worker died of."""
    died = WorkerProcesses._died

    def wait_for_the_report(crew, handle):
        poll = select.poll()
        poll.register(crew._template.control, select.POLLIN)
        assert poll.poll(GUARD * 1000)
        died(crew, handle)

    monkeypatch.setattr("aioray.engine.processes.pool.REPORT_SECONDS", 0)
    monkeypatch.setattr(WorkerProcesses, "_died", wait_for_the_report)
    ref = aioray.remote(max_retries=0)(jobs.hold).remote(started.path, gate.path)
    os.kill(int(await started.heard()), signal.SIGKILL)
    assert (await error_of(ref)).signal == "SIGKILL"


@everywhere
async def test_idle_worker_that_dies_harms_no_task():
    for _ in range(3):
        os.kill(await aioray.remote(jobs.pid).remote(), signal.SIGKILL)
        assert await same.options(max_retries=0).remote(1) == 1


@everywhere
async def test_crash_is_noticed_though_a_forked_child_holds_every_pipe(started, watch):
    ref = aioray.remote(max_retries=0)(jobs.fork_and_die).remote(started.path)
    child = watch(int(await started.heard()))
    assert (await error_of(ref)).exit_code == 42
    assert child.survivors() == []


@everywhere
async def test_crash_takes_along_what_the_task_has_started(started, watch):
    ref = aioray.remote(max_retries=0)(jobs.start_descendants).remote(started.path)
    worker, _template, *descendants = map(int, (await started.heard()).split())
    family = watch(worker, *descendants)
    os.kill(worker, signal.SIGKILL)
    assert (await error_of(ref)).signal == "SIGKILL"
    assert family.survivors() == []


@everywhere
async def test_crash_harms_only_its_own_task_among_many(notes):
    note = aioray.remote(max_retries=0)(jobs.return_number)
    await asyncio.gather(*[note.remote(os.devnull, number) for number in range(200)])  # now known
    refs = [note.remote(notes, number) for number in range(100)]
    crash = note.remote(notes, "crash")
    refs += [note.remote(notes, number) for number in range(100, 200)]
    assert await asyncio.gather(*refs) == list(range(200))
    error = await error_of(crash)
    assert type(error) is WorkerCrashedError
    assert sorted(jobs.notes(notes)) == sorted([*map(str, range(200)), "crash"])


@everywhere
async def test_crashing_tasks_among_many_are_each_retried_alone(notes):
    note = aioray.remote(max_retries=3)(jobs.crash_once)
    refs = [note.remote(notes, number) for number in range(100)]
    assert await asyncio.gather(*refs) == list(range(100))
    lines = jobs.notes(notes)
    assert {lines.count(str(number)) for number in range(100) if number % 20} == {1}
    assert {lines.count(str(number)) for number in range(0, 100, 20)} == {2}


@everywhere
async def test_template_that_is_killed_loses_no_task(started, gate, notes, watch):
    held = aioray.remote(max_retries=1)(jobs.parent_and_self).remote(started.path, gate.path)
    worker, template = map(int, (await started.heard()).split())
    queued = [same.remote(number) for number in range(20)]
    old = watch(worker, template)
    os.kill(template, signal.SIGKILL)
    again, other_template = map(int, (await started.heard()).split())
    assert again != worker
    assert other_template != template
    gate.tell("survived")
    assert await held == "survived"
    assert await asyncio.gather(*queued) == list(range(20))
    assert old.survivors() == []


@everywhere
async def test_template_that_is_killed_is_told_as_the_cause(started, gate):
    held = aioray.remote(max_retries=0)(jobs.parent_and_self).remote(started.path, gate.path)
    _, template = map(int, (await started.heard()).split())
    os.kill(template, signal.SIGKILL)
    error = await error_of(held)
    assert type(error) is WorkerCrashedError
    assert "template" in str(error)


@everywhere
async def test_template_that_is_killed_takes_the_processes_of_its_tasks_along(started, watch):
    ref = aioray.remote(max_retries=0)(jobs.start_descendants).remote(started.path)
    worker, template, *descendants = map(int, (await started.heard()).split())
    family = watch(worker, template, *descendants)
    os.kill(template, signal.SIGKILL)
    assert type(await error_of(ref)) is WorkerCrashedError
    assert family.survivors() == []


@everywhere
async def test_guardian_that_is_killed_loses_no_task_and_leaves_nobody(started, watch):
    ref = aioray.remote(max_retries=1)(jobs.start_descendants).remote(started.path)
    worker, template, *descendants = map(int, (await started.heard()).split())
    guardian = psutil.Process(template).ppid()
    family = watch(guardian, worker, template, *descendants)
    os.kill(guardian, signal.SIGKILL)
    again, other_template, *_ = map(int, (await started.heard()).split())
    assert again != worker
    assert other_template != template
    assert family.survivors() == []
    await aioray.cancel(ref)


def test_plain_script_sees_a_crash(session):
    with pytest.raises(WorkerCrashedError) as info:
        aioray.get(die.remote("segfault"))
    assert info.value.signal == "SIGSEGV"
    assert not isinstance(info.value, RayTaskError)
    workers = [child.name() for child in psutil.Process().children()]
    assert len(workers) == 1  # the guardian, and below it the template with all workers
