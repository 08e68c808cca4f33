"""Folds equal lines of several workers into one that says how often it came.

Room: engine; no I/O and no clock. A line is printed at once the first time. When another process
prints the same within the window, that is held back and counted, and at the end of the window the
last of them comes with "[repeated 9x across cluster]". What one process prints again and again is
never folded. Lines are the same if they differ in numbers only, hexadecimal ones included; what
consists of numbers alone is data, and never folded. Nothing is lost: the history has every byte.

Source: Ray, "Configuring Logging", log deduplication, with its environment variables. Ray holds
lines until the next one comes; here the window ends by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...core.records import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LineFolder"]

WINDOW_SECONDS = 5.0
MOST_LINES = 10_000  # that are remembered
_VARYING = re.compile(r"\b(?:0[xX])?[0-9a-fA-F]*[0-9][0-9a-fA-F]*\b|[0-9]+")
_NOTE = (
    " (aioray folds equal lines of several workers. RAY_DEDUP_LOGS=0 prints them all, and "
    "`aioray logs` has them.)"
)
_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"


@record(slots=True)
class _Seen:
    pid: int  # of the process whose line was printed
    until: float  # end of the window
    repeats: int = 0  # of other processes, held back
    last: str = ""  # of those, with its prefix
    coloured: bool = False


class LineFolder:
    """Decides which lines are printed, and when."""

    def __init__(
        self,
        window: float = WINDOW_SECONDS,
        never: re.Pattern[str] | None = None,
        drop: re.Pattern[str] | None = None,
    ) -> None:
        """Begin with no lines. window: seconds, 0 folds nothing.

        never: lines that are not folded. drop: lines that are not printed either.
        """
        self._window = window
        self._never = never
        self._drop = drop
        # By stream and text without numbers; oldest first, and so the first whose window ends.
        self._seen: dict[tuple[bool, str], _Seen] = {}
        self._held = 0  # lines
        self._explained = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> LineFolder:
        """Make a folder as Ray's variables RAY_DEDUP_LOGS… ask for.

        Raises ValueError if they are wrong.
        """
        name = "RAY_DEDUP_LOGS_AGG_WINDOW_S"
        text = environ.get(name, "") or str(WINDOW_SECONDS)
        try:
            window = float(text)
        except ValueError:
            raise ValueError(f"{name} is a number of seconds, got {text!r}.") from None
        if environ.get("RAY_DEDUP_LOGS", "1") in ("0", "false", "False"):
            window = 0.0
        return cls(
            window,
            _pattern(environ, "RAY_DEDUP_LOGS_ALLOW_REGEX"),
            _pattern(environ, "RAY_DEDUP_LOGS_SKIP_REGEX"),
        )

    def fold(
        self, pid: int, prefix: str, lines: Sequence[str], now: float, *, to_stderr: bool
    ) -> list[tuple[str, bool]]:
        """Return what is to be printed of these lines now: each with its prefix, and whether to
        stderr. Lines that were held back, and whose time has come, are before them.
        """
        out = self.due(now)
        for line in lines:
            if self._drop is not None and self._drop.search(line):
                continue
            whole = f"{prefix}{line}\n"
            text = _VARYING.sub("\0", line) if self._window > 0 else ""
            if not text.strip("\0 \t\r") or (self._never is not None and self._never.search(line)):
                out.append((whole, to_stderr))
                continue
            key = to_stderr, text
            seen = self._seen.get(key)
            if seen is None:
                self._seen[key] = _Seen(pid, now + self._window)
                if len(self._seen) > MOST_LINES:
                    out += self._end(next(iter(self._seen)))
            elif seen.pid != pid:
                seen.repeats += 1
                seen.last, seen.coloured = whole, prefix.startswith("\x1b")
                self._held += 1
                continue
            out.append((whole, to_stderr))
        return out

    def deadline(self) -> float | None:
        """Return when `due` is to be called; None: nothing is held back."""
        return next(iter(self._seen.values())).until if self._held else None

    def due(self, now: float) -> list[tuple[str, bool]]:
        """Return the lines whose window has ended by `now`, as `take` does."""
        out: list[tuple[str, bool]] = []
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if seen.until > now:
                break
            out += self._end(key)
        return out

    def _end(self, key: tuple[bool, str]) -> list[tuple[str, bool]]:
        seen = self._seen.pop(key)
        self._held -= seen.repeats
        if not seen.repeats:
            return []
        if seen.repeats == 1:
            return [(seen.last, key[0])]
        count = f" [repeated {seen.repeats}x across cluster]"
        if not self._explained:
            self._explained = True
            count += _NOTE
        if seen.coloured:
            count = f"{_GREEN}{count}{_PLAIN}"
        return [(f"{seen.last[:-1]}{count}\n", key[0])]


def _pattern(environ: Mapping[str, str], name: str) -> re.Pattern[str] | None:
    text = environ.get(name, "")
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"{name} is no regular expression: {error}. Got {text!r}.") from None
