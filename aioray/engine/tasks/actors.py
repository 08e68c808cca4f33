"""The actors of one engine: names, refs, saved states, and what their creations and calls are.

Room: engine. The scheduler decides when an actor is made, what it runs and when it is dead; here is
what it need not know. An actor is known outside by an object, its *ref*, which never has a value
that anybody gets: handles hold it, in whatever process, and when the last is gone, so is the actor.
`add` and the looking up of names are for any thread; all else happens on the engine's thread.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ...client.entry import ObjectEntry, PlainEntry
from ...client.refs import ObjectRef
from ...core.call_queues import limited_group
from ...core.events import ActorKilled, ActorReleased
from ...core.functions import CallTraits, Function
from ...core.model import STOP_SECONDS, Kind, SupervisedActor
from ...core.outcomes import ActorDeath, Circle, DeathCause, Overdue
from ...core.records import replace
from ...core.states import ActorStatus
from ...exceptions import ActorAlreadyExistsError, ActorHandleNotFoundError
from ...shared import ids
from ...shared.actor_exit import shutdown_seconds
from ...shared.printable import LINES, printable
from ...shared.wire import CREATION, ActorCallInfo, Creation, TaskSpec
from ..telemetry.actor_reports import ActorDescription, ActorEnd, Late, Stuck
from ..telemetry.errors import exception_builder
from .submission import Binding

if TYPE_CHECKING:
    import itertools
    from collections.abc import Callable

    from ...client.definitions import ActorDefinition, MethodDefinition
    from ...client.protocol import Client
    from ...core.devices import Demand
    from ...core.events import Event
    from ...core.model import Task
    from ..objects.stored import Stored
    from ..telemetry.reports import WorkerName
    from .limiters import StartLimiters

__all__ = ["WISHED", "ActorRecord", "Actors"]

logger = logging.getLogger("aioray")

WISHED = (DeathCause.EXITED, DeathCause.KILLED, DeathCause.OUT_OF_SCOPE, DeathCause.SHUTDOWN)
"""Ends that somebody wanted: no log line has to tell of them."""

_VALUE = pickle.dumps(None, 5)  # of an actor's ref


class ActorRecord:
    """One actor, and what the scheduler does not need to know of it."""

    def __init__(
        self,
        definition: ActorDefinition,
        namespace: str,
        task_key: bytes,
        group: str,
    ) -> None:
        """Describe an actor.

        namespace: the session's. task_key: of its creation. group: in which it lives.
        """
        self.definition = definition
        self.description = ActorDescription(
            task_key[8:].hex(),
            definition.class_name,
            definition.name,
            definition.namespace or namespace,
        )
        self.task_key = task_key  # id of its creation
        self.group = group  # in which it lives, see wire.Attempt
        self.entry: Callable[[], ObjectEntry | None] = lambda: None
        self.pin: ObjectEntry | None = None  # of a detached actor: nothing but kill() ends it
        self.end: ActorEnd | None = None  # how it ended
        self.actor: SupervisedActor
        self.worker: WorkerName | None = None  # in which it lives, or has lived
        self.repr_name = ""  # what its class makes of it, if that defines `__repr__`
        self.functions: dict[str, Function] = {}  # by method
        self.saved: ObjectEntry | None = None  # its state, as the next incarnation will get it
        self.arguments: list[ObjectEntry] | None = None  # of its creation, as they were given
        self.made: dict[int, int] = {}  # by caller: calls, if they are limited

    def bind(
        self, method: MethodDefinition, keys: itertools.count[int], limiters: StartLimiters
    ) -> Binding:
        """Prepare what calls of this method have in common. keys: of functions.

        Raises what `StartLimiters.of` raises.
        """
        limits, limiter = method.limits, limiters.of(method.limits)
        definition = self.definition
        function = self.functions.get(method.method)
        if function is None:
            title = f"{definition.class_name}.{method.method}"  # options may name a call otherwise
            function = self.functions[method.method] = Function(next(keys), title)
        names = [name for name, _ in definition.concurrency_groups]
        timed = method.limits is not None and method.limits.are_of_time
        spec = TaskSpec(
            method.name,
            method.num_returns,
            method.backpressure,
            method.retry_rule,
            held_by(definition),
            self.group,
            definition.where.captures,
            tuple(
                ActorCallInfo(
                    method.method,
                    method.concurrency_group,
                    interruptible=method.interruptible or (timed and self.actor.ahead),
                    timed=timed,
                )
            ),
        )
        if limits is not None and limiter is not None:
            limits = replace(limits, limiter=limiter)
        group = self.actor.concurrency_groups[names.index(method.concurrency_group)]
        retries_errors = method.max_retries != 0 and method.retry_rule is not False
        kind = Kind(
            spec.name,
            function,
            group if limiter is None else limited_group(group, limiter),
            limits=limits,
            traits=CallTraits(method.interruptible, retries_errors),
            spec=spec,
        )
        return Binding(
            kind,
            max_retries=method.max_retries,
            creation=self.task_key,
            known=self,
        )

    def spec(self, *, restores: bool = False) -> TaskSpec:
        """Make what all attempts to make the actor share. restores: they get its saved state."""
        definition, description = self.definition, self.description
        title = f"{description.class_name}.__init__"
        creation = Creation(
            description.actor_id,
            description.name,
            description.class_name,
            definition.asynchronous,
            definition.concurrency_groups,
            definition.saves_every,
            restores,
            definition.meta,
        )
        timed = definition.limits is not None and definition.limits.are_of_time
        role = ActorCallInfo(
            CREATION,
            "",
            interruptible=timed and not definition.asynchronous,
            creation=tuple(creation),
            timed=timed,
        )
        return TaskSpec(
            f"{description.name}:{title}" if description.name else title,
            resources=held_by(definition),
            group=self.group,
            captures=definition.where.captures,
            role=tuple(role),
        )


class Actors:
    """All actors of one engine."""

    def __init__(
        self,
        client: Client,
        feed: Callable[[Event], None],
        post: Callable[[Callable[[], None]], None],
        name_of: Callable[[int], WorkerName | None],
    ) -> None:
        """Begin with no actors. feed: takes what the scheduler is to know.

        post: has something done on its thread.
        name_of: how a worker of the scheduler is called outside.
        """
        self._client = client
        self._feed = feed
        self._post = post
        self._name_of = name_of
        self._known: dict[bytes, ActorRecord] = {}  # by id of the creation
        self._named: dict[tuple[str, str], ActorRecord] = {}  # by namespace and name
        self._lock = threading.RLock()  # a finalizer may come while the same thread has it

    # ------------------------------------------------------------ making

    def describe(
        self, definition: ActorDefinition, namespace: str, task_key: bytes, group: str
    ) -> ActorRecord:
        """Describe a new actor before there is its creation. namespace: the session's."""
        return ActorRecord(definition, namespace, task_key, group)

    def add(self, known: ActorRecord, creation: Task) -> ObjectEntry:
        """Take a new actor, before its creation is submitted: the entry behind its ref.

        Raises ActorAlreadyExistsError.
        """
        definition, task_key = known.definition, known.task_key
        name, namespace = known.description.name, known.description.namespace
        known.arguments = creation.arguments
        known.actor = SupervisedActor(
            task_key,
            creation,
            definition.environment,
            concurrency_groups=[limit for _, limit in definition.concurrency_groups],
            ordered=definition.ordered,
            asynchronous=definition.asynchronous,
            keeps_cpus=definition.keeps_cpus,
            counts_calls=definition.max_pending_calls >= 0,
            max_restarts=definition.max_restarts,
            policy=definition.restart_policy,
            payload=known,
            stop_seconds=STOP_SECONDS + (shutdown_seconds() if definition.shuts_down else 0.0),
        )
        entry = PlainEntry(self._client, task_key, 1)
        entry.outcome = _VALUE
        with self._lock:
            if name:
                if (namespace, name) in self._named:
                    raise ActorAlreadyExistsError(
                        f"The name {name} (namespace={namespace}) is already taken. Please use a "
                        f"different name or get the existing actor using "
                        f"aioray.get_actor({name!r}, namespace={namespace!r})."
                    )
                self._named[namespace, name] = known
            self._known[task_key] = known
        if definition.detached:
            known.pin = entry
        known.entry = weakref.ref(entry, lambda _gone: self._unreachable(known))
        self._client.export_entry(entry)
        return entry

    def _unreachable(self, known: ActorRecord) -> None:
        """Free the name of an actor without a handle and have it ended. For finalizers too."""
        self._free_name(known)
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the engine
            self._post(lambda: self._released(known))

    def _released(self, known: ActorRecord) -> None:
        self._known.pop(known.task_key, None)
        self._feed(ActorReleased(known.actor))

    # ------------------------------------------------------------ finding

    def exist(self) -> bool:
        """Tell whether there are any actors."""
        return bool(self._known)

    def find(self, ref: bytes) -> ActorRecord | None:
        """Return the actor with this ref; None if it is not known, or was forgotten."""
        return self._known.get(ref[: ids.TASK_ID_SIZE])

    def get(self, ref: bytes) -> ActorRecord:
        """Return the actor with this ref. Raises ActorHandleNotFoundError."""
        known = self.find(ref)
        if known is None:
            raise ActorHandleNotFoundError(
                f"The actor {ref[8 : ids.TASK_ID_SIZE].hex()} is not known in this session: its "
                f"handle is of another one. Make the actor again."
            )
        return known

    def named(self, name: str, namespace: str) -> tuple[ObjectRef[Any], bytes] | None:
        """Return the ref and the meta of the living actor of this name."""
        with self._lock:
            known = self._named.get((namespace, name))
        entry = None if known is None else known.entry()
        if known is None or entry is None:
            return None
        return ObjectRef(entry), known.definition.meta

    def names(self) -> list[tuple[str, str]]:
        """Return namespace and name of every living actor that has a name."""
        with self._lock:
            return list(self._named)

    def pending_calls(self, ref: bytes, caller: int) -> int:
        """Count the calls that this caller has made and that have no outcome yet."""
        known = self.find(ref)
        if known is None:
            return 0
        return known.made.get(caller, 0) - known.actor.done.get(caller, 0)

    def count_call(self, known: ActorRecord, caller: int) -> None:
        """Count a call of the actor, if those that are pending are limited."""
        if known.definition.max_pending_calls >= 0:
            with self._lock:
                known.made[caller] = known.made.get(caller, 0) + 1

    def lives_in(self, ref: bytes, worker_id: int) -> bool:
        """Tell whether an actor runs in this worker: a handle to itself keeps nobody."""
        known = self.find(ref)
        worker = None if known is None else known.actor.worker
        return worker is not None and worker.id == worker_id

    # ------------------------------------------------------------ ends

    def kill(self, ref: bytes, *, no_restart: bool) -> None:
        """End an actor. Its name is free at once. Raises ActorHandleNotFoundError."""
        known = self.get(ref)
        if no_restart:
            self._free_name(known)
        self._post(lambda: self._feed(ActorKilled(known.actor, no_restart)))

    def _free_name(self, known: ActorRecord) -> None:
        key = known.description.namespace, known.description.name
        with self._lock:
            if self._named.get(key) is known:
                del self._named[key]

    def changed(self, actor: SupervisedActor) -> None:
        """Act on a new state of an actor: bring back what it saved, free what it needs no more."""
        known: ActorRecord = actor.payload
        creation = actor.creation
        if actor.worker is not None:
            known.worker = self._name_of(actor.worker.id) or known.worker
        if actor.state is ActorStatus.ALIVE:
            if not actor.max_restarts:
                creation.drop_arguments()
                known.arguments = None
        elif actor.state is ActorStatus.RESTARTING:
            if known.saved is not None:
                creation.spec = known.spec(restores=True)
                creation.arguments = [*(known.arguments or ()), known.saved]
            left = actor.restarts_left
            logger.warning(
                "Actor %s (%s) is made again, because its %s. Restarts left: %s.",
                printable(known.description.class_name),
                known.description.actor_id,
                actor.loss.one_line(),
                "any number" if left < 0 else left,
            )
        elif actor.state is ActorStatus.DEAD:
            creation.drop_arguments()
            self._free_name(known)
            known.arguments = known.saved = known.pin = None
            assert actor.death is not None
            known.end = self._end(actor.death)
            if actor.death.cause not in WISHED:
                logger.error("%s", printable(known.end.notice(), LINES))

    def report_of(self, detail: Any) -> Any:
        """Return the detail of a failure, as `actor_reports` knows it."""
        if isinstance(detail, ActorDeath):
            return self.end_of(detail)
        if isinstance(detail, Circle):
            return Stuck(detail.actor.payload.description, detail.names)
        if isinstance(detail, Overdue):
            worker = detail.actor.worker
            name = None if worker is None else self._name_of(worker.id)
            return Late(detail.actor.payload.description, name, detail.seconds)
        return detail

    def end_of(self, death: ActorDeath) -> ActorEnd:
        """Return what is known of this end; it holds no actor, so that old errors keep nothing."""
        known: ActorRecord = death.actor.payload
        if known.end is not None and death is death.actor.death:
            return known.end
        return self._end(death)

    def _end(self, death: ActorDeath) -> ActorEnd:
        known: ActorRecord = death.actor.payload
        cause, detail = death.cause, death.detail
        if cause is not DeathCause.CREATION_FAILED:
            return ActorEnd(known.description, cause, known.worker, detail)
        creation = exception_builder(
            death.actor.creation,
            detail,
            index=1,
            job=self._client.job,
            workers=[None] * len(detail.attempts),
            unix_offset=0.0,
        )
        return ActorEnd(known.description, cause, known.worker, creation=creation)

    # ------------------------------------------------------------ states

    def save(
        self, actor: SupervisedActor, value: bytes | Stored, contains: list[ObjectRef[Any]]
    ) -> None:
        """Keep the state of an actor after a call that was answered, if it may restart."""
        known: ActorRecord = actor.payload
        if not actor.max_restarts or actor.state is ActorStatus.DEAD:
            return
        entry = PlainEntry(self._client, 0, 0)
        entry.identifier = b"\0" * ids.OBJECT_ID_SIZE
        entry.outcome = value
        entry.contains = contains
        known.saved = entry

    def close(self) -> None:
        """Forget all actors: the engine has ended."""
        with self._lock:
            self._named.clear()
            for known in self._known.values():
                known.entry = lambda: None  # with it goes what a handle's end would call
            self._known.clear()


def held_by(definition: ActorDefinition) -> Demand:
    """Return what an actor holds while it lives."""
    if definition.keeps_cpus:
        return definition.demand
    return tuple(item for item in definition.demand if item[0] != "CPU")
