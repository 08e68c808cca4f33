"""How what `functools` makes of functions of a script is pickled: caches, properties, dispatchers.

Room: shared, part of `serialization`. Neither pickle nor cloudpickle knows these: a cache is
written as a name, which a worker cannot find if it is one of `__main__`, and the others hold locks
and weak references, or cannot be made without arguments (partial methods, from 3.14 on). Each is
made again of the function that it wraps; what was cached stays behind. What can be found by its
name in a module is still sent as that.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REDUCERS", "is_dispatcher", "reduce_dispatcher"]

_ITS_OWN = frozenset({"__wrapped__", "cache_parameters", *functools.WRAPPER_ASSIGNMENTS})


def _is_found_by_name(target: Any) -> bool:
    """Tell whether other processes find `target` by module and qualified name."""
    name = target.__module__
    found: Any = sys.modules.get(name)
    if found is None or name == "__main__":
        return False
    for by_value in cloudpickle.list_registry_pickle_by_value():
        if name == by_value or name.startswith(f"{by_value}."):
            return False
    for attribute in target.__qualname__.split("."):
        found = getattr(found, attribute, None)
    return found is target


def _reduce_cache(cache: Any) -> str | tuple[Any, ...]:
    if _is_found_by_name(cache):
        name: str = cache.__qualname__
        return name
    function = cache.__wrapped__
    inherited = getattr(function, "__dict__", {})
    own = {
        name: value
        for name, value in vars(cache).items()
        if name not in _ITS_OWN and (name not in inherited or inherited[name] is not value)
    }
    parameters = cache.cache_parameters()
    return _make_cache, (function, parameters["maxsize"], parameters["typed"]), own or None


def _make_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_property(value: functools.cached_property[Any]) -> tuple[Any, ...]:
    state = {name: each for name, each in vars(value).items() if name != "lock"}
    return functools.cached_property, (value.func,), state


def _reduce_partial_method(value: functools.partialmethod[Any]) -> tuple[Any, ...]:
    return _make_partial_method, (value.func, value.args, dict(value.keywords))


def _make_partial_method(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> functools.partialmethod[Any]:
    return functools.partialmethod(function, *arguments, **keywords)


def _reduce_dispatching_method(method: functools.singledispatchmethod[Any]) -> tuple[Any, ...]:
    return functools.singledispatchmethod, (method.func,), {"dispatcher": method.dispatcher}


def is_dispatcher(function: FunctionType) -> bool:
    """Tell whether `functools.singledispatch` made a function that is not found by its name."""
    return (
        type(function.__dict__.get("registry")) is MappingProxyType
        and function.__globals__ is vars(functools)
        and not _is_found_by_name(function)
    )


def reduce_dispatcher(dispatcher: Any) -> tuple[Any, ...]:
    """Return what `__reduce__` of a dispatcher would return."""
    return (
        functools.singledispatch,
        (dispatcher.__wrapped__,),
        dict(dispatcher.registry),
        None,
        None,
        _register_all,
    )


def _register_all(dispatcher: Any, registry: dict[type, Callable[..., Any]]) -> None:
    for cls, function in registry.items():
        dispatcher.register(cls, function)


REDUCERS: dict[type, Callable[[Any], str | tuple[Any, ...]]] = {
    type(functools.lru_cache(_register_all)): _reduce_cache,
    functools.cached_property: _reduce_property,
    functools.partialmethod: _reduce_partial_method,
    functools.singledispatchmethod: _reduce_dispatching_method,
}
"""By class, for picklers."""
