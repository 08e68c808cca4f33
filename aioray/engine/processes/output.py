"""What workers print: kept for the history, and brought to the driver's own streams line by line.

Room: engine. `LineReader` takes the bytes of one stream of one worker apart: marks say which
attempt writes, or what a progress bar shows (see `wire.OUTPUT_MARK`). Whoever keeps output gets all
other bytes as they were written, with the attempt's number. For the terminal they become lines with
a `(name pid=…)` prefix; a line that has not ended for a while is shown as far as it goes. `Printer`
writes those from a thread of its own, so that a slow terminal never holds up the loop, and folds
equal lines of several workers (see `folding`).

What begins like a mark and is none is the user's. Of a mark that the end of the stream has cut off
nobody knows whose it is, so it counts as output.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import queue
import re
import sys
import threading
import time
from typing import TYPE_CHECKING

from ...core.records import NamedTuple
from ...shared.printable import printable
from ...shared.wire import LONGEST_MARK, OUTPUT_MARK, OUTPUT_MARK_END, PROGRESS
from .folding import LineFolder

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from contextvars import Context

__all__ = ["LineReader", "Printer", "print_in"]

READ_SIZE = 64 * 1024
TAIL_LINES = 20  # kept to explain a death
LONGEST_LINE = 1024 * 1024  # bytes; a longer one is printed in parts
UNFINISHED_SECONDS = 1.0  # after which a line without an end is printed, and at most twice that
FLUSH_SECONDS = 5.0  # that the end of a program, or a cell, waits for a reader that does not read
_CONTENT = re.compile(rb"(\+?[0-9]+|-|%b);(.*)" % PROGRESS, re.DOTALL)  # of a mark
_CYAN, _PLAIN = "\x1b[36m", "\x1b[0m"

_context: Context | None = None  # in which lines are printed; None: in that of the printing thread


def print_in(context: Context) -> None:
    """Have lines printed in this context from now on: in a notebook that says whose they are."""
    global _context
    _context = context


class Printer:
    """Writes lines to sys.stdout and sys.stderr, in order, from one thread."""

    def __init__(self, *, prefixes: bool = True) -> None:
        """Start nothing yet. Raises ValueError for variables of the environment that are wrong.

        prefixes: whether each line begins with who has written it.
        """
        self.prefixes = prefixes
        self.silent = False  # once it is set, nothing more is printed
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._with_bars: set[int] = set()  # pids of workers
        self._folder = LineFolder.from_environment(os.environ)

    def write(self, pid: int, prefix: str, lines: Sequence[str], *, to_stderr: bool) -> None:
        """Have lines of the worker `pid` printed soon, each after `prefix`."""
        if not self.silent:
            self._do(functools.partial(self._write, pid, prefix, lines, to_stderr=to_stderr))

    def _write(self, pid: int, prefix: str, lines: Sequence[str], *, to_stderr: bool) -> None:
        _print(self._folder.fold(pid, prefix, lines, time.monotonic(), to_stderr=to_stderr))

    def show_progress(self, pid: int, prefix: str, state: bytes) -> None:
        """Have a bar of this worker drawn as it says that it is."""
        try:
            from ...shared.terminal import display, parse  # few programs draw bars
        except OSError:  # for want of a descriptor: it is drawn when it is told of again
            return
        bar = parse(state, owner=pid, prefix=prefix)
        if bar is not None:
            self._with_bars.add(pid)
            self._do(functools.partial(display.update, bar))

    def end_progress(self, pid: int) -> None:
        """Finish the bars of a worker that draws no more."""
        if pid in self._with_bars:
            from ...shared.terminal import display

            self._with_bars.remove(pid)
            self._do(functools.partial(display.finish, pid))

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="aioray-output", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # since 3.12, when the program is at its end
                job()
                return
            self._thread = thread
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            deadline = self._folder.deadline()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                job = self._jobs.get(timeout=left)
            except queue.Empty:
                _do_in_context(self._end_windows)
                continue
            if job is None:
                return
            _do_in_context(job)

    def close(self) -> None:
        """Print what is left and end the thread."""
        for pid in list(self._with_bars):
            self.end_progress(pid)
        if self._thread is None:
            self._flush()
            return
        self._jobs.put(self._flush)
        self._jobs.put(None)
        self._thread.join(FLUSH_SECONDS)
        self._thread = None

    def flush(self, done: Callable[[], None]) -> None:
        """Print what has come until now, and what is held back; then call `done`."""
        if self._thread is None:
            done()
            return
        self._jobs.put(self._flush)
        self._jobs.put(done)

    def _end_windows(self) -> None:
        """Print what was held back, and whose time has come."""
        _print(self._folder.due(time.monotonic()))

    def _flush(self) -> None:
        """Print what is held back."""
        _print(self._folder.due(math.inf))


def _do_in_context(job: Callable[[], None]) -> None:
    if _context is None:
        job()
    else:
        _context.copy().run(job)  # a copy, because several threads may print


def _print(lines: list[tuple[str, bool]]) -> None:
    """Print lines, each with whether it is for stderr; those that follow each other in one go."""
    terminal = sys.modules.get("aioray.shared.terminal")  # else there are no bars
    hidden = contextlib.nullcontext if terminal is None else terminal.display.hidden
    for to_stderr, some in itertools.groupby(lines, lambda line: line[1]):
        stream = sys.stderr if to_stderr else sys.stdout
        # The program's stream may be closed or gone; its workers' lines have no other place.
        with contextlib.suppress(OSError, ValueError, AttributeError), hidden():
            stream.write("".join(text for text, _ in some))
            stream.flush()


class _Writer(NamedTuple):
    seq: int  # of the attempt; 0: none
    name: str


class LineReader:
    """One stream of one worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        pid: int,
        printer: Printer | None,
        keep: Callable[[int, int, bytes], None] | None = None,
        *,
        to_stderr: bool,
    ) -> None:
        """Listen to `fd`.

        printer: takes the lines; None: nobody does. keep: called with the seq of the attempt that
        has written (0: none has been announced yet), the stream (1 or 2) and the bytes, as they
        come: parts of lines, or many lines.
        """
        self.loop = loop
        self.fd = fd
        self.pid = pid
        self.printer = printer
        self.keep = keep
        self.to_stderr = to_stderr
        self.stream = 2 if to_stderr else 1
        self.tail: list[str] = []
        self._writer = self._announced = self._writer_of_rest = _Writer(0, "worker")
        self._shows_lines = printer is not None or to_stderr  # whose last ones explain a death
        self._begun = b""  # maybe a mark
        self._rest = b""  # of a line
        self._lines = 0  # that have ended
        self._timer: asyncio.TimerHandle | None = None  # until a line without an end is printed
        loop.add_reader(fd, self.read)

    def read(self) -> None:
        """Take the output that there is now."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self.loop.remove_reader(self.fd)
            self._emit_rest()
            return
        self._take(data)

    def finish(self) -> None:
        """Take all output that there is, and stop listening: the worker is dead."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, READ_SIZE):
                self._take(data)
        self._emit_rest()
        self.loop.remove_reader(self.fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, data: bytes) -> None:
        """Tell marks from output."""
        data = self._begun + data
        at = 0
        while (mark := data.find(OUTPUT_MARK, at)) >= 0:
            end = data.find(OUTPUT_MARK_END, mark, mark + LONGEST_MARK)
            if end < 0 and len(data) - mark < LONGEST_MARK:
                break  # it is not complete
            content = data[mark + len(OUTPUT_MARK) : end] if end >= 0 else b""
            found = None if b"\x1b" in content else _CONTENT.fullmatch(content)
            if found is None:
                beyond = mark + len(OUTPUT_MARK)
                self._output(data[at:beyond])
                at = beyond
                continue
            self._output(data[at:mark])
            at = end + len(OUTPUT_MARK_END)
            self._obey(*found.groups())
        if mark < 0:
            mark = len(data) - _begun_mark(data, at)
        self._output(data[at:mark])
        self._begun = data[mark:]

    def _obey(self, kind: bytes, name: bytes) -> None:
        """Do what a mark says."""
        if kind == PROGRESS:  # maybe within a line
            if self.printer is not None:
                self.printer.show_progress(self.pid, f"({self._writer.name} pid={self.pid}) ", name)
        elif kind == b"-":
            self._writer = self._announced
        else:
            self._writer = _Writer(int(kind), printable(name.decode(errors="replace")))
            if not kind.startswith(b"+"):
                self._announced = self._writer

    def _output(self, data: bytes) -> None:
        if not data:
            return
        if self.keep is not None:
            self.keep(self._writer.seq, self.stream, data)
        if not self._shows_lines:
            return
        if self._writer != self._writer_of_rest:
            self._end_line()
            self._writer_of_rest = self._writer
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._rest = rest
        self._lines += len(lines)
        self._print(lines)
        if rest and self._timer is None and self.printer is not None:
            self._print_later()

    def _print_later(self) -> None:
        """Have what there is of a line printed, if it has no end by then."""
        self._timer = self.loop.call_later(UNFINISHED_SECONDS, self._look_at_line, self._lines)

    def _look_at_line(self, lines: int) -> None:
        self._timer = None
        if self._rest and lines == self._lines:
            self._end_line()
        elif self._rest:
            self._print_later()

    def _end_line(self) -> None:
        """Print what there is of a line."""
        rest, self._rest = self._rest, b""
        if rest:
            self._lines += 1
            self._print([rest])

    def _emit_rest(self) -> None:
        if self.printer is not None:
            self.printer.end_progress(self.pid)
        begun, self._begun = self._begun, b""
        self._output(begun)
        self._end_line()

    def _print(self, pieces: list[bytes]) -> None:
        if not pieces:
            return
        lines = [piece.decode(errors="backslashreplace") for piece in pieces]
        self.tail = [*self.tail, *lines[-TAIL_LINES:]][-TAIL_LINES:]
        if self.printer is not None:
            prefix = self._prefix(self._writer_of_rest.name)
            self.printer.write(self.pid, prefix, lines, to_stderr=self.to_stderr)

    def _prefix(self, name: str) -> str:
        assert self.printer is not None
        disabled = os.environ.get("RAY_DISABLE_WORKER_LOG_PREFIX") == "1"
        if disabled or not self.printer.prefixes:
            return ""
        text = f"({name} pid={self.pid})"
        stream = sys.stderr if self.to_stderr else sys.stdout
        colour = os.environ.get("RAY_COLOR_PREFIX", "") != "0" and "NO_COLOR" not in os.environ
        try:
            colour = colour and stream.isatty()
        except (AttributeError, ValueError):
            colour = False
        return f"{_CYAN}{text}{_PLAIN} " if colour else f"{text} "


def _begun_mark(data: bytes, start: int) -> int:
    """Count the bytes at the end of `data`, of those from `start` on, that may begin a mark."""
    for size in range(min(len(OUTPUT_MARK) - 1, len(data) - start), 0, -1):
        if data.endswith(OUTPUT_MARK[:size]):
            return size
    return 0
