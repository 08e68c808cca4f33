"""`@remote` and what it makes of a function; of a class `actor` makes something.

Room: api. Checks and translates, decides nothing: `RemoteFunction.remote()` checks the call
against the signature and hands it to the client. `Call` is a function with one set of options; the
client hangs what it prepared for it on `binding`, so that a second call costs no preparation.
"""

# Of overloads that overlap the first that fits is meant.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from .api.session import client_for_call
from .client.protocol import Call
from .client.signatures import check_call, is_generator, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from typing import Never, ParamSpec, Unpack

    from .actor import ActorClass
    from .api.actor_types import ActorT, ClassForMypy, ClassForPyright, Makes, MakesActorClasses
    from .api.call_types import (
        AnyKind,
        Calls,
        FunctionCalls,
        Given_co,
        MakesDynamicGenerators,
        MakesFunctions,
        MakesFunctionsOfNothing,
        MakesFunctionsOfSeveral,
        S_co,
        Value_co,
    )
    from .client.admission import Gate, WaitingCall
    from .client.generators import ObjectRefGenerator
    from .client.protocol import Client
    from .client.refs import ObjectRef
    from .dag import FunctionNode
    from .options.types import ActorClassOptions, CommonOptions, FunctionOptions
    from .shared.options import TaskOptions

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")
else:
    from .shared.subscripts import Erased, subscriptable

    Calls = FunctionCalls = Erased
    P = Value_co = Given_co = S_co = None

__all__ = ["BoundOptions", "RemoteFunction", "remote"]


class RemoteFunction(FunctionCalls[P, Value_co, Given_co]):
    """A function whose calls run in worker processes. Made by `@aioray.remote`.

    It may be any callable: a partial, a bound method, an object, a builtin. What it holds is
    serialized once, at the first call, as what functions close over; each worker has its own copy.

    `f.remote(...)` submits a call and returns its ref at once; `f.options(...)` changes options for
    some calls. Calling it directly is a TypeError.
    Source: Ray API reference, ray.remote.
    """

    def __init__(self, function: Callable[P, Value_co], options: TaskOptions) -> None:
        itself: Any = self  # to be called, as far as checkers know, by `remote` only
        self.name: str = name_of(function)
        self.__name__ = self.__qualname__ = self.name
        # The attributes of an object that can be called are its own matter.
        given = functools.WRAPPER_UPDATES if _is_routine(function) else ()
        functools.update_wrapper(itself, function, updated=given)
        if not getattr(function, "__module__", None):
            self.__module__ = "global"
        self.function: Callable[P, Value_co] = function
        self.options_given = options
        self._call = Call(self, options)
        self.arity: tuple[int, float] | None = None  # see `signatures.check_call`

    if not TYPE_CHECKING:  # what they take and give is said by FunctionCalls
        __class_getitem__ = subscriptable

        def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            """Refuse: a remote function runs in a worker only."""
            raise TypeError(
                f"Remote function {self.name!r} cannot be called directly. Use "
                f"'{self.name}.remote()' to run it in a worker, or '{self.name}.function()' to run "
                f"it here."
            )

        def remote(self, /, *args: Any, **kwargs: Any) -> Any:
            """Submit a call, and return its ref at once.

            With num_returns > 1 that is a list of refs, with 0 None. A call of a generator function
            gives an ObjectRefGenerator of refs to its items.

            An argument that is an ObjectRef reaches the function as its value; inside other objects
            refs stay refs. Arguments are serialized now: later changes to them have no effect.
            Raises TypeError if the arguments do not fit the signature or cannot be serialized.
            """
            return submit(self, self._call, args, kwargs)

        def submit(self, /, *args: Any, **kwargs: Any) -> Any:
            """Submit a call as soon as there is room: `ref = await f.submit(x)`.

            Room is limited by the option max_pending of the function, and of the session. Those who
            wait are served in their order; cancelling the wait submits nothing. Without `await`:
            `f.submit(x).result(timeout)` blocks, and raises GetTimeoutError. Otherwise as `remote`.
            """
            return submit_later(self, self._call, args, kwargs)

        def options(self, **options: Any) -> BoundOptions[P, Any]:
            """Return the function with some options changed: all of `@remote` but max_calls."""
            from .options.task import parse_task_options  # in workers only where it is used

            changed = parse_task_options(
                options,
                base=self.options_given,
                is_generator=is_generator(self.function),
            )
            return BoundOptions(self, changed)

    @property
    def _function(self) -> Callable[P, Value_co]:
        """The plain function, under the name that programs know from Ray."""
        return self.function

    @property
    def _function_name(self) -> str:
        """Module and name of the function, as Ray has it."""
        return f"{self.__module__}.{self.name}"

    def _remote(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit a call whose arguments are given as two, with some options changed: Ray's way."""
        call: Any = self.options(**options) if options else self
        return call.remote(*(args or ()), **(kwargs or {}))

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """Note a call that is made later, see `aioray.dag`."""
        from .dag import FunctionNode

        return FunctionNode(self.remote, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFunction, (self.function, self.options_given)

    def __repr__(self) -> str:
        return f"<aioray remote function {self.__module__}.{self.name}>"


class BoundOptions(Calls[P, S_co]):
    """A remote function with other options: has `remote()`, and cannot be changed again."""

    __slots__ = ("_call", "_function")

    def __init__(self, function: RemoteFunction[P, Any, Any], options: TaskOptions) -> None:
        self._function = function
        self._call = Call(function, options)

    if not TYPE_CHECKING:
        __class_getitem__ = subscriptable

        def remote(self, /, *args: Any, **kwargs: Any) -> Any:
            """Submit a call, as `RemoteFunction.remote`."""
            return submit(self._function, self._call, args, kwargs)

        def submit(self, /, *args: Any, **kwargs: Any) -> Any:
            """Submit a call as soon as there is room, as `RemoteFunction.submit`."""
            return submit_later(self._function, self._call, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """Note a call that is made later, see `aioray.dag`."""
        from .dag import FunctionNode

        return FunctionNode(self.remote, args, kwargs)


def submit(
    code: RemoteFunction[..., Any, Any],
    call: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Check a call against the signature and hand it to the client of this context."""
    check_call(code, args, kwargs)
    client = client_for_call()
    if call.options.max_pending is None and client.gate is None:
        return client.submit(call, args, kwargs)
    from .client.admission import submit_through

    return submit_through(
        _gates(code, call, client), client, lambda: client.submit(call, args, kwargs)
    )


def submit_later(
    code: RemoteFunction[..., Any, Any],
    call: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> WaitingCall[Any]:
    """Check a call against the signature, and return what waits until there is room for it."""
    from .client.admission import WaitingCall

    check_call(code, args, kwargs)
    client = client_for_call()
    return WaitingCall(
        _gates(code, call, client), client, lambda: client.submit(call, args, kwargs)
    )


def _gates(code: RemoteFunction[..., Any, Any], call: Call, client: Client) -> list[Gate]:
    """Return the limits that a call is subject to."""
    from .client.admission import gates_of

    return gates_of(client, code, call.options.max_pending, f"{code.name} has max_pending")


@overload
def remote(target: type[ActorT], /) -> type[ActorT]: ...
@overload
def remote(target: ClassForMypy[P, T], /) -> ActorClass[T, P]: ...
@overload
def remote(target: ClassForPyright[P, T], /) -> ActorClass[T, P]: ...
@overload
def remote(target: type[T], /) -> ActorClass[T]: ...
@overload
def remote(target: Callable[..., AnyKind], /) -> RemoteFunction[..., Any, ObjectRef[Any]]: ...
@overload
def remote(
    target: Callable[P, Coroutine[object, Never, T]], /
) -> RemoteFunction[P, Coroutine[object, Never, T], ObjectRef[T]]: ...
@overload
def remote(
    target: Callable[P, AsyncIterator[T]], /
) -> RemoteFunction[P, AsyncIterator[T], ObjectRefGenerator[T]]: ...
@overload
def remote(
    target: Callable[P, Iterator[T]], /
) -> RemoteFunction[P, Iterator[T], ObjectRefGenerator[T]]: ...
@overload
def remote(target: Callable[P, R], /) -> RemoteFunction[P, R, ObjectRef[R]]: ...
@overload
def remote(**options: Unpack[CommonOptions]) -> Makes: ...
@overload
def remote(**options: Unpack[FunctionOptions]) -> MakesFunctions: ...
@overload
def remote(**options: Unpack[ActorClassOptions]) -> MakesActorClasses: ...
@overload
def remote(
    *, num_returns: Literal[1, "streaming"] | None, **options: Unpack[FunctionOptions]
) -> MakesFunctions: ...
@overload
def remote(
    *, num_returns: Literal[0], **options: Unpack[FunctionOptions]
) -> MakesFunctionsOfNothing: ...
@overload
def remote(
    *, num_returns: Literal["dynamic"], **options: Unpack[FunctionOptions]
) -> MakesDynamicGenerators: ...
@overload
def remote(*, num_returns: int, **options: Unpack[FunctionOptions]) -> MakesFunctionsOfSeveral: ...


def remote(*positional: Any, **options: Any) -> Any:
    """Make a function, or a class, run in worker processes: `@remote`, or `@remote(**options)`.

    Options of a function, with their defaults: num_returns=1, max_retries=3 (retries after a crash
    of the worker, -1 for ever; the environment variables AIORAY_TASK_MAX_RETRIES and
    RAY_TASK_MAX_RETRIES replace the default at each submission), retry_exceptions=False (True, a
    list of exception types, or a predicate: which errors of the function are retried too),
    retry=None (a RetryPolicy: delays and time budget), limiter=None (a Limiter: how many run at
    once, and start within a time), max_pending=None (how many calls of one process may be
    unfinished; more raise PendingCallsLimitExceeded, or wait in `submit`), max_calls=0 (calls after
    which the worker is replaced), priority=0 (of the tasks that wait the highest goes first; ten
    seconds of waiting are worth one unit, so that nothing waits for ever behind what is more
    urgent; what a task submits has its place and, unless it names one, its priority), num_cpus=1,
    num_gpus, memory, resources (what a call holds while it runs; libraries are told the CPUs by
    OMP_NUM_THREADS, unless you have set it), timeout (seconds that one attempt may take),
    stall_timeout (seconds that it may go without `aioray.heartbeat()`), deadline (seconds from the
    call to the end, whatever happens meanwhile), memory_limit (bytes that an attempt may use beyond
    what its worker has, in all processes below it too), breaker (a CrashBreaker: when a function
    that kills its workers is called no more), name, runtime_env (a dict or RuntimeEnv, see there;
    merged with the session's, env_vars by name and other fields as a whole), and the rest of Ray's.

    Options of a class, which becomes an actor class, with their defaults: max_restarts=0 (how often
    an actor that dies is made again, -1 for ever), restart_policy=None (a RestartPolicy: how many
    deaths within which time are tolerated, and the delays), max_task_retries=0 (how often a call is
    made again that the actor did not survive), max_concurrency (calls at once: 1, or 1000 if one of
    its methods is a coroutine function; more than 1 are threads), concurrency_groups (limits by
    name, see `method`), max_pending_calls=-1 (of one caller), name, namespace, get_if_exists=False,
    lifetime=None ("detached": it lives without handles too), allow_out_of_order_execution,
    interruptible=False (see `method`), checkpoint_every=1 (see `aioray.actor`); priority, num_cpus,
    num_gpus, memory, resources and runtime_env as above, but an actor that names none of the
    resources needs one CPU to start and holds none while it lives; timeout, stall_timeout and
    deadline limit its making, memory_limit all its life.

    They are checked here: ValueError or TypeError says what is wrong with one.
    Source: Ray API reference, ray.remote; retry, predicates, priority, the limits, breaker,
    restart_policy, interruptible and checkpoint_every are aioray's own.
    """
    if len(positional) == 1 and not options and callable(positional[0]):
        return _make(positional[0], {})
    if positional or not options:
        given = [repr(value) for value in positional]
        given += [f"{name}={value!r}" for name, value in options.items()]
        raise AssertionError(
            "The @remote decorator is used bare, '@aioray.remote', on a function, a class or "
            "another callable, or with keyword options only, such as "
            f"'@aioray.remote(num_returns=2)', but it was given ({', '.join(given)})."
        )
    return lambda target: _make(target, options)


def _is_routine(function: Any) -> bool:
    if type(function) is FunctionType:  # and so without `inspect`, which loads for a while
        return True
    import inspect

    return inspect.isroutine(function)


def _make(target: Any, options: dict[str, Any]) -> RemoteFunction[..., Any, Any] | ActorClass[Any]:
    if isinstance(target, type):
        from .actor import make_actor_class  # programs without actors do without it

        return make_actor_class(target, options)
    if not callable(target):
        raise TypeError(
            f"@remote takes a function, a class or another callable, not {target!r} of type "
            f"{type(target).__name__}."
        )
    if hasattr(target, "remote"):
        raise TypeError(f"{target!r} is remote already: call its .remote().")
    from .options.task import parse_task_options

    checked = parse_task_options(options, base=None, is_generator=is_generator(target))
    return RemoteFunction(target, checked)
