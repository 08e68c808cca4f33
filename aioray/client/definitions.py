"""What a call is before anybody runs it, or makes an actor: checked, serialized, described.

Room: client, because tasks call remote functions too. Runs in the caller's
thread: whatever is wrong with a call is raised there. A `Definition` is all that one function's
options mean for its tasks, and can be sent; a call adds its arguments. An `ActorDefinition` is that
for a class and its actors, a `MethodDefinition` for a method and its calls.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ..options.actor import is_ordered, lanes_of
from ..options.task import DEFAULT_MAX_RETRIES, default_max_retries
from ..shared.serializability import explain, largest
from ..shared.serialization import ArgumentSlot, dump, dump_function, dumps
from .environments import WorkerEnvironment, extend
from .placement import Where, where_to_run
from .refs import ObjectRef
from .signatures import signature_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core.devices import Demand
    from ..core.intensity import RestartPolicy
    from ..core.retries import RetryPolicy
    from ..options.actor import ActorOptions
    from ..options.checks import RetryExceptions
    from ..shared.serialization import Pieces
    from .protocol import Call, Client
    from .refs import ObjectEntry

__all__ = [
    "ActorDefinition",
    "Definition",
    "MethodDefinition",
    "define",
    "define_actor",
    "define_method",
    "export",
    "max_retries_now",
    "serialize",
    "serialize_call",
]

MAX_CODE = 95 * 1024 * 1024  # bytes of a function, or a class, with what it has captured; as in Ray

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
    lanes: tuple[tuple[str, int], ...]  # see wire.Creation; the default one comes first
    max_pending_calls: int  # -1: unlimited
    saves_every: int  # see wire.Creation
    shuts_down: bool  # its class has a hook for the end, see `actor_exit`
    meta: bytes  # see client.ActorCode


class MethodDefinition(NamedTuple):
    """What the options of a method say about calls of it."""

    method: str  # the attribute
    name: str
    num_returns: int
    max_retries: int  # `max_task_retries`
    retry_rule: bytes | bool  # see wire.Attempt
    backpressure: int
    lane: str
    interruptible: bool


def define(
    call: Call, inherited: WorkerEnvironment, group: str = "", *, captures: bool = False
) -> Definition:
    """What the options of this call mean. inherited: the environment that the caller's tasks get.

    group, captures: the caller's, see `placement.where_to_run`. Raises ValueError for an
    environment variable that says nonsense about retries, and what `environments.extend` and
    `where_to_run` raise.
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
    )


def define_actor(
    call: Call, inherited: WorkerEnvironment, group: str = "", *, captures: bool = False
) -> ActorDefinition:
    """What the options of this call mean, whose code is an ActorCode; otherwise as `define`.

    Raises also what `actor_options.lanes_of` and `is_ordered` raise.
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
        lanes=lanes_of(options, asynchronous=asynchronous),
        max_pending_calls=options.max_pending_calls or -1,
        saves_every=options.checkpoint_every if code.saves else 0,
        shuts_down=code.shuts_down,
        meta=code.meta_of(options),
    )


def define_method(call: Call) -> MethodDefinition:
    """What the options of this call mean, whose code is a MethodCode; they are resolved."""
    code: Any = call.code
    options = call.options
    return MethodDefinition(
        method=code.method,
        name=options.name or code.name,
        num_returns=options.num_returns,
        max_retries=options.max_task_retries,
        retry_rule=_retry_rule(options.retry_exceptions),
        backpressure=max(0, options.generator_backpressure_num_objects),  # -1 is off too
        lane=options.concurrency_group,
        interruptible=options.interruptible,
    )


def _retry_rule(rule: RetryExceptions) -> bytes | bool:
    """In the form of `wire.Attempt.retry_rule`."""
    return rule if isinstance(rule, bool) else dump_function(rule)[0]


def max_retries_now() -> int:
    """The max_retries of a task that is submitted now and names none.

    Raises ValueError for an environment variable that says nonsense.
    """
    known = _environ
    if known is None or b"AIORAY_TASK_MAX_RETRIES" in known or b"RAY_TASK_MAX_RETRIES" in known:
        return default_max_retries(os.environ)
    return DEFAULT_MAX_RETRIES


def export(call: Call) -> tuple[bytes, Sequence[Any]]:
    """The code of the function or class, and the refs that it has captured.

    Raises TypeError if something cannot be serialized, ValueError if it is as large as only data
    can be: every process that runs it would have a copy.
    """
    target, name = call.code.function, call.code.name
    kind = "class" if isinstance(target, type) else "function"
    try:
        code, refs = dump_function(target)
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(target, name, dumps)
        raise TypeError(f"Could not serialize the {kind} {name!r}:\n{report}") from error
    if len(code) > MAX_CODE:
        raise ValueError(_too_large(target, name, kind, len(code)))
    return code, refs


def _too_large(target: Any, name: str, kind: str, size: int) -> str:
    what = f"actor {name}" if kind == "class" else f"remote function {target.__module__}.{name}"
    found = "".join(f"\n  {path}: {n >> 20} MiB" for path, n in largest(target, name, dumps))
    return (
        f"The {what} is too large ({size >> 20} MiB > FUNCTION_SIZE_ERROR_THRESHOLD="
        f"{MAX_CODE >> 20} MiB). Check that its definition is not implicitly capturing a large "
        f"array or other object in scope. Tip: use aioray.put() to put large objects in the "
        f"object store, and pass the refs as arguments. It has captured:{found}"
    )


def serialize_call(
    call: Call, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], client: Client
) -> tuple[bytes | Pieces, list[ObjectEntry] | None, Sequence[Any]]:
    """The arguments, serialized; the entries of top-level refs; and the refs inside values.

    Raises TypeError if something cannot be serialized, ValueError for another client's ref.
    """
    entries: list[ObjectEntry] | None = None
    if not args and not kwargs:
        return b"", None, ()
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) is ObjectRef:
            entries = []
            args, kwargs = _fill_slots(args, kwargs, entries, client)
            break
    try:
        payload, refs = dump((args, kwargs))
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = _blame(call, args, kwargs)
        raise TypeError(
            f"Could not serialize the arguments of {name}.remote():\n{report}"
        ) from error
    return payload, entries, refs


def _fill_slots(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    entries: list[ObjectEntry],
    client: Client,
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Replace top-level refs by slots, and collect their entries."""

    def slot(value: Any) -> Any:
        if type(value) is not ObjectRef:
            return value
        entry = value._entry
        if entry.owner() is not client:
            raise ValueError(
                f"{value!r} belongs to another engine. Get its value there and pass that."
            )
        entries.append(entry)
        return ArgumentSlot(len(entries) - 1)

    return tuple([slot(item) for item in args]), {key: slot(item) for key, item in kwargs.items()}


def serialize(value: Any, root: str, what: str) -> tuple[bytes | Pieces, Sequence[Any]]:
    """`dump`, with a TypeError that names the member of `what`, called `root`, that is to blame."""
    try:
        return dump(value)
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(value, root, dumps)
        raise TypeError(f"Could not serialize {what}:\n{report}") from error


def _blame(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Which parameter cannot be serialized, and what in it."""
    bound = signature_of(call.code.function).bind(*args, **kwargs).arguments
    for name, value in bound.items():
        try:
            dump(value)
        except Exception:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
            return explain(value, name, dumps)
    return explain((args, dict(kwargs)), "arguments", dumps)
