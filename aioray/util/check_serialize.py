"""Tells whether an object can be sent to a worker, and which part of it cannot.

Room: api. Words and prints what `aioray.shared.serializability` finds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aioray.shared.serializability import find
from aioray.shared.serialization import dumps

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["FailureTuple", "inspect_serializability"]

_STEP = re.compile(r"\['(\w+)'\]|\.(\w+)(?=\.|\[|$)|(\[[^\[\]]*\])")
_CONTAINERS = {"__closure__", "__globals__", "__dict__"}  # of names, and no names themselves


class FailureTuple:
    """One part that cannot be serialized.

    `obj`: the part itself. `path`: the names that lead to it from the whole, which is the first;
    empty if it is the whole. `name`: the last of them, of a variable, an attribute or an item.
    `parent`: the object that it was found in; None if it is the whole.
    Source: Ray, ray.util.check_serialize.FailureTuple.
    """

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.name = path[-1] if path else "unknown"
        self.parent = parent

    def __repr__(self) -> str:
        path = " -> ".join(self.path)
        return f"FailTuple({self.name} [path={path}, obj={self.obj!r}, parent={self.parent!r}])"


def inspect_serializability(
    obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Say whether `obj` can be serialized, print a report, and return what is to blame.

    Returns (True, empty set), or (False, the parts that cannot be serialized although what they
    consist of can). name: of `obj` in the report, by default its `repr`. depth: how many levels
    below `obj` are looked at: closures, globals of functions, attributes, items. print_file: where
    the report goes, by default sys.stdout.
    Raises ValueError if depth is negative.
    Source: Ray API reference, ray.util.inspect_serializability. The report's text is aioray's own.
    """
    if depth < 0:
        raise ValueError(f"depth must be >= 0, got {depth!r}")
    shown = repr(obj) if name is None else name
    found, cut = find(obj, shown, dumps, depth)
    lines = [f"Checking serializability of {shown}"]
    if found:
        lines.append("It cannot be serialized, because of:")
        for culprit in found:
            note = f" ({culprit.note})" if culprit.note else ""
            lines.append(f"  {culprit.path}: {culprit.reason}{note}")
        lines.append(f"  {cut}" if cut else "Leave these out, or make them inside the task.")
    else:
        lines.append("It can be serialized.")
    rule = "=" * min(80, max(map(len, lines)))
    print(rule, *lines, rule, sep="\n", file=print_file)
    return not found, {FailureTuple(c.value, _names(c.path, shown), c.parent) for c in found}


def _names(path: str, root: str) -> tuple[str, ...]:
    """List the steps of `path`, without those that only say where a name is kept."""
    rest = path.removeprefix(root)
    steps = [next(filter(None, match.groups())) for match in _STEP.finditer(rest)]
    names = [step for step in steps if step not in _CONTAINERS]
    return (root, *names) if names else ()
