"""Answers what tasks ask of placement groups, and where something can run at all.

Room: engine.
"""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any

from .session import Guest, SessionRequests, pickled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.events import Event
    from ...core.model import Task
    from ..tasks.submission import Submission

__all__ = ["GroupRequests"]


class GroupRequests(SessionRequests):
    """Placement groups of tasks."""

    _submission: Submission
    _feed: Callable[[Event | functools.partial[None]], None]
    _submitter: Callable[[int, int], Task | None]

    def _place(self, guest: Guest, seq: int, request: int, packed: bytes) -> None:
        parent = self._submitter(guest.handle.id, seq)
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        try:
            self._submission.class_for(pickle.loads(packed), depth, None)
        except Exception as error:  # noqa: BLE001 - whatever a foreign strategy may raise
            self._reply(guest, request, [pickled(error)])
        else:
            self._reply(guest, request, None)

    def _add_group(
        self,
        guest: Guest,
        _seq: int,
        request: int,
        identifier: bytes,
        bundles: list[Any],
        strategy: str,
        name: str,
        value: bytes,
    ) -> None:
        for name_of, amount in (demand for bundle in bundles for demand in bundle):
            if not isinstance(name_of, str) or not isinstance(amount, int) or amount < 0:
                raise ValueError(f"a bundle of {amount!r} {name_of!r}")
        try:
            self._engine.create_placement_group(identifier, bundles, strategy, name, value)
        except (RuntimeError, ValueError) as error:
            self._reply(guest, request, [pickled(error)])
        else:
            self._reply(guest, request, None)

    def _remove_group(self, guest: Guest, _seq: int, request: int, identifier: bytes) -> None:
        try:
            self._engine.remove_placement_group(identifier)
        except ValueError as error:
            self._reply(guest, request, [pickled(error)])
        else:  # after what that means for others
            self._feed(functools.partial(self._reply, guest, request, None))

    def _group_ready(self, guest: Guest, _seq: int, request: int, identifier: bytes) -> None:
        try:
            ref = self._engine.placement_group_ready(identifier)
        except ValueError as error:
            self._reply(guest, request, [pickled(error)])
            return
        self._engine.export(ref._entry)
        guest.hold(ref.binary(), ref._entry)
        self._reply(guest, request, ref.binary())
