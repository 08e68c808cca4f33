"""stdout and stderr of a worker, marked so that the driver knows which attempt wrote what.

Room: child. The descriptors 1 and 2 are pipes to the driver, also for C code and for programs that
a task starts. Python's own streams go through `MarkedFile`, which writes an invisible mark when
another attempt than before writes first; what an actor prints bears its own name. Streams are
flushed at the end of an attempt if they hold something.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from ..wire import OUTPUT_MARK, OUTPUT_MARK_END, PROGRESS
from .current import place

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["flush", "install", "send_progress"]


class MarkedFile(io.FileIO):
    """A descriptor that announces the attempt before its first output."""

    seq = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, after a mark if the writing attempt has changed."""
        attempt = place.attempt
        view = memoryview(data).cast("B")
        if attempt is not None and attempt.seq != self.seq:
            self.seq = attempt.seq
            actor = place.actor
            name = (attempt.name if actor is None else actor.shown).encode(errors="replace")
            mark = b"%b%d;%b%b" % (OUTPUT_MARK, attempt.seq, name, OUTPUT_MARK_END)
            _write_all(self.fileno(), mark + view.tobytes())
        else:
            _write_all(self.fileno(), view)
        return view.nbytes


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


_raw_stdout: MarkedFile | None = None


def send_progress(state: bytes) -> None:
    """Tell the driver the state of a progress bar: JSON in ASCII, shorter than PIPE_BUF.

    Past the buffer of sys.stdout, which may hold a part of a line and may be replaced.
    """
    assert _raw_stdout is not None
    with contextlib.suppress(OSError, ValueError):  # closed by user code
        _raw_stdout.write(b"%b%b;%b%b" % (OUTPUT_MARK, PROGRESS, state, OUTPUT_MARK_END))


def install() -> None:
    """Replace sys.stdout and sys.stderr."""
    global _raw_stdout
    _raw_stdout = MarkedFile(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_raw_stdout),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    # Unbuffered: what is said before a crash explains it, also without a newline.
    sys.stderr = io.TextIOWrapper(
        MarkedFile(2, "w", closefd=False),  # as `python -u` does it
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
    sys.__stdout__ = sys.stdout  # type: ignore[misc]  # typeshed calls it final; it is not
    sys.__stderr__ = sys.stderr  # type: ignore[misc]


def flush() -> None:
    """Send what user code has written and not sent yet."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # replaced or closed by user code
            continue
