"""Functions of the standard library that a worker has of its own: wrapped once, put in place often.

Room: worker. The template wraps them, as user code has left them after its preloads; each worker
puts them in place, which the template itself must not: it forks and waits for children, too.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["Replacements"]


class Replacements:
    """What takes the places of functions, by module and name."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[ModuleType, str], Callable[..., Any]] = {}

    def wrap(
        self, module: str, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        """Replace a function, or what replaces it already, by what `wrapper` makes of it."""
        place = importlib.import_module(module), name
        original = getattr(*place)
        wrapped = wrapper(self._by_place.get(place, original))
        functools.update_wrapper(wrapped, original)
        wrapped.__module__ = module  # pickled by name
        self._by_place[place] = wrapped
        if module == "_posixsubprocess" and "subprocess" in sys.modules:
            # It has a name of its own for it.
            self._by_place[sys.modules["subprocess"], f"_{name}"] = wrapped

    def install(self) -> None:
        """Put all of them in place, in this process."""
        for (module, name), function in self._by_place.items():
            setattr(module, name, function)
