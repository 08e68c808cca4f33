"""Which columns there are, in which order, and what a filter may name: Ray's."""

from __future__ import annotations

from typing import Any

import pytest

from aioray.state.read.columns import RESOURCES, Column
from aioray.state.read.queries import list_rows
from aioray.state.read.rows import source_of
from tests.cli.cases import in_utc
from tests.state.history import a_session

# Ray's names in Ray's order; after the bar those told only with detail; * may not be filtered by.
COLUMNS = {
    "tasks": "task_id attempt_number name state job_id actor_id type func_or_class_name "
    "parent_task_id node_id worker_id worker_pid error_type | language required_resources* "
    "runtime_env_info* placement_group_id events* profiling_data* creation_time_ms* "
    "start_time_ms* end_time_ms* task_log_info* error_message* is_debugger_paused call_site* "
    # The last is our own.
    "label_selector* fallback_strategy* map_items*",
    "actors": "actor_id class_name state job_id name node_id pid ray_namespace | "
    "serialized_runtime_env* required_resources* death_cause* is_detached* placement_group_id "
    "repr_name num_restarts* num_restarts_due_to_lineage_reconstruction* "
    "num_restarts_due_to_node_preemption* call_site* label_selector* fallback_strategy*",
    "workers": "worker_id is_alive worker_type exit_type node_id ip pid | exit_detail* "
    "worker_launch_time_ms* worker_launched_time_ms* start_time_ms* end_time_ms* debugger_port "
    "num_paused_threads",
    "objects": "object_id object_size task_status attempt_number reference_type call_site type "
    "pid ip |",
    "nodes": "node_id node_ip is_head_node state state_message* node_name resources_total* "
    "labels* | start_time_ms* end_time_ms*",
    "jobs": "job_id submission_id entrypoint* type status message* error_type* driver_info* | "
    "start_time* end_time* metadata* runtime_env* driver_agent_http_address* driver_node_id* "
    "driver_exit_code*",
    "placement_groups": "placement_group_id name creator_job_id state | bundles* is_detached "
    "stats* topology_strategy* topology_assignments*",
    "runtime_envs": "runtime_env success creation_time_ms* node_id | ref_cnt* error",
    "cluster_events": "severity time* source_type message* event_id | custom_fields*",
}


def written(columns: tuple[Column, ...]) -> str:
    """The columns of a resource as they are written above."""
    words = [column.name + ("" if column.filterable else "*") for column in columns]
    words.insert(next((i for i, c in enumerate(columns) if c.detail), len(words)), "|")
    return " ".join(words)


def test_every_resource_of_ray_is_there() -> None:
    assert set(COLUMNS) == set(RESOURCES)


@pytest.mark.parametrize("resource", RESOURCES)
def test_columns_are_rays(resource: str) -> None:
    assert written(RESOURCES[resource].columns) == COLUMNS[resource]


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_column_has_a_source(resource: str) -> None:
    values = source_of(a_session().view(), resource).values
    assert list(values) == [column.name for column in RESOURCES[resource].columns]


@pytest.mark.parametrize("resource", RESOURCES)
def test_columns_of_detail_are_none_without_it(resource: str) -> None:
    schema = RESOURCES[resource].schema
    view = a_session().view()
    (plain, *_), (full, *_) = (
        list_rows(view, resource, detail=detail).rows for detail in (False, True)
    )
    details = schema.columns() - schema.base_columns()
    assert {name for name in plain if plain[name] is not full[name] != plain[name]} <= details
    assert all(plain[name] is None for name in details)


def test_row_is_told_by_attribute_and_by_key() -> None:
    row: Any
    (row,) = (RESOURCES["jobs"].schema(**row) for row in list_rows(a_session().view(), "jobs").rows)
    assert row["status"] == row.status == row.get("status") == "RUNNING"
    assert row.get("nosuch", 7) == 7
    assert list(row.asdict()) == row.list_columns() == list(row.list_columns(detail=True))
    with pytest.raises(AttributeError):
        row["nosuch"]


@pytest.mark.parametrize(
    ("resource", "column", "value", "shown"),
    [
        ("tasks", "start_time_ms", 1_795_000_000_000, "2026-11-18 11:06:40"),
        ("tasks", "start_time_ms", 1_795_000_000_123, "2026-11-18 11:06:40.123000"),
        ("tasks", "start_time_ms", None, None),
        ("runtime_envs", "creation_time_ms", 1.0, "0:00:00.001000"),
        ("objects", "object_size", -1, "-1.000 B"),
        ("objects", "object_size", 1023, "1023.000 B"),
        ("objects", "object_size", 1024, "1.000 KiB"),
        ("objects", "object_size", 8_000_266, "7.630 MiB"),
        ("objects", "object_size", 3 * 2**30, "3.000 GiB"),
        ("objects", "object_size", 5000 * 2**40, "5000.000 TiB"),
        ("nodes", "resources_total", {"CPU": 2.0, "memory": 2048.0},
         {"CPU": 2.0, "memory": "2.000 KiB"}),
        ("tasks", "events", [{"state": "RUNNING", "created_ms": 0}],
         [{"state": "RUNNING", "created_ms": "1970-01-01 00:00:00"}]),
        ("tasks", "name", "f", "f"),
    ],
)  # fmt: skip
def test_people_read_times_and_sizes(resource: str, column: str, value, shown) -> None:
    with in_utc():
        assert RESOURCES[resource].schema.humanify({column: value}) == {column: shown}
