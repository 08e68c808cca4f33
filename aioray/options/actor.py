"""What may be asked of a class of actors, of its methods and of single calls: checked and frozen.

Room: options. It checks and translates what the user wrote and decides nothing; it starts nothing
and imports neither client nor engine. Single options are checked by `checks`, and what is
the same for tasks and actors is in its table.

Options are checked where they are written: at the decorator, at `.options()` of a class, at
`@method`. As in Ray there are two exceptions: those of single calls are looked at by `.remote()`,
and so are an empty name and two rules of Ray's about what goes together: `is_ordered` has one of
these, `actor` the rest.

Names and errors are Ray's (API reference of ray.remote and ray.method) unless a docstring says
otherwise.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aioray.core.intensity import RestartPolicy
from aioray.exceptions import UnsupportedFeatureError
from aioray.options.checks import (
    COMMON_OPTIONS,
    check_amount,
    check_backpressure,
    check_gpus,
    check_labels,
    check_namespace,
    check_num_returns,
    check_retry_exceptions,
    check_together,
    did_you_mean,
    instance,
    integer,
    returns_of,
    seconds,
    size,
)
from aioray.options.messages import show, show_typed
from aioray.shared.limiter import Limiter
from aioray.shared.options import ActorOptions, MethodOptions

from ..core.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "check_method_names",
    "parse_actor_options",
    "parse_method_options",
]

MAX_RESTARTS: Final = 2**63 - 1  # as in Ray


# --- classes ------------------------------------------------------------------------------------


def parse_actor_options(
    given: Mapping[str, Any], *, base: ActorOptions | None, asynchronous: bool, saves: bool
) -> ActorOptions:
    """Check the options of a class of actors and return all of them, frozen.

    `given` holds what the user wrote. `base` is None for a decorator; for .options() it holds the
    decorator's options, of which those in `given` are replaced (never merged) and all others kept.
    `asynchronous` says whether a method of the class is a coroutine function, `saves` whether it
    has the hooks that save its state.

    Raises ValueError for an unknown option, one of tasks, concurrency groups in .options(), a value
    out of range, get_if_exists without name, a placement group beside a scheduling strategy, and
    for `interruptible` or the hooks where calls run side by side; TypeError for a value of a wrong
    type; UnsupportedFeatureError for what aioray does not have.
    Source: Ray API reference, ray.remote. Beyond it: restart_policy, a RestartPolicy;
    interruptible; checkpoint_every; priority.
    """
    values: dict[str, Any] = {}
    for option, value in given.items():
        if option not in _ACTOR_OPTIONS:
            _refuse_actor_option(option)
        if base is not None and option == "concurrency_groups":
            raise ValueError(
                "Setting 'concurrency_groups' is not supported in '.options()': set it in the "
                "decorator, @remote(concurrency_groups=...)"
            )
        values[option.removeprefix("_")] = _ACTOR_OPTIONS[option](option, value)
    check_together(values)
    for option in ("object_store_memory", "enable_tensor_transport"):
        values.pop(option, None)
    if base is not None and values.get("max_task_retries", 0) is None:
        del values["max_task_retries"]  # not said: the decorator decides
    elif values.get("max_task_retries", 0) is None:
        values["max_task_retries"] = 0
    options = ActorOptions(**values) if base is None else replace(base, **values)
    if options.get_if_exists and not options.name:
        raise ValueError(
            "The actor name must be specified to use `get_if_exists`: give name=... as well"
        )
    if _side_by_side(options, asynchronous=asynchronous):
        because = (
            "calls of this actor run side by side (it has coroutine methods, max_concurrency > 1 "
            "or concurrency_groups)"
        )
        if options.interruptible:
            raise ValueError(
                f"interruptible=True needs calls that run one after the other, in the main thread, "
                f"but {because}: leave it out, and look at get_runtime_context().is_canceled()"
            )
        if saves:
            raise ValueError(
                f"__aioray_save__ and __aioray_restore__ need calls that run one after the other, "
                f"or no state would be that after a call, but {because}: leave the hooks out"
            )
    return options


def _side_by_side(options: ActorOptions, *, asynchronous: bool) -> bool:
    return asynchronous or (options.max_concurrency or 1) > 1 or len(options.concurrency_groups) > 0


def _refuse_actor_option(option: str) -> NoReturn:
    valid = ", ".join(sorted(_ACTOR_OPTIONS))
    hint = _TASK_ONLY.get(option)
    what = "no option of actors." if hint is None else f"an option of tasks, not of actors: {hint}."
    meant = "" if hint else did_you_mean(option, _ACTOR_OPTIONS)
    raise ValueError(f"{option!r} is {what}{meant} Valid options are: {valid}")


_OF_METHODS: Final = "give it to a method, @method({}=...)"
_TASK_ONLY: Final = {
    "limiter": _OF_METHODS.format("limiter"),
    "_generator_backpressure_num_objects": _OF_METHODS.format(
        "_generator_backpressure_num_objects"
    ),
    "_num_objects_per_yield": _OF_METHODS.format("_num_objects_per_yield"),
    "breaker": "use max_restarts and restart_policy, which count the deaths of an actor",
    "max_calls": "an actor lives as long as its handles, or until it calls exit_actor()",
    "max_retries": "use max_restarts for the actor and max_task_retries for its calls",
    "num_returns": _OF_METHODS.format("num_returns"),
    "retry": "use restart_policy for the delays between restarts",
    "retry_exceptions": _OF_METHODS.format("retry_exceptions"),
}


def _check_restarts(option: str, value: Any) -> int:
    restarts: int = integer(-1, none=0, zero=" (-1 means unlimited)")(option, value)
    return min(restarts, MAX_RESTARTS)


def _check_groups(option: str, value: Any) -> dict[str, int]:
    expected = f"{option} must be a dict of names to the number of calls that may run at once"
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    for name, limit in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{expected}, got the name {show_typed(name)}")
        if not name:
            raise ValueError(f"{expected}; a name must not be empty")
        integer(1)(f"{option}[{name!r}]", limit)
    return dict(value)


def _check_lifetime(option: str, value: Any) -> str | None:
    expected = f"actor `{option}` argument must be one of 'detached', 'non_detached' and None"
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if value not in {None, "detached", "non_detached"}:
        raise ValueError(f"{expected}, got {show(value)}")
    return value


def _check_name(option: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, got {show_typed(value)}")
    return value


def _check_actor_backpressure(option: str, value: Any) -> int | None:
    expected = f"{option} must be an int > 0, -1 (off) or None"
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if value is not None and value < 1 and value != -1:
        raise ValueError(f"{expected}, got {value}")
    return value


def _check_store_memory(option: str, value: Any) -> None:
    if value is not None:
        warnings.warn(
            f"{option} has no effect for actors: leave it out, or give it to init()",
            DeprecationWarning,
            stacklevel=5,
        )


def _check_tensor_option(option: str, value: Any) -> None:
    if instance(bool, "a bool")(option, value):
        raise UnsupportedFeatureError(
            f"{option} is not supported by aioray.", "Leave it out: tensors are passed like others."
        )


_ACTOR_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = COMMON_OPTIONS | {
    "max_restarts": _check_restarts,
    "restart_policy": instance(RestartPolicy, "a RestartPolicy"),
    "max_task_retries": integer(-1, none=None, zero=" (-1 means unlimited)"),
    "max_concurrency": integer(0, none=None),
    "max_pending_calls": integer(-1, none=-1, zero=" (-1 means unlimited)"),
    "concurrency_groups": _check_groups,
    "allow_out_of_order_execution": instance(bool, "a bool"),
    "lifetime": _check_lifetime,
    "namespace": lambda option, value: None if value is None else check_namespace(option, value),
    "get_if_exists": instance(bool, "a bool", none=False),
    "interruptible": instance(bool, "a bool", none=False),
    "checkpoint_every": integer(0, zero=" (0 means never)"),
    "num_cpus": lambda option, value: None if value is None else check_amount(option, value),
    "num_gpus": lambda option, value: None if value is None else check_gpus(option, value),
    "object_store_memory": _check_store_memory,
    "name": _check_name,
    "enable_tensor_transport": _check_tensor_option,
    "_actor_generator_backpressure_num_objects": _check_actor_backpressure,
}


# --- methods and calls --------------------------------------------------------------------------


def parse_method_options(
    given: Mapping[str, Any], *, where: str, is_generator: bool
) -> MethodOptions:
    """Check the options of a method, or of some calls of it.

    `where` is "method" for the decorator, "call" for `handle.m.options()`. `is_generator` says
    whether the method is a generator function.

    Raises for an unknown option, as Ray, AssertionError in the decorator and TypeError for a call;
    TypeError for a value of a wrong type; ValueError for one out of range, and for a num_returns
    that is for generators if the method is none. Warns of num_returns="dynamic", as Ray does.
    Source: Ray API reference, ray.method. Beyond it: interruptible.
    """
    valid = check_method_names(given, where=where)
    values: dict[str, Any] = {}
    for option, value in given.items():
        values[option.removeprefix("_")] = valid[option](option, value)
    if values.get("num_returns") is not None:
        values["num_returns"] = returns_of(values["num_returns"], is_generator=is_generator)
    return MethodOptions(**values)


def check_method_names(
    given: Mapping[str, Any], *, where: str
) -> Mapping[str, Callable[[str, Any], Any]]:
    """Return the check of each option; raise, as `parse_method_options`, for an unknown one."""
    valid = _METHOD_OPTIONS if where == "method" else _CALL_OPTIONS
    for option in given:
        if option not in valid:
            _refuse_method_option(option, where, valid)
    return valid


def _refuse_method_option(option: str, where: str, valid: Mapping[str, Any]) -> NoReturn:
    meant = did_you_mean(option, valid)
    names = ", ".join(sorted(valid))
    if where == "method":
        raise AssertionError(
            f"Unexpected keyword argument to @method: {option!r}.{meant} The supported keyword "
            f"arguments are: {names}"
        )
    raise TypeError(
        f"options() of an actor's method got an unexpected keyword argument {option!r}.{meant} "
        f"Valid options are: {names}"
    )


def _check_tensor_transport(option: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, got {show_typed(value)}")
    if value is not None and value.upper() != "OBJECT_STORE":
        raise ValueError(
            f"Invalid tensor transport: {show(value)}. aioray has 'object_store' only: leave it out"
        )
    return value


_METHOD_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "num_returns": check_num_returns,
    "concurrency_group": instance(str, "a str"),
    "max_task_retries": integer(-1, none=None, zero=" (-1 means unlimited)"),
    "retry_exceptions": lambda option, value: (
        None if value is None else check_retry_exceptions(option, value)
    ),
    "interruptible": instance(bool, "a bool"),
    "timeout": seconds(none=math.inf),  # None is said, and lifts a limit
    "deadline": seconds(zero=True, none=math.inf),
    "stall_timeout": seconds(none=math.inf),
    "memory_limit": size(none=math.inf),
    "limiter": lambda option, value: (
        False if value is None else instance(Limiter, "an aioray.Limiter")(option, value)
    ),
    "_generator_backpressure_num_objects": check_backpressure,
    "_num_objects_per_yield": integer(1, none=None),
    "enable_task_events": instance(bool, "a bool"),
    "tensor_transport": _check_tensor_transport,
}
_CALL_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = _METHOD_OPTIONS | {
    "name": instance(str, "a str"),
    "_labels": check_labels,
}
