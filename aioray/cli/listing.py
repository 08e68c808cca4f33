"""`aioray list`: rows of a resource.

Room: cli. Which rows is decided in `aioray.state.read.queries`, how they look in `render`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aioray.cli import render
from aioray.cli.common import answering, session_options
from aioray.state.read.columns import RESOURCES
from aioray.state.read.filters import DEFAULT_LIMIT, check_key, parse_filter
from aioray.state.read.queries import list_rows

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from aioray.cli.common import Target

__all__ = ["BY_COMMAND", "GONE", "command", "wanted_of"]

GONE = "The session has ended, and its objects with it."

BY_COMMAND = {resource.command: resource for resource in RESOURCES.values()}


def wanted_of(resource: str) -> tuple[str, ...]:
    """Return what to ask of a living session for the rows of this resource."""
    return ("objects",) if resource == "objects" else ()


def _complete_filter(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete keys up to the predicate, then the values of columns that have a fixed set."""
    from click.shell_completion import CompletionItem

    # An option without its value stops click before it comes to arguments: they are in `args`.
    names = [ctx.params.get("resource"), *ctx.args]
    resource = next((BY_COMMAND[name] for name in names if name in BY_COMMAND), None)
    if resource is None:
        return []
    before, sign, _ = incomplete.partition("=")
    if not sign:
        keys = [column.name for column in resource.columns if column.filterable]
        return [CompletionItem(f"{key}=") for key in keys if key.startswith(before.lower())]
    column = resource.column(before.removesuffix("!"))
    if column is None:
        return []
    choices = column.choices or (("true", "false") if column.kind == "bool" else ())
    values = [f"{before}={choice}" for choice in choices]
    return [CompletionItem(v) for v in values if v.lower().startswith(incomplete.lower())]


@click.command(name="list")
@click.argument("resource", type=click.Choice(list(BY_COMMAND)))
@click.option(
    "--format",
    "form",
    type=click.Choice(["default", "json", "yaml", "table"]),
    default="default",
    help="How to print it. By default a table, and yaml with --detail.",
)
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows that match: KEY=VALUE or KEY!=VALUE, without regard to case. "
    "Several of them must all match.",
    shell_complete=_complete_filter,
)
@click.option(
    "--limit",
    type=int,
    default=DEFAULT_LIMIT,
    show_default=True,
    help="Rows at most.",
)
@click.option("--detail", is_flag=True, help="Tell all there is to tell.")
@session_options
def command(
    *,
    resource: str,
    form: str,
    filters: tuple[str, ...],
    limit: int,
    detail: bool,
    target: Target,
) -> None:
    """List what there is, and was, of RESOURCE in a session.

    \b
    aioray list tasks
    aioray list tasks -f state=FAILED -f name=f
    aioray list actors --detail
    aioray list objects --format json

    Works while the program runs and after it has ended. There is a row for each attempt of a task.
    """  # noqa: D301 - click wants the character
    kind = BY_COMMAND[resource]
    with answering():
        wanted = [parse_filter(text) for text in filters]
        for one in wanted:
            check_key(kind, one.key)
    with target.view(*wanted_of(kind.name)) as view:
        answer = list_rows(view, kind.name, wanted, limit=limit, detail=detail)
        gone = kind.name == "objects" and not view.alive
    for warning in (*answer.warnings, *((GONE,) if gone else ())):
        render.warn(warning)
    if form == "default":
        form = "yaml" if detail else "table"
    render.print_rows(kind, answer.rows, form=form, detail=detail)
