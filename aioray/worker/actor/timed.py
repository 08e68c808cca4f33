"""Lets the driver see how calls of an actor get on that have time limits and run side by side.

Room: worker; loaded by the first such call. What it notes is the table in the control page: a row
for each call, taken when it is entered, free again when it has ended. For any thread.
"""

from __future__ import annotations

import struct
import threading
import time
from typing import TYPE_CHECKING

from ...shared.wire import (
    PAGE,
    PAGE_BEATS,
    PAGE_CALLS,
    PAGE_ENTERED,
    PAGE_SEQS,
    PAGE_THREADS,
    PAGE_UNLISTED,
)

if TYPE_CHECKING:
    import mmap

__all__ = ["TimedCalls"]

_DOUBLE = struct.Struct("<d")
_monotonic = time.monotonic


class TimedCalls:
    """The calls in the table of one control page."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page
        self._free = list(range(PAGE_CALLS))
        self._rows: dict[int, int | None] = {}  # by seq; None: there was none for it
        self._lock = threading.Lock()

    def enter(self, seq: int) -> None:
        """Note that this thread enters a call."""
        with self._lock:
            row = self._rows[seq] = self._free.pop() if self._free else None
            if row is None:
                self._count_unlisted()
                return
        at = row * PAGE.size
        _DOUBLE.pack_into(self._page, PAGE_ENTERED + at, _monotonic())
        _DOUBLE.pack_into(self._page, PAGE_BEATS + at, 0.0)
        PAGE.pack_into(self._page, PAGE_THREADS + at, threading.get_ident())
        PAGE.pack_into(self._page, PAGE_SEQS + at, seq)

    def leave(self, seq: int) -> None:
        """Note that a call has ended, if it was entered."""
        with self._lock:
            row = self._rows.pop(seq, None)
            if row is not None:
                PAGE.pack_into(self._page, PAGE_SEQS + row * PAGE.size, 0)
                self._free.append(row)
            else:
                self._count_unlisted()

    def _count_unlisted(self) -> None:
        unlisted = len(self._rows) + len(self._free) - PAGE_CALLS
        PAGE.pack_into(self._page, PAGE_UNLISTED, unlisted)

    def beat(self, seq: int, at: float | None) -> None:
        """Note that a call gets on. at: see `WorkerLoop.beat`."""
        row = self._rows.get(seq)
        if row is not None:
            when = _monotonic() if at is None else at
            _DOUBLE.pack_into(self._page, PAGE_BEATS + row * PAGE.size, when)
