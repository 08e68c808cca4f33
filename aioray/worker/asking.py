"""Asks the driver for something, on behalf of the attempt that runs, and knows its refs.

Room: worker. What all requests of a worker's client have in common, whatever they are for: who
asks, the entries of objects, the wait for a reply, and what a call says about where it comes from.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..client.call_sites import recorder
from ..client.current import execution_context, running
from ..client.entry import ObjectEntry, PlainEntry
from ..client.environments import WorkerEnvironment
from ..client.protocol import registry
from ..client.refs import ObjectRef
from ..shared import ids
from ..shared.asks import AnswerNow, Info
from ..shared.serialization import Pieces, load
from ..shared.wire import HELD, LET_GO
from .channel import TimeIsOver
from .interrupts import protected

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ..client.call_sites import Site
    from ..shared.asks import Ask
    from ..shared.wire import Attempt
    from .channel import Channel
    from .objects import LocalObjects

__all__ = ["Asking", "Context"]


class Context:
    """The attempt that asks, and what it has counted. It outlives that, and holds nothing of it."""

    def __init__(self, attempt: Attempt | None) -> None:
        self.seq = 0 if attempt is None else attempt.seq
        self.number = 0 if attempt is None else attempt.attempt
        # Its placement group, and whether that is for what it submits as well.
        self.surroundings = ("", False) if attempt is None else (attempt.group, attempt.captures)
        if attempt is None:  # a thread that a task has left behind may ask between attempts
            self.task = ids.worker_key(execution_context.worker_id) + execution_context.job
        else:
            self.task = ids.task_id(execution_context.job, attempt.task_key)
        self.children = itertools.count(1)
        self.puts = itertools.count(1 + self.number % ids.PUT_ATTEMPTS * ids.PUTS_OF_AN_ATTEMPT)


class Asking:
    """The client of one worker, as far as it does not matter what it asks for."""

    def __init__(self, channel: Channel, objects: LocalObjects) -> None:
        self.channel = channel
        self.job = execution_context.job
        self.node_id = execution_context.node_id
        self.session = execution_context.session
        self.namespace = execution_context.namespace
        self.runtime_env = execution_context.env
        self._environment = WorkerEnvironment(
            json.dumps(execution_context.env, sort_keys=True), execution_context.hook
        )
        self.loop: asyncio.AbstractEventLoop | None = None  # it belongs to none
        self.closed = False
        self._objects = objects
        self._between = self._context = Context(None)  # of threads that belong to no attempt
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
        """Return False: the engine runs in the driver, and answers whoever waits here."""
        return False

    def between_runs(self) -> bool:
        """Return False: there is no engine here whose loop somebody could run."""
        return False

    def call_back(self, callback: Callable[[], None]) -> None:
        """Call back at once: nothing is in hand here."""
        callback()

    def after_fork_in_child(self) -> None:
        """Close, in a copy of this in a process that a task has forked: it has no channels."""
        self.closed = True

    # ------------------------------------------------------------ who asks

    def _asking(self) -> Context:
        """Return the context of the attempt that runs now."""
        attempt = execution_context.attempt
        context = self._context
        if attempt is not None and attempt.seq == context.seq:
            return context
        return self._context_of(attempt)

    def _context_of(self, attempt: Attempt | None) -> Context:
        if attempt is None:
            return self._between
        call = running.get()
        with self._lock:
            if call is not None:  # others run beside it, and `_context` is of none of them
                if call.asker is None:
                    call.asker = Context(attempt)
                context: Context = call.asker
                return context
            if attempt.seq != self._context.seq:
                self._context = Context(attempt)
            return self._context

    # ------------------------------------------------------------ entries

    def entry_of(self, identifier: bytes) -> ObjectEntry:
        """Return the entry behind an id that came out of a pickle."""
        # The driver would keep what it is told of and nobody here has, if that were interrupted.
        with self.channel.uninterrupted(), self._lock:
            found = self._entries.get(identifier)
            entry = None if found is None else found()
            if entry is None:
                self.channel.hold(HELD + identifier)
                entry = self._new_entry(identifier)
        return entry

    def _new_entry(self, identifier: bytes) -> ObjectEntry:
        """Return an entry for an object of which the driver knows that it is held here."""
        client: Any = self  # and the rest of it, see `Connection`
        entry = PlainEntry(client, 0, 0)
        entry.identifier = identifier
        self._entries[identifier] = weakref.KeyedRef(entry, self._has_gone, identifier)
        return entry

    @protected
    def _has_gone(self, ref: weakref.KeyedRef[bytes, ObjectEntry]) -> None:
        """Note that an entry is gone; in any thread, at any moment, even if it holds the lock."""
        if self._entries.get(ref.key) is ref:
            self._entries.pop(ref.key, None)
        if not self.closed:
            self.channel.let_go(LET_GO + ref.key)

    def _new_refs(self, task_key: bytes, num_returns: int) -> list[ObjectRef[Any]]:
        """Return refs to the values of a task; the driver knows that they are held."""
        with self._lock:
            return [
                ObjectRef(self._new_entry(ids.object_id(task_key, index + 1)))
                for index in range(num_returns if num_returns >= 0 else 1)
            ]

    # ------------------------------------------------------------ requests

    def _keep(self, data: bytes | Pieces) -> bytes:
        """Return a value as it is sent; write it to the store if it is large."""
        if isinstance(data, bytes):
            return data
        return self._objects.keep(data)

    def _finish(
        self,
        seq: int,
        request: int,
        timeout: float | None,
        take: Callable[[int, Any], None] | None = None,
    ) -> Any:
        """Wait for the reply, or what can be said after `timeout`. take: see `Channel.finish`."""
        channel = self.channel
        if timeout is not None:
            try:
                return channel.finish(seq, request, time.monotonic() + timeout, take)
            except TimeIsOver:
                channel.send(seq, AnswerNow(request))
                channel.ring()
        return channel.finish(seq, request, take=take)

    def _ask(
        self,
        seq: int,
        ask: Ask,
        take: Callable[[int, Any], None] | None = None,
    ) -> None:
        """Ask for something, and raise the error if that is the reply. take: see `Channel`."""
        body = self.channel.finish(seq, self.channel.begin(seq, ask), take=take)
        if isinstance(body, list):
            raise load(body[0])

    def _info(self, what: str) -> Any:
        return self.channel.ask(self._asking().seq, Info(what))


def _trace(_sort: str) -> tuple[Any, ...]:
    """Return the span that surrounds a call, if there are spans, and what else goes along."""
    if not registry.traces and registry.carrier is None:
        return ()
    found: list[tuple[str, Any]] = []
    if registry.traces:
        from . import tracing

        found += tracing.current()
    if registry.carrier is not None:
        found.append(registry.carrier.now())
    return (found,)


def _trace_and_site(site: Callable[[str], Site], kind: str) -> tuple[Any, ...]:
    """Return the span that surrounds a call, and its site. kind: what the call makes."""
    return *(_trace(kind) or ((),)), site(kind)
