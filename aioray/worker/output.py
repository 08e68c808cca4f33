"""stdout and stderr of a worker, marked so that the driver knows which attempt wrote what.

Room: worker. The descriptors 1 and 2 are pipes to the driver, also for C code and for programs that
a task starts. An invisible mark goes ahead of what another attempt than before writes: through
Python's own streams (`MarkedFile`), by `os.write`, or by a process that it starts. For the latter
some functions of `os` announce the attempt first; an audit hook would do too, but slows every
unpickling. What an actor prints bears its own name. Streams are flushed at the end of an attempt if
they hold something.

Where one attempt runs at a time a mark is written only when it changes. Where several may write,
in an actor whose calls run side by side, in threads and in forked children, every piece is between
marks of its own and so small that the pipe takes it whole; unfinished lines are held for each call.

What nothing announces goes to the attempt that was announced last: what C code prints by itself,
if its attempt has said nothing before and is known to be short (see `loop`); what a program prints
that outlives the attempt, or beside which another call of the actor starts one. A thread that a
call of a concurrent actor has started belongs to no call.
"""

from __future__ import annotations

import io
import os
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..client.current import execution_context
from ..shared.printable import printable
from ..shared.wire import (
    LONGEST_MARK,
    LONGEST_NAME,
    OUTPUT_MARK,
    OUTPUT_MARK_BACK,
    OUTPUT_MARK_END,
    PROGRESS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer

    from .replacements import Replacements

__all__ = ["announce", "flush", "install", "send_progress", "share", "wrap"]

_STARTERS = ("execv", "execve", "posix_spawn", "posix_spawnp", "system")
_write, _writev = os.write, os.writev
_main = 0  # the thread that runs attempts
_is_shared = False  # several may write at a time
_is_copy = False  # this process is not the worker itself


class MarkedFile(io.FileIO):
    """A descriptor that announces the attempt before its first output."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.fd = fd
        self.seq = 0  # that was announced last; 0: none
        self._pipe = _identity(fd)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, after a mark if the writing attempt may have changed."""
        view = memoryview(data).cast("B")
        attempt = execution_context.attempt
        if _is_shared or (get_ident() != _main and attempt is not None):
            self.describe(_seq(), _name(), view)
        elif attempt is not None and attempt.seq != self.seq and self._is_ours():
            _write_all(self.fd, _mark(attempt.seq, _name()) + view.tobytes())
            self.seq = attempt.seq  # not before: an interrupt may come between
        else:
            _write_all(self.fd, view)
        return view.nbytes

    def describe(self, seq: int, name: str, view: memoryview) -> None:
        """Write all of `view` in pieces that nobody's can tear, with a mark each."""
        if not self._is_ours():
            _write_all(self.fd, view)
            return
        mark = _mark(seq, name, b"+")
        size = LONGEST_MARK - len(mark) - len(OUTPUT_MARK_BACK)
        for start in range(0, len(view), size):
            piece = view[start : start + size].tobytes()
            _write_all(self.fd, mark + piece + OUTPUT_MARK_BACK)

    def announce(self) -> None:
        """Say who writes next, past this file."""
        attempt = execution_context.attempt
        if attempt is None or _is_copy:
            return
        if (_is_shared or attempt.seq != self.seq) and self._is_ours():
            _write_all(self.fd, _mark(attempt.seq, _name()))
            self.seq = attempt.seq

    def show_progress(self, state: bytes) -> None:
        """Write the mark of a progress bar, in one piece."""
        if not self.closed and self._is_ours():
            self.announce()
            _write_all(self.fd, b"%b%b;%b%b" % (OUTPUT_MARK, PROGRESS, state, OUTPUT_MARK_END))

    def _is_ours(self) -> bool:
        """Tell whether the descriptor still is the pipe: user code may put a file in its place."""
        return self._pipe is not None and _identity(self.fd) == self._pipe


class _Text(io.TextIOWrapper):
    """A stream of Python's own."""


class _SharedText(_Text):
    """A stream of Python's own where several attempts run: each has its own unfinished line."""

    raw: MarkedFile
    held: dict[tuple[int, int], str]  # by thread and seq

    @property
    def buffer(self) -> Any:
        """The file for bytes, which holds none back: it would not know whose they are."""
        return self.raw

    def write(self, text: str, /) -> int:
        """Write whole lines, and hold the last if it is unfinished and sys.stdout's."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        key = get_ident(), _seq()
        line = self.held.pop(key, "") + text
        ready = len(line)
        if self.line_buffering:
            ready = line.rfind("\n") + 1
            if len(line) - ready > io.DEFAULT_BUFFER_SIZE:
                ready = len(line)
        if ready < len(line):
            self.held[key] = line[ready:]
        if ready:
            self._send(key[1], line[:ready])
        return len(text)

    def flush(self) -> None:
        """Write what the asking call has left unfinished; what all have, if none asks."""
        seq = _seq()
        for key in list(self.held):
            if key[1] == seq or seq == 0:
                self._send(key[1], self.held.pop(key, ""))

    def _send(self, seq: int, text: str) -> None:
        data = text.encode(self.encoding, self.errors or "strict")
        self.raw.describe(seq, _name(), memoryview(data))


def _seq() -> int:
    attempt = execution_context.attempt
    return 0 if attempt is None else attempt.seq


def _name() -> str:
    """Return the name that stands before the lines."""
    if execution_context.actor is not None:
        return execution_context.actor.shown
    attempt = execution_context.attempt
    return "worker" if attempt is None else attempt.name


def _mark(seq: int, name: str, kind: bytes = b"") -> bytes:
    shown = printable(name).encode()[:LONGEST_NAME]  # with an escape in it, it would be no mark
    return b"%b%b%d;%b%b" % (OUTPUT_MARK, kind, seq, shown, OUTPUT_MARK_END)


def _identity(fd: int) -> tuple[int, int] | None:
    """Identify the file behind a descriptor; None: there is none."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[_write(fd, view) :]


_stdout: MarkedFile
_stderr: MarkedFile


def send_progress(state: bytes) -> None:
    """Tell the driver the state of a progress bar: JSON in ASCII, shorter than a mark may be.

    Past the buffer of sys.stdout, which may hold a part of a line and may be replaced.
    """
    _stdout.show_progress(state)


def announce() -> None:
    """Have what others write into our descriptors from now on counted as the asking attempt's."""
    _stdout.announce()
    _stderr.announce()


def install() -> None:
    """Replace sys.stdout and sys.stderr; `wrap` says what is done about what writes past them."""
    global _stdout, _stderr, _main
    _main = get_ident()
    _stdout, _stderr = MarkedFile(1), MarkedFile(2)
    sys.stdout = _Text(
        io.BufferedWriter(_stdout),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    # Unbuffered: what is said before a crash explains it, also without a newline.
    sys.stderr = _Text(
        _stderr,  # as `python -u` does it
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
    sys.__stdout__ = sys.stdout  # type: ignore[misc]  # typeshed calls it final; it is not
    sys.__stderr__ = sys.stderr  # type: ignore[misc]
    os.register_at_fork(before=announce, after_in_child=_become_a_copy)


def share() -> None:
    """Let several attempts, which run at a time from now on, write side by side."""
    global _is_shared
    _is_shared = True
    for stream, raw in ((sys.__stdout__, _stdout), (sys.__stderr__, _stderr)):
        if type(stream) is _Text and not stream.closed:
            stream.flush()
            stream.__class__ = _SharedText
            assert isinstance(stream, _SharedText)
            stream.raw, stream.held = raw, {}


def wrap(functions: Replacements) -> None:
    """Have what writes or starts processes past the streams announce the attempt."""
    for name in _STARTERS:
        functions.wrap("os", name, _announcing)
    functions.wrap("_posixsubprocess", "fork_exec", _announcing)
    functions.wrap("os", "write", lambda _: _write_announced)
    functions.wrap("os", "writev", lambda _: _writev_announced)


def _announcing(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        announce()
        return function(*args, **kwargs)

    return wrapper


def _write_announced(fd: int, data: ReadableBuffer, /) -> int:
    if fd == 1:
        return _stdout.write(data)
    if fd == 2:
        return _stderr.write(data)
    return _write(fd, data)


def _writev_announced(fd: int, buffers: Sequence[ReadableBuffer], /) -> int:
    if fd in (1, 2):
        announce()
    return _writev(fd, buffers)


def _become_a_copy() -> None:
    """Mark every piece, in a process that an attempt has forked: the worker goes on to others."""
    global _is_shared, _is_copy
    _is_shared = _is_copy = True


def flush() -> None:
    """Send what user code has written and not sent yet."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # replaced or closed by user code
            continue
