"""`get_runtime_context()`: tells code where it runs, in the driver or in which attempt of a task.

Room: api, also used in workers. Reads what the worker's main loop has noted and what the client
knows, and changes nothing. Beyond Ray it tells the number of the attempt.
"""

from __future__ import annotations

import copy
import logging
import os
from typing import TYPE_CHECKING, Any

from .client.current import execution_context, function_name
from .client.protocol import registry
from .shared import ids

if TYPE_CHECKING:
    from ._private.worker import Worker
    from .options.runtime_env import RuntimeEnv
    from .shared.id_classes import ActorID, JobID, NodeID, PlacementGroupID, TaskID
    from .shared.wire import Attempt

__all__ = ["RuntimeContext", "get_gpu_ids", "get_runtime_context"]

# Accelerators that Ray hands out besides GPUs; here they are custom resources without numbers.
_OTHER_ACCELERATORS = ("TPU", "neuron_cores", "HPU", "NPU", "RBLN", "FURIOSA", "MBLT", "TTNPU")

logger = logging.getLogger("aioray")


class RuntimeContext:
    """What the code that asks can know about its surroundings. Source: Ray API, RuntimeContext."""

    def _attempt(self, what: str) -> Attempt | None:
        if not execution_context.job:
            logger.warning("%s is not available in the driver: it is None.", what)
        return execution_context.attempt

    def get(self) -> dict[str, Any]:
        """Return the ids of job and node, the namespace, and in a worker those of task and actor.

        Ray's old way to ask: the methods below tell the same, and more.
        """
        _warn_of("get_xxx_id() methods to get relevant ids")
        found: dict[str, Any] = {
            "job_id": self._job_id(),
            "node_id": self._node_id(),
            "namespace": self.namespace,
        }
        if execution_context.job:
            if (task := self._task_id()) is not None:
                found["task_id"] = task
            if (actor := self._actor_id()) is not None:
                found["actor_id"] = actor
        return found

    @property
    def worker(self) -> Worker:
        """This process, with a `mode`: what libraries ask whether they run in a worker."""
        from ._private.worker import global_worker

        return global_worker

    @property
    def job_id(self) -> JobID:
        """The id of the job. Old: see get_job_id."""
        _warn_of("get_job_id()")
        return self._job_id()

    @property
    def node_id(self) -> NodeID:
        """The id of this machine in the session. Old: see get_node_id."""
        _warn_of("get_node_id()")
        return self._node_id()

    @property
    def task_id(self) -> TaskID | None:
        """The id of the running task; AssertionError in the driver. Old: see get_task_id."""
        _warn_of("get_task_id()")
        _check_in_worker()
        return self._task_id()

    @property
    def actor_id(self) -> ActorID | None:
        """The id of the actor that this is, None if it is none. Old: see get_actor_id.

        AssertionError in the driver.
        """
        _warn_of("get_actor_id()")
        _check_in_worker()
        return self._actor_id()

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """The id of the placement group that the task runs in, else the nil one.

        Old: see get_placement_group_id.
        """
        from .shared.id_classes import PlacementGroupID

        group = self.get_placement_group_id()
        return PlacementGroupID.nil() if group is None else PlacementGroupID.from_hex(group)

    def _job_id(self) -> JobID:
        from .shared.id_classes import JobID

        return JobID.from_hex(self.get_job_id())

    def _node_id(self) -> NodeID:
        from .shared.id_classes import NodeID

        return NodeID.from_hex(self.get_node_id())

    def _task_id(self) -> TaskID | None:
        from .shared.id_classes import TaskID

        attempt = execution_context.attempt
        return (
            None
            if attempt is None
            else TaskID(ids.task_id(execution_context.job, attempt.task_key))
        )

    def _actor_id(self) -> ActorID | None:
        from .shared.id_classes import ActorID

        actor = self.get_actor_id()
        return None if actor is None else ActorID.from_hex(actor)

    def get_job_id(self) -> str:
        """Return the id of the job in hexadecimal."""
        return (execution_context.job or _client().job).hex()

    def get_task_id(self) -> str | None:
        """Return the id of the running task in hexadecimal; None, with a warning, in the driver."""
        attempt = self._attempt("get_task_id()")
        return (
            None if attempt is None else ids.task_id(execution_context.job, attempt.task_key).hex()
        )

    def get_task_name(self) -> str | None:
        """Return the name of the running task: its `name` option, or the function's name."""
        attempt = execution_context.attempt
        return None if attempt is None else attempt.name

    def get_task_function_name(self) -> str | None:
        """Return module and name of the running function or method; None in the driver.

        Of a function inside another the name is its own alone, and the module of a script is called
        as its file, as in Ray.
        """
        return function_name()

    def get_attempt_number(self) -> int | None:
        """Return which attempt of the task this is, from 0; None in the driver. Beyond Ray."""
        attempt = execution_context.attempt
        return None if attempt is None else attempt.attempt

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that this process is, in hexadecimal; None: it is none."""
        return None if execution_context.actor is None else execution_context.actor.actor_id

    def get_actor_name(self) -> str | None:
        """Return the name of the actor that this process is, "" without one; None: no actor."""
        return None if execution_context.actor is None else execution_context.actor.name

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that this is. RuntimeError outside of actors."""
        if execution_context.actor is None:
            raise RuntimeError("This is not an actor: current_actor is for its methods.")
        from .actor import own_handle

        return own_handle()

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor was restarted. AssertionError outside of actors."""
        assert execution_context.actor is not None, "was_current_actor_reconstructed is for actors."
        return execution_context.actor.restarted

    def get_node_id(self) -> str:
        """Return the id of this machine in the session, in hexadecimal."""
        return execution_context.node_id or str(_client().node_id)

    def get_worker_id(self) -> str:
        """Return the id of this process in the session, in hexadecimal."""
        if execution_context.job:
            return execution_context.worker_id
        return ids.driver_id(_client().job).hex()

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this machine."""
        labels: dict[str, str] = _client().nodes()[0]["Labels"]
        return labels

    def get_temp_dir(self) -> str:
        """Return the folder in which the session has its own folder."""
        if execution_context.job:
            return os.path.dirname(execution_context.folder)
        return str(os.path.dirname(_client().own_session().folder))

    @property
    def gcs_address(self) -> str:
        """Where Ray's control service would be: the address that `init` tells."""
        return "local"

    def get_session_name(self) -> str:
        """Return the name of the session."""
        return execution_context.session or str(_client().session)

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Do as `get_accelerator_ids`: Ray's old name for it."""
        _warn_of("get_accelerator_ids()")
        return self.get_accelerator_ids()

    def get_assigned_resources(self) -> dict[str, float]:
        """Return what the running task or the actor holds, such as {"CPU": 1.0}.

        AssertionError in the driver.
        """
        attempt = execution_context.attempt
        assert attempt is not None, "get_assigned_resources() is for tasks, not for the driver."
        return {name: amount / 10_000 for name, amount in attempt.resources}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the GPUs of the running task under "GPU", as CUDA_VISIBLE_DEVICES names them.

        In the driver, and for the kinds of accelerators that only Ray has, the list is empty.
        """
        attempt = execution_context.attempt
        gpus = [] if attempt is None else list(attempt.devices)
        return {"GPU": gpus, **{kind: [] for kind in _OTHER_ACCELERATORS}}

    def get_placement_group_id(self) -> str | None:
        """Return the id of the task's placement group, in hexadecimal; None outside of one."""
        attempt = execution_context.attempt
        return None if attempt is None or not attempt.group else attempt.group

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what the running task submits runs in its placement group too."""
        attempt = execution_context.attempt
        return attempt is not None and attempt.captures

    def get_runtime_env_string(self) -> str:
        """Return the runtime environment as JSON, see `runtime_env`."""
        import json

        return json.dumps(self._environment(), sort_keys=True)

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The whole runtime environment: of the running task, or in the driver of the session.

        A worker_process_setup_hook that was given as a function stands there by its name.
        """
        from .options.runtime_env import RuntimeEnv

        env = RuntimeEnv()
        env.update(self._environment())  # as it was when it was checked: it may be gone by now
        return env

    def _environment(self) -> dict[str, Any]:
        found: dict[str, Any] = (
            execution_context.env if execution_context.job else _client().runtime_env
        )
        return copy.deepcopy(found)

    def is_canceled(self) -> bool:
        """Tell whether the running call of an actor was asked to stop.

        RuntimeError in the driver. In a task this is False: a cancel arrives as KeyboardInterrupt
        instead. In an asynchronous actor it arrives as CancelledError: RuntimeError.
        """
        attempt, actor = execution_context.attempt, execution_context.actor
        if attempt is None:
            raise RuntimeError(
                "is_canceled() is for tasks and methods of actors: not for the driver, nor for a "
                "thread that was started in an actor whose methods run side by side."
                if actor is not None
                else "is_canceled() is for tasks and methods of actors, not for the driver."
            )
        if actor is None:
            return False
        if actor.asynchronous:
            raise RuntimeError(
                "is_canceled() is not for asynchronous actors: a cancel arrives in the method as "
                "asyncio.CancelledError."
            )
        return actor.is_cancelled(attempt.seq)

    @property
    def namespace(self) -> str:
        """The namespace of the session."""
        return execution_context.namespace or str(_client().namespace)

    @property
    def worker_pid(self) -> int:
        """The pid of this process."""
        return os.getpid()


def _warn_of(instead: str) -> None:
    import warnings

    from .shared.deprecation import RayDeprecationWarning

    warnings.warn(
        f"This API is deprecated and may be removed in future Ray releases. Use {instead} instead.",
        RayDeprecationWarning,
        stacklevel=3,
    )


def _check_in_worker() -> None:
    assert execution_context.job, "This is for tasks and actors; this process is a driver."


def _client() -> Any:
    client = registry.current()
    if client is None:
        from .api.session import client_for_call

        return client_for_call()
    return client


def get_gpu_ids() -> list[int] | list[str]:
    """Return the GPUs that the running task may use; none in the driver.

    They are numbers from 0; or, if CUDA_VISIBLE_DEVICES was set when the session began, the names
    that stood there. The variable is set to the same in the task's process.
    Source: Ray API reference, ray.get_gpu_ids.
    """
    attempt = execution_context.attempt
    if attempt is None:
        return []
    if execution_context.visible_devices is None:
        return [int(name) for name in attempt.devices]
    return list(attempt.devices)


def get_runtime_context() -> RuntimeContext:
    """Return the context of the code that calls, in the driver or in a task.

    Starts a session if there is none, as in Ray.
    """
    if not execution_context.job:
        _client()
    return RuntimeContext()
