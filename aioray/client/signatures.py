"""Checks a call against the signature of what is called, in the caller, and names that.

Room: client, also used where calls are serialized, in driver and worker. Ray's rule: arguments that
do not fit are a TypeError at `.remote()`, with the text of `inspect.Signature.bind`. Binding costs
a hundred times as much as submitting should, so that calls with positional arguments alone, which
nearly all are, are checked by counting them.
"""

from __future__ import annotations

import functools
import math
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping

__all__ = [
    "Checked",
    "check_call",
    "is_generator",
    "name_of",
    "positional_range",
    "signature_of",
]

# Of code objects, as `inspect` names them.
CO_VARARGS = 0x04
CO_GENERATOR = 0x20
CO_ASYNC_GENERATOR = 0x200


class Checked(Protocol):
    """Code that can be called, see `client.RemoteCode`, and what is remembered of its signature."""

    name: str
    arity: tuple[int, float] | None  # see `positional_range`; None: not looked at yet

    @property
    def function(self) -> Callable[..., Any]:
        """A function, a class, or something that has the signature of a method."""
        ...


def check_call(code: Checked, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError if the arguments do not fit the signature of the code."""
    arity = code.arity
    if arity is None:  # not before: what refers to itself is unpickled before it is complete
        arity = code.arity = arity_of(code.function)
    if kwargs or not arity[0] <= len(args) <= arity[1]:
        try:
            signature_of(code.function).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{code.name}.remote(): {error}") from None


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, or one that fits any call: some classes written in C have none.

    Of a function that wraps another it is its own: what it adds, the caller need not give.
    """
    import inspect

    try:
        return inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        wrapped = getattr(function, "__wrapped__", None)  # by something in C, such as a cache
        return inspect.signature(_takes_anything) if wrapped is None else signature_of(wrapped)


def _takes_anything(*args: Any, **kwargs: Any) -> None:
    """Have the signature that fits any call."""


def arity_of(function: Callable[..., Any]) -> tuple[int, float]:
    """Return the positional range of what is called.

    That of a plain function stands in its code, so the first call of most programs, for which the
    workers wait, does not wait for `inspect` to be loaded.
    """
    if type(function) is not FunctionType or "__signature__" in function.__dict__:
        return positional_range(signature_of(function))
    code = function.__code__
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if not set(named) <= set(function.__kwdefaults__ or ()):
        return 0, -1.0  # as there
    most = math.inf if code.co_flags & CO_VARARGS else float(code.co_argcount)
    return code.co_argcount - len(function.__defaults__ or ()), most


def is_generator(function: Callable[..., Any]) -> bool:
    """Tell whether calls give a generator, plain or asynchronous; of callable objects too."""
    while isinstance(function, functools.partial):
        function = function.func
    if type(function) is not FunctionType:  # see `arity_of`
        import inspect

        if not inspect.isroutine(function):
            function = getattr(type(function), "__call__", function)  # noqa: B004 - looked at
        return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return bool(function.__code__.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))


def name_of(function: Any) -> str:
    """Return the name of a task: that of the function, inside partials too, or of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def positional_range(signature: inspect.Signature) -> tuple[int, float]:
    """Return how many positional arguments alone make a valid call: at least, at most."""
    least, most = 0, 0.0
    for parameter in signature.parameters.values():
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = math.inf
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if required:
                return 0, -1.0  # positional arguments alone are never enough
        elif parameter.kind is not parameter.VAR_KEYWORD:
            most += 1
            least += required
    return least, most
