"""The snippets of README and guide do what they say: each is run, and its output compared.

A comment before a block says what it is. `file: NAME` is a program. `output: COMMAND` is what the
command prints, on stdout and stderr together, line after line; only lines of workers may stand
anywhere, and lines of the engine on several tasks may change places, because these meet by chance.
`session: NAME` is a shell's: commands, each after a `$`, run one after the other, with what each
one prints. What differs from run to run is blanked out. `recorded: HOW` is a picture of a terminal,
and not run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path

import psutil
import pytest

import aioray
from aioray.cli.guide import CHAPTERS

ROOT = Path(__file__).parents[2]
GUARD_SECONDS = 250
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_TMPDIR"},
    # Else print() writes a line and its end apart, and what workers print may come in between.
    "PYTHONUNBUFFERED": "",
    "PYTHONPATH": str(Path(aioray.__file__).parent.parent),
}
INTERPRETERS = {"python": [sys.executable], "aioray": [sys.executable, "-m", "aioray"]}

BLOCK = re.compile(
    r"^(?:<!-- (file|output|session|recorded): ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Document:
    """The README or a chapter, with its snippets."""

    def __init__(self, path: Path) -> None:
        self.blocks = BLOCK.findall(path.read_text(encoding="utf-8"))

    def _of_kind(self, wanted: str) -> dict[str, str]:
        return {name: body for kind, name, _, body in self.blocks if kind == wanted}

    @cached_property
    def programs(self) -> dict[str, str]:
        """By file."""
        return self._of_kind("file")

    @cached_property
    def outputs(self) -> dict[str, str]:
        """By command."""
        outputs = self._of_kind("output")
        return {k: v for k, v in outputs.items() if not k.startswith("curl ")}

    @cached_property
    def served(self) -> dict[str, str]:
        """By service."""
        outputs = self._of_kind("output")
        return {k[5:]: v for k, v in outputs.items() if k.startswith("curl ")}

    @cached_property
    def sessions(self) -> dict[str, str]:
        return self._of_kind("session")


DOCUMENTS = {
    "README": Document(ROOT / "README.md"),
    **{name: Document(ROOT / "aioray" / "guide" / f"{name}.md") for name in CHAPTERS},
}
OUTPUTS = [(name, command) for name, document in DOCUMENTS.items() for command in document.outputs]
SESSIONS = [(name, title) for name, document in DOCUMENTS.items() for title in document.sessions]
SERVED = [(name, service) for name, document in DOCUMENTS.items() for service in document.served]
RECORDED = {"crawl.py"}  # on a terminal

# A line goes out when it is written, and not with the last one: else what stderr has is first.
LINE_BY_LINE = """import os, sys
os.environ["PYTHONPATH"] = {path!r}  # for this process alone
sys.stdout.reconfigure(line_buffering=True)
"""

VARYING = [
    (r"pid[= ]\d+", "pid=N"),
    (r"\b[0-9a-f]{16,56}\b", "ID"),
    (r"0x[0-9a-f]+", "ADDRESS"),
    (r"after \d[\d.e-]* s", "after N s"),
    (r'File "[^"]*/', 'File "'),
    (r'(ctypes/)?__init__\.py", line \d+', '__init__.py", line N'),
    ("integer division or modulo by zero", "division by zero"),  # 3.14 says less
    (r"(?<=ADDRESS) \[.*\](?= \(most recent)", ""),  # and more of threads, and the C stack
    (r"\n *Current thread's C stack.*(\n *Binary file .*)+", ""),
]


TABLES = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"(?<=ID)  +\d{2,}", "  PID"),  # after that of a worker
    (r" {2,}", "  "),  # columns are as wide as what is in them
]


BY_WORKERS = re.compile(r"\(\S+ pid=N\) ")
BY_THE_ENGINE = re.compile(r"Task \S+ failed\. There are |Actor \S+ \(ID\) is made again")


def comparable(text: str) -> tuple[list[str], list[str]]:
    """The lines of the driver in their order, and those of workers, which come in by chance."""
    for pattern, blank in VARYING + TABLES:
        text = re.sub(pattern, blank, text)
    lines = [line for line in text.splitlines() if not line.startswith("$ ")]
    own: list[str] = []
    runs = itertools.groupby(
        (line for line in lines if not BY_WORKERS.match(line)),
        lambda line: BY_THE_ENGINE.match(line) is not None,
    )
    for by_the_engine, run in runs:
        own += sorted(run) if by_the_engine else run
    return own, sorted(filter(BY_WORKERS.match, lines))


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "b\na\n", False),
        ("a\nb\n", "a\n", False),
        ("a\n(f pid=1) x\n(f pid=1) y\n", "(f pid=2) y\n(f pid=3) x\na\n", True),
        ("a\n(f pid=1) x\n", "a\n(f pid=1) y\n", False),
        (
            "Task f failed. There are 1\nTask g failed. There are 1\na\n",
            "Task g failed. There are 1\nTask f failed. There are 1\na\n",
            True,
        ),
        ("Task f failed. There are 1\na\n", "a\nTask f failed. There are 1\n", False),
    ],
)
def test_outputs_are_compared_in_their_order(shown: str, printed: str, alike: bool) -> None:
    assert (comparable(shown) == comparable(printed)) == alike


@pytest.fixture
def document(name: str) -> Document:
    return DOCUMENTS[name]


@pytest.fixture
def directory(document: Document, tmp_path: Path) -> Path:
    for file, body in document.programs.items():
        (tmp_path / file).write_text(body, encoding="utf-8")
    (tmp_path / "aioray").symlink_to(ROOT / "aioray")
    return tmp_path


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """In which programs write line by line."""
    folder, path = tmp_path_factory.mktemp("site"), ENVIRONMENT["PYTHONPATH"]
    (folder / "sitecustomize.py").write_text(LINE_BY_LINE.format(path=path))
    return {**ENVIRONMENT, "PYTHONPATH": f"{folder}:{path}"}


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


@pytest.mark.parametrize(("name", "title"), SESSIONS)
def test_commands_of_a_session_print_what_is_shown(title, document, directory, environment) -> None:
    folder = directory / "bin"
    folder.mkdir()
    for program, interpreter in INTERPRETERS.items():
        script = folder / program
        script.write_text(f'#!/bin/sh\nexec {shlex.join(interpreter)} "$@"\n')
        script.chmod(0o755)
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    environment["RAY_TMPDIR"] = str(directory)
    for command, expected in commands_of(document.sessions[title]).items():
        printed = printed_by(["sh", "-c", command], directory, environment)
        assert comparable(printed) == comparable(expected), command


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_program_is_shown_with_its_output(document: Document) -> None:
    sessions = [line for body in document.sessions.values() for line in commands_of(body)]
    ran = {word for command in [*document.outputs, *sessions] for word in shlex.split(command)}
    others = {*(f"{service}.py" for service in document.served), *RECORDED}
    assert set(document.programs) <= ran | others
    assert all(
        kind or language in {"mermaid", "sh", "text"} for kind, _, language, _ in document.blocks
    )


@pytest.mark.parametrize(("name", "command"), OUTPUTS)
def test_program_prints_what_is_shown(command, document, directory, environment) -> None:
    expected = document.outputs[command]
    program, *arguments = shlex.split(command)
    printed = printed_by([*INTERPRETERS[program], *arguments], directory, environment)
    if "| tail -1" in expected:
        printed = printed.splitlines()[-1]
    assert comparable(printed) == comparable(expected)


@pytest.mark.parametrize(("name", "command"), OUTPUTS)
def test_command_shown_is_the_one_that_runs(command: str, document: Document) -> None:
    shown = document.outputs[command].splitlines()[0]
    if shown.startswith("$ "):
        assert shown.removesuffix(" 2>&1 | tail -1") == f"$ {command}"


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=GUARD_SECONDS) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


CURL = re.compile(r"curl -sL? '?localhost:8000([^\s']+)'?(?: \| grep \^(\w+))?")


@pytest.mark.parametrize(("name", "service"), SERVED)
def test_service_answers_as_shown_and_leaves_nothing_after_sigterm(
    service, document, directory
) -> None:
    command = [sys.executable, "-m", "uvicorn", f"{service}:app", "--port", "0"]
    with subprocess.Popen(
        command, cwd=directory, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as server:
        workers: list[psutil.Process] = []
        try:
            assert server.stderr is not None
            log = iter(server.stderr.readline, "")
            port = next(m[1] for line in log if (m := re.search(r"http://[\d.]+:(\d+)", line)))
            for asked, expected in commands_of(document.served[service]).items():
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
