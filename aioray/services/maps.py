"""`aioray.map`: a function over many items, in worker processes, values as they are finished.

Room: services. The items come from any iterable, or asynchronous iterable, of unknown length, and
the values go to whoever iterates, with `for` or `async for`, in the driver or in a task.

How chunks travel. Items go to workers in chunks, and a chunk is one task of the engine, so that
resources, placement, environments and prefetching are those of all tasks. Its function is an
`ItemFunction`, its items are serialized together, and its attempt is run by `worker.chunks`: that
calls the user's function on each item as tasks do, and writes what has become of them into the
answers pipe in compact notes, safe there whatever the next item does. The notes of a chunk are a
stream, as that of a generator task. `map_plan` decides from them, and is pure: how many items go
together (as many as run for some milliseconds, by their measured time), what goes again and when,
which item is charged with a crash (the page of the worker names it), which value comes next.
`map_run` carries that out. Nothing runs in between: whoever iterates takes items from the input,
sends chunks and reads news, so no value is computed that there is no room for, and what nobody
iterates any more has nothing left that could go on.

What holds of a single task holds of each item: an error is raised with its own type and traceback,
`max_retries`, `retry_exceptions` and `retry` count for each item alone, and a crash costs nobody
else anything.
"""

# Overloads overlap on purpose: of a function that is a coroutine function too, the first is meant.
# The name is the one that Python has for it.
# ruff: noqa: A001
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from weakref import WeakKeyDictionary

from ..client.protocol import Call
from ..client.signatures import is_generator, name_of, positional_range, signature_of
from ..core.records import replace
from ..options.task import parse_task_options
from ..remote_function import BoundOptions, RemoteFunction
from ..shared.wire import CHUNK
from .map_plan import MOST_ITEMS
from .map_run import LATEST_BEGIN
from .map_values import ItemCode, Map, MappedCall

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Never

    from ..api.call_types import Remote
    from ..client.refs import ObjectRef
    from ..shared.options import TaskOptions

__all__ = ["Map", "map", "mapped_call"]

A = TypeVar("A")
R = TypeVar("R")


@overload
def map(
    function: Remote[Callable[[A], object], ObjectRef[R]],
    items: Iterable[A] | AsyncIterable[A],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    star: Literal[False] = False,
    max_chunk_size: int | None = None,
) -> Map[R]: ...
@overload
def map(
    function: Remote[Callable[[A], object], ObjectRef[R]],
    items: Iterable[A] | AsyncIterable[A],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[True],
    star: Literal[False] = False,
    max_chunk_size: int | None = None,
) -> Map[R | Exception]: ...
@overload
def map(
    function: Remote[Callable[..., object], ObjectRef[R]],
    items: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    star: Literal[True],
    max_chunk_size: int | None = None,
) -> Map[R]: ...
@overload
def map(
    function: Remote[Callable[..., object], ObjectRef[R]],
    items: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[True],
    star: Literal[True],
    max_chunk_size: int | None = None,
) -> Map[R | Exception]: ...
@overload
def map(
    function: Callable[[A], Coroutine[object, Never, R]],
    items: Iterable[A] | AsyncIterable[A],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    star: Literal[False] = False,
    max_chunk_size: int | None = None,
) -> Map[R]: ...
@overload
def map(
    function: Callable[[A], Coroutine[object, Never, R]],
    items: Iterable[A] | AsyncIterable[A],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[True],
    star: Literal[False] = False,
    max_chunk_size: int | None = None,
) -> Map[R | Exception]: ...
@overload
def map(
    function: Callable[[A], R],
    items: Iterable[A] | AsyncIterable[A],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    star: Literal[False] = False,
    max_chunk_size: int | None = None,
) -> Map[R]: ...
@overload
def map(
    function: Callable[[A], R],
    items: Iterable[A] | AsyncIterable[A],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[True],
    star: Literal[False] = False,
    max_chunk_size: int | None = None,
) -> Map[R | Exception]: ...
@overload
def map(
    function: Callable[..., R],
    items: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    star: Literal[True],
    max_chunk_size: int | None = None,
) -> Map[R]: ...
@overload
def map(
    function: Callable[..., R],
    items: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
    /,
    *,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[True],
    star: Literal[True],
    max_chunk_size: int | None = None,
) -> Map[R | Exception]: ...


def map(
    function: Any,
    items: Any,
    /,
    *more: Any,
    max_in_flight: int | None = None,
    ordered: bool = True,
    return_exceptions: bool = False,
    star: bool = False,
    max_chunk_size: int | None = None,
) -> Map[Any]:
    """Call a function on each item, in worker processes, and iterate over the values.

        for value in aioray.map(f, items): ...
        async for value in aioray.map(f, items): ...

    function: a remote function, whose options hold for each item, or any callable. items: any
    iterable, or asynchronous iterable (with `async for`); an item that is a ref is passed as its
    value. star: each item is a tuple of positional arguments.

    Nothing runs before the first value is asked for. ordered: values come in the order of the
    items; False: as they are finished. return_exceptions: the error of an item comes in place of
    its value; False: it is raised, and ends the map. max_in_flight: items that may have been taken
    and whose values were not read; by default as many as keep the workers busy. max_chunk_size:
    items that may go to a worker together at most; 1: each goes alone, as a task.

    What ends the iteration early (break, an error, `close()`, cancelling the task that iterates)
    cancels what is in flight.
    """
    if more:
        raise TypeError(
            "aioray.map() takes one iterable of items. For several, zip them and pass star=True: "
            "aioray.map(f, zip(xs, ys), star=True)."
        )
    for name, value in (("max_in_flight", max_in_flight), ("max_chunk_size", max_chunk_size)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name} must be an integer >= 1 or None, not {value!r}")
        if value is not None and value < 1:
            raise ValueError(f"{name} must be an integer >= 1 or None, not {value!r}")
    if not isinstance(items, Iterable | AsyncIterable) and not hasattr(items, "__getitem__"):
        raise TypeError(
            f"aioray.map() takes an iterable, or an asynchronous iterable, of items, not "
            f"{items!r} of type {type(items).__name__}."
        )
    return Map(
        _mapped(function, star=star),
        items,
        ordered=ordered,
        return_exceptions=return_exceptions,
        window=max_in_flight,
        most=max_chunk_size or MOST_ITEMS,
    )


# So that a function is serialized, and loaded by workers, once for all maps over it.
_codes: WeakKeyDictionary[Any, dict[bool, ItemCode]] = WeakKeyDictionary()


def _mapped(function: Any, *, star: bool) -> MappedCall:
    """Check a function that is to be called on items. Raises TypeError."""
    if isinstance(function, BoundOptions):
        remote, options = function._function, function._call.options
    elif isinstance(function, RemoteFunction):
        remote, options = function, function.options_given
    elif hasattr(function, "remote") or hasattr(function, "bind"):
        raise TypeError(
            f"aioray.map() takes a remote function, or a plain callable, not {function!r}. Call "
            "the methods of actors through aioray.util.ActorPool."
        )
    elif not callable(function):
        raise TypeError(
            f"aioray.map() takes a remote function, or a plain callable, not {function!r} of type "
            f"{type(function).__name__}."
        )
    else:
        remote, options = None, _default_options()
    plain = function if remote is None else remote.function
    name = name_of(plain)
    if is_generator(plain):
        raise TypeError(
            f"aioray.map() takes a function that returns, and {name!r} is a generator function. "
            "Let it return a list."
        )
    if options.num_returns != 1:
        raise TypeError(
            f"aioray.map() takes a function with num_returns=1, and {name!r} has "
            f"num_returns={options.num_returns}. What it returns is one value, maybe a tuple."
        )
    fewest, most = positional_range(signature_of(plain))
    if not star and not fewest <= 1 <= most:
        hint = ", or pass star=True, and items that are tuples of arguments" if most else ""
        raise TypeError(
            f"aioray.map() calls {name!r} with one argument, the item, which it does not take"
            f"{hint}."
        )
    if remote is None:
        code = ItemCode(plain, name, star=star)
    else:
        codes = _codes.setdefault(remote, {})
        if star not in codes:
            codes[star] = ItemCode(plain, name, star=star)
        code = codes[star]
    return mapped_call(code, options.name or name, options)


def mapped_call(code: ItemCode, name: str, options: TaskOptions) -> MappedCall:
    """Return what is called on items. name, options: of the function."""
    chunk = replace(
        options,
        num_returns=CHUNK,
        max_retries=0,  # of chunks: what goes again, and how often, is decided for each item
        retry=None,
        max_calls=1 if options.max_calls else 0,
        # An item begins that much later than its chunk, at most.
        timeout=None if options.timeout is None else options.timeout + LATEST_BEGIN,
        stall_timeout=(
            None if options.stall_timeout is None else options.stall_timeout + LATEST_BEGIN
        ),
    )
    return MappedCall(Call(code, chunk), code, name, options)


@functools.cache
def _default_options() -> TaskOptions:
    return parse_task_options({}, base=None, is_generator=False)
