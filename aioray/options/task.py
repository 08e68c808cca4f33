"""What may be asked of a task and of a session: checked, completed and frozen.

Room: options. It checks and translates what the user wrote and decides nothing; it starts nothing
and imports neither client nor engine. The only things it reads from outside are the environment
and the size of the machine, for defaults of init(). Single options are checked by `checks`
and `runtime_env`; what may be asked of actors is said in `actor`.

Everything is checked when a function is decorated, at .options() and at init(), so that
submitting a task only reads ready-made attributes. None given for an option that has a default
means the default. Amounts of resources are also kept in whole units of 1/10000, rounded down:
six tasks of 1/6 CPU fit into one CPU.

Names and errors are Ray's (API reference of ray.remote and ray.init) unless a docstring says
otherwise.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aioray.core.retries import RetryPolicy
from aioray.exceptions import UnsupportedFeatureError
from aioray.options.checks import (
    COMMON_OPTIONS,
    amount_or,
    check_amount,
    check_backpressure,
    check_context,
    check_counted,
    check_forwarding,
    check_gpus,
    check_labels,
    check_namespace,
    check_num_returns,
    check_preload,
    check_resources,
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
from aioray.options.runtime_env import check_runtime_env
from aioray.options.variables import (
    MEMORY_THRESHOLD,
    MONITOR_SECONDS,
    flag,
    memory_settings,
    number_from,
)
from aioray.shared import linux
from aioray.shared.crash_breaker import CrashBreaker
from aioray.shared.limiter import Limiter
from aioray.shared.options import TaskOptions, Units, in_units

from ..core.records import field, record, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import ContextVar

__all__ = [
    "InitOptions",
    "parse_bundle",
    "parse_init_options",
    "parse_task_options",
]

MEMORY_SHARE: Final = 0.7  # of the machine's memory for tasks, as in Ray
STORE_SHARE: Final = 0.3  # of the machine's memory for large values, as in Ray
STORE_SPACE: Final = 4  # times that: addresses, so that few pieces are too small to be used
MIN_STORE_MEMORY: Final = 1024 * 1024  # bytes
MAX_LINEAGE_BYTES: Final = 1024**3  # as in Ray
CAPACITY_THRESHOLD: Final = 0.95  # as in Ray
HISTORY: Final = 100_000  # as in Ray
LOOPS: Final = ("auto", "thread", "running")  # values of init()'s `loop`
_HISTORY: Final = ("RAY_task_events_max_num_task_in_gcs", HISTORY)
_LINEAGE: Final = ("RAY_max_lineage_bytes", MAX_LINEAGE_BYTES)
_CAPACITY: Final = ("RAY_local_fs_capacity_threshold", CAPACITY_THRESHOLD)

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


def parse_task_options(
    given: Mapping[str, Any], *, base: TaskOptions | None, is_generator: bool
) -> TaskOptions:
    """Check the options of a remote function and return all of them, frozen.

    given: what the user wrote. base: None for a decorator; for .options() the decorator's, of which
    those given are replaced (never merged). is_generator: the function is a generator function.
    Raises ValueError for an unknown option, one of actors, one that .options() may not change
    (max_calls, _num_objects_per_yield), a value out of range, and a placement group beside a
    scheduling strategy; TypeError for a value of a wrong type; UnsupportedFeatureError for fields
    of runtime_env that aioray does not have. Warns of num_returns="dynamic", as Ray does.
    Source: Ray API reference, ray.remote. Beyond it: `retry` is a RetryPolicy, `priority` a number,
    `timeout`, `deadline` and `stall_timeout` are seconds, `breaker` is a CrashBreaker, and
    `retry_exceptions` may be a function that takes the exception and returns a bool.
    """
    values: dict[str, Any] = {}
    for option, value in given.items():
        if option not in _TASK_OPTIONS:
            _refuse_task_option(option)
        if base is not None and option in {"max_calls", "_num_objects_per_yield"}:
            advice = f"set it in the decorator, @remote({option}=...)"
            raise ValueError(f"{option} cannot be changed by .options(): {advice}")
        values[option.removeprefix("_")] = _TASK_OPTIONS[option](option, value)
    check_together(values)
    if "num_returns" in values or (base is None and is_generator):
        values["num_returns"] = returns_of(values.get("num_returns"), is_generator=is_generator)
    values.pop("object_store_memory", None)  # refused above unless it is None
    if base is not None:
        return check_counted(replace(base, **values))
    if values.get("max_calls") is None:
        # A process that used a GPU holds on to its memory until it ends.
        values["max_calls"] = 1 if values.get("num_gpus", 0.0) > 0 else 0
    return check_counted(TaskOptions(**values))


def _refuse_task_option(option: str) -> NoReturn:
    valid = ", ".join(sorted(_TASK_OPTIONS))
    what = "an option of actors, not of" if option in _ACTOR_ONLY else "no option of"
    meant = did_you_mean(option, _TASK_OPTIONS)
    raise ValueError(f"{option!r} is {what} remote functions.{meant} Valid options are: {valid}")


def parse_bundle(bundle: Mapping[str, Any]) -> Units:
    """Check what one bundle of a placement group reserves; it is empty if all amounts are 0.

    Raises TypeError for an amount that is no number, ValueError for one that is out of range.
    """
    return in_units(
        {
            name: (check_gpus if name == "GPU" else check_amount)(f"{name} of a bundle", amount)
            for name, amount in bundle.items()
        }
    )


def _check_no_store_memory(option: str, value: Any) -> None:
    if value is not None:
        raise ValueError(
            f"{option} is not implemented for tasks: leave it out, or give it to init()"
        )


_TASK_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = COMMON_OPTIONS | {
    "num_returns": check_num_returns,
    "max_retries": integer(-1, none=None, zero=" (-1 means unlimited)"),
    "retry_exceptions": check_retry_exceptions,
    "retry": instance(RetryPolicy, "a RetryPolicy"),
    "breaker": instance(CrashBreaker, "a CrashBreaker"),
    "limiter": instance(Limiter, "an aioray.Limiter"),
    "max_pending": integer(1, none=None),
    "max_calls": integer(0, none=None, zero=" (0 means unlimited)"),
    "num_cpus": amount_or(1.0),
    "object_store_memory": _check_no_store_memory,
    "name": instance(str, "a str"),
    "_generator_backpressure_num_objects": check_backpressure,
    "_num_objects_per_yield": integer(1),
}


# --- sessions ---------------------------------------------------------------------------------


@record(frozen=True, slots=True)
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
    temp_dir: str | None = None  # where sessions have their folders; None: as the system says
    spill_directory: str | None = None  # for values that do not fit; None: the session's folder
    disk_capacity_threshold: float = CAPACITY_THRESHOLD  # share of the disk that may be in use
    max_lineage_bytes: int = MAX_LINEAGE_BYTES  # arguments of finished tasks that are kept
    namespace: str | None = None
    runtime_env: Mapping[str, Any] | None = field(default=None, hash=False)
    log_to_driver: bool = True  # show the workers' output in the driver
    configure_logging: bool = True
    logging_level: int = 20  # logging.INFO
    logging_format: str | None = None
    logging_config: Any = field(default=None, hash=False)
    ignore_reinit_error: bool = False
    preload: tuple[str, ...] = ()  # beyond Ray: modules imported once, before workers are forked
    context: tuple[ContextVar[Any], ...] = ()  # beyond Ray: whose values tasks get
    forward_logging: int | None = None  # beyond Ray: level of log records that the driver gets
    local_mode: bool = False  # tasks and actors run in the driver, when they are submitted
    loop: str = "auto"  # beyond Ray: where init() lets the engine live, see LOOPS
    devices: tuple[str, ...] | None = None  # names of the GPUs; None: their numbers from 0
    tracing_startup_hook: str | None = None  # "module:function", see `startup_hook`
    retry_seed: int | None = None  # beyond Ray: seed of the jitter, None for a random one
    max_pending: int | None = None  # beyond Ray: calls of the driver that have not ended
    history: int = HISTORY  # beyond Ray: attempts that are remembered; 0: nothing is recorded
    redact_history: bool = False  # beyond Ray: without what the program has written
    memory_monitor_period: float = MONITOR_SECONDS  # between two looks at all memory; 0: none
    memory_usage_threshold: float = MEMORY_THRESHOLD  # share of it that may be in use
    min_memory_free: int = -1  # bytes of it beyond which no more must be free; -1: the share counts
    task_oom_retries: int | None = None  # as `memory_retries` of the core's Scheduler
    max_worker_rss: int | None = None  # beyond Ray: bytes that a worker may keep between attempts
    max_worker_age: float | None = None  # beyond Ray: seconds after which a worker is replaced
    # Computed: what can be handed out, in the form of TaskOptions.demand.
    capacity: Units = field(init=False, repr=False, compare=False)
    # Computed: the session's variables, (name, value) sorted by name.
    env_vars: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `capacity` and `env_vars`."""
        amounts = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory}
        object.__setattr__(self, "capacity", in_units(amounts | dict(self.resources)))
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
    the machine's memory, or less if ulimit does not allow that, _temp_dir to RAY_TMPDIR or the
    system's folder for temporary files, object_spilling_directory to the session's folder in there,
    log_to_driver to RAY_LOG_TO_DRIVER, else True, history to RAY_task_events_max_num_task_in_gcs,
    else 100,000, redact_history to AIORAY_REDACT_HISTORY, else False. RAY_max_lineage_bytes (1 GB)
    and RAY_local_fs_capacity_threshold (0.95) are read too, and so are
    RAY_memory_monitor_refresh_ms (250), RAY_memory_usage_threshold (0.95),
    RAY_min_memory_free_bytes (-1) and RAY_task_oom_retries, which may also stand in _system_config.
    Keywords of Ray that mean nothing on one machine (dashboard_*, ...) are accepted and ignored.

    Raises RuntimeError for an unknown keyword and storage; UnsupportedFeatureError
    for any other address but "local" and "auto", for a job_config and for fields of runtime_env
    that aioray does not have; TypeError and ValueError for bad values.
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
    if not values.keys() >= {"memory", "object_store_memory"}:
        size = _memory_seen() if values.get("local_mode") else linux.memory_size()
        values.setdefault("memory", int(size * MEMORY_SHARE))
    if "object_store_memory" not in values:
        share = int(size * STORE_SHARE)
        largest = linux.largest_file()
        if largest is not None:
            share = min(share, largest // STORE_SPACE)
        values["object_store_memory"] = max(MIN_STORE_MEMORY, share)
    values["spill_directory"] = values.pop("object_spilling_directory", None)
    values.setdefault("temp_dir", environ.get("RAY_TMPDIR") or None)
    if "history" not in values:
        values["history"] = int(number_from(environ, *_HISTORY))
    if "redact_history" not in values:
        values["redact_history"] = flag(environ, "AIORAY_REDACT_HISTORY", default=False)
    values["max_lineage_bytes"] = int(number_from(environ, *_LINEAGE))
    values["disk_capacity_threshold"] = number_from(environ, *_CAPACITY)
    values |= memory_settings(environ, given.get("_system_config"))
    if "log_to_driver" not in values:
        values["log_to_driver"] = flag(environ, "RAY_LOG_TO_DRIVER", default=True)
    return InitOptions(**values)


def _check_init_names(given: Mapping[str, Any]) -> None:
    if "storage" in given:
        raise RuntimeError(
            "storage is no longer an argument of init(): leave it out, and give a path to the "
            "functions that store something"
        )
    unknown = [option for option in given if option not in _INIT_OPTIONS | _INIT_IGNORED]
    if unknown:
        raise RuntimeError(
            f"Unknown keyword argument(s): {', '.join(map(repr, unknown))}."
            f"{did_you_mean(unknown[0], _INIT_OPTIONS)} Valid ones are: "
            f"{', '.join(sorted(_INIT_OPTIONS | _INIT_IGNORED))}"
        )
    if given.get("job_config") is not None:
        raise UnsupportedFeatureError(
            "job_config is not supported by aioray.",
            "Give runtime_env and namespace to init() instead.",
        )


def _check_address(address: Any, environ: Mapping[str, str]) -> None:
    if address is not None and not isinstance(address, str):
        raise TypeError(f"address must be a str or None, got {show_typed(address)}")
    origin = "address" if address else "the environment variable RAY_ADDRESS"
    address = address or environ.get("RAY_ADDRESS")
    if not address or address in ("local", "auto"):
        return
    raise UnsupportedFeatureError(
        f"{origin} is {show(address)}, but aioray cannot connect to a cluster.",
        'It runs on this machine only: leave the address out or give "local".',
    )


def _check_logging_config(option: str, value: Any) -> Any:
    from aioray.options.logging_config import LoggingConfig

    if not isinstance(value, LoggingConfig):
        raise TypeError(f"{option} must be a LoggingConfig, got {show_typed(value)}")
    _check_level("log_level of the LoggingConfig", value.log_level)
    return value


def _check_level(option: str, value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    expected = f"{option} must be a level of the logging module, a number or its name"
    if not isinstance(value, str):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    import logging

    level = logging.getLevelNamesMapping().get(value.upper())
    if level is None:
        raise ValueError(f"{expected}, got {show(value)}")
    return level


def _check_loop(option: str, value: Any) -> str:
    expected = f"{option} must be one of {', '.join(map(repr, LOOPS))}"
    if not isinstance(value, str):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if value not in LOOPS:
        raise ValueError(f"{expected}, got {show(value)}")
    return value


def _check_directory(option: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{option} must be a path, got {show_typed(value)}")
    return os.path.abspath(os.fsdecode(value))


def _check_seed(option: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} must be an int or None, got {show_typed(value)}")
    return value


def _check_hook(option: str, value: Any) -> str:
    expected = f'{option} must be a str like "module:function"'
    if not isinstance(value, str):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if not all(value.partition(":")):
        raise ValueError(f"{expected}, got {show(value)}")
    return value


_INIT_OPTIONS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "num_cpus": integer(0, none=None),
    "num_gpus": integer(0, none=None),
    "_memory": integer(0, none=None),
    "resources": check_resources,
    "labels": check_labels,
    "object_store_memory": integer(MIN_STORE_MEMORY, none=None),
    "object_spilling_directory": _check_directory,
    "_temp_dir": _check_directory,
    "namespace": check_namespace,
    "runtime_env": check_runtime_env,
    "log_to_driver": instance(bool, "a bool"),
    "configure_logging": instance(bool, "a bool"),
    "logging_level": _check_level,
    "logging_format": instance(str, "a str"),
    "logging_config": _check_logging_config,
    "ignore_reinit_error": instance(bool, "a bool"),
    "preload": check_preload,
    "context": check_context,
    "forward_logging": check_forwarding,
    "local_mode": instance(bool, "a bool"),
    "max_pending": integer(1, none=None),
    "loop": _check_loop,
    "retry_seed": _check_seed,
    "history": integer(0, none=None),
    "redact_history": instance(bool, "a bool"),
    "max_worker_rss": size(),
    "max_worker_age": seconds(),
    "_tracing_startup_hook": _check_hook,
}
# Ray's keywords without a meaning on one machine, and those refused above with a value.
_INIT_IGNORED: Final[dict[str, None]] = dict.fromkeys(
    (
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
    )
)


# --- the machine ------------------------------------------------------------------------------


def _visible_cpus() -> int:
    return len(os.sched_getaffinity(0))


@functools.cache
def _memory_seen() -> int:
    """Return the memory that there was at the first look: local mode begins a thousand times."""
    return linux.memory_size()


def _visible_gpus(environ: Mapping[str, str]) -> int:
    """Return the number of NVIDIA GPUs, as far as CUDA_VISIBLE_DEVICES shows them."""
    found = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
    present = len([name for name in found if re.fullmatch("nvidia[0-9]+", name)])
    shown = shown_gpus(environ)
    return present if shown is None else min(present, len(shown))


def shown_gpus(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names in CUDA_VISIBLE_DEVICES; None if it is not set."""
    shown = environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return None
    # CUDA ignores what follows the first invalid entry; -1 is the usual one, for "none".
    names = [part.strip() for part in shown.split(",")]
    return tuple(itertools.takewhile(lambda name: name not in {"", "-1"}, names))


def _devices(environ: Mapping[str, str], num_gpus: int) -> tuple[str, ...] | None:
    shown = shown_gpus(environ)
    if shown is None:
        return None
    if num_gpus > len(shown):
        raise ValueError(
            f"num_gpus is {num_gpus}, but CUDA_VISIBLE_DEVICES shows {len(shown)} "
            f"({environ['CUDA_VISIBLE_DEVICES']!r}): give fewer, or correct or unset the variable"
        )
    return shown[:num_gpus]
