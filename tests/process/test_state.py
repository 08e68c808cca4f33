"""A session seen from outside: while it runs, after it has ended, and after it was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import aioray
from aioray.client import protocol as client
from aioray.engine.telemetry import signatures, texts
from aioray.state.read.sessions import BlockedSessionError, find_session, sessions
from aioray.util.state import list_actors, list_tasks, list_workers, summarize_tasks

from .support import GUARD, ROOT, everywhere

INIT = """
import os, signal, sys, time
import aioray
aioray.init(num_cpus=2)

@aioray.remote
def ok(x): return x

@aioray.remote
def bad(): raise ValueError("the real error")

@aioray.remote
def child(): return 1

@aioray.remote
def parent(): return aioray.get(child.remote())

@aioray.remote
def wait(path):
    with open(path) as pipe:
        pipe.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Where the sessions of a test have their folders."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def begin():
    """What begins a session, which ends with the test."""
    yield aioray.init
    aioray.shutdown()


def rows(view):
    """What there is to see of attempts: name, attempt, state, error type."""
    return [
        (view.signatures[record.signature]["name"], record.attempt, record.state, record.error_type)
        for record in view.records()
    ]


def test_all_attempts_are_there_when_the_program_has_ended(drive, tmp_path):
    script = """
@aioray.remote(max_retries=1)
def crash(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(1)

@aioray.remote
class A:
    def m(self): return 1

aioray.wait([bad.remote(), bad.remote()], num_returns=2)
aioray.get([ok.remote(1), parent.remote()])
aioray.get(crash.options(name="c").remote(sys.argv[1]))
a = A.remote()
aioray.get(a.m.remote())
"""
    before = time.time()
    status, *_ = drive(INIT + script, tmp_path / "flag").finish()
    assert status == 0
    session = find_session()
    assert not session.alive
    with session.view() as view:
        assert sorted(rows(view), key=str) == [
            ("A.__init__", 0, "FINISHED", None),
            ("A.m", 0, "FINISHED", None),
            ("bad", 0, "FAILED", "TASK_EXECUTION_EXCEPTION"),
            ("bad", 0, "FAILED", "TASK_EXECUTION_EXCEPTION"),
            ("c", 0, "FAILED", "WORKER_DIED"),
            ("c", 1, "FINISHED", None),
            ("child", 0, "FINISHED", None),
            ("ok", 0, "FINISHED", None),
            ("parent", 0, "FINISHED", None),
        ]
        by_name = {view.signatures[record.signature]["name"]: record for record in view.records()}
        record: Any
        for record in view.records():
            moments = (record.created, record.ready, record.sent, record.started, record.ended)
            assert all(moment is not None for moment in moments), record
            assert before <= record.created <= record.ready <= record.sent <= record.started
            assert record.started <= record.ended <= time.time()
            assert view.workers[record.worker]["pid"] > 0
        child, parent = by_name["child"], by_name["parent"]
        assert child.parent.hex() == view.task_id(parent)
        assert by_name["bad"].error_message.startswith("User exception:\nray::bad()")
        assert "ValueError: the real error" in by_name["bad"].error_message
        assert {worker["is_alive"] for worker in view.workers.values()} == {False}
        assert view.workers[0]["worker_type"] == "DRIVER"
        (actor,) = view.actors
        assert (actor["class_name"], actor["state"]) == ("A", "DEAD")
        assert view.meta["ended_at"] >= view.meta["started_at"]


def test_running_program_is_seen_from_another(drive, pipes, tmp_path):
    started, go_on = pipes(2)
    script = """
refs = [wait.remote(sys.argv[2]) for _ in range(5)]
with open(sys.argv[1], "w") as pipe: print("up", file=pipe)
aioray.get(refs)
"""
    driver = drive(INIT + script, started.path, go_on.path)
    assert started.hear() == "up"
    session = find_session()
    assert session.alive
    assert session.pid == driver.pid
    deadline = time.monotonic() + GUARD
    while True:
        with session.view() as view:
            states = sorted(state for _, _, state, _ in rows(view))
            running: list[Any] = [r for r in view.records() if r.state == "RUNNING"]
            workers = view.workers
        if len(running) == 2:
            break
        assert time.monotonic() < deadline
    assert states == ["PENDING_NODE_ASSIGNMENT"] * 3 + ["RUNNING"] * 2
    for record in running:
        assert record.ended is None
        assert record.started <= time.time()
        assert workers[record.worker]["is_alive"]
    assert view.live["resources"]["available"].get("CPU", 0.0) == 0.0
    assert view.live["demands"] == [[{"CPU": 1.0}, 3]]
    driver.signal(signal.SIGKILL)
    driver.finish()
    session = find_session()
    assert not session.alive


def test_kill_9_of_the_driver_leaves_its_history(drive, pipes):
    started, never = pipes(2)
    script = """
aioray.get([ok.remote(number) for number in range(3_000)])
ref = wait.remote(sys.argv[2])
with open(sys.argv[1], "w") as pipe: print("up", file=pipe)
aioray.get(ref)
"""
    driver = drive(INIT + script, started.path, never.path)
    assert started.hear() == "up"
    deadline = time.monotonic() + GUARD
    while True:  # what was running is noted within a second
        with find_session().view() as view:
            noted = view.connection.execute("SELECT count(*) FROM running").fetchone()[0]
        if noted:
            break
        assert time.monotonic() < deadline
    driver.signal(signal.SIGKILL)
    driver.finish()
    session = find_session()
    assert not session.alive
    with session.view() as view:
        seen = rows(view)
        assert seen.count(("ok", 0, "FINISHED", None)) == 3_000
        assert seen[3_000:] == [("wait", 0, "FAILED", "OWNER_DIED")]
        assert view.meta["ended_at"] is None


def test_blocked_loop_is_told_of_with_the_line_that_blocks(drive, pipes):
    started, go_on = pipes(2)
    script = """
import asyncio
async def main():
    await ok.remote(1)
    with open(sys.argv[1], "w") as pipe: print("up", file=pipe)
    def the_culprit():
        open(sys.argv[2]).read()
    the_culprit()
aioray.shutdown()
async def outer():
    aioray.init(num_cpus=1)
    await main()
asyncio.run(outer())
"""
    driver = drive(INIT + script, started.path, go_on.path)
    assert started.hear() == "up"
    with pytest.raises(BlockedSessionError) as raised, find_session().view(timeout=2.0):
        pass
    frames = [frame for thread in raised.value.threads for frame in thread["frames"]]
    assert "the_culprit" in [name for _, _, name in frames]
    driver.signal(signal.SIGKILL)
    driver.finish()


@everywhere
async def test_program_looks_at_itself_without_waiting_for_its_loop():
    @aioray.remote
    def ok(x):
        return x

    @aioray.remote
    def look():
        from aioray.client.protocol import registry

        with registry.current().own_session().view() as view:
            return rows(view)

    await ok.remote(1)
    own = client.registry.current().own_session()
    with own.view() as view:
        assert [row[1:] for row in rows(view)] == [(0, "FINISHED", None)]
    seen = await look.remote()
    assert [row[2] for row in seen] == ["FINISHED", "RUNNING"]

    def from_thread():
        with own.view() as view:
            return rows(view)

    assert len(await asyncio.to_thread(from_thread)) == 2


def test_sessions_side_by_side_and_one_after_the_other_are_told_apart():
    engines = []

    async def main():
        async with aioray.Engine(num_cpus=1) as one, aioray.Engine(num_cpus=1) as two:
            engines.extend([one.session, two.session])
            found = sessions()
            assert [(session.name, session.alive) for session in found] == [
                (two.session, True),
                (one.session, True),
            ]
            assert find_session(one.session).name == one.session

    asyncio.run(main())
    assert [session.alive for session in sessions()] == [False, False]
    assert {session.name for session in sessions()} == set(engines)


async def aioray_says(*arguments):
    """What a command prints on stdout and on stderr."""
    command = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aioray",
        *arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(command.communicate(), GUARD)
    assert command.returncode == 0, err
    return out.decode(), err.decode()


async def test_command_says_which_session_it_is_about_if_several_run():
    listing = ("list", "workers", "--format", "json")
    async with aioray.Engine(num_cpus=1) as one:
        alone, err = await aioray_says(*listing)
        assert err == ""
        async with aioray.Engine(num_cpus=1) as two:
            newest, err = await aioray_says(*listing)
            assert err.startswith(f"This is about {two.session}, the newest; another session runs")
            assert newest != alone
            named, err = await aioray_says(*listing, "--session", one.session)
            assert err == ""
            assert named == alone


def test_nothing_is_recorded_if_nothing_is_to_be(root):
    @aioray.remote
    def ok(x):
        return x

    threads = set(threading.enumerate())
    aioray.init(num_cpus=1, history=0)
    assert aioray.get(ok.remote(1)) == 1
    assert "aioray-state" not in {thread.name for thread in set(threading.enumerate()) - threads}
    aioray.shutdown()
    assert list(root.iterdir()) == []


def test_session_whose_folder_cannot_be_made_works_and_keeps_its_history_in_memory(
    root, caplog, monkeypatch
):
    @aioray.remote
    def ok(x):
        return x

    (root / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(root / "file"))
    aioray.init(num_cpus=1)
    assert aioray.get(ok.remote(1)) == 1
    with client.registry.current().own_session().view() as view:
        assert [row[2] for row in rows(view)] == ["FINISHED"]
    aioray.shutdown()
    assert "stays in memory" in caplog.text


def test_folder_that_is_removed_meanwhile_harms_nobody(root):
    import shutil

    @aioray.remote
    def ok(x):
        return x

    aioray.init(num_cpus=1)
    assert aioray.get(ok.remote(1)) == 1
    shutil.rmtree(root / f"aioray-{os.getuid()}")
    assert aioray.get([ok.remote(number) for number in range(100)]) == list(range(100))
    aioray.shutdown()


def test_command_lists_sessions(drive, root):
    drive("import aioray\naioray.init(num_cpus=1)").finish()
    listed = subprocess.run(
        [sys.executable, "-m", "aioray", "sessions"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.splitlines()
    assert listed[0].split() == ["SESSION", "PID", "STATE", "STARTED", "LASTED", "PROGRAM"]
    name, pid, state, *_ = listed[1].split()
    assert name.endswith(f"_{pid}")
    assert state == "ended"
    assert len(listed) == 2


def test_names_that_are_made_up_without_end_are_forgotten_and_still_told(monkeypatch):
    monkeypatch.setattr(signatures, "SIGNATURES_KEPT", 3)

    @aioray.remote
    def ok(x):
        return x

    aioray.init(num_cpus=1)
    engine = client.registry.current()
    names = [f"task {number}" for number in range(40)]
    for name in names:
        assert aioray.get(ok.options(name=name).remote(1)) == 1
    with engine.own_session().view() as view:
        assert [row[0] for row in rows(view)] == names
    assert len(engine.recorder.writer.signatures) <= 8  # what was told last
    for name in names[:5]:
        assert aioray.get(ok.options(name=name).remote(1)) == 1
    with engine.own_session().view() as view:
        assert [row[0] for row in rows(view)] == names + names[:5]
    aioray.shutdown()


class Shard:
    """Names itself once its size is known, and has others work for it in a thread."""

    def __init__(self, size):
        self.size = size

    def __repr__(self):
        return f"shard-{self.size}"

    def work(self):
        found = []
        asked = aioray.remote(helper).remote
        thread = threading.Thread(target=lambda: found.append(aioray.get(asked())))
        thread.start()
        thread.join()
        return found

    def fail(self):
        raise ValueError


class AsyncShard(Shard):
    """The same on an event loop."""

    async def work(self):
        return await asyncio.to_thread(super().work)

    async def fail(self):
        raise ValueError


def helper():
    return "helped"


def tasks_by_name():
    return {row.name: row for row in list_tasks(detail=True)}


@pytest.mark.parametrize(
    ("cls", "options"),
    [(Shard, {}), (Shard, {"max_concurrency": 2}), (AsyncShard, {})],
    ids=["serial", "threaded", "async"],
)
def test_calls_are_named_after_the_repr_of_their_actor_unless_they_have_a_name(begin, cls, options):
    begin(num_cpus=2)
    shard = aioray.remote(cls).options(**options).remote(7)
    named = shard.work.options(name="mine").remote()  # the first one names no other
    assert aioray.get([named, shard.work.remote()]) == [["helped"], ["helped"]]
    with pytest.raises(ValueError, match=rf"^ray::{cls.__name__}\.fail\(\) .*repr=shard-7\)"):
        aioray.get(shard.fail.remote())
    told = {
        row.name: (row.func_or_class_name, row.state)
        for row in list_tasks()
        if row.type == "ACTOR_TASK"
    }
    name = cls.__name__
    assert told == {
        "mine": (f"{name}.work", "FINISHED"),
        "shard-7.work": (f"{name}.work", "FINISHED"),
        "shard-7.fail": (f"{name}.fail", "FAILED"),
    }
    assert "shard-7.work" in summarize_tasks()["cluster"]["summary"]


def test_calls_of_a_restarted_actor_bear_its_new_name(begin, tmp_path):
    class Numbered:
        def __init__(self):
            with open(tmp_path / "made", "a+") as file:
                file.write("x")
                self.made = file.tell()

        def __repr__(self):
            return f"number-{self.made}"

        def pid(self):
            return os.getpid()

    begin(num_cpus=2)
    actor = aioray.remote(Numbered).options(max_restarts=1, max_task_retries=-1).remote()
    os.kill(aioray.get(actor.pid.remote()), signal.SIGKILL)
    aioray.get(actor.pid.remote())
    assert {"number-1.pid", "number-2.pid"} <= tasks_by_name().keys()


@pytest.mark.parametrize(
    ("cls", "options", "parent"),
    [
        (Shard, {}, "shard-7.work"),
        (Shard, {"max_concurrency": 2}, "Shard.__init__"),
        (AsyncShard, {}, "AsyncShard.__init__"),
    ],
    ids=["serial", "threaded", "async"],
)
def test_parent_of_what_a_thread_of_an_actor_submits_is_known(begin, cls, options, parent):
    begin(num_cpus=2)
    shard = aioray.remote(cls).options(**options).remote(7)
    aioray.get(shard.work.remote())
    told = tasks_by_name()
    assert told["helper"].parent_task_id == told[parent].task_id


def test_parent_of_what_a_thread_of_a_task_submits_is_the_task(begin):
    def starter():
        return Shard.work(None)

    begin(num_cpus=2)
    aioray.get(aioray.remote(starter).remote())
    told = tasks_by_name()
    assert told["helper"].parent_task_id == told["starter"].task_id


class Leaver:
    """Ends in one way or another."""

    def pid(self):
        return os.getpid()

    def leave(self):
        aioray.exit_actor()

    def stop(self):
        sys.exit(0)

    def crash(self):
        os._exit(3)

    def vanish(self):
        os._exit(0)


class AsyncLeaver(Leaver):
    """The same on an event loop."""

    async def leave(self):
        aioray.exit_actor()

    async def stop(self):
        sys.exit(0)

    async def crash(self):
        os._exit(3)


def worker_that_has_ended(pid):
    """Its row."""
    deadline = time.monotonic() + GUARD
    while time.monotonic() < deadline:
        (row,) = list_workers(detail=True, filters=[("pid", "=", pid)])
        if not row.is_alive:
            return row
    raise TimeoutError


@pytest.mark.parametrize(
    ("way", "exit_type", "state"),
    [
        ("leave", "INTENDED_USER_EXIT", "FINISHED"),
        ("stop", "INTENDED_USER_EXIT", "FINISHED"),
        ("crash", "SYSTEM_ERROR", "FAILED"),
        ("vanish", "SYSTEM_ERROR", "FAILED"),
        ("kill", "INTENDED_SYSTEM_EXIT", None),
    ],
)
@pytest.mark.parametrize(
    ("cls", "options"),
    [(Leaver, {}), (Leaver, {"max_concurrency": 2}), (AsyncLeaver, {})],
    ids=["serial", "threaded", "async"],
)
def test_exit_that_was_asked_for_is_no_failure(begin, cls, options, way, exit_type, state):
    begin(num_cpus=1)
    actor = aioray.remote(cls).options(**options).remote()
    pid = aioray.get(actor.pid.remote())
    (alive,) = list_workers(detail=True, filters=[("pid", "=", pid)])
    assert (alive.is_alive, alive.exit_type, alive.end_time_ms) == (True, None, 0)
    if way == "kill":
        aioray.kill(actor)
    else:
        with pytest.raises(aioray.exceptions.RayActorError):
            aioray.get(getattr(actor, way).remote())
    row = worker_that_has_ended(pid)
    assert row.exit_type == exit_type
    assert row.exit_detail
    assert row.end_time_ms >= row.start_time_ms > 0
    if state is not None:
        assert tasks_by_name()[f"{cls.__name__}.{way}"].state == state
    with pytest.raises(aioray.exceptions.RayActorError):  # a call that comes too late has failed
        aioray.get(actor.pid.remote())
    late = [row for row in list_tasks() if row.name.endswith(".pid")]
    assert sorted(row.state for row in late) == ["FAILED", "FINISHED"]


def test_actor_that_has_no_place_is_on_no_node(begin):
    begin(num_cpus=1, num_gpus=0)
    placed = aioray.remote(Leaver).remote()
    waiting = aioray.remote(Leaver).options(num_gpus=1).remote()
    aioray.get(placed.pid.remote())
    nodes = {row.actor_id: row.node_id for row in list_actors()}
    assert nodes[waiting._actor_id.hex()] is None
    assert nodes[placed._actor_id.hex()] == aioray.nodes()[0]["NodeID"]


def test_error_whose_text_is_hostile_or_endless_has_its_row(monkeypatch):
    def leave():
        raise SystemExit(3)

    finish = texts.with_text
    assert finish((1, leave)) == (1, "SystemExit while the error was shown")
    assert finish((1, lambda: "text")) == (1, "text")
    monkeypatch.setattr(texts, "LONGEST_TEXT", 10)
    assert finish((1, lambda: "x" * 25)) == (1, "xxxxxxxxxx… (15 characters more)")


def test_bug_in_telling_harms_nobody(monkeypatch, caplog):
    def wrong(self, task):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(signatures.Signatures, "_attributes", wrong)

    @aioray.remote
    def ok(x):
        return x

    aioray.init(num_cpus=1)
    assert aioray.get([ok.remote(number) for number in range(3)]) == [0, 1, 2]
    with client.registry.current().own_session().view() as view:
        assert rows(view) == []
    aioray.shutdown()
    assert "a bug in aioray" in caplog.text
