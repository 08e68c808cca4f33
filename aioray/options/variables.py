"""Reads environment variables: those of Ray that set defaults of a session.

Room: options. Each is looked for in a mapping that is given; an empty variable counts as not set.
Raises ValueError, naming the variable, for what it may not be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from aioray.options.messages import show

__all__ = ["MEMORY_THRESHOLD", "MONITOR_SECONDS", "flag", "memory_settings", "number_from"]

MEMORY_THRESHOLD: Final = 0.95  # as in Ray
MONITOR_SECONDS: Final = 0.25  # as in Ray


def memory_settings(environ: Mapping[str, str], system_config: Any) -> dict[str, Any]:
    """Return what there is to say of the watch over memory. Names and defaults are Ray's.

    system_config: of init(), which goes before the environment, as in Ray.
    """
    if isinstance(system_config, Mapping):
        environ = {**environ, **{f"RAY_{name}": str(it) for name, it in system_config.items()}}
    period = number_from(environ, "RAY_memory_monitor_refresh_ms", 1000 * MONITOR_SECONDS) / 1000
    share = number_from(environ, "RAY_memory_usage_threshold", MEMORY_THRESHOLD, most=1)
    min_free = number_from(environ, "RAY_min_memory_free_bytes", -1, least=-1)
    retries = number_from(environ, "RAY_task_oom_retries", math.nan, least=-1, whole=True)
    return {
        "memory_monitor_period": period,
        "memory_usage_threshold": share,
        "min_memory_free": int(min_free),
        "task_oom_retries": None if math.isnan(retries) else int(retries),
    }


def number_from(
    environ: Mapping[str, str],
    variable: str,
    default: float,
    *,
    least: float = 0,
    most: float = math.inf,
    whole: bool = False,
) -> float:
    """Return the number in a variable, or the default."""
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most or number == math.inf or (whole and number % 1):
        up_to = "" if most == math.inf else f" and <= {most:g}"
        raise ValueError(
            f"the environment variable {variable} must be a {'whole ' if whole else ''}number >= "
            f"{least:g}{up_to}, got {show(text)}: correct it or unset it"
        )
    return number


def flag(environ: Mapping[str, str], variable: str, *, default: bool) -> bool:
    """Return whether a variable says yes, or the default."""
    text = environ.get(variable, "").strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    if text:
        raise ValueError(
            f"the environment variable {variable} must be 1 or 0, got {show(text)}: correct it "
            f"or unset it"
        )
    return default
