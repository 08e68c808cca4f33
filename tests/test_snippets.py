"""The snippets of README.md do what it says: each is run, and its output compared.

A comment before a block says what it is. `file: NAME` is a program. `output: COMMAND` is what the
command prints, on stdout and stderr together; the order of lines is not compared, because the two
streams and the output of workers meet by chance. `session: NAME` is a shell's: commands, each after
a `$`, run one after the other, with what each one prints. What differs from run to run is blanked
out. `recorded: HOW` is a picture of a terminal, and not run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

import aioray

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUARD_SECONDS = 250
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_TMPDIR"},
    # Else print() writes a line and its end apart, and what workers print may come in between.
    "PYTHONUNBUFFERED": "",
    "PYTHONPATH": str(Path(aioray.__file__).parent.parent),
}
INTERPRETERS = {"python": [sys.executable], "aioray": [sys.executable, "-m", "aioray"]}

BLOCKS = re.findall(
    r"^(?:<!-- (file|output|session|recorded): ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$",
    README,
    re.MULTILINE | re.DOTALL,
)
PROGRAMS = {name: body for kind, name, _, body in BLOCKS if kind == "file"}
OUTPUTS = {command: body for kind, command, _, body in BLOCKS if kind == "output"}
SESSIONS = {name: body for kind, name, _, body in BLOCKS if kind == "session"}
SERVED = {  # by service
    command.removeprefix("curl "): OUTPUTS.pop(command)
    for command in tuple(OUTPUTS)
    if command.startswith("curl ")
}
RECORDED = {"crawl.py"}  # on a terminal

VARYING = [
    (r"pid[= ]\d+", "pid=N"),
    (r"\b[0-9a-f]{16,56}\b", "ID"),
    (r"0x[0-9a-f]+", "ADDRESS"),
    (r"after \d[\d.e-]* s", "after N s"),
    (r'File "[^"]*/', 'File "'),
    (r'(ctypes/)?__init__\.py", line \d+', '__init__.py", line N'),
]


TABLES = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"(?<=ID)  +\d{2,}", "  PID"),  # after that of a worker
    (r" {2,}", "  "),  # columns are as wide as what is in them
]


def comparable(text: str) -> list[str]:
    for pattern, blank in VARYING + TABLES:
        text = re.sub(pattern, blank, text)
    return sorted(line for line in text.splitlines() if not line.startswith("$ "))


@pytest.fixture
def directory(tmp_path):
    for name, body in PROGRAMS.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    (tmp_path / "aioray").symlink_to(ROOT / "aioray")
    return tmp_path


def printed_by(command: list[str], directory: Path, environment: dict[str, str]) -> str:
    """What a command prints on stdout and stderr together."""
    return subprocess.run(
        command,
        check=False,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=GUARD_SECONDS,
    ).stdout


def commands_of(body: str) -> dict[str, str]:
    """The commands of a shell's session, and what each one prints."""
    steps = re.split(r"^\$ (.*)\n", body, flags=re.MULTILINE)
    return dict(zip(steps[1::2], steps[2::2], strict=True))


@pytest.mark.parametrize("name", SESSIONS)
def test_commands_print_what_the_readme_shows(name, directory) -> None:
    folder = directory / "bin"
    folder.mkdir()
    for program, interpreter in INTERPRETERS.items():
        script = folder / program
        script.write_text(f'#!/bin/sh\nexec {shlex.join(interpreter)} "$@"\n')
        script.chmod(0o755)
    environment = {
        **ENVIRONMENT,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "RAY_TMPDIR": str(directory),
    }
    for command, expected in commands_of(SESSIONS[name]).items():
        printed = printed_by(["sh", "-c", command], directory, environment)
        assert comparable(printed) == comparable(expected), command


def test_every_program_is_shown_with_its_output() -> None:
    commands = [*OUTPUTS, *(line for body in SESSIONS.values() for line in commands_of(body))]
    ran = {word for command in commands for word in shlex.split(command)}
    assert set(PROGRAMS) - ran == {*(f"{name}.py" for name in SERVED), *RECORDED}
    assert all(kind or language in {"sh", "text"} for kind, _, language, _ in BLOCKS)


@pytest.mark.parametrize("command", OUTPUTS)
def test_program_prints_what_the_readme_shows(command, directory) -> None:
    program, *arguments = shlex.split(command)
    printed = printed_by([*INTERPRETERS[program], *arguments], directory, ENVIRONMENT)
    if "| tail -1" in OUTPUTS[command]:
        printed = printed.splitlines()[-1]
    assert comparable(printed) == comparable(OUTPUTS[command])


def test_commands_shown_are_those_that_run() -> None:
    for command, body in OUTPUTS.items():
        if body.startswith("$ "):
            assert body.splitlines()[0].removesuffix(" 2>&1 | tail -1") == f"$ {command}"


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=GUARD_SECONDS) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


CURL = re.compile(r"curl -sL? '?localhost:8000([^\s']+)'?(?: \| grep \^(\w+))?")


@pytest.mark.parametrize("name", SERVED)
def test_service_answers_as_shown_and_leaves_nothing_after_sigterm(name, directory) -> None:
    command = [sys.executable, "-m", "uvicorn", f"{name}:app", "--port", "0"]
    with subprocess.Popen(
        command, cwd=directory, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as server:
        workers: list[psutil.Process] = []
        try:
            assert server.stderr is not None
            log = iter(server.stderr.readline, "")
            port = next(m[1] for line in log if (m := re.search(r"http://[\d.]+:(\d+)", line)))
            for asked, expected in commands_of(SERVED[name]).items():
                request = CURL.fullmatch(asked)
                assert request, asked
                answer = fetch(f"http://127.0.0.1:{port}{request[1]}")
                if request[2]:
                    lines = [line for line in answer.splitlines() if line.startswith(request[2])]
                    assert lines == expected.splitlines()
                else:
                    assert json.loads(answer) == json.loads(expected)
            workers = psutil.Process(server.pid).children(recursive=True)
            assert workers
            server.send_signal(signal.SIGTERM)
            assert "Application shutdown complete" in server.stderr.read()
            server.wait(GUARD_SECONDS)
            _, alive = psutil.wait_procs(workers, timeout=GUARD_SECONDS)
            assert not alive
        finally:
            server.kill()
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
