"""What Ray has under `ray.experimental`, as far as aioray has it: progress bars in `tqdm_ray`.

Room: facade. The module is imported when it is first asked for.
"""

from __future__ import annotations

__all__ = ["tqdm_ray"]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from aioray.experimental import tqdm_ray
else:

    def __getattr__(name):
        if name == "tqdm_ray":
            from importlib import import_module

            return import_module("aioray.experimental.tqdm_ray")
        from aioray.ray_features import missing_attribute

        raise missing_attribute("aioray.experimental", name)
