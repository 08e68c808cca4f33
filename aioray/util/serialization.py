"""How instances of a class are to be serialized, said for a class that one cannot change.

Room: api. Only fills a table of `aioray.shared.serialization`.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from aioray.shared.serialization import custom_reducers

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["deregister_serializer", "register_serializer"]

T = TypeVar("T")

# What pickle knows by itself, and asks no table about.
_FIXED = {type(None), bool, int, float, str, bytes, bytearray, tuple, list, dict, set, frozenset}
_FIXED |= {type, FunctionType}


def _apply(deserializer: Callable[[Any], T], serialized: Any) -> T:
    return deserializer(serialized)


def register_serializer(
    cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]
) -> None:
    """Serialize instances of exactly this class by `serializer`, in this process only.

    serializer: makes something serializable of an instance. deserializer: makes an instance of
    that; it travels with each value, so nothing has to be registered where the value is read. To
    serialize instances in tasks too, register there as well, or give the class a `__reduce__`.
    Raises TypeError for what is no class, for Python's own types, and for what cannot be called.
    Source: Ray API reference, ray.util.register_serializer.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, got {cls!r}")
    if cls in _FIXED:
        raise TypeError(
            f"How a {cls.__name__} is serialized cannot be changed. Use a class of your own."
        )
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}")

    def reduce(value: T) -> tuple[Any, tuple[Any, Any]]:
        return _apply, (deserializer, serializer(value))

    custom_reducers[cls] = reduce


def deregister_serializer(cls: type[Any]) -> None:
    """Serialize instances of the class as usual again; no effect if nothing was registered.

    Source: Ray API reference, ray.util.deregister_serializer.
    """
    custom_reducers.pop(cls, None)
