"""Checks of single options: what a value must be, and what is kept of it.

Room: options. Each check is a function of (name, value) that returns the value to keep, or raises
TypeError or ValueError with a text that says what is expected, what was found and what to do. What
options there are, and which go together, is said in `task` (tasks, sessions) and `actor`
(actors, methods); names and errors are Ray's there too.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from aioray.options.messages import show, show_typed
from aioray.options.runtime_env import check_runtime_env
from aioray.shared.options import RESOURCE_UNITS, RetryExceptions, units
from aioray.shared.wire import DYNAMIC, STREAMING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aioray.shared.options import TaskOptions

__all__ = [
    "COMMON_OPTIONS",
    "amount_or",
    "check_amount",
    "check_backpressure",
    "check_context",
    "check_counted",
    "check_forwarding",
    "check_gpus",
    "check_labels",
    "check_namespace",
    "check_num_returns",
    "check_preload",
    "check_resources",
    "check_retry_exceptions",
    "check_together",
    "did_you_mean",
    "equals",
    "instance",
    "integer",
    "returns_of",
    "seconds",
    "size",
]

MAX_AMOUNT: Final = 1e15  # of one resource; in units it still is an exact float
MAX_SECONDS: Final = 1e15  # of a time limit, as good as none

# Ray's own; they are recognised by name, so that the classes need not be imported here.
_STRATEGY_CLASSES: Final = frozenset(
    {
        "NodeAffinitySchedulingStrategy",
        "NodeLabelSchedulingStrategy",
        "PlacementGroupSchedulingStrategy",
    }
)


def integer(least: int, *, none: Any = ..., zero: str = "") -> Callable[[str, Any], Any]:
    """Return a check for an int >= `least`; None is kept as `none` if that is given."""
    or_none = "" if none is ... else " or None"

    def check(option: str, value: Any) -> Any:
        if value is None and none is not ...:
            return none
        expected = f"{option} must be an int >= {least}{zero}{or_none}"
        if not isinstance(value, int):
            raise TypeError(f"{expected}, got {show_typed(value)}")
        if value < least:
            raise ValueError(f"{expected}, got {show(value)}")
        return int(value)  # True counts as 1, as in Ray

    return check


def instance(
    kinds: type | tuple[type, ...], expected: str, *, none: bool = True
) -> Callable[[str, Any], Any]:
    """Return a check for an instance of `kinds`, or None if `none` allows it."""

    def check(option: str, value: Any) -> Any:
        if (value is None and none) or (value is not None and isinstance(value, kinds)):
            return value
        or_none = " or None" if none else ""
        raise TypeError(f"{option} must be {expected}{or_none}, got {show_typed(value)}")

    return check


def check_counted(options: TaskOptions) -> TaskOptions:
    """Return options whose calls can be counted, if they are to be."""
    if options.max_pending is not None and options.num_returns == 0:
        raise ValueError(
            "max_pending needs a ref, which tells when a call has ended: leave num_returns=0 out. "
            "A function that returns nothing has a ref to None."
        )
    return options


def check_num_returns(option: str, value: Any) -> Any:
    """Check for an int >= 0, "streaming", "dynamic" or None."""
    if value is None or isinstance(value, str):
        if value in {None, "streaming", "dynamic"}:
            return value
        raise TypeError(f'{option} must be an int >= 0, "streaming" or None, got {show(value)}')
    return integer(0)(option, value)


def check_retry_exceptions(option: str, value: Any) -> RetryExceptions:
    """Check for a rule that says which errors are retried; a list becomes a tuple."""
    expected = (
        f"{option} must be True, False, a list or tuple of Exception subclasses, or a function "
        f"that takes the exception and returns a bool"
    )
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        for element in value:
            if not (isinstance(element, type) and issubclass(element, Exception)):
                raise ValueError(f"{expected}; the list holds {show_typed(element)}")
        return tuple(value)
    if isinstance(value, type):
        raise TypeError(f"{expected}, got the class {value.__qualname__}: put it into a list")
    if not callable(value):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    import inspect  # takes as long to load as all options, and few programs need it

    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{expected}, got a coroutine function: it must be a plain function")
    predicate: Callable[[BaseException], bool] = value
    return predicate


def check_priority(option: str, value: Any) -> float:
    """Check for a finite number; None is 0."""
    expected = f"{option} must be a finite number (the default is 0, and higher goes first)"
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    try:
        priority = float(value)
    except OverflowError:  # an int beyond all floats
        priority = math.inf
    if not math.isfinite(priority):
        raise ValueError(f"{expected}, got {show(value)}")
    return priority


def seconds(*, zero: bool = False, none: float | None = None) -> Callable[[str, Any], float | None]:
    """Return a check for a time limit; None, which is no limit, is kept as `none`."""
    least = ">= 0" if zero else "> 0"

    def check(option: str, value: Any) -> float | None:
        expected = f"{option} must be a finite number of seconds {least}, or None for no limit"
        if value is None:
            return none
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{expected}, got {show_typed(value)}")
        if not (value >= 0 if zero else value > 0) or not value <= MAX_SECONDS:
            raise ValueError(f"{expected}, got {show(value)}")
        return float(value)

    return check


def size(*, none: float | None = None) -> Callable[[str, Any], float | None]:
    """Return a check for a limit in bytes; None, which is no limit, is kept as `none`."""

    def check(option: str, value: Any) -> float | None:
        expected = f"{option} must be a number of bytes >= 1, or None for no limit"
        if value is None:
            return none
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{expected}, got {show_typed(value)}")
        if not 1 <= value <= MAX_AMOUNT:
            raise ValueError(f"{expected}, got {show(value)}")
        return int(value)

    return check


def amount_or(default: float) -> Callable[[str, Any], float]:
    """Return a check for an amount of a resource; None is `default`."""
    return lambda option, value: default if value is None else check_amount(option, value)


def check_gpus(label: str, value: Any) -> float:
    """Check for an amount of GPUs: whole ones, or a share of one."""
    amount = check_amount(label, value)
    if amount > 1 and amount % 1:
        raise ValueError(
            f"{label} must be a whole number, or a share of one GPU below 1: GPU quantities > 1 "
            f"must be whole numbers, got {value}"
        )
    return amount


def check_amount(label: str, value: Any) -> float:
    """Check for an amount of a resource."""
    expected = f"{label} must be a number: 0, or {1 / RESOURCE_UNITS} to {MAX_AMOUNT:g}"
    if not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if not 0 <= value <= MAX_AMOUNT:  # also false for NaN
        raise ValueError(f"{expected}, got {show(value)}")
    if value != 0 and units(value) == 0:
        raise ValueError(f"{expected}, got {value}: fractions are counted in 1/{RESOURCE_UNITS}")
    return int(value) if isinstance(value, bool) else value


def check_resources(option: str, value: Any) -> dict[str, float]:
    """Check for a dict of amounts by name; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{option} must be a dict of str to number, got {show_typed(value)}")
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"{option} must have str keys, got the key {show_typed(name)}")
        if name in _NAMED_RESOURCES:
            raise ValueError(
                f"{option} must not have the key {name!r}: {_NAMED_RESOURCES[name]} instead"
            )
    return {name: check_amount(f"{option}[{name!r}]", amount) for name, amount in value.items()}


_NAMED_RESOURCES: Final = {
    "CPU": "use num_cpus",
    "GPU": "use num_gpus",
    "memory": "use the memory option",
    "object_store_memory": "use object_store_memory of init()",
}


def check_strategy(option: str, value: Any) -> Any:
    """Check for a scheduling strategy, by the name of its class."""
    if value is None or isinstance(value, str) or type(value).__name__ in _STRATEGY_CLASSES:
        return value
    raise TypeError(
        f'{option} must be None, "DEFAULT", "SPREAD" or one of '
        f"{', '.join(sorted(_STRATEGY_CLASSES))}, got {show_typed(value)}"
    )


def check_labels(option: str, value: Any) -> dict[str, str] | None:
    """Check for a dict of str to str, or None."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"{option} must be a dict of str to str or None, got {show_typed(value)}")
    for key, label in value.items():
        if not (isinstance(key, str) and isinstance(label, str)):
            raise ValueError(f"{option} must map str to str, got {show(key)}: {show_typed(label)}")
    return dict(value)


def check_fallback(option: str, value: Any) -> list[dict[str, Any]] | None:
    """Check for a list of alternatives to label_selector, or None."""
    if value is None:
        return None
    expected = f"{option} must be a list of dicts with the key 'label_selector', or None"
    if not isinstance(value, list):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    for entry in value:
        if not isinstance(entry, dict) or set(entry) != {"label_selector"}:
            raise ValueError(f"{expected}; the list holds {show_typed(entry)}")
        check_labels(f"label_selector in {option}", entry["label_selector"])
    return [dict(entry) for entry in value]


def check_backpressure(option: str, value: Any) -> Any:
    """Check for a number of items that may wait to be read, -1 or None."""
    expected = f"{option} must be an int other than 0 (-1 is off) or None"
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if value is not None and value == 0:
        raise ValueError(f"{expected}, got 0")
    return value


def check_namespace(option: str, value: Any) -> str:
    """Check for a str that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, got {show_typed(value)}")
    if not value:
        raise ValueError(f"{option} must not be empty: leave it out for an anonymous one")
    return value


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return a sentence with the nearest valid name, or an empty str."""
    import difflib  # it is an error

    close = difflib.get_close_matches(name, valid, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def returns_of(num_returns: Any, *, is_generator: bool) -> int:
    """Return what num_returns means for this function: a number, STREAMING or DYNAMIC."""
    if isinstance(num_returns, int):
        return num_returns
    if num_returns is None:
        return STREAMING if is_generator else 1
    if not is_generator:
        raise ValueError(
            f"num_returns={num_returns!r} is for generator functions, and this function is none: "
            f"give an int >= 0"
        )
    if num_returns == "streaming":
        return STREAMING
    from aioray.shared.deprecation import RayDeprecationWarning  # rare

    warnings.warn(
        'num_returns="dynamic" is deprecated, as in Ray: leave num_returns out, and iterate over '
        "the ObjectRefGenerator that .remote() returns.",
        RayDeprecationWarning,
        stacklevel=4,
    )
    return DYNAMIC


def equals(value: Any, text: str) -> bool:
    """Tell whether `value` is this text."""
    return isinstance(value, str) and value == text  # the value's own __eq__ may do anything


def check_together(values: Mapping[str, Any]) -> None:
    """Raise ValueError for a placement group beside a scheduling strategy; warn of the former."""
    group_given = not equals(values.get("placement_group", "default"), "default")
    if group_given and values.get("scheduling_strategy") is not None:
        raise ValueError(
            "placement_group and scheduling_strategy cannot be combined: leave out the first "
            "(it is deprecated) and use PlacementGroupSchedulingStrategy"
        )
    if group_given:
        warnings.warn(
            "placement_group is deprecated: use "
            "scheduling_strategy=PlacementGroupSchedulingStrategy(...)",
            DeprecationWarning,
            stacklevel=4,
        )


COMMON_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "priority": check_priority,
    "timeout": seconds(),
    "deadline": seconds(zero=True),
    "stall_timeout": seconds(),
    "memory_limit": size(),
    "num_gpus": lambda option, value: 0.0 if value is None else check_gpus(option, value),
    "memory": amount_or(0.0),
    "resources": check_resources,
    "runtime_env": check_runtime_env,
    "enable_task_events": instance(bool, "a bool", none=False),
    "scheduling_strategy": check_strategy,
    "placement_group": lambda _option, value: "default" if value is None else value,
    "placement_group_bundle_index": integer(-1),
    "placement_group_capture_child_tasks": instance(bool, "a bool"),
    "accelerator_type": instance(str, "a str"),
    "label_selector": check_labels,
    "fallback_strategy": check_fallback,
    "_labels": check_labels,
}
"""Of tasks and actors."""


def check_context(option: str, value: Any) -> tuple[ContextVar[Any], ...]:
    """Return the context variables that tasks are to see. Raises TypeError."""
    variables = tuple(value) if isinstance(value, Sequence) else (value,)
    for each in variables:
        if not isinstance(each, ContextVar):
            raise TypeError(f"{option} must be a list of ContextVar, got {show_typed(value)}")
    return variables


def check_forwarding(option: str, value: Any) -> int | None:
    """Return the level of the log records to forward; None: none are. Raises ValueError."""
    import logging

    if isinstance(value, bool):
        return logging.INFO if value else None
    levels = logging.getLevelNamesMapping()
    if isinstance(value, str):
        value = levels.get(value.upper(), value)
    if not isinstance(value, int) or value < 0:
        names = ", ".join(name for name in levels if name not in ("NOTSET", "WARN"))
        raise ValueError(f"{option} must be True, False, or a level: {names}; got {value!r}")
    return value


def check_preload(option: str, value: Any) -> tuple[str, ...]:
    """Return the names of the modules to import before workers begin. Raises TypeError."""
    expected = f"{option} must be a list or tuple of module names"
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    for module in value:
        if not isinstance(module, str):
            raise TypeError(f"{expected}; it holds {show_typed(module)}: give the module's name")
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"{expected}; it holds {show(module)}")
    return tuple(value)
