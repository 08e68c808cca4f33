"""Describes what the options of a call mean, before anybody runs it, or makes an actor.

Room: client, because tasks call remote functions too. Runs in the caller's
thread: whatever is wrong with a call is raised there. A `Definition` is all that one function's
options mean for its tasks, and can be sent; a call adds what `arguments` has serialized. An
`ActorDefinition` is that for a class and its actors, a `MethodDefinition` for a method and its
calls.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..shared.options import (
    DEFAULT_MAX_RETRIES,
    concurrency_groups_of,
    default_max_retries,
    is_ordered,
    limits_of,
)
from ..shared.serialization import dump_function
from .environments import WorkerEnvironment, extend
from .placement import Where, where_to_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.devices import Demand
    from ..core.intensity import RestartPolicy
    from ..core.limits import TaskLimits
    from ..core.retries import RetryPolicy
    from ..shared.options import ActorOptions, RetryExceptions
    from .protocol import Call

__all__ = [
    "ActorDefinition",
    "Definition",
    "MethodDefinition",
    "define",
    "define_actor",
    "define_method",
    "max_retries_now",
]

# The dict behind os.environ. Looking there costs a twentieth of asking os.environ, which raises and
# catches for what is not set, and this is asked at every submission.
# None: somebody has put something else in its place, as test suites do, and that has to be asked.
_environ: Mapping[bytes, bytes] | None = getattr(os.environ, "_data", None)


class Definition(NamedTuple):
    """What the options of a remote function say about its tasks."""

    name: str
    num_returns: int
    max_retries: int | None  # None: ask the caller's environment at each submission
    max_calls: int
    policy: RetryPolicy | None
    priority: float  # 0.0: that of the task that calls, if one does
    demand: Demand
    environment: WorkerEnvironment
    retry_rule: bytes | bool  # see wire.Attempt
    backpressure: int  # items of a generator that may wait to be read; 0: any number
    where: Where
    limits: TaskLimits | None


class ActorDefinition(NamedTuple):
    """What the options of a class say about its actors."""

    class_name: str
    name: str  # of the actor; empty: none
    namespace: str  # empty: the session's
    detached: bool  # it lives also without handles
    max_restarts: int  # -1: unlimited
    restart_policy: RestartPolicy | None  # None: the default one
    priority: float
    demand: Demand  # what has to be free for its start
    keeps_cpus: bool  # all of that is held while it lives; False: all but the CPUs
    environment: WorkerEnvironment
    where: Where
    ordered: bool  # calls of one caller run in their order
    asynchronous: bool
    concurrency_groups: tuple[
        tuple[str, int], ...
    ]  # see wire.Creation; the default one comes first
    max_pending_calls: int  # -1: unlimited
    saves_every: int  # see wire.Creation
    shuts_down: bool  # its class has a hook for the end, see `actor_exit`
    meta: bytes  # see `client.actor_meta`
    limits: TaskLimits | None  # of making one


class MethodDefinition(NamedTuple):
    """What the options of a method say about calls of it."""

    method: str  # the attribute
    name: str
    num_returns: int
    max_retries: int  # `max_task_retries`
    retry_rule: bytes | bool  # see wire.Attempt
    backpressure: int
    concurrency_group: str
    interruptible: bool
    limits: TaskLimits | None


def define(
    call: Call, inherited: WorkerEnvironment, group: str = "", *, captures: bool = False
) -> Definition:
    """Return the definition of a remote function with the options of this call.

    inherited: the environment that the caller's tasks get. group, captures: the caller's, see
    `placement.where_to_run`. Raises ValueError for an environment variable that says nonsense about
    retries, and what `environments.extend` and `where_to_run` raise.
    """
    options = call.options
    environment = extend(inherited, options.runtime_env)
    max_retries = options.max_retries
    if max_retries is None:
        variables = environment.fields().get("env_vars", {})
        if "AIORAY_TASK_MAX_RETRIES" in variables or "RAY_TASK_MAX_RETRIES" in variables:
            max_retries = default_max_retries(variables)
    return Definition(
        options.name or call.code.name,
        options.num_returns,
        max_retries,
        options.max_calls,
        options.retry,
        options.priority,
        options.demand,
        environment,
        _retry_rule(options.retry_exceptions),
        max(0, options.generator_backpressure_num_objects or 0),  # -1 is off too
        where_to_run(options, group, captures),
        limits_of(options),
    )


def define_actor(
    call: Call, inherited: WorkerEnvironment, group: str = "", *, captures: bool = False
) -> ActorDefinition:
    """Return the definition of an actor. call: its code is an ActorCode. Otherwise as `define`.

    Raises also what `options.concurrency_groups_of` and `is_ordered` raise.
    """
    code: Any = call.code
    options: ActorOptions = call.options
    asynchronous = code.asynchronous
    return ActorDefinition(
        class_name=code.name,
        name=options.name or "",
        namespace=options.namespace or "",
        detached=options.lifetime == "detached",
        max_restarts=options.max_restarts,
        restart_policy=options.restart_policy,
        priority=options.priority,
        demand=options.demand,
        keeps_cpus=options.keeps_cpus,
        environment=extend(inherited, options.runtime_env),
        where=where_to_run(options, group, captures),
        ordered=is_ordered(options, asynchronous=asynchronous),
        asynchronous=asynchronous,
        concurrency_groups=concurrency_groups_of(options, asynchronous=asynchronous),
        max_pending_calls=options.max_pending_calls or -1,
        saves_every=options.checkpoint_every if code.saves else 0,
        shuts_down=code.shuts_down,
        meta=code.meta_of(options),
        limits=limits_of(options),
    )


def define_method(call: Call) -> MethodDefinition:
    """Return the definition of a method. call: its code is a MethodMeta, its options resolved."""
    code: Any = call.code
    options = call.options
    return MethodDefinition(
        method=code.method,
        name=options.name or code.name,
        num_returns=options.num_returns,
        max_retries=options.max_task_retries,
        retry_rule=_retry_rule(options.retry_exceptions),
        backpressure=max(0, options.generator_backpressure_num_objects),  # -1 is off too
        concurrency_group=options.concurrency_group,
        interruptible=options.interruptible,
        limits=limits_of(options),
    )


def _retry_rule(rule: RetryExceptions) -> bytes | bool:
    """Put the rule into the form of `wire.Attempt.retry_rule`."""
    return rule if isinstance(rule, bool) else dump_function(rule)[0]


def max_retries_now() -> int:
    """Return the max_retries of a task that is submitted now and names none.

    Raises ValueError for an environment variable that says nonsense.
    """
    known = _environ
    if known is None or b"AIORAY_TASK_MAX_RETRIES" in known or b"RAY_TASK_MAX_RETRIES" in known:
        return default_max_retries(os.environ)
    return DEFAULT_MAX_RETRIES
