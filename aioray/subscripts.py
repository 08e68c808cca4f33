"""What generic classes are derived from at run time: something that can be subscripted.

Room: facade. Type checkers see the classes of `call_types` in its place. Those have type arguments
with defaults and overloads by the dozen, none of which a running program needs; all it must bear is
`RemoteFunction[[int], str]` in an annotation.
"""

from __future__ import annotations

from types import GenericAlias
from typing import Any

__all__ = ["Subscriptable"]


class Subscriptable:
    """Takes any type arguments, and forgets them."""

    __slots__ = ()
    __class_getitem__: Any = classmethod(GenericAlias)
