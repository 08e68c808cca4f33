"""How `get` waits for refs and takes their values; loaded by the first `get`.

Room: api. Apart from `objects`, so that a program which looks `aioray.get` up does not wait for all
that stands behind refs before its session has begun to start.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..client.entry import NotInMemory, StoredFailure
from ..client.refs import ObjectRef
from .session import client_for_call

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ObjectRef", "check_refs", "values_of"]


def check_refs(refs: list[Any]) -> None:
    """Refuse a list in which there is something that is no ref, with a TypeError."""
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"Attempting to call `get` on the value {ref!r}, which is not an ray.ObjectRef."
            )


def values_of(refs: Sequence[ObjectRef[Any]], deadline: float | None) -> list[Any]:
    """Wait for refs and return their values. deadline: in monotonic seconds; None: there is none.

    Raises what `get` raises.
    """
    _wait_for(refs, deadline)
    entries = [ref.entry for ref in refs]
    if len(entries) > 1 and any(entry.outcome is None for entry in entries):
        # One may have failed: raise that, whatever stands before it in the list.
        for entry in entries:
            if isinstance(entry.outcome, StoredFailure):
                entry.value()
    values: list[Any] = []
    while len(values) < len(entries):
        try:
            for entry in entries[len(values) :]:
                values.append(entry.value())  # noqa: PERF401 - it may stop, and go on from there
        except NotInMemory:  # on disk, or lost again
            late = refs[len(values)]
            late.entry.owner().get([late], _left(deadline), in_memory=True)
    return values


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _wait_for(refs: Sequence[ObjectRef[Any]], deadline: float | None) -> None:
    """Block until every ref is ready or one has failed, whichever engines they belong to."""
    if len(refs) == 1:
        refs[0].entry.owner().get(refs, _left(deadline))
        return
    clients = {ref.entry.client for ref in refs}
    if not refs:
        client_for_call()
    for client in clients:
        mine = refs if len(clients) == 1 else [ref for ref in refs if ref.entry.client is client]
        if client is None:
            mine[0].entry.owner()  # raises
            continue
        client.get(mine, _left(deadline))
