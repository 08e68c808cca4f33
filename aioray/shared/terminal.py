"""Progress bars at the bottom of the terminal, with everybody's lines above them.

Room: shared; also used by `aioray.experimental.tqdm_ray` in the driver. One `Display` per process
holds the bars of all workers and of the driver. On a terminal it redraws them as a block below the
last line; where stderr is a file or a pipe it writes a plain line per bar, seldom.

Drawn here and not by tqdm or rich: all that is needed is one line of text per bar and three control
sequences, and whoever draws has to share a lock with whoever prints lines, so that neither tears
the other's. Both libraries want to own the stream, and a thread of their own.

Wart: what the driver itself prints does not come by here, and starts behind the last bar, unless
it is printed with `tqdm_ray.safe_print`. Warnings of aioray do come by, as long as nobody has given
them a handler.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import threading
import time
import unicodedata
from typing import TYPE_CHECKING, Any

from ..core.records import record, replace
from .printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

__all__ = ["Bar", "Display", "display", "parse"]

PLAIN_SECONDS = 5.0  # between two lines about a bar where there is no terminal
BAR_WIDTH = 20  # columns of the bar proper; less where the line is too long
DRIVER = 0  # owner of the driver's own bars; workers' have their pid


@record(frozen=True, slots=True)
class Bar:
    """The state of one bar, as it is to be shown."""

    key: str  # tells bars of one owner apart
    n: float
    total: float | None = None
    desc: str = ""
    unit: str = "it"
    elapsed: float = 0.0  # seconds since it began
    position: int = 0  # among bars of its owner, from the top
    closed: bool = False
    owner: int = DRIVER
    prefix: str = ""
    postfix: str = ""  # more that is to be said, after the rate

    def text(self, columns: int) -> str:
        """Return the bar as a line, at most so many columns wide."""
        desc, unit = printable(self.desc), printable(self.unit)
        head = printable(self.prefix) + (f"{desc}: " if desc else "")
        rate = self.n / self.elapsed if self.elapsed > 0 else 0.0
        speed = f"{rate:.2f}{unit}/s" if self.n else f"?{unit}/s"
        if self.postfix:
            speed += f", {printable(self.postfix)}"
        if not self.total or self.n > self.total:
            tail = f"{_count(self.n)}{unit} [{_clock(self.elapsed)}, {speed}]"
            return _fit(head + tail, columns)
        share = max(0.0, self.n / self.total)
        left = _clock((self.total - self.n) / rate) if rate > 0 else "?"
        head += f"{100 * share:3.0f}%|"
        tail = f"| {_count(self.n)}/{_count(self.total)} [{_clock(self.elapsed)}<{left}, {speed}]"
        width = max(0, min(BAR_WIDTH, columns - _width(head) - _width(tail)))
        full = int(share * width)
        return _fit(f"{head}{'█' * full}{' ' * (width - full)}{tail}", columns)


def parse(state: bytes, *, owner: int, prefix: str) -> Bar | None:
    """Return the bar that a worker describes as JSON; None if that is no description of one."""
    try:
        given: Any = json.loads(state)
        total = given["total"]
        return Bar(
            key=str(given["key"]),
            n=_number(given["n"]),
            total=None if total is None else _number(total),
            desc=str(given["desc"]),
            unit=str(given["unit"]),
            elapsed=_number(given["elapsed"]),
            position=int(_number(given["position"])),
            closed=bool(given["closed"]),
            owner=owner,
            prefix=prefix,
            postfix=str(given.get("postfix", "")),
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        RecursionError,
    ):  # anybody may print anything
        return None


class Display:
    """The bars of this process. All methods may be called from any thread."""

    def __init__(
        self,
        stream: Callable[[], TextIO | None] = lambda: sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.RLock()
        self._bars: dict[tuple[int, str], Bar] = {}  # in the order in which they came
        self._printed: dict[tuple[int, str], float] = {}  # plain lines: when the last was
        self._drawn = 0  # lines of the block that is on the screen now

    def update(self, bar: Bar) -> None:
        """Show this state of a bar, a new one or not; a closed one stays as a line above."""
        key = (bar.owner, bar.key)
        with self._lock, contextlib.suppress(OSError, ValueError):  # the stream may be gone
            known = self._bars
            if bar.closed:
                known.pop(key, None)
                due = True
            else:
                known[key] = bar
                now = self._clock()
                due = now - self._printed.setdefault(key, now) >= PLAIN_SECONDS
                if due:
                    self._printed[key] = now
            stream = self._stream()
            if stream is None:
                return
            if not stream.isatty():
                if due:
                    stream.write(f"{bar.text(200)}\n")
                    stream.flush()
            else:
                self._clear(stream)
                if bar.closed:
                    stream.write(f"{bar.text(_columns(stream))}\n")
                self._draw(stream)
            if bar.closed:
                self._printed.pop(key, None)

    def finish(self, owner: int) -> None:
        """Close the bars of an owner that is gone; what they showed last stays."""
        with self._lock:
            for bar in [bar for bar in self._bars.values() if bar.owner == owner]:
                self.update(replace(bar, closed=True))

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the block off the screen while the body prints whole lines."""
        with self._lock:
            stream = self._stream() if self._drawn else None
            if stream is not None:
                self._clear(stream)
            try:
                yield
            finally:
                if stream is not None:
                    self._draw(stream)

    def _clear(self, stream: TextIO) -> None:
        if self._drawn:
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            stream.write(f"\r{up}\x1b[J")  # to the first line of the block, and erase from there
            stream.flush()
            self._drawn = 0

    def _draw(self, stream: TextIO) -> None:
        columns, rows = _size(stream)
        owners = {owner: at for at, owner in enumerate(dict.fromkeys(o for o, _ in self._bars))}
        bars = sorted(self._bars.values(), key=lambda bar: (owners[bar.owner], bar.position))
        lines = [bar.text(columns) for bar in bars]
        if len(lines) >= rows:  # what scrolls out of the screen could not be erased
            hidden = len(lines) - (rows - 2)
            lines = [*lines[: rows - 2], f"({hidden} more)"]
        if lines:
            _aside.install()
            stream.write("\n".join(lines))
            stream.flush()
        self._drawn = len(lines)


display = Display()
"""The display of this process."""


class _Aside(logging.Handler):
    """Prints warnings of aioray above the bars, if they have no other handler: as logging would."""

    def install(self) -> None:
        """Attach the handler to the logger of aioray. Idempotent."""
        _logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning above the bars, unless another handler does."""
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not self._has_others():
            with display.hidden():
                last.handle(record)

    def _has_others(self) -> bool:
        logger: logging.Logger | None = _logger
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


_logger = logging.getLogger("aioray")
_aside = _Aside()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"no number: {value!r}")
    if not math.isfinite(value):
        raise ValueError("no count")
    return value


def _columns(stream: TextIO) -> int:
    return _size(stream)[0]


def _size(stream: TextIO) -> tuple[int, int]:
    """Return the columns that a line may fill without wrapping, and the rows."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, rows = 80, 24
    return max(20, (columns or 80) - 1), max(4, rows or 24)


def _width(text: str) -> int:
    return sum(_columns_of(c) for c in text)


def _columns_of(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fit(text: str, columns: int) -> str:
    if _width(text) <= columns:
        return text
    kept = ""
    for character in text:
        columns -= _columns_of(character)
        if columns < 0:
            break
        kept += character
    return kept


def _count(number: Any) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(min(max(seconds, 0.0), 3_600_000.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
