"""Answers questions that may have to wait: for values, and for tasks to end.

Room: engine. While a task waits for others its worker counts as blocked: the scheduler is told when
the first of its questions has to wait, and when the last of those is answered.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ...client.entry import ObjectEntry, StoredFailure
from ...client.results import has_failed
from ...core.events import (
    AttemptWaits,
    WorkerBlocked,
    WorkerUnblocked,
)
from ...shared import ids
from ..objects.stored import Stored
from .session import OpenQuestion, pickled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.events import Event
    from ...core.model import Task
    from ...shared.asks import AnswerNow, Forget, Get, Wait
    from ..processes.inbound import Asked
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission
    from .session import WorkerSession

__all__ = ["WaitRequests"]


class WaitRequests:
    """Answers as soon as what is asked for is there, or as far as it is."""

    def __init__(
        self,
        submission: Submission,
        actors: Actors,
        feed: Callable[[Event | functools.partial[None]], None],
    ) -> None:
        self._submission = submission
        self._actors = actors
        self._feed = feed

    def get(self, session: WorkerSession, ask: Get, asked: Asked) -> None:
        """Reply with values, as soon as all are at hand or one has failed."""
        entries = [session.entry(found) for found in ask.identifiers]
        self._give(session, asked.seq, asked.request, entries, at_once=ask.at_once, holds=ask.holds)

    def _give(
        self,
        session: WorkerSession,
        seq: int,
        request: int,
        entries: list[ObjectEntry],
        *,
        at_once: bool,
        holds: bool,
    ) -> None:
        """Answer with values, as soon as all are at hand, one has failed, or `at_once`."""
        pending = [entry for entry in entries if not entry.in_memory]
        if at_once or has_failed(entries) or not pending:
            body = [self._value(session, request, entry) for entry in entries]
            session.reply(request, body)
            return
        question = OpenQuestion(seq, request, entries, len(pending), wants_values=True, holds=holds)
        self.begin(session, question, pending)

    def wait(self, session: WorkerSession, ask: Wait, asked: Asked) -> None:
        """Reply which objects are ready, as soon as there are enough."""
        entries = [session.entry(found) for found in ask.identifiers]
        pending = [entry for entry in entries if entry.outcome is None]
        missing = ask.num_returns - (len(entries) - len(pending))
        if ask.at_once or missing <= 0:
            session.reply(asked.request, [entry.outcome is not None for entry in entries])
            return
        question = OpenQuestion(
            asked.seq, asked.request, entries, missing, wants_values=False, holds=ask.holds
        )
        self.begin(session, question, pending)

    def begin(
        self, session: WorkerSession, question: OpenQuestion, pending: list[ObjectEntry]
    ) -> None:
        """Answer a question later, and let the scheduler know that a worker waits."""
        session.open[question.request] = question
        blocking = session.blocking.setdefault(question.seq, set())
        if not blocking:
            self._feed(WorkerBlocked(session.handle.id, question.seq))
        blocking.add(question.request)
        for entry in pending:
            question.hits.append((entry, functools.partial(self._hit, session, question, entry)))
        for entry, hit in tuple(question.hits):
            if session.open.get(question.request) is question:  # none before has ended it
                entry.add_waiter(hit)
        if (
            question.holds
            and self._actors.exist()
            and session.open.get(question.request) is question
        ):
            question.blocks = True
            tasks = [task for task in map(self._task_of, pending) if task is not None]
            self._feed(AttemptWaits(session.handle.id, question.seq, tasks))

    def _task_of(self, entry: ObjectEntry) -> Task | None:
        """Return the task that an entry waits for, if it is known."""
        if entry.task is None and entry.index >= ids.SIGNAL_INDEX:
            stream = self._submission.streams.get(entry.binary()[: ids.TASK_ID_SIZE])
            return None if stream is None else stream.task
        task: Task | None = entry.task
        return task

    def _hit(self, session: WorkerSession, question: OpenQuestion, entry: ObjectEntry) -> None:
        """Note that an object that was waited for has its outcome."""
        if session.open.get(question.request) is not question:
            return
        question.left -= 1
        if question.left <= 0 or (
            question.wants_values and isinstance(entry.outcome, StoredFailure)
        ):
            self.finish(session, question, at_once=False)

    def answer_now(self, session: WorkerSession, ask: AnswerNow, _asked: Asked) -> None:
        """Answer an open question as things stand."""
        question = session.open.get(ask.request)
        if question is not None:  # else the reply is on its way
            self.finish(session, question, at_once=True)

    def forget(self, session: WorkerSession, ask: Forget, _asked: Asked) -> None:
        """Forget a question, or take back what its reply has given."""
        session.handle.loans.end_reply(ask.request)
        question = session.open.get(ask.request)
        if question is not None:
            self._end(session, question)

    def finish(self, session: WorkerSession, question: OpenQuestion, *, at_once: bool) -> None:
        """Answer what can be answered now. at_once: all of it, whatever there is."""
        self._end(session, question)
        if question.wants_values:
            # One that was at hand may be on disk, or lost, by now: then it is waited for again.
            self._give(
                session,
                question.seq,
                question.request,
                question.entries,
                at_once=at_once,
                holds=question.holds,
            )
        else:
            found = [entry.outcome is not None for entry in question.entries]
            session.reply(question.request, found)

    def _end(self, session: WorkerSession, question: OpenQuestion) -> None:
        """End a question, whether it was answered or not."""
        del session.open[question.request]
        question.stop()
        if question.blocks:
            self._feed(AttemptWaits(session.handle.id, question.seq, ()))
        blocking = session.blocking[question.seq]
        blocking.discard(question.request)
        if not blocking:
            del session.blocking[question.seq]
            self._feed(WorkerUnblocked(session.handle.id, question.seq))

    def _value(self, session: WorkerSession, request: int, entry: ObjectEntry) -> Any:
        """Return what a reply says of an entry: value, where that lies, error, or nothing yet."""
        outcome = entry.outcome
        if type(outcome) is bytes:
            return outcome
        if isinstance(outcome, StoredFailure):
            return [pickled(outcome.exception())]
        if isinstance(outcome, Stored) and outcome.in_memory:
            return session.handle.loans.lend_to_reply(request, outcome)
        return None
