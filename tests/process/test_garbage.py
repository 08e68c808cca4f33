"""Workers whose tasks misuse the descriptors of their process: discarded, and it is said why."""

from __future__ import annotations

import asyncio
import pickle

import pytest

import aioray
from aioray.exceptions import ActorDiedError, RaySystemError, WorkerCrashedError

from . import jobs, mischief
from .support import everywhere
from .test_errors import error_of

same = aioray.remote(jobs.same)
write_garbage = aioray.remote(max_retries=0)(mischief.write_garbage)

BLAMED = "it wrote something that is not aioray's into the answers pipe"


@everywhere
async def test_garbage_in_the_answers_ends_the_worker_and_is_told():
    for kind in mischief.GARBAGE:
        error = await error_of(write_garbage.remote(kind))
        assert type(error) is WorkerCrashedError, kind
        assert BLAMED in str(error), kind
        assert error.signal == "SIGKILL", kind
        (attempt,) = error.attempts
        assert BLAMED in attempt.ended, kind
        assert await same.remote(kind) == kind


@pytest.mark.parametrize("kind", ["a header's worth", "kilobytes", "unknown verb"])
@everywhere
async def test_garbage_is_found_while_the_task_goes_on(started, gate, kind):
    error = await error_of(write_garbage.remote(kind, started.path, gate.path))
    assert BLAMED in str(error)


@everywhere
async def test_garbage_that_fills_the_pipe_is_found():
    ref = aioray.remote(max_retries=0)(mischief.write_garbage_without_end).remote()
    assert BLAMED in str(await error_of(ref))


@everywhere
async def test_garbage_loses_no_task_that_was_answered_before_or_may_be_retried():
    refs = [same.options(max_retries=0).remote(number) for number in range(200)]
    bad = write_garbage.remote("kilobytes")
    refs += [same.remote(number) for number in range(200, 400)]
    assert await asyncio.gather(*refs) == list(range(400))
    assert BLAMED in str(await error_of(bad))


@everywhere
async def test_task_that_writes_garbage_is_retried_as_after_a_crash():
    error = await error_of(write_garbage.options(max_retries=2).remote("zeros"))
    assert [BLAMED in attempt.ended for attempt in error.attempts] == [True] * 3


@pytest.mark.parametrize("cls", [mischief.Vandal, mischief.AsyncVandal])
@pytest.mark.parametrize("kind", ["a line", "zeros", "unknown verb", "huge length"])
@everywhere
async def test_actor_that_writes_garbage_dies_of_it(cls, kind):
    actor = aioray.remote(cls).remote()
    assert await actor.same.remote(1) == 1
    error = await error_of(actor.write_garbage.remote(kind))
    assert type(error) is ActorDiedError
    assert BLAMED in str(error)
    again = aioray.remote(max_restarts=1)(cls).remote()
    assert BLAMED in str(await error_of(again.write_garbage.remote(kind)))
    assert await again.same.remote(2) == 2


@everywhere
async def test_stream_with_garbage_between_its_items_ends_with_the_error():
    items = aioray.remote(max_retries=0, num_returns="streaming")(mischief.yield_garbage)
    refs = [ref async for ref in items.remote("kilobytes")]
    assert await refs[0] == 1
    assert BLAMED in str(await error_of(refs[-1]))


@everywhere
async def test_claims_of_nothing_end_the_worker():
    for function in (mischief.claim_nothing, mischief.claim_in_part):
        await aioray.remote(max_retries=0)(function).remote()
        assert await same.remote(1) == 1
        assert await asyncio.gather(*[same.remote(number) for number in range(100)]) == list(
            range(100)
        )


@everywhere
async def test_bell_that_is_rung_for_nothing_harms_nobody():
    await aioray.remote(mischief.ring_for_nothing).remote()
    assert await same.remote(1) == 1


@everywhere
async def test_page_cannot_be_cut_off_and_what_is_written_there_harms_nobody():
    assert await aioray.remote(mischief.spoil_page).remote() == 3
    assert await asyncio.gather(*[same.remote(number) for number in range(10)]) == list(range(10))


@everywhere
async def test_nobody_waits_for_the_driver_to_read_its_own_socket():
    assert await aioray.remote(mischief.write_to_driver).remote() == "BrokenPipeError"
    assert await same.remote(1) == 1


@pytest.mark.parametrize(
    "payload", [b"", b"\x01", b"\x01" + bytes(3) + b"\xff" * 30, pickle.dumps([1])]
)
@everywhere
async def test_forged_values_fail_their_refs_and_nothing_else(payload):
    forge = aioray.remote(max_retries=0)(mischief.forge)
    several = forge.options(num_returns=3).remote(payload)
    for ref in several:
        assert isinstance(await error_of(ref), RaySystemError)
    assert await same.remote(1) == 1


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x01" + bytes(3) + b"\xff" * 30])
@everywhere
async def test_forged_value_fails_its_ref_and_nothing_else(payload):
    forge = aioray.remote(max_retries=0)(mischief.forge)
    assert isinstance(await error_of(forge.remote(payload)), RaySystemError)
    assert await same.remote(1) == 1


@pytest.mark.parametrize("data", [b"x", b"garbage" * 100, pickle.dumps([1])])
@everywhere
async def test_what_is_no_attempt_in_the_pipe_of_singles_ends_the_worker(data):
    await aioray.remote(max_retries=0)(mischief.send_single).remote(data)
    for number in range(3):
        assert await same.remote(number) == number
    assert await asyncio.gather(*[same.remote(number) for number in range(100)]) == list(range(100))
