"""What tests of programs that use aioray need and programs do not.

    from aioray.testing import VirtualEngine, faults, lose, takes

Room: api. `VirtualEngine` runs the user's functions in virtual time, `faults` has workers crash,
hang and lose what they should not, `lose` throws one value away. The fixtures for pytest are in
`plugin`. Everything is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["FaultPoint", "Faults", "VirtualClock", "VirtualEngine", "faults", "lose", "takes"]

if TYPE_CHECKING:
    from .clock import VirtualClock
    from .fibers import takes
    from .injection import FaultPoint, Faults, faults
    from .losing import lose
    from .virtual import VirtualEngine
else:
    _MODULE_BY_NAME = {
        "FaultPoint": "injection",
        "Faults": "injection",
        "VirtualClock": "clock",
        "VirtualEngine": "virtual",
        "faults": "injection",
        "lose": "losing",
        "takes": "fibers",
    }

    def __getattr__(name: str) -> Any:
        module = _MODULE_BY_NAME.get(name)
        if module is None:
            raise AttributeError(f"module 'aioray.testing' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
