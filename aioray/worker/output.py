"""stdout and stderr of a worker, marked so that the driver knows which attempt wrote what.

Room: child. The descriptors 1 and 2 are pipes to the driver, also for C code and for programs that
a task starts. Python's own streams go through `MarkedFile`, which writes an invisible mark when
another attempt than before writes first. Streams are flushed at the end of an attempt if they hold
something.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from ..wire import OUTPUT_MARK
from .current import place

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["flush", "install"]


class MarkedFile(io.FileIO):
    """A descriptor that announces the attempt before its first output."""

    seq = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, after a mark if the writing attempt has changed."""
        attempt = place.attempt
        view = memoryview(data).cast("B")
        if attempt is not None and attempt.seq != self.seq:
            self.seq = attempt.seq
            mark = b"%b%d;%b\x1b\\" % (OUTPUT_MARK, attempt.seq, attempt.name.encode())
            _write_all(self.fileno(), mark + view.tobytes())
        else:
            _write_all(self.fileno(), view)
        return view.nbytes


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def install() -> None:
    """Replace sys.stdout and sys.stderr."""
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)
    sys.__stdout__ = sys.stdout  # type: ignore[misc]  # typeshed calls it final; it is not
    sys.__stderr__ = sys.stderr  # type: ignore[misc]


def _stream(fd: int) -> io.TextIOWrapper:
    raw = MarkedFile(fd, "w", closefd=False)
    if fd == 2:  # unbuffered: what is said before a crash explains it, also without a newline
        return io.TextIOWrapper(
            raw,  # as `python -u` does it
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def flush() -> None:
    """Send what user code has written and not sent yet."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # replaced or closed by user code
            continue
