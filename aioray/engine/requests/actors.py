"""Answers what tasks ask of actors: to be made, called, found and ended.

Room: engine.
"""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any

from ...client.entry import PlainEntry, StoredFailure
from ...client.refs import ObjectRef
from ...exceptions import (
    ActorAlreadyExistsError,
    ActorHandleNotFoundError,
    TaskUnschedulableError,
)
from ..telemetry.actor_reports import forgotten_actor
from .session import check_task_key, checked_site, pickled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...client.definitions import MethodDefinition
    from ...core.model import Task
    from ...shared.asks import CallActor, CreateActor, GetActor, KillActor, PendingCalls
    from ..client import DriverClient
    from ..processes.inbound import Asked, Saved
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission
    from .session import WorkerSession
    from .tasks import NewTasks

__all__ = ["ActorRequests"]


class ActorRequests:
    """Makes, finds and ends actors, and makes tasks of calls of their methods."""

    def __init__(
        self,
        client: DriverClient,
        submission: Submission,
        actors: Actors,
        new: NewTasks,
        running: Callable[[int, int], Task | None],
        submitter: Callable[[int, int], Task | None],
    ) -> None:
        self._client = client
        self._submission = submission
        self._actors = actors
        self._new = new
        self._running = running
        self._submitter = submitter

    def create(self, session: WorkerSession, ask: CreateActor, asked: Asked) -> None:
        """Make an actor; its worker holds the ref."""
        check_task_key(ask.task_key)
        value = session.handle.loans.result(ask.payload)
        try:
            task, entry = self._submission.create_actor_for_worker(
                pickle.loads(ask.definition),
                session.functions[ask.key],
                ask.task_key,
                self._client.namespace,
                parent=self._submitter(session.handle.id, asked.seq),
                payload=value,
                entries=[session.entry(found) for found in ask.arguments] or None,
                held=session.contained(value),
                trace=ask.trace,
            )
        except ActorAlreadyExistsError as error:
            session.reply(asked.request, [pickled(error)])
            return
        if ask.site:
            self._submission.sites.note_actor(task, entry, checked_site(ask.site))
        session.hold(entry.binary(), entry)
        self._new.add(task)
        if asked.request:
            session.reply(asked.request, None)

    def call(self, session: WorkerSession, ask: CallActor, asked: Asked) -> None:
        """Make a task of a call of a method; its worker holds the refs."""
        check_task_key(ask.task_key)
        known = self._actors.find(ask.actor)
        value = session.handle.loans.result(ask.payload)
        definition: MethodDefinition = pickle.loads(ask.definition)
        if known is None:
            nobody = functools.partial(forgotten_actor, ask.actor)  # no handle was left
            self._fail(session, nobody, definition, ask.task_key)
            return
        try:
            binding = self._submission.bind_method(ask.actor, definition)
        except ValueError as error:  # its limiter is known with other figures
            refused = functools.partial(TaskUnschedulableError, str(error))
            self._fail(session, refused, definition, ask.task_key)
            return
        held: list[Any] = session.contained(value)
        entry = known.entry()
        if entry is not None:  # as long as the call is not finished
            held.append(ObjectRef(entry))
        task, entries = self._submission.create_task_for_worker(
            binding,
            parent=self._submitter(session.handle.id, asked.seq),
            task_key=ask.task_key,
            max_retries=definition.max_retries,
            payload=value,
            entries=[session.entry(found) for found in ask.arguments] or None,
            held=held,
            caller=session.handle.id,
            trace=ask.trace,
        )
        if ask.site:
            self._submission.sites.note(task, checked_site(ask.site))
        self._new.take_in(session, task, entries, ask.task_key)

    def _fail(
        self,
        session: WorkerSession,
        build: Callable[[], BaseException],
        definition: MethodDefinition,
        task_key: bytes,
    ) -> None:
        """Fail a call of which no task can be made."""
        failure = StoredFailure(build)
        for index in range(max(1, definition.num_returns)):
            entry = PlainEntry(self._client, task_key, index + 1)
            entry.outcome = failure
            session.adopt(entry)

    def kill(self, session: WorkerSession, ask: KillActor, asked: Asked) -> None:
        """End an actor at once."""
        try:
            self._actors.kill(ask.actor, no_restart=ask.no_restart)
        except ActorHandleNotFoundError as error:
            session.reply(asked.request, [pickled(error)])
        else:
            session.reply(asked.request, None)

    def find(self, session: WorkerSession, ask: GetActor, asked: Asked) -> None:
        """Reply with the actor of this name; its worker holds the ref."""
        found = self._actors.named(ask.name, ask.namespace or self._client.namespace)
        if found is None:
            session.reply(asked.request, None)
            return
        ref, meta = found
        session.hold(ref.binary(), ref.entry)
        session.reply(asked.request, (ref.binary(), meta))

    def pending_calls(self, session: WorkerSession, ask: PendingCalls, asked: Asked) -> None:
        """Reply with how many calls of an actor the worker has made and not seen end."""
        count = self._actors.pending_calls(ask.actor, session.handle.id)
        session.reply(asked.request, count)

    def saved(self, session: WorkerSession, item: Saved) -> None:
        """Keep the state that an actor has saved."""
        task = self._running(session.handle.id, item.seq)
        actor = None if task is None else task.scheduling_class.actor
        if actor is not None:
            self._actors.save(actor, item.value, session.contained(item.value))
