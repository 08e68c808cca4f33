"""The old name of `aioray.util.state.exception`.

Room: api.
"""

from __future__ import annotations

from aioray.util.state.exception import *  # noqa: F403 - the same names
