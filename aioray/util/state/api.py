"""The functions of the state API.

Room: api. The answers come from `aioray.state.read.queries`; here arguments are translated, rows
are made of dicts, and errors get Ray's names. All functions may be called from a driver, a task, an
actor, or a process without a session; on the engine's own loop too, which they do not wait for.

What they have in common:

address: None or "auto": in a driver or a worker its own session, in a process that a driver has
started that one's, elsewhere the newest of this user that runs, else the newest; or the name of a
session, or the pid of its driver. timeout: seconds that a session may take to
answer. detail: fill the columns that are None without. raise_on_missing_output, _explain: no
effect, nothing is ever missing. Rows are ordered by id, attempts of a task by their number.
They raise RayStateApiException for unknown columns, values that a column cannot have, ids of a
wrong length and limits that are too large; ServerUnavailable, which is also a ConnectionError, if
there is no session; ValueError for what is no filter at all.
Source: Ray API reference, ray.util.state. Unlike Ray's, an answer is never a second behind.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, cast

from aioray.client.protocol import registry
from aioray.state.read.columns import RESOURCES
from aioray.state.read.filters import FilterFormatError, QueryError
from aioray.state.read.queries import get_rows, list_rows, summarize
from aioray.state.read.sessions import SessionError, find_session
from aioray.util.state.common import (
    DEFAULT_LIMIT,
    DEFAULT_RPC_TIMEOUT,
    GetApiOptions,
    ListApiOptions,
    StateResource,
    SummaryApiOptions,
    SummaryResource,
)
from aioray.util.state.exception import RayStateApiException, ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioray.client.refs import ObjectRef
    from aioray.state.read.sessions import Session
    from aioray.state.read.view import View
    from aioray.util.state.common import (
        ActorState,
        ClusterEventState,
        Filters,
        JobState,
        NodeState,
        ObjectState,
        PlacementGroupState,
        RuntimeEnvState,
        TaskState,
        WorkerState,
    )

__all__ = [
    "StateApiClient",
    "get_actor",
    "get_job",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_jobs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_runtime_envs",
    "list_tasks",
    "list_workers",
    "open_session",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]

_OWN = (None, "auto", "local")


def open_session(address: str | None = None) -> Session:
    """Find the session that `address` means, see above.

    Raises ServerUnavailable if there is none.
    """
    client = registry.current() if address in _OWN else None
    if client is not None:
        return client.own_session()
    try:
        found = find_session(address)
    except SessionError as error:
        raise ServerUnavailable(str(error)) from error
    own = (client.own_session() for client in registry.by_job.values())
    # By the socket it would wait for itself, on the event loop that the engine runs on.
    return next((session for session in own if session.name == found.name), found)


class StateApiClient:
    """The state API as an object, which remembers whom to ask. Most programs use the functions."""

    def __init__(
        self,
        address: str | None = None,
        cookies: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        """Make a client of the session that `address` means, see above.

        cookies, headers: no effect: there is no web server between.
        """
        self._address = address

    def list(
        self,
        resource: StateResource,
        options: ListApiOptions,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Any]:
        """List rows of a resource. The driver's own row is among the tasks if options say so."""
        name = StateResource(resource).value
        with self._view(name, options.timeout) as view:
            answer = list_rows(
                view,
                name,
                options.filters or (),
                limit=_limit(options.limit),
                detail=options.detail,
                exclude_driver=options.exclude_driver,
            )
        for warning in answer.warnings:
            warnings.warn(warning, UserWarning, stacklevel=4)
        return [RESOURCES[name].schema(**row) for row in answer.rows]

    def get(
        self,
        resource: StateResource,
        id: str,  # noqa: A002 - Ray's name
        options: GetApiOptions | None = None,
        _explain: bool = False,
    ) -> Any:
        """Get the entry with this id, with all columns; None if there is none.

        A list of rows for an object, and for a task with several attempts.
        """
        name = StateResource(resource).value
        with self._view(name, (options or GetApiOptions()).timeout) as view:
            found = get_rows(view, name, id)
        rows = [RESOURCES[name].schema(**row) for row in found]
        if name == "objects":
            return rows
        return rows if len(rows) > 1 else rows[0] if rows else None

    def summary(
        self,
        resource: SummaryResource,
        *,
        options: SummaryApiOptions | None = None,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> dict[str, Any]:
        """Count what there is of a resource by its states, below the key "cluster"."""
        name = SummaryResource(resource).value
        with self._view(name, (options or SummaryApiOptions()).timeout) as view:
            return {"cluster": summarize(view, name)}

    @contextlib.contextmanager
    def _view(self, resource: str, timeout: float) -> Iterator[View]:
        want = ("objects",) if resource == "objects" else ()
        try:
            with open_session(self._address).view(want, timeout) as view:
                yield view
        except SessionError as error:
            raise ServerUnavailable(str(error)) from error
        except FilterFormatError:
            raise
        except QueryError as error:
            raise RayStateApiException(str(error)) from error


def _limit(limit: Any) -> int:
    """Return the limit as an int; Ray takes "5" too. Raises ValueError for no whole number."""
    if isinstance(limit, float) and not limit.is_integer():
        raise ValueError(f"limit must be a whole number, got {limit!r}")
    try:
        return int(limit)
    except TypeError:
        raise ValueError(f"limit must be a whole number, got {limit!r}") from None


def _list(
    resource: StateResource,
    address: str | None,
    filters: Filters | None,
    limit: int,
    timeout: float,
    detail: bool,
) -> list[Any]:
    options = ListApiOptions(limit=limit, timeout=timeout, detail=detail, filters=filters or [])
    return StateApiClient(address).list(resource, options)


def _get(
    resource: StateResource,
    identifier: str,
    address: str | None,
    timeout: float,
) -> Any:
    return StateApiClient(address).get(resource, identifier, GetApiOptions(timeout=timeout))


def list_actors(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ActorState]:
    """List the actors there are and were. For the arguments see above."""
    return _list(StateResource.ACTORS, address, filters, limit, timeout, detail)


def list_placement_groups(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[PlacementGroupState]:
    """List the placement groups there are and were. For the arguments see above."""
    return _list(StateResource.PLACEMENT_GROUPS, address, filters, limit, timeout, detail)


def list_nodes(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[NodeState]:
    """List the nodes: this machine. For the arguments see above."""
    return _list(StateResource.NODES, address, filters, limit, timeout, detail)


def list_jobs(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[JobState]:
    """List the jobs of the session, which is one: the program. For the arguments see above."""
    return _list(StateResource.JOBS, address, filters, limit, timeout, detail)


def list_workers(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[WorkerState]:
    """List the workers there are and were, and the driver. For the arguments see above."""
    return _list(StateResource.WORKERS, address, filters, limit, timeout, detail)


def list_tasks(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[TaskState]:
    """List the attempts of tasks, calls of actors too. For the arguments see above."""
    return _list(StateResource.TASKS, address, filters, limit, timeout, detail)


def list_objects(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ObjectState]:
    """List the objects that a living session holds. For the arguments see above."""
    return _list(StateResource.OBJECTS, address, filters, limit, timeout, detail)


def list_runtime_envs(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[RuntimeEnvState]:
    """List the runtime environments that were asked for. For the arguments see above."""
    return _list(StateResource.RUNTIME_ENVS, address, filters, limit, timeout, detail)


def list_cluster_events(
    address: str | None = None,
    filters: Filters | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ClusterEventState]:
    """List the warnings and errors of the engine. For the arguments see above."""
    return _list(StateResource.CLUSTER_EVENTS, address, filters, limit, timeout, detail)


def get_actor(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> ActorState | None:
    """Get the actor with this id; None if there is none. For the arguments see above."""
    return cast("ActorState | None", _get(StateResource.ACTORS, id, address, timeout))


def get_placement_group(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> PlacementGroupState | None:
    """Get the placement group with this id; None if there is none. For the arguments see above."""
    return cast(
        "PlacementGroupState | None", _get(StateResource.PLACEMENT_GROUPS, id, address, timeout)
    )


def get_node(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> NodeState | None:
    """Get the node with this id; None if there is none. For the arguments see above."""
    return cast("NodeState | None", _get(StateResource.NODES, id, address, timeout))


def get_job(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> JobState | None:
    """Get the job with this id; None if there is none. For the arguments see above."""
    return cast("JobState | None", _get(StateResource.JOBS, id, address, timeout))


def get_worker(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> WorkerState | None:
    """Get the process with this id; None if there is none. For the arguments see above."""
    return cast("WorkerState | None", _get(StateResource.WORKERS, id, address, timeout))


def get_task(
    id: str | ObjectRef[Any],  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> TaskState | list[TaskState] | None:
    """Get the task with this id, or whose value this ref is; None if there is none.

    A list, by attempt, if there have been several. For the arguments see above.
    """
    identifier = id if isinstance(id, str) else id.task_id().hex()
    found = _get(StateResource.TASKS, identifier, address, timeout)
    return cast("TaskState | list[TaskState] | None", found)


def get_objects(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> list[ObjectState]:
    """Get what refers to the object with this id; empty if nothing does, where Ray returns None.

    For the arguments see above.
    """
    return cast("list[ObjectState]", _get(StateResource.OBJECTS, id, address, timeout))


def summarize_tasks(
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Count attempts of tasks by name and state. For the arguments see above."""
    options = SummaryApiOptions(timeout=timeout)
    return StateApiClient(address).summary(SummaryResource.TASKS, options=options)


def summarize_actors(
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Count actors by class and state. For the arguments see above."""
    options = SummaryApiOptions(timeout=timeout)
    return StateApiClient(address).summary(SummaryResource.ACTORS, options=options)


def summarize_objects(
    address: str | None = None,
    timeout: float = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Count objects and their sizes by the place that made them. For the arguments see above."""
    options = SummaryApiOptions(timeout=timeout)
    return StateApiClient(address).summary(SummaryResource.OBJECTS, options=options)
