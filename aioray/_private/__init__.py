"""What libraries import from Ray's private parts, `ray._private`, and nothing else of them.

Room: api. Nothing in aioray imports it. `aioray.compat.names` says which library needs what.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "client_mode_hook",
    "ray_constants",
    "ray_logging",
    "ray_option_utils",
    "runtime_env",
    "services",
    "state",
    "utils",
    "worker",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return import_module(f"aioray._private.{name}")
    from aioray.compat.names import look_up

    return look_up("aioray._private", name)
