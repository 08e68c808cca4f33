"""How numbers are written by the commands that people watch: sizes, spans, moments.

Room: facade.
"""

from __future__ import annotations

import time

__all__ = ["UNITS", "moment", "size", "span"]

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
"""What Ray's `--units` means."""


def size(count: float) -> str:
    """Bytes, as `ray status` writes them: 11.44MiB."""
    if count < 2**10:
        return f"{int(count)}B"
    for unit, most in (("KiB", 2**20), ("MiB", 2**30), ("GiB", 2**40)):
        if count < most:
            return f"{count / (most >> 10):.2f}{unit}"
    return f"{count / 2**40:.2f}TiB"


def span(seconds: float) -> str:
    """How long something takes: 0.3s, 42s, 5:07, 1:00:00, 2d 1:00:00."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{int(seconds)}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if not (hours or days):
        return f"{minutes}:{rest:02}"
    return (f"{days}d " if days else "") + f"{hours}:{minutes:02}:{rest:02}"


def moment(unix: float) -> str:
    """A local time of day, with its date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))
