"""The client that tasks use: remote functions, refs and the rest of the API, from inside a worker.

Room: worker. Everything is asked of the driver, which alone knows what there is: `Connection` turns
calls into frames and replies into outcomes. A ref here is known by its id. The driver is told when
the first ref to an object appears in this process and when the last is gone, in the order in which
that happens with everything else; so it keeps each object alive for as long as it can be asked for.

Ids of what a task submits and puts follow from the task's own, its attempt and a counter. A task
has no answer of its own to lose: if it dies, the driver still has what it has submitted.

A small value stays with its ref. A large one is looked at where it lies, as long as there are
arrays that use it, and asked for again by the next `get`.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import pickle
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..client.arguments import export, serialize, serialize_call
from ..client.call_sites import recorder
from ..client.current import place, running
from ..client.definitions import (
    ActorDefinition,
    Definition,
    MethodDefinition,
    define,
    define_actor,
    define_method,
    max_retries_now,
)
from ..client.environments import WorkerEnvironment
from ..client.generators import ObjectRefGenerator
from ..client.placement import ANYWHERE
from ..client.protocol import registry
from ..client.refs import NotAtHand, ObjectEntry, ObjectRef, StoredFailure
from ..exceptions import GetTimeoutError
from ..shared import ids
from ..shared.serialization import Pieces, load
from ..shared.wire import HELD, LET_GO, STREAMING, Ask
from .channel import TimeIsOver
from .interrupts import protected
from .objects import ArgumentLost

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ..client.call_sites import Site
    from ..client.protocol import Call, Demand
    from ..core.outcomes import CancelOutcome
    from ..shared.wire import Attempt
    from ..state.read.sessions import Session
    from .channel import Channel
    from .objects import Objects

__all__ = ["Connection"]

protected(ObjectRefGenerator.__del__)


class _Context:
    """The attempt that asks, and what it has counted. It outlives that, and holds nothing of it."""

    def __init__(self, attempt: Attempt | None) -> None:
        self.seq = 0 if attempt is None else attempt.seq
        self.number = 0 if attempt is None else attempt.attempt
        # Its placement group, and whether that is for what it submits as well.
        self.surroundings = ("", False) if attempt is None else (attempt.group, attempt.captures)
        if attempt is None:  # a thread that a task has left behind may ask between attempts
            self.task = ids.worker_label(place.worker_id) + place.job
        else:
            self.task = ids.task_id(place.job, attempt.label)
        self.children = itertools.count(1)
        self.puts = itertools.count(1 + self.number % ids.PUT_ATTEMPTS * ids.PUTS_OF_AN_ATTEMPT)


class _Got:
    """A large value that a reply has given; at hand once, and while something looks at it."""

    __slots__ = ("_view", "_weak")

    def __init__(self, view: Any) -> None:
        self._view = view
        self._weak = None if isinstance(view, memoryview) else weakref.ref(view)

    @property
    def at_hand(self) -> bool:
        """Whether `view` gives it."""
        return self._view is not None or (self._weak is not None and self._weak() is not None)

    def view(self, *, from_disk: bool = False) -> memoryview:
        """The serialized value. Raises NotAtHand if it has to be asked for again."""
        del from_disk  # if it is there, the driver has read it from there
        view, self._view = self._view, None
        if view is None and self._weak is not None:
            view = self._weak()
        if view is None:
            raise NotAtHand
        return memoryview(view).cast("B").toreadonly()


class _CancelRequest:
    """A request to cancel; await it for what became of it, a `CancelOutcome`."""

    def __init__(self, connection: Connection, seq: int, request: int) -> None:
        self._connection = connection
        self._seq = seq
        self._request = request
        self._outcome: CancelOutcome | None = None

    def __await__(self) -> Generator[Any, None, CancelOutcome]:
        import asyncio

        return asyncio.to_thread(self.result).__await__()

    def result(self, timeout: float | None = None) -> CancelOutcome:
        """Block for the outcome, up to `timeout` seconds; TimeoutError after that."""
        if self._outcome is None:
            from ..core.outcomes import CancelOutcome

            deadline = None if timeout is None else time.monotonic() + timeout
            try:
                name = self._connection.channel.finish(self._seq, self._request, deadline)
            except TimeIsOver:
                raise TimeoutError from None
            self._outcome = CancelOutcome[name]
        return self._outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # elsewhere it is what Ray's cancel returns

    def __del__(self) -> None:
        self._connection.channel.ignore(self._request)


class Connection:
    """Implements `aioray.client.protocol.Client` for the tasks of one worker."""

    def __init__(self, channel: Channel, objects: Objects) -> None:
        self.channel = channel
        self.job = place.job
        self.node_id = place.node_id
        self.session = place.session
        self.namespace = place.namespace
        self.runtime_env = place.env
        self._environment = WorkerEnvironment(json.dumps(place.env, sort_keys=True), place.hook)
        self.loop: asyncio.AbstractEventLoop | None = None  # it belongs to none
        self.closed = False
        self._objects = objects
        self._between = self._context = _Context(None)  # of threads that belong to no attempt
        self._lock = threading.Lock()
        self._exporting = threading.RLock()
        # The entry of each object that there is a ref to. A reference calls back when it is gone.
        self._entries: dict[bytes, weakref.KeyedRef[bytes, ObjectEntry]] = {}
        self._functions: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._function_refs: set[weakref.KeyedRef[int, Any]] = set()
        self._function_keys = itertools.count(1)
        self._watches: dict[tuple[ObjectEntry, Callable[[], None]], tuple[int, int]] = {}
        self._site = site = recorder(os.environ)
        # What a call says last.
        self._last = _trace if site is None else functools.partial(_trace_and_site, site)

    def in_own_thread(self) -> bool:
        """False: the engine runs in the driver, and answers whoever waits here."""
        return False

    def between_runs(self) -> bool:
        """False, likewise."""
        return False

    def disown(self) -> None:
        """This is a copy in a process that a task has forked: it cannot use the channels."""
        self.closed = True

    # ------------------------------------------------------------ who asks

    def _asking(self) -> _Context:
        """The context of the attempt that runs now."""
        attempt = place.attempt
        context = self._context
        if attempt is not None and attempt.seq == context.seq:
            return context
        return self._context_of(attempt)

    def _context_of(self, attempt: Attempt | None) -> _Context:
        if attempt is None:
            return self._between
        call = running.get()
        with self._lock:
            if call is not None:  # others run beside it, and `_context` is of none of them
                if call.asker is None:
                    call.asker = _Context(attempt)
                context: _Context = call.asker
                return context
            if attempt.seq != self._context.seq:
                self._context = _Context(attempt)
            return self._context

    # ------------------------------------------------------------ entries

    def adopt(self, identifier: bytes) -> ObjectEntry:
        """The entry behind an id that came out of a pickle."""
        # The driver would keep what it is told of and nobody here has, if that were interrupted.
        with self.channel.uninterrupted(), self._lock:
            found = self._entries.get(identifier)
            entry = None if found is None else found()
            if entry is None:
                self.channel.hold(HELD + identifier)
                entry = self._new_entry(identifier)
        return entry

    def _new_entry(self, identifier: bytes) -> ObjectEntry:
        """An entry for an object of which the driver knows that it is held here."""
        entry = ObjectEntry(self, 0, 0)
        entry.identifier = identifier
        self._entries[identifier] = weakref.KeyedRef(entry, self._has_gone, identifier)
        return entry

    @protected
    def _has_gone(self, ref: weakref.KeyedRef[bytes, ObjectEntry]) -> None:
        """For any thread, at any moment, even while it holds the lock."""
        if self._entries.get(ref.key) is ref:
            self._entries.pop(ref.key, None)
        if not self.closed:
            self.channel.let_go(LET_GO + ref.key)

    def consume(self, task: bytes, count: int) -> None:
        """So many items of a generator task have been read."""
        self.channel.tell(self._asking().seq, Ask.CONSUMED, task, count)
        self.channel.ring()

    @protected
    def abandon(self, task: bytes) -> None:
        """Nobody reads the items of this generator task any more."""
        self.channel.tell_later(Ask.ABANDON, task)
        self.channel.tell_soon()

    def export(self, entry: ObjectEntry) -> None:
        """Nothing: the driver knows every id."""

    def pin(self, entry: ObjectEntry) -> None:
        """Keep the object for the session."""
        self.channel.tell(self._asking().seq, Ask.PIN, entry.binary())

    # ------------------------------------------------------------ tasks

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Submit a call of a remote function, or of a method."""
        context = self._asking()
        if call.actor is not None:
            return self._submit_call(call, call.actor, args, kwargs, context)
        definition: Definition
        definition, packed, key = self._prepare(call, context, define)
        data, entries, refs = serialize_call(call, definition.name, args, kwargs, self)
        retries = definition.max_retries
        if retries is None:
            retries = max_retries_now()
        label = ids.child_task_id(context.task, next(context.children), context.number)
        # Or room would be lost that was granted, and the driver hold what nobody has a ref to.
        with self.channel.uninterrupted():
            payload = self._keep(data)
            self.channel.tell(
                context.seq,
                Ask.SUBMIT,
                key,
                packed,
                label,
                retries,
                payload,
                [entry.binary() for entry in entries or ()],
                *self._last("task call"),
            )
            self.channel.ring()
            found = self._new_refs(label, definition.num_returns)
        del refs  # they had to live until it was said that the arguments contain them
        return _returned(found, definition.num_returns)

    def _new_refs(self, label: bytes, num_returns: int) -> list[ObjectRef[Any]]:
        """Refs to the values of a task that was submitted; the driver knows that they are held."""
        with self._lock:
            return [
                ObjectRef(self._new_entry(ids.object_id(label, index + 1)))
                for index in range(num_returns if num_returns >= 0 else 1)
            ]

    def _submit_call(
        self,
        call: Call,
        actor: ObjectRef[Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: _Context,
    ) -> Any:
        if call.client is not self:
            method = define_method(call)
            call.binding = method, pickle.dumps(method, 5)
            call.client = self
        definition: MethodDefinition
        definition, packed = call.binding
        data, entries, refs = serialize_call(call, definition.name, args, kwargs, self)
        task = ids.child_task_id(context.task, next(context.children), context.number)
        identifier = actor.binary()
        label = ids.actor_call_id(task, identifier)
        with self.channel.uninterrupted():
            payload = self._keep(data)
            self.channel.tell(
                context.seq,
                Ask.CALL_ACTOR,
                identifier,
                packed,
                label,
                payload,
                [entry.binary() for entry in entries or ()],
                *self._last("actor call"),
            )
            self.channel.ring()
            found = self._new_refs(label, definition.num_returns)
        del refs
        return _returned(found, definition.num_returns)

    def _prepare(
        self, call: Call, context: _Context, describe: Callable[..., Any]
    ) -> tuple[Any, bytes, int]:
        """The call's definition, also pickled; and the key of the function, or class.

        describe: `define` or `define_actor`.
        """
        surroundings = context.surroundings
        if call.client is not self or call.binding[0] != surroundings:
            group, captures = surroundings
            definition = describe(call, self._environment, group, captures=captures)
            packed = pickle.dumps(definition, 5)
            if definition.where != ANYWHERE:
                self._ask(context.seq, Ask.PLACE, packed)
            call.binding = surroundings, definition, packed
            call.client = self
        _, definition, packed = call.binding
        key = self._functions.get(call.code)
        return definition, packed, self._send_function(call, context) if key is None else key

    def _send_function(self, call: Call, context: _Context) -> int:
        """Tell the driver of a function; the key under which it is known from now on."""
        with self._exporting:  # not the other lock: pickling may come upon refs
            key = self._functions.get(call.code)
            if key is None:
                code, captured = export(call)
                key = next(self._function_keys)
                refs = [ref.binary() for ref in captured]
                with self.channel.uninterrupted():
                    self.channel.tell(context.seq, Ask.FUNCTION, key, call.code.name, code, refs)
                    self._functions[call.code] = key
                    self._function_refs.add(
                        weakref.KeyedRef(call.code, self._function_has_gone, key)
                    )
        return key

    @protected
    def _function_has_gone(self, ref: weakref.KeyedRef[int, Any]) -> None:
        self._function_refs.discard(ref)
        if not self.closed:
            self.channel.tell_later(Ask.UNLOAD, ref.key)

    # ------------------------------------------------------------ actors

    def create_actor(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Take an actor. See `aioray.client.protocol.Client`."""
        context = self._asking()
        definition: ActorDefinition
        definition, packed, key = self._prepare(call, context, define_actor)
        data, entries, refs = serialize_call(call, definition.class_name, args, kwargs, self)
        label = ids.actor_task_id(context.task, next(context.children), context.number)
        with self.channel.uninterrupted():
            arguments = (
                key,
                packed,
                label,
                self._keep(data),
                [entry.binary() for entry in entries or ()],
                *self._last("actor call"),
            )
            if definition.name:
                self._ask(context.seq, Ask.CREATE_ACTOR, *arguments)
            else:
                self.channel.tell(context.seq, Ask.CREATE_ACTOR, *arguments)
                self.channel.ring()
            (ref,) = self._new_refs(label, 1)
        del refs
        return ref

    def get_actor(self, name: str, namespace: str | None) -> tuple[ObjectRef[Any], bytes] | None:
        """The ref and the meta of a living actor. See `aioray.client.protocol.Client`."""
        found: list[tuple[ObjectRef[Any], bytes]] = []

        def take(_request: int, body: Any) -> None:
            if isinstance(body, tuple):  # it is held there until this is said
                identifier, meta = body
                found.append((ObjectRef(self.adopt(identifier)), meta))
                self.channel.let_go(LET_GO + identifier)

        self._ask(self._asking().seq, Ask.GET_ACTOR, name, namespace, take=take)
        return found[0] if found else None

    def kill_actor(self, actor: ObjectRef[Any], *, no_restart: bool) -> None:
        """End an actor at once, maybe the one that asks: then this does not return."""
        self._ask(self._asking().seq, Ask.KILL_ACTOR, actor.binary(), no_restart)

    def named_actors(self) -> list[tuple[str, str]]:
        """Namespace and name of every living actor that has a name."""
        return [(namespace, name) for namespace, name in self._info("named_actors")]

    def pending_calls(self, actor: ObjectRef[Any]) -> int:
        """How many calls of an actor this worker has made that have not ended."""
        found: int = self.channel.ask(self._asking().seq, Ask.PENDING_CALLS, actor.binary())
        return found

    def _keep(self, data: bytes | Pieces) -> bytes:
        """A value as it is sent: if it is large, it is written to the store."""
        if isinstance(data, bytes):
            return data
        return self._objects.keep(data)

    def cancel(
        self, entry: ObjectEntry, *, force: bool, recursive: bool, grace: float | None
    ) -> _CancelRequest:
        """Ask for a cancel. See `aioray.api.objects.cancel`."""
        seq = self._asking().seq
        request = self.channel.begin(seq, Ask.CANCEL, entry.binary(), force, recursive, grace)
        return _CancelRequest(self, seq, request)

    # ------------------------------------------------------------ objects

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value."""
        context = self._asking()
        data, refs = serialize(value, "value", "the value given to put()")
        identifier = ids.object_id(context.task, ids.PUT_INDEX + next(context.puts))
        site = () if self._site is None else (self._site("put object"),)
        with self.channel.uninterrupted():
            self.channel.tell(context.seq, Ask.PUT, identifier, self._keep(data), *site)
            with self._lock:
                ref: ObjectRef[Any] = ObjectRef(self._new_entry(identifier))
        del refs
        return ref

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, *, at_hand: bool = False
    ) -> None:
        """Block until all refs have an outcome here, or one has failed."""
        del at_hand  # what has an outcome here is at hand, or asked for again
        wanted = list({ref._entry: None for ref in refs if not ref._entry.at_hand})
        failed = any(isinstance(ref._entry.outcome, StoredFailure) for ref in refs)
        seq = self._asking().seq
        deadline = None if timeout is None else time.monotonic() + timeout
        while wanted and not failed:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            look = left == 0
            named = [entry.binary() for entry in wanted]
            request = self.channel.begin(seq, Ask.GET, named, look, self._holds(timeout))
            body = self._finish(
                seq, request, None if look else left, functools.partial(self._take_in, wanted)
            )
            failed = any(isinstance(entry.outcome, StoredFailure) for entry in wanted)
            if None in body and not failed:
                raise GetTimeoutError("Get timed out: some object(s) not ready.")
            wanted = [entry for entry in wanted if entry.outcome is None]

    @staticmethod
    def _holds(timeout: float | None) -> bool:
        """Whether waiting so long holds up the attempt itself, and no thread that it has made."""
        if timeout is not None:
            return False
        call = running.get()
        thread = threading.main_thread().ident if call is None else call.thread
        return threading.get_ident() == thread

    def _finish(
        self,
        seq: int,
        request: int,
        timeout: float | None,
        take: Callable[[int, Any], None] | None = None,
    ) -> Any:
        """The reply; after `timeout` that which can be given then. take: see `Channel.finish`."""
        channel = self.channel
        if timeout is not None:
            try:
                return channel.finish(seq, request, time.monotonic() + timeout, take)
            except TimeIsOver:
                channel.tell(seq, Ask.LOOK, request)
                channel.ring()
        return channel.finish(seq, request, take=take)

    def _take_in(self, entries: Sequence[ObjectEntry], request: int, body: Sequence[Any]) -> None:
        """Give entries the outcomes that a reply has brought."""
        for entry, item in zip(entries, body, strict=True):
            if item is None:
                continue
            if isinstance(item, bytes):
                entry.outcome = item
            elif isinstance(item, tuple):
                try:
                    entry.outcome = _Got(self._objects.open_got(request, item))
                except ArgumentLost:
                    entry.outcome = None  # its file has gone just now: it is asked for again
            else:
                entry.outcome = _failure(item[0])

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[bool]:
        """Block until `num_returns` are ready or the time is over; which ones are."""
        seq = self._asking().seq
        look = timeout is not None and timeout <= 0
        named = [ref.binary() for ref in refs]
        holds = num_returns == len(named) and self._holds(timeout)
        request = self.channel.begin(seq, Ask.WAIT, named, num_returns, look, holds)
        found: list[bool] = self._finish(seq, request, None if look else timeout)
        return found

    def look(self, entry: ObjectEntry) -> bool:
        """Whether the driver has an outcome by now."""
        found: list[bool] = self.channel.ask(
            self._asking().seq, Ask.WAIT, [entry.binary()], 1, True
        )
        return found[0]

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call back, in some thread, when the entry has its outcome here."""
        if entry.at_hand:
            callback()
            return
        seq = self._asking().seq
        key = (entry, callback)

        def found(request: int, body: Any) -> None:
            self._watches.pop(key, None)
            self._take_in([entry], request, body)
            callback()

        request = self.channel.begin(seq, Ask.GET, [entry.binary()], False, watcher=found)
        self._watches[key] = seq, request
        if entry.at_hand:  # it came before that line
            self._watches.pop(key, None)

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Take a callback back."""
        found = self._watches.pop((entry, callback), None)
        if found is not None:
            self.channel.forget(*found)

    def fetch(self, entry: ObjectEntry) -> None:
        """Nothing: the driver does it when it is asked for the value."""

    def lose(self, entry: ObjectEntry) -> str | None:
        """Throw away a stored value. See `aioray.testing.lose`."""
        if isinstance(entry.outcome, _Got):
            entry.outcome = None
        why: str | None = self.channel.ask(self._asking().seq, Ask.LOSE, entry.binary())
        return why

    # ------------------------------------------------------------ placement groups

    def create_placement_group(
        self, identifier: bytes, bundles: Sequence[Demand], strategy: str, name: str, value: bytes
    ) -> None:
        """Take a placement group. See `aioray.client.protocol.Client`."""
        seq = self._asking().seq
        self._ask(seq, Ask.ADD_GROUP, identifier, list(bundles), strategy, name, value)

    def remove_placement_group(self, identifier: bytes) -> None:
        """Remove a placement group, maybe that of the task that asks: then this does not return."""
        self._ask(self._asking().seq, Ask.REMOVE_GROUP, identifier)

    def placement_group_ready(self, identifier: bytes) -> ObjectRef[Any]:
        """The ref that is ready when the group is placed."""
        seq = self._asking().seq
        found: list[ObjectRef[Any]] = []

        def take(_request: int, body: Any) -> None:
            if isinstance(body, bytes):  # it is held there until this is said
                found.append(ObjectRef(self.adopt(body)))
                self.channel.let_go(LET_GO + body)

        self._ask(seq, Ask.GROUP_READY, identifier, take=take)
        return found[0]

    def placement_group_table(self) -> dict[str, dict[str, Any]]:
        """The placement groups by id, as Ray describes them."""
        found: dict[str, dict[str, Any]] = self._info("placement_group_table")
        return found

    def _ask(
        self,
        seq: int,
        verb: Ask,
        *arguments: Any,
        take: Callable[[int, Any], None] | None = None,
    ) -> None:
        """Ask for something, and raise the error if that is the reply. take: see `Channel`."""
        body = self.channel.finish(seq, self.channel.begin(seq, verb, *arguments), take=take)
        if isinstance(body, list):
            raise load(body[0])

    # ------------------------------------------------------------ what there is

    def cluster_resources(self) -> dict[str, float]:
        """Totals by name."""
        found: dict[str, float] = self._info("cluster_resources")
        return found

    def available_resources(self) -> dict[str, float]:
        """What is free, by name."""
        found: dict[str, float] = self._info("available_resources")
        return found

    def own_session(self) -> Session:
        """The session that it belongs to, to be looked at."""
        from ..state.read.sessions import Session

        return Session(self.session, place.folder, alive=True, pid=int(self.session.split("_")[-1]))

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes, as Ray describes them."""
        found: list[dict[str, Any]] = self._info("nodes")
        return found

    def _info(self, what: str) -> Any:
        return self.channel.ask(self._asking().seq, Ask.INFO, what)


def _trace(_sort: str) -> tuple[Any, ...]:
    """The span that surrounds a call, if there are spans."""
    if not registry.traces:
        return ()
    from . import tracing

    return (tracing.current(),)


def _trace_and_site(site: Callable[[str], Site], sort: str) -> tuple[Any, ...]:
    """The same, and the site of the call, which makes something of this sort."""
    return *(_trace(sort) or ((),)), site(sort)


def _returned(found: list[ObjectRef[Any]], num_returns: int) -> Any:
    """What a call gives to its caller."""
    if num_returns == STREAMING:
        return ObjectRefGenerator(found[0])
    return found[0] if len(found) == 1 else found or None


def _failure(pickled: bytes) -> StoredFailure:
    failure = StoredFailure(lambda: load(pickled))
    failure.seen = True  # the driver minds those that nobody looks at
    return failure
