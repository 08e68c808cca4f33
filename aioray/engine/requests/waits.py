"""Answers questions that may have to wait: for values, and for tasks to end.

Room: engine. While a task waits for others its worker counts as blocked: the scheduler is told when
the first of its questions has to wait, and when the last of those is answered.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ...client.refs import ObjectEntry, StoredFailure
from ...core.events import (
    AttemptWaits,
    WorkerBlocked,
    WorkerUnblocked,
)
from ...shared import ids
from ..objects.store import Stored
from .session import Guest, SessionRequests, Wait, pickled, stop_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.events import Event
    from ...core.model import Task
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission

__all__ = ["WaitRequests"]


class WaitRequests(SessionRequests):
    """What workers wait for."""

    _submission: Submission
    _actors: Actors
    _feed: Callable[[Event | functools.partial[None]], None]

    def _get(
        self,
        guest: Guest,
        seq: int,
        request: int,
        identifiers: list[bytes],
        look: bool,
        holds: bool = False,
    ) -> None:
        entries = [self._entry(guest, found) for found in identifiers]
        self._give(guest, seq, request, entries, look=look, holds=holds)

    def _give(
        self,
        guest: Guest,
        seq: int,
        request: int,
        entries: list[ObjectEntry],
        *,
        look: bool,
        holds: bool,
    ) -> None:
        """Answer with values, as soon as all are at hand, one has failed, or with `look` now."""
        pending = [entry for entry in entries if not entry.at_hand]
        failed = any(isinstance(entry.outcome, StoredFailure) for entry in entries)
        if look or failed or not pending:
            body = [self._value(guest, request, entry) for entry in entries]
            self._reply(guest, request, body)
            return
        wait = Wait(seq, request, entries, len(pending), wants_values=True, holds=holds)
        self._begin(guest, wait, pending)

    def _wait(
        self,
        guest: Guest,
        seq: int,
        request: int,
        identifiers: list[bytes],
        count: int,
        look: bool,
        holds: bool = False,
    ) -> None:
        entries = [self._entry(guest, found) for found in identifiers]
        pending = [entry for entry in entries if entry.outcome is None]
        missing = count - (len(entries) - len(pending))
        if look or missing <= 0:
            self._reply(guest, request, [entry.outcome is not None for entry in entries])
            return
        wait = Wait(seq, request, entries, missing, wants_values=False, holds=holds)
        self._begin(guest, wait, pending)

    def _begin(self, guest: Guest, wait: Wait, pending: list[ObjectEntry]) -> None:
        """Answer later, and let the scheduler know that there is waiting."""
        guest.waits[wait.request] = wait
        blocking = guest.blocking.setdefault(wait.seq, set())
        if not blocking:
            self._feed(WorkerBlocked(guest.handle.id, wait.seq))
        blocking.add(wait.request)
        for entry in pending:
            wait.hits.append((entry, functools.partial(self._hit, guest, wait, entry)))
        for entry, hit in tuple(wait.hits):
            if guest.waits.get(wait.request) is wait:  # none before has ended it
                entry.add_waiter(hit)
        if wait.holds and self._actors.exist() and guest.waits.get(wait.request) is wait:
            wait.told = True
            tasks = [task for task in map(self._task_of, pending) if task is not None]
            self._feed(AttemptWaits(guest.handle.id, wait.seq, tasks))

    def _task_of(self, entry: ObjectEntry) -> Task | None:
        """The task that an entry waits for, if it is known."""
        if entry.task is None and entry.index >= ids.SIGNAL_INDEX:
            stream = self._submission.streams.get(entry.binary()[: ids.TASK_ID_SIZE])
            return None if stream is None else stream.task
        task: Task | None = entry.task
        return task

    def _hit(self, guest: Guest, wait: Wait, entry: ObjectEntry) -> None:
        """One that was waited for has its outcome."""
        if guest.waits.get(wait.request) is not wait:
            return
        wait.left -= 1
        if wait.left <= 0 or (wait.wants_values and isinstance(entry.outcome, StoredFailure)):
            self._finish(guest, wait, look=False)

    def _look(self, guest: Guest, _seq: int, _request: int, asked: int) -> None:
        wait = guest.waits.get(asked)
        if wait is not None:  # else the reply is on its way
            self._finish(guest, wait, look=True)

    def _forget(self, guest: Guest, _seq: int, _request: int, asked: int) -> None:
        guest.handle.loans.end_reply(asked)
        wait = guest.waits.get(asked)
        if wait is not None:
            self._end(guest, wait)

    def _finish(self, guest: Guest, wait: Wait, *, look: bool) -> None:
        self._end(guest, wait)
        if wait.wants_values:
            # One that was at hand may be on disk, or lost, by now: then it is waited for again.
            self._give(guest, wait.seq, wait.request, wait.entries, look=look, holds=wait.holds)
        else:
            found = [entry.outcome is not None for entry in wait.entries]
            self._reply(guest, wait.request, found)

    def _end(self, guest: Guest, wait: Wait) -> None:
        """Nobody waits for this any more."""
        del guest.waits[wait.request]
        stop_waiting(wait)
        if wait.told:
            self._feed(AttemptWaits(guest.handle.id, wait.seq, ()))
        blocking = guest.blocking[wait.seq]
        blocking.discard(wait.request)
        if not blocking:
            del guest.blocking[wait.seq]
            self._feed(WorkerUnblocked(guest.handle.id, wait.seq))

    def _value(self, guest: Guest, request: int, entry: ObjectEntry) -> Any:
        """What a reply says of one: the value, where it lies, the error, or nothing yet."""
        outcome = entry.outcome
        if type(outcome) is bytes:
            return outcome
        if isinstance(outcome, StoredFailure):
            return [pickled(outcome.exception())]
        if isinstance(outcome, Stored) and outcome.at_hand:
            return guest.handle.loans.lend_to_reply(request, outcome)
        return None
