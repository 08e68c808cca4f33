"""Actors as programs see them: what `@remote` makes of a class, handles, and their methods.

Room: api. Checks and translates, decides nothing; whether an actor lives, and where its calls
wait, is known to the engine. Also used inside tasks and actors, so a worker imports it when it
first meets a handle.

`ActorClass.remote()` gives an `ActorHandle`. It is made of two things: the *actor's ref*, whose
reference count is the actor's life, and the packed `ActorMeta`, which says what methods there are.
That is also what it is pickled as. The methods of a handle are made when they are first asked for
and stay on it; they hold the ref and not the handle, for that would be a cycle, and the actor would
live on until the garbage collector came by.

Beyond Ray, a class can have two hooks. `__aioray_save__(self)` returns the actor's state; it is
asked after every `checkpoint_every`-th call, before the answer of that is told. After a restart
`__init__` runs, and then `__aioray_restore__(self, state)` once, with the state that was saved
last. A call and the state after it count together: if the actor dies in between, neither counts.
"""

# Of overloads that overlap the first that fits is meant.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .api.actor_base import Actor
from .api.method_options import method
from .api.session import client_for_call
from .client.actor_meta import ActorCode, check_call_options, client_of, unpack_meta
from .client.protocol import Call
from .client.refs import ObjectRef
from .client.signatures import check_call
from .exceptions import (
    ActorAlreadyExistsError,
    PendingCallsLimitExceeded,
)
from .shared import ids
from .shared.actor_exit import ActorExit
from .shared.options import (
    resolve_call,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Generic, ParamSpec, Unpack

    from .api.actor_types import ActorClassCalls, MethodCalls
    from .api.call_types import Arguments, Calls, Given_co, OfClass, S_co, Value_co
    from .client.actor_meta import ActorMeta, MethodMeta
    from .client.admission import WaitingCall
    from .dag import ClassMethodNode, ClassNode
    from .options.types import ActorKeywords
    from .shared.id_classes import ActorID
    from .shared.options import ActorOptions

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")
else:
    from .shared.subscripts import Erased, subscriptable

    ActorClassCalls = Calls = Generic = MethodCalls = Erased
    Arguments = Given_co = OfClass = P = S_co = Value_co = None

__all__ = [
    "Actor",
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "BoundActorOptions",
    "BoundMethodOptions",
    "exit_actor",
    "make_actor_class",
    "method",
    "own_handle",
]


class ActorClassInheritanceException(TypeError):  # noqa: N818 - Ray's name
    """A class was derived from an actor class. Derive from the plain class, then decorate that."""


# --- classes ------------------------------------------------------------------------------------


class ActorClass(ActorClassCalls[OfClass, Arguments]):
    """A class whose instances live in worker processes of their own. Made by `@aioray.remote`.

    `A.remote(...)` makes an actor and returns its handle at once; `A.options(...)` changes options
    for some actors. Instantiating it directly is a TypeError, and so is deriving from it. Other
    attributes are those of the class.
    Source: Ray API reference, ray.actor.ActorClass.
    """

    _aioray_code: ActorCode
    _aioray_options: ActorOptions
    _aioray_call: Call

    def __init__(self, name: str, bases: tuple[Any, ...], _namespace: Any) -> None:
        """Refuse to derive a class from an actor class, for which Python calls this."""
        derived_from = next((base for base in bases if isinstance(base, ActorClass)), None)
        if derived_from is None:
            raise TypeError("Actor classes are made by @aioray.remote, not by calling ActorClass.")
        raise ActorClassInheritanceException(
            f"Attempted to define subclass {name!r} of actor class "
            f"{derived_from._aioray_code.name!r}. Inheriting from actor classes is not currently "
            f"supported. You can instead inherit from a non-actor base class and make the derived "
            f"class an actor class (with @aioray.remote)."
        )

    if not TYPE_CHECKING:  # what it takes and gives is said by ActorClassCalls
        __class_getitem__ = subscriptable

        def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            """Refuse: instances live in workers only."""
            name = self._aioray_code.name
            raise TypeError(
                f"Actors cannot be instantiated directly. Instead of '{name}()', use "
                f"'{name}.remote()'."
            )

        def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle[OfClass]:
            """Make an actor, and return its handle at once. Calls wait until the actor is made.

            Arguments are treated as those of remote functions. The actor lives until the last
            handle is gone and the calls made so far have run, unless it is detached.
            Raises TypeError if the arguments do not fit `__init__` or cannot be serialized;
            ActorAlreadyExistsError; AssertionError for a method of a concurrency group that the
            class does not declare; ValueError for allow_out_of_order_execution=False where calls
            run side by side.
            """
            return _create(self._aioray_call, args, kwargs)

    def options(self, **options: Unpack[ActorKeywords]) -> BoundActorOptions[OfClass, Arguments]:
        """Return the class with some options changed: all of `@remote` but concurrency groups.

        Raises what `@remote` raises.
        """
        from .options.actor import parse_actor_options

        code = self._aioray_code
        changed = parse_actor_options(
            options,
            base=self._aioray_options,
            asynchronous=code.asynchronous,
            saves=code.saves,
        )
        return BoundActorOptions(code, changed)

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """Note an actor that is made later, see `aioray.dag`."""
        from .dag import ClassNode

        return ClassNode(self.remote, self._aioray_code.methods, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")) and name != "_aioray_code":
            return getattr(self._aioray_code.function, name)
        raise AttributeError(f"'ActorClass' object has no attribute {name!r}", name=name, obj=self)

    @property
    def __ray_actor_class__(self) -> type[Any]:
        """The plain class."""
        return self._aioray_code.function

    @property
    def __ray_metadata__(self) -> ActorClassMetadata:
        """What Ray keeps of the class."""
        return ActorClassMetadata(self._aioray_code)

    def _remote(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> ActorHandle:
        """Make an actor; the arguments are given as two, with some options changed: Ray's way."""
        made = self.options(**options) if options else self
        return made.remote(*(args or ()), **(kwargs or {}))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._aioray_code.function)})

    def __reduce__(self) -> tuple[Any, ...]:
        return _actor_class, (self._aioray_code.function, self._aioray_options)

    def __repr__(self) -> str:
        return f"ActorClass({self._aioray_code.name})"


class ActorClassMetadata:
    """What programs read of `A.__ray_metadata__`."""

    def __init__(self, code: ActorCode) -> None:
        self.class_name = code.name
        self.modified_class = code.function  # plain: nothing has to be modified here


class BoundActorOptions(ActorClassCalls[OfClass, Arguments]):
    """An actor class with other options: has `remote()`, and cannot be changed again."""

    __slots__ = ("_call",)

    def __init__(self, code: ActorCode, options: ActorOptions) -> None:
        self._call = Call(code, options)

    if not TYPE_CHECKING:

        def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle[OfClass]:
            """Make an actor, as `ActorClass.remote`."""
            return _create(self._call, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """Note an actor that is made later, see `aioray.dag`."""
        from .dag import ClassNode

        code: Any = self._call.code
        return ClassNode(self.remote, code.methods, args, kwargs)


def make_actor_class(cls: type[Any], given: Mapping[str, Any]) -> ActorClass[Any]:
    """Make of a class what `@remote(**given)` does. Raises what `parse_actor_options` raises."""
    from .options.actor import parse_actor_options  # in workers only where it is used

    code = ActorCode(cls)
    options = parse_actor_options(
        given, base=None, asynchronous=code.asynchronous, saves=code.saves
    )
    return _of_code(code, options)


def _actor_class(cls: type[Any], options: ActorOptions) -> ActorClass[Any]:
    """Make the actor class again, in another process."""
    return _of_code(ActorCode(cls), options)


def _of_code(code: ActorCode, options: ActorOptions) -> ActorClass[Any]:
    made: Any = object.__new__(ActorClass)
    functools.update_wrapper(made, code.function, updated=())
    made._aioray_code = code
    made._aioray_options = options
    made._aioray_call = Call(code, options)
    actor_class: ActorClass[Any] = made
    return actor_class


def _create(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActorHandle[Any]:
    code: Any = call.code
    options: ActorOptions = call.options
    check_call(code, args, kwargs)
    if inspect.isabstract(code.function):
        missing = ", ".join(sorted(code.function.__abstractmethods__))
        raise TypeError(
            f"Can't instantiate abstract class {code.name} with abstract methods {missing}: define "
            f"them in a derived class, and make that the actor class."
        )
    if options.name == "":
        raise ValueError("Actor name cannot be an empty string: leave it out for an actor without")
    packed = code.meta_of(options)
    client = client_for_call()
    while options.get_if_exists:
        assert options.name is not None
        found = client.get_actor(options.name, options.namespace)
        if found is not None:
            return ActorHandle(*found)
        try:
            return ActorHandle(client.create_actor(call, args, kwargs), packed)
        except ActorAlreadyExistsError:
            continue  # somebody made it meanwhile
    return ActorHandle(client.create_actor(call, args, kwargs), packed)


# --- handles ------------------------------------------------------------------------------------


class ActorHandle(Generic[OfClass]):
    """A handle to an actor. `handle.m.remote(...)` calls its method `m`.

    Equality and hash are by the actor's id. Handles can be passed to tasks and other actors; when
    the last is gone, in whatever process, the actor ends after the calls that were made.
    Source: Ray API reference, ray.actor.ActorHandle.
    """

    if not TYPE_CHECKING:
        __class_getitem__ = subscriptable

    def __init__(self, ref: ObjectRef[Any], packed: bytes) -> None:
        self._aioray_ref = ref
        self._aioray_packed = packed
        self._aioray_meta = unpack_meta(packed)

    def __getattr__(self, name: str) -> ActorMethod[..., Any, Any]:
        # Called once for each method: the next time it is found in the instance.
        meta: ActorMeta | None = self.__dict__.get("_aioray_meta")
        code = None if meta is None else meta.methods.get(name)
        if meta is None or code is None:
            raise AttributeError(
                f"'ActorHandle' object has no attribute {name!r}", name=name, obj=self
            )
        made = ActorMethod(code, self._aioray_ref, self._aioray_packed, meta)
        self.__dict__[name] = made
        return made

    @property
    def _actor_id(self) -> ActorID:
        """The actor's id."""
        from .shared.id_classes import ActorID

        return ActorID(self._aioray_ref.binary()[8 : ids.TASK_ID_SIZE])

    _ray_actor_id = _actor_id

    def __dir__(self) -> list[str]:
        return sorted(self._aioray_meta.methods)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorHandle):
            return NotImplemented
        return self._aioray_ref == other._aioray_ref

    def __hash__(self) -> int:
        return hash(self._aioray_ref)

    def __repr__(self) -> str:
        return f"Actor({self._aioray_meta.class_name}, {self._actor_id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorHandle, (self._aioray_ref, self._aioray_packed)

    def __deepcopy__(self, _memo: Any) -> ActorHandle[OfClass]:
        # By way of a pickle the actor would be pinned for the session.
        return ActorHandle(self._aioray_ref, self._aioray_packed)


class ActorMethod(MethodCalls[Arguments, Value_co, Given_co]):
    """A method of an actor. `.remote(...)` calls it; calling it directly is a TypeError."""

    __slots__ = ("_call", "_limit", "_meta", "_packed", "_ref")

    def __init__(
        self, code: MethodMeta, ref: ObjectRef[Any], packed: bytes, meta: ActorMeta
    ) -> None:
        self._ref = ref
        self._packed = packed
        self._meta = meta
        self._limit = meta.max_pending_calls
        self._call = Call(code, code.options, ref)

    if not TYPE_CHECKING:  # what they take and give is said by MethodCalls
        __class_getitem__ = subscriptable

        def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
            """Refuse: a method runs in its actor only."""
            name = self._call.code.name.rpartition(".")[2]
            raise TypeError(
                f"Actor methods cannot be called directly. Instead of running 'object.{name}()', "
                f"try 'object.{name}.remote()'."
            )

        def remote(self, /, *args: Any, **kwargs: Any) -> Any:
            """Call the method, and return its ref at once.

            With num_returns > 1 that is a list of refs, with 0 None. A call of a generator method
            gives an ObjectRefGenerator of refs to its items. Arguments are treated as those of
            remote functions.
            Raises TypeError if the arguments do not fit the signature or cannot be serialized,
            PendingCallsLimitExceeded, ActorHandleNotFoundError if the session of the actor has
            ended.
            """
            return self._submit(self._call, args, kwargs)

        def submit(self, /, *args: Any, **kwargs: Any) -> Any:
            """Call the method as soon as max_pending_calls allows; see `RemoteFunction.submit`."""
            return self._submit_later(self._call, args, kwargs)

        def options(self, **options: Any) -> BoundMethodOptions[Arguments, Any]:
            """Return the method with some options changed: those of `@method`, name and _labels.

            They are looked at by `.remote()`, as in Ray: see there for what it raises.
            """
            return BoundMethodOptions(self, options)

    def _submit(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Check a call and hand it to the client that the actor belongs to."""
        code: Any = call.code
        check_call(code, args, kwargs)
        client = client_of(self._ref)
        if 0 < self._limit <= client.pending_calls(self._ref):
            raise PendingCallsLimitExceeded(
                f"The task {code.method} could not be submitted to {self._handle()!r} because "
                f"more than {self._limit} tasks are queued on the actor. This limit can be "
                f"adjusted with the `max_pending_calls` actor option."
            )
        if self._limit <= 0 and client.gate is None:
            return client.submit(call, args, kwargs)
        from .client.admission import submit_counted

        return submit_counted(client, self._ref, self._limit, call, args, kwargs)

    def _submit_later(self, call: Call, args: Any, kwargs: Any) -> WaitingCall[Any]:
        from .client.admission import WaitingCall, gates_of

        check_call(call.code, args, kwargs)  # type: ignore[arg-type]  # of a method
        client, what = client_of(self._ref), f"{self._meta.class_name} has max_pending_calls"
        gates = gates_of(client, self._ref.entry, self._limit, what)
        return WaitingCall(gates, client, lambda: client.submit(call, args, kwargs))

    def _remote(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Call the method; the arguments are given as two, with some options changed: Ray's way."""
        call = self.options(**options) if options else self
        return call.remote(*(args or ()), **(kwargs or {}))

    def _changed(self, given: Mapping[str, Any]) -> Call:
        """Make a call with other options."""
        from .options.actor import parse_method_options

        code: Any = self._call.code
        said = parse_method_options(given, where="call", is_generator=code.is_generator)
        options = resolve_call(said, code.options)
        check_call_options(code.name, options, self._meta)
        return Call(code, options, self._ref)

    def _handle(self) -> ActorHandle[Any]:
        return ActorHandle(self._ref, self._packed)

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """Note a call that is made later, see `aioray.dag`."""
        from .dag import ClassMethodNode

        return ClassMethodNode(self.remote, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        code: Any = self._call.code
        return getattr, (self._handle(), code.method)


class BoundMethodOptions(Calls[P, S_co]):
    """A method of an actor with other options: has `remote()`, and cannot be changed again."""

    __slots__ = ("_call", "_given", "_method")

    def __init__(self, method: ActorMethod[P, Any, Any], given: Mapping[str, Any]) -> None:
        self._method = method
        self._given = given
        self._call: Call | None = None

    if not TYPE_CHECKING:

        def remote(self, /, *args: Any, **kwargs: Any) -> Any:
            """Call the method, as `ActorMethod.remote`.

            Raises also TypeError for an unknown option or one of a wrong type; ValueError for one
            out of range, for a concurrency group that the class does not declare, and for
            interruptible where calls run side by side.
            """
            if self._call is None:
                self._call = self._method._changed(self._given)
            return self._method._submit(self._call, args, kwargs)

        def submit(self, /, *args: Any, **kwargs: Any) -> Any:
            """Call the method as soon as there is room, as `ActorMethod.submit`."""
            method = self._method
            return method._submit_later(method._changed(self._given), args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """Note a call that is made later, see `aioray.dag`."""
        from .dag import ClassMethodNode

        return ClassMethodNode(self.remote, args, kwargs)


# --- inside actors ------------------------------------------------------------------------------


def own_handle() -> ActorHandle[Any]:
    """Return a handle to the actor that this process is. It does not keep the actor alive."""
    from .client.current import execution_context

    actor = execution_context.actor
    assert actor is not None
    return ActorHandle(ObjectRef(client_for_call().entry_of(actor.ref)), actor.meta)


def exit_actor() -> NoReturn:
    """End the actor from inside one of its methods, as intended: it is not restarted.

    The call that does it, and those that wait, raise ActorDiedError; `finally` blocks and `atexit`
    handlers run. Raises TypeError outside of an actor.
    Source: Ray API reference, ray.actor.exit_actor.
    """
    from .client.current import execution_context

    if execution_context.actor is None:
        raise TypeError(
            "exit_actor API is called on a non-actor worker: call it inside a method of an actor. "
            "To end an actor from outside, use aioray.kill(handle)."
        )
    raise ActorExit
