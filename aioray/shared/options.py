"""What was asked of a function, a class, a method or some calls of it: checked options, as data.

Room: shared. `options.task` and `options.actor` check what users write and make these records of
it; code that is sent to a worker takes them along. So they, and what follows from them alone, stand
apart from the checks, which a worker loads only where user code in it writes options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..core.records import field, record, replace
from .wire import STREAMING

if TYPE_CHECKING:
    from ..core.intensity import RestartPolicy
    from ..core.limits import TaskLimits
    from ..core.retries import RetryPolicy
    from .crash_breaker import CrashBreaker
    from .limiter import Limiter

__all__ = [
    "DEFAULT_MAX_RETRIES",
    "RESOURCE_UNITS",
    "SETUP_TIMEOUT",
    "ActorOptions",
    "MethodOptions",
    "RetryExceptions",
    "TaskOptions",
    "Units",
    "concurrency_groups_of",
    "default_max_retries",
    "in_units",
    "is_ordered",
    "limits_of",
    "resolve_call",
    "resolve_method",
    "units",
]

DEFAULT_MAX_RETRIES: Final = 3
RESOURCE_UNITS: Final = 10_000  # units in one CPU, GPU, byte of memory or custom resource
ASYNC_CONCURRENCY: Final = 1000  # calls at once of an asynchronous actor that says nothing itself
LIMITS: Final = (  # fields of core.limits.TaskLimits; not every kind of options has all of them
    "timeout",
    "deadline",
    "stall_timeout",
    "breaker",
    "memory_limit",
    "limiter",
)
SETUP_TIMEOUT: Final = 600  # seconds that setting up a runtime environment may take, as in Ray

# False: no application error is retried. True: every one. A tuple: instances of these classes
# (none of them if empty). A function: the errors it returns True for.
RetryExceptions: TypeAlias = bool | tuple[type[Exception], ...] | Callable[[BaseException], bool]
Units: TypeAlias = tuple[tuple[str, int], ...]  # (resource, 1/10000 units), sorted by name


# --- records ---------------------------------------------------------------------------------


@record(frozen=True, slots=True)
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
    timeout: float | None = None  # beyond Ray, and so the next three: see `core.limits`
    deadline: float | None = None
    stall_timeout: float | None = None
    memory_limit: float | None = None
    breaker: CrashBreaker | None = None  # beyond Ray: how many workers it may kill
    limiter: Limiter | None = None  # beyond Ray: whose permits attempts need
    max_pending: int | None = None  # beyond Ray: calls of one process that have not ended
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
        object.__setattr__(self, "demand", in_units(amounts | dict(self.resources)))


@record(frozen=True, slots=True)
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
    timeout: float | None = None  # beyond Ray, and so the next three: of making an actor
    deadline: float | None = None
    stall_timeout: float | None = None
    memory_limit: float | None = None
    # None: 1 while it is made; and later, if num_gpus or resources are named. Source: Ray.
    num_cpus: float | None = None
    num_gpus: float | None = None
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
    # Computed: what has to be free for its start, and whether the CPUs of it are held while it
    # lives, as all else is.
    demand: Units = field(init=False, repr=False, compare=False)
    keeps_cpus: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `demand` and `keeps_cpus`."""
        named = (self.num_cpus, self.num_gpus, self.resources or None)
        object.__setattr__(self, "keeps_cpus", any(amount is not None for amount in named))
        amounts = {
            "CPU": 1.0 if self.num_cpus is None else self.num_cpus,
            "GPU": self.num_gpus or 0.0,
            "memory": self.memory,
            **self.resources,
        }
        object.__setattr__(self, "demand", in_units(amounts))


@record(frozen=True, slots=True)
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
    timeout: float | None = None  # beyond Ray, and so the next three: see `core.limits`; inf: none
    deadline: float | None = None
    stall_timeout: float | None = None
    memory_limit: float | None = None
    limiter: Limiter | Literal[False] | None = None  # beyond Ray, see there; False: none
    generator_backpressure_num_objects: int | None = None
    num_objects_per_yield: int | None = None
    enable_task_events: bool | None = None
    tensor_transport: str | None = None
    name: str | None = None  # of calls
    labels: Mapping[str, str] | None = field(default=None, hash=False)  # of calls


# --- what follows from them ------------------------------------------------------------------


def units(amount: float) -> int:
    """Return `amount` in whole units, rounded down."""
    if isinstance(amount, int):
        return amount * RESOURCE_UNITS
    # 0.0003 * 10000 is 2.9999999999999996: first round off the error of the multiplication.
    return math.floor(round(amount * RESOURCE_UNITS, 6))


def in_units(amounts: Mapping[str, float]) -> Units:
    """Return amounts in the form of `TaskOptions.demand`: without those that are 0."""
    return tuple(sorted((name, units(amount)) for name, amount in amounts.items() if amount))


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
                f"unlimited retries), got {text!r:.100}: correct it or unset it"
            )
        return retries
    return DEFAULT_MAX_RETRIES


def concurrency_groups_of(
    options: ActorOptions, *, asynchronous: bool
) -> tuple[tuple[str, int], ...]:
    """Return how many calls of each concurrency group may run at once; the default, "", is first.

    A max_concurrency of 0 is the default too.
    """
    default = options.max_concurrency or (ASYNC_CONCURRENCY if asynchronous else 1)
    return (("", default), *options.concurrency_groups.items())


def limits_of(options: TaskOptions | ActorOptions | MethodOptions) -> TaskLimits | None:
    """Return the limits that these options set, of a method resolved ones; None: there are none."""
    said = {name: getattr(options, name, None) for name in LIMITS}
    given = {
        name: value
        for name, value in said.items()
        if value is not None and value is not False and value != math.inf
    }
    if not given:
        return None
    from ..core.limits import TaskLimits  # rare

    return TaskLimits(**given)


def is_ordered(options: ActorOptions, *, asynchronous: bool) -> bool:
    """Tell whether calls of one caller run in their order.

    Raises ValueError for allow_out_of_order_execution=False where that cannot be.
    """
    kind = "async" if asynchronous else "multi-threaded"
    if asynchronous or (options.max_concurrency or 1) > 1:
        if options.allow_out_of_order_execution is False:
            raise ValueError(
                f"If you're using {kind} actors, calls cannot be executed in order. Leave "
                f"`allow_out_of_order_execution` out, or set it to True."
            )
        return False
    return not (options.allow_out_of_order_execution or options.concurrency_groups)


def resolve_method(
    given: MethodOptions, options: ActorOptions, *, is_generator: bool
) -> MethodOptions:
    """Return the options of calls that say nothing themselves: nothing is left open but name.

    given: what `@method` says. options: the class's, of this creation.
    """
    defaults = MethodOptions(
        num_returns=STREAMING if is_generator else 1,
        concurrency_group="",
        max_task_retries=options.max_task_retries,
        retry_exceptions=False,
        interruptible=options.interruptible,
        timeout=math.inf,
        deadline=math.inf,
        stall_timeout=math.inf,
        memory_limit=math.inf,
        limiter=False,
        generator_backpressure_num_objects=-1,
        num_objects_per_yield=1,
        enable_task_events=options.enable_task_events,
        tensor_transport="",
        labels={},
    )
    return resolve_call(given, defaults)


def resolve_call(given: MethodOptions, resolved: MethodOptions) -> MethodOptions:
    """Return the options of a call that says `given`, of a method whose calls have `resolved`."""
    said = {
        name: value for name in given.__match_args__ if (value := getattr(given, name)) is not None
    }
    return replace(resolved, **said)
