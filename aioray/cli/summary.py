"""`aioray summary`: how many tasks, actors and objects there are, and in which states.

Room: cli.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aioray.cli import render
from aioray.cli.common import session_options
from aioray.cli.listing import GONE, wanted_of
from aioray.state.read.queries import summarize

if TYPE_CHECKING:
    from aioray.cli.common import Target

__all__ = ["LAYOUTS", "command"]


LAYOUTS = {
    "tasks": render.SummaryLayout(
        title="Tasks Summary",
        heading="Table (group by func_name):",
        columns=("func_or_class_name", "state_counts", "type"),
    ),
    "actors": render.SummaryLayout(
        title="Actors Summary",
        heading="Table (group by class):",
        columns=("class_name", "state_counts"),
    ),
    "objects": render.SummaryLayout(
        title="Object Summary",
        heading="Table (group by callsite)",
        columns=(
            "ref_type_counts",
            "task_attempt_number_counts",
            "task_state_counts",
            "total_num_nodes",
            "total_num_workers",
            "total_objects",
            "total_size_mb",
        ),
        table_for_each=True,
    ),
}


@click.group(name="summary")
def command() -> None:
    """Count what there is, and was, in a session by its states."""


@command.command(name="tasks")
@session_options
def tasks(*, target: Target) -> None:
    """Count attempts of tasks by name and state."""
    _print("tasks", target)


@command.command(name="actors")
@session_options
def actors(*, target: Target) -> None:
    """Count actors by class and state."""
    _print("actors", target)


@command.command(name="objects")
@session_options
def objects(*, target: Target) -> None:
    """Count objects by the place that made them, with their sizes.

    Places are not recorded, unless the program runs with RAY_record_ref_creation_sites=1.
    """
    _print("objects", target)


def _print(resource: str, target: Target) -> None:
    with target.view(*wanted_of(resource)) as view:
        counted = summarize(view, resource)
        if resource == "objects" and not view.alive:
            render.warn(GONE)
    render.print_summary(counted, LAYOUTS[resource])
