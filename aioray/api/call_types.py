"""What type checkers and editors know of remote functions, actor classes and their methods.

Room: api. Nobody imports it at run time; the classes that programs meet are derived from these
where a type checker looks, and say themselves what they do.

Three things are wanted of `f.remote(...)`: that the arguments are those of the function, by
position and by name; that a ref may stand for each of them; and that the result is what the
function's kind and `num_returns` make of its annotation. A ParamSpec alone gives the first and no
refs; one type variable for each argument gives refs, and takes neither names nor defaults. So
`Calls.remote` has both: the first overload is the function's own signature, the next ones take the
first n arguments by position, each as a value or as a ref to one, and the rest of the signature as
it is. What no overload can say is "the same names, and refs to them": a ref by name is understood
for arguments with defaults, beside values or refs by position for all others. Pass refs to required
arguments by position.

The overloads look at their `self` through a protocol, `Remote`, and not at `Calls` itself: mypy
infers the types of leading arguments from a callable, and not from a ParamSpec in a class.

Kinds are told apart where a function is decorated, by what it returns: a coroutine gives its value,
an iterator a stream. mypy would take a generic function that returns a bare type variable for one
that returns a coroutine; `AnyKind` catches these first, and calls of them are not checked there.
mypy sees a decorated class as it was before (python/mypy#3135), and nobody
can give the methods of a plain class a `remote`; hence `Actor`, see there.
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
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from typing_extensions import ParamSpec as ParamSpecWithDefault
from typing_extensions import TypeVar as TypeVarWithDefault

from aioray.client.admission import WaitingCall
from aioray.client.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from aioray.client.refs import ObjectRef
from aioray.options.types import CallOptions
from aioray.remote_function import BoundOptions, RemoteFunction


class AnyKind:
    """What no function returns; for mypy one that returns a bare type variable may."""


P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
A_contra = TypeVar("A_contra", contravariant=True)
F_co = TypeVar("F_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)

# Of generic classes that programs name with fewer arguments, or none.
OfClass = TypeVarWithDefault("OfClass", default=Any)
OfPool = TypeVarWithDefault("OfPool", default=Any)
Item = TypeVarWithDefault("Item", default=Any)
Result = TypeVarWithDefault("Result", default=Any)
Arguments = ParamSpecWithDefault("Arguments", default=...)
Value_co = TypeVarWithDefault("Value_co", default=Any, covariant=True)
Given_co = TypeVarWithDefault("Given_co", default=ObjectRef[Value_co], covariant=True)


# --- calls --------------------------------------------------------------------------------------


class Remote(Protocol[F_co, S_co]):
    """Something with a `remote` that takes what a callable takes, and gives S."""

    @property
    def _takes(self) -> F_co: ...
    @property
    def _gives(self) -> S_co: ...


class Variadic(Protocol[A_contra]):
    """A callable with `*args`: one that takes ten. To mypy one that takes a single argument has
    `*args` as well.
    """

    def __call__(
        self,
        a: A_contra,
        b: A_contra,
        c: A_contra,
        d: A_contra,
        e: A_contra,
        f: A_contra,
        g: A_contra,
        h: A_contra,
        i: A_contra,
        j: A_contra,
        /,
    ) -> object: ...


class Calls(Generic[P, S_co]):
    """Has a `remote` that takes P, or refs in place of values, and gives S."""

    @property
    def _takes(self) -> Callable[P, object]: ...
    @property
    def _gives(self) -> S_co: ...

    @overload
    def remote(self, *args: P.args, **kwargs: P.kwargs) -> S_co: ...
    @overload
    def remote(
        self: Remote[Callable[Concatenate[A, Q], object], S],
        a: A | ObjectRef[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[Concatenate[A, B, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[Concatenate[A, B, C, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[Concatenate[A, B, C, D, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[Concatenate[A, B, C, D, E, Q], object], S],
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
    def remote(
        self: Remote[Callable[Concatenate[A, B, C, D, E, F, Q], object], S],
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
    def remote(
        self: Remote[Callable[Concatenate[A, B, C, D, E, F, G, Q], object], S],
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
    def remote(
        self: Remote[Callable[Concatenate[A, B, C, D, E, F, G, H, Q], object], S],
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
    def remote(
        self: Remote[Variadic[A], S], a: A | ObjectRef[A], /, *args: A | ObjectRef[A]
    ) -> S: ...
    @overload
    def remote(self: Remote[Callable[[], object], S], **kwargs: ObjectRef[Any]) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[[A], object], S], a: A | ObjectRef[A], /, **kwargs: ObjectRef[Any]
    ) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[[A, B], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...
    @overload
    def remote(
        self: Remote[Callable[[A, B, C], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...

    def remote(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Submit a call, and return S at once: by default the ref of the call."""

    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> WaitingCall[S_co]: ...
    @overload
    def submit(
        self: Remote[Callable[Concatenate[A, Q], object], S],
        a: A | ObjectRef[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> WaitingCall[S]: ...
    @overload
    def submit(
        self: Remote[Callable[Concatenate[A, B, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> WaitingCall[S]: ...
    @overload
    def submit(
        self: Remote[Callable[Concatenate[A, B, C, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> WaitingCall[S]: ...
    def submit(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Submit a call as soon as there is room: await it for what `remote` returns.

        Refs are understood in the place of the first three arguments.
        """


class FunctionCalls(Calls[P, Given_co], Generic[P, Value_co, Given_co]):
    """A remote function, as it is called: P and what it returns; `remote` gives a ref to that."""

    @overload
    def options(self, **options: Unpack[CallOptions]) -> BoundOptions[P, Given_co]: ...
    @overload
    def options(
        self: FunctionCalls[P, Coroutine[object, Never, T], Any],
        *,
        num_returns: Literal[1] | None,
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, ObjectRef[T]]: ...
    @overload
    def options(
        self: FunctionCalls[P, AsyncIterator[T], Any],
        *,
        num_returns: Literal["streaming"] | None,
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, ObjectRefGenerator[T]]: ...
    @overload
    def options(
        self: FunctionCalls[P, Iterator[T], Any],
        *,
        num_returns: Literal["streaming"] | None,
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, ObjectRefGenerator[T]]: ...
    @overload
    def options(
        self: FunctionCalls[P, AsyncIterator[T], Any],
        *,
        num_returns: Literal["dynamic"],
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, ObjectRef[DynamicObjectRefGenerator[T]]]: ...
    @overload
    def options(
        self: FunctionCalls[P, Iterator[T], Any],
        *,
        num_returns: Literal["dynamic"],
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, ObjectRef[DynamicObjectRefGenerator[T]]]: ...
    @overload
    def options(
        self: FunctionCalls[P, T, Any],
        *,
        num_returns: Literal[1] | None,
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, ObjectRef[T]]: ...
    @overload
    def options(
        self, *, num_returns: Literal[0], **options: Unpack[CallOptions]
    ) -> BoundOptions[P, None]: ...
    @overload
    def options(
        self: FunctionCalls[P, tuple[A, B], Any],
        *,
        num_returns: Literal[2],
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, tuple[ObjectRef[A], ObjectRef[B]]]: ...
    @overload
    def options(
        self: FunctionCalls[P, tuple[A, B, C], Any],
        *,
        num_returns: Literal[3],
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C]]]: ...
    @overload
    def options(
        self: FunctionCalls[P, tuple[A, B, C, D], Any],
        *,
        num_returns: Literal[4],
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C], ObjectRef[D]]]: ...
    @overload
    def options(
        self: FunctionCalls[P, Sequence[T], Any],
        *,
        num_returns: int,
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, list[ObjectRef[T]]]: ...
    @overload
    def options(
        self: FunctionCalls[P, Iterator[T], Any],
        *,
        num_returns: int,
        **options: Unpack[CallOptions],
    ) -> BoundOptions[P, list[ObjectRef[T]]]: ...
    @overload
    def options(
        self, *, num_returns: int, **options: Unpack[CallOptions]
    ) -> BoundOptions[P, list[ObjectRef[Any]]]: ...
    def options(self: Any, **options: Any) -> Any:
        """Return the function with some options changed: what `@remote` takes, but max_calls."""


# --- functions ----------------------------------------------------------------------------------


class MakesFunctions(Protocol):
    """What `remote(**options)` gives if the options are those of functions."""

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


class MakesFunctionsOfNothing(Protocol):
    """The same with num_returns=0."""

    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R, None]: ...


class MakesFunctionsOfSeveral(Protocol):
    """The same with num_returns > 1."""

    @overload
    def __call__(
        self, target: Callable[P, tuple[A, B]], /
    ) -> RemoteFunction[P, tuple[A, B], tuple[ObjectRef[A], ObjectRef[B]]]: ...
    @overload
    def __call__(
        self, target: Callable[P, tuple[A, B, C]], /
    ) -> RemoteFunction[P, tuple[A, B, C], tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C]]]: ...
    @overload
    def __call__(
        self, target: Callable[P, tuple[A, B, C, D]], /
    ) -> RemoteFunction[
        P,
        tuple[A, B, C, D],
        tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C], ObjectRef[D]],
    ]: ...
    @overload
    def __call__(
        self, target: Callable[P, Coroutine[object, Never, tuple[A, B]]], /
    ) -> RemoteFunction[
        P, Coroutine[object, Never, tuple[A, B]], tuple[ObjectRef[A], ObjectRef[B]]
    ]: ...
    @overload
    def __call__(
        self, target: Callable[P, Sequence[T]], /
    ) -> RemoteFunction[P, Sequence[T], list[ObjectRef[T]]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Iterator[T]], /
    ) -> RemoteFunction[P, Iterator[T], list[ObjectRef[T]]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R, list[ObjectRef[Any]]]: ...


class MakesDynamicGenerators(Protocol):
    """The same with num_returns="dynamic"."""

    @overload
    def __call__(
        self, target: Callable[P, AsyncIterator[T]], /
    ) -> RemoteFunction[P, AsyncIterator[T], ObjectRef[DynamicObjectRefGenerator[T]]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Iterator[T]], /
    ) -> RemoteFunction[P, Iterator[T], ObjectRef[DynamicObjectRefGenerator[T]]]: ...
