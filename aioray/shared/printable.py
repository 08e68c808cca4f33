"""Makes text that is not aioray's own fit to stand in a line on a terminal or in a log.

Room: shared; imports nothing. Names of tasks, actors, classes and folders, texts of errors and what
else a program or a file may say go through here where they are printed for people: what would steer
the terminal, reorder the line or begin another one is written out, as `repr` would. What machines
read (JSON, YAML, the state API) escapes by its own rules and stays exact, and the lines that users
print are theirs.
"""

from __future__ import annotations

__all__ = ["LINES", "printable"]

LINES = "\n\t"
"""To be kept in text that may have several lines."""


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with all that is not printable written out, as "\x1b", "\n" and "\u202e".

    keep: characters that stay as they are, see `LINES`. Unprintable is what `str.isprintable` says:
    control and format characters, among them those that set the direction of writing, separators
    but the space, surrogates, and what Unicode has not assigned.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
