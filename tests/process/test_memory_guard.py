"""The watch over the machine's memory: who is killed when it runs short, and who never is."""

from __future__ import annotations

import asyncio
import logging

import pytest

import aioray
from aioray.exceptions import ActorDiedError, OutOfMemoryError

from . import hungry, jobs
from .hungry import MB
from .support import GUARD, everywhere

# Whatever is in use, it is too much.
ALWAYS_SHORT = {"memory_usage_threshold": 0, "memory_monitor_refresh_ms": 20}


async def error_of(ref):
    with pytest.raises(OutOfMemoryError) as info:
        await asyncio.wait_for(ref, GUARD)
    return info.value


@everywhere(num_cpus=2, _system_config=ALWAYS_SHORT)
async def test_who_has_most_is_killed_and_the_log_and_the_error_say_so(started, gate, caplog):
    use = aioray.remote(max_retries=0)(hungry.use)
    small = use.remote(1, started.path, gate.path)
    await started.heard()
    with caplog.at_level(logging.WARNING, "aioray"):
        error = await error_of(use.remote(200, started.path, gate.path))
    assert error.peak >= 32 * MB
    assert error.limit is None
    assert 0 < error.machine_used < error.machine_total
    assert "memory ran short" in str(error)
    assert "RAY_memory_usage_threshold" in str(error)
    assert error.attempts[0].error_type == "OUT_OF_MEMORY"
    said = [text for text in caplog.messages if "is killed: " in text]
    assert len(said) == 1
    assert said[0].startswith(f"The worker with pid {error.pid}, which runs use, is killed: memory")
    gate.tell()
    gate.tell()
    assert await small


@everywhere(num_cpus=2, _system_config=ALWAYS_SHORT)
async def test_it_is_tried_again_when_others_ran_beside_it(started, gate, notes):
    small = aioray.remote(hungry.use).remote(1, started.path, gate.path)
    await started.heard()
    again = aioray.remote(max_retries=1)(hungry.take_once)
    assert await asyncio.wait_for(again.remote(notes, 200), GUARD) == 2
    gate.tell()
    assert await small


@everywhere(num_cpus=1, _system_config=ALWAYS_SHORT)
async def test_the_only_one_is_not_tried_again(notes):
    await error_of(aioray.remote(max_retries=3)(hungry.take_once).remote(notes, 200))
    assert len(jobs.notes(notes)) == 1


@everywhere(num_cpus=1, _system_config=ALWAYS_SHORT)
async def test_an_actor_is_killed_too():
    keeper = aioray.remote(hungry.Keeper).remote()
    await error_of(keeper.hold.remote(200))
    with pytest.raises(ActorDiedError, match="memory ran short"):
        await keeper.keep.remote()


@everywhere(num_cpus=1, _system_config=ALWAYS_SHORT)
async def test_nobody_is_killed_where_that_would_free_nothing(started, gate, caplog):
    with caplog.at_level(logging.WARNING, "aioray"):
        small = aioray.remote(max_retries=0)(hungry.use).remote(1, started.path, gate.path)
        await started.heard()
        aside = aioray.remote(num_cpus=0)(jobs.pid)
        async with asyncio.timeout(GUARD):
            while not any("Nothing is killed" in text for text in caplog.messages):
                await aside.remote()
        gate.tell()
        assert await small


@pytest.mark.parametrize(
    "config",
    [
        {**ALWAYS_SHORT, "memory_monitor_refresh_ms": 0},
        {**ALWAYS_SHORT, "min_memory_free_bytes": 0},
        {},
    ],
)
def test_nobody_is_killed_while_there_is_enough_or_nobody_looks(config, started, gate):
    aioray.init(num_cpus=1, _system_config=config)
    try:
        ref = aioray.remote(max_retries=0)(hungry.use).remote(100, started.path, gate.path)
        started.hear()
        _, pending = aioray.wait([ref], timeout=0.3)
        assert pending
        gate.tell()
        assert aioray.get(ref)
    finally:
        aioray.shutdown()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RAY_memory_usage_threshold", "1.5"),
        ("RAY_memory_usage_threshold", "much"),
        ("RAY_memory_monitor_refresh_ms", "-1"),
        ("RAY_min_memory_free_bytes", "-2"),
        ("RAY_task_oom_retries", "0.5"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} must be a .*number"):
        aioray.init()
