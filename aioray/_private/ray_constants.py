"""What libraries import from `ray._private.ray_constants`: values, some of which mean nothing here.

Room: api.
"""

__all__ = ["MEMORY_RESOURCE_UNIT_BYTES", "REDIS_DEFAULT_PASSWORD"]

MEMORY_RESOURCE_UNIT_BYTES = 1
REDIS_DEFAULT_PASSWORD = "5241590000000000"  # noqa: S105 - there is no server that would ask for it
