"""`aioray memory`: which objects there are, and who holds them.

Room: cli. Sections, columns and options are those of `ray memory`; rows take one line, and the
columns Where and Refs are added. Rows are sorted as Ray sorts them, in ascending order; if only
some are shown, these are the largest, and not the smallest as in Ray.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from aioray.shared.printable import printable

from .common import session_options
from .figures import UNITS, moment, session_name, size, store_use

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aioray.state.read.view import View

    from .common import Target

__all__ = ["command", "render"]

_GROUPS = {"NODE_ADDRESS": ("node address", "ip"), "STACK_TRACE": ("stack trace", "call_site")}
_SORTS = {
    "PID": ("pid", "pid"),
    "OBJECT_SIZE": ("object size", "object_size"),
    "REFERENCE_TYPE": ("reference type", "reference_type"),
}
_SUMMARY = {
    "LOCAL_REFERENCE": "Local References",
    "PINNED_IN_MEMORY": "Pinned",
    "USED_BY_PENDING_TASK": "Used by task",
    "CAPTURED_IN_OBJECT": "Captured in Objects",
    "ACTOR_HANDLE": "Actor Handles",
}
_COLUMNS = (
    "IP Address",
    "PID",
    "Type",
    "Call Site",
    "Status",
    "Attempt",
    "Size",
    "Where",
    "Refs",
    "Reference Type",
    "Object Ref",
)


@click.command(name="memory")
@click.option(
    "--group-by",
    type=click.Choice(list(_GROUPS)),
    default="NODE_ADDRESS",
    help="What a group has in common.",
)
@click.option(
    "--sort-by",
    type=click.Choice(list(_SORTS)),
    default="OBJECT_SIZE",
    help="Order within a group, ascending.",
)
@click.option("--units", type=click.Choice(list(UNITS)), default="B", help="For sizes.")
@click.option("--no-format", is_flag=True, help="Columns between bars, and not aligned.")
@click.option("--stats-only", is_flag=True, help="Only how full the object store is.")
@click.option(
    "--num-entries",
    "--n",
    "num_entries",
    type=click.IntRange(min=0),
    help="Most rows of a group: the largest, or the first if sorted by something else.",
)
@session_options
def command(target: Target, **options: Any) -> None:
    """Print the objects of a running session with their sizes, and the references to them."""
    with target.view("objects") as view:
        if not view.alive:
            raise click.ClickException(
                f"The session {session_name(view)} has ended: it holds no objects any more."
            )
        click.echo(render(view, time.time(), **options))


def render(
    view: View,
    now: float,
    *,
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str = "B",
    no_format: bool = False,
    stats_only: bool = False,
    num_entries: int | None = None,
) -> str:
    """Write the answer. view: with its objects. now: Unix time. The options are the command's."""
    lines = [f"======== Object references status: {moment(now)} ========"]
    rows = view.live["objects"]
    if not stats_only:
        shown = "all" if num_entries is None else num_entries
        group, column = _GROUPS[group_by]
        order, key = _SORTS[sort_by]
        lines.append(
            f"Grouping by {group}...        Sorting by {order}...        "
            f"Display {shown} entries per group..."
        )
        lines += ["", ""]
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: (row[key], row["object_id"], row["pid"])):
            groups.setdefault(str(row[column]), []).append(row)
        for name, members in groups.items():
            title = f"{group}: {name}"
            lines += [f"--- Summary for {title} ---", *_summary(members, units), ""]
            lines.append(f"--- Object references for {title} ---")
            some = members
            if num_entries is not None:
                largest = sort_by == "OBJECT_SIZE"
                begin = max(0, len(members) - num_entries) if largest else 0
                some = members[begin : begin + num_entries]
            table = [_COLUMNS, *(_cells(row, units) for row in some)]
            lines += (" | ".join(row) for row in table) if no_format else _aligned(table)
            lines.append("")
    lines += ["--- Aggregate object store stats across all nodes ---", *_store(view), ""]
    return "\n".join(map(printable, lines))


def _summary(rows: Sequence[dict[str, Any]], units: str) -> Iterator[str]:
    held = {row["object_id"]: max(0, row["object_size"]) for row in rows}
    cells = [_bytes(sum(held.values()), units)]
    for kind in _SUMMARY:
        sizes = [max(0, row["object_size"]) for row in rows if row["reference_type"] == kind]
        cells.append(f"{len(sizes)}, ({_bytes(sum(sizes), units)})")
    return _aligned([("Mem Used by Objects", *_SUMMARY.values()), tuple(cells)])


def _cells(row: dict[str, Any], units: str) -> tuple[str, ...]:
    status = row["task_status"]
    return (
        row["ip"],
        str(row["pid"]),
        row["type"].capitalize(),
        row["call_site"],
        "-" if status == "NIL" else status,
        str(row["attempt_number"]),
        "?" if row["object_size"] < 0 else _bytes(row["object_size"], units),
        row["location"] or "-",
        str(row["count"]),
        row["reference_type"],
        row["object_id"],
    )


def _bytes(count: int, units: str) -> str:
    return f"{count / UNITS[units]:.10g} {units}"


def _aligned(table: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


def _store(view: View) -> Iterator[str]:
    use = store_use(view)
    rows = view.live["objects"]
    stored = {row["object_id"] for row in rows if "memory" in row["location"]}
    share = 100 * use.used / use.capacity if use.capacity else 0.0
    yield (
        f"Object store usage {size(use.used)} of {size(use.capacity)}, {len(stored)} objects, "
        f"{share:.2f}% full"
    )
    if use.on_disk:
        yield f"On disk {size(use.on_disk)}"
