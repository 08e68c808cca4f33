"""What the commands that people watch share: how numbers are written, how full the store is.

Room: cli.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from aioray.state.folders import OBJECTS, check_ours

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from aioray.state.read.view import View

__all__ = ["UNITS", "StoreUse", "moment", "session_name", "size", "span", "store_use"]

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
"""What Ray's `--units` means."""


def size(count: float) -> str:
    """Write a number of bytes as `ray status` does: 11.44MiB."""
    if count < 2**10:
        return f"{int(count)}B"
    for unit, most in (("KiB", 2**20), ("MiB", 2**30), ("GiB", 2**40)):
        if count < most:
            return f"{count / (most >> 10):.2f}{unit}"
    return f"{count / 2**40:.2f}TiB"


def span(seconds: float) -> str:
    """Write how long something takes: 0.3s, 42s, 5:07, 1:00:00, 2d 1:00:00."""
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
    """Write a Unix time as the local time of day, with its date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))


class StoreUse(NamedTuple):
    """How full the object store is, in bytes."""

    used: int  # of shared memory
    capacity: int  # of that
    on_disk: int  # besides


def store_use(view: View) -> StoreUse:
    """Measure the store of a living session. Counts its files here, to save the driver the work."""
    store = view.live.get("store", {})
    on_disk = 0
    if view.session is not None:
        folder = os.path.join(view.session.folder, OBJECTS)
        with contextlib.suppress(OSError):
            check_ours(folder, stat.S_IFDIR)
            with os.scandir(folder) as files:
                for file in files:
                    with contextlib.suppress(OSError):  # gone this moment
                        on_disk += file.stat(follow_symlinks=False).st_size
    return StoreUse(store.get("used", 0), store.get("capacity", 0), on_disk)


def session_name(view: View) -> str:
    """Return the name of the session that is looked at."""
    return str(view.meta["session"]) if view.session is None else view.session.name
