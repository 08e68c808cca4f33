"""What a worker loads: only what it runs, and nothing that checks options or decides."""

from __future__ import annotations

import time

import pytest

import aioray
from aioray.worker.template import IDLE_MS, LATER

from . import modest

NEVER = ("aioray.options", "aioray.core", "aioray.engine", "aioray.state", "aioray.cli")
Actor, leaf = aioray.remote(modest.Actor), aioray.remote(num_cpus=0)(modest.leaf)
KINDS = {
    "one at a time": Actor,
    "threads": aioray.remote(max_concurrency=2)(modest.Actor),
    "loop": aioray.remote(modest.AsyncActor),
}


def loaded_after(does, *given):
    """What a worker has loaded when it has run this function of `modest`."""
    return aioray.get(aioray.remote(does).remote(given))


def below(rooms, modules):
    found = [name for name in modules if name.startswith(tuple(f"{room}." for room in rooms))]
    return [name for name in found if name != "aioray.core.records"]  # which makes classes only


def test_fresh_worker_loads_nothing_that_checks_options_or_decides(session):
    modules = loaded_after(modest.loaded)
    assert "aioray.worker.loop" in modules
    assert below(NEVER, modules) == []


@pytest.mark.parametrize("kind", KINDS)
def test_actor_loads_nothing_that_checks_options_or_decides(kind, session):
    modules = aioray.get(KINDS[kind].remote().loaded.remote())
    assert "aioray.worker.actor.instance" in modules
    assert ("asyncio" in modules) == (kind == "loop")
    assert below(NEVER, modules) == []


@pytest.mark.parametrize("what", ["task", "actor", "call"])
def test_worker_that_submits_loads_nothing_that_checks_options_or_decides(what, session):
    if what == "task":
        modules = loaded_after(modest.loaded_after_a_nested_task, leaf)
    elif what == "actor":
        modules = loaded_after(modest.loaded_after_a_nested_actor, Actor)
    else:
        modules = loaded_after(modest.loaded_after_a_call, Actor.remote())
    assert "aioray.worker.client" in modules
    assert "asyncio" not in modules
    assert below(NEVER, modules) == []


def test_worker_loads_the_checks_where_user_code_writes_options(session):
    assert below(["aioray.options"], loaded_after(modest.loaded_after_options, leaf))


def test_template_loads_in_its_idle_time_what_workers_need_later(session):
    modules: list[str] = []
    limit = time.monotonic() + 60
    while not set(LATER) <= set(modules):
        assert time.monotonic() < limit
        time.sleep(2 * IDLE_MS / 1000)  # nothing tells of it but a worker that is forked after it
        modules = aioray.get(Actor.remote().loaded.remote())
    assert below(NEVER, modules) == []
