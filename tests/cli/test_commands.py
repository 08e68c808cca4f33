"""How commands end: what is told on which stream, and with which exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import aioray
from aioray.cli.listing import BY_COMMAND
from tests.cli.cases import run
from tests.state.history import a_session

AIORAY = (sys.executable, "-m", "aioray")
ROOT = Path(aioray.__file__).parent.parent
GUARD_SECONDS = 250


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["list"], 2, "Missing argument"),
        (["list", "task"], 2, "'task' is not one of 'actors', 'jobs'"),
        (["list", "tasks", "x"], 2, "unexpected extra argument (x)"),
        (["list", "tasks", "-f", "nosuch=1"], 2, "Invalid filter key 'nosuch' for resource"),
        (["list", "tasks", "-f", "events=1"], 2, "The given filter column events is not supported"),
        (["list", "tasks", "-f", "task_id=abcd"], 2, "needs to have length 24, got 2"),
        (["list", "tasks", "-f", "attempt_number=x"], 2, "int type column"),
        (["list", "actors", "-f", "state=FOO"], 2, "Invalid actor state"),
        (["list", "tasks", "-f", "state"], 1, "Cannot find the predicate"),
        (["list", "tasks", "-f", "state="], 1, "Cannot identify key"),
        (["list", "tasks", "--limit", "10001"], 2, "exceeds the supported limit 10000"),
        (["list", "tasks", "--limit", "-1"], 2, "negative"),
        (["list", "tasks", "--limit", "abc"], 2, "not a valid integer"),
        (["list", "tasks", "--format", "xml"], 2, "'xml' is not one of"),
        (["list", "tasks", "--session", "a", "--address", "b"], 2, "two names for one thing"),
        (["get", "jobs", "01000000"], 2, "'jobs' is not one of"),
        (["get", "tasks"], 2, "Missing argument 'ID'. Do you mean 'aioray list tasks'?"),
        (["get", "tasks", "abcd"], 2, "needs to have length 24, got 2"),
        (["get", "nodes", "zz"], 2, "Non-hexadecimal digit found"),
        (["summary", "foos"], 2, "No such command 'foos'"),
        (["summary", "tasks", "x"], 2, "unexpected extra argument (x)"),
    ],
)  # fmt: skip
def test_wrong_command_line_ends_with_a_reason(arguments, status: int, text: str) -> None:
    result = run(arguments, a_session())
    assert (result.exit_code, result.stdout) == (status, "")
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "tasks", "-f", "name=nobody"],
        ["list", "tasks", "-f", "name=nobody", "--detail"],
        ["list", "tasks", "-f", "name=nobody", "--format", "yaml"],
        ["list", "tasks", "--limit", "0"],
    ],
)
def test_nothing_to_list_is_no_error(arguments: list[str]) -> None:
    result = run(arguments, a_session())
    assert (result.exit_code, result.stdout) == (0, "No resource in the cluster\n")


def test_filters_may_be_in_any_case_and_are_joined_by_and() -> None:
    arguments = ["list", "tasks", "-f", "STATE=failed", "--filter", "Name=F", "--format", "json"]
    (row,) = json.loads(run(arguments, a_session()).stdout)
    assert (row["name"], row["state"]) == ("f", "FAILED")


@pytest.mark.parametrize("detail", [[], ["--detail"]])
@pytest.mark.parametrize("resource", BY_COMMAND)
def test_formats_say_the_same(resource: str, detail: list[str]) -> None:
    arguments = ["list", resource, *detail]
    in_json = json.loads(run([*arguments, "--format", "json"], a_session()).stdout)
    in_yaml = yaml.safe_load(run([*arguments, "--format", "yaml"], a_session()).stdout)
    assert in_json == in_yaml
    table = run([*arguments, "--format", "table"], a_session()).stdout
    for row in in_json:
        assert all(v in table for v in row.values() if isinstance(v, str) and "\n" not in v)


# ------------------------------------------------------------ a real one

PROGRAM = """\
import os, sys
import aioray as ray
from aioray.exceptions import RayTaskError

ray.init(num_cpus=2, namespace="tests")

@ray.remote
def f():
    raise Exception("the real error")

@ray.remote
def g(x):
    return

@ray.remote(max_retries=1)
def crashes_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(1)

for ref in (f.remote(), g.remote(f.remote())):
    try:
        ray.get(ref)
    except RayTaskError:
        pass
ray.get(crashes_once.remote(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "sessions"
    folder.mkdir()
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder)}


def ask(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*AIORAY, *arguments),
        capture_output=True,
        check=False,
        env=environment,
        text=True,
        timeout=GUARD_SECONDS,
    )


def rows_of(environment: dict[str, str], *arguments: str) -> list[dict]:
    result = ask(environment, "list", *arguments, "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def seen(rows: list[dict]) -> list[tuple]:
    found = [(r["name"], r["attempt_number"], r["state"], r["error_type"]) for r in rows]
    return sorted(found, key=str)


def test_without_a_session_the_reason_is_told(environment) -> None:
    for command in (["list", "tasks"], ["get", "tasks", "ab" * 24], ["summary", "tasks"]):
        result = ask(environment, *command)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: There is no session in ")
        assert "Traceback" not in result.stderr


def test_program_is_told_of_while_it_runs_and_after_it_has_ended(environment, tmp_path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = (sys.executable, str(script), str(tmp_path / "crashed"))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True) as program:
        try:
            assert program.stdout.readline() == "ready\n"
            during = rows_of(environment, "tasks")
            assert [row["status"] for row in rows_of(environment, "jobs")] == ["RUNNING"]
        finally:
            program.stdin.close()
        assert program.wait(GUARD_SECONDS) == 0
    assert seen(during) == [
        ("crashes_once", 0, "FAILED", "WORKER_DIED"),
        ("crashes_once", 1, "FINISHED", None),
        ("f", 0, "FAILED", "TASK_EXECUTION_EXCEPTION"),
        ("f", 0, "FAILED", "TASK_EXECUTION_EXCEPTION"),
        ("g", 0, "FAILED", "TASK_EXECUTION_EXCEPTION"),
    ]
    assert rows_of(environment, "tasks") == during
    assert [row["status"] for row in rows_of(environment, "jobs")] == ["SUCCEEDED"]
    (retried,) = {row["task_id"] for row in during if row["name"] == "crashes_once"}
    told = yaml.safe_load(ask(environment, "get", "tasks", retried).stdout)
    assert [row["error_type"] for row in told] == ["WORKER_DIED", None]
    table = ask(environment, "list", "tasks", "-f", f"task_id={retried}").stdout
    assert [line.split()[:5] for line in table.splitlines() if retried in line] == [
        ["0", retried, "0", "crashes_once", "FAILED"],
        ["1", retried, "1", "crashes_once", "FINISHED"],
    ]
    trace = tmp_path / "trace.json"
    assert ask(environment, "timeline", "--output", str(trace)).returncode == 0
    names = {event["name"] for event in json.loads(trace.read_text())}
    assert {"f", "crashes_once", "crashes_once (attempt 1)", "WORKER_DIED"} <= names


def test_timeline_that_cannot_be_written_is_told(tmp_path) -> None:
    result = run(["timeline", "-o", str(tmp_path / "no" / "where.json")], a_session())
    assert result.exit_code == 1
    assert "Cannot write" in result.stderr


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("list", "  aioray list tasks -f state=FAILED -f name=f"),
        ("get", "  aioray get actors 21978f58df3c4ed22e0f8a9e01000000"),
        ("completion", "  fish:  aioray completion fish | source"),
    ],
)
def test_examples_in_the_help_stand_on_lines_of_their_own(command: str, example: str) -> None:
    result = run([command, "--help"], a_session())
    assert any(line.startswith(example) for line in result.stdout.splitlines())
