"""Whatever tasks, actors and errors are called, no terminal is steered and no line is forged."""

from __future__ import annotations

import os
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.cli import aioray, render
from aioray.state.schema import VERSION
from aioray.state.write.history import FILE
from tests.cli.invoking import invoke
from tests.shared.fuzzing import fuzzed, odd_text
from tests.state.history import History, actor_id, creation, group_id
from tests.state.test_damage import NAME

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = [
    *(["list", name] for name in ("tasks", "actors", "workers", "cluster-events", "jobs")),
    *(["list", name, "--detail"] for name in ("tasks", "actors", "workers", "placement-groups")),
    *(["list", name, "--format", "json"] for name in ("tasks", "actors", "nodes")),
    ["list", "tasks", "--detail", "--format", "table"],
    ["list", "runtime-envs"],
    ["get", "tasks", creation(1).hex()],
    ["get", "actors", actor_id(1)],
    ["summary", "tasks"],
    ["summary", "actors"],
    ["status", "-v"],
    ["sessions"],
    ["timeline", "-o", "-"],
    ["logs"],
    ["logs", "task", creation(1).hex()],
    ["logs", "actor", actor_id(1)],
]
STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"))


def steers(text: str) -> str:
    """What of a text is not for a line, but breaks of lines."""
    return "".join(c for c in text if c != "\n" and unicodedata.category(c) in STEERING)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the only session, without a history."""
    path = tmp_path / f"aioray-{os.getuid()}" / NAME
    path.mkdir(parents=True, mode=0o700)
    (path / "lock").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return path


def history_of(text: str) -> bytes:
    """A history in which everything that somebody can name is called so."""
    made = History()
    made.meta(
        entrypoint=text,
        namespace=text,
        metadata={text: text},
        runtime_env={"env_vars": {text: text}},
    )
    made.worker(1, launched=0.1, forked=0.2, ready=0.3, actor_id=actor_id(1))
    made.worker(2, launched=0.1, forked=0.2, ready=0.3, ended=0.5, exit_type=text, exit_detail=text)
    environment = {"env_vars": {text: text}}
    named = {"func_or_class_name": text, "runtime_env": environment, "call_site": text}
    task = made.signature(
        text, **named, required_resources={text: 1.0}, label_selector={text: text}
    )
    makes = made.signature(text, type="ACTOR_CREATION_TASK", **named, actor_id=actor_id(1))
    times = {"created": 1.0, "ready": 1.0, "sent": 1.0, "started": 1.0, "ended": 2.0}
    made.attempt(task, 1, worker=2, seq=1, **times, error_type=text, error_message=text)
    made.attempt(makes, creation(1), worker=1, seq=1, **times)
    death = {"reason": text, "error_message": text}
    more = {"serialized_runtime_env": environment, "ray_namespace": text, "call_site": text}
    made.actor(1, text, "ALIVE", name=text, repr_name=text, worker=1, pid=1001, **more)
    made.actor(2, text, "DEAD", name=text, death_cause=death, **more)
    made.entity(
        "placement_group",
        group_id(1),
        placement_group_id=group_id(1),
        name=text,
        creator_job_id=text,
        state=text,
        bundles=[{text: text}],
        stats={text: text},
    )
    made.event(1.0, text, text, text)
    made.output(1, 1, 1, b"printed\n")
    made.connection.execute(f"PRAGMA user_version = {VERSION}")
    with closing(made.connection):
        return made.connection.serialize()


texts = (
    st.tuples(odd_text, odd_text)
    .map("".join)
    .map(
        lambda text: text.encode("utf-8", "backslashreplace").decode()  # SQLite takes no surrogates
    )
)


@fuzzed(15)
@given(texts, st.booleans(), st.sampled_from((20, 80, 400)))
def test_no_name_steers_a_terminal(folder: Path, text: str, terminal: bool, width: int) -> None:
    (folder / FILE).write_bytes(history_of(text))
    with (
        mock.patch.object(render, "on_terminal", return_value=terminal),
        mock.patch.dict(os.environ, {"COLUMNS": str(width), "NO_COLOR": "1", "TERM": "dumb"}),
    ):
        for arguments in COMMANDS:
            result = invoke(aioray, arguments, prog_name="aioray")
            said = (arguments, result.stdout, result.stderr)
            assert result.exception is None or isinstance(result.exception, SystemExit), said
            assert result.exit_code == 0, said
            assert not steers(result.stdout), said
            assert not steers(result.stderr), said
