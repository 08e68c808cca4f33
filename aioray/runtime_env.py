"""`RuntimeEnv` and its kin under the import path that they have in Ray: `ray.runtime_env`.

Room: api. The classes are in `aioray.options.runtime_env`.
"""

from aioray.options.runtime_env import RuntimeEnv, RuntimeEnvConfig

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
