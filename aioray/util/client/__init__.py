"""What libraries ask `ray.util.client`: whether Ray Client is in use, which it never is.

Room: api.
"""

from __future__ import annotations

__all__ = ["ray"]


class _RayAPIStub:
    """What Ray Client would talk through."""

    def is_connected(self) -> bool:
        """Tell whether this program runs on a cluster elsewhere: no."""
        return False


ray = _RayAPIStub()
