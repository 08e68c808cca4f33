"""Context variables that tasks get from who submits them."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import aioray

from . import correlated
from .correlated import request_id, tenant
from .support import Driver, everywhere, on_both_loops

BOTH = {"context": [request_id, tenant]}
seen = aioray.remote(correlated.seen)


@everywhere(**BOTH)
async def test_tasks_and_methods_see_what_their_submitter_sees():
    request_id.set("r1")
    assert await seen.remote() == ("r1", "nobody")
    tenant.set("acme")
    assert await seen.remote() == ("r1", "acme")
    assert await aioray.remote(correlated.seen_in_coroutine).remote() == ("r1", "acme")
    generator = aioray.remote(correlated.seen_in_generator).remote()
    assert [await ref async for ref in generator] == [("r1", "acme")] * 2
    actor = aioray.remote(correlated.Sees).remote()
    other = aioray.remote(correlated.SeesAsync).remote()
    threads = aioray.remote(max_concurrency=2)(correlated.Sees).remote()
    request_id.set("r2")
    for each in (actor, other, threads):
        assert await each.look.remote() == ("r2", "acme")
    assert await actor.made.remote() == ("r1", "acme")


@everywhere(**BOTH)
async def test_each_coroutine_sends_its_own_values():
    async def request(number):
        request_id.set(f"r{number}")
        return await asyncio.gather(*[seen.remote() for _ in range(3)])

    found = await asyncio.gather(*[request(number) for number in range(20)])
    assert found == [[(f"r{number}", "nobody")] * 3 for number in range(20)]


@everywhere(**BOTH)
async def test_values_go_on_to_what_tasks_submit():
    request_id.set("r1")
    assert await aioray.remote(correlated.seen_below).remote(2) == [("r1", "nobody")] * 3
    found = await aioray.remote(correlated.seen_by_another_request).remote()
    assert found == [("changed", "nobody")] * 2
    assert await seen.remote() == ("r1", "nobody")


@everywhere(**BOTH)
async def test_retry_has_the_values_of_the_submission(tmp_path):
    request_id.set("r1")
    ref = aioray.remote(correlated.seen_the_second_time).remote(str(tmp_path / "count"))
    request_id.set("r2")
    assert await ref == ("r1", "nobody")


@everywhere(**BOTH)
async def test_nothing_is_left_for_the_next_task():
    request_id.set("r1")
    await aioray.gather(*[seen.remote() for _ in range(8)])
    empty = contextvars.Context()
    found = await asyncio.gather(*[empty.run(seen.remote) for _ in range(8)])
    assert found == [("none", "nobody")] * 8


@everywhere
async def test_tasks_see_nothing_where_nothing_was_asked_for():
    request_id.set("r1")
    assert await seen.remote() == ("none", "nobody")


@on_both_loops
async def test_threads_have_values_of_their_own():
    async with aioray.Engine(num_cpus=1, **BOTH) as engine:
        request_id.set("loop's")
        refs = []

        def submit():
            request_id.set("thread's")
            with engine.activate():
                refs.append(seen.remote())

        thread = threading.Thread(target=submit)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert await refs[0] == ("thread's", "nobody")
        assert await seen.remote() == ("loop's", "nobody")


@on_both_loops
async def test_value_that_cannot_be_pickled_is_refused_at_the_call():
    async with aioray.Engine(num_cpus=1, context=[tenant]):
        tenant.set(threading.Lock())
        with pytest.raises(TypeError, match="tenant"):
            seen.remote()


def test_what_cannot_be_carried_is_refused():
    with pytest.raises(TypeError, match="ContextVar"):
        aioray.Engine(context=["request_id"])  # type: ignore[list-item]
    hidden = contextvars.ContextVar("hidden")
    with pytest.raises(ValueError, match="top of a module"):
        aioray.Engine(context=[hidden])


def test_functions_of_a_script_may_use_its_own_variables():
    driver = Driver(
        "from contextvars import ContextVar\n"
        "import aioray\n"
        "request_id = ContextVar('request_id', default='none')\n"
        "@aioray.remote\n"
        "def seen(): return request_id.get()\n"
        "aioray.init(num_cpus=1, context=[request_id])\n"
        "request_id.set('r1')\n"
        "print(aioray.get(seen.remote()))\n"
    )
    try:
        assert driver.finish()[:2] == (0, "r1\n")
    finally:
        driver.close()
