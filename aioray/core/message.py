"""Makes the classes of events, commands and facts: fifty, for which every program waits.

Room: core. `message` makes of a class what `dataclass(frozen=True, slots=True)` would, but that
only type checkers keep it frozen. That takes a quarter of the time, and so does an instance. Two
are equal if they are of the same class and have equal fields.
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

__all__ = ["message"]

C = TypeVar("C", bound=type[Any])


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self.__slots__))


def _repr(self: Any) -> str:
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
    return f"{type(self).__name__}({fields})"


@dataclass_transform(frozen_default=True)
def message(cls: C) -> C:
    """Make the class of a message, whose fields are what the body of `cls` annotates."""
    names = tuple(cls.__annotations__)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    parameters = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names]
    assignments = [f"self.{name} = {name}" for name in names] or ["pass"]
    scope: dict[str, Any] = {"_defaults": defaults}
    exec(f"def __init__({', '.join(['self', *parameters])}): {'; '.join(assignments)}", scope)
    body = {name: value for name, value in vars(cls).items() if name not in defaults}
    del body["__dict__"], body["__weakref__"]
    body |= {
        "__slots__": names,
        "__match_args__": names,
        "__init__": scope["__init__"],
        "__eq__": _equal,
        "__hash__": _hash,
        "__repr__": _repr,
    }
    made: C = type(cls.__name__, cls.__bases__, body)  # type: ignore[assignment]
    return made
