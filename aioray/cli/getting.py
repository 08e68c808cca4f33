"""`aioray get`: all there is to tell of one thing.

Room: cli.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aioray.cli import render
from aioray.cli.common import session_options
from aioray.cli.listing import BY_COMMAND, wanted_of
from aioray.shared.printable import printable
from aioray.state.read.queries import get_rows

if TYPE_CHECKING:
    from aioray.cli.common import Target

__all__ = ["command"]

_WITHOUT_ID = ("jobs", "runtime-envs")  # as in Ray
_NAMES = ["actors", *(name for name in BY_COMMAND if name not in {"actors", *_WITHOUT_ID})]


@click.command(name="get")
@click.argument("resource", type=click.Choice(_NAMES))
@click.argument("id", required=False)
@session_options
def command(*, resource: str, id: str | None, target: Target) -> None:  # noqa: A002 - its name in help
    """Tell all about the one thing of RESOURCE that has this ID.

    \b
    aioray get tasks 16310a0f0a45af5cffffffffffffffffffffffff01000000
    aioray get actors 21978f58df3c4ed22e0f8a9e01000000

    A task that was retried is told attempt by attempt.
    """  # noqa: D301 - click wants the character
    if id is None:
        raise click.UsageError(f"Missing argument 'ID'. Do you mean 'aioray list {resource}'?")
    kind = BY_COMMAND[resource]
    with target.view(*wanted_of(kind.name)) as view:
        rows = get_rows(view, kind.name, id)
    if rows:
        render.print_rows(kind, rows, form="yaml", detail=True)
    else:
        click.echo(f"Resource with id={printable(id)} not found in the cluster.")
