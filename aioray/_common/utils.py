"""What libraries import from `ray._common.utils`.

Room: api.
"""

from __future__ import annotations

from aioray.state.folders import root_folder

__all__ = ["get_default_ray_temp_dir"]


def get_default_ray_temp_dir() -> str:
    """Return the folder in which sessions have theirs."""
    return root_folder()
