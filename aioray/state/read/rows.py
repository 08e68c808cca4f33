"""Where the columns of the state API get their values: from a session's records and attributes.

Room: state. For each resource there is a `Source`: the raw items, how each column comes from one,
and in which order they are told. Columns are computed one by one, so that a filter on a cheap one
does not build the dear ones of 100,000 attempts; what only depends on the function is computed once
for each function. Nothing is filtered or cut here, see `queries`.

What a session that was killed has left behind says that things are alive. Here they are told as
ended, because nothing outlives the driver.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...shared import ids
from ..soundness import OUTPUT_IS_SOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..record import Record
    from .view import View

__all__ = ["Source", "attempt_id", "driver_row", "source_of"]

T = TypeVar("T")

_DRIVER = 0  # number of the driver among the workers
_LOST = {"reason": "OWNER_DIED", "error_message": "The actor is dead because its driver has died."}
_DEATHS = {"INTENDED_USER_EXIT": "WORKER_DIED"}  # Ray has no other word for exit_actor()
_RUNTIME_ENV_CONFIG = {"setup_timeout_seconds": 600, "eager_install": True, "log_files": []}


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """What there is of one resource in one view."""

    items: Iterable[T]
    values: Mapping[str, Callable[[T], Any]]  # by column
    order: Callable[[T], Any]  # sort key


def source_of(view: View, resource: str) -> Source[Any]:
    """Return the source of a resource, by Ray's name of it."""
    return _SOURCES[resource](view)


# ------------------------------------------------------------ tasks


def attempt_id(view: View) -> Callable[[Record], bytes]:
    """Make a function that tells the task id of an attempt."""
    job = view.job
    creations = {
        number: bytes.fromhex(entity["creation"]) if entity.get("creation") else None
        for number, entity in view.signatures.items()
    }

    def of(record: Record) -> bytes:
        task_key = record.task_key
        if isinstance(task_key, bytes):
            return task_key
        creation = creations[record.signature]
        return ids.task_id(job, task_key if creation is None else (task_key, creation))

    return of


def _tasks(view: View) -> Source[Record]:
    identifier = attempt_id(view)
    node, job, driver = view.meta["node_id"], view.job.hex(), ids.driver_task_id(view.job).hex()
    workers = {number: entity for number, entity in view.workers.items() if number != _DRIVER}
    return Source(
        items=view.records(),
        order=lambda record: (identifier(record), record.attempt),
        values={
            "task_id": lambda record: identifier(record).hex(),
            "attempt_number": attrgetter("attempt"),
            "name": _of_kind(view, itemgetter("name")),
            "state": attrgetter("state"),
            "job_id": lambda _: job,
            "actor_id": _actor_of(view),
            "type": _of_kind(view, itemgetter("type")),
            "func_or_class_name": _of_kind(view, itemgetter("func_or_class_name")),
            "parent_task_id": lambda record: record.parent.hex() if record.parent else driver,
            "node_id": lambda record: node if _place_of(record) in view.workers else None,
            "worker_id": _of_place(view, "worker_id"),
            "worker_pid": _of_place(view, "pid"),
            "error_type": attrgetter("error_type"),
            "language": lambda _: "PYTHON",
            "required_resources": _of_kind(view, lambda entity: entity["required_resources"] or {}),
            "runtime_env_info": _of_kind(view, _runtime_env_info),
            "placement_group_id": _of_kind(view, itemgetter("placement_group_id")),
            "events": _events_of(view),
            "profiling_data": _profile_of(view, identifier, workers),
            "creation_time_ms": lambda record: _ms(record.created),
            "start_time_ms": lambda record: _ms(record.started),
            "end_time_ms": lambda record: _ms(record.ended),
            "task_log_info": _log_of(view, workers),
            "error_message": attrgetter("error_message"),
            "is_debugger_paused": _none,
            "call_site": _of_kind(view, lambda entity: entity.get("call_site")),
            "label_selector": _of_kind(view, lambda entity: entity.get("label_selector") or {}),
            "fallback_strategy": _of_kind(view, _fallback_of),
            "map_items": lambda record: view.map_items.get(record.task_key),
        },
    )


def driver_row(view: View) -> dict[str, Any]:
    """Make the row of the driver itself, which is told only to those who ask for it."""
    entity = view.workers.get(_DRIVER, {})
    identifier = ids.driver_task_id(view.job).hex()
    started, ended = _ms(view.meta.get("started_at")), _ms(view.meta.get("ended_at"))
    return {
        "task_id": identifier,
        "attempt_number": 0,
        "name": "",
        "state": "RUNNING" if view.alive else "FINISHED",
        "job_id": view.job.hex(),
        "actor_id": None,
        "type": "DRIVER_TASK",
        "func_or_class_name": "",
        "parent_task_id": "ff" * ids.TASK_ID_SIZE,
        "node_id": view.meta["node_id"],
        "worker_id": entity.get("worker_id"),
        "worker_pid": view.meta.get("pid"),
        "error_type": None,
        "language": "PYTHON",
        "required_resources": {},
        "runtime_env_info": _runtime_env_info({"runtime_env": None}),
        "placement_group_id": None,
        "events": [{"state": "RUNNING", "created_ms": started}]
        + ([{"state": "FINISHED", "created_ms": ended}] if ended else []),
        "profiling_data": {},
        "creation_time_ms": started,
        "start_time_ms": started,
        "end_time_ms": ended,
        "task_log_info": None,
        "error_message": None,
        "is_debugger_paused": None,
        "call_site": None,
        "label_selector": {},
        "fallback_strategy": {"options": []},
        "map_items": None,
    }


def _ms(at: float | None) -> int | None:
    return None if at is None else round(at * 1000)


def _none(_: object) -> None:
    return None


def _of_kind(view: View, tell: Callable[[dict[str, Any]], Any]) -> Callable[[Record], Any]:
    """Make the function of a column that all attempts of a signature share."""
    signatures = view.signatures

    @cache
    def value(signature: int) -> Any:
        return tell(signatures[signature])

    return lambda record: value(record.signature)


def _place_of(record: Record) -> int | None:
    """Return the number of the process where the attempt came to its end, or is.

    One whose argument had failed ended in the driver, as its error says, which names a pid too.
    """
    if record.worker is None and record.error_type == "TASK_EXECUTION_EXCEPTION":
        return _DRIVER
    return record.worker


def _of_place(view: View, key: str) -> Callable[[Record], Any]:
    values: dict[int | None, Any] = {n: entity.get(key) for n, entity in view.workers.items()}
    return lambda record: values.get(_place_of(record))


def _actor_of(view: View) -> Callable[[Record], str | None]:
    signatures = view.signatures

    def actor(record: Record) -> str | None:
        entity = signatures[record.signature]
        known: str | None = entity["actor_id"]
        if known is None and isinstance(record.task_key, bytes) and entity["type"] != "NORMAL_TASK":
            found = ids.actor_of(record.task_key)
            known = None if found is None else found.hex()
        return known

    return actor


def _runtime_env_info(entity: dict[str, Any]) -> dict[str, Any]:
    wanted = dict(entity["runtime_env"] or {})
    config = wanted.pop("config", None)
    if not isinstance(config, dict):
        config = {}
    return {
        "serialized_runtime_env": json.dumps(wanted),
        "runtime_env_config": {**_RUNTIME_ENV_CONFIG, **config},
    }


def _fallback_of(entity: dict[str, Any]) -> dict[str, Any]:
    return entity.get("fallback_strategy") or {"options": []}


def _events_of(view: View) -> Callable[[Record], list[dict[str, Any]]]:
    signatures = view.signatures

    def events(record: Record) -> list[dict[str, Any]]:
        """List the states that the attempt has reached, and when."""
        calls = signatures[record.signature]["type"] == "ACTOR_TASK"
        reached = [
            ("PENDING_ARGS_AVAIL", record.created),
            ("PENDING_NODE_ASSIGNMENT", record.ready),
            ("SUBMITTED_TO_WORKER", record.sent),
            # An actor's process has a call in its own queue from the moment it is sent.
            ("PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY", record.sent if calls else None),
            ("RUNNING", record.started),
            (record.state, record.ended),
        ]
        return [{"state": state, "created_ms": _ms(at)} for state, at in reached if at is not None]

    return events


def _profile_of(
    view: View, identifier: Callable[[Record], bytes], workers: Mapping[int, dict[str, Any]]
) -> Callable[[Record], dict[str, Any]]:
    ip, signatures = view.meta.get("ip"), view.signatures

    def profile(record: Record) -> dict[str, Any]:
        if record.started is None or record.worker is None or record.worker not in workers:
            return {}
        name = signatures[record.signature]["name"]
        return {
            "component_type": "worker",
            "component_id": workers[record.worker]["worker_id"],
            "node_ip_address": ip,
            "events": [
                {
                    "start_time": record.started * 1000,
                    "end_time": None if record.ended is None else record.ended * 1000,
                    "extra_data": {"name": name, "task_id": identifier(record).hex()},
                    "event_name": f"task::{name}",
                }
            ],
        }

    return profile


def _log_of(
    view: View, workers: Mapping[int, dict[str, Any]]
) -> Callable[[Record], dict[str, Any] | None]:
    """Make a function that tells where in its worker's output an attempt's own lies, in bytes."""

    @cache
    def spans() -> dict[tuple[int, int, int], list[int]]:
        found: dict[tuple[int, int, int], list[int]] = {}
        written: dict[tuple[int, int], int] = {}
        rows = (
            "SELECT worker, stream, seq, length(data) FROM output "
            f"WHERE {OUTPUT_IS_SOUND} ORDER BY rowid"
        )
        for worker, stream, seq, length in view.connection.execute(rows):
            start = written.get((worker, stream), 0)
            written[worker, stream] = end = start + length
            found.setdefault((worker, stream, seq), [start, end])[1] = end
        return found

    def log(record: Record) -> dict[str, Any] | None:
        worker, seq = record.worker, record.seq
        if worker is None or worker not in workers or not seq:
            return None
        out, err = (spans().get((worker, stream, seq)) for stream in (1, 2))
        if out is None and err is None:
            return None  # it has printed nothing
        entity = workers[worker]
        name = f"worker-{entity['worker_id']}-{view.job.hex()}-{entity.get('pid')}"
        return {
            "stdout_file": f"{name}.out",
            "stderr_file": f"{name}.err",
            "stdout_start": out[0] if out else 0,
            "stdout_end": out[1] if out else 0,
            "stderr_start": err[0] if err else 0,
            "stderr_end": err[1] if err else 0,
        }

    return log


# ------------------------------------------------------------ the others: entities as dicts


def _of_dicts(items: Iterable[dict[str, Any]], columns: Iterable[str], *key: str) -> Source[Any]:
    """Make a source of items that have the columns already."""
    return Source(
        items=items,
        values={name: partial(_get, name) for name in columns},
        order=lambda item: tuple(item.get(name) or "" for name in key),
    )


def _get(name: str, item: dict[str, Any]) -> Any:
    return item.get(name)


def _columns(resource: str) -> list[str]:
    from .columns import RESOURCES

    return [column.name for column in RESOURCES[resource].columns]


def _actors(view: View) -> Source[Any]:
    actors = [_actor_row(view, entity) for entity in view.actors]
    return _of_dicts(actors, _columns("actors"), "actor_id")


def _actor_row(view: View, entity: dict[str, Any]) -> dict[str, Any]:
    return {
        **entity,
        "serialized_runtime_env": json.dumps(entity["serialized_runtime_env"] or {}),
        "death_cause": _death_of(view, entity) if entity["state"] == "DEAD" else None,
        "fallback_strategy": entity["fallback_strategy"] or None,
    }


def _death_of(view: View, entity: dict[str, Any]) -> dict[str, Any]:
    """Say in Ray's form why an actor is dead: with its driver, if nothing else is known."""
    cause = entity["death_cause"] or _LOST
    reason = _DEATHS.get(cause["reason"], cause["reason"])
    if reason == "ACTOR_CREATION_FAILED":
        context = {
            "formatted_exception_string": cause["error_message"],
            "actor_id": entity["actor_id"],
        }
        return {"creation_task_failure_context": context}
    ip = view.meta.get("ip")
    context = {
        "error_message": cause["error_message"],
        "owner_id": view.workers.get(_DRIVER, {}).get("worker_id"),
        "owner_ip_address": ip,
        "node_ip_address": ip,
        **{key: entity[key] for key in ("pid", "ray_namespace", "class_name", "actor_id")},
        "reason": reason,
        "name": entity["name"],
        "never_started": entity["worker"] is None,
    }
    return {"actor_died_error_context": context}


def _workers(view: View) -> Source[Any]:
    def row(number: int, entity: dict[str, Any]) -> dict[str, Any]:
        return {
            **entity,
            "is_alive": view.alive and bool(entity["is_alive"]),
            "node_id": view.meta["node_id"],
            "ip": view.meta.get("ip"),
            "worker_launch_time_ms": _ms(entity.get("launched")),
            "worker_launched_time_ms": _ms(entity.get("forked")),
            "start_time_ms": _ms(entity.get("ready")),
            "end_time_ms": _ms(entity.get("ended")) or 0,  # as in Ray
        }

    rows = [row(number, entity) for number, entity in view.workers.items()]
    return _of_dicts(rows, _columns("workers"), "worker_id")


def _objects(view: View) -> Source[Any]:
    return _of_dicts(view.live.get("objects", ()), _columns("objects"), "object_id")


def _nodes(view: View) -> Source[Any]:
    meta = view.meta
    row = {
        "node_id": meta["node_id"],
        "node_ip": meta.get("ip"),
        "is_head_node": True,
        "state": "ALIVE" if view.alive else "DEAD",
        "state_message": None if view.alive else "The session has ended.",
        "node_name": meta.get("ip"),
        "resources_total": meta.get("total") or {},
        "labels": meta.get("labels") or {},
        "start_time_ms": _ms(meta.get("started_at")),
        "end_time_ms": _ms(meta.get("ended_at")),
    }
    return _of_dicts([row], _columns("nodes"), "node_id")


def _jobs(view: View) -> Source[Any]:
    meta = view.meta
    lost = not view.alive and meta.get("ended_at") is None
    row = {
        "job_id": view.job.hex(),
        "submission_id": None,
        "entrypoint": meta.get("entrypoint") or "",
        "type": "DRIVER",
        "status": "RUNNING" if view.alive else "FAILED" if lost else "SUCCEEDED",
        "message": "The driver was killed, or it crashed." if lost else None,
        "error_type": None,
        "driver_info": {
            "id": view.job.hex(),
            "node_ip_address": meta.get("ip"),
            "pid": str(meta.get("pid")),
        },
        "start_time": _ms(meta.get("started_at")),
        "end_time": _ms(meta.get("ended_at")),
        "metadata": meta.get("metadata") or {},
        "runtime_env": meta.get("runtime_env") or {},
        "driver_agent_http_address": None,
        "driver_node_id": meta["node_id"],
        "driver_exit_code": None,
    }
    return _of_dicts([row], _columns("jobs"), "job_id")


def _placement_groups(view: View) -> Source[Any]:
    groups = view.placement_groups
    if not view.alive:
        groups = [{**entity, "state": "REMOVED"} for entity in groups]
    return _of_dicts(groups, _columns("placement_groups"), "placement_group_id")


def _runtime_envs(view: View) -> Source[Any]:
    """Make the source of the environments that something asked for, each once."""
    texts = {
        number: json.dumps(entity["runtime_env"], sort_keys=True)
        for number, entity in view.signatures.items()
        if entity["runtime_env"]
    }
    rows = {
        text: {
            "runtime_env": json.loads(text),
            "success": True,
            "creation_time_ms": None,
            "node_id": view.meta["node_id"],
            "ref_cnt": 0,
            "error": None,
            "text": text,
        }
        for text in texts.values()
    }
    for record in view.records() if rows else ():
        text = texts.get(record.signature)
        if text is None:
            continue
        row = rows[text]
        row["ref_cnt"] += record.ended is None
        if record.error_type == "RUNTIME_ENV_SETUP_FAILED":
            row.update(success=False, error=record.error_message)
    return _of_dicts(rows.values(), _columns("runtime_envs"), "text")


def _cluster_events(view: View) -> Source[Any]:
    def row(number: int, event: tuple[Any, ...]) -> dict[str, Any]:
        at, severity, source, message = event[:4]
        return {
            "severity": severity,
            "time": str(dt.datetime.fromtimestamp(at)),  # noqa: DTZ006 - the reader's own clock
            "source_type": source,
            "message": message,
            "event_id": sha256(f"{number} {at} {message}".encode()).hexdigest()[:36],
            "custom_fields": {},
            "at": at,
        }

    rows = [row(number, event) for number, event in enumerate(view.events)]
    return _of_dicts(rows, _columns("cluster_events"), "at")


_SOURCES: dict[str, Callable[[View], Source[Any]]] = {
    "actors": _actors,
    "jobs": _jobs,
    "placement_groups": _placement_groups,
    "nodes": _nodes,
    "workers": _workers,
    "tasks": _tasks,
    "objects": _objects,
    "runtime_envs": _runtime_envs,
    "cluster_events": _cluster_events,
}
