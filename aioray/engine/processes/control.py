"""What can be known of a worker without its help, and said to it before a signal.

Room: engine. The control page and the file of stacks are memory that both processes have mapped, or
open, see `aioray.shared.wire`. Signals themselves are the handle's to send.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import struct
from typing import Any

from ...shared import linux
from ...shared.chunks import left_in_page
from ...shared.wire import (
    PAGE,
    PAGE_BEAT,
    PAGE_BEATS,
    PAGE_BEGUN,
    PAGE_DELIVERED,
    PAGE_ENTERED,
    PAGE_GROUPS,
    PAGE_INTERRUPT,
    PAGE_RUNNING,
    PAGE_SEQS,
    PAGE_SIZE,
    PAGE_STARTED,
    PAGE_THREADS,
    PAGE_UNLISTED,
)

__all__ = ["ControlPage", "StackFile"]

STACK_LIMIT = 64 * 1024  # bytes of a dying worker's stack that are read
_DOUBLE = struct.Struct("<d")


class ControlPage:
    """The page of memory that the driver and one worker share, see PAGE_ in `aioray.shared.wire`.

    User code can write there too, so nothing is relied on but its size.
    """

    def __init__(self, fd: int) -> None:
        """Map a memory file, which the page owns from now on. Raises OSError."""
        self.fd = fd
        self._memory = mmap.mmap(fd, PAGE_SIZE)

    @staticmethod
    def create_file() -> int:
        """Create the memory file of a page, and of the stack behind it. Raises OSError."""
        # Of a fixed size: the driver would die of looking at a page that was cut off.
        return linux.sealed_memory_file("aioray-page", PAGE_SIZE + STACK_LIMIT)

    def order_interrupt(self, seq: int) -> bool:
        """Name the attempt that is to be interrupted; False if its function was already."""
        if PAGE.unpack_from(self._memory, PAGE_DELIVERED)[0] == seq:
            return False
        PAGE.pack_into(self._memory, PAGE_INTERRUPT, seq)
        return True

    def running(self) -> tuple[int, float] | None:
        """Return the attempt that the worker works on and since when, or None."""
        seq: int = PAGE.unpack_from(self._memory, PAGE_RUNNING)[0]
        started: float = _DOUBLE.unpack_from(self._memory, PAGE_STARTED)[0]
        return (seq, started) if seq and math.isfinite(started) else None

    def progress(self, seq: int) -> tuple[float | None, float]:
        """Return when an attempt was entered, and when it said last that it gets on.

        None: it was not. 0.0: nobody knows when; and it said nothing.
        """
        memory = self._memory
        beat = self._number(PAGE_BEAT)
        running = self.running()
        if running is not None and running[0] == seq:
            return running[1], beat
        row = self._row(seq)
        if row is not None:
            entered = self._number(PAGE_ENTERED + row)
            return entered, max(beat, self._number(PAGE_BEATS + row))
        return (0.0 if PAGE.unpack_from(memory, PAGE_UNLISTED)[0] else None), beat

    def thread(self, seq: int) -> int:
        """Return the thread that runs a call of an actor; 0: the main one."""
        row = self._row(seq)
        found: int = 0 if row is None else PAGE.unpack_from(self._memory, PAGE_THREADS + row)[0]
        return found

    def begun(self) -> tuple[int, ...]:
        """Return the calls that were begun last, by concurrency group of an asynchronous actor."""
        return struct.unpack_from(f"<{PAGE_GROUPS}Q", self._memory, PAGE_BEGUN)

    def _row(self, seq: int) -> int | None:
        """Find a call in the table: how far its row is from the first."""
        sought, at = PAGE.pack(seq), PAGE_SEQS
        while (at := self._memory.find(sought, at, PAGE_ENTERED)) >= 0:
            if at % PAGE.size == 0:
                return at - PAGE_SEQS
            at += 1
        return None

    def _number(self, at: int) -> float:
        """Return a time from the page, 0.0 instead of what is none."""
        found: float = _DOUBLE.unpack_from(self._memory, at)[0]
        return 0.0 if math.isnan(found) else found

    def last_news(self) -> tuple[tuple[Any, ...], ...]:
        """Return what a dead worker had no time to tell of the items of its chunk."""
        return left_in_page(self._memory)

    def fatal_stack(self) -> str:
        """Return what faulthandler wrote when a fatal signal came; empty if none did."""
        try:
            found = os.pread(self.fd, STACK_LIMIT, PAGE_SIZE)
        except OSError:
            return ""
        return found.partition(b"\0")[0].decode(errors="replace").strip()

    def close(self) -> None:
        """Unmap the page and close its file."""
        self._memory.close()
        os.close(self.fd)


class StackFile:
    """The memory file to which one worker writes its stacks at STACK_SIGNAL."""

    def __init__(self, fd: int) -> None:
        """Read from this memory file, which belongs to this object from now on."""
        self.fd = fd
        self._is_due = False  # stacks were asked for, and not seen whole

    @staticmethod
    def create_file() -> int:
        """Create the memory file for stacks. Raises OSError."""
        fd = os.memfd_create("aioray-stacks")
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)  # the worker's end is the same file
        return fd

    def is_ready(self) -> bool:
        """Return whether the worker has begun to take the signal."""
        return os.fstat(self.fd).st_size > 0

    def expect(self) -> bool:
        """Make room for new stacks; False if those asked for before have not come yet."""
        if self._is_due:
            return False
        self._is_due = True
        os.ftruncate(self.fd, 1)
        return True

    def read(self) -> bytes:
        """Return what the worker has written of its stacks so far."""
        return os.pread(self.fd, 16 * STACK_LIMIT, 1)

    def end(self) -> None:
        """Expect no more of the stacks that were asked for: they were whole."""
        self._is_due = False

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
