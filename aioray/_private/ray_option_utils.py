"""What libraries import from `ray._private.ray_option_utils`: which options there are.

Room: api.
"""

from __future__ import annotations

from aioray.options.actor import _ACTOR_OPTIONS
from aioray.options.task import _TASK_OPTIONS

__all__ = ["actor_options", "task_options", "valid_options"]

actor_options: dict[str, None] = dict.fromkeys(_ACTOR_OPTIONS)
task_options: dict[str, None] = dict.fromkeys(_TASK_OPTIONS)
valid_options = task_options | actor_options
