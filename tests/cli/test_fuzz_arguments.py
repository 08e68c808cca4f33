"""Any command line ends with a status of 0, 1 or 2 and a sentence, never in a traceback."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING
from unittest import mock

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.cli import aioray
from aioray.cli.common import Target
from aioray.state.read.sessions import Session
from aioray.state.write.history import FILE
from tests.cli.invoking import invoke
from tests.cli.test_glances import LIVE, OBJECTS
from tests.shared.fuzzing import ODD_NUMBERS, fuzzed, odd_text
from tests.state.history import a_session, actor_id, creation, group_id, worker_id
from tests.state.test_damage import IMAGE, NAME

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result
    from hypothesis.strategies import DrawFn, SearchStrategy

REAL_SLEEP = time.sleep
HARMFUL = {"alias", "run"}  # the one changes the environment, the other starts programs
NAMES = sorted({*aioray.list_commands(None), "start", "stop"} - HARMFUL)
WORDS = (
    *(creation(1).hex(), actor_id(1), actor_id(2), worker_id(2), group_id(1), "1001", "steps"),
    *("state=FAILED", "state!=x", "name=", "pid=1001", "required_resources=x", "is_alive=maybe"),
    *(f"pid={number}" for number in ODD_NUMBERS),
    *("-f", "--filter", "--format", "--limit", "--", "-h", "--tail", "--help", "--detail"),
)


def paths(name: str, command: click.Command) -> list[tuple[list[str], click.Command]]:
    """The command, and those below it."""
    found = [([name], command)]
    if isinstance(command, click.Group):
        below = ((each, command.commands[each]) for each in command.commands)
        found += [([name, *path], each) for one, at in below for path, each in paths(one, at)]
    return found


ALL = [
    each for name in NAMES for each in paths(name, aioray.get_command(click.Context(aioray), name))
]


def values_of(parameter: click.Parameter) -> SearchStrategy[str]:
    kinds: list[SearchStrategy[str]] = [odd_text, st.sampled_from(WORDS)]
    kind = parameter.type
    if isinstance(kind, click.Choice):
        kinds += [st.sampled_from(kind.choices).map(str)] * 4
    elif kind.name.startswith(("int", "float")):
        numbers = (*ODD_NUMBERS, 3, 10)
        kinds += [st.sampled_from(numbers).map(str)] * 2
    elif isinstance(kind, click.Path):  # nothing is written elsewhere
        return st.sampled_from(("-", "file.json", "a\x1b[2Jb", "no/such/folder", ".", "\ud800"))
    return st.one_of(kinds)


@st.composite
def command_lines(draw: DrawFn) -> list[str]:
    path, command = draw(st.sampled_from(ALL))
    arguments = list(path)
    for _ in range(draw(st.integers(0, 5))):
        parameters = command.params
        if not parameters or draw(st.integers(0, 5)) == 0:
            arguments.append(draw(odd_text | st.sampled_from(WORDS)))
            continue
        parameter = draw(st.sampled_from(parameters))
        if isinstance(parameter, click.Option):
            arguments.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
            if parameter.is_flag and draw(st.booleans()):
                continue
        arguments.append(draw(values_of(parameter)))
    return arguments


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the only session; files are written nowhere else."""
    path = tmp_path / f"aioray-{os.getuid()}" / NAME
    path.mkdir(parents=True, mode=0o700)
    (path / "lock").touch()
    (path / FILE).write_bytes(IMAGE)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("time.sleep", lambda seconds: REAL_SLEEP(min(seconds, 0.0)))
    return path


def living(folder: Path) -> Session:
    """Pretend that the session goes on, and answers."""
    stacks = [{"worker_type": "DRIVER", "pid": 1000, "problem": "It is stopped.", "running": []}]
    answer = {**LIVE, "tasks": a_session().live["tasks"], "objects": OBJECTS, "stacks": stacks}
    return Session(NAME, str(folder), alive=True, pid=1000, ask=lambda _request, _time: {**answer})


def run(arguments: list[str], session: Session | None = None) -> Result:
    """Run a command; session: what is found, whatever is asked for."""
    with contextlib.ExitStack() as stack:
        if session is not None:
            stack.enter_context(mock.patch.object(Target, "session", return_value=session))
        return invoke(aioray, arguments, prog_name="aioray")


@fuzzed(150)
@given(command_lines(), st.booleans())
def test_any_command_line_ends_well(folder: Path, arguments: list[str], alive: bool) -> None:
    result = run(arguments, living(folder) if alive else None)
    said = (arguments, result.stdout, result.stderr)
    assert result.exception is None or isinstance(result.exception, SystemExit), said
    assert result.exit_code in (0, 1, 2), said
    if result.exit_code:
        assert result.stderr.strip(), said
