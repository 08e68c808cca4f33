"""Weighs a worker between two attempts, and tells the driver when it keeps too much memory.

Room: worker; loaded where `max_worker_rss` is set. What an attempt needs while it runs is none of
this: the worker looks when it has let go of all of it. The driver then starts a successor.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..client.current import execution_context
from ..shared.wire import NOTE_OUTGROWN, NUMBER

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["PERIOD", "Scales"]

PERIOD = 0.25  # seconds between two looks, at least

_PAGE = os.sysconf("SC_PAGE_SIZE")
_monotonic = time.monotonic


class Scales:
    """What weighs this process."""

    def __init__(self, limit: int, channel: Channel) -> None:
        """Prepare to look. limit: bytes that the process may keep for itself."""
        self._limit = limit
        self._channel = channel
        self._due = 0.0

    def weigh(self) -> None:
        """Look, if that is due, and tell the driver of too much; again at each look."""
        now = _monotonic()
        if now < self._due or execution_context.actor is not None:
            return
        self._due = now + PERIOD
        weight = own_memory()
        if weight > self._limit:
            self._channel.note(NOTE_OUTGROWN, NUMBER.pack(weight))


def own_memory() -> int:
    """Return how many bytes of memory are this process's own: no files, and nothing shared."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
    except OSError:  # no descriptor is left, or no /proc
        return 0
    return (int(resident) - int(shared)) * _PAGE
