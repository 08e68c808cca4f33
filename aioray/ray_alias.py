"""Makes `import ray` mean aioray, in this process.

Room: facade, and used by children too, so it imports the standard library only.

`install` puts a finder in front of `sys.meta_path`. The finder answers for `ray` and everything
below it with the very module objects of aioray: `sys.modules["ray"] is aioray`, so one class has
one identity under both names, and `except ray.exceptions.RayError` catches what aioray raises.
An installed Ray is never looked at. A module that aioray does not have raises ModuleNotFoundError
with the name of the feature; `from ray import name` for such a name raises ImportError likewise.

Wart: `importlib.util.find_spec("ray.tune")` raises as well, where Python would return None. The
import system offers no other place from which the message could come.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader as _Loader
    from types import ModuleType
else:
    _Loader = object  # importlib.abc would load a dozen modules in every worker

__all__ = ["install", "uninstall"]

_ALIAS = "ray"
_REAL = "aioray"


def install() -> None:
    """Let `import ray` and its submodules give aioray, from now on and for the whole process.

    Calling it again changes nothing. Raises RuntimeError if another module named `ray` has been
    imported in this process: half of the program would then talk to one, half to the other.
    """
    loaded = sys.modules.get(_ALIAS)
    if loaded is not None and loaded is not sys.modules[_REAL]:
        raise RuntimeError(
            f"cannot let `import ray` mean aioray: another module named ray is loaded from "
            f"{getattr(loaded, '__file__', None)}. Call install() before anything imports ray, "
            "or start the program with `aioray run`."
        )
    uninstall()  # brings an earlier finder to the front again
    sys.meta_path.insert(0, _FINDER)
    sys.modules[_ALIAS] = sys.modules[_REAL]


def uninstall() -> None:
    """Undo `install`: forget the alias and its modules. Does nothing if it is not installed."""
    if _FINDER not in sys.meta_path:
        return
    sys.meta_path.remove(_FINDER)
    for name in [name for name in sys.modules if _below(_ALIAS, name) is not None]:
        del sys.modules[name]


class _RayFinder:
    """Finds `ray` and all below it; for `aioray` it only words the errors."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        below = _below(_ALIAS, fullname)
        if below is not None:
            return _find_alias(fullname, below, path)
        below = _below(_REAL, fullname)
        if not below:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None and (message := _unavailable(below)):
            # `from ray import dag` asks aioray for the attribute and then imports
            # "aioray.dag". Left alone it would end as "cannot import name", without the
            # reason. The name in the error is not the one being imported: the import statement
            # swallows that one.
            raise ImportError(message, name=f"{_ALIAS}.{below}")
        return spec


def _find_alias(fullname: str, below: str, path: Sequence[str] | None) -> ModuleSpec:
    real = f"{_REAL}.{below}" if below else _REAL
    # Asked first, because a module of aioray may have the name of quite another thing in Ray.
    message = _unavailable(below)
    if message is None:
        if PathFinder.find_spec(real, path) is not None:
            return ModuleSpec(fullname, _AliasLoader(real))
        message = f"No module named {fullname!r}: here it would be {real!r}, which does not exist"
    raise ModuleNotFoundError(message, name=fullname)


class _AliasLoader(_Loader):
    """Loads a module by putting aioray's own in its place, which a module may do with itself."""

    def __init__(self, real: str) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> None:
        """Ask for an ordinary empty module."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(self._real)


def _below(parent: str, name: str) -> str | None:
    """Return `name` relative to `parent`: "" for the parent itself, None if it is not below it."""
    if name == parent:
        return ""
    return name.removeprefix(f"{parent}.") if name.startswith(f"{parent}.") else None


def _unavailable(name: str) -> str | None:
    from aioray.ray_features import explain

    return explain(name)


_FINDER = _RayFinder()
