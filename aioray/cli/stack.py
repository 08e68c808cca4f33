"""`aioray stack`: where every process of a running session is right now.

Room: cli. What it prints was collected by the driver, see `aioray.engine.processes.stacks`; only
the source lines are read here.
"""

from __future__ import annotations

import contextlib
import linecache
import time
from typing import TYPE_CHECKING, Any

import click

from aioray.shared.printable import printable
from aioray.state.read.sessions import BlockedSessionError

from .common import answering, session_options
from .figures import span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .common import Target

__all__ = ["command", "render"]

LOOP_SECONDS = 4.0  # after which the driver's loop is taken to be blocked; workers have 2


@click.command(name="stack")
@click.option("--full", is_flag=True, help="Show aioray's own frames and idle threads too.")
@session_options
def command(target: Target, *, full: bool) -> None:
    """Print the Python stacks of all workers and of the driver, also of those that are stuck."""
    session = target.session()
    if not session.alive:
        raise click.ClickException(
            f"The session {session.name} has ended: there are no processes to look at."
        )
    with answering():
        try:
            rows = session.ask("stacks", min(target.timeout, LOOP_SECONDS))
        except BlockedSessionError as error:
            rows = [
                {
                    "worker_type": "DRIVER",
                    "pid": session.pid,
                    "running": [],
                    "threads": error.threads,
                    "calls": [],
                    "problem": None,
                }
            ]
            click.echo(
                "The driver's event loop is blocked, so its workers cannot be asked. This is where "
                "it is:",
                err=True,
            )
    click.echo(render(rows or [], time.time(), full=full))


def render(rows: Sequence[dict[str, Any]], now: float, *, full: bool = False) -> str:
    """Write the answer. now: Unix time. full: nothing is left out."""
    order = {"DRIVER": 0, "WORKER": 1}
    found = sorted(rows, key=lambda row: (order[row["worker_type"]], row.get("number", 0)))
    return "\n\n".join(
        "\n".join(printable(line, "\t") for line in _process(row, now, full=full)) for row in found
    )


def _process(row: dict[str, Any], now: float, *, full: bool) -> Iterator[str]:
    kind = row["worker_type"].capitalize()
    worker = f", worker {row['worker_id']}" if row.get("worker_id") else ""
    yield f"{kind}: pid {row['pid']}{worker}"
    for task in row["running"]:
        which = f"task {task['task_id']}"
        if task["attempt_number"]:
            which += f", attempt {task['attempt_number']}"
        yield f"  runs {task['name']} for {span(now - task['since'])} ({which})"
    if row["problem"]:
        yield f"  {row['problem']}"
        return
    names = {task["seq"]: task["name"] for task in row["running"]}
    shown = False
    for thread in row["threads"]:
        title = f"thread {thread['name']}" if thread["name"] else "thread"
        for line in _frames(title, thread, full=full):
            shown = True
            yield line
    for call in row["calls"]:
        title = f"{names.get(call['seq'], 'call')} waits"
        for line in _frames(title, call, full=full):
            shown = True
            yield line
    if not shown:
        yield "  idle"


def _frames(title: str, item: dict[str, Any], *, full: bool) -> Iterator[str]:
    frames: Iterable[Any] = item["all_frames" if full else "frames"]
    if not frames:
        return
    yield f"  {title}:"
    for file, line, function in frames:
        yield f'    File "{file}", line {line}, in {function}'
        source = ""
        with contextlib.suppress(ValueError):  # `compile` takes names that no file can have
            source = linecache.getline(file, line).strip()
        if source:
            yield f"      {source}"
