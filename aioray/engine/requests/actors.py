"""Answers what tasks ask of actors: to be made, called, found and ended.

Room: engine.
"""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any

from ...client.refs import ObjectEntry, ObjectRef, StoredFailure
from ...exceptions import ActorAlreadyExistsError, ActorHandleNotFoundError
from ..telemetry.reports import forgotten_actor
from .session import Guest, pickled
from .tasks import TaskRequests

if TYPE_CHECKING:
    from ...client.definitions import MethodDefinition
    from ..processes.inbound import Saved
    from ..tasks.actors import Actors
    from ..tasks.submission import Trace

__all__ = ["ActorRequests"]


class ActorRequests(TaskRequests):
    """Actors of tasks."""

    _actors: Actors

    def _create_actor(
        self,
        guest: Guest,
        seq: int,
        request: int,
        key: int,
        packed: bytes,
        label: bytes,
        payload: bytes,
        arguments: list[bytes],
        trace: Trace = (),
        site: Any = None,
    ) -> None:
        value = guest.handle.loans.result(payload)
        try:
            task, entry = self._submission.adopt_actor(
                pickle.loads(packed),
                guest.functions[key],
                label,
                self._engine.namespace,
                parent=self._submitter(guest.handle.id, seq),
                payload=value,
                entries=[self._entry(guest, found) for found in arguments] or None,
                held=self._contained(value),
                trace=trace,
            )
        except ActorAlreadyExistsError as error:
            self._reply(guest, request, [pickled(error)])
            return
        if site:
            self._submission.sites.note_actor(task, entry, site)
        guest.hold(entry.binary(), entry)
        self._new.append(task)
        if request:
            self._reply(guest, request, None)

    def _call_actor(
        self,
        guest: Guest,
        seq: int,
        _request: int,
        actor: bytes,
        packed: bytes,
        label: bytes,
        payload: bytes,
        arguments: list[bytes],
        trace: Trace = (),
        site: Any = None,
    ) -> None:
        known = self._actors.find(actor)
        value = guest.handle.loans.result(payload)
        definition: MethodDefinition = pickle.loads(packed)
        if known is None:
            self._call_nobody(guest, actor, definition, label)
            return
        binding = self._submission.bind_method(actor, definition)
        held: list[Any] = self._contained(value)
        entry = known.entry()
        if entry is not None:  # as long as the call is not finished
            held.append(ObjectRef(entry))
        task, entries = self._submission.adopt(
            binding,
            parent=self._submitter(guest.handle.id, seq),
            label=label,
            max_retries=definition.max_retries,
            payload=value,
            entries=[self._entry(guest, found) for found in arguments] or None,
            held=held,
            caller=guest.handle.id,
            trace=trace,
        )
        if site:
            self._submission.sites.note(task, site)
        self._take_in(guest, task, entries, label)

    def _call_nobody(
        self, guest: Guest, actor: bytes, definition: MethodDefinition, label: bytes
    ) -> None:
        """Fail a call of an actor that was forgotten, because no handle was left."""
        failure = StoredFailure(functools.partial(forgotten_actor, actor))
        for index in range(max(1, definition.num_returns)):
            entry = ObjectEntry(self._engine, label, index + 1)
            entry.outcome = failure
            self._engine.export(entry)
            guest.hold(entry.binary(), entry)

    def _kill_actor(
        self, guest: Guest, _seq: int, request: int, actor: bytes, no_restart: bool
    ) -> None:
        try:
            self._actors.kill(actor, no_restart=no_restart)
        except ActorHandleNotFoundError as error:
            self._reply(guest, request, [pickled(error)])
        else:
            self._reply(guest, request, None)

    def _get_actor(
        self, guest: Guest, _seq: int, request: int, name: str, namespace: str | None
    ) -> None:
        found = self._actors.named(name, namespace or self._engine.namespace)
        if found is None:
            self._reply(guest, request, None)
            return
        ref, meta = found
        guest.hold(ref.binary(), ref._entry)
        self._reply(guest, request, (ref.binary(), meta))

    def _pending_calls(self, guest: Guest, _seq: int, request: int, actor: bytes) -> None:
        self._submit_new()
        self._reply(guest, request, self._actors.pending_calls(actor, guest.handle.id))

    def _saved(self, guest: Guest, item: Saved) -> None:
        task = self._running(guest.handle.id, item.seq)
        actor = None if task is None else task.scheduling_class.actor
        if actor is not None:
            self._actors.save(actor, item.value, self._contained(item.value))
