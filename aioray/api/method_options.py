"""`method`, by which a class says how its methods are called. Also reached as `aioray.method`.

Room: api.
"""

# Of overloads that overlap the first that fits is meant.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ..client.actor_meta import GIVEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from typing import Concatenate, Never, ParamSpec, Unpack

    from ..client.generators import ObjectRefGenerator
    from ..client.refs import ObjectRef
    from ..options.types import MethodKeywords
    from .actor_types import (
        MakesDynamicMethods,
        MakesMethods,
        MakesMethodsOfNothing,
        MakesMethodsOfSeveral,
        Method,
    )

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")

__all__ = ["method"]


@overload
def method(
    function: Callable[Concatenate[Any, P], Coroutine[object, Never, T]], /
) -> Method[P, Coroutine[object, Never, T], ObjectRef[T]]: ...
@overload
def method(
    function: Callable[Concatenate[Any, P], AsyncIterator[T]], /
) -> Method[P, AsyncIterator[T], ObjectRefGenerator[T]]: ...
@overload
def method(
    function: Callable[Concatenate[Any, P], Iterator[T]], /
) -> Method[P, Iterator[T], ObjectRefGenerator[T]]: ...
@overload
def method(function: Callable[Concatenate[Any, P], R], /) -> Method[P, R, ObjectRef[R]]: ...
@overload
def method(**options: Unpack[MethodKeywords]) -> MakesMethods: ...
@overload
def method(
    *, num_returns: Literal[1, "streaming"] | None, **options: Unpack[MethodKeywords]
) -> MakesMethods: ...
@overload
def method(
    *, num_returns: Literal[0], **options: Unpack[MethodKeywords]
) -> MakesMethodsOfNothing: ...
@overload
def method(
    *, num_returns: Literal["dynamic"], **options: Unpack[MethodKeywords]
) -> MakesDynamicMethods: ...
@overload
def method(*, num_returns: int, **options: Unpack[MethodKeywords]) -> MakesMethodsOfSeveral: ...


def method(*positional: Any, **options: Any) -> Any:
    """Set options for the calls of a method: `@method(num_returns=2)`; bare, it does nothing.

    Options, with their defaults: num_returns=1 (for generator methods a stream), concurrency_group
    (the default one), max_task_retries (the class's: how often a call is made again that the actor
    did not survive, -1 for ever), retry_exceptions=False (True, a list of exception types, or a
    predicate: which errors of the method are retried too), interruptible (the class's; a cancel
    raises KeyboardInterrupt in the method, as in tasks, instead of setting the flag that
    `get_runtime_context().is_canceled()` reads), timeout, stall_timeout and deadline (seconds, see
    `remote`; an actor that does not listen is killed, and may restart), memory_limit (bytes, see
    `remote`; the actor is killed), enable_task_events,
    tensor_transport, _generator_backpressure_num_objects, _num_objects_per_yield.
    Raises AssertionError for an unknown option, TypeError and ValueError for what is wrong with
    one.
    Source: Ray API reference, ray.method; interruptible, the time limits and predicates are
    aioray's own.
    """
    if positional and not options and len(positional) == 1 and callable(positional[0]):
        return positional[0]
    if positional:
        raise AssertionError(
            "The @method decorator is used bare, '@aioray.method', or with keyword options only, "
            "such as '@aioray.method(num_returns=2)'."
        )

    from ..options.actor import check_method_names, parse_method_options

    check_method_names(options, where="method")

    def annotate(function: Any) -> Any:
        import inspect

        is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        checked = parse_method_options(options, where="method", is_generator=is_generator)
        # Plain values, so that workers can load the class without the modules behind this one.
        said = {option.removeprefix("_") for option in options}
        given = {name: getattr(checked, name) for name in said}
        setattr(function, GIVEN, given)
        return function

    return annotate
