"""What an actor does when it ends: its hook, its finalizer, and what is registered for the exit."""

from __future__ import annotations

import os

import pytest

import aioray
from aioray.exceptions import RayError

from . import jobs, troupe

ALL = ["shut down", "deleted", "left"]
KINDS = {
    "one at a time": aioray.remote(troupe.Releasing),
    "threads": aioray.remote(max_concurrency=2)(troupe.Releasing),
    "groups": aioray.remote(concurrency_groups={"aside": 2})(troupe.Releasing),
    "loop": aioray.remote(troupe.ReleasingAsync),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_hook_and_finalizer_run_when_the_last_handle_is_gone(kind, notes, watch, session):
    actor = KINDS[kind].remote(notes)
    watched = watch(aioray.get(actor.pid.remote()))
    del actor
    assert watched.survivors() == []
    assert jobs.notes(notes) == ALL


@every_kind
@pytest.mark.parametrize("how", ["__ray_terminate__", "exit_actor", "sys.exit(0)", "sys.exit(3)"])
def test_hook_and_finalizer_run_when_an_actor_ends_itself(how, kind, notes, watch, session):
    actor = KINDS[kind].remote(notes)
    watched = watch(aioray.get(actor.pid.remote()))
    ref = actor.__ray_terminate__.remote() if how.startswith("__") else actor.end.remote(how)
    with pytest.raises(RayError):
        aioray.get(ref)
    assert watched.survivors() == []
    assert jobs.notes(notes) == ALL


@pytest.mark.parametrize("how", ["kill", "kill with restart", "crash", "shutdown"])
def test_nothing_runs_when_an_actor_is_killed_or_dies(how, notes, watch, session):
    actor = KINDS["one at a time"].remote(notes)
    watched = watch(aioray.get(actor.pid.remote()))
    if how == "crash":
        with pytest.raises(RayError):
            aioray.get(actor.end.remote("_exit 42"))
    elif how == "shutdown":
        aioray.shutdown()
    else:
        aioray.kill(actor, no_restart=how == "kill")
    assert watched.survivors() == []
    assert jobs.notes(notes) == []


def test_hook_runs_when_a_session_ends_that_is_drained(notes, watch):
    aioray.init(num_cpus=1)
    actor = KINDS["one at a time"].remote(notes)
    watched = watch(aioray.get(actor.pid.remote()))
    aioray.shutdown(drain=20)
    assert watched.survivors() == []
    assert jobs.notes(notes) == ALL


def test_hook_runs_once_for_an_actor_that_was_made_again(notes, watch, session):
    actor = KINDS["one at a time"].options(max_restarts=1).remote(notes)
    before = watch(aioray.get(actor.pid.remote()))
    aioray.kill(actor, no_restart=False)
    assert before.survivors() == []
    watched = watch(aioray.get(actor.pid.remote()))
    del actor
    assert watched.survivors() == []
    assert jobs.notes(notes) == ALL


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_hook_that_fails_holds_nothing_up(how, notes, watch, session, capfd):
    actor = KINDS["one at a time"].remote(notes, how)
    watched = watch(aioray.get(actor.pid.remote()))
    del actor
    assert watched.survivors() == []
    assert jobs.notes(notes) == ALL
    aioray.shutdown()
    out, err = capfd.readouterr()
    assert "goodbye" in out
    failed = "The hook __ray_shutdown__ of Releasing has failed. The actor ends all the same."
    assert (failed in err) == ("ValueError: cannot be released" in err) == (how == "raise")


def test_hook_that_hangs_is_ended_and_says_where(notes, watch, monkeypatch, capfd):
    monkeypatch.setenv("RAY_actor_graceful_shutdown_timeout_ms", "1000")
    os.mkfifo(notes + "-never")
    aioray.init(num_cpus=1)
    try:
        for end in ("out of scope", "sys.exit(3)"):
            actor = KINDS["one at a time"].remote(notes, "hang")
            watched = watch(aioray.get(actor.pid.remote()))
            if end == "out of scope":
                del actor
            else:
                with pytest.raises(RayError):
                    aioray.get(actor.end.remote(end))
            assert watched.survivors() == []
    finally:
        aioray.shutdown()
    assert jobs.notes(notes) == ["shut down", "shut down"]
    assert capfd.readouterr().err.count("in __ray_shutdown__") == 2


def test_shutdown_does_not_wait_for_a_hook_that_hangs(notes, watch, session):
    os.mkfifo(notes + "-never")
    actor = KINDS["one at a time"].remote(notes, "hang")
    watched = watch(aioray.get(actor.pid.remote()))
    ref = actor.__ray_terminate__.remote()
    with pytest.raises(RayError):
        aioray.get(ref)
    aioray.shutdown()
    assert watched.survivors(0) == []


@pytest.mark.parametrize("kind", ["one at a time", "threads", "groups"])
def test_hook_may_use_the_api(kind, notes, watch, session):
    other = aioray.remote(troupe.Player).remote()
    actor = KINDS[kind].remote(notes, "ask", other)
    watched = watch(aioray.get(actor.pid.remote()))
    del actor
    assert watched.survivors() == []
    assert jobs.notes(notes) == ["shut down", "['asked']", "deleted", "left"]


def test_resources_are_held_until_the_hook_has_ended(started, gate, session):
    @aioray.remote(num_cpus=2)
    class Slow:
        def __ray_shutdown__(self):
            from tests.process.jobs import listen, say

            say(started_path)
            listen(gate_path)

    started_path, gate_path = started.path, gate.path
    actor = Slow.remote()
    aioray.get(actor.__ray_ready__.remote())
    del actor
    started.hear()
    assert aioray.available_resources().get("CPU", 0) == 0
    gate.tell()
    assert aioray.get(aioray.remote(num_cpus=2)(jobs.pid).remote()) > 0
