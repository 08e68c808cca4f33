"""What may be asked of a task and of a session: checked, completed and frozen.

Room: facade. It checks and translates what the user wrote and decides nothing; it starts nothing
and imports neither client nor engine. The only things it reads from outside are the environment
and the size of the machine, for defaults of init(); `runtime_env` has a module of its own.

Everything is checked when a function is decorated, at .options() and at init(), so that
submitting a task only reads ready-made attributes. None given for an option that has a default
means the default. Amounts of resources are also kept in whole units of 1/10000, rounded down:
six tasks of 1/6 CPU fit into one CPU.

Names and errors are Ray's (API reference of ray.remote and ray.init) unless a docstring says
otherwise.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn, TypeAlias

from aioray import linux
from aioray.core.intensity import RestartPolicy
from aioray.exceptions import UnsupportedFeatureError
from aioray.retry import RetryPolicy
from aioray.runtime_env import check_runtime_env
from aioray.wire import DYNAMIC, STREAMING
from aioray.wording import show as _show
from aioray.wording import show_typed as _show_typed

__all__ = [
    "RESOURCE_UNITS",
    "ActorOptions",
    "InitOptions",
    "MethodOptions",
    "RetryExceptions",
    "TaskOptions",
    "default_max_retries",
    "parse_bundle",
    "parse_init_options",
    "parse_task_options",
]

RESOURCE_UNITS: Final = 10_000  # units in one CPU, GPU, byte of memory or custom resource
MAX_AMOUNT: Final = 1e15  # of one resource; in units it still is an exact float
DEFAULT_MAX_RETRIES: Final = 3
MEMORY_SHARE: Final = 0.7  # of the machine's memory for tasks, as in Ray
STORE_SHARE: Final = 0.3  # of the machine's memory for large values, as in Ray
STORE_SPACE: Final = 4  # times that: addresses, so that few pieces are too small to be used
MIN_STORE_MEMORY: Final = 1024 * 1024  # bytes
MAX_LINEAGE_BYTES: Final = 1024**3  # as in Ray
CAPACITY_THRESHOLD: Final = 0.95  # as in Ray
_LINEAGE: Final = ("RAY_max_lineage_bytes", MAX_LINEAGE_BYTES)
_CAPACITY: Final = ("RAY_local_fs_capacity_threshold", CAPACITY_THRESHOLD)

# False: no application error is retried. True: every one. A tuple: instances of these classes
# (none of them if empty). A function: the errors it returns True for.
RetryExceptions: TypeAlias = bool | tuple[type[Exception], ...] | Callable[[BaseException], bool]
Units: TypeAlias = tuple[tuple[str, int], ...]  # (resource, 1/10000 units), sorted by name

# Ray's own; they are recognised by name, so that the classes need not be imported here.
_STRATEGY_CLASSES: Final = frozenset(
    {
        "NodeAffinitySchedulingStrategy",
        "NodeLabelSchedulingStrategy",
        "PlacementGroupSchedulingStrategy",
    }
)
_ACTOR_ONLY: Final = frozenset(
    {
        "_actor_generator_backpressure_num_objects",
        "allow_out_of_order_execution",
        "concurrency_groups",
        "get_if_exists",
        "lifetime",
        "max_concurrency",
        "max_pending_calls",
        "max_restarts",
        "max_task_retries",
        "namespace",
    }
)


# --- tasks ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The checked options of a remote function. Built by parse_task_options().

    Ray's names without a leading underscore. The last field is computed once from others.
    Picklable if a retry_exceptions predicate is; hashable.
    """

    num_returns: int = 1  # refs that .remote() returns, 0 means None; or STREAMING, DYNAMIC
    max_retries: int | None = None  # -1 is unlimited, None is default_max_retries() at submission
    retry_exceptions: RetryExceptions = field(default=False, hash=False)
    retry: RetryPolicy | None = None  # beyond Ray: the delay before a retry; None for no wishes
    priority: float = 0.0  # beyond Ray: of the tasks that wait, the higher goes first
    max_calls: int = 0  # runs of the function after which its worker leaves, 0 is unlimited
    num_cpus: float = 1.0
    num_gpus: float = 0.0  # a whole number, or a share of one GPU
    memory: float = 0.0  # bytes, reserved but not enforced
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)
    name: str | None = None  # shown for the task; None is the function's name
    runtime_env: Mapping[str, Any] | None = field(default=None, hash=False)
    enable_task_events: bool = True  # False hides the task from the state API
    scheduling_strategy: Any = field(default=None, hash=False)
    placement_group: Any = field(default="default", hash=False)
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None  # None: as the task that calls
    # Checked and kept, without effect on one machine:
    accelerator_type: str | None = None
    label_selector: Mapping[str, str] | None = field(default=None, hash=False)
    fallback_strategy: Sequence[Mapping[str, Any]] | None = field(default=None, hash=False)
    labels: Mapping[str, str] | None = field(default=None, hash=False)
    # Of generators: items that may wait to be read, None is any number.
    generator_backpressure_num_objects: int | None = None
    num_objects_per_yield: int = 1  # checked and kept, without effect: Ray's own
    # Computed: what a running attempt holds; zero amounts are left out.
    demand: Units = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `demand`."""
        amounts = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory}
        object.__setattr__(self, "demand", _in_units(amounts | dict(self.resources)))


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """The checked options of a class of actors. Built by parse_actor_options().

    Ray's names without a leading underscore. The last fields are computed once from others.
    """

    max_restarts: int = 0  # -1 is unlimited
    restart_policy: RestartPolicy | None = None  # beyond Ray: how often within which time
    max_task_retries: int = 0  # of methods that say nothing themselves; -1 is unlimited
    max_concurrency: int | None = None  # None: 1, or 1000 if it is asynchronous
    max_pending_calls: int = -1  # -1 is unlimited
    concurrency_groups: Mapping[str, int] = field(default_factory=dict, hash=False)
    allow_out_of_order_execution: bool | None = None
    lifetime: str | None = None
    namespace: str | None = None
    get_if_exists: bool = False
    interruptible: bool = False  # beyond Ray: of methods that say nothing themselves, see there
    checkpoint_every: int = 1  # beyond Ray: calls after which __aioray_save__ is asked
    priority: float = 0.0
    num_cpus: float | None = None  # None: 1 while it is made; and later, if others are named
    num_gpus: float = 0.0
    memory: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)
    name: str | None = None
    runtime_env: Mapping[str, Any] | None = field(default=None, hash=False)
    enable_task_events: bool = True
    scheduling_strategy: Any = field(default=None, hash=False)
    placement_group: Any = field(default="default", hash=False)
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None
    accelerator_type: str | None = None
    label_selector: Mapping[str, str] | None = field(default=None, hash=False)
    fallback_strategy: Sequence[Mapping[str, Any]] | None = field(default=None, hash=False)
    labels: Mapping[str, str] | None = field(default=None, hash=False)
    actor_generator_backpressure_num_objects: int | None = None
    # Computed: what has to be free for its start, and whether that is held while it lives.
    demand: Units = field(init=False, repr=False, compare=False)
    keeps: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `demand` and `keeps`."""
        others = {"GPU": self.num_gpus, "memory": self.memory, **self.resources}
        keeps = self.num_cpus is not None or any(others.values())
        cpus = 1.0 if self.num_cpus is None else self.num_cpus
        object.__setattr__(self, "keeps", keeps)
        object.__setattr__(self, "demand", _in_units({"CPU": cpus, **others}))


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """The checked options of a method, or of some calls of it. Built by parse_method_options().

    None: not said, so that the next in line decides: call, `@method`, `.options()` of the class,
    decorator of the class.
    """

    num_returns: int | None = None  # or STREAMING, DYNAMIC
    concurrency_group: str | None = None
    max_task_retries: int | None = None
    retry_exceptions: RetryExceptions | None = field(default=None, hash=False)
    interruptible: bool | None = None  # beyond Ray: a cancel interrupts it, see `aioray.method`
    generator_backpressure_num_objects: int | None = None
    num_objects_per_yield: int | None = None
    enable_task_events: bool | None = None
    tensor_transport: str | None = None
    name: str | None = None  # of calls
    labels: Mapping[str, str] | None = field(default=None, hash=False)  # of calls


def parse_task_options(
    given: Mapping[str, Any], *, base: TaskOptions | None, is_generator: bool
) -> TaskOptions:
    """Check the options of a remote function and return all of them, frozen.

    `given` holds what the user wrote. `base` is None for a decorator; for .options() it holds the
    decorator's options, of which those in `given` are replaced (never merged) and all others kept.
    `is_generator` says whether the function is a generator function.

    Raises ValueError for an unknown option, one of actors, one that .options() may not change
    (max_calls, _num_objects_per_yield), a value out of range, and a placement group beside a
    scheduling strategy; TypeError for a value of a wrong type; UnsupportedFeatureError for fields
    of runtime_env that aioray does not have. Warns of num_returns="dynamic", as Ray does.
    Source: Ray API reference, ray.remote. Beyond it: `retry` is a RetryPolicy, `priority` a number,
    and `retry_exceptions` may be a function that takes the exception and returns a bool.
    """
    values: dict[str, Any] = {}
    for option, value in given.items():
        if option not in _TASK_OPTIONS:
            _refuse_task_option(option)
        if base is not None and option in {"max_calls", "_num_objects_per_yield"}:
            raise ValueError(
                f"{option} cannot be changed by .options(): set it in the decorator, "
                f"@remote({option}=...)"
            )
        values[option.removeprefix("_")] = _TASK_OPTIONS[option](option, value)
    group_given = not _equals(values.get("placement_group", "default"), "default")
    if group_given and values.get("scheduling_strategy") is not None:
        raise ValueError(
            "placement_group and scheduling_strategy cannot be combined: leave out the first "
            "(it is deprecated) and use PlacementGroupSchedulingStrategy"
        )
    if "num_returns" in values or (base is None and is_generator):
        values["num_returns"] = _returns(values.get("num_returns"), is_generator=is_generator)
    values.pop("object_store_memory", None)  # refused above unless it is None
    if base is not None:
        return replace(base, **values)
    if values.get("max_calls") is None:
        # A process that used a GPU holds on to its memory until it ends.
        values["max_calls"] = 1 if values.get("num_gpus", 0.0) > 0 else 0
    return TaskOptions(**values)


def default_max_retries(environ: Mapping[str, str]) -> int:
    """Return the max_retries of tasks that name none: -1 is unlimited.

    The variable AIORAY_TASK_MAX_RETRIES, else RAY_TASK_MAX_RETRIES, else 3; an empty variable
    counts as not set. Meant to be called at every submission, so that setting a variable after
    import works. Raises ValueError, naming the variable, for what is no integer >= -1.
    """
    for variable in ("AIORAY_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"):
        text = environ.get(variable)
        if not text:
            continue
        try:
            retries = int(text)
        except ValueError:
            retries = -2
        if retries < -1:
            raise ValueError(
                f"the environment variable {variable} must be an integer >= -1 (-1 means "
                f"unlimited retries), got {_show(text)}: correct it or unset it"
            )
        return retries
    return DEFAULT_MAX_RETRIES


def _refuse_task_option(option: str) -> NoReturn:
    valid = ", ".join(sorted(_TASK_OPTIONS))
    what = "an option of actors, not of" if option in _ACTOR_ONLY else "no option of"
    meant = _did_you_mean(option, _TASK_OPTIONS)
    raise ValueError(f"{option!r} is {what} remote functions.{meant} Valid options are: {valid}")


def _did_you_mean(name: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _returns(num_returns: Any, *, is_generator: bool) -> int:
    """What num_returns means for this function."""
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
    from aioray.util.annotations import RayDeprecationWarning  # rare

    warnings.warn(
        'num_returns="dynamic" is deprecated, as in Ray: leave num_returns out, and iterate over '
        "the ObjectRefGenerator that .remote() returns.",
        RayDeprecationWarning,
        stacklevel=4,
    )
    return DYNAMIC


# --- checks of single options: (name, value) -> value to keep, or TypeError / ValueError --------


def _integer(least: int, *, none: Any = ..., zero: str = "") -> Callable[[str, Any], Any]:
    """Return a check for an int >= `least`; None is kept as `none` if that is given."""
    or_none = "" if none is ... else " or None"

    def check(option: str, value: Any) -> Any:
        if value is None and none is not ...:
            return none
        expected = f"{option} must be an int >= {least}{zero}{or_none}"
        if not isinstance(value, int):
            raise TypeError(f"{expected}, got {_show_typed(value)}")
        if value < least:
            raise ValueError(f"{expected}, got {_show(value)}")
        return int(value)  # True counts as 1, as in Ray

    return check


def _instance(
    kinds: type | tuple[type, ...], expected: str, *, none: bool = True
) -> Callable[[str, Any], Any]:
    """Return a check for an instance of `kinds`, or None if `none` allows it."""

    def check(option: str, value: Any) -> Any:
        if (value is None and none) or (value is not None and isinstance(value, kinds)):
            return value
        or_none = " or None" if none else ""
        raise TypeError(f"{option} must be {expected}{or_none}, got {_show_typed(value)}")

    return check


def _check_num_returns(option: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        if value in {None, "streaming", "dynamic"}:
            return value
        raise TypeError(f'{option} must be an int >= 0, "streaming" or None, got {_show(value)}')
    return _integer(0)(option, value)


def _check_retry_exceptions(option: str, value: Any) -> RetryExceptions:
    expected = (
        f"{option} must be True, False, a list or tuple of Exception subclasses, or a function "
        f"that takes the exception and returns a bool"
    )
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        for element in value:
            if not (isinstance(element, type) and issubclass(element, Exception)):
                raise ValueError(f"{expected}; the list holds {_show_typed(element)}")
        return tuple(value)
    if isinstance(value, type):
        raise TypeError(f"{expected}, got the class {value.__qualname__}: put it into a list")
    if not callable(value):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{expected}, got a coroutine function: it must be a plain function")
    predicate: Callable[[BaseException], bool] = value
    return predicate


def _check_priority(option: str, value: Any) -> float:
    expected = f"{option} must be a finite number (the default is 0, and higher goes first)"
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    try:
        priority = float(value)
    except OverflowError:  # an int beyond all floats
        priority = math.inf
    if not math.isfinite(priority):
        raise ValueError(f"{expected}, got {_show(value)}")
    return priority


def _amount(default: float) -> Callable[[str, Any], float]:
    """Return a check for an amount of a resource; None is `default`."""
    return lambda option, value: default if value is None else _check_amount(option, value)


def _check_gpus(label: str, value: Any) -> float:
    amount = _check_amount(label, value)
    if amount > 1 and amount % 1:
        raise ValueError(
            f"{label} must be a whole number, or a share of one GPU below 1: GPU quantities > 1 "
            f"must be whole numbers, got {value}"
        )
    return amount


def parse_bundle(bundle: Mapping[str, Any]) -> Units:
    """Check what one bundle of a placement group reserves; it is empty if all amounts are 0.

    Raises TypeError for an amount that is no number, ValueError for one that is out of range.
    """
    return _in_units(
        {
            name: (_check_gpus if name == "GPU" else _check_amount)(f"{name} of a bundle", amount)
            for name, amount in bundle.items()
        }
    )


def _check_amount(label: str, value: Any) -> float:
    expected = f"{label} must be a number: 0, or {1 / RESOURCE_UNITS} to {MAX_AMOUNT:g}"
    if not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    if not 0 <= value <= MAX_AMOUNT:  # also false for NaN
        raise ValueError(f"{expected}, got {_show(value)}")
    if value != 0 and _units(value) == 0:
        raise ValueError(f"{expected}, got {value}: fractions are counted in 1/{RESOURCE_UNITS}")
    return int(value) if isinstance(value, bool) else value


def _check_resources(option: str, value: Any) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{option} must be a dict of str to number, got {_show_typed(value)}")
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"{option} must have str keys, got the key {_show_typed(name)}")
        if name in _NAMED_RESOURCES:
            raise ValueError(
                f"{option} must not have the key {name!r}: {_NAMED_RESOURCES[name]} instead"
            )
    return {name: _check_amount(f"{option}[{name!r}]", amount) for name, amount in value.items()}


_NAMED_RESOURCES: Final = {
    "CPU": "use num_cpus",
    "GPU": "use num_gpus",
    "memory": "use the memory option",
    "object_store_memory": "use object_store_memory of init()",
}


def _check_no_store_memory(option: str, value: Any) -> None:
    if value is not None:
        raise ValueError(
            f"{option} is not implemented for tasks: leave it out, or give it to init()"
        )


def _check_strategy(option: str, value: Any) -> Any:
    if value is None or isinstance(value, str) or type(value).__name__ in _STRATEGY_CLASSES:
        return value
    raise TypeError(
        f'{option} must be None, "DEFAULT", "SPREAD" or one of '
        f"{', '.join(sorted(_STRATEGY_CLASSES))}, got {_show_typed(value)}"
    )


def _check_labels(option: str, value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"{option} must be a dict of str to str or None, got {_show_typed(value)}")
    for key, label in value.items():
        if not (isinstance(key, str) and isinstance(label, str)):
            raise ValueError(
                f"{option} must map str to str, got {_show(key)}: {_show_typed(label)}"
            )
    return dict(value)


def _check_fallback(option: str, value: Any) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    expected = f"{option} must be a list of dicts with the key 'label_selector', or None"
    if not isinstance(value, list):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    for entry in value:
        if not isinstance(entry, dict) or set(entry) != {"label_selector"}:
            raise ValueError(f"{expected}; the list holds {_show_typed(entry)}")
        _check_labels(f"label_selector in {option}", entry["label_selector"])
    return [dict(entry) for entry in value]


def _check_backpressure(option: str, value: Any) -> Any:
    expected = f"{option} must be an int other than 0 (-1 is off) or None"
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    if value is not None and value == 0:
        raise ValueError(f"{expected}, got 0")
    return value


_TASK_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "num_returns": _check_num_returns,
    "max_retries": _integer(-1, none=None, zero=" (-1 means unlimited)"),
    "retry_exceptions": _check_retry_exceptions,
    "retry": _instance(RetryPolicy, "a RetryPolicy"),
    "priority": _check_priority,
    "max_calls": _integer(0, none=None, zero=" (0 means unlimited)"),
    "num_cpus": _amount(1.0),
    "num_gpus": lambda option, value: 0.0 if value is None else _check_gpus(option, value),
    "memory": _amount(0.0),
    "resources": _check_resources,
    "object_store_memory": _check_no_store_memory,
    "name": _instance(str, "a str"),
    "runtime_env": check_runtime_env,
    "enable_task_events": _instance(bool, "a bool", none=False),
    "scheduling_strategy": _check_strategy,
    "placement_group": lambda _option, value: "default" if value is None else value,
    "placement_group_bundle_index": _integer(-1),
    "placement_group_capture_child_tasks": _instance(bool, "a bool"),
    "accelerator_type": _instance(str, "a str"),
    "label_selector": _check_labels,
    "fallback_strategy": _check_fallback,
    "_labels": _check_labels,
    "_generator_backpressure_num_objects": _check_backpressure,
    "_num_objects_per_yield": _integer(1),
}


# --- sessions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InitOptions:
    """The checked options of a session, with every default filled in.

    Built by parse_init_options(). The last two fields are computed once from others.
    """

    num_cpus: int  # how much work runs at once; no affinity
    num_gpus: int
    memory: int  # bytes that tasks may reserve
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] | None = field(default=None, hash=False)  # of the one node
    object_store_memory: int = MIN_STORE_MEMORY  # bytes of shared memory for large values
    spill_directory: str | None = None  # for values that do not fit; None: the system's temporary
    disk_capacity_threshold: float = CAPACITY_THRESHOLD  # share of the disk that may be in use
    max_lineage_bytes: int = MAX_LINEAGE_BYTES  # arguments of finished tasks that are kept
    namespace: str | None = None
    runtime_env: Mapping[str, Any] | None = field(default=None, hash=False)
    log_to_driver: bool = True  # show the workers' output in the driver
    configure_logging: bool = True
    logging_level: int = logging.INFO
    logging_format: str | None = None
    logging_config: Any = field(default=None, hash=False)
    ignore_reinit_error: bool = False
    preload: tuple[str, ...] = ()  # beyond Ray: modules imported once, before workers are forked
    devices: tuple[str, ...] | None = None  # names of the GPUs; None: their numbers from 0
    retry_seed: int | None = None  # beyond Ray: seed of the jitter, None for a random one
    # Computed: what can be handed out, in the form of TaskOptions.demand.
    capacity: Units = field(init=False, repr=False, compare=False)
    # Computed: the session's variables, (name, value) sorted by name.
    env_vars: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `capacity` and `env_vars`."""
        amounts = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory}
        object.__setattr__(self, "capacity", _in_units(amounts | dict(self.resources)))
        env_vars = (self.runtime_env or {}).get("env_vars", {})
        object.__setattr__(self, "env_vars", tuple(sorted(env_vars.items())))


def parse_init_options(
    address: str | None,
    given: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
) -> InitOptions:
    """Check the arguments of init() and return its options, frozen, with the defaults filled in.

    `given` holds init()'s keywords as the user wrote them, `environ` the environment (None means
    os.environ). num_cpus defaults to the CPUs this process may use, num_gpus to the GPUs the
    machine has and CUDA_VISIBLE_DEVICES allows, _memory to 70 % and object_store_memory to 30 % of
    the machine's memory, or less if ulimit does not allow that, object_spilling_directory to
    _temp_dir, RAY_TMPDIR or the system's folder for temporary files, log_to_driver to
    RAY_LOG_TO_DRIVER, else True. RAY_max_lineage_bytes (1 GB) and RAY_local_fs_capacity_threshold
    (0.95) are read too. Keywords of Ray that mean nothing on one machine (dashboard_*,
    _system_config, ...) are accepted and ignored.

    Raises RuntimeError for an unknown keyword, local_mode=True and storage; ConnectionError for
    the address "auto", since there is never a running instance to join; UnsupportedFeatureError
    for any other address but "local", for a job_config and for fields of runtime_env that aioray
    does not have; TypeError and ValueError for bad values.
    Source: Ray API reference, ray.init.
    """
    environ = os.environ if environ is None else environ
    _check_init_names(given)
    _check_address(address, environ)
    values = {
        option.removeprefix("_"): check(option, given[option])
        for option, check in _INIT_OPTIONS.items()
        if given.get(option) is not None
    }
    values.setdefault("num_cpus", _visible_cpus())
    if "num_gpus" not in values:
        values["num_gpus"] = _visible_gpus(environ)
    values["devices"] = _devices(environ, values["num_gpus"])
    if "memory" not in values:
        values["memory"] = int(linux.memory_size() * MEMORY_SHARE)
    if "object_store_memory" not in values:
        share = int(linux.memory_size() * STORE_SHARE)
        largest = linux.largest_file()
        if largest is not None:
            share = min(share, largest // STORE_SPACE)
        values["object_store_memory"] = max(MIN_STORE_MEMORY, share)
    places = [values.pop(name, None) for name in ("object_spilling_directory", "temp_dir")]
    places.append(environ.get("RAY_TMPDIR"))
    values["spill_directory"] = next(filter(None, places), None)
    values["max_lineage_bytes"] = int(_number_from(environ, *_LINEAGE))
    values["disk_capacity_threshold"] = _number_from(environ, *_CAPACITY)
    if "log_to_driver" not in values:
        values["log_to_driver"] = _flag(environ, "RAY_LOG_TO_DRIVER", default=True)
    return InitOptions(**values)


def _check_init_names(given: Mapping[str, Any]) -> None:
    if given.get("local_mode"):
        raise RuntimeError(
            "local_mode=True no longer exists: leave it out, or call the plain function to debug it"
        )
    if "storage" in given:
        raise RuntimeError(
            "storage is no longer an argument of init(): leave it out, and give a path to the "
            "functions that store something"
        )
    unknown = [option for option in given if option not in _INIT_OPTIONS | _INIT_IGNORED]
    if unknown:
        raise RuntimeError(
            f"Unknown keyword argument(s): {', '.join(map(repr, unknown))}."
            f"{_did_you_mean(unknown[0], _INIT_OPTIONS)} Valid ones are: "
            f"{', '.join(sorted(_INIT_OPTIONS | _INIT_IGNORED))}"
        )
    if given.get("job_config") is not None:
        raise UnsupportedFeatureError(
            "job_config is not supported by aioray.",
            "Give runtime_env and namespace to init() instead.",
        )


def _check_address(address: Any, environ: Mapping[str, str]) -> None:
    if address is not None and not isinstance(address, str):
        raise TypeError(f"address must be a str or None, got {_show_typed(address)}")
    origin = "address" if address else "the environment variable RAY_ADDRESS"
    address = address or environ.get("RAY_ADDRESS")
    if not address or address == "local":
        return
    if address == "auto":
        raise ConnectionError(
            f'{origin} is "auto", but there is no running instance to connect to: aioray runs '
            f'inside the program that starts it. Leave the address out or give "local"'
        )
    raise UnsupportedFeatureError(
        f"{origin} is {_show(address)}, but aioray cannot connect to a cluster.",
        'It runs on this machine only: leave the address out or give "local".',
    )


def _check_namespace(option: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, got {_show_typed(value)}")
    if not value:
        raise ValueError(f"{option} must not be empty: leave it out for an anonymous one")
    return value


def _check_level(option: str, value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    expected = f"{option} must be a level of the logging module, a number or its name"
    if not isinstance(value, str):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    level = logging.getLevelNamesMapping().get(value.upper())
    if level is None:
        raise ValueError(f"{expected}, got {_show(value)}")
    return level


def _check_preload(option: str, value: Any) -> tuple[str, ...]:
    expected = f"{option} must be a list or tuple of module names"
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{expected}, got {_show_typed(value)}")
    for module in value:
        if not isinstance(module, str):
            raise TypeError(f"{expected}; it holds {_show_typed(module)}: give the module's name")
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"{expected}; it holds {_show(module)}")
    return tuple(value)


def _check_directory(option: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{option} must be a path, got {_show_typed(value)}")
    return os.path.abspath(os.fsdecode(value))


def _check_seed(option: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} must be an int or None, got {_show_typed(value)}")
    return value


_INIT_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "num_cpus": _integer(0, none=None),
    "num_gpus": _integer(0, none=None),
    "_memory": _integer(0, none=None),
    "resources": _check_resources,
    "labels": _check_labels,
    "object_store_memory": _integer(MIN_STORE_MEMORY, none=None),
    "object_spilling_directory": _check_directory,
    "_temp_dir": _check_directory,
    "namespace": _check_namespace,
    "runtime_env": check_runtime_env,
    "log_to_driver": _instance(bool, "a bool"),
    "configure_logging": _instance(bool, "a bool"),
    "logging_level": _check_level,
    "logging_format": _instance(str, "a str"),
    "logging_config": lambda _option, value: value,
    "ignore_reinit_error": _instance(bool, "a bool"),
    "preload": _check_preload,
    "retry_seed": _check_seed,
}
# Ray's keywords without a meaning on one machine, and those refused above with a value.
_INIT_IGNORED: Final[dict[str, None]] = dict.fromkeys(
    (
        "local_mode",
        "job_config",
        "include_dashboard",
        "dashboard_host",
        "dashboard_port",
        "enable_resource_isolation",
        "cgroup_path",
        "system_reserved_cpu",
        "system_reserved_memory",
        "proxy_server_url",
        "_cgroup_path",
        "_driver_object_store_memory",
        "_enable_object_reconstruction",
        "_metrics_export_port",
        "_node_ip_address",
        "_node_name",
        "_plasma_directory",
        "_redis_password",
        "_redis_username",
        "_system_config",
        "_tracing_startup_hook",
    )
)


# --- the machine ------------------------------------------------------------------------------


def _visible_cpus() -> int:
    return len(os.sched_getaffinity(0))


def _visible_gpus(environ: Mapping[str, str]) -> int:
    """Return the number of NVIDIA GPUs, as far as CUDA_VISIBLE_DEVICES shows them."""
    present = len([name for name in os.listdir("/dev") if re.fullmatch("nvidia[0-9]+", name)])
    shown = _shown_gpus(environ)
    return present if shown is None else min(present, len(shown))


def _shown_gpus(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names in CUDA_VISIBLE_DEVICES; None if it is not set."""
    shown = environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return None
    # CUDA ignores what follows the first invalid entry; -1 is the usual one, for "none".
    names = [part.strip() for part in shown.split(",")]
    return tuple(itertools.takewhile(lambda name: name not in {"", "-1"}, names))


def _devices(environ: Mapping[str, str], num_gpus: int) -> tuple[str, ...] | None:
    shown = _shown_gpus(environ)
    if shown is None:
        return None
    if num_gpus > len(shown):
        raise ValueError(
            f"num_gpus is {num_gpus}, but CUDA_VISIBLE_DEVICES shows {len(shown)} "
            f"({environ['CUDA_VISIBLE_DEVICES']!r}): give fewer, or correct or unset the variable"
        )
    return shown[:num_gpus]


def _number_from(environ: Mapping[str, str], variable: str, default: float) -> float:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise ValueError(
            f"the environment variable {variable} must be a number >= 0, got {_show(text)}: "
            f"correct it or unset it"
        )
    return number


def _flag(environ: Mapping[str, str], variable: str, *, default: bool) -> bool:
    text = environ.get(variable, "").strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    if text:
        raise ValueError(
            f"the environment variable {variable} must be 1 or 0, got {_show(text)}: correct it "
            f"or unset it"
        )
    return default


# --- shared -----------------------------------------------------------------------------------


def _units(amount: float) -> int:
    """Return `amount` in whole units, rounded down."""
    if isinstance(amount, int):
        return amount * RESOURCE_UNITS
    # 0.0003 * 10000 is 2.9999999999999996: first round off the error of the multiplication.
    return math.floor(round(amount * RESOURCE_UNITS, 6))


def _in_units(amounts: Mapping[str, float]) -> Units:
    return tuple(sorted((name, _units(amount)) for name, amount in amounts.items() if amount))


def _equals(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text  # the value's own __eq__ may do anything
