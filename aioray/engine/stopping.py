"""How what is no longer wanted is ended whole: a task with all it has submitted, or an actor.

Room: engine. A cancel asks, and says what became of one task. To stop is to cancel a task and its
unfinished descendants with a grace period, and to hear when none of them is on a worker any more;
of an actor, to kill it for good, and to hear when its process is gone. Calls of actors are asked
to end, and no actor is killed for them. For any thread; all happens on the engine's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..core.cancellation import with_descendants
from ..exceptions import ActorHandleNotFoundError
from ..shared import ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.entry import ObjectEntry
    from .client import DriverClient
    from .mailbox import Mailbox

__all__ = ["Stops"]


class Stops:
    """Ends tasks and actors of one engine, with what belongs to them."""

    def __init__(self, client: DriverClient, mailbox: Mailbox) -> None:
        """Stop what belongs to this client."""
        self._client = client
        self._mailbox = mailbox

    def stop(self, entry: ObjectEntry, grace: float, done: Callable[[], None]) -> None:
        """End the task, or the actor, of an entry. See `aioray.client.protocol.Client`."""
        is_actor = ids.is_actor(entry.binary())
        if not is_actor and (entry.task is None or entry.outcome is not None):
            done()
            return
        stop = self._stop_actor if is_actor else self._stop_task
        try:
            self._mailbox.post(lambda: stop(entry, grace, done))
        except RuntimeError:  # the loop is closed, and with it everything has ended
            done()

    def _stop_task(self, entry: ObjectEntry, grace: float, done: Callable[[], None]) -> None:
        members = with_descendants(entry.task)
        left = len(members)

        def count(_outcome: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        for member in members:
            call = member.scheduling_class.actor is not None
            self._client.cancels.of_task(
                member, force=False, recursive=True, grace=None if call else grace
            ).when_known(count)

    def _stop_actor(self, entry: ObjectEntry, _grace: float, done: Callable[[], None]) -> None:
        actors, processes = self._client.actors, self._client.processes
        known = actors.find(entry.binary())
        worker = None if known is None else known.actor.worker
        with contextlib.suppress(ActorHandleNotFoundError):
            actors.kill(entry.binary(), no_restart=True)
        if worker is None or processes is None:
            self._mailbox.post(done)  # after the kill
        else:
            processes.departures.wait(worker.id, done)
