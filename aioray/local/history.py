"""The history of a session in local mode: kept in memory, and written when somebody asks.

Room: local. A `HistoryWriter` without a thread; what it is told to do it does at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..state.write.writer import HistoryWriter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InlineWriter"]

WAITING = 10_000  # attempts that are kept as they come, before they are written


class _Told(deque[tuple[Any, ...]]):
    """Rows of attempts that have failed, made texts at once: an error is not to be held by them."""

    def __init__(self, writer: InlineWriter, most: int | None) -> None:
        super().__init__(maxlen=most)
        self._writer = writer

    def append(self, row: tuple[Any, ...]) -> None:
        """Add a row."""
        self._writer._do_safely(
            "tell of an error", lambda: super(_Told, self).append(self._writer.finish_row(row))
        )


class InlineWriter(HistoryWriter):
    """Writes one session's history in whatever thread wants to know of it."""

    _is_open = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Take what `HistoryWriter` takes."""
        super().__init__(*args, **settings)
        self.failed = _Told(self, self.failed.maxlen)
        self.retried = _Told(self, self.retried.maxlen)

    def _finished(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return rows

    def start(self) -> None:
        """Start nothing."""
        self._writing = threading.RLock()

    def wake(self) -> None:
        """Write what there is if it has become much, or somebody listens."""
        if self.listeners or len(self.done) > WAITING or len(self.failed) > WAITING:
            self.do(self._flush)

    def do(self, job: Callable[[], None]) -> None:
        """Do a job now."""
        with self._writing:
            if not self._is_open:
                self._is_open = True
                self._begin()
            self._do_safely("answer", job)

    def close(self) -> None:
        """Let go of everything."""
        with self._writing:
            if self._is_open and self.listeners:
                self._do_safely("end", self._flush)
            if self._is_open:
                self._do_safely("end", self._history_of().finish)
            os.close(self._doorbell)
