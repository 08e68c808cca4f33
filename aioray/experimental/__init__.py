"""What Ray has under `ray.experimental`, as far as aioray has it.

Progress bars in `tqdm_ray`, a key-value store in `internal_kv`, where objects lie, and `queue` and
`state`, which have moved to `aioray.util`.

Room: api. A module is imported when it is first asked for.
"""

from __future__ import annotations

__all__ = [
    "get_local_object_locations",
    "get_object_locations",
    "internal_kv",
    "locations",
    "queue",
    "state",
    "tqdm_ray",
]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from aioray.experimental import internal_kv, locations, queue, state, tqdm_ray
    from aioray.experimental.locations import get_local_object_locations, get_object_locations
else:

    def __getattr__(name):
        if name in __all__:
            from importlib import import_module

            if name.startswith("get_"):
                return getattr(import_module("aioray.experimental.locations"), name)
            return import_module(f"aioray.experimental.{name}")
        from aioray.compat.names import look_up

        return look_up("aioray.experimental", name)


def __dir__() -> list[str]:
    """List the public names, also those that nobody has asked for yet, and no others."""
    return sorted(__all__)
