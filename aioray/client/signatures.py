"""Checks a call against the signature of what is called, in the caller, and names that.

Room: client, also used where calls are serialized, in driver and worker. Ray's rule: arguments that
do not fit are a TypeError at `.remote()`, with the text of `inspect.Signature.bind`. Binding costs
a hundred times as much as submitting should, so that calls with positional arguments alone, which
nearly all are, are checked by counting them.
"""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Checked",
    "check_call",
    "is_generator",
    "name_of",
    "positional_range",
    "signature_of",
]

ANYTHING = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)


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
        arity = code.arity = positional_range(signature_of(code.function))
    if kwargs or not arity[0] <= len(args) <= arity[1]:
        try:
            signature_of(code.function).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{code.name}.remote(): {error}") from None


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, or one that fits any call: some classes written in C have none.

    Of a function that wraps another it is its own: what it adds, the caller need not give.
    """
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        wrapped = getattr(function, "__wrapped__", None)  # by something in C, such as a cache
        return ANYTHING if wrapped is None else signature_of(wrapped)


def is_generator(function: Callable[..., Any]) -> bool:
    """Tell whether calls give a generator, plain or asynchronous; of callable objects too."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - it is looked at
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


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
