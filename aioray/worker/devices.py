"""Lets the libraries in a worker see the GPUs of the running attempt, and no others.

Room: worker. CUDA reads CUDA_VISIBLE_DEVICES once, when it is first used in a process; so it is set
before anything of the user's is entered or loaded, and functions that ask for GPUs have a process
of their own unless they say otherwise (max_calls).

Without GPUs the variable stays what it is in the driver, or in the runtime environment, as in Ray,
unless RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1 asks for it to be empty then. With
RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES=1 it is never touched. Both may stand in the `env_vars`
of a runtime environment. Source: Ray 2.60, "Accelerator support", and its environment variables.

A process sees the same devices as long as it lives, see `aioray.core.scheduler`.
"""

from __future__ import annotations

import os

from ..client.current import execution_context

__all__ = ["VisibleDevices"]

VARIABLE = "CUDA_VISIBLE_DEVICES"


class VisibleDevices:
    """The devices that this process lets be seen; `names` is () if it has no say."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._touch = not _is_on(f"RAY_EXPERIMENTAL_NOSET_{VARIABLE}")
        self._without = execution_context.visible_devices = os.environ.get(VARIABLE)
        if _is_on("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
            self._without = ""
            self._set(self._without)

    def show(self, names: tuple[str, ...]) -> None:
        """Let the devices of these names be seen from now on."""
        self.names = names
        self._set(",".join(names) if names else self._without)

    def _set(self, value: str | None) -> None:
        if not self._touch:
            return
        if value is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = value


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in {"1", "true"}
