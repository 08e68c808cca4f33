"""`aioray sessions`: which sessions there are and were.

Room: cli.
"""

from __future__ import annotations

import time

import click

from aioray.cli.common import answering
from aioray.shared.printable import printable
from aioray.state.folders import root_folder
from aioray.state.read.sessions import meta_of, sessions

__all__ = ["command"]


@click.command(name="sessions")
@click.option("--temp-dir", metavar="DIR", help="What the programs gave to init as _temp_dir.")
def command(*, temp_dir: str | None) -> None:
    """List the sessions of this user on this machine, the newest first.

    The other commands take a name from here, or a pid, as --session; else the newest is meant.
    """
    with answering():
        found = sessions(temp_dir)
    if not found:
        click.echo(f"No session in {printable(root_folder(temp_dir))}")
        return
    rows = [("SESSION", "PID", "STATE", "STARTED", "LASTED", "PROGRAM")]
    for session in found:
        meta = meta_of(session)
        started, ended = meta.get("started_at"), meta.get("ended_at")
        state = "running" if session.alive else "ended" if ended else "killed"
        rows.append(
            (
                session.name,
                str(session.pid),
                state if meta else f"{state}, no history",
                "" if started is None else _day(started),
                _duration(started, time.time() if session.alive else ended),
                meta.get("entrypoint", ""),
            )
        )
    table = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _duration(started: float | None, ended: float | None) -> str:
    if started is None or ended is None:
        return ""
    seconds = ended - started
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
