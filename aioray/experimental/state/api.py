"""The old name of `aioray.util.state.api`.

Room: api.
"""

from __future__ import annotations

from aioray.util.state.api import *  # noqa: F403 - the same names
