"""Three programs written for Ray, kept as they are in programs/, run on aioray unmodified."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aioray

PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    "PYTHONPATH": str(Path(aioray.__file__).parent.parent),
}
GUARD_SECONDS = 50
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
            env=ENVIRONMENT,
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
