"""`aioray logs`, letter by letter, for a session that was made up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aioray.cli import common
from aioray.cli.logs import command
from tests.cli.invoking import invoke
from tests.state.printed import ACTOR_ID, History, make_actor, task_id, worker_id


@pytest.fixture
def history():
    history = History()
    yield history
    history.connection.close()


@pytest.fixture
def run(history, monkeypatch):
    """Runs the command; what it has written to stdout and to stderr, and its exit status."""

    class Session:
        others = 0

        def view(self, want=(), timeout=30.0):
            return history.look()

    monkeypatch.setattr(common, "find_session", lambda name, temp_dir: Session())

    def run(*arguments):
        result = invoke(command, arguments, prog_name="aioray logs")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.stdout_bytes, result.stderr, result.exit_code

    return run


def test_attempts_of_a_task(history, run):
    history.attempt(1, attempt=0, worker=2, seq=3, error="WORKER_DIED")
    history.attempt(1, attempt=1, worker=1, seq=5)
    history.output(b"half a li", worker=2, seq=3)
    history.output(b"a line\n\xff\x00\xfe\n", worker=1, seq=5)
    history.output(b"oh\n", worker=1, seq=5, stream=2)
    both = (
        b"==> work, attempt 0 (pid=102, FAILED) <==\n"
        b"half a li\n"
        b"==> work, attempt 1 (pid=101, FINISHED) <==\n"
        b"a line\n"
        b"\xff\x00\xfe\n"
    )
    assert run("task", task_id(1)) == (both, "", 0)
    assert run("task", "--id", task_id(1)) == (both, "", 0)
    assert run("task", task_id(1), "-a", "0") == (b"half a li", "", 0)
    assert run("task", task_id(1), "--attempt-number", "1", "--err") == (b"oh\n", "", 0)
    assert run("task", task_id(1), "-a", "1", "--both", "--tail", "2") == (
        b"\xff\x00\xfe\noh\n",
        "--- The last 2 lines; --tail -1 shows all. ---\n",
        0,
    )


def test_by_default_the_last_thousand_lines(history, run):
    history.attempt(1)
    for number in range(1200):
        history.output(b"%d\n" % number)
    out, err, _ = run("task", task_id(1))
    assert out == b"".join(b"%d\n" % number for number in range(200, 1200))
    assert err == "--- The last 1000 lines; --tail -1 shows all. ---\n"
    out, err, _ = run("task", task_id(1), "--tail", "-1")
    assert (out.count(b"\n"), err) == (1200, "")


def test_actor(history, run):
    make_actor(history)
    expected = (
        b"==> nn (A), process 1 of 2 (pid=101) <==\n"
        b"made call thread \n"
        b"==> nn (A), process 2 of 2 (pid=103) <==\n"
        b"made again "
    )
    for arguments in (["nn"], [ACTOR_ID], ["--id", ACTOR_ID], ["-a", "nn"], ["--pid", "103"]):
        assert run("actor", *arguments) == (expected, "", 0)


def test_worker(history, run):
    history.output(b"printed\n", worker=2)
    for arguments in (["102"], ["--pid", "102"], ["-pid", "102"], [worker_id(2)]):
        assert run("worker", *arguments) == (b"printed\n", "", 0)


@pytest.mark.parametrize("arguments", [[], ["cluster"], ["*"], ["cluster", "worker*"]])
def test_list(run, arguments):
    out, err, status = run(*arguments)
    names = [f"- worker-{worker_id(number)}-01000000-{100 + number}" for number in (1, 2, 3)]
    assert (err, status) == ("", 0)
    assert out.decode().splitlines() == [
        "worker_out:",
        *(f"{name}.out" for name in names),
        "worker_err:",
        *(f"{name}.err" for name in names),
    ]


def test_the_only_log_that_matches_is_shown(history, run):
    history.output(b"1\n2\n", worker=2)
    history.output(b"error\n", worker=2, stream=2)
    assert run("*-102.out", "--tail", "-1") == (b"1\n2\n", "", 0)
    assert run("cluster", "*-102.err") == (b"error\n", "", 0)
    assert run("nothing*") == (b"", "There is no log that matches 'nothing*'.\n", 0)


def test_silence_is_explained(history, run):
    history.attempt(1, seq=1)
    history.attempt(2, seq=2)
    history.attempt(3, worker=None, seq=None, error="TASK_CANCELLED")
    history.attempt(4, seq=4)
    history.output(b"error\n", seq=1, stream=2)
    history.output(b"printed\n", seq=2)
    assert run("task", task_id(1)) == (
        b"",
        "--- Nothing went to stdout, only to stderr: --err. ---\n",
        0,
    )
    assert run("task", task_id(2), "--err") == (
        b"",
        "--- Nothing went to stderr, only to stdout: without --err. ---\n",
        0,
    )
    assert run("task", task_id(3)) == (
        b"",
        "--- No process has run this: work, attempt 0 (FAILED). ---\n",
        0,
    )
    assert run("task", task_id(4)) == (b"", "", 0)


def test_lost_output_is_told_of(history, run):
    history.attempt(1)
    history.output(b"gone\n", at=11.0)
    history.output(b"there\n", at=12.0)
    history.connection.execute("DELETE FROM output WHERE at = 11.0")
    history.meta(output_dropped=True)
    assert run("task", task_id(1)) == (
        b"there\n",
        "--- The beginning may be missing: a session keeps a limited amount of output. ---\n",
        0,
    )


def test_follow(history, run):
    history.is_alive = True
    history.running(1)
    history.output(b"so far\n")
    whole = history.look

    def look():
        if history.looks == 1:
            history.output(b"more\n")
            history.attempt(1)
        return whole()

    history.look = look
    assert run("task", task_id(1), "--follow", "--interval", "0") == (b"so far\nmore\n", "", 0)


@pytest.mark.parametrize(
    ("arguments", "text", "status"),
    [
        (["task"], "Say the id of a task: TASK or --id.", 2),
        (["task", "x", "--id", "y"], "TASK and --id are two ways to say it: give one.", 2),
        (["actor"], "Say the id or the name of an actor: ACTOR or --id.", 2),
        (["actor", "x", "--pid", "3"], "ACTOR and --pid are two ways to say it: give one.", 2),
        (["worker"], "Say the pid or the id of a worker: WORKER or --pid.", 2),
        (["task", "x", "--tail", "abc"], "Invalid value for '--tail': 'abc' is not a valid", 2),
        (["task", "x", "-a", "-1"], "Invalid value for '--attempt-number'", 2),
        (["task", "x"], "'x' is no id of a task: those have 48 hexadecimal digits.", 1),
        (["actor", "x"], "There is no actor with the id or name 'x'", 1),
        (["worker", "x"], "There is no worker with the id or pid x", 1),
    ],
)
def test_errors(run, arguments, text, status):
    out, err, found = run(*arguments)
    assert (out, found) == (b"", status)
    assert f"Error: {text}" in err
    assert "Traceback" not in err


def test_help_shows_its_examples_line_by_line(run):
    out, err, status = run("--help")
    assert (err, status) == ("", 0)
    assert "  aioray logs task ID                  each attempt of a task\n" in out.decode()


PROGRAM = """
import sys
from tests.state.printed import History, task_id
from aioray.cli import common, logs
history = History()
history.attempt(1)
for number in range(2000):
    history.output(b"x" * 1000 + b"\\n")
class Session:
    others = 0

    def view(self, want=(), timeout=30.0):
        return history.look()
common.find_session = lambda name, temp_dir: Session()
logs.command(["task", task_id(1), "--tail", "-1"])
"""


def test_reader_that_goes_away_ends_the_command_silently():
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == b"x" * 1000 + b"\n"
        process.stdout.close()
        err = process.stderr.read()
    assert (err, process.returncode) == (b"", 1)
