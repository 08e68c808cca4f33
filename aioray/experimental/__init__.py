"""What Ray has under `ray.experimental`, as far as aioray has it.

Progress bars in `tqdm_ray`, and `queue` and `state`, which have moved to `aioray.util`.

Room: facade. A module is imported when it is first asked for.
"""

from __future__ import annotations

__all__ = ["queue", "state", "tqdm_ray"]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from aioray.experimental import queue, state, tqdm_ray
else:

    def __getattr__(name):
        if name in __all__:
            from importlib import import_module

            return import_module(f"aioray.experimental.{name}")
        from aioray.ray_features import missing_attribute

        raise missing_attribute("aioray.experimental", name)


def __dir__() -> list[str]:
    """List the public names, also those that nobody has asked for yet, and no others."""
    return sorted(__all__)
