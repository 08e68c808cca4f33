"""Three programs written for Ray, kept as they are in programs/, run on aioray unmodified."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aioray

PROGRAMS = Path(__file__).parents[1] / "programs"
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_TMPDIR"},
    "PYTHONPATH": str(Path(aioray.__file__).parent.parent),
}
GUARD_SECONDS = 250
RETRY = re.compile(
    r"Task potentially_fail failed\. There are 1 retries remaining, so the task will be retried\. "
    r"Error: (?P<how>.*)"
)


def by_aioray_run(program: str, directory: Path) -> list[str]:
    return [sys.executable, "-m", "aioray", "run", str(PROGRAMS / program)]


def by_python(program: str, directory: Path) -> list[str]:
    """What a user changes to leave `aioray run` out: one line."""
    source, replaced = re.subn(
        r"^import ray$",
        "import aioray as ray",
        (PROGRAMS / program).read_text(),
        flags=re.MULTILINE,
    )
    assert replaced == 1
    path = directory / program
    path.write_text(source)
    return [sys.executable, str(path)]


@pytest.fixture(params=[by_aioray_run, by_python])
def run(request, tmp_path):
    def run(program: str) -> tuple[list[str], list[str]]:
        done = subprocess.run(
            request.param(program, tmp_path),
            capture_output=True,
            check=False,
            env=ENVIRONMENT | {"RAY_TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=GUARD_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), done.stderr.splitlines()

    return run


def retries(stderr: list[str]) -> list[str]:
    """How each failed attempt ended; nothing else may stand on stderr."""
    found = [RETRY.fullmatch(line) for line in stderr]
    assert all(found), stderr
    return [match["how"] for match in found if match is not None]


def test_errors_are_printed_with_their_header_and_again_by_the_dependent(run) -> None:
    stdout, stderr = run("capture_failure.py")
    assert stderr == []
    where = r"\(pid=\d+, ip=127\.0\.0\.1\)"
    raised = [
        r'  File ".*capture_failure\.py", line 5, in f',
        r'    raise Exception\("the real error"\)',
        r"Exception: the real error",
    ]
    expected = [
        rf"ray::f\(\) {where}",
        *raised,
        rf"ray::g\(\) {where}",
        r"  At least one of the input arguments for this task could not be computed:",
        rf"ray\.exceptions\.RayTaskError: ray::f\(\) {where}",
        *raised,
    ]
    assert len(stdout) == len(expected), stdout
    for pattern, line in zip(expected, stdout, strict=True):
        assert re.fullmatch(pattern, line)


def test_crashed_workers_are_retried_once_and_then_reported(run) -> None:
    stdout, stderr = run("retry_crashed_worker.py")
    assert len(stdout) == 3
    assert set(stdout) <= {"SUCCESS", "FAILURE"}
    ended = retries(stderr)
    assert stdout.count("FAILURE") <= len(ended) <= 3
    assert set(ended) <= {"worker exited with code 0"}


def test_exceptions_are_retried_once_if_asked_for_and_on_the_list(run) -> None:
    stdout, stderr = run("retry_exceptions.py")
    assert len(stdout) == 7
    first, refused, last = stdout[:3], stdout[3], stdout[4:]
    assert set(first) <= {"SUCCESS", "FAILURE"}
    assert refused == "FAILED AS EXPECTED"
    assert set(last) <= {"SUCCESS", "FAILURE AFTER RETRIES"}
    ended = retries(stderr)
    failed = first.count("FAILURE") + last.count("FAILURE AFTER RETRIES")
    assert failed <= len(ended) <= 6
    assert set(ended) <= {"raised RandomError: Failed!"}


# The tables that Ray's documentation shows after these programs, but for ids and the pid of the
# worker, a column that was added to them since.
COLUMNS = [
    "TASK_ID",
    "ATTEMPT_NUMBER",
    "NAME",
    "STATE",
    "JOB_ID",
    "ACTOR_ID",
    "TYPE",
    "FUNC_OR_CLASS_NAME",
    "PARENT_TASK_ID",
    "NODE_ID",
    "WORKER_ID",
    "WORKER_PID",
    "ERROR_TYPE",
]
DRIVER = "ffffffffffffffffffffffffffffffffffffffff01000000"
SHAPES = {
    "TASK_ID": r"[0-9a-f]{16}f{24}01000000",
    "ATTEMPT_NUMBER": r"\d",
    "NODE_ID": r"[0-9a-f]{56}",
    "WORKER_ID": r"[0-9a-f]{56}",
    "WORKER_PID": r"\d+",
    "ACTOR_ID": "",
    "JOB_ID": "01000000",
    "TYPE": "NORMAL_TASK",
    "PARENT_TASK_ID": DRIVER,
}


def aioray_list(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "aioray", "list", "tasks", *arguments],
        capture_output=True,
        check=True,
        env=ENVIRONMENT | {"RAY_TMPDIR": str(directory)},
        text=True,
        timeout=GUARD_SECONDS,
    )
    return done.stdout


def listed(directory: Path, *arguments: str) -> list[dict[str, str]]:
    """The rows of `aioray list tasks`, by column, after a program has ended."""
    lines = aioray_list(directory, *arguments).splitlines()
    assert re.fullmatch(r"=+ List: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} =+", lines[1])
    assert lines[2:4] == ["Stats:", "-" * 30]
    assert lines[5:8] == ["", "Table:", "-" * 30]
    head, *body = lines[8:-1]
    assert head.split() == COLUMNS
    assert lines[4] == f"Total: {len(body)}"
    found = json.loads(aioray_list(directory, *arguments, "--format", "json"))
    rows = [
        {column: str(row[column.lower()] or "") for column in COLUMNS}
        | {"ATTEMPT_NUMBER": str(row["attempt_number"])}
        for row in found
    ]
    for number, (row, line) in enumerate(zip(rows, body, strict=True)):
        assert line.split() == [str(number), *filter(None, row.values())]
        for column, shape in SHAPES.items():
            assert re.fullmatch(shape, row[column]), (column, row)
        assert row["NAME"] == row["FUNC_OR_CLASS_NAME"]
    assert rows == sorted(rows, key=lambda row: (row["TASK_ID"], int(row["ATTEMPT_NUMBER"])))
    return rows


def test_failed_tasks_are_listed_as_in_the_documentation(run, tmp_path) -> None:
    run("capture_failure.py")
    rows = listed(tmp_path)
    assert sorted(
        (row["NAME"], row["ATTEMPT_NUMBER"], row["STATE"], row["ERROR_TYPE"]) for row in rows
    ) == [
        ("f", "0", "FAILED", "TASK_EXECUTION_EXCEPTION"),
        ("f", "0", "FAILED", "TASK_EXECUTION_EXCEPTION"),
        ("g", "0", "FAILED", "TASK_EXECUTION_EXCEPTION"),
    ]
    assert len({row["TASK_ID"] for row in rows}) == 3
    assert len({row["NODE_ID"] for row in rows}) == 1


def test_attempts_of_a_task_are_listed_as_in_the_documentation(run, tmp_path) -> None:
    stdout, stderr = run("retry_crashed_worker.py")
    rows = listed(tmp_path)
    tasks = {row["TASK_ID"] for row in rows}
    assert len(tasks) == 3
    ends = []
    for task in tasks:
        *failed, last = mine = listed(tmp_path, "-f", f"task_id={task}")
        assert mine == [row for row in rows if row["TASK_ID"] == task]
        assert [row["ATTEMPT_NUMBER"] for row in mine] == ["0", "1"][: len(mine)]
        for row in failed:
            assert (row["STATE"], row["ERROR_TYPE"]) == ("FAILED", "WORKER_DIED")
        assert (last["STATE"], last["ERROR_TYPE"]) in {("FINISHED", ""), ("FAILED", "WORKER_DIED")}
        assert len({row["WORKER_ID"] for row in mine}) == len(mine)  # a dead worker's has no other
        ends.append("SUCCESS" if last["STATE"] == "FINISHED" else "FAILURE")
    assert sorted(ends) == sorted(stdout)
    assert len(rows) - len(tasks) == len(stderr)
