"""Which failures are tried again, how often, when, and on whose account."""

from __future__ import annotations

import asyncio
import os

import pytest

import aioray
from aioray.exceptions import RayTaskError, WorkerCrashedError

from . import jobs
from .support import everywhere
from .test_errors import error_of

die = aioray.remote(jobs.die)
fail_times = aioray.remote(jobs.fail_times)
same = aioray.remote(jobs.same)


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
@everywhere
async def test_crashes_are_retried_up_to_max_retries(max_retries, attempts, notes):
    error = await error_of(die.options(max_retries=max_retries).remote("SIGKILL", notes))
    assert type(error) is WorkerCrashedError
    assert len(jobs.notes(notes)) == len(error.attempts) == attempts
    assert len(set(jobs.notes(notes))) == attempts


@everywhere
async def test_three_retries_are_the_default(notes):
    assert await die.remote("exit 3", notes, times=3) == 4


@everywhere
async def test_minus_one_retries_for_ever(notes):
    assert await die.options(max_retries=-1).remote("SIGKILL", notes, times=5) == 6


@pytest.mark.parametrize("name", ["AIORAY_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"])
@everywhere
async def test_default_is_read_from_the_environment_at_each_submission(name, notes, monkeypatch):
    monkeypatch.setenv(name, "1")
    error = await error_of(die.remote("SIGKILL", notes))
    assert len(error.attempts) == 2
    monkeypatch.setenv(name, "0")
    error = await error_of(die.remote("SIGKILL", notes))
    assert len(error.attempts) == 1
    error = await error_of(die.options(max_retries=1).remote("SIGKILL", notes))
    assert len(error.attempts) == 2


@everywhere
async def test_default_is_read_from_the_tasks_runtime_env(notes):
    changed = die.options(runtime_env={"env_vars": {"RAY_TASK_MAX_RETRIES": "1"}})
    assert len((await error_of(changed.remote("SIGKILL", notes))).attempts) == 2


@everywhere
async def test_errors_of_the_function_are_not_retried_by_default(notes):
    error = await error_of(fail_times.remote(notes, 2))
    assert isinstance(error, ValueError)
    assert len(jobs.notes(notes)) == 1


RULES = [
    (True, True),
    (False, False),
    ([], False),
    ([ValueError], True),
    ((KeyError, Exception), True),
    ([KeyError], False),
    (jobs.is_value_error, True),
    (lambda error: isinstance(error, KeyError), False),
    (lambda error: "attempt" in str(error), True),
]


@everywhere
async def test_retry_exceptions_says_what_is_retried(tmp_path):
    for number, (rule, retried) in enumerate(RULES):
        notes = str(tmp_path / f"notes-{number}")
        ref = fail_times.options(retry_exceptions=rule).remote(notes, 2)
        if retried:
            assert await ref == 3, rule
        else:
            error = await error_of(ref)
            assert isinstance(error, ValueError)
            assert len(error.attempts) == len(jobs.notes(notes)) == 1, rule


@everywhere
async def test_retry_exceptions_matches_types_defined_in_the_driver(notes):
    class OwnError(Exception):
        pass

    @aioray.remote(retry_exceptions=[OwnError])
    def fails_once(path):
        jobs.note(path, "ran")
        if len(jobs.notes(path)) == 1:
            raise OwnError
        return "second"

    assert await fails_once.remote(notes) == "second"


@everywhere
async def test_failing_predicate_retries_nothing_and_is_told(notes):
    error = await error_of(
        fail_times.options(retry_exceptions=jobs.broken_predicate).remote(notes, 2)
    )
    assert isinstance(error, ValueError)
    assert "the predicate is broken" in str(error)
    assert len(jobs.notes(notes)) == 1


@everywhere
async def test_last_error_is_kept_and_the_earlier_are_on_the_record(notes):
    ref = fail_times.options(max_retries=2, retry_exceptions=True).remote(notes, 9)
    error = await error_of(ref)
    assert isinstance(error, ValueError)
    assert str(error).endswith("attempt 3")
    assert [attempt.number for attempt in error.attempts] == [0, 1, 2]
    assert [attempt.ended for attempt in error.attempts] == [
        f"raised ValueError: attempt {number}" for number in (1, 2, 3)
    ]
    assert {attempt.error_type for attempt in error.attempts} == {"TASK_EXECUTION_EXCEPTION"}


@everywhere
async def test_crashes_and_errors_share_one_budget(notes):
    @aioray.remote(max_retries=2, retry_exceptions=True)
    def alternate(path):
        jobs.note(path, "ran")
        if len(jobs.notes(path)) % 2:
            os._exit(1)
        raise ValueError("second")

    error = await error_of(alternate.remote(notes))
    assert type(error) is WorkerCrashedError
    assert [attempt.error_type for attempt in error.attempts] == [
        "WORKER_DIED",
        "TASK_EXECUTION_EXCEPTION",
        "WORKER_DIED",
    ]


@everywhere
async def test_task_asks_for_a_retry_by_itself(notes):
    assert await aioray.remote(jobs.ask_for_retry).remote(notes, 2) == 3


@everywhere
async def test_task_that_asks_too_often_fails(notes):
    ask = aioray.remote(max_retries=1)(jobs.ask_for_retry)
    error = await error_of(ask.remote(notes, 9))
    assert isinstance(error, aioray.RetryTask)
    assert isinstance(error, RayTaskError)
    assert len(jobs.notes(notes)) == 2


@everywhere
async def test_task_forbids_a_retry_by_itself(notes):
    forbid = aioray.remote(retry_exceptions=True)(jobs.forbid_retry)
    assert isinstance(await error_of(forbid.remote(notes)), aioray.DoNotRetry)
    assert jobs.notes(notes) == ["ran"]


@everywhere(num_cpus=1)
async def test_delay_of_a_policy_holds_no_worker(notes):
    """The only CPU is free for others until the delay is over, and the shutdown cuts it short."""
    policy = aioray.RetryPolicy(initial_delay=1_000.0, maximum_delay=1_000.0, jitter=False)
    waiting = fail_times.options(retry_exceptions=True, retry=policy).remote(notes, 1)
    while not jobs.notes(notes):
        assert await same.remote("meanwhile") == "meanwhile"
    assert await asyncio.gather(*[same.remote(number) for number in range(50)]) == list(range(50))
    assert await aioray.cancel(waiting) is aioray.CancelOutcome.NOT_STARTED
    assert jobs.notes(notes) == ["ran"]


@everywhere(num_cpus=1)
async def test_delay_asked_for_by_the_task_is_kept(notes):
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await aioray.remote(jobs.ask_for_retry).remote(notes, 1, 0.15) == 2
    assert loop.time() - before >= 0.15


@everywhere
async def test_time_budget_ends_retrying(notes):
    policy = aioray.RetryPolicy(time_budget=0.0)
    ref = fail_times.options(retry_exceptions=True, max_retries=-1, retry=policy).remote(notes, 9)
    assert isinstance(await error_of(ref), ValueError)
    assert jobs.notes(notes) == ["ran"]


@everywhere
async def test_retry_is_told_in_the_log(tmp_path, caplog):
    for number, max_retries in enumerate((1, -1)):
        notes = str(tmp_path / f"notes-{number}")
        await die.options(max_retries=max_retries).remote("exit 3", notes, times=1)
    (first, second) = [r.getMessage() for r in caplog.records if "will be retried" in r.message]
    assert first.startswith(
        "Task die failed. There are 1 retries remaining, so the task will be retried"
    )
    assert "code 3" in first
    assert "There are infinite retries remaining" in second


@everywhere(num_cpus=1)
async def test_max_calls_replaces_the_worker_after_so_many_calls():
    limited = aioray.remote(max_calls=2)(jobs.pid)
    pids = [await limited.remote() for _ in range(6)]
    assert pids[0::2] == pids[1::2]
    assert len(set(pids)) == 3


@everywhere(num_cpus=1)
async def test_max_calls_holds_for_many_calls_at_once_and_costs_no_retry():
    limited = aioray.remote(max_calls=3, max_retries=0)(jobs.pid)
    pids = await asyncio.gather(*[limited.remote() for _ in range(30)])
    assert {pids.count(pid) for pid in pids} == {3}


@everywhere(num_cpus=1)
async def test_calls_that_raise_count_for_max_calls(notes):
    @aioray.remote(max_calls=2, max_retries=0)
    def sometimes(path, fails):
        jobs.note(path, os.getpid())
        if fails:
            raise ValueError

    for fails in (True, False, True, False):
        if fails:
            await error_of(sometimes.remote(notes, fails))
        else:
            await sometimes.remote(notes, fails)
    pids = jobs.notes(notes)
    assert pids[0] == pids[1] != pids[2] == pids[3]
