"""Makes `import ray` mean aioray, in this process and in the Python processes that it starts.

Room: compat, and used by children too, so it imports the standard library only.

`install` puts a finder in front of `sys.meta_path`. An installed Ray is never looked at. `ray`
itself is a module object of its own, because its name, version and text differ from aioray's; all
other attributes it shares: whatever is set or deleted on one of the two, by the import system or by
`mock.patch("ray.get")`, is set or deleted on both. Everything below `ray` is the very module object
of aioray, so one class has one identity under both names, and `except ray.exceptions.RayError`
catches what aioray raises. What libraries want of Ray's private parts is in `names`. A module
that aioray does not have raises ModuleNotFoundError with the name of the feature; `from ray import
name` for such a name raises ImportError likewise.

`importlib.metadata` finds a distribution `ray`, of the version whose API aioray speaks, or of the
one that the environment variable AIORAY_RAY_VERSION says, for libraries that refuse that.

Children find the same by a folder of this package, `alias_path`, with a package `ray` and its
metadata: `install` puts it on `sys.path`, which multiprocessing hands on, and into PYTHONPATH,
unless it is told not to. Interpreters that ignore that variable (`python -I`, `-E`) cannot know.

Wart: `importlib.util.find_spec("ray.rllib")` raises, where Python would return None. The import
system offers no other place from which the message could come.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.abc import Loader as _Loader
    from importlib.metadata import Distribution, DistributionFinder
    from importlib.metadata._meta import SimplePath
    from types import ModuleType
else:
    _Loader = object  # importlib.abc would load a dozen modules in every worker
    ModuleType = type(sys)  # and `types` is one

__all__ = [
    "INHERIT",
    "PATH",
    "RAY_VERSION",
    "SPOKEN",
    "hand_on",
    "install",
    "installed",
    "is_inherited",
    "uninstall",
]

SPOKEN = "2.60.0"  # the Ray whose API is spoken; also in the name of a folder in PATH
RAY_VERSION = os.environ.get("AIORAY_RAY_VERSION") or SPOKEN  # what programs are told
INHERIT = "AIORAY_INHERIT_ALIAS"  # environment variable: "0" keeps the alias from children
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alias_path")

_ALIAS = "ray"
_REAL = "aioray"


def install(*, inherit: bool | None = None) -> None:
    """Let `import ray` and its submodules give aioray, from now on and for the whole process.

    inherit: whether Python processes that this one starts find the same; None: yes, unless the
    environment variable AIORAY_INHERIT_ALIAS is "0".
    Calling it again changes nothing else. Raises RuntimeError if another module named `ray` has
    been imported in this process: half of the program would then talk to one, half to the other.
    """
    loaded = sys.modules.get(_ALIAS)
    if loaded is not None and not (_is_alias(loaded) or hasattr(loaded, "_AIORAY_ALIAS")):
        raise RuntimeError(
            f"cannot let `import ray` mean aioray: another module named ray is loaded from "
            f"{getattr(loaded, '__file__', None)}. Call install() before anything imports ray, "
            "or start the program with `aioray run`."
        )
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    sys.meta_path.insert(0, _FINDER)  # also brings an earlier one to the front again
    if not _is_alias(loaded):
        sys.modules[_ALIAS] = _make()
    if inherit is None:
        inherit = os.environ.get(INHERIT) != "0"
    if inherit:
        hand_on()
    else:
        _keep_back()


def uninstall() -> None:
    """Undo `install`: forget the alias and its modules. Does nothing if it is not installed."""
    if _FINDER not in sys.meta_path:
        return
    sys.meta_path.remove(_FINDER)
    sys.modules[_REAL].__class__ = ModuleType
    for name in [name for name in sys.modules if _below(_ALIAS, name) is not None]:
        del sys.modules[name]
    _keep_back()


def installed() -> bool:
    """Tell whether `ray` means aioray in this process."""
    return _is_alias(sys.modules.get(_ALIAS))


def is_inherited() -> bool:
    """Tell whether the processes that this one starts find the alias too."""
    return PATH in os.environ.get("PYTHONPATH", "").split(os.pathsep)


def hand_on() -> None:
    """Let the Python processes that this one starts find the alias."""
    if not is_inherited():
        rest = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{PATH}{os.pathsep}{rest}" if rest else PATH
    if PATH not in sys.path:
        # Where Python puts what PYTHONPATH names: behind the folder of the script.
        sys.path.insert(0 if sys.flags.safe_path else 1, PATH)


def _keep_back() -> None:
    if is_inherited():
        rest = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path != PATH]
        if rest:
            os.environ["PYTHONPATH"] = os.pathsep.join(rest)
        else:
            del os.environ["PYTHONPATH"]
    while PATH in sys.path:
        sys.path.remove(PATH)


# --- the module `ray` ---------------------------------------------------------------------------


class _Shared(ModuleType):
    """`ray` and `aioray` while the alias is installed: two modules with one set of attributes.

    Each keeps those that say which module it is, and its submodules. A change of anything else goes
    to both; what only one has been asked for yet, the other looks up when it is.
    """

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        # A module is set by the import system, and may be of one of the two only.
        if not _is_own(name) and not isinstance(value, ModuleType):
            for module in _both():
                vars(module)[name] = value

    def __delattr__(self, name: str) -> None:
        if _is_own(name):
            super().__delattr__(name)
            return
        found = [vars(module).pop(name, _MISSING) for module in (self, *_both())]
        if all(value is _MISSING for value in found):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return import_module, (self.__name__,)  # cloudpickle knows ordinary modules only


class _Ray(_Shared):
    """The module `ray`."""

    def __reduce__(self) -> tuple[object, ...]:
        return _ray, ()  # for processes that have no alias yet


_MISSING = object()


def _is_own(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _both() -> list[ModuleType]:
    found = (sys.modules.get(_ALIAS), sys.modules.get(_REAL))
    return [module for module in found if isinstance(module, _Shared)]


def _is_alias(module: ModuleType | None) -> bool:
    return isinstance(module, _Ray)


def _ray() -> ModuleType:
    """Return the module `ray`; install it if it was not."""
    if not installed():
        install()
    return sys.modules[_ALIAS]


def _make() -> ModuleType:
    real = sys.modules[_REAL]
    real.__class__ = _Shared
    spec = _spec_of_ray()
    made = _Ray(_ALIAS, real.__doc__)
    made.__spec__ = spec
    made.__loader__ = spec.loader
    _fill(made)
    return made


def _spec_of_ray() -> ModuleSpec:
    real = sys.modules[_REAL]
    spec = ModuleSpec(_ALIAS, _RayLoader(), origin=real.__file__, is_package=True)
    spec.has_location = True
    spec.submodule_search_locations = list(real.__path__)
    return spec


def _fill(made: ModuleType) -> None:
    """Give `ray` what it has of its own; all else is looked up when it is asked for."""
    real = sys.modules[_REAL]
    vars(made).update(
        __version__=RAY_VERSION,
        __commit__=f"aioray-{real.__version__}",
        __file__=real.__file__,
        __path__=list(real.__path__),
        __package__=_ALIAS,
        __all__=real.__all__,
        __getattr__=_look_up,
        __dir__=real.__dir__,
    )


def _look_up(name: str) -> object:
    """Look up an attribute that `ray` is asked for the first time."""
    ray, real = sys.modules[_ALIAS], sys.modules[_REAL]
    if _is_own(name):
        raise AttributeError(f"module {_ALIAS!r} has no attribute {name!r}", name=name, obj=ray)
    from aioray.compat.names import LAZY, NAMES, SHARED, find

    if name in NAMES:
        return find(name)
    if name in LAZY:
        return import_module(f"{_ALIAS}.{name}")
    try:
        value = getattr(real, name)
    except AttributeError as error:
        if type(error) is not AttributeError:
            raise
        value = None
    if value is None or (isinstance(value, ModuleType) and name not in SHARED):
        from aioray.compat.features import missing_attribute

        raise missing_attribute(_ALIAS, name)
    if name in vars(real):  # else it is to be looked up anew each time
        vars(ray)[name] = value
    return value


# --- the import system --------------------------------------------------------------------------


class _RayFinder:
    """Finds `ray` and all below it; for `aioray` it only words the errors."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _ALIAS:
            return _spec_of_ray()
        below = _below(_ALIAS, fullname)
        if below is not None:
            return _find_below(fullname, below, path)
        below = _below(_REAL, fullname)
        if not below:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None and (message := _unavailable(below)):
            # `from aioray import dag` asks aioray for the attribute and then imports
            # "aioray.dag". Left alone it would end as "cannot import name", without the
            # reason. The name in the error is not the one being imported: the import statement
            # swallows that one.
            raise ImportError(message, name=f"{_ALIAS}.{below}")
        return spec

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Find the distribution `ray` for `importlib.metadata`."""
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        found = MetadataPathFinder.find_distributions(
            DistributionFinder.Context(name=context.name, path=[PATH])
        )
        return found if RAY_VERSION == SPOKEN else map(_with_version_told, found)


def _with_version_told(found: Distribution) -> Distribution:
    """Return the distribution `ray` in PATH, with the version that programs are told."""
    from importlib.metadata import Distribution

    class Told(Distribution):
        def read_text(self, filename: str) -> str | None:
            text = found.read_text(filename)
            return text and text.replace(f"\nVersion: {SPOKEN}\n", f"\nVersion: {RAY_VERSION}\n")

        def locate_file(self, path: str | os.PathLike[str]) -> SimplePath:
            return found.locate_file(path)

    return Told()


def _find_below(fullname: str, below: str, path: Sequence[str] | None) -> ModuleSpec:
    from aioray.compat import names as ray_names

    moved = ray_names.NAMES.get(below)
    if moved is not None and ":" not in moved.gives:
        return ModuleSpec(fullname, _AliasLoader(f"{_REAL}.{moved.gives}"))
    # Only then ours, because a module of aioray may have the name of quite another thing in Ray.
    real = f"{_REAL}.{below}"
    if below.partition(".")[0] in ray_names.SHARED and PathFinder.find_spec(real, path) is not None:
        return ModuleSpec(fullname, _AliasLoader(real))
    if ray_names.is_placeholder(below) and not ray_names.asked_by_one_that_does_without():
        return ModuleSpec(fullname, _PlaceholderLoader(below), is_package=True)
    message = _unavailable(below)
    if message is None:
        message = f"No module named {fullname!r}"
        raise ModuleNotFoundError(message, name=fullname)
    # The import statement would swallow the reason if `name` were what it has asked for.
    raise ModuleNotFoundError(message, name=_ALIAS)


class _RayLoader(_Loader):
    """Loads the module `ray`: at the first import, and again at a reload."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module `ray` that there is, or a new one."""
        found = sys.modules.get(_ALIAS)
        return found if _is_alias(found) else _make()

    def exec_module(self, module: ModuleType) -> None:
        """Forget the attributes that were looked up or replaced."""
        for shared in _both():
            for name in sys.modules[_REAL].__all__:
                if not _is_own(name) and not isinstance(vars(shared).get(name), ModuleType):
                    vars(shared).pop(name, None)
        _fill(module)


class _AliasLoader(_Loader):
    """Loads a module by putting aioray's own in its place, which a module may do with itself."""

    def __init__(self, real: str) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> None:
        """Ask for an ordinary empty module."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(self._real)


class _PlaceholderLoader(_Loader):
    """Loads a module of a part of Ray that aioray does not have, see `names`."""

    def __init__(self, below: str) -> None:
        self._below = below

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the module; its names are looked up when they are asked for."""
        from aioray.compat.names import placeholder_module

        return placeholder_module(self._below)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is complete."""


def _below(parent: str, name: str) -> str | None:
    """Return `name` relative to `parent`: "" for the parent itself, None if it is not below it."""
    if name == parent:
        return ""
    return name.removeprefix(f"{parent}.") if name.startswith(f"{parent}.") else None


def _unavailable(name: str) -> str | None:
    from aioray.compat.features import explain

    return explain(name)


_FINDER = _RayFinder()
