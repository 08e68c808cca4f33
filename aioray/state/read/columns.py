"""What Ray's state API tells of each kind of thing: its columns, in Ray's order.

Room: state; stdlib only. A row is a dataclass, and its fields are the columns: the order, which of
them only `detail` shows, which may stand in a filter, and how people want to read the value. Where
the values come from is in `rows`; the command line and `aioray.util.state` print and hand out what
is declared here. Python gets raw values, in milliseconds since the epoch and in bytes; `humanify`
turns a row into what tables, yaml and json show.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ID_SIZES",
    "RESOURCES",
    "ActorState",
    "Choice",
    "ClusterEventState",
    "Column",
    "JobState",
    "NodeState",
    "ObjectState",
    "PlacementGroupState",
    "Resource",
    "RuntimeEnvState",
    "StateSchema",
    "TaskState",
    "TypeActorStatus",
    "TypeJobStatus",
    "TypeJobType",
    "TypeNodeStatus",
    "TypePlacementGroupStatus",
    "TypeReferenceType",
    "TypeTaskStatus",
    "TypeTaskType",
    "TypeWorkerExitType",
    "TypeWorkerType",
]

TypeActorStatus = Literal["DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD"]
TypeTaskStatus = Literal[
    "NIL",
    "PENDING_ARGS_AVAIL",
    "PENDING_NODE_ASSIGNMENT",
    "PENDING_OBJ_STORE_MEM_AVAIL",
    "PENDING_ARGS_FETCH",
    "SUBMITTED_TO_WORKER",
    "PENDING_ACTOR_TASK_ARGS_FETCH",
    "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
    "RUNNING",
    "RUNNING_IN_RAY_GET",
    "RUNNING_IN_RAY_WAIT",
    "FINISHED",
    "FAILED",
    "GETTING_AND_PINNING_ARGS",
]
TypeTaskType = Literal["NORMAL_TASK", "ACTOR_CREATION_TASK", "ACTOR_TASK", "DRIVER_TASK"]
TypeWorkerType = Literal["WORKER", "DRIVER", "SPILL_WORKER", "RESTORE_WORKER"]
TypeWorkerExitType = Literal[
    "SYSTEM_ERROR",
    "INTENDED_SYSTEM_EXIT",
    "USER_ERROR",
    "INTENDED_USER_EXIT",
    "NODE_OUT_OF_MEMORY",
]
TypeReferenceType = Literal[
    "ACTOR_HANDLE",
    "PINNED_IN_MEMORY",
    "LOCAL_REFERENCE",
    "USED_BY_PENDING_TASK",
    "CAPTURED_IN_OBJECT",
    "UNKNOWN_STATUS",
]
TypePlacementGroupStatus = Literal["PENDING", "PREPARED", "CREATED", "REMOVED", "RESCHEDULING"]
TypeNodeStatus = Literal["ALIVE", "DEAD"]
TypeJobType = Literal["SUBMISSION", "DRIVER"]
TypeJobStatus = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]

ID_SIZES = {"task_id": 24, "actor_id": 16, "job_id": 4, "node_id": 28}  # bytes; checked by Ray too

Choice = tuple[str, ...]

_BYTES_IN_RESOURCES = ("memory", "object_store_memory")


# ------------------------------------------------------------ how people read values


def _time(ms: int | None) -> str | None:
    """Write a moment in local time, as `2026-11-25 16:57:08.787000`."""
    if ms is None:
        return None
    at = dt.datetime.fromtimestamp(ms // 1000)  # noqa: DTZ006 - the reader's own clock
    return str(at.replace(microsecond=int(ms % 1000) * 1000))


def _end(ms: int | None) -> str | None:
    """Write the moment of an end as `_time` does; return None for 0: it has not come."""
    return _time(ms or None)


def _duration(ms: float | None) -> str | None:
    return None if ms is None else str(dt.timedelta(milliseconds=ms))


def _size(count: float | None) -> str | None:
    if count is None:
        return None
    number, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.3f} {unit}"


def _resources(total: dict[str, float] | None) -> dict[str, Any] | None:
    if total is None:
        return None
    return {k: _size(v) if k in _BYTES_IN_RESOURCES else v for k, v in total.items()}


def _events(events: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    if events is None:
        return None
    return [{**event, "created_ms": _time(event["created_ms"])} for event in events]


# ------------------------------------------------------------ rows


def _column(
    *, detail: bool = False, nf: bool = False, shown: Callable[[Any], Any] | None = None
) -> Any:
    """Declare a column. detail: only told when asked for detail; nf: no filter may name it."""
    metadata = {"detail": detail, "filterable": not nf, "format_fn": shown}
    return field(default=None, metadata=metadata) if detail else field(metadata=metadata)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a resource."""

    name: str
    kind: Literal["str", "int", "bool", "float", "dict"]  # what a filter's value is read as
    detail: bool  # told only with detail
    filterable: bool
    shown: Callable[[Any], Any] | None  # for people; None: as it is
    choices: Choice  # of a fixed set; () if any value may come

    @classmethod
    def of(cls, schema: type[StateSchema]) -> tuple[Column, ...]:
        """Return the columns of a row's class."""
        return tuple(cls._of_field(item) for item in fields(schema))

    @classmethod
    def _of_field(cls, item: dataclasses.Field[Any]) -> Column:
        annotation = str(item.type).removesuffix(" | None")
        choices: Choice = get_args(globals()[annotation]) if annotation.startswith("Type") else ()
        kind: Any = annotation if annotation in {"int", "bool", "float", "str"} else "dict"
        return cls(
            name=item.name,
            kind="str" if choices else kind,
            detail=item.metadata["detail"],
            filterable=item.metadata["filterable"],
            shown=item.metadata["format_fn"],
            choices=choices,
        )


class StateSchema:
    """A row of the state API: attributes, `row["name"]` and `row.get("name")` say the same.

    Source: Ray API reference, State API schema.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @classmethod
    def list_columns(cls, detail: bool = True) -> list[str]:
        """List the names of the columns, in order. detail: also those told only with detail."""
        return [item.name for item in fields(cls) if detail or not item.metadata["detail"]]

    @classmethod
    def columns(cls) -> set[str]:
        """Return the names of all columns."""
        return set(cls.list_columns(detail=True))

    @classmethod
    def base_columns(cls) -> set[str]:
        """Return the names of the columns that are told without detail."""
        return set(cls.list_columns(detail=False))

    @classmethod
    def detail_columns(cls) -> set[str]:
        """Return the names of the columns that are told with detail, which are all."""
        return set(cls.list_columns(detail=True))

    @classmethod
    def filterable_columns(cls) -> set[str]:
        """Return the names of the columns that a filter may name."""
        return {item.name for item in fields(cls) if item.metadata["filterable"]}

    @classmethod
    def humanify(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as a dict, with local times and sizes with units."""
        shown = {item.name: item.metadata["format_fn"] for item in fields(cls)}
        return {
            key: value if (say := shown.get(key)) is None else say(value)
            for key, value in state.items()
        }

    def asdict(self) -> dict[str, Any]:
        """Return the row as a dict, in the order of the columns."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of the column `key`, or `default` if there is none of that name."""
        return getattr(self, key, default)


@dataclass
class TaskState(StateSchema):
    """One attempt of a task. Times are in milliseconds since the epoch."""

    task_id: str = _column()
    attempt_number: int = _column()  # from 0
    name: str = _column()  # of the option `name`, or of the function
    state: TypeTaskStatus = _column()
    job_id: str = _column()
    actor_id: str | None = _column()
    type: TypeTaskType = _column()
    func_or_class_name: str = _column()
    parent_task_id: str = _column()
    node_id: str | None = _column()  # None until it was sent to a worker
    worker_id: str | None = _column()
    worker_pid: int | None = _column()
    error_type: str | None = _column()
    language: str | None = _column(detail=True)
    required_resources: dict[str, float] | None = _column(detail=True, nf=True)
    runtime_env_info: dict[str, Any] | None = _column(detail=True, nf=True)
    placement_group_id: str | None = _column(detail=True)
    events: list[dict[str, Any]] | None = _column(detail=True, nf=True, shown=_events)
    profiling_data: dict[str, Any] | None = _column(detail=True, nf=True)
    creation_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    start_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    end_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    task_log_info: dict[str, Any] | None = _column(detail=True, nf=True)
    error_message: str | None = _column(detail=True, nf=True)
    is_debugger_paused: bool | None = _column(detail=True)
    call_site: str | None = _column(detail=True, nf=True)
    label_selector: dict[str, str] | None = _column(detail=True, nf=True)
    fallback_strategy: dict[str, Any] | None = _column(detail=True, nf=True)
    # Beyond Ray: of an `aioray.map` how many items were taken, are done, have failed, are in
    # flight, and were tried again.
    map_items: dict[str, int] | None = _column(detail=True, nf=True)


@dataclass
class ActorState(StateSchema):
    """An actor, whatever became of it."""

    actor_id: str = _column()
    class_name: str = _column()
    state: TypeActorStatus = _column()
    job_id: str = _column()
    name: str | None = _column()
    node_id: str | None = _column()
    pid: int | None = _column()
    ray_namespace: str | None = _column()
    serialized_runtime_env: str | None = _column(detail=True, nf=True)
    required_resources: dict[str, float] | None = _column(detail=True, nf=True)
    death_cause: dict[str, Any] | None = _column(detail=True, nf=True)
    is_detached: bool | None = _column(detail=True, nf=True)
    placement_group_id: str | None = _column(detail=True)
    repr_name: str | None = _column(detail=True)
    num_restarts: int | None = _column(detail=True, nf=True)
    num_restarts_due_to_lineage_reconstruction: int | None = _column(detail=True, nf=True)
    num_restarts_due_to_node_preemption: int | None = _column(detail=True, nf=True)
    call_site: str | None = _column(detail=True, nf=True)
    label_selector: dict[str, str] | None = _column(detail=True, nf=True)
    fallback_strategy: dict[str, Any] | None = _column(detail=True, nf=True)


@dataclass
class WorkerState(StateSchema):
    """A process: a worker, or the driver. Times are in milliseconds since the epoch."""

    worker_id: str = _column()
    is_alive: bool = _column()
    worker_type: TypeWorkerType = _column()
    exit_type: TypeWorkerExitType | None = _column()
    node_id: str = _column()
    ip: str = _column()
    pid: int | None = _column()
    exit_detail: str | None = _column(detail=True, nf=True)
    worker_launch_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    worker_launched_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    start_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    end_time_ms: int | None = _column(detail=True, nf=True, shown=_end)
    debugger_port: int | None = _column(detail=True)
    num_paused_threads: int | None = _column(detail=True)


@dataclass
class ObjectState(StateSchema):
    """An object that the session holds. object_size is in bytes, -1 while it is not known."""

    object_id: str = _column()
    object_size: int = _column(shown=_size)
    task_status: TypeTaskStatus = _column()
    attempt_number: int = _column()  # from 1, as Ray has it here
    reference_type: TypeReferenceType = _column()
    call_site: str = _column()
    type: TypeWorkerType = _column()
    pid: int = _column()
    ip: str = _column()


@dataclass
class NodeState(StateSchema):
    """The machine. Times are in milliseconds since the epoch."""

    node_id: str = _column()
    node_ip: str = _column()
    is_head_node: bool = _column()
    state: TypeNodeStatus = _column()
    state_message: str | None = _column(nf=True)
    node_name: str = _column()
    resources_total: dict[str, float] = _column(nf=True, shown=_resources)
    labels: dict[str, str] = _column(nf=True)
    start_time_ms: int | None = _column(detail=True, nf=True, shown=_time)
    end_time_ms: int | None = _column(detail=True, nf=True, shown=_time)


@dataclass
class JobState(StateSchema):
    """The program: one session is one job. Times are in milliseconds since the epoch."""

    job_id: str = _column()
    submission_id: str | None = _column()
    entrypoint: str = _column(nf=True)  # the command line
    type: TypeJobType = _column()
    status: TypeJobStatus = _column()
    message: str | None = _column(nf=True)
    error_type: str | None = _column(nf=True)
    driver_info: dict[str, str] | None = _column(nf=True)
    start_time: int | None = _column(detail=True, nf=True, shown=_time)
    end_time: int | None = _column(detail=True, nf=True, shown=_time)
    metadata: dict[str, str] | None = _column(detail=True, nf=True)
    runtime_env: dict[str, Any] | None = _column(detail=True, nf=True)
    driver_agent_http_address: str | None = _column(detail=True, nf=True)
    driver_node_id: str | None = _column(detail=True, nf=True)
    driver_exit_code: int | None = _column(detail=True, nf=True)


@dataclass
class PlacementGroupState(StateSchema):
    """A placement group."""

    placement_group_id: str = _column()
    name: str = _column()
    creator_job_id: str = _column()
    state: TypePlacementGroupStatus = _column()
    bundles: list[dict[str, Any]] | None = _column(detail=True, nf=True)
    is_detached: bool | None = _column(detail=True)
    stats: dict[str, Any] | None = _column(detail=True, nf=True)
    topology_strategy: dict[str, Any] | None = _column(detail=True, nf=True)
    topology_assignments: dict[str, Any] | None = _column(detail=True, nf=True)


@dataclass
class RuntimeEnvState(StateSchema):
    """A runtime environment that tasks or actors have asked for."""

    runtime_env: dict[str, Any] = _column()
    success: bool = _column()
    creation_time_ms: float | None = _column(nf=True, shown=_duration)
    node_id: str = _column()
    ref_cnt: int | None = _column(detail=True, nf=True)  # attempts and actors that have it
    error: str | None = _column(detail=True)


@dataclass
class ClusterEventState(StateSchema):
    """A warning or an error of the engine. time: local, as text."""

    severity: str = _column()
    time: str = _column(nf=True)
    source_type: str = _column()
    message: str = _column(nf=True)
    event_id: str = _column()
    custom_fields: dict[str, Any] | None = _column(detail=True, nf=True)


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of thing that the state API tells of."""

    name: str  # Ray's, as in `placement_groups`
    schema: type[StateSchema]
    key: str  # the column that `get` asks for
    columns: tuple[Column, ...]

    @property
    def command(self) -> str:
        """The name of the resource on the command line."""
        return self.name.replace("_", "-")

    def column(self, name: str) -> Column | None:
        """Return the column of this name, in small or capital letters; None: there is none."""
        return next((column for column in self.columns if column.name == name.lower()), None)


_KEYS: dict[str, tuple[type[StateSchema], str]] = {
    "actors": (ActorState, "actor_id"),
    "jobs": (JobState, "job_id"),
    "placement_groups": (PlacementGroupState, "placement_group_id"),
    "nodes": (NodeState, "node_id"),
    "workers": (WorkerState, "worker_id"),
    "tasks": (TaskState, "task_id"),
    "objects": (ObjectState, "object_id"),
    "runtime_envs": (RuntimeEnvState, "runtime_env"),
    "cluster_events": (ClusterEventState, "event_id"),
}

RESOURCES = {
    name: Resource(name, schema, key, Column.of(schema)) for name, (schema, key) in _KEYS.items()
}
"""By Ray's names, in the order of its command line."""
