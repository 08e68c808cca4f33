"""Answers what workers ask of objects and of room for them.

Room: engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...shared import ids
from ...shared.wire import HELD, REF_CHANGE
from .session import checked_site

if TYPE_CHECKING:
    from ...shared.asks import Allocate, Lose, Pin, Put
    from ..client import DriverClient
    from ..objects.objects import ObjectTable
    from ..processes.inbound import Asked
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission
    from .session import WorkerSession

__all__ = ["ObjectRequests"]


class ObjectRequests:
    """Takes in values and refs, and gives room for values."""

    def __init__(
        self, client: DriverClient, submission: Submission, objects: ObjectTable, actors: Actors
    ) -> None:
        self._client = client
        self._submission = submission
        self._objects = objects
        self._actors = actors

    def change_refs(self, session: WorkerSession, changes: bytes) -> None:
        """Note which refs a worker holds from now on, and which no longer. changes: NOTE_REFS."""
        for at in range(0, len(changes), REF_CHANGE):
            identifier = changes[at + 1 : at + REF_CHANGE]
            if ids.is_actor(identifier) and self._actors.lives_in(identifier, session.handle.id):
                continue
            if changes[at : at + 1] == HELD:
                session.hold(identifier, self._client.entry_of(identifier))
            else:
                session.let_go(identifier)

    def pin(self, session: WorkerSession, ask: Pin, _asked: Asked) -> None:
        """Keep an object for the session."""
        self._client.pin(session.entry(ask.identifier))

    def put(self, session: WorkerSession, ask: Put, _asked: Asked) -> None:
        """Store a value; its worker holds the ref."""
        if len(ask.identifier) != ids.OBJECT_ID_SIZE:
            raise ValueError(f"an object with the id {ask.identifier.hex():.100}")
        value = session.handle.loans.result(ask.payload)
        entry = self._client.new_entry(ask.identifier, value)
        entry.contains = session.contained(value)
        session.adopt(entry)
        if ask.site:
            self._submission.sites.note_put(entry, checked_site(ask.site))

    def allocate(self, session: WorkerSession, ask: Allocate, asked: Asked) -> None:
        """Grant room for a result, as soon as there is some."""
        if ask.size <= 0 or ask.more < 0:
            raise ValueError(f"room for {ask.more} more values of {ask.size} bytes")
        self._objects.give_room(
            session.handle, asked.request, ask.size, ask.more, session.wait_for_socket
        )

    def lose(self, session: WorkerSession, ask: Lose, asked: Asked) -> None:
        """Throw away a stored value, for tests."""
        session.reply(asked.request, self._client.lose(session.entry(ask.identifier)))
