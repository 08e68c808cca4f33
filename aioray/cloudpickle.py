"""The cloudpickle library under the name that it has in Ray: `ray.cloudpickle`.

Room: api. Ray ships a copy; this is the library itself, whose names are handed on as they are:
those that it exports, and by `__getattr__` what else Ray's copy happens to have, such as `pickle`.
"""

from __future__ import annotations

import pickle
from typing import Any

from cloudpickle import (
    CloudPickler,
    Pickler,
    cloudpickle,
    dump,
    dumps,
    load,
    loads,
    register_pickle_by_value,
    unregister_pickle_by_value,
)

__all__ = [
    "CloudPickler",
    "Pickler",
    "cloudpickle",
    "dump",
    "dumps",
    "load",
    "loads",
    "pickle",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]


def __getattr__(name: str) -> Any:
    try:
        return getattr(cloudpickle, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
