"""What reaches a worker whatever it is doing: signals; and what can be seen of it without asking.

Room: engine. The control page and the file of stacks are memory that both processes have mapped, or
open, see `aioray.shared.wire`.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import struct
from typing import TYPE_CHECKING

from ...shared.wire import (
    PAGE,
    PAGE_DELIVERED,
    PAGE_INTERRUPT,
    PAGE_RUNNING,
    PAGE_SIZE,
    PAGE_STARTED,
    STACK_SIGNAL,
)

if TYPE_CHECKING:
    import mmap

__all__ = ["Control"]

STACK_LIMIT = 64 * 1024  # bytes of a dying worker's stack that are read
_DOUBLE = struct.Struct("<d")


class Control:
    """The part of a handle that sends signals and looks at the page."""

    pid: int | None
    pidfd: int | None
    closed: bool
    kill_ordered: bool
    page: mmap.mmap
    page_fd: int
    stacks_fd: int
    _stack_is_due: bool

    def interrupt(self, seq: int) -> None:
        """SIGINT for this attempt, unless its function has got it already."""
        if PAGE.unpack_from(self.page, PAGE_DELIVERED)[0] != seq:
            PAGE.pack_into(self.page, PAGE_INTERRUPT, seq)
            self._signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL; if the process is not forked yet, as soon as it is."""
        self.kill_ordered = True
        self._signal(signal.SIGKILL)

    def abort(self) -> None:
        """SIGABRT, at which it writes where it is; no death that can be relied on."""
        self._signal(signal.SIGABRT)

    def ask_stack(self) -> bool:
        """Have it write its stacks; False if it cannot, as it has not begun yet or is dead."""
        if self.pidfd is None or self.closed or not os.fstat(self.stacks_fd).st_size:
            return False
        if not self._stack_is_due:  # else what was asked for before has not come yet
            self._stack_is_due = True
            os.ftruncate(self.stacks_fd, 1)
            self._signal(STACK_SIGNAL)
        return True

    def read_stack(self) -> bytes:
        """What it has written of that so far."""
        return b"" if self.closed else os.pread(self.stacks_fd, 16 * STACK_LIMIT, 1)

    def took_stack(self) -> None:
        """It was whole."""
        self._stack_is_due = False

    def kill_group(self) -> None:
        """Kill what the worker has started, when there is no template to do it."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    # ------------------------------------------------------------ what the page tells

    def running(self) -> tuple[int, float] | None:
        """The attempt that it works on and since when, or None."""
        seq: int = PAGE.unpack_from(self.page, PAGE_RUNNING)[0]
        started: float = _DOUBLE.unpack_from(self.page, PAGE_STARTED)[0]
        # User code might have written there.
        return (seq, started) if seq and math.isfinite(started) else None

    def python_stack(self) -> str:
        """What faulthandler wrote when a fatal signal came; empty if none did."""
        try:
            found = os.pread(self.page_fd, STACK_LIMIT, PAGE_SIZE)
        except OSError:
            return ""
        return found.partition(b"\0")[0].decode(errors="replace").strip()
