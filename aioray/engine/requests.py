"""What tasks ask of the engine: calls of remote functions, values, waiting, cancelling.

Room: engine. The driver's side of `aioray.worker.client`; everything here happens on the engine's
thread, in the order in which a worker has said it, and in order with its answers. A `Guest` is what
one worker has asked for and not been told yet, and the refs that it holds: while it does, their
objects live. It ends with its worker.

While a task waits for others its worker counts as blocked: the scheduler is told when the first of
its questions has to wait, and when the last of those is answered.
"""

from __future__ import annotations

import functools
import math
import os
import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ..client.refs import ObjectEntry, ObjectRef, StoredFailure
from ..core.events import (
    AttemptWaits,
    CancelRequested,
    TasksSubmitted,
    WorkerBlocked,
    WorkerUnblocked,
)
from ..exceptions import ActorAlreadyExistsError, ActorHandleNotFoundError, RaySystemError
from ..shared import ids
from ..shared.failures import capture
from ..shared.serialization import contained_ids, dumps, load
from ..shared.wire import HELD, REF_CHANGE, Ask
from .objects.lineage import entries_of
from .objects.store import Stored
from .processes.inbound import RefsChanged, Saved, Yielded
from .telemetry.reports import NODE_IP, forgotten_actor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client.definitions import Definition, MethodDefinition
    from ..core.events import Event
    from ..core.functions import Function
    from ..core.model import Task
    from .engine import Engine
    from .objects.objects import Objects
    from .processes.handle import WorkerHandle
    from .processes.inbound import Item
    from .tasks.actors import Actors
    from .tasks.submission import Binding, Submission, Trace

__all__ = ["Guest", "Requests"]

BINDINGS_KEPT = 1_000  # of each worker; others are made again
_SUBMITTING = (Ask.SUBMIT, Ask.PUT, Ask.CALL_ACTOR, Ask.CREATE_ACTOR)


_CALLED = (bytes, list, (tuple, list, type(None)), tuple)  # payload, arguments, trace, site
# Of what types the arguments of each question are. The last ones of some may be missing.
_SHAPES: dict[int, tuple[Any, ...]] = {
    Ask.ROOM: (int, int),
    Ask.SUBMIT: (int, bytes, bytes, int, *_CALLED),
    Ask.PUT: (bytes, bytes, tuple),
    Ask.GET: (list, bool, bool),
    Ask.WAIT: (list, int, bool, bool),
    Ask.LOOK: (int,),
    Ask.FORGET: (int,),
    Ask.CANCEL: (bytes, bool, bool, (int, float, type(None))),
    Ask.PIN: (bytes,),
    Ask.LOSE: (bytes,),
    Ask.INFO: (str,),
    Ask.FUNCTION: (int, str, bytes, list),
    Ask.UNLOAD: (int,),
    Ask.MORE: (int,),
    Ask.CONSUMED: (bytes, int),
    Ask.ABANDON: (bytes,),
    Ask.PLACE: (bytes,),
    Ask.ADD_GROUP: (bytes, list, str, str, bytes),
    Ask.REMOVE_GROUP: (bytes,),
    Ask.GROUP_READY: (bytes,),
    Ask.CREATE_ACTOR: (int, bytes, bytes, *_CALLED),
    Ask.CALL_ACTOR: (bytes, bytes, bytes, *_CALLED),
    Ask.KILL_ACTOR: (bytes, bool),
    Ask.GET_ACTOR: (str, (str, type(None))),
    Ask.PENDING_CALLS: (bytes,),
}
_TOLD = frozenset(  # what INFO tells
    (
        "available_resources",
        "cluster_resources",
        "named_actors",
        "nodes",
        "placement_group_table",
    )
)


class _Wait:
    """A question that cannot be answered yet."""

    __slots__ = ("entries", "hits", "holds", "left", "request", "seq", "told", "wants_values")

    def __init__(
        self,
        seq: int,
        request: int,
        entries: list[ObjectEntry],
        left: int,
        *,
        wants_values: bool,
        holds: bool = False,
    ) -> None:
        self.seq = seq
        self.request = request
        self.entries = entries
        self.left = left  # how many more have to get ready
        self.wants_values = wants_values  # GET; False: WAIT
        self.holds = holds  # the attempt cannot go on before all of them are ready
        self.told = False  # the scheduler knows that
        self.hits: list[tuple[ObjectEntry, Callable[[], None]]] = []  # waiters, to be dropped


class Guest:
    """One worker, as somebody who asks."""

    def __init__(self, handle: WorkerHandle) -> None:
        self.handle = handle
        self.refs: dict[bytes, list[Any]] = {}  # by id: the entry, and how often it is held
        self.functions: dict[int, tuple[Function, Any]] = {}  # by its key: and captured refs
        self.bindings: OrderedDict[tuple[int, bytes, int], Binding] = OrderedDict()
        self.streams: set[bytes] = set()  # ids of generator tasks that it reads
        self.waits: dict[int, _Wait] = {}  # by request
        self.blocking: dict[int, set[int]] = {}  # by seq: requests that have to wait

    def hold(self, identifier: bytes, entry: ObjectEntry) -> None:
        """It has a ref to this."""
        held = self.refs.get(identifier)
        if held is None:
            self.refs[identifier] = [entry, 1]
        else:
            held[1] += 1

    def let_go(self, identifier: bytes) -> None:
        """It has one ref less to this."""
        held = self.refs.get(identifier)
        if held is not None:
            held[1] -= 1
            if not held[1]:
                del self.refs[identifier]


class Requests:
    """All guests of one engine."""

    def __init__(
        self,
        engine: Engine,
        submission: Submission,
        objects: Objects,
        actors: Actors,
        feed: Callable[[Event | functools.partial[None]], None],
        running: Callable[[int, int], Task | None],
        submitter: Callable[[int, int], Task | None],
        expects: Callable[[int, int], bool],
    ) -> None:
        """feed: takes what the scheduler is to know, or what is to be done after that.

        running: the task whose attempt, by worker id and seq, is in flight. submitter: the one
        that has submitted what is asked for so. expects: whether there may be an answer of that.
        """
        self.expects = expects
        self._engine = engine
        self._submission = submission
        self._objects = objects
        self._actors = actors
        self._feed = feed
        self._running = running
        self._submitter = submitter
        self.wait_for_socket: Callable[[WorkerHandle], None] = lambda _handle: None
        self._guests: dict[int, Guest] = {}
        self._new: list[Task] = []  # to be submitted together
        self._do: dict[int, Callable[..., None]] = {
            Ask.ROOM: self._room,
            Ask.SUBMIT: self._submit,
            Ask.PUT: self._put,
            Ask.GET: self._get,
            Ask.WAIT: self._wait,
            Ask.LOOK: self._look,
            Ask.FORGET: self._forget,
            Ask.CANCEL: self._cancel,
            Ask.PIN: self._pin,
            Ask.LOSE: self._lose,
            Ask.INFO: self._info,
            Ask.FUNCTION: self._function,
            Ask.UNLOAD: self._unload,
            Ask.MORE: self._more,
            Ask.CONSUMED: self._consumed,
            Ask.ABANDON: self._abandon,
            Ask.PLACE: self._place,
            Ask.ADD_GROUP: self._add_group,
            Ask.REMOVE_GROUP: self._remove_group,
            Ask.GROUP_READY: self._group_ready,
            Ask.CREATE_ACTOR: self._create_actor,
            Ask.CALL_ACTOR: self._call_actor,
            Ask.KILL_ACTOR: self._kill_actor,
            Ask.GET_ACTOR: self._get_actor,
            Ask.PENDING_CALLS: self._pending_calls,
        }

    def guest(self, handle: WorkerHandle) -> Guest:
        """This worker, as somebody who asks."""
        guest = self._guests.get(handle.id)
        if guest is None:
            guest = self._guests[handle.id] = Guest(handle)
        return guest

    def handle(self, handle: WorkerHandle, items: Sequence[Item]) -> None:
        """Do what a worker has asked, in order.

        Raises ValueError, or whatever else comes of it, for what no worker asks: end that one.
        """
        guest = self.guest(handle)
        try:
            for item in items:
                if isinstance(item, RefsChanged):
                    self._change_refs(guest, item.changes)
                    continue
                if isinstance(item, Yielded):
                    self._yielded(guest, item)
                    continue
                if isinstance(item, Saved):
                    self._saved(guest, item)
                    continue
                if self._new and item.verb not in _SUBMITTING:
                    self._submit_new()
                arguments = item.arguments
                if not all(map(isinstance, arguments, _SHAPES[item.verb])):
                    raise ValueError(f"{item.verb} of {arguments!r:.200}")
                self._do[item.verb](guest, item.seq, item.request, *arguments)
        finally:
            self._submit_new()

    def not_sent(self, worker_id: int, seq: int, error: OSError) -> bytes:
        """The error of an attempt that could not be sent, as that of a function is told."""
        task = self._running(worker_id, seq)
        name = "" if task is None else task.name
        problem = RaySystemError(
            f"Task {name} could not be sent to its worker, as the system has no room for what goes "
            f"with it: {error}. Look at the limits of this process (ulimit -a) for open files, the "
            f"size of files and memory, or put large arguments into the object store, by put()."
        )
        return capture(
            problem,
            function_name=name,
            proctitle=f"ray::{name}",
            pid=os.getpid(),
            ip=NODE_IP,
            dumps=dumps,
            loads=load,
        )

    def gone(self, worker_id: int) -> None:
        """A worker is dead."""
        guest = self._guests.pop(worker_id, None)
        if guest is not None:
            for wait in guest.waits.values():
                _stop_waiting(wait)
            guest.waits.clear()
            for task in guest.streams:
                self._engine.abandon(task)
            guest.refs.clear()

    def close(self) -> None:
        """All of them are."""
        for worker_id in tuple(self._guests):
            self.gone(worker_id)

    def cancel_orphans(self, tasks: Sequence[Task]) -> None:
        """The attempt that submitted these died: cancel those whose values nobody can get."""
        for task in tasks:
            returns = task.returns
            if type(returns) is tuple and all(ref() is None for ref in returns):
                self._feed(CancelRequested(task, 0, force=True, recursive=True))

    def _reply(self, guest: Guest, request: int, body: Any) -> None:
        if not guest.handle.closed:
            guest.handle.reply(request, body)
            self.wait_for_socket(guest.handle)

    # ------------------------------------------------------------ refs

    def _change_refs(self, guest: Guest, changes: bytes) -> None:
        for at in range(0, len(changes), REF_CHANGE):
            identifier = changes[at + 1 : at + REF_CHANGE]
            if ids.is_actor(identifier) and self._actors.lives_in(identifier, guest.handle.id):
                continue
            if changes[at : at + 1] == HELD:
                guest.hold(identifier, self._engine.adopt(identifier))
            else:
                guest.let_go(identifier)

    def _entry(self, guest: Guest, identifier: bytes) -> ObjectEntry:
        held = guest.refs.get(identifier)
        entry: ObjectEntry = self._engine.adopt(identifier) if held is None else held[0]
        return entry

    def _contained(self, value: bytes | Stored) -> list[ObjectRef[Any]]:
        """Refs to what a serialized value contains refs to."""
        found = contained_ids(value) if isinstance(value, bytes) else value.contained_ids()
        return [ObjectRef(self._engine.adopt(each)) for each in found]

    def _pin(self, guest: Guest, _seq: int, _request: int, identifier: bytes) -> None:
        self._engine.pin(self._entry(guest, identifier))

    # ------------------------------------------------------------ tasks and values

    def _submit(
        self,
        guest: Guest,
        seq: int,
        _request: int,
        key: int,
        packed: bytes,
        label: bytes,
        max_retries: int,
        payload: bytes,
        arguments: list[bytes],
        trace: Trace = (),
        site: Any = None,
    ) -> None:
        parent = self._submitter(guest.handle.id, seq)
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        binding = guest.bindings.get((key, packed, depth))
        if binding is None:
            definition: Definition = pickle.loads(packed)
            function = guest.functions[key]
            try:
                binding = self._submission.binding(*function, definition, depth)
            except ValueError as error:  # its group is known no more: that was asked before
                binding = self._submission.binding(*function, definition, depth, str(error))
            guest.bindings[key, packed, depth] = binding
            if len(guest.bindings) > BINDINGS_KEPT:
                guest.bindings.popitem(last=False)
        value = guest.handle.loans.result(payload)
        task, entries = self._submission.adopt(
            binding,
            parent=parent,
            label=label,
            max_retries=max_retries,
            payload=value,
            entries=[self._entry(guest, found) for found in arguments] or None,
            held=self._contained(value),
            trace=trace,
        )
        if site:
            self._submission.sites.note(task, site)
        self._take_in(guest, task, entries, label)

    def _take_in(self, guest: Guest, task: Task, entries: list[ObjectEntry], label: bytes) -> None:
        """Submit what a task has called; its worker holds the refs."""
        for entry in entries:
            self._engine.export(entry)
            guest.hold(entry.binary(), entry)
        if task.stream is not None and not task.stream.dynamic:
            guest.streams.add(label)
        self._new.append(task)

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
            self._reply(guest, request, [_pickled(error)])
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
            self._reply(guest, request, [_pickled(error)])
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

    def _function(
        self,
        guest: Guest,
        _seq: int,
        _request: int,
        key: int,
        name: str,
        code: bytes,
        captured: list[bytes],
    ) -> None:
        refs: list[ObjectRef[Any]] = [ObjectRef(self._engine.adopt(found)) for found in captured]
        guest.functions[key] = self._submission.function(name, code), refs

    def _unload(self, guest: Guest, _seq: int, _request: int, key: int) -> None:
        guest.functions.pop(key, None)
        for known in [known for known in guest.bindings if known[0] == key]:
            del guest.bindings[known]

    def _submit_new(self) -> None:
        if self._new:
            new, self._new = self._new, []
            self._feed(TasksSubmitted(new))

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

    def _cancel(
        self,
        guest: Guest,
        _seq: int,
        request: int,
        identifier: bytes,
        force: bool,
        recursive: bool,
        grace: float | None,
    ) -> None:
        if grace is not None and not 0 <= grace < math.inf:
            raise ValueError(f"a cancel with a grace of {grace} seconds")
        entry = self._entry(guest, identifier)
        asked = self._engine.cancel(entry, force=force, recursive=recursive, grace=grace)
        asked.when_known(lambda outcome: self._reply(guest, request, outcome.name))

    def _lose(self, guest: Guest, _seq: int, request: int, identifier: bytes) -> None:
        self._reply(guest, request, self._engine.lose(self._entry(guest, identifier)))

    def _info(self, guest: Guest, _seq: int, request: int, what: str) -> None:
        if what not in _TOLD:
            raise ValueError(f"a question about {what}")
        self._reply(guest, request, getattr(self._engine, what)())

    # ------------------------------------------------------------ generators

    def _yielded(self, guest: Guest, item: Yielded) -> None:
        task = self._running(guest.handle.id, item.seq)
        if task is None:
            return  # it was given up
        if task.stream is None:
            entries = entries_of(task, self._engine)
            if item.value is None or not 0 <= item.number < len(entries):
                raise ValueError(f"item {item.number} of {task.name}, which has no such result")
            self._engine.store(entries[item.number], item.value)
        elif item.value is None:
            task.stream.last_count = item.number
        else:
            task.stream.add(item.number, lambda entry: self._engine.store(entry, item.value))

    def _more(self, guest: Guest, seq: int, request: int, count: int) -> None:
        task = self._running(guest.handle.id, seq)
        if task is None or task.stream is None or task.stream.may_yield(count):
            self._reply(guest, request, None)
            return
        wait = _Wait(seq, request, [], 1, wants_values=False)
        self._begin(guest, wait, [])

        def go_on() -> None:
            if guest.waits.get(request) is wait:
                self._finish(guest, wait, look=False)

        task.stream.pause(count, go_on)

    def let_yield(self, handle: WorkerHandle, seq: int) -> None:
        """Let a generator go on that waits to be read: it is to find that it is cancelled."""
        guest = self._guests.get(handle.id)
        for wait in () if guest is None else tuple(guest.waits.values()):
            if wait.seq == seq and not wait.entries:  # it is no GET, nor WAIT
                self._finish(guest, wait, look=False)  # type: ignore[arg-type]

    def _consumed(self, _guest: Guest, _seq: int, _request: int, task: bytes, count: int) -> None:
        self._engine.consume(task, count)

    def _abandon(self, guest: Guest, _seq: int, _request: int, task: bytes) -> None:
        guest.streams.discard(task)
        self._engine.abandon(task)

    # ------------------------------------------------------------ placement groups

    def _place(self, guest: Guest, seq: int, request: int, packed: bytes) -> None:
        parent = self._submitter(guest.handle.id, seq)
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        try:
            self._submission.class_for(pickle.loads(packed), depth, None)
        except Exception as error:  # noqa: BLE001 - whatever a foreign strategy may raise
            self._reply(guest, request, [_pickled(error)])
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
            self._reply(guest, request, [_pickled(error)])
        else:
            self._reply(guest, request, None)

    def _remove_group(self, guest: Guest, _seq: int, request: int, identifier: bytes) -> None:
        try:
            self._engine.remove_placement_group(identifier)
        except ValueError as error:
            self._reply(guest, request, [_pickled(error)])
        else:  # after what that means for others
            self._feed(functools.partial(self._reply, guest, request, None))

    def _group_ready(self, guest: Guest, _seq: int, request: int, identifier: bytes) -> None:
        try:
            ref = self._engine.placement_group_ready(identifier)
        except ValueError as error:
            self._reply(guest, request, [_pickled(error)])
            return
        self._engine.export(ref._entry)
        guest.hold(ref.binary(), ref._entry)
        self._reply(guest, request, ref.binary())

    # ------------------------------------------------------------ waiting

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
        wait = _Wait(seq, request, entries, len(pending), wants_values=True, holds=holds)
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
        wait = _Wait(seq, request, entries, missing, wants_values=False, holds=holds)
        self._begin(guest, wait, pending)

    def _begin(self, guest: Guest, wait: _Wait, pending: list[ObjectEntry]) -> None:
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

    def _hit(self, guest: Guest, wait: _Wait, entry: ObjectEntry) -> None:
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

    def _finish(self, guest: Guest, wait: _Wait, *, look: bool) -> None:
        self._end(guest, wait)
        if wait.wants_values:
            # One that was at hand may be on disk, or lost, by now: then it is waited for again.
            self._give(guest, wait.seq, wait.request, wait.entries, look=look, holds=wait.holds)
        else:
            found = [entry.outcome is not None for entry in wait.entries]
            self._reply(guest, wait.request, found)

    def _end(self, guest: Guest, wait: _Wait) -> None:
        """Nobody waits for this any more."""
        del guest.waits[wait.request]
        _stop_waiting(wait)
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
            return [_pickled(outcome.exception())]
        if isinstance(outcome, Stored) and outcome.at_hand:
            return guest.handle.loans.lend_to_reply(request, outcome)
        return None


def _stop_waiting(wait: _Wait) -> None:
    for entry, hit in wait.hits:
        entry.drop_waiter(hit)
    wait.hits.clear()


def _pickled(error: BaseException) -> bytes:
    try:
        return dumps(error)
    except Exception as problem:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
        text = f"The error of a task could not be sent to another one ({problem!r}): {error!r}"
        return dumps(RaySystemError(text))
