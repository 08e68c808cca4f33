"""What stands at run time for the generic classes that type checkers see.

Room: shared. Those are in `call_types`: they have type arguments with defaults and overloads by the
dozen, none of which a running program needs. What it needs is that `RemoteFunction[[int], str]` is
understood, in annotations, and that nobody meets the bases of checkers.
"""

from __future__ import annotations

from types import GenericAlias
from typing import Any

__all__ = ["Erased", "subscriptable"]

subscriptable: Any = classmethod(GenericAlias)
"""To be the `__class_getitem__` of a class that takes any type arguments, and forgets them."""


class Erased:
    """A base with type arguments, of which nothing is left."""

    def __class_getitem__(cls, _arguments: Any) -> type[object]:
        return object
