"""Packs what user code has returned, or yielded, for the answer.

Room: worker. A value that is large goes to the store, and its place into the answer.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

from ..shared.serialization import Pieces, dump, dumps
from ..shared.wire import LONGEST_FRAME

if TYPE_CHECKING:
    from ..shared.wire import Attempt
    from .objects import Objects, Use

__all__ = ["Collected", "pack", "pack_returns"]


class Collected:
    """What a generator has yielded for the return values of its attempt, serialized."""

    __slots__ = ("failure", "packed", "refs")

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.refs: list[Any] = []  # inside these; they must live until the driver knows of them
        self.failure: Exception | None = None  # why the next one could not be serialized


def pack_returns(
    value: Any, attempt: Attempt, objects: Objects, use: Use, refs: list[Any]
) -> bytes:
    """Serialize what a function returned. Raises what the caller is to see if it does not fit.

    objects, use: where that is stored which is large. refs: gets the refs inside the values, which
    must live until the driver knows that they are in there.
    """
    count = attempt.num_returns
    collected = type(value) is Collected
    if count < 0 or (count == 1 and not collected):
        return pack(value, attempt, "result", objects, use, refs)
    if count == 0:
        return b""
    if collected:
        if value.failure is not None:
            raise value.failure
        refs += value.refs
    try:
        given = len(value.packed if collected else value)
    except TypeError:
        raise TypeError(
            f"Task returned 1 object, of type {type(value).__name__}, but num_returns={count}. "
            f"Return a list or tuple of {count} values, or change num_returns."
        ) from None
    if given != count:
        raise ValueError(
            f"Task returned {given} objects, but num_returns={count}. Return a sequence of "
            f"{count} values, or change num_returns."
        )
    packed = (
        value.packed
        if collected
        else [
            pack(item, attempt, f"result[{at}]", objects, use, refs)
            for at, item in enumerate(value)
        ]
    )
    if count == 1:
        return packed[0]
    data = marshal.dumps(packed)
    if len(data) > LONGEST_FRAME:
        raise ValueError(
            f"The {count} results have {len(data):,} bytes without those of more than 100 KB each, "
            f"and the limit is {LONGEST_FRAME:,}. Return fewer and larger ones."
        )
    return data


def pack(
    value: Any, attempt: Attempt, label: str, objects: Objects, use: Use, refs: list[Any]
) -> bytes:
    """Serialize one result. An error keeps its type, and is told which member is to blame."""
    try:
        data, found = dump(value)
    except Exception as error:
        from ..shared.serializability import explain

        report = explain(value, label, dumps)
        error.add_note(f"The result of {attempt.name} cannot be serialized:\n{report}")
        raise
    refs.extend(found)
    if not isinstance(data, Pieces):
        return data
    try:
        return objects.keep_result(data, use)
    except Exception as error:
        error.add_note(f"The result of {attempt.name} could not be stored.")
        raise
