"""What a pool's worker process does with a chunk of items.

Room: services. The tasks of a pool are calls of `run_chunk`, those of an `imap` run a `PoolItem`;
all that a pool wants of a process is remembered here: that its initializer has run, and the
function of the last call.

A function that lives in `__main__` travels by value, and each time it is loaded it gets globals of
its own. Programs for multiprocessing set globals in the initializer and read them in the function;
so what the initializer has changed is written into the globals of each function that comes from the
same module.
"""

from __future__ import annotations

import functools
import pickle
import sys
from typing import TYPE_CHECKING, Any

from aioray.shared.serialization import SHARED_BY_NOBODY, Private, load, private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Packed", "PoolItem", "own", "prepare", "run_chunk"]

_MISSING = object()


class _Process:
    """What this process keeps between chunks."""

    initialized = ""  # the pool whose initializer has run
    changed: tuple[str, dict[str, Any]] | None = None  # its module, and the globals it has set
    call: tuple[str, int] | None = None  # the pool and its call that `function` is of
    function: Any = None


_process = _Process()


def prepare(pool: str, initializer: bytes) -> Iterator[None]:
    """Run the initializer, in a task that stays until its third item is asked for.

    So two of them that have yielded one are in two processes.
    """
    _prepare(pool, initializer)
    for _ in range(3):
        yield


def run_chunk(
    pool: str,
    initializer: bytes,
    call: int,
    function: bytes,
    items: list[Any],
    unpack: Callable[..., Any],
) -> Any:
    """Call the function for each item; return the values, and a `Failed` if it raised.

    initializer: the pickled (function, arguments), b"" for none; it runs once per process and pool.
    call: tells calls of the pool's methods apart, so that a function is unpickled once in each.
    unpack: calls it with an item. An error ends the chunk and is the last in the list. What the
    initializer raises leaves from here, as the error of the task.
    """
    process = _process
    if initializer:
        _prepare(pool, initializer)
    if process.call != (pool, call):  # the session's own workers serve several pools in turn
        process.call = None
        process.function = load(function)
        _share_globals(process.function)
        process.call = (pool, call)
    work = process.function
    outcomes: list[Any] = []
    try:
        if unpack is with_item:
            for item in items:
                outcomes.append(work(item))  # noqa: PERF401 - those before an error count
        else:
            for item in items:
                outcomes.append(unpack(work, item))  # noqa: PERF401
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        outcomes.append(Failed(_capture(error, work)))
    return own(outcomes)


def own(values: list[Any]) -> Any:
    """Return a list as it travels: whoever reads it gets arrays of its own, if there are any."""
    return values if SHARED_BY_NOBODY.issuperset(map(type, values)) else Private(values)


class PoolItem:
    """The function of an `imap`, as it travels: called with an item, it calls the user's."""

    __slots__ = ("_function", "_initializer", "_pool", "_work")

    def __init__(self, pool: str, initializer: Any, function: Any) -> None:
        """Take what `run_chunk` takes, or refs to that if it is much."""
        self._pool = pool
        self._initializer = initializer
        self._function = function
        self._work: Callable[[Any], Any] | None = None  # as soon as it is loaded

    def __reduce__(self) -> tuple[type[PoolItem], tuple[str, Any, Any]]:
        return PoolItem, (self._pool, self._initializer, self._function)

    def __call__(self, item: Any) -> Any:
        """Return the value of an item, whose arrays will be the reader's own."""
        return private((self._work or self._load())(item))

    def _load(self) -> Callable[[Any], Any]:
        """Run the initializer, and load the function, in a process where that was not done yet."""
        if self._initializer:
            _prepare(self._pool, _bytes_of(self._initializer))
        function: Callable[[Any], Any] = load(_bytes_of(self._function))
        _share_globals(function)
        self._work = function
        return function


def _bytes_of(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    from aioray.api.objects import get

    found: bytes = get(data)
    return found


class Packed:
    """Pickles as its bytes, which are not searched for what they may name: they are a pickle."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[type[bytes], tuple[pickle.PickleBuffer]]:
        return bytes, (pickle.PickleBuffer(self.data),)


class Failed:
    """Stands where a value would be."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[type[Failed], tuple[bytes]]:
        return Failed, (self.data,)


def with_item(function: Callable[..., Any], item: Any) -> Any:
    """Call a function with an item, as `map` does."""
    return function(item)


def with_items(function: Callable[..., Any], item: Any) -> Any:
    """Call a function with the members of an item as its arguments, as `starmap` does."""
    return function(*item)


def with_arguments(function: Callable[..., Any], item: Any) -> Any:
    """Call a function with an item's arguments and keyword arguments, as `apply` does."""
    args, kwargs = item
    return function(*args, **kwargs)


def _prepare(pool: str, initializer: bytes) -> None:
    if _process.initialized != pool:
        _initialize(initializer)
        _process.initialized = pool


def _initialize(pickled: bytes) -> None:
    initializer, arguments = load(pickled)
    functions = list(_functions_by_value(initializer))
    before = [dict(function.__globals__) for function in functions]
    initializer(*arguments)
    for function, old in zip(functions, before, strict=True):
        new = function.__globals__
        changed = {name: new[name] for name in new if new[name] is not old.get(name, _MISSING)}
        _process.changed = (function.__module__, changed)


def _share_globals(function: Any) -> None:
    if _process.changed is not None:
        module, changed = _process.changed
        for each in _functions_by_value(function):
            if each.__module__ == module:
                each.__globals__.update(changed)


def _functions_by_value(target: Any) -> Iterator[Any]:
    """Yield the function inside a callable, if its globals are not those of a real module."""
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)  # of a method
    if not hasattr(target, "__globals__"):
        target = getattr(type(target), "__call__", None)  # noqa: B004 - its function is wanted
    found = getattr(target, "__globals__", None)
    module = sys.modules.get(getattr(target, "__module__", None) or "")
    if found is not None and found is not getattr(module, "__dict__", None):
        yield target


def _capture(error: BaseException, function: Any) -> bytes:
    import os

    from aioray.shared.failures import capture
    from aioray.shared.serialization import dumps

    name = getattr(function, "__qualname__", type(function).__qualname__)
    return capture(
        error,
        function_name=name,
        proctitle=f"ray::{name}",
        pid=os.getpid(),
        ip="127.0.0.1",
        dumps=dumps,
        loads=load,
        hide_files=frozenset({__file__}),
    )
