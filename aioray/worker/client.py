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
import pickle
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..client.arguments import serialize, serialize_call, serialize_function
from ..client.current import execution_context, running
from ..client.definitions import (
    ActorDefinition,
    Definition,
    MethodDefinition,
    define,
    define_actor,
    define_method,
    max_retries_now,
)
from ..client.generators import ObjectRefGenerator
from ..client.placement import ANYWHERE
from ..client.refs import ObjectRef
from ..client.rest import PlainCompletions
from ..client.results import entries_to_get, get_timed_out, has_failed, returned
from ..shared import asks, ids
from ..shared.wire import LET_GO
from .asking import Asking
from .interrupts import protected
from .objects import ArgumentLost
from .outcomes import AskedCancel, Got, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..client.admission import Gate
    from ..client.entry import ObjectEntry
    from ..client.protocol import Call, Demand
    from ..state.read.sessions import Session
    from .asking import Context

__all__ = ["Connection"]

protected(ObjectRefGenerator.__del__)


class Connection(Asking):
    """Implements `aioray.client.protocol.Client` for the tasks of one worker."""

    # ------------------------------------------------------------ tasks

    gate: Gate | None = None  # what a task waits for must not be refused because of one

    def begun(self, entries: Sequence[ObjectEntry]) -> list[bool]:
        """Tell that nothing has begun: what becomes of tasks is not heard here."""
        return [False] * len(entries)

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
        task_key = ids.child_task_id(context.task, next(context.children), context.number)
        # Or room would be lost that was granted, and the driver hold what nobody has a ref to.
        with self.channel.uninterrupted():
            payload = self._keep(data)
            arguments = [entry.binary() for entry in entries or ()]
            last = self._last("task call")
            self.channel.send(
                context.seq, asks.Submit(key, packed, task_key, retries, payload, arguments, *last)
            )
            self.channel.ring()
            found = self._new_refs(task_key, definition.num_returns)
        del refs  # they had to live until it was said that the arguments contain them
        return returned(found, definition.num_returns)

    def _submit_call(
        self,
        call: Call,
        actor: ObjectRef[Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: Context,
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
        task_key = ids.actor_call_id(task, identifier)
        with self.channel.uninterrupted():
            payload = self._keep(data)
            arguments = [entry.binary() for entry in entries or ()]
            last = self._last("actor call")
            self.channel.send(
                context.seq, asks.CallActor(identifier, packed, task_key, payload, arguments, *last)
            )
            self.channel.ring()
            found = self._new_refs(task_key, definition.num_returns)
        del refs
        return returned(found, definition.num_returns)

    def _prepare(
        self, call: Call, context: Context, describe: Callable[..., Any]
    ) -> tuple[Any, bytes, int]:
        """Return a call's definition, also pickled; and the key of the function, or class.

        describe: `define` or `define_actor`.
        """
        surroundings = context.surroundings
        if call.client is not self or call.binding[0] != surroundings:
            group, captures = surroundings
            definition = describe(call, self._environment, group, captures=captures)
            packed = pickle.dumps(definition, 5)
            if definition.where != ANYWHERE:
                self._ask(context.seq, asks.CheckPlacement(packed))
            call.binding = surroundings, definition, packed
            call.client = self
        _, definition, packed = call.binding
        key = self._functions.get(call.code)
        return definition, packed, self._send_function(call, context) if key is None else key

    def _send_function(self, call: Call, context: Context) -> int:
        """Tell the driver of a function; return the key under which it is known from now on."""
        with self._exporting:  # not the other lock: pickling may come upon refs
            key = self._functions.get(call.code)
            if key is None:
                code, captured = serialize_function(call)
                key = next(self._function_keys)
                refs = [ref.binary() for ref in captured]
                with self.channel.uninterrupted():
                    told = asks.DefineFunction(key, call.code.name, code, refs)
                    self.channel.send(context.seq, told)
                    self._functions[call.code] = key
                    self._function_refs.add(
                        weakref.KeyedRef(call.code, self._function_has_gone, key)
                    )
        return key

    @protected
    def _function_has_gone(self, ref: weakref.KeyedRef[int, Any]) -> None:
        self._function_refs.discard(ref)
        if not self.closed:
            self.channel.tell_later(asks.UnloadFunction(ref.key))

    # ------------------------------------------------------------ actors

    def create_actor(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Create an actor. See `aioray.client.protocol.Client`."""
        context = self._asking()
        definition: ActorDefinition
        definition, packed, key = self._prepare(call, context, define_actor)
        data, entries, refs = serialize_call(call, definition.class_name, args, kwargs, self)
        task_key = ids.actor_task_id(context.task, next(context.children), context.number)
        with self.channel.uninterrupted():
            payload = self._keep(data)
            arguments = [entry.binary() for entry in entries or ()]
            last = self._last("actor call")
            ask = asks.CreateActor(key, packed, task_key, payload, arguments, *last)
            if definition.name:
                self._ask(context.seq, ask)
            else:
                self.channel.send(context.seq, ask)
                self.channel.ring()
            (ref,) = self._new_refs(task_key, 1)
        del refs
        return ref

    def get_actor(self, name: str, namespace: str | None) -> tuple[ObjectRef[Any], bytes] | None:
        """Return the ref and the meta of a living actor. See `aioray.client.protocol.Client`."""
        found: list[tuple[ObjectRef[Any], bytes]] = []

        def take(_request: int, body: Any) -> None:
            if isinstance(body, tuple):  # it is held there until this is said
                identifier, meta = body
                found.append((ObjectRef(self.entry_of(identifier)), meta))
                self.channel.let_go(LET_GO + identifier)

        self._ask(self._asking().seq, asks.GetActor(name, namespace), take=take)
        return found[0] if found else None

    def kill_actor(self, actor: ObjectRef[Any], *, no_restart: bool) -> None:
        """End an actor at once, maybe the one that asks: then this does not return."""
        self._ask(self._asking().seq, asks.KillActor(actor.binary(), no_restart))

    def named_actors(self) -> list[tuple[str, str]]:
        """Return the namespace and the name of every living actor that has a name."""
        return [(namespace, name) for namespace, name in self._info("named_actors")]

    def pending_calls(self, actor: ObjectRef[Any]) -> int:
        """Return how many calls of an actor this worker has made that have not ended."""
        found: int = self.channel.ask(self._asking().seq, asks.PendingCalls(actor.binary()))
        return found

    def tell_of_map(
        self, task: bytes, state: str, counts: Sequence[int], error: Sequence[str]
    ) -> None:
        """Let the history know how far a map has come. See `aioray.client.protocol.Client`."""
        ask = asks.TellOfMap(task, state, list(counts), list(error))
        self.channel.send(self._asking().seq, ask)

    def cancel(
        self, entry: ObjectEntry, *, force: bool, recursive: bool, grace: float | None
    ) -> AskedCancel:
        """Ask for a cancel. See `aioray.api.objects.cancel`."""
        seq = self._asking().seq
        ask = asks.Cancel(entry.binary(), force, recursive, grace)
        request = self.channel.begin(seq, ask)
        return AskedCancel(self.channel, seq, request)

    def stop(self, entry: ObjectEntry, grace: float, done: Callable[[], None]) -> None:
        """End the task, or the actor, of an entry. See `aioray.client.protocol.Client`."""
        ask = asks.Stop(entry.binary(), grace)
        self.channel.begin(self._asking().seq, ask, watcher=lambda _request, _body: done())

    # ------------------------------------------------------------ objects

    def consume(self, task: bytes, count: int) -> None:
        """Note how many items of a generator task have been read."""
        self.channel.send(self._asking().seq, asks.ItemsRead(task, count))
        self.channel.ring()

    @protected
    def abandon(self, task: bytes) -> None:
        """Note that nobody reads the items of this generator task any more."""
        self.channel.tell_later(asks.AbandonStream(task))
        self.channel.tell_soon()

    def export_entry(self, entry: ObjectEntry) -> None:
        """Do nothing: the driver knows every id."""

    def pin(self, entry: ObjectEntry) -> None:
        """Keep the object for the session."""
        self.channel.send(self._asking().seq, asks.Pin(entry.binary()))

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value, and return a ref to it."""
        context = self._asking()
        data, refs = serialize(value, "value", "the value given to put()")
        identifier = ids.object_id(context.task, ids.PUT_INDEX + next(context.puts))
        site = () if self._site is None else (self._site("put object"),)
        with self.channel.uninterrupted():
            self.channel.send(context.seq, asks.Put(identifier, self._keep(data), *site))
            with self._lock:
                ref: ObjectRef[Any] = ObjectRef(self._new_entry(identifier))
        del refs
        return ref

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, *, in_memory: bool = False
    ) -> None:
        """Block until all refs have an outcome here, or one has failed."""
        del in_memory  # what has an outcome here is at hand, or asked for again
        wanted = entries_to_get(refs, in_memory=True)
        failed = has_failed(ref.entry for ref in refs)
        seq = self._asking().seq
        deadline = None if timeout is None else time.monotonic() + timeout
        while wanted and not failed:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            at_once = left == 0
            named = [entry.binary() for entry in wanted]
            request = self.channel.begin(seq, asks.Get(named, at_once, self._holds(timeout)))
            body = self._finish(
                seq, request, None if at_once else left, functools.partial(self._take_in, wanted)
            )
            failed = has_failed(wanted)
            if None in body and not failed:
                raise get_timed_out()
            wanted = [entry for entry in wanted if entry.outcome is None]

    @staticmethod
    def _holds(timeout: float | None) -> bool:
        """Return whether waiting so long holds up the attempt, and no thread that it has made."""
        if timeout is not None:
            return False
        call = running.get()
        thread = threading.main_thread().ident if call is None else call.thread
        return threading.get_ident() == thread

    def _take_in(self, entries: Sequence[ObjectEntry], request: int, body: Sequence[Any]) -> None:
        """Give entries the outcomes that a reply has brought."""
        for entry, item in zip(entries, body, strict=True):
            if item is None:
                continue
            if isinstance(item, bytes):
                entry.outcome = item
            elif isinstance(item, tuple):
                try:
                    entry.outcome = Got(self._objects.open_got(request, item))
                except ArgumentLost:
                    entry.outcome = None  # its file has gone just now: it is asked for again
            else:
                entry.outcome = failure(item[0])

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[bool]:
        """Block until `num_returns` are ready or the time is over; return which ones are."""
        seq = self._asking().seq
        at_once = timeout is not None and timeout <= 0
        named = [ref.binary() for ref in refs]
        holds = num_returns == len(named) and self._holds(timeout)
        request = self.channel.begin(seq, asks.Wait(named, num_returns, at_once, holds))
        found: list[bool] = self._finish(seq, request, None if at_once else timeout)
        return found

    def completions(self, refs: Sequence[ObjectRef[Any]]) -> PlainCompletions:
        """Return what knows which of these are ready. See `aioray.client.protocol.Client`."""
        return PlainCompletions(self, refs)

    def check_ready(self, entry: ObjectEntry) -> bool:
        """Tell whether the driver has an outcome of the entry by now."""
        ask = asks.Wait([entry.binary()], 1, at_once=True)
        found: list[bool] = self.channel.ask(self._asking().seq, ask)
        return found[0]

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call back, in some thread, when the entry has its outcome here."""
        if entry.in_memory:
            callback()
            return
        seq = self._asking().seq
        key = (entry, callback)

        def found(request: int, body: Any) -> None:
            self._watches.pop(key, None)
            self._take_in([entry], request, body)
            callback()

        request = self.channel.begin(seq, asks.Get([entry.binary()], at_once=False), watcher=found)
        self._watches[key] = seq, request
        if entry.in_memory:  # it came before that line
            self._watches.pop(key, None)

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Take back a callback that `when_ready` was given."""
        found = self._watches.pop((entry, callback), None)
        if found is not None:
            self.channel.forget(*found)

    def fetch(self, entry: ObjectEntry) -> None:
        """Do nothing: the driver does it when it is asked for the value."""

    def lose(self, entry: ObjectEntry) -> str | None:
        """Throw away a stored value. See `aioray.testing.lose`."""
        if isinstance(entry.outcome, Got):
            entry.outcome = None
        why: str | None = self.channel.ask(self._asking().seq, asks.Lose(entry.binary()))
        return why

    # ------------------------------------------------------------ placement groups

    def create_placement_group(
        self, identifier: bytes, bundles: Sequence[Demand], strategy: str, name: str, value: bytes
    ) -> None:
        """Create a placement group. See `aioray.client.protocol.Client`."""
        seq = self._asking().seq
        self._ask(seq, asks.AddGroup(identifier, list(bundles), strategy, name, value))

    def remove_placement_group(self, identifier: bytes) -> None:
        """Remove a placement group, maybe that of the task that asks: then this does not return."""
        self._ask(self._asking().seq, asks.RemoveGroup(identifier))

    def placement_group_ready(self, identifier: bytes) -> ObjectRef[Any]:
        """Return the ref that is ready when the group is placed."""
        seq = self._asking().seq
        found: list[ObjectRef[Any]] = []

        def take(_request: int, body: Any) -> None:
            if isinstance(body, bytes):  # it is held there until this is said
                found.append(ObjectRef(self.entry_of(body)))
                self.channel.let_go(LET_GO + body)

        self._ask(seq, asks.GroupReady(identifier), take=take)
        return found[0]

    def placement_group_table(self) -> dict[str, dict[str, Any]]:
        """Return the placement groups by id, as Ray describes them."""
        found: dict[str, dict[str, Any]] = self._info("placement_group_table")
        return found

    # ------------------------------------------------------------ what there is

    def key_values(
        self, verb: str, namespace: bytes, key: bytes, value: bytes = b"", decides: bool = False
    ) -> Any:
        """Ask, or change, the session's key-value store, see `engine.key_values`."""
        ask = asks.UseKeyValues(verb, namespace, key, value, decides)
        return self.channel.ask(self._asking().seq, ask)

    def cluster_resources(self) -> dict[str, float]:
        """Return which resources there are in total, by name."""
        found: dict[str, float] = self._info("cluster_resources")
        return found

    def available_resources(self) -> dict[str, float]:
        """Return which resources are free, by name."""
        found: dict[str, float] = self._info("available_resources")
        return found

    def own_session(self) -> Session:
        """Return the session that this worker belongs to, to be looked at."""
        from ..state.read.sessions import Session

        return Session(
            self.session, execution_context.folder, alive=True, pid=int(self.session.split("_")[-1])
        )

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes, as Ray describes them."""
        found: list[dict[str, Any]] = self._info("nodes")
        return found
