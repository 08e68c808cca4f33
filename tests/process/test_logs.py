"""Output read back while a program runs, after it has ended, and after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import aioray
from aioray.util.state.logs import get_log, list_logs

from . import printing
from .support import GUARD, ROOT, everywhere


def start(*arguments, **options):
    """Start `aioray logs`."""
    return subprocess.Popen(
        [sys.executable, "-m", "aioray", "logs", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


@pytest.fixture
def logs(tmp_path):
    """Runs `aioray logs`, which must have nothing to complain of; its output."""

    def run(*arguments):
        with start(*arguments, "--temp-dir", tmp_path) as process:
            out, err = process.communicate(timeout=GUARD)
        assert (err, process.returncode) == (b"", 0)
        return out

    return run


@pytest.fixture
def session(tmp_path):
    aioray.init(num_cpus=2, log_to_driver=False, _temp_dir=str(tmp_path))
    yield
    aioray.shutdown()


def ids_of(*refs):
    return [ref.task_id().hex() for ref in refs]


def speak_and_wait(gate):
    print("begun", flush=True)
    with open(gate) as pipe:
        pipe.readline()
    print("ended")


@pytest.mark.usefixtures("session")
def test_everything_that_an_attempt_writes_now_and_later(logs):
    jobs = [printing.say, printing.run_shell, printing.run_program, printing.say_without_end]
    refs = [aioray.remote(job).remote(f"by-{number}") for number, job in enumerate(jobs)]
    aioray.get(refs)
    ids = ids_of(*refs)
    expected = [b"by-0\n", b"by-1", b"by-2", b"by-3"]
    assert [logs("task", each) for each in ids] == expected
    assert logs("task", ids[1], "--err") == b"by-1!"
    aioray.shutdown()
    assert [logs("task", each) for each in ids] == expected
    assert logs("task", ids[1], "--err") == b"by-1!"


@pytest.mark.usefixtures("session")
def test_attempts_of_a_task(logs):
    ref = aioray.remote(max_retries=1)(printing.run_twice_and_die).remote("try")
    aioray.get(ref)
    (task,) = ids_of(ref)
    lines = logs("task", task).splitlines()
    assert (lines[1], lines[3]) == (b"try 0", b"try 1 done")
    assert lines[0].startswith(b"==> run_twice_and_die, attempt 0 (pid=")
    assert lines[2].startswith(b"==> run_twice_and_die, attempt 1 (pid=")
    assert logs("task", task, "-a", 0) == b"try 0"
    assert logs("task", task, "-a", 1) == b"try 1 done\n"


@pytest.mark.usefixtures("session")
def test_follow_ends_when_the_attempt_has_ended(tmp_path, gate):
    ref = aioray.remote(speak_and_wait).remote(gate.path)
    with start("task", *ids_of(ref), "--follow", "--temp-dir", tmp_path) as command:
        assert command.stdout.readline() == b"begun\n"
        gate.tell()
        out, err = command.communicate(timeout=GUARD)
    assert (out, err, command.returncode) == (b"ended\n", b"", 0)
    aioray.get(ref)


@pytest.mark.usefixtures("session")
def test_interrupt_ends_following(tmp_path, gate):
    ref = aioray.remote(speak_and_wait).remote(gate.path)
    with start("task", *ids_of(ref), "--follow", "--temp-dir", tmp_path) as command:
        assert command.stdout.readline() == b"begun\n"
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=GUARD)
    assert (out, err, command.returncode) == (b"", b"", 130)
    gate.tell()
    aioray.get(ref)


@pytest.mark.usefixtures("session")
def test_actor_and_each_of_its_calls(logs):
    actor = aioray.remote(printing.Threaded).options(name="nn", max_concurrency=2).remote()
    refs = [actor.print_in_turns.remote(tag, 5) for tag in "ab"]
    aioray.get(refs)
    one, other = (logs("task", each) for each in ids_of(*refs))
    assert one == b"".join(b"a %d\n" % number for number in range(5)) + b"a"
    assert other == one.replace(b"a", b"b")
    whole = logs("actor", "nn")
    assert whole.startswith(b"made\n")
    assert sorted(whole[5:]) == sorted(one + other)
    assert [logs("task", each, "--err") for each in ids_of(*refs)] == [b"a!\n" * 5, b"b!\n" * 5]


@pytest.mark.usefixtures("session")
def test_logs_by_the_names_of_rays_files(logs):
    pid = aioray.get(aioray.remote(printing.say_pid).remote())
    ((name,),) = list_logs(glob_filter=f"*-{pid}.out").values()
    assert name in logs().decode()
    assert logs(name) == logs("worker", pid) == b"%d\n" % pid


KILLED = """
import aioray, sys
from tests.process import test_logs
aioray.init(num_cpus=1, log_to_driver=False, _temp_dir=sys.argv[1])
ref = aioray.remote(test_logs.speak_and_wait).remote(sys.argv[2])
print(ref.task_id().hex(), flush=True)
aioray.get(ref)
"""


def test_after_the_program_was_killed(drive, logs, gate, tmp_path):
    driver = drive(KILLED, tmp_path, gate.path)
    task = driver.process.stdout.readline().decode().strip()
    with start("task", task, "--follow", "--temp-dir", tmp_path) as command:
        assert command.stdout.readline() == b"begun\n"
        driver.signal(signal.SIGKILL)
        out, err = command.communicate(timeout=GUARD)
    assert (out, err, command.returncode) == (b"", b"", 0)
    assert logs("*.out") == b"begun\n"


@everywhere
async def test_what_a_task_has_printed_is_there_when_it_has_ended():
    for number in range(20):
        ref = aioray.remote(printing.say).remote(f"task {number}")
        await ref
        assert list(get_log(task_id=ref.task_id().hex())) == [f"task {number}\n"]


def read_log(task_id):
    return "".join(get_log(task_id=task_id))


@pytest.mark.usefixtures("session")
def test_task_reads_what_another_has_printed():
    ref = aioray.remote(printing.say).remote("hello")
    aioray.get(ref)
    assert aioray.get(aioray.remote(read_log).remote(*ids_of(ref))) == "hello\n"
