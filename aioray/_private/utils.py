"""What libraries import from `ray._private.utils`.

Room: api.
"""

from aioray._common.utils import get_default_ray_temp_dir as get_ray_temp_dir

__all__ = ["get_ray_temp_dir"]
