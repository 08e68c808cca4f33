"""Looking at processes while they work: stacks of workers, objects and who holds them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios

import numpy as np
import pytest

import aioray
from aioray.cli import memory, stack, status, top
from aioray.engine.processes import stacks
from aioray.engine.telemetry import inventory
from aioray.state.read.sessions import SessionError
from tests.cli.invoking import invoke

from . import jobs, troupe
from .support import GUARD, ROOT, on_both_loops

sleep = aioray.remote(jobs.sleep)
hold = aioray.remote(jobs.hold)


async def stacks_of(engine):
    """The rows of workers, by pid."""
    rows = await asyncio.to_thread(engine._client.own_session().ask, "stacks")
    assert json.loads(json.dumps(rows)) == rows
    assert [row["pid"] for row in rows if row["worker_type"] == "DRIVER"] == [os.getpid()]
    return {row["pid"]: row for row in rows if row["worker_type"] == "WORKER"}


def functions(item):
    """The names of its frames, the most recent first."""
    return [function for *_, function in item["frames"]]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@pytest.mark.parametrize("job", [jobs.sleep, jobs.spin, jobs.backtrack, jobs.count_in_c])
@on_both_loops
async def test_worker_shows_where_it_is_even_if_it_holds_the_gil(job, started):
    async with aioray.Engine(num_cpus=1) as engine:
        ref = aioray.remote(job).remote(started.path)
        pid = int(await started.heard())
        for _ in range(2):  # it can be asked again
            row = (await stacks_of(engine))[pid]
            (main,) = row["threads"]
            assert main["name"] == "MainThread"
            assert job.__name__ in functions(main)
            (running,) = row["running"]
            assert running["name"] == job.__name__
            assert running["task_id"] == ref.task_id()
            assert running["attempt_number"] == 0
            assert (row["problem"], row["calls"]) == (None, [])
        await aioray.cancel(ref, force=True)


@on_both_loops
async def test_asking_disturbs_neither_results_nor_interrupts(started, gate):
    """1. A task waits. 2. All are asked, often. 3. It goes on. 4. The next is interrupted."""
    async with aioray.Engine(num_cpus=1) as engine:
        ref = hold.remote(started.path, gate.path)
        await started.heard()
        for _ in range(10):
            await stacks_of(engine)
        gate.tell("unharmed")
        assert await ref == "unharmed"
        ref = sleep.remote(started.path)
        await started.heard()
        await stacks_of(engine)
        assert await aioray.cancel(ref) is aioray.CancelOutcome.INTERRUPTED


@on_both_loops
async def test_system_call_that_waits_goes_on(started, gate):
    async with aioray.Engine(num_cpus=1) as engine:
        ref = aioray.remote(jobs.read_in_c).remote(started.path, gate.path)
        pid = int(await started.heard())
        while functions((await stacks_of(engine))[pid]["threads"][0])[0] != "read_in_c":
            pass  # it has only said so, or is about to
        await stacks_of(engine)
        gate.tell("x")
        assert await ref == 1


@on_both_loops
async def test_calls_of_an_async_actor_show_what_they_await(started, notes):
    async with aioray.Engine(num_cpus=1) as engine:
        actor = aioray.remote(troupe.Chorus).remote()
        refs = [actor.wait_for_cancel.remote(started.path, notes) for _ in range(2)]
        for _ in refs:
            await started.heard()
        await actor.pid.remote()  # on the same loop: it runs when they have come to their waiting
        (row,) = (await stacks_of(engine)).values()
        while len(row["calls"]) > len(refs):  # that of `pid` has answered, and is about to end
            (row,) = (await stacks_of(engine)).values()
        assert [task["name"] for task in row["running"]] == ["Chorus.wait_for_cancel"] * 2
        seqs = [task["seq"] for task in row["running"]]
        assert sorted(call["seq"] for call in row["calls"]) == sorted(seqs)
        for call in row["calls"]:
            assert functions(call)[-1] == "wait_for_cancel"
            assert len(functions(call)) > 1
        assert all(functions(thread) == [] for thread in row["threads"])
        for ref in refs:
            await aioray.cancel(ref)


@on_both_loops
async def test_worker_that_is_stopped_is_said_to_be_silent(monkeypatch, started, gate):
    async with aioray.Engine(num_cpus=1) as engine:
        ref = hold.remote(started.path, gate.path)
        pid = await started.heard()
        ((pid, _),) = (await stacks_of(engine)).items()
        os.kill(pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(stacks, "MOST_SECONDS", 0.05)
            row = (await stacks_of(engine))[pid]
        assert row["threads"] == []
        assert "stopped" in row["problem"]
        os.kill(pid, signal.SIGCONT)
        row = (await stacks_of(engine))[pid]  # what was asked for then, once
        assert functions(row["threads"][0])[-1] == "hold"
        row = (await stacks_of(engine))[pid]
        assert [functions(thread)[-1] for thread in row["threads"]] == ["hold"]
        gate.tell()
        await ref


# ---------------------------------------------------------------- objects


async def objects_of(engine):
    """Type of the process, reference type, size, location, refs; by id."""

    def look():
        with engine._client.own_session().view(("objects",)) as view:
            return view.live["objects"]

    found = {}
    for row in await asyncio.to_thread(look):
        told = row["type"], row["reference_type"], row["object_size"], row["location"], row["count"]
        found.setdefault(row["object_id"], []).append(told)
    return found


@on_both_loops
async def test_objects_are_listed_with_whoever_holds_them(started, gate):
    async with aioray.Engine(num_cpus=1) as engine:
        small, large = aioray.put(1), aioray.put(b"x" * 200_000)
        again = aioray.put([small])
        size = len(small.entry.outcome)
        assert await objects_of(engine) == {
            small.hex(): [("DRIVER", "LOCAL_REFERENCE", size, "inline", 1)],
            large.hex(): [("DRIVER", "LOCAL_REFERENCE", large.entry.outcome.size, "memory", 1)],
            again.hex(): [("DRIVER", "LOCAL_REFERENCE", len(again.entry.outcome), "inline", 1)],
        }
        name = small.hex()
        del small
        assert (await objects_of(engine))[name] == [
            ("DRIVER", "CAPTURED_IN_OBJECT", size, "inline", 0)
        ]
        del again
        assert list(await objects_of(engine)) == [large.hex()]


@on_both_loops
async def test_arguments_of_a_running_task_are_used_and_pinned(started, gate):
    async with aioray.Engine(num_cpus=1) as engine:
        large, small = aioray.put(np.zeros(200_000)), aioray.put(1)
        job = aioray.remote(jobs.hold_argument)
        ref = job.remote(started.path, gate.path, large)
        waiting = job.remote(started.path, gate.path, [small])
        await started.heard()
        found = await objects_of(engine)
        size = large.entry.outcome.size
        assert found[large.hex()] == [
            ("WORKER", "PINNED_IN_MEMORY", size, "memory", 0),
            ("DRIVER", "USED_BY_PENDING_TASK", size, "memory", 1),
        ]
        assert found[small.hex()][0][1] == "USED_BY_PENDING_TASK"
        assert found[ref.hex()] == [("DRIVER", "LOCAL_REFERENCE", -1, "", 1)]
        await aioray.cancel(waiting)
        gate.tell()
        await ref
        assert found[large.hex()] != (await objects_of(engine))[large.hex()]


@on_both_loops
async def test_refs_of_workers_and_handles_of_actors_are_listed():
    async with aioray.Engine(num_cpus=1) as engine:
        small = aioray.put(1)
        await aioray.remote(jobs.keep).remote("ref", [small])
        actor = aioray.remote(troupe.Chorus).options(num_cpus=0).remote()
        await actor.pid.remote()
        found = await objects_of(engine)
        size = len(small.entry.outcome)
        assert found.pop(small.hex()) == [
            ("WORKER", "LOCAL_REFERENCE", size, "inline", 1),
            ("DRIVER", "LOCAL_REFERENCE", size, "inline", 1),
        ]
        assert list(found.values()) == [[("DRIVER", "ACTOR_HANDLE", -1, "", 1)]]


@on_both_loops
async def test_loop_of_the_engine_may_ask_for_objects_and_not_for_stacks():
    async with aioray.Engine(num_cpus=1) as engine:
        ref = aioray.put(1)
        with engine._client.own_session().view(("objects",)) as view:
            assert [row["object_id"] for row in view.live["objects"]] == [ref.hex()]
        with pytest.raises(SessionError, match="only while the loop runs"):
            engine._client.own_session().ask("stacks")


@on_both_loops
async def test_more_objects_than_one_slice_are_listed_once(monkeypatch):
    monkeypatch.setattr(inventory, "SLICE", 7)
    async with aioray.Engine(num_cpus=1) as engine:
        refs = [aioray.put(number) for number in range(50)]
        found = await objects_of(engine)
        assert found.keys() == {ref.hex() for ref in refs}
        assert all(len(rows) == 1 for rows in found.values())


# ---------------------------------------------------------------- from another program


def call(command, *arguments):
    result = invoke(command, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout + result.stderr


PROGRAM = """
import sys, time, asyncio, aioray
from tests.process import jobs
async def main():
    async with aioray.Engine(num_cpus=1):
        ref = aioray.remote(jobs.sleep).remote(sys.argv[1])
        await asyncio.to_thread(jobs.listen, sys.argv[2])
        if sys.argv[3] == "block":
            def stuck(): jobs.listen(sys.argv[2])
            jobs.say(sys.argv[1], "blocked")
            stuck()
asyncio.run(main())
"""


def test_commands_look_into_a_program_that_runs_and_one_that_has_ended(drive, started, gate):
    driver = drive(PROGRAM, started.path, gate.path, "wait")
    pid = started.hear()
    code, text = call(stack.command)
    assert code == 0
    assert f"Driver: pid {driver.pid}\n" in text
    assert f"Worker: pid {pid}, worker" in text
    assert "  runs sleep for " in text
    assert ", in sleep\n" in text
    code, text = call(status.command)
    assert code == 0
    assert f"driver pid {driver.pid}" in text
    assert " 1 RUNNING\n" in text
    assert " 1.0/1.0 CPU\n" in text
    assert " 1 alive, 1 of them busy" in text
    code, text = call(memory.command)
    assert code == 0
    assert text.count("LOCAL_REFERENCE") == 1
    code, text = call(top.command, "--once")
    assert code == 0
    assert [line.split()[-1] for line in text.splitlines() if line.strip().startswith(pid)] == [
        "sleep"
    ]
    gate.tell()
    assert driver.finish()[0] == 0
    for command, words in (
        (stack.command, "no processes to look at"),
        (memory.command, "no objects any more"),
        (top.command, "nothing runs"),
    ):
        code, text = call(command)
        assert code == 1
        assert words in text
    code, text = call(status.command)
    assert code == 0
    assert ", ended 2" in text
    assert " (none alive)" in text


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_draws_until_a_key_is_pressed_and_leaves_the_terminal_as_it_was(
    drive, started, gate, key, tmp_path
):
    """1. It has drawn two frames. 2. The key is pressed. 3. It ends well, on the usual screen."""
    driver = drive(PROGRAM, started.path, gate.path, "wait")
    pid = started.hear()
    child, fd = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "aioray", "top", "--interval", "0.1"])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", 30, 120, 0, 0))
    before = termios.tcgetattr(fd)[3]
    received, pressed = b"", False
    try:
        while select.select([fd], [], [], GUARD)[0]:
            received += os.read(fd, 65536)
            if received.count(b"(driver)") >= 2 and not pressed:
                assert not termios.tcgetattr(fd)[3] & termios.ECHO
                os.write(fd, key)
                pressed = True
    except OSError:  # how Linux tells that the other end is closed
        pass
    finally:
        after = termios.tcgetattr(fd)[3]
        os.close(fd)
        _, status = os.waitpid(child, 0)
    text = received.decode()
    assert pressed, text
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert "Traceback" not in text
    assert after == before
    assert text.index("\x1b[?1049h") < text.index(pid) < text.index("\x1b[?1049l")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    gate.tell()
    assert driver.finish()[0] == 0


def test_top_ends_with_the_session(drive, started, gate):
    driver = drive(PROGRAM, started.path, gate.path, "wait")
    started.hear()
    child, fd = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "aioray", "top", "--interval", "0.1"])
    received = b""
    try:
        while select.select([fd], [], [], GUARD)[0]:
            received += os.read(fd, 65536)
            if b"(driver)" in received and gate is not None:
                gate.tell()
                gate = None
    except OSError:
        pass
    finally:
        os.close(fd)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, received
    assert received.decode().rstrip().endswith(" has ended.")
    assert driver.finish()[0] == 0


def test_stack_shows_what_blocks_the_loop_of_the_driver(drive, started, gate, monkeypatch):
    monkeypatch.setattr(stack, "LOOP_SECONDS", 2.0)  # it says so just before
    driver = drive(PROGRAM, started.path, gate.path, "block")
    started.hear()
    gate.tell()
    assert started.hear() == "blocked"
    code, text = call(stack.command)
    assert code == 0
    assert "event loop is blocked" in text
    assert f"Driver: pid {driver.pid}\n" in text
    assert ", in stuck\n" in text
    driver.signal(signal.SIGKILL)
