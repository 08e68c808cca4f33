"""`aioray timeline`: a file for chrome://tracing and ui.perfetto.dev.

Room: cli. What stands in it is decided in `aioray.state.read.timeline`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from aioray.cli.common import session_options
from aioray.cli.render import as_json
from aioray.shared.printable import printable
from aioray.state.read.timeline import trace

if TYPE_CHECKING:
    from aioray.cli.common import Target

__all__ = ["command"]


@click.command(name="timeline")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Where to write it; - is standard output. By default a new file in this directory.",
)
@session_options
def command(*, output: str | None, target: Target) -> None:
    """Write what ran when, as a trace for Perfetto or Chrome.

    Open the file at https://ui.perfetto.dev or in chrome://tracing.
    """
    with target.view() as view:
        events = trace(view)
    path = output or f"aioray-timeline-{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    try:
        with click.open_file(path, "w", encoding="utf-8") as file:
            file.write(as_json(events))
    except OSError as error:
        raise click.ClickException(f"Cannot write {path}: {error.strerror}.") from error
    if path == "-":
        return
    click.echo(f"Trace file written to {printable(os.path.abspath(path))}")
    click.echo("Open it at https://ui.perfetto.dev or in chrome://tracing.")
