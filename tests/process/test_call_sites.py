"""Where tasks, actors and values were made, for who asks for it by Ray's two variables."""

from __future__ import annotations

from typing import Any

import pytest

import aioray
from aioray.client import call_sites
from aioray.client.protocol import registry
from aioray.util.state import list_actors, list_objects, list_tasks, summarize_objects

STACKS, PLACES = "RAY_record_task_actor_creation_sites", "RAY_record_ref_creation_sites"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for variable in (STACKS, PLACES):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def session():
    """Shut down what a test has begun."""
    yield
    aioray.shutdown()


def inner():
    return 1


def outer():
    return aioray.remote(inner).remote()  # in a worker


class Keeper:
    def keep(self):
        return aioray.put("kept")  # in an actor

    def make(self):
        self.made = aioray.remote(Keeper).options(name="made").remote()  # an actor of an actor
        return self.made


def use():
    """Make one of each; return the refs by what they are."""
    keeper = aioray.remote(Keeper).remote()  # from the driver
    outside = aioray.remote(outer).remote()  # from the driver
    inside = aioray.get(outside)
    call = keeper.keep.remote()  # a call
    made = aioray.get(keeper.make.remote())
    kept = aioray.get(call)
    put = aioray.put("put")  # by the driver
    aioray.get([inside, made.keep.remote()])
    return {"outer": outside, "inner": inside, "keep": call, "kept": kept, "put": put}, keeper, made


def line_of(text):
    """The number of the line of this file that has this in it, before the tests."""
    with open(__file__) as file:
        return next(number for number, line in enumerate(file, 1) if text in line)


def test_who_asks_for_nothing_pays_nothing_and_is_told_nothing(session):
    assert call_sites.recorder({}) is call_sites.recorder({STACKS: "0", PLACES: ""}) is None
    aioray.init(num_cpus=2)
    engine = registry.current()
    assert {"make", "make_actor"}.isdisjoint(vars(engine.submission))
    assert engine.put == engine.entries.put
    kept = use()
    assert {row.call_site for row in list_tasks(detail=True)} == {None}
    assert {row.call_site for row in list_actors(detail=True)} == {None}
    assert {row.call_site for row in list_objects()} == {"disabled"}
    assert summarize_objects()["cluster"]["callsite_enabled"] is False
    del kept


def test_tasks_and_actors_tell_the_stack_of_their_call(monkeypatch, session):
    monkeypatch.setenv(STACKS, "true")
    aioray.init(num_cpus=2)
    kept = use()
    sites = {row.name: row.call_site for row in list_tasks(detail=True)}
    for name, comment in {
        "outer": "outer).remote()  # from",
        "inner": "# in a worker",
        "Keeper.make": "keeper.make.remote())",
        "Keeper.__init__": "Keeper).remote()  # from",
        "made:Keeper.__init__": "# an actor of an actor",
    }.items():
        stack = sites[name].splitlines()
        number = line_of(comment)
        assert f'File "{__file__}", line {number}, in ' in stack[-2], name
        assert comment in stack[-1]
        assert "/aioray/" not in sites[name].replace("/tests/", "")
    assert sites["inner"].startswith(f'  File "{__file__}"')  # nothing of the worker itself
    assert "in test_tasks_and_actors_tell" in sites["outer"]  # but all of the user's
    actors = {row.name: row.call_site for row in list_actors(detail=True)}
    assert actors == {"": sites["Keeper.__init__"], "made": sites["made:Keeper.__init__"]}
    assert {row.call_site for row in list_objects()} == {"disabled"}
    del kept


def test_calls_of_one_function_from_two_places_are_told_apart(monkeypatch, session):
    monkeypatch.setenv(STACKS, "1")
    aioray.init(num_cpus=1)
    function = aioray.remote(inner)
    first = [function.remote() for _ in range(3)]
    second = [function.remote() for _ in range(3)]
    aioray.get(first + second)
    by_id = {row.task_id: row.call_site.splitlines()[-1].strip() for row in list_tasks(detail=True)}
    assert {by_id[ref.task_id().hex()] for ref in first} == {
        "first = [function.remote() for _ in range(3)]"
    }
    assert {by_id[ref.task_id().hex()] for ref in second} == {
        "second = [function.remote() for _ in range(3)]"
    }


def test_objects_tell_the_place_that_made_them(monkeypatch, session):
    monkeypatch.setenv(PLACES, "1")
    aioray.init(num_cpus=2)
    refs, keeper, made = use()
    by_id = {row.object_id: row.call_site for row in list_objects()}
    for name, beginning in {
        "outer": f"(task call)  | {__file__}:use:{line_of('outer).remote()  # from')}",
        "inner": f"(task call)  | {__file__}:outer:{line_of('# in a worker')}",
        "keep": f"(actor call)  | {__file__}:use:{line_of('# a call')}",
        "kept": f"(put object)  | {__file__}:keep:{line_of('# in an actor')}",
        "put": f"(put object)  | {__file__}:use:{line_of('# by the driver')}",
    }.items():
        assert by_id[refs[name].hex()].startswith(beginning), name
    assert f"(actor call)  | {__file__}:make:{line_of('# an actor of')}" in by_id.values()
    assert {row.call_site for row in list_tasks(detail=True)} == {None}
    assert summarize_objects()["cluster"]["callsite_enabled"] is True
    del keeper, made


def test_workers_may_be_asked_alone_by_their_environment(session):
    aioray.init(num_cpus=2, runtime_env={"env_vars": {STACKS: "true"}})
    kept = use()
    sites = {row.name: row.call_site for row in list_tasks(detail=True)}
    assert sites["outer"] is None
    assert "# in a worker" in sites["inner"]
    del kept


def test_stack_of_a_deep_recursion_has_its_inner_frames_only():
    site: Any = call_sites.recorder({STACKS: "1", PLACES: "1"})

    def deep(left):
        return site("task call") if left == 0 else deep(left - 1)

    stack, place = deep(100)
    assert "in test_stack_of" not in stack
    assert f"[Previous line repeated {call_sites.DEEPEST - 3} more times]" in stack
    assert place.count(":deep:") == 3
