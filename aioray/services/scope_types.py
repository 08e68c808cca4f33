"""What type checkers know of `Scope.submit`: it is what `remote` of its target is.

Room: services. Nobody imports it at run time; `api.call_types` says why there are so many.
"""

# Declarations alone: bodies are empty, and what stands for all overloads is no supertype of each.
# Overloads overlap on purpose: the first that fits is meant.
# mypy: disable-error-code="empty-body,misc,overload-overlap"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, overload

from aioray.api.call_types import A, B, C, D, E, F, G, H, P, Q, Remote, S, Variadic
from aioray.client.refs import ObjectRef


class ScopeCalls:
    """Has a `submit`."""

    @overload
    def submit(
        self, target: Remote[Callable[P, object], S], /, *args: P.args, **kwargs: P.kwargs
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, Q], object], S],
        a: A | ObjectRef[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, C, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, C, D, Q], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, C, D, E, Q], object], S],
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
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, C, D, E, F, Q], object], S],
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
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, C, D, E, F, G, Q], object], S],
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
    def submit(
        self,
        target: Remote[Callable[Concatenate[A, B, C, D, E, F, G, H, Q], object], S],
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
    def submit(
        self,
        target: Remote[Variadic[A], S],
        a: A | ObjectRef[A],
        /,
        *args: A | ObjectRef[A],
    ) -> S: ...
    @overload
    def submit(self, target: Remote[Callable[[], object], S], /, **kwargs: ObjectRef[Any]) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[[A], object], S],
        a: A | ObjectRef[A],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[[A, B], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...
    @overload
    def submit(
        self,
        target: Remote[Callable[[A, B, C], object], S],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        **kwargs: ObjectRef[Any],
    ) -> S: ...

    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `aioray.services.scopes.Scope.submit`."""
