"""What commands print of the session that never ran. `python -m tests.cli.cases` writes it anew.

Look at the difference that git shows before you keep it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from aioray.cli import aioray, render
from aioray.cli.common import Target
from aioray.state.read.columns import RESOURCES
from tests.cli.invoking import invoke
from tests.state.history import History, a_session, actor_id, creation, group_id, worker_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

    from aioray.state.read.view import View

GOLDEN = Path(__file__).parent / "golden" / "commands"
NOW = "2026-11-18 11:06:45.678901"
RETRIED = "69a6825d641b4613ffffffffffffffffffffffff01000000"

_LIST = {
    "": [],
    "-yaml": ["--format", "yaml"],
    "-json": ["--format", "json"],
    "-detail": ["--detail"],
    "-detail-table": ["--detail", "--format", "table"],
}
CASES: dict[str, list[str]] = {
    **{
        f"list-{resource.command}{suffix}": ["list", resource.command, *options]
        for resource in RESOURCES.values()
        for suffix, options in _LIST.items()
    },
    "list-tasks-failed": ["list", "tasks", "-f", "state=failed", "-f", "name!=G"],
    "list-tasks-limit": ["list", "tasks", "--limit", "2"],
    "list-tasks-none": ["list", "tasks", "-f", "name=nobody", "--format", "json"],
    "list-tasks-contradiction": ["list", "tasks", "-f", "state=FAILED", "-f", "state=FINISHED"],
    "get-tasks-retried": ["get", "tasks", RETRIED.upper()],
    "get-tasks-creation": ["get", "tasks", creation(1).hex()],
    "get-tasks-missing": ["get", "tasks", "ab" * 24],
    "get-actors": ["get", "actors", actor_id(2)],
    "get-workers": ["get", "workers", worker_id(2)],
    "get-placement-groups": ["get", "placement-groups", group_id(1)],
    "summary-tasks": ["summary", "tasks"],
    "summary-actors": ["summary", "actors"],
    "summary-objects": ["summary", "objects"],
    "timeline": ["timeline", "--output", "-"],
}
AFTER: dict[str, list[str]] = {
    f"ended-list-{name}": ["list", name] for name in ("tasks", "actors", "workers", "jobs", "nodes")
} | {"ended-list-objects": ["list", "objects"], "ended-summary-objects": ["summary", "objects"]}


class FakeSession:
    """Looks like a session, and tells what a history says."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.asked: list[tuple[str, ...]] = []

    @contextlib.contextmanager
    def view(self, want: tuple[str, ...] = (), timeout: float = 30.0) -> Iterator[View]:
        self.asked.append(want)
        yield self.history.view()


@contextlib.contextmanager
def in_utc() -> Iterator[None]:
    with mock.patch.dict(os.environ, {"TZ": "UTC"}):
        time.tzset()
        yield
    time.tzset()


def run(arguments: list[str], history: History, **patches: Any) -> Result:
    """Run a command line against a history, at a fixed moment."""
    session = FakeSession(history)
    with (
        in_utc(),
        mock.patch.object(Target, "session", return_value=session),
        mock.patch.object(render, "now", return_value=NOW),
        contextlib.ExitStack() as stack,
    ):
        for name, value in patches.items():
            stack.enter_context(mock.patch.object(render, name, value))
        return invoke(aioray, arguments, prog_name="aioray")


def ended() -> History:
    """The session, killed while things were going on."""
    made = a_session()
    made.alive = False
    return made


def printed(name: str) -> str:
    result = run(AFTER[name], ended()) if name in AFTER else run(CASES[name], a_session())
    text = f"$ aioray {' '.join((CASES | AFTER)[name])}\n=== exit {result.exit_code}\n"
    text += f"=== stdout\n{result.stdout}=== stderr\n{result.stderr}"
    return text


def write_all() -> None:
    for old in GOLDEN.glob("*.txt"):
        old.unlink()
    for name in CASES | AFTER:
        (GOLDEN / f"{name}.txt").write_text(printed(name))


if __name__ == "__main__":
    write_all()
