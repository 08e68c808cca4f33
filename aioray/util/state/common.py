"""What the state API takes and returns.

Room: api. The rows are declared in `aioray.state.read.columns`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aioray.state.read.columns import (
    ActorState,
    ClusterEventState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    StateSchema,
    TaskState,
    TypeActorStatus,
    TypeNodeStatus,
    TypePlacementGroupStatus,
    TypeReferenceType,
    TypeTaskStatus,
    TypeTaskType,
    TypeWorkerExitType,
    TypeWorkerType,
    WorkerState,
)
from aioray.state.read.filters import DEFAULT_LIMIT, max_limit
from aioray.util.state.exception import RayStateApiException

__all__ = [
    "DEFAULT_LIMIT",
    "DEFAULT_RPC_TIMEOUT",
    "DRIVER_TASK_ID_PREFIX",
    "RAY_MAX_LIMIT_FROM_API_SERVER",
    "ActorState",
    "ClusterEventState",
    "Filters",
    "GetApiOptions",
    "JobState",
    "ListApiOptions",
    "NodeState",
    "ObjectState",
    "PlacementGroupState",
    "RayStateApiException",
    "RuntimeEnvState",
    "StateResource",
    "StateSchema",
    "SummaryApiOptions",
    "SummaryResource",
    "SupportedFilterType",
    "TaskState",
    "TypeActorStatus",
    "TypeNodeStatus",
    "TypePlacementGroupStatus",
    "TypeReferenceType",
    "TypeTaskStatus",
    "TypeTaskType",
    "TypeWorkerExitType",
    "TypeWorkerType",
    "WorkerState",
]

DEFAULT_RPC_TIMEOUT = 30  # seconds
DRIVER_TASK_ID_PREFIX = "ff" * 20
RAY_MAX_LIMIT_FROM_API_SERVER = max_limit()  # rows that may be asked for

SupportedFilterType = str | bool | int | float
Filters = list[tuple[str, str, SupportedFilterType]]
"""Conditions that must all hold: column, "=" or "!=", and value."""


class StateResource(Enum):
    """What can be listed."""

    ACTORS = "actors"
    JOBS = "jobs"
    PLACEMENT_GROUPS = "placement_groups"
    NODES = "nodes"
    WORKERS = "workers"
    TASKS = "tasks"
    OBJECTS = "objects"
    RUNTIME_ENVS = "runtime_envs"
    CLUSTER_EVENTS = "cluster_events"


class SummaryResource(Enum):
    """What can be summarized."""

    ACTORS = "actors"
    TASKS = "tasks"
    OBJECTS = "objects"


@dataclass
class ListApiOptions:
    """How `StateApiClient.list` lists."""

    limit: int = DEFAULT_LIMIT  # rows at most
    timeout: float = DEFAULT_RPC_TIMEOUT  # seconds
    detail: bool = False  # with the columns that are None otherwise
    filters: Filters = field(default_factory=list)
    exclude_driver: bool = True  # leave out the driver's own row among the tasks
    server_timeout_multiplier: float = 0.8  # no effect: there is no server between


@dataclass
class GetApiOptions:
    """How `StateApiClient.get` asks."""

    timeout: float = DEFAULT_RPC_TIMEOUT  # seconds
    server_timeout_multiplier: float = 0.8  # no effect: there is no server between


@dataclass
class SummaryApiOptions:
    """How `StateApiClient.summary` asks."""

    timeout: float = DEFAULT_RPC_TIMEOUT  # seconds
    filters: Filters = field(default_factory=list)  # no effect, as in Ray's summaries
    summary_by: Any = None  # no effect
