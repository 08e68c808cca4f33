"""What waits for itself fails, and says so, where it would have waited for ever."""

from __future__ import annotations

import pytest

import aioray
from aioray import RestartPolicy
from aioray.exceptions import ActorUnavailableError, RayTaskError

from . import knots
from .jobs import notes as noted
from .support import everywhere

Knot = aioray.remote(num_cpus=0)(knots.Knot)
Loop = aioray.remote(num_cpus=0)(knots.Loop)
METHODS = (
    "ask_itself",
    "wait_for_itself",
    "ask_a_task",
    "ask_for_an_argument",
    "ask_for_a_stream",
)


async def error_of(ref):
    try:
        await ref
    except RayTaskError as error:
        return error
    raise AssertionError("there was no error")


@pytest.mark.parametrize("method", METHODS)
@everywhere
async def test_method_that_needs_a_later_call_of_its_actor_is_told(method):
    actor = Knot.remote()
    error = await error_of(getattr(actor, method).remote())
    assert isinstance(error, ActorUnavailableError)
    assert f"waits for Knot.{method}\n" in str(error)
    assert f"Knot.{method} waits for " in str(error)
    assert await actor.ping.remote() == "pong"


@everywhere
async def test_two_actors_that_need_each_other_are_told():
    one, other = Knot.remote(), Knot.remote()
    error = await error_of(one.ask_another.remote(other))
    assert isinstance(error, ActorUnavailableError)
    for step in ("ping waits for Knot.ask_another", "ask_another waits for Knot.ask", "ask waits"):
        assert f"Knot.{step}" in str(error)
    assert await one.ping.remote() == await other.ping.remote() == "pong"


@everywhere
async def test_method_that_blocks_its_own_loop_is_told():
    actor = Loop.remote()
    assert await actor.await_itself.remote() == "pong"
    error = await error_of(actor.ask_itself.remote())
    assert isinstance(error, ActorUnavailableError)
    assert await actor.ping.remote() == "pong"


@everywhere
async def test_constructor_that_needs_a_call_of_its_actor_is_told(notes):
    actor = Knot.options(name="knot").remote(notes, "knot")
    assert await actor.ping.remote() == "pong"
    made, why = noted(notes)
    assert made == "made"
    assert "is unavailable: Knot.ping can never begin" in why


@everywhere
async def test_actor_is_made_again_although_its_constructor_needs_a_call_of_it(notes):
    actor = Knot.options(max_restarts=1).remote(notes, None, 1)
    assert await actor.ping.remote() == "pong"
    aioray.kill(actor, no_restart=False)
    assert await actor.ping.remote() == "pong"
    *made, why = noted(notes)
    assert made == ["made", "made"]
    assert "is unavailable: Knot.ping can never begin" in why


@everywhere
async def test_waiting_with_a_limit_is_the_methods_own_business():
    actor = Knot.remote()
    assert await actor.ask_with_a_limit.remote() == "went on"
    assert await actor.ping.remote() == "pong"


@everywhere
async def test_thread_that_waits_holds_nobody_up(started, gate):
    actor = Knot.remote()
    ref = actor.ask_in_a_thread.remote(started.path, gate.path)
    await started.heard()
    gate.tell("done")
    assert await ref == "done"
    assert await actor.ping.remote() == "pong"


@everywhere
async def test_threads_of_an_actor_may_call_it():
    actor = Knot.options(max_concurrency=2).remote()
    assert await actor.ask_itself.remote() == "pong"


@everywhere
async def test_call_that_has_waited_too_long_for_a_restart_is_told(notes, gate):
    policy = RestartPolicy(patience=0.1)
    late = aioray.remote(max_restarts=1, restart_policy=policy)(knots.Late)
    actor = late.remote(notes, gate.path)
    assert await actor.ping.remote() == "pong"
    aioray.kill(actor, no_restart=False)
    with pytest.raises(ActorUnavailableError, match=r"not made again within the 0\.1 seconds"):
        await actor.ping.remote()
    gate.tell()
    while True:
        try:
            assert await actor.ping.remote() == "pong"
        except ActorUnavailableError:  # the constructor has not returned yet
            continue
        break
