"""Answers what workers ask of objects and of room for them.

Room: engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...shared import ids
from ...shared.wire import HELD, REF_CHANGE
from .session import Guest, SessionRequests

if TYPE_CHECKING:
    from ..objects.objects import Objects
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission

__all__ = ["ObjectRequests"]


class ObjectRequests(SessionRequests):
    """Objects of tasks."""

    _submission: Submission
    _objects: Objects
    _actors: Actors

    def _change_refs(self, guest: Guest, changes: bytes) -> None:
        for at in range(0, len(changes), REF_CHANGE):
            identifier = changes[at + 1 : at + REF_CHANGE]
            if ids.is_actor(identifier) and self._actors.lives_in(identifier, guest.handle.id):
                continue
            if changes[at : at + 1] == HELD:
                guest.hold(identifier, self._engine.adopt(identifier))
            else:
                guest.let_go(identifier)

    def _pin(self, guest: Guest, _seq: int, _request: int, identifier: bytes) -> None:
        self._engine.pin(self._entry(guest, identifier))

    def _put(
        self,
        guest: Guest,
        _seq: int,
        _request: int,
        identifier: bytes,
        payload: bytes,
        site: Any = None,
    ) -> None:
        value = guest.handle.loans.result(payload)
        entry = self._engine.new_entry(identifier, value)
        if site:
            self._submission.sites.note_put(entry, site)
        entry.contains = self._contained(value)
        guest.hold(identifier, entry)

    def _room(self, guest: Guest, _seq: int, request: int, size: int, more: int) -> None:
        if size <= 0 or more < 0:
            raise ValueError(f"room for {more} more values of {size} bytes")
        self._objects.give_room(guest.handle, request, size, more, self.wait_for_socket)

    def _lose(self, guest: Guest, _seq: int, request: int, identifier: bytes) -> None:
        self._reply(guest, request, self._engine.lose(self._entry(guest, identifier)))
