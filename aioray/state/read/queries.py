"""Answers the three questions of the state API: list, get and summarize.

Room: state. A question goes to a `View`; the answer is rows as dicts with raw values, in Ray's
columns, ordered by id (attempts of a task by their number, events by time). Columns that are told
only with detail are None without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...shared import ids
from .columns import RESOURCES
from .filters import (
    DEFAULT_LIMIT,
    check_filters,
    check_id,
    check_limit,
    contradiction,
    matcher,
)
from .rows import driver_row, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .view import View

__all__ = ["SUMMARIES", "QueryAnswer", "get_rows", "list_rows", "summarize"]

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """The rows that were asked for."""

    rows: list[dict[str, Any]]
    total: int  # how many match, before the limit
    warnings: tuple[str, ...] = ()  # what the reader should know about them


def list_rows(
    view: View,
    resource: str,
    filters: Iterable[Any] = (),
    *,
    limit: int = DEFAULT_LIMIT,
    detail: bool = False,
    exclude_driver: bool = True,
) -> QueryAnswer:
    """List what there is of `resource`, in Ray's name of it ("placement_groups").

    filters: triples of column, "=" or "!=", and value. limit: rows at most. exclude_driver: leave
    out the driver's own row, which is a task of type DRIVER_TASK.
    Raises QueryError for bad filters and limits.
    """
    kind = RESOURCES[resource]
    check_limit(limit)
    wanted = check_filters(kind, filters)
    if (warning := contradiction(wanted)) is not None:
        return QueryAnswer([], 0, (warning,))
    source = source_of(view, resource)
    tests = [(source.values[key], matcher(predicate, value)) for key, predicate, value in wanted]
    items = list(source.items)
    for value, test in tests:
        items = [item for item in items if test(value(item))]
    items.sort(key=source.order)
    columns = [
        (column.name, source.values[column.name] if detail or not column.detail else _untold)
        for column in kind.columns
    ]
    rows = [{name: value(item) for name, value in columns} for item in items[:limit]]
    total = len(items)
    if resource == "tasks" and not exclude_driver:
        row = driver_row(view)
        if all(matcher(p, v)(row[key]) for key, p, v in wanted):
            total += 1
            rows = [*rows, row][:limit]  # its id is the last one
    warnings = (_cut(len(rows), total),) if len(rows) < total else ()
    return QueryAnswer(rows, total, warnings)


def _untold(_: object) -> None:
    return None


def _cut(shown: int, total: int) -> str:
    return (
        f"Limit last {shown} entries (Total {total}). Use `--filter` to reduce the amount of data "
        "to return or setting a higher limit with `--limit` to see all data."
    )


def get_rows(view: View, resource: str, identifier: str) -> list[dict[str, Any]]:
    """Return all there is of the thing with this id: attempts of a task, references to an object.

    Raises QueryError for what cannot be an id.
    """
    key = RESOURCES[resource].key
    check_id(key, identifier)
    source, wanted = source_of(view, resource), identifier.lower()
    if resource == "tasks" and wanted == ids.driver_task_id(view.job).hex():
        return [driver_row(view)]
    value = source.values[key]
    found = sorted((item for item in source.items if value(item) == wanted), key=source.order)
    return [{name: tell(item) for name, tell in source.values.items()} for item in found]


# ------------------------------------------------------------ summaries


def summarize(view: View, resource: str) -> dict[str, Any]:
    """Count the states of tasks by name, of actors by class, and of objects by call site.

    Returns what `ray.util.state.summarize_tasks` and its like return, below "cluster".
    """
    return SUMMARIES[resource](view)


def _summarize_tasks(view: View) -> dict[str, Any]:
    source = source_of(view, "tasks")
    values = source.values
    summary: dict[str, dict[str, Any]] = {}
    totals = dict.fromkeys(("NORMAL_TASK", "ACTOR_TASK", "ACTOR_CREATION_TASK"), 0)
    name_of, type_of, state_of = values["name"], values["type"], values["state"]
    for item in source.items:
        name, kind = name_of(item), type_of(item)
        group = summary.get(name)
        if group is None:
            group = {"func_or_class_name": name, "type": kind, "state_counts": {}}
            summary[name] = group
        _count(group["state_counts"], state_of(item))
        totals[kind] += 1
    return {
        "summary": dict(sorted(summary.items())),
        "total_tasks": totals["NORMAL_TASK"],
        "total_actor_tasks": totals["ACTOR_TASK"],
        "total_actor_scheduled": totals["ACTOR_CREATION_TASK"],
        "summary_by": "func_name",
    }


def _summarize_actors(view: View) -> dict[str, Any]:
    source = source_of(view, "actors")
    values = source.values
    summary: dict[str, dict[str, Any]] = {}
    for item in source.items:
        name = values["class_name"](item)
        group = summary.setdefault(name, {"class_name": name, "state_counts": {}})
        _count(group["state_counts"], values["state"](item))
    return {
        "summary": dict(sorted(summary.items())),
        "total_actors": sum(sum(group["state_counts"].values()) for group in summary.values()),
        "summary_by": "class",
    }


def _summarize_objects(view: View) -> dict[str, Any]:
    source = source_of(view, "objects")
    values = source.values
    summary: dict[str, dict[str, Any]] = {}
    workers: dict[str, set[Any]] = {}
    nodes: dict[str, set[Any]] = {}
    total = 0.0
    for item in source.items:
        site = values["call_site"](item)
        group = summary.setdefault(
            site,
            {
                "total_objects": 0,
                "total_size_mb": 0.0,
                "total_num_workers": 0,
                "total_num_nodes": 0,
                "task_state_counts": {},
                "task_attempt_number_counts": {},
                "ref_type_counts": {},
            },
        )
        size = max(values["object_size"](item), 0) / _MB  # -1: not known yet
        total += size
        group["total_objects"] += 1
        group["total_size_mb"] += size
        workers.setdefault(site, set()).add(values["pid"](item))
        nodes.setdefault(site, set()).add(values["ip"](item))
        _count(group["task_state_counts"], values["task_status"](item))
        _count(group["task_attempt_number_counts"], str(values["attempt_number"](item)))
        _count(group["ref_type_counts"], values["reference_type"](item))
    for site, group in summary.items():
        group["total_num_workers"], group["total_num_nodes"] = len(workers[site]), len(nodes[site])
    return {
        "summary": dict(sorted(summary.items())),
        "total_objects": sum(group["total_objects"] for group in summary.values()),
        "total_size_mb": total,
        "callsite_enabled": any(site != "disabled" for site in summary),
        "summary_by": "callsite",
    }


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


SUMMARIES = {
    "tasks": _summarize_tasks,
    "actors": _summarize_actors,
    "objects": _summarize_objects,
}
"""By Ray's names of the resources, in the order of its command line."""
