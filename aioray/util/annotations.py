"""Ray's markers of API stability, for libraries that put them on classes of their own.

Room: api. Ray adds a note to the docstring; here the marked object comes back untouched. The
keyword arguments are Ray's and are accepted without being looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from aioray.shared.deprecation import RayDeprecationWarning

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Deprecated", "DeveloperAPI", "PublicAPI", "RayDeprecationWarning"]

_Marked = TypeVar("_Marked")


@overload
def PublicAPI(marked: _Marked, /) -> _Marked: ...
@overload
def PublicAPI(*, stability: str = ..., api_group: str = ...) -> Callable[[_Marked], _Marked]: ...
def PublicAPI(*args: Any, **kwargs: Any) -> Any:
    """Mark an API as public. Used bare, or as `@PublicAPI(stability="beta")`."""
    return _mark(*args)


@overload
def DeveloperAPI(marked: _Marked, /) -> _Marked: ...
@overload
def DeveloperAPI() -> Callable[[_Marked], _Marked]: ...
def DeveloperAPI(*args: Any, **kwargs: Any) -> Any:
    """Mark an API as meant for developers of libraries. Used bare or with parentheses."""
    return _mark(*args)


@overload
def Deprecated(marked: _Marked, /) -> _Marked: ...
@overload
def Deprecated(*, message: str = ..., warning: bool = ...) -> Callable[[_Marked], _Marked]: ...
def Deprecated(*args: Any, **kwargs: Any) -> Any:
    """Mark an API as deprecated. Used bare, or as `@Deprecated(message="use g")`.

    Never warns, not even with `warning=True`, where Ray does.
    """
    return _mark(*args)


def _mark(*marked: Any) -> Any:
    if marked:
        return marked[0]
    return lambda marked: marked
