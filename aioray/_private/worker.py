"""What libraries import from `ray._private.worker`, or from `ray.worker`, its old place.

Room: api. The public way to nearly all of it is `get_runtime_context`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aioray.api.actors import kill
from aioray.api.objects import get, put, wait
from aioray.api.session import RayContext, init, is_initialized, shutdown
from aioray.client.current import execution_context
from aioray.client.protocol import registry

if TYPE_CHECKING:
    from aioray.runtime_context import RuntimeContext

__all__ = [
    "LOCAL_MODE",
    "SCRIPT_MODE",
    "WORKER_MODE",
    "BaseContext",
    "RayContext",
    "Worker",
    "get",
    "get_resource_ids",
    "global_worker",
    "init",
    "is_initialized",
    "kill",
    "put",
    "shutdown",
    "wait",
]

SCRIPT_MODE = 0
WORKER_MODE = 1
LOCAL_MODE = 2

BaseContext = RayContext

_global_node = None  # Ray's own processes on this machine, of which there are none
blocking_get_inside_async_warned = True  # libraries set it to be warned no more


class Worker:
    """This process in the session: what libraries ask Ray's own object of this name."""

    @property
    def mode(self) -> int | None:
        """The mode: WORKER_MODE, LOCAL_MODE, or SCRIPT_MODE in a driver; None without a session."""
        client = registry.current()
        if getattr(client, "runs_inline", False):
            return LOCAL_MODE
        if execution_context.job:
            return WORKER_MODE
        return None if client is None else SCRIPT_MODE

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return self.mode is not None

    def check_connected(self) -> None:
        """Raise RaySystemError if there is no session."""
        if not self.connected:
            from aioray.exceptions import RaySystemError

            raise RaySystemError("There is no session yet: call init() first.")

    @property
    def current_job_id(self) -> Any:
        """The JobID."""
        return _context().job_id

    @property
    def current_node_id(self) -> Any:
        """The NodeID."""
        return _context().node_id

    @property
    def current_task_id(self) -> Any:
        """The TaskID; nil in a driver."""
        from aioray.shared.id_classes import TaskID

        task = _context().get_task_id() if execution_context.job else None
        return TaskID.nil() if task is None else TaskID.from_hex(task)

    @property
    def actor_id(self) -> Any:
        """The ActorID; nil where this process is no actor."""
        from aioray.shared.id_classes import ActorID

        actor = _context().get_actor_id()
        return ActorID.nil() if actor is None else ActorID.from_hex(actor)

    @property
    def worker_id(self) -> bytes:
        """The id of this process, as bytes."""
        return bytes.fromhex(_context().get_worker_id())

    @property
    def namespace(self) -> str:
        """The namespace of the session."""
        return _context().namespace

    @property
    def node_ip_address(self) -> str:
        """The address of this machine."""
        return "127.0.0.1"

    @property
    def placement_group_id(self) -> Any:
        """The PlacementGroupID of the group that the task runs in; nil: it runs in none."""
        from aioray.shared.id_classes import PlacementGroupID

        group = _context().get_placement_group_id()
        return PlacementGroupID.nil() if group is None else PlacementGroupID.from_hex(group)

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what the running task submits runs in its placement group too."""
        return _context().should_capture_child_tasks_in_placement_group

    @property
    def runtime_env(self) -> str:
        """The runtime environment as JSON."""
        return _context().get_runtime_env_string()

    def __repr__(self) -> str:
        return f"<aioray's Worker, process {os.getpid()}>"


def _context() -> RuntimeContext:
    from aioray.runtime_context import RuntimeContext

    return RuntimeContext()


def get_resource_ids() -> dict[str, list[tuple[int, float]]]:
    """Return what the running task holds, as lists of (number, amount); {} in a driver."""
    if execution_context.attempt is None:
        return {}
    held = _context().get_assigned_resources()
    return {name: [(0, amount)] for name, amount in held.items()}


global_worker = Worker()
