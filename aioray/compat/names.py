"""Old and private names of Ray that libraries use, and what stands for them here.

Room: compat, and used by children too, so it imports next to nothing. The tables say which library
needs each name, as it is written under `ray`, with dots, and are the only place that does.

NAMES work: what they give is imported when it is asked for. PLACEHOLDERS are parts of Ray that
aioray does not have, but that libraries import at their top although most programs never come by.
What is imported from there says what is missing when it is used: called, instantiated or looked
into. It can be annotated with, derived from, and named in `isinstance` and `except`.

What is in neither table, nor in aioray, is put in words by `features`. A row is for what a
library really does. Before you add one, see whether the name is public in Ray: then it belongs into
aioray itself.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "DO_WITHOUT",
    "LAZY",
    "NAMES",
    "PLACEHOLDERS",
    "SHARED",
    "Name",
    "asked_by_one_that_does_without",
    "find",
    "is_placeholder",
    "look_up",
    "placeholder_module",
]


class Name(NamedTuple):
    """What a name gives, and who needs it."""

    gives: str  # below `aioray`: a module, or "module:attribute"
    needed_by: str


_IDS = "programs that hold, compare or annotate ids"
_STATE = "vLLM, verl, Daft, AutoGluon, NeMo Curator, cosmos-xenna, XGBoost-Ray, Ray Lightning"
_MODE = "lenskit, Daft, prefect-ray: whether this is a worker"

NAMES = {
    "ActorClassID": Name("shared.id_classes:ActorClassID", _IDS),
    "ActorID": Name("shared.id_classes:ActorID", _IDS),
    "FunctionID": Name("shared.id_classes:FunctionID", _IDS),
    "JobID": Name("shared.id_classes:JobID", _IDS),
    "LOCAL_MODE": Name("_private.worker:LOCAL_MODE", _MODE),
    "NodeID": Name("shared.id_classes:NodeID", _IDS),
    "ObjectID": Name("client.refs:ObjectRef", "Modin, lenskit"),
    "PlacementGroupID": Name("shared.id_classes:PlacementGroupID", _IDS),
    "SCRIPT_MODE": Name("_private.worker:SCRIPT_MODE", _MODE),
    "TaskID": Name("shared.id_classes:TaskID", _IDS),
    "UniqueID": Name("shared.id_classes:UniqueID", _IDS),
    "WORKER_MODE": Name("_private.worker:WORKER_MODE", _MODE),
    "WorkerID": Name("shared.id_classes:WorkerID", _IDS),
    "_common": Name("_common", "Metaflow: get_default_ray_temp_dir"),
    "_private": Name("_private", "what its modules, below, are needed by"),
    "_private.client_mode_hook": Name("_private.client_mode_hook", "RayDP: client_mode_wrap"),
    "_private.ray_constants": Name("_private.ray_constants", "Modin, Alpa, RayDP"),
    "_private.ray_logging": Name("_private.ray_logging", "AutoGluon: to silence workers"),
    "_private.ray_option_utils": Name("_private.ray_option_utils", "Daft: which options there are"),
    "_private.runtime_env": Name("_private.runtime_env", "verl: constants"),
    "_private.services": Name(
        "_private.services", "Modin, OpenRLHF, Metaflow: get_node_ip_address"
    ),
    "_private.state": Name("_private.state", _STATE),
    "_private.utils": Name("_private.utils", "Metaflow, Alpa: get_ray_temp_dir"),
    "_private.worker": Name(
        "_private.worker", "Daft, OpenRLHF, Alpa, RayDP: global_worker; dagster-ray: BaseContext"
    ),
    "_raylet": Name("_raylet", "Graphbook: ObjectRef; programs that annotate ids"),
    "dag": Name("dag", "Graphbook"),
    "internal": Name("internal", "AutoGluon: free"),
    "logger": Name("compat.ray_logger:logger", "XGBoost-Ray, LightGBM-Ray"),
    "ray_constants": Name("_private.ray_constants", "Modin, Alpa, RayDP"),
    "state": Name("_private.state", _STATE),
    "util.DeveloperAPI": Name("util.annotations:DeveloperAPI", "programs of older versions"),
    "util.PublicAPI": Name("util.annotations:PublicAPI", "Ray Lightning"),
    "util.client": Name(
        "util.client", "XGBoost-Ray, LightGBM-Ray, Ray Lightning, Airflow: is_connected"
    ),
    "worker": Name("_private.worker", "Alpa, Daft, XGBoost-Ray: global_worker, get_resource_ids"),
}

PLACEHOLDERS = {
    "_private.cluster_utils": "tests of XGBoost-Ray",
    "air": "AutoGluon, NeuralForecast, RayDP",
    "autoscaler": "Daft, TorchX",
    "cluster_utils": "tests of XGBoost-Ray and Ray Lightning",
    "dashboard": "TorchX, NeMo Curator",
    "data": "Modin, Fugue, Feast, mlforecast, NeMo Curator, Daft",
    "job_submission": "dagster-ray, TorchX",
    "serve": "LangChain Serve, NeMo Curator",
    "train": "XGBoost-Ray, LightGBM-Ray, RayDP",
    "tune": "AutoGluon, lenskit, NeuralForecast, scvi-tools, XGBoost-Ray, Ray Lightning",
    "util.client.common": "Airflow",
    "util.client.ray_client_helpers": "tests of XGBoost-Ray, LightGBM-Ray and Ray Lightning",
    "util.collective": "OpenRLHF, verl",
    "util.dask": "XGBoost-Ray, LightGBM-Ray, Daft",
}

DO_WITHOUT = {"flaml": "takes search spaces and searchers of its own if Ray Tune is not there"}
"""Libraries that get no placeholders, because they use something else if the import fails."""

SHARED = frozenset(
    {
        "_common",
        "_private",
        "_raylet",
        "actor",
        "asgi",
        "cloudpickle",
        "dag",
        "exceptions",
        "experimental",
        "internal",
        "remote_function",
        "runtime_context",
        "runtime_env",
        "testing",
        "types",
        "util",
    }
)
"""The modules of aioray that are modules of `ray` too. Others are aioray's own, whatever they are
called: `aioray.state` is not what programs mean by `ray.state`."""


LAZY = frozenset({"autoscaler", "data"})
"""The placeholders that are attributes of `ray` before anybody has imported them."""

_OURS = frozenset({"state", "worker"})
"""Names of NAMES that are those of packages of aioray: under `aioray` they mean these."""


def look_up(module: str, name: str) -> Any:
    """Return what `name` gives, which aioray's module `module` does not have itself.

    Raises AttributeError, an UnsupportedAttributeError if Ray has it.
    """
    below = module.partition(".")[2]
    full = f"{below}.{name}" if below else name
    if full in NAMES and full not in _OURS:
        return find(full)
    from aioray.compat.features import missing_attribute

    raise missing_attribute(module, name)


def find(name: str) -> Any:
    """Return what `ray.<name>` gives if that is in NAMES. Raises KeyError."""
    module, _, attribute = NAMES[name].gives.partition(":")
    found = import_module(f"aioray.{module}")
    return getattr(found, attribute) if attribute else found


def is_placeholder(name: str) -> bool:
    """Tell whether `ray.<name>` is of a part of Ray for which there are placeholders."""
    while name and name not in PLACEHOLDERS:
        name = name.rpartition(".")[0]
    return bool(name)


def asked_by_one_that_does_without() -> bool:
    """Tell whether the code that imports, or gets an attribute, is of a library in DO_WITHOUT."""
    frame = sys._getframe(1)
    ours = (__name__, "aioray.compat.alias")
    while frame is not None:
        asker = frame.f_globals.get("__name__", "")
        if asker not in ours and not asker.startswith("importlib."):
            return asker.partition(".")[0] in DO_WITHOUT
        frame = frame.f_back  # type: ignore[assignment]
    return False


def placeholder_module(name: str) -> ModuleType:
    """Make a module that stands for `ray.<name>`: what is imported from it is a placeholder."""
    module = type(sys)(f"ray.{name}", _missing(name))
    made: dict[str, Placeholder] = {}  # not attributes, so that each asker is looked at

    def __getattr__(attribute: str) -> Any:  # noqa: N807 - that of the module
        if attribute.startswith("__") or asked_by_one_that_does_without():
            raise AttributeError(f"module {module.__name__!r} has no attribute {attribute!r}")
        if attribute not in made:
            made[attribute] = _placeholder(f"{name}.{attribute}")
        return made[attribute]

    vars(module)["__getattr__"] = __getattr__
    return module


def _placeholder(name: str) -> Placeholder:
    last = name.rpartition(".")[2]
    bases = (Exception,) if last.endswith(("Error", "Exception", "Warning")) else ()
    module = f"ray.{name.rpartition('.')[0]}"
    return Placeholder(last, bases, {"__module__": module, "_missing_": name})


class Placeholder(ABCMeta):
    """The class of placeholders, which are classes. It is abc's, so that a class may have both."""

    _missing_: str

    def __call__(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Raise UnsupportedFeatureError, which says what is missing."""
        from aioray.exceptions import UnsupportedFeatureError

        raise UnsupportedFeatureError(_missing(cls._missing_))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        from aioray.compat.unsupported import UnsupportedAttributeError

        raise UnsupportedAttributeError(_missing(f"{cls._missing_}.{name}"))

    def __getitem__(cls, _item: Any) -> Placeholder:
        """Return the placeholder itself, which is generic in annotations."""
        return cls

    def __repr__(cls) -> str:
        return f"<what stands for ray.{cls._missing_}>"


def _missing(name: str) -> str:
    from aioray.compat.features import explain

    text = explain(name)
    assert text is not None, name
    return text
