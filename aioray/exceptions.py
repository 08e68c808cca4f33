"""Every error a caller can see, under Ray's names and with Ray's bases.

Room: shared; imported by all others, children included, so it stays light: no asyncio, no
cloudpickle, nothing of aioray. It only describes errors. Turning an exception of a task into bytes
and back is the business of failures.py; deciding what is retried that of the core.

All classes pickle by one rule, `RayError.__reduce__`: class, `args` and `__dict__` are restored
without calling `__init__`, so constructors are free to take what they like. The one exception is
the class `RayTaskError(X)` made on the fly by `RayTaskError.as_instanceof_cause`, which cannot be
found by name and is therefore made again from its cause.

Wart: some classes describe things that only a cluster has. They are here because programs import
them, are never raised on one machine, and say so.
"""

# ruff: noqa: N818 - the names are Ray's

from __future__ import annotations

import itertools
import math
import os
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .core.records import record

if TYPE_CHECKING:
    from collections.abc import Iterator

_E = TypeVar("_E", bound=BaseException)

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AttemptInfo",
    "AuthenticationError",
    "CircuitOpenError",
    "CrossLanguageError",
    "DoNotRetry",
    "EngineShutdownError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OufOfBandObjectRefSerializationException",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PlasmaObjectNotAvailable",
    "RayActorError",
    "RayCgraphCapacityExceeded",
    "RayChannelError",
    "RayChannelTimeoutError",
    "RayDirectTransportError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RetryTask",
    "RpcError",
    "RuntimeEnvSetupError",
    "StreamingGeneratorReplayInconsistentError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskTimeoutError",
    "TaskUnschedulableError",
    "UnserializableException",
    "UnsupportedFeatureError",
    "UserCodeException",
    "WorkerCrashedError",
    "WorkerStartupError",
]


@record(frozen=True, slots=True)
class AttemptInfo:
    """One execution of a task, as listed in `RayError.attempts`."""

    number: int  # counted from 0
    worker_id: str | None  # hex; None if no worker was found for it
    pid: int | None
    started_at: float | None  # Unix seconds; None if the function was never entered
    duration: float | None  # seconds; None if the function was never entered
    error_type: str | None  # Ray's name, such as WORKER_DIED; None if the attempt succeeded
    ended: str  # one line, such as "raised ValueError: bad" or "worker died of SIGSEGV"


# --------------------------------------------------------------------------- the base


class RayError(Exception):
    """Base of every error that aioray reports.

    Catch it to catch whatever can go wrong with a task, also what is not listed in your program.
    `attempts` lists the executions of the task that the error is about, oldest first; it is empty
    where there was none.
    """

    attempts: tuple[AttemptInfo, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self.args, dict(self.__dict__)))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Stated here so that a user's class mixed in behind this one cannot bring its own.
        return self.__reduce__()


def _restore(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    """Make an exception again from what `__reduce__` kept, without calling its `__init__`."""
    error = kind.__new__(kind, *args)
    BaseException.__dict__["args"].__set__(error, args)
    error.__dict__.update(state)
    return error


# --------------------------------------------------------------------------- the task raised


class RayTaskError(RayError):
    """The function of a task, or a method of an actor, raised.

    What `get` and `await` raise is an instance of a class made for the purpose, which derives from
    this one and from the class of the original exception; `except ValueError` and
    `except RayTaskError` both catch it. `cause` is the original exception, `args` is `(cause,)`,
    and `str` is the traceback of the worker. Attributes not defined here are those of the cause,
    so `error.code` works. Where names meet (`pid`, `attempts`, …) they are those of the task.
    Where the original means something else than failure to Python (see `is_control_flow`), it is
    raised as plain RayTaskError: `raise StopIteration` in a task must not end a loop of the caller.
    So are such members of a BaseExceptionGroup, in the group: `except*` finds all the others.

    Also raised when an argument of the task is the result of another one that failed; `cause` is
    then the original exception of that one. Not raised when the worker process died:
    WorkerCrashedError. Source: Ray API reference, ray.exceptions.RayTaskError. Unlike Ray's, the
    text has no colour codes, the instance has all attributes, and plain pickle works.
    """

    # These defaults also shadow properties of the same name in a class mixed in behind this one.
    function_name: str = ""
    traceback_str: str = ""
    cause: BaseException | None = None
    proctitle: str | None = None
    pid: int | None = None
    ip: str | None = None
    actor_repr: str | None = None
    actor_id: str | None = None

    _is_dual: ClassVar[bool] = False

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException | None,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        BaseException.__init__(self, cause)
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.proctitle = proctitle
        self.pid = pid
        self.ip = ip
        self.actor_repr = actor_repr
        self.actor_id = actor_id

    def __str__(self) -> str:
        return self.traceback_str

    def __getattr__(self, name: str) -> Any:
        # Special names stay out: Python itself asks for some (`__notes__`), and the cause's notes
        # are in the text already.
        if name.startswith("__") or self.cause is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
        return getattr(self.cause, name)

    def as_instanceof_cause(self) -> RayTaskError:
        """Return this error as an instance of the class of its cause, too.

        Returns self where that is so already (the cause is a plain Exception or RayError, or there
        is none), and where it must not be so: see `is_control_flow`. Where the pair cannot be made,
        for example because the cause's class refuses to be subclassed, returns self and logs a
        warning; `cause` still has the original.
        """
        cause = self.cause
        if self._is_dual or cause is None or _holds(RayTaskError.__mro__, type(cause)):
            return self
        if is_control_flow(cause):
            return self
        try:
            return _make_dual(self, cause)
        except Exception as problem:  # noqa: BLE001 - runs code of the user's class
            import logging  # only here: children import this module, and few need it

            from .shared.printable import LINES, printable

            logging.getLogger("aioray").warning(
                "A RayTaskError cannot be raised as an instance of its cause's class %s: making "
                "the pair failed with %s: %s. It is raised as a plain RayTaskError, whose `cause` "
                "is the original exception.",
                printable(type.__repr__(type(cause))),
                printable(type(problem).__name__),
                printable(str(problem), LINES),
            )
            return self

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._is_dual:
            return super().__reduce__()
        copied = _state_of(self.cause)
        state = {
            name: value
            for name, value in self.__dict__.items()
            if name in _OWN or name not in copied or value is not copied[name]
        }
        return (_restore_dual, (state,))


_CONTROL_FLOW = (StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit)


def is_control_flow(error: BaseException) -> bool:
    """Tell whether who catches an error of this class takes it for something of his own.

    The end of an iteration, of a generator or of the program, or the cancelling of the awaiter
    (`asyncio.CancelledError`; that of concurrent.futures is an error like others). Raised at the
    caller of a task, it would be silence where an error was.
    """
    loaded = sys.modules.get("asyncio.exceptions")  # if it is one of these, somebody has loaded it
    kinds = _CONTROL_FLOW if loaded is None else (*_CONTROL_FLOW, loaded.CancelledError)
    return any(_holds(kinds, each) for each in type(error).__mro__)


_OWN = frozenset(RayTaskError.__annotations__) - {"_is_dual"} | {"attempts"}

# Weak in the values, so that a class of a long-lived service's user that nobody needs any more is
# not kept alive by its pair.
_dual_by_cause: weakref.WeakValueDictionary[type, type[RayTaskError]] = (
    weakref.WeakValueDictionary()
)


def _restore_dual(state: dict[str, Any]) -> RayTaskError:
    plain = _restore(RayTaskError, (state.get("cause"),), state)
    assert isinstance(plain, RayTaskError)
    return plain.as_instanceof_cause()


def _make_dual(plain: RayTaskError, cause: BaseException) -> RayTaskError:
    kind = _dual_class(type(cause))
    group: tuple[Any, ...] = ()
    if isinstance(cause, BaseExceptionGroup):
        group = cause.message, _failures_of(cause)
    dual = allocate(kind, group)
    BaseException.__dict__["args"].__set__(dual, (cause,))
    for descriptor in native_attributes(type(cause)):
        try:
            descriptor.__set__(dual, descriptor.__get__(cause, type(cause)))
        except (AttributeError, TypeError, ValueError):
            continue  # read-only, or not set in the cause
    state = dual.__dict__
    state.clear()
    # The cause's attributes are copied because a default in its class would hide them from
    # __getattr__; directly, because a frozen dataclass refuses assignment.
    state.update(_state_of(cause))
    state.update(plain.__dict__)
    if "attempts" not in plain.__dict__:
        state.pop("attempts", None)
    return dual


def _state_of(cause: BaseException | None) -> dict[str, Any]:
    state = getattr(cause, "__dict__", None)
    if not isinstance(state, dict):
        return {}
    return {name: value for name, value in state.items() if name != "__notes__"}


def _dual_class(cause_class: type) -> type[RayTaskError]:
    kind = _dual_by_cause.get(cause_class)
    if kind is None:
        name = f"RayTaskError({cause_class.__name__})"
        body = {
            "__module__": __name__,
            "__qualname__": name,
            "__doc__": RayTaskError.__doc__,
            "_is_dual": True,
        }
        # new_class finds the right metaclass where the cause's class has one of its own.
        made = types.new_class(
            name, (RayTaskError, cause_class), exec_body=lambda space: space.update(body)
        )
        kind = _dual_by_cause.setdefault(cause_class, made)
    return kind


def _failures_of(group: BaseExceptionGroup[Any]) -> list[Exception]:
    """Return the members of a group as Exceptions; one that is more is carried as a cause."""
    return [_as_failure(member) for member in group.exceptions]


def _as_failure(member: BaseException) -> Exception:
    if isinstance(member, Exception):
        return member
    if not isinstance(member, BaseExceptionGroup):
        return RayTaskError("", f"{type(member).__name__}: {member}", member)
    members = _failures_of(member)
    made = member.derive(members)
    if not isinstance(made, ExceptionGroup):
        made = ExceptionGroup(member.message, members)
    return made


def allocate(kind: type[_E], args: tuple[Any, ...]) -> _E:
    """Allocate an exception of a class that may be the user's, running no code of it.

    args: message and members if it is a group. Of the allocators of the builtin exceptions among
    the bases, exactly those with the memory layout of `kind` agree to serve it.
    """
    problem: TypeError | None = None
    for base in kind.__mro__:
        make = vars(base).get("__new__")
        if not isinstance(make, types.BuiltinMethodType):
            continue
        try:
            made = make(kind, *args)
        except TypeError as error:
            problem = problem or error
            continue
        if type(made) is kind:
            return made
    raise problem or TypeError(f"{kind.__name__} has no usable allocator")


def native_attributes(kind: type) -> Iterator[Any]:
    """Yield the descriptors of attributes kept outside `__dict__`: builtin members and slots."""
    for base in kind.__mro__:
        if base is BaseException or base is object:
            continue
        for name, descriptor in vars(base).items():
            if not name.startswith("__") and isinstance(
                descriptor, (types.MemberDescriptorType, types.GetSetDescriptorType)
            ):
                yield descriptor


def _holds(classes: tuple[type, ...], wanted: type) -> bool:
    # By identity: issubclass would ask the metaclass of the user's class.
    return any(each is wanted for each in classes)


class UnserializableException(RayError):
    """Stands in, as the `cause` of a RayTaskError, for an exception that could not be brought over.

    An exception travels from the worker to its caller by pickle, and where that fails by its class,
    its `args` and those of its attributes that can be sent. This one takes its place where the
    class itself does not come over, the usual reasons being a module that the caller cannot import,
    and a class made in a function that refers to something like a lock. `type_name`, `module`,
    `message`, `notes` and `traceback_str` are those of the original; `reason` says what failed.
    """

    def __init__(
        self,
        type_name: str,
        module: str = "",
        message: str = "",
        notes: tuple[str, ...] = (),
        traceback_str: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(type_name, module, message)
        self.type_name = type_name
        self.module = module
        self.message = message
        self.notes = tuple(notes)
        self.traceback_str = traceback_str
        self.reason = reason

    def __str__(self) -> str:
        short = self.module in ("", "builtins", "__main__")
        original = self.type_name if short else f"{self.module}.{self.type_name}"
        lines = [f"{original}: {self.message}" if self.message else original, *self.notes]
        return "\n".join([*lines, self.explanation])

    @property
    def explanation(self) -> str:
        """Why the original exception is not here, and what that means for who wants to catch it."""
        return (
            f"(The original exception isn't serializable{_after(': ', self.reason)}. An "
            f"UnserializableException stands in for it, so `except {self.type_name}` does not "
            f"catch this error; `except RayTaskError` does.)"
        )


class UserCodeException(RayError):
    """Marks an exception as coming from user code that a library ran inside its own task.

    Raise it `from` the user's exception: a list given as `retry_exceptions` looks through it at
    `__cause__`. aioray itself never raises it.
    """


# --------------------------------------------------------------------------- raised by a task


class RetryTask(Exception):
    """Raised by a task to ask for another attempt after `delay` seconds.

    Counts against `max_retries` like any retry; when none is left it is the outcome of the task
    and reaches the caller as `RayTaskError(RetryTask)`. `delay` is in seconds, 0 means at once.
    Raises TypeError if delay is no number, ValueError if it is negative or not finite.
    """

    def __init__(self, delay: float = 0.0, message: str = "") -> None:
        if isinstance(delay, bool) or not isinstance(delay, (int, float)):
            raise TypeError(
                "RetryTask(delay): expected a number of seconds, "
                f"got {delay!r} of type {type(delay).__name__}"
            )
        if not 0 <= delay <= math.nextafter(math.inf, 0.0):  # there are ints beyond all floats
            raise ValueError(
                f"RetryTask(delay): expected a finite number of seconds >= 0, got {delay!r}"
            )
        super().__init__(delay, message)
        self.delay = float(delay)
        self.message = message

    def __str__(self) -> str:
        when = f"after {self.delay:g} s" if self.delay else "at once"
        return self.message or f"The task asked to be run again {when}."


class DoNotRetry(Exception):
    """Raised by a task to forbid further attempts, whatever `retry_exceptions` says.

    Reaches the caller as `RayTaskError(DoNotRetry)`. Raise it `from` the exception that made you
    give up, and both are in the text.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message or "The task asked not to be run again."


# --------------------------------------------------------------------------- the worker failed

_SIGNAL_MEANING = {
    "SIGABRT": "abort, as by a failed assertion in C code",
    "SIGBUS": "bus error, as by a truncated memory-mapped file or full shared memory",
    "SIGFPE": "arithmetic error in C code",
    "SIGILL": "illegal instruction, as by a library built for another processor",
    "SIGKILL": "killed from outside, as by `kill -9` or the kernel when memory is short",
    "SIGSEGV": "segmentation fault in C code",
    "SIGTERM": "asked to end from outside",
    "SIGXCPU": "limit on CPU time",
}


def _where(error: WorkerCrashedError | OutOfMemoryError) -> list[str]:
    """Return the line that says which attempt an error is about; none if it does not know."""
    where = [
        f"task {error.task_name}" if error.task_name else "",
        f"task id {error.task_id}" if error.task_id else "",
        f"attempt {error.attempt}" if error.attempt is not None else "",
        f"pid {error.pid}" if error.pid is not None else "",
        f"worker {error.worker_id}" if error.worker_id else "",
        f"after {error.seconds:.3g} s" if error.seconds is not None else "",
    ]
    return [f"  {', '.join(filter(None, where))}"] if any(where) else []


class WorkerCrashedError(RayError):
    """The worker process died while it ran the task, and no retry was left.

    Causes: a signal, a segmentation fault, `os._exit`, `sys.exit`, the kernel's out-of-memory
    killer. Not raised when the function raised (RayTaskError) or the task was cancelled by force
    (TaskCancelledError). `max_retries` says how often such a task is run again.

    message replaces the first sentence of the text. `exit_code` or `signal` (its name) say how the
    process ended; both are None if that could not be found out. `seconds` is how long the attempt
    ran, `stderr_tail` the last lines the worker wrote to its stderr, `python_stack` its Python
    stack when it died, where known; the text leaves out the frames of aioray in it. Unlike Ray's,
    the text names all that is known.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        exit_code: int | None = None,
        signal: str | None = None,
        pid: int | None = None,
        worker_id: str | None = None,
        task_name: str | None = None,
        task_id: str | None = None,
        attempt: int | None = None,
        seconds: float | None = None,
        oom_killed: bool = False,
        stderr_tail: str = "",
        python_stack: str = "",
    ) -> None:
        super().__init__(*([] if message is None else [message]))
        self.message = message
        self.exit_code = exit_code
        self.signal = signal
        self.pid = pid
        self.worker_id = worker_id
        self.task_name = task_name
        self.task_id = task_id
        self.attempt = attempt
        self.seconds = seconds
        self.oom_killed = oom_killed
        self.stderr_tail = stderr_tail
        self.python_stack = python_stack

    def __str__(self) -> str:
        lines = [self.message or self._headline()]
        lines += _where(self)
        return "\n".join([*lines, *last_words(self.stderr_tail, self.python_stack)])

    def _headline(self) -> str:
        died = "The worker died unexpectedly while executing this task"
        if self.oom_killed:
            return f"{died}: the kernel's out-of-memory killer ended it."
        if self.signal is not None:
            meaning = _after(" (", _SIGNAL_MEANING.get(self.signal), ")")
            return f"{died}: it was killed by {self.signal}{meaning}."
        if self.exit_code is not None:
            hint = "sys.exit and os._exit in a task end its worker"
            return f"{died}: it exited with code {self.exit_code} ({hint})."
        return f"{died}. How it ended is not known."


class CircuitOpenError(RayError):
    """The function has killed too many workers, and is not called any more for a while.

    Raised by calls of functions with `breaker=CrashBreaker(...)`, as long as that is open: nothing
    was started for them. Not raised by calls whose worker died: WorkerCrashedError.

    `breaker` is its name, `deaths` lists the last attempts that died, the oldest first, `names` of
    which tasks they were, and `retry_after` is how many seconds after the refusal a call will be
    let through.
    """

    def __init__(
        self,
        breaker: str,
        deaths: tuple[AttemptInfo, ...] = (),
        *,
        names: tuple[str, ...] = (),
        task_name: str = "",
        task_id: str | None = None,
        period: float = 0.0,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(f"Task {task_name} was not started: the breaker {breaker} is open.")
        self.breaker = breaker
        self.deaths = deaths
        self.names = names
        self.task_name = task_name
        self.task_id = task_id
        self.period = period
        self.retry_after = retry_after

    def __str__(self) -> str:
        told = (
            f"  Too many workers died of its calls within {self.period:g} s. The next call is let "
            f"through in {self.retry_after:.3g} s. The last deaths:"
        )
        lines = [str(self.args[0]), told]
        lines += [
            f"    {name}, attempt {death.number}, pid {death.pid}: {death.ended}"
            for name, death in zip(self.names, self.deaths, strict=False)
        ]
        return "\n".join(lines)


class WorkerStartupError(RayError):
    """No worker process could be started for the task, after several tries.

    `stderr` is what the starting process wrote, `tries` how often it was tried. The cause is
    usually there: a module that fails when imported, a limit on processes, lack of memory. Not
    raised for a worker that had started and died later: WorkerCrashedError.
    """

    def __init__(
        self, message: str = "The worker process could not start.", stderr: str = "", tries: int = 0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.stderr = stderr
        self.tries = tries

    def __str__(self) -> str:
        tried = f" (tried {self.tries} times)" if self.tries > 1 else ""
        return "\n".join([self.message + tried, *_section("It wrote to stderr:", self.stderr)])


class EngineShutdownError(RayError):
    """The session ended, by `shutdown()`, while the task was waiting or running.

    Get the results you need before the session ends. Not raised for tasks that had finished.
    """

    def __init__(
        self, message: str = "The session was shut down before this task had finished."
    ) -> None:
        super().__init__(message)


class UnsupportedFeatureError(RayError):
    """A feature of Ray was asked for that does not exist on one machine.

    Raised at the call that asks for it. `feature` names it, or is the whole sentence; `advice`
    says what to do.
    """

    def __init__(self, feature: str, advice: str = "") -> None:
        super().__init__(feature, *([advice] if advice else []))
        self.feature = feature
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.feature}{_after(' ', self.advice)}"


class OutOfMemoryError(RayError):
    """The worker was killed for the memory it had, and no retry was left.

    It exceeded the `memory_limit` of the task, or of its actor; or the machine, or the container,
    was about to run out of memory, and this worker had most beyond what it asked for. Such retries
    are counted apart from those after crashes, see RAY_task_oom_retries. Not raised for a kill by
    the kernel, WorkerCrashedError, nor for a MemoryError that the function raised, RayTaskError.

    message and advice are the first and the last sentence of the text. `peak` is how many bytes
    were in use, `limit` how many were allowed, None if the task has no limit of its own; then
    `machine_used` and `machine_total` tell how much of all memory was in use.
    """

    def __init__(
        self,
        message: str = "The worker was killed because memory ran short.",
        advice: str = "",
        *,
        peak: int | None = None,
        limit: int | None = None,
        machine_used: int | None = None,
        machine_total: int | None = None,
        pid: int | None = None,
        worker_id: str | None = None,
        task_name: str | None = None,
        task_id: str | None = None,
        attempt: int | None = None,
        seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.peak = peak
        self.limit = limit
        self.machine_used = machine_used
        self.machine_total = machine_total
        self.pid = pid
        self.worker_id = worker_id
        self.task_name = task_name
        self.task_id = task_id
        self.attempt = attempt
        self.seconds = seconds

    def __str__(self) -> str:
        return "\n".join([self.message, *_where(self), *([self.advice] if self.advice else [])])


class RaySystemError(RayError):
    """aioray itself failed: a bug or a broken machine, not the fault of the task."""

    def __init__(
        self, client_exc: BaseException | str = "", traceback_str: str | None = None
    ) -> None:
        super().__init__(client_exc)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        traceback = _after("\ntraceback: ", self.traceback_str)
        return f"System error: {self.client_exc}{traceback}"


class RuntimeEnvSetupError(RayError):
    """The environment asked for by `runtime_env` could not be set up. The task is not retried.

    A directory or module has vanished since it was asked for, or worker_process_setup_hook has
    raised, ended the process, or taken longer than setup_timeout_seconds. `error_message` has the
    traceback, the stack or stderr, and an exception of the hook is in `__cause__`. Tasks that
    follow within a second fail alike; later ones try again. Not raised for what is wrong when it
    is asked for: that is a ValueError of `@remote`, `.options()` or `init()`; nor for a process
    that cannot be started at all: WorkerStartupError.
    """

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(*([] if error_message is None else [error_message]))
        self.error_message = error_message

    def __str__(self) -> str:
        return f"Failed to set up runtime environment.{_after(chr(10), self.error_message)}"


# --------------------------------------------------------------------------- cancelled, timed out


class TaskCancelledError(RayError):
    """The task was cancelled by `cancel`.

    Raised as it is when the task had not started, with an empty text, or was ended by force; as
    `RayTaskError(TaskCancelledError)` with the traceback of the worker when it was interrupted, or
    raised KeyboardInterrupt itself. Not raised when the task caught the interrupt and returned a
    value. `task_id` is the task's, in hex. The text is `error_message`, whatever the task_id.
    """

    def __init__(self, task_id: str | None = None, error_message: str | None = None) -> None:
        super().__init__(*([] if error_message is None else [error_message]))
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        return self.error_message or ""


class GetTimeoutError(RayError, TimeoutError):
    """`get` waited for `timeout` seconds in vain. The tasks go on; `get` may be called again."""


class TaskTimeoutError(RayError, TimeoutError):
    """The task exceeded a time limit that it was given, and was ended for that.

    Raised as it is by whoever gets the task's value, and as the cause of a RayTaskError for tasks
    that needed it. Not raised when the task caught the interrupt and returned a value, nor when
    `get` has waited too long (GetTimeoutError). It is retried only if `retry_exceptions` says so.

    `limit` is the option, "timeout", "deadline" or "stall_timeout", and `seconds` its value.
    `attempt`, `pid` and `worker_id` are None if the task had not begun when its deadline passed.
    `after` is how many seconds had passed, counted as the limit counts. `python_stack` is where it
    was then, without the frames of aioray: the most recent call first, but for a coroutine of a
    task, of which it is the traceback. It is empty if nobody could tell, as of a process that was
    stopped.
    """

    def __init__(
        self,
        limit: str,
        seconds: float,
        *,
        task_name: str = "",
        task_id: str | None = None,
        attempt: int | None = None,
        pid: int | None = None,
        worker_id: str | None = None,
        after: float | None = None,
        python_stack: str = "",
    ) -> None:
        super().__init__(f"Task {task_name} has exceeded its {limit} of {seconds:g} s.")
        self.limit = limit
        self.seconds = seconds
        self.task_name = task_name
        self.task_id = task_id
        self.attempt = attempt
        self.pid = pid
        self.worker_id = worker_id
        self.after = after
        self.python_stack = python_stack

    def __str__(self) -> str:
        lines = [str(self.args[0])]
        if self.pid is None:
            lines[0] += " It was not running then."
        where = [
            f"task id {self.task_id}" if self.task_id else "",
            f"attempt {self.attempt}" if self.attempt is not None else "",
            f"pid {self.pid}" if self.pid is not None else "",
            f"worker {self.worker_id}" if self.worker_id else "",
            f"after {self.after:.3g} s" if self.after is not None else "",
        ]
        lines += [f"  {', '.join(filter(None, where))}"] if any(where) else []
        return "\n".join([*lines, *_section("Its Python stack then:", self.python_stack)])


# --------------------------------------------------------------------------- cannot be placed


class _WithMessage(RayError):
    """Common form of the errors that have a prefix of their own and an `error_message`."""

    _prefix: ClassVar[str] = ""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"{self._prefix}{self.error_message}"


class TaskUnschedulableError(_WithMessage):
    """The task asks for a place that does not exist, such as an unknown node."""

    _prefix = "The task is not schedulable: "


class ActorUnschedulableError(_WithMessage):
    """The actor asks for a place that does not exist, such as an unknown node."""

    _prefix = "The actor is not schedulable: "


class _FixedText(RayError):
    """Common form of the errors that have a fixed text unless they are given another."""

    _text: ClassVar[str] = ""

    def __str__(self) -> str:
        return super().__str__() or self._text


class TaskPlacementGroupRemoved(_FixedText):
    """The placement group that the task was to run in was removed."""

    _text = "The placement group corresponding to this task has been removed."


class ActorPlacementGroupRemoved(_FixedText):
    """The placement group that the actor was to run in was removed."""

    _text = "The placement group corresponding to this Actor has been removed."


class PendingCallsLimitExceeded(RayError):
    """So many calls have not ended as the option `max_pending`, or `max_pending_calls`, allows.

    Wait for some, then call again; or call with `submit`, which waits for room.
    """


# --------------------------------------------------------------------------- actors


class RayActorError(RayError):
    """Base of the errors about actors that are not errors of a method.

    cause is a text, or the RayTaskError of the actor's `__init__`. `error_msg` is the text of the
    error, `actor_id` in hex, `actor_init_failed` says that `__init__` raised. `exit_code` or
    `signal` (its name) say how the actor's process has ended, where that is known; Ray has neither.
    """

    _default: ClassVar[str] = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        cause: RayTaskError | str | None = None,
        *,
        actor_id: str | None = None,
        preempted: bool = False,
        exit_code: int | None = None,
        signal: str | None = None,
    ) -> None:
        self.exit_code = exit_code
        self.signal = signal
        self.actor_init_failed = isinstance(cause, RayTaskError)
        if isinstance(cause, RayTaskError):
            actor_id = actor_id or cause.actor_id
            cause = f"The actor died because of an error raised in its creation task, {cause}"
        self.error_msg = cause or self._default
        self.actor_id = actor_id
        self.preempted = preempted
        super().__init__(self.error_msg)

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead for good, or its `__init__` raised."""

    _default = "The actor died unexpectedly before finishing this task."


class ActorUnavailableError(RayActorError):
    """The actor restarts or cannot be reached now; a later call may succeed."""

    _default = "The actor is temporarily unavailable."

    def __init__(
        self,
        error_message: str | None = None,
        actor_id: str | None = None,
        *,
        exit_code: int | None = None,
        signal: str | None = None,
    ) -> None:
        super().__init__(error_message, actor_id=actor_id, exit_code=exit_code, signal=signal)


class AsyncioActorExit(RayError):
    """Ends an actor from inside an async method. Internal; never reaches a caller."""


class ActorAlreadyExistsError(ValueError, RayError):
    """An actor of this name exists. Take another name, or ask for `get_if_exists`."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle is of an earlier session. Make the actor again in this one."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message


# --------------------------------------------------------------------------- objects


class ObjectLostError(RayError):
    """The value of a ref is gone and could not be computed again.

    `object_ref_hex` is the id of the ref, `call_site` where it was made, if that is recorded.
    """

    _what: ClassVar[str] = "Failed to retrieve object {ref}: its value is lost."

    def __init__(
        self,
        object_ref_hex: str | None = None,
        owner_address: object = None,
        call_site: str = "",
    ) -> None:
        super().__init__(*([] if object_ref_hex is None else [object_ref_hex]))
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site

    def __str__(self) -> str:
        site = _after(" The ref was made at: ", self.call_site)
        return self._what.format(ref=self.object_ref_hex or "of unknown id") + site


class ObjectReconstructionFailedError(ObjectLostError):
    """The value of a ref is gone, and computing it again was forbidden or failed.

    `reason` is a name such as OBJECT_UNRECONSTRUCTABLE_PUT, `reason_message` the sentence to it.
    """

    _what = "Failed to retrieve object {ref}: its value is lost and could not be computed again."

    def __init__(
        self,
        object_ref_hex: str | None = None,
        owner_address: object = None,
        call_site: str = "",
        *,
        reason: str = "",
        reason_message: str = "",
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.reason = reason
        self.reason_message = reason_message

    def __str__(self) -> str:
        reason = f" [{self.reason}]" if self.reason else ""
        return f"{super().__str__()}{reason}{_after(' ', self.reason_message)}"


class OwnerDiedError(ObjectLostError):
    """The process that made the ref died, and the value with it."""

    _what = "Failed to retrieve object {ref}: the process that owned it has died."


class ObjectFetchTimedOutError(ObjectLostError):
    """Reading the value of a ref took too long."""

    _what = "Failed to retrieve object {ref}: reading it timed out."


class ObjectFreedError(ObjectLostError):
    """The value of a ref was freed by hand while the ref was still in use."""

    _what = "Failed to retrieve object {ref}: it was freed by hand. Free it after its last use."


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The value of a ref was deleted too early: a bug in aioray."""

    _what = "Failed to retrieve object {ref}: it was deleted although a ref to it exists."


class ObjectStoreFullError(RayError):
    """There is no room in shared memory for a value. Delete refs that you no longer need."""


class OutOfDiskError(RayError):
    """There is no room in shared memory nor on disk for a value."""


class OufOfBandObjectRefSerializationException(RayError):  # Ray's name, with its typo
    """A ref was pickled by hand, outside arguments and results, and that check is on."""


class ObjectRefStreamEndOfStreamError(RayError):
    """The end of a stream of refs. Internal; never reaches a caller."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator task that was run again yielded another number of items."""


class PlasmaObjectNotAvailable(RayError):
    """A value was asked for without waiting and is not there. Internal."""


# --------------------------------------------------------------------------- clusters only


class NodeDiedError(RayError):
    """A node of the cluster was lost. Never raised on one machine."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class LocalRayletDiedError(_FixedText):
    """The process that supervises the workers was lost, and they with it."""

    _text = "The task's supervisor died, and its workers with it."


class CrossLanguageError(RayError):
    """A task in another language failed. Never raised on one machine."""


class RpcError(RayError):
    """A call to another machine failed. Never raised on one machine."""

    def __init__(self, message: str = "", rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.rpc_code = rpc_code


class AuthenticationError(RayError):
    """The cluster refused the token. Never raised on one machine."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class RayChannelError(RaySystemError):
    """A channel of a compiled graph failed. Never raised on one machine."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel of a compiled graph timed out. Never raised on one machine."""


class RayCgraphCapacityExceeded(RaySystemError):
    """Too many executions of a compiled graph are in flight. Never raised on one machine."""


class RayDirectTransportError(RaySystemError):
    """Moving a tensor between actors failed. Never raised on one machine."""


def _after(prefix: str, text: str | None, suffix: str = "") -> str:
    return f"{prefix}{text}{suffix}" if text else ""


_C_FRAME = '  Binary file "'
_OWN_FRAMES = (f'  File "{__file__.rpartition("/")[0]}/worker/', '  File "<string>"')


def _user_stack(stack: str) -> str:
    """Return what faulthandler wrote without the worker's own frames and its list of libraries.

    Of the C stack, which it has from 3.14 on, what lies above the interpreter.
    """
    lines = [line for line in stack.splitlines() if line and not line.startswith(_OWN_FRAMES)]
    lines = [line for line in lines if not line.startswith("Extension modules: ")]
    in_c = [at for at, line in enumerate(lines) if line.startswith(_C_FRAME)]
    if in_c:
        first, last = in_c[0], in_c[-1] + 1
        frames = itertools.dropwhile(_is_of_interpreter, lines[first:last])
        above = list(itertools.takewhile(lambda line: not _is_of_interpreter(line), frames))
        lines[first - (not above) : last] = above  # not the header alone
    return "\n".join(lines)


def _is_of_interpreter(line: str) -> bool:
    """Tell whether a frame of the C stack is the interpreter's, which is shown by its title."""
    file = line.removeprefix(_C_FRAME).partition('"')[0]
    return not file.startswith("/") or os.path.basename(file).startswith(("python", "libpython"))


def last_words(stderr_tail: str, python_stack: str) -> list[str]:
    """Tell what a dead process has left, in lines for the text of an error."""
    return [
        *_section("Last lines of its stderr:", stderr_tail),
        *_section("Its Python stack when it died:", _user_stack(python_stack)),
    ]


def _section(title: str, text: str) -> list[str]:
    if not text.strip():
        return []
    return [f"  {title}", *(f"    {line}" for line in text.rstrip().splitlines())]
