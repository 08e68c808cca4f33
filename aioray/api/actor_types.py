"""What type checkers and editors know of actor classes, their handles and their methods.

Room: api. Nobody imports it at run time; `call_types` says how calls are told apart, and why so.
"""

# Declarations alone: bodies are empty, and what stands for all overloads is no supertype of each.
# Overloads overlap on purpose: the first that fits is meant.
# mypy: disable-error-code="empty-body,misc,overload-overlap"

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import (
    Any,
    Concatenate,
    Generic,
    Never,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from aioray.actor import ActorClass, ActorHandle
from aioray.client.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from aioray.client.refs import ObjectRef
from aioray.dag import ClassMethodNode
from aioray.options.types import ActorCallOptions, ActorKeywords
from aioray.remote_function import RemoteFunction

from .call_types import (
    A,
    AnyKind,
    Arguments,
    B,
    C,
    Calls,
    D,
    E,
    F,
    G,
    Given_co,
    H,
    OfClass,
    P,
    Q,
    R,
    S,
    S_co,
    T,
    T_co,
    Value_co,
)

# --- classes ------------------------------------------------------------------------------------


class ClassForMypy(Protocol[P, T_co]):
    """A class with its constructor, in a form in which mypy finds both."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...
    @property
    def __flags__(self) -> int: ...


class ClassForPyright(Protocol[P, T_co]):
    """A class with its constructor, in a form in which pyright finds both."""

    def __subclasses__(self) -> list[Callable[P, T_co]]: ...


class MakesActorClasses(Protocol):
    """What `remote(**options)` gives if the options are those of classes."""

    @overload
    def __call__(self, target: type[ActorT], /) -> type[ActorT]: ...
    @overload
    def __call__(self, target: ClassForMypy[P, T], /) -> ActorClass[T, P]: ...
    @overload
    def __call__(self, target: ClassForPyright[P, T], /) -> ActorClass[T, P]: ...
    @overload
    def __call__(self, target: type[T], /) -> ActorClass[T]: ...


class Makes(Protocol):
    """What `remote(**options)` gives if the options may be those of either."""

    @overload
    def __call__(self, target: type[ActorT], /) -> type[ActorT]: ...
    @overload
    def __call__(self, target: ClassForMypy[P, T], /) -> ActorClass[T, P]: ...
    @overload
    def __call__(self, target: ClassForPyright[P, T], /) -> ActorClass[T, P]: ...
    @overload
    def __call__(self, target: type[T], /) -> ActorClass[T]: ...
    @overload
    def __call__(
        self, target: Callable[..., AnyKind], /
    ) -> RemoteFunction[..., Any, ObjectRef[Any]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Coroutine[object, Never, T]], /
    ) -> RemoteFunction[P, Coroutine[object, Never, T], ObjectRef[T]]: ...
    @overload
    def __call__(
        self, target: Callable[P, AsyncIterator[T]], /
    ) -> RemoteFunction[P, AsyncIterator[T], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Iterator[T]], /
    ) -> RemoteFunction[P, Iterator[T], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R, ObjectRef[R]]: ...


class ActorClassCalls(Calls[Arguments, ActorHandle[OfClass]], Generic[OfClass, Arguments]):
    """A class of actors, as it is called: the class, and what its constructor takes."""


class Actor:
    """See `aioray.actor.Actor`."""

    @classmethod
    def options(cls: Callable[P, S], **options: Unpack[ActorKeywords]) -> BoundActorClass[P, S]: ...

    @overload
    @classmethod
    def remote(cls: Callable[P, S], *args: P.args, **kwargs: P.kwargs) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, Q], S],
        a: A | ObjectRef[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, C, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, C, D, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, C, D, E, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, C, D, E, F, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        f: F | ObjectRef[F],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, C, D, E, F, G, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        f: F | ObjectRef[F],
        g: G | ObjectRef[G],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[Concatenate[A, B, C, D, E, F, G, H, Q], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        f: F | ObjectRef[F],
        g: G | ObjectRef[G],
        h: H | ObjectRef[H],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    @classmethod
    def remote(cls: Callable[[], S], **kwargs: ObjectRef[Any]) -> S: ...
    @overload
    @classmethod
    def remote(cls: Callable[[A], S], a: A | ObjectRef[A], /, **kwargs: ObjectRef[Any]) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[[A, B], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...
    @overload
    @classmethod
    def remote(
        cls: Callable[[A, B, C], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...

    @classmethod
    def remote(cls: Any, *args: Any, **kwargs: Any) -> Any:
        """Make an actor, and return its handle at once. Calls wait until the actor is made."""


ActorT = TypeVar("ActorT", bound=Actor)


class BoundActorClass(Calls[P, S_co], Generic[P, S_co]):
    """A class that is derived from `Actor`, with other options."""


# --- methods ------------------------------------------------------------------------------------


class MethodCalls(Calls[Arguments, Given_co], Generic[Arguments, Value_co, Given_co]):
    """A method of an actor, as it is called."""

    @overload
    def options(self, **options: Unpack[ActorCallOptions]) -> Calls[Arguments, Given_co]: ...
    @overload
    def options(
        self, *, num_returns: Any, **options: Unpack[ActorCallOptions]
    ) -> Calls[Arguments, Any]: ...
    def options(self, **options: Any) -> Any:
        """Return the method with some options changed: what `@method` takes, name and _labels."""

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode: ...


class TypedMethod(MethodCalls[P, R, S], Generic[P, R, S]):
    """A method that `@method` has annotated, of an instance: of the actor, or of its handle."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


class Method(Generic[P, R, S]):
    """A method that `@method` has annotated, in its class."""

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> TypedMethod[P, R, S]: ...
    def __get__(self, instance: Any, owner: Any, /) -> Any: ...


class MakesMethods(Protocol):
    """What `method(**options)` gives."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, ...], AnyKind], /
    ) -> Method[..., Any, ObjectRef[Any]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[object, Never, T]], /
    ) -> Method[P, Coroutine[object, Never, T], ObjectRef[T]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], AsyncIterator[T]], /
    ) -> Method[P, AsyncIterator[T], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Iterator[T]], /
    ) -> Method[P, Iterator[T], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], R], /
    ) -> Method[P, R, ObjectRef[R]]: ...


class MakesMethodsOfNothing(Protocol):
    """The same with num_returns=0."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Method[P, R, None]: ...


class MakesMethodsOfSeveral(Protocol):
    """The same with num_returns > 1."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], tuple[A, B]], /
    ) -> Method[P, tuple[A, B], tuple[ObjectRef[A], ObjectRef[B]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], tuple[A, B, C]], /
    ) -> Method[P, tuple[A, B, C], tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[object, Never, tuple[A, B]]], /
    ) -> Method[P, Coroutine[object, Never, tuple[A, B]], tuple[ObjectRef[A], ObjectRef[B]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Sequence[T]], /
    ) -> Method[P, Sequence[T], list[ObjectRef[T]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Iterator[T]], /
    ) -> Method[P, Iterator[T], list[ObjectRef[T]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], R], /
    ) -> Method[P, R, list[ObjectRef[Any]]]: ...


class MakesDynamicMethods(Protocol):
    """The same with num_returns="dynamic"."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], AsyncIterator[T]], /
    ) -> Method[P, AsyncIterator[T], ObjectRef[DynamicObjectRefGenerator[T]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Iterator[T]], /
    ) -> Method[P, Iterator[T], ObjectRef[DynamicObjectRefGenerator[T]]]: ...
