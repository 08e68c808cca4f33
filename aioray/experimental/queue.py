"""The old name of `aioray.util.queue`, which old programs import.

Room: api.
"""

from __future__ import annotations

import warnings

from aioray.util.queue import Empty, Full, Queue

__all__ = ["Empty", "Full", "Queue"]

warnings.warn(
    "ray.experimental.queue has been moved to ray.util.queue. Please update your import path.",
    DeprecationWarning,
    stacklevel=2,
)
