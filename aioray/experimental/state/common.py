"""The old name of `aioray.util.state.common`.

Room: api.
"""

from __future__ import annotations

from aioray.util.state.common import *  # noqa: F403 - the same names
