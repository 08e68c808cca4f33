"""From a call to a task: what is prepared once per function and options, and what each call adds.

Room: engine. `create_task_for_driver` is for the driver's own calls and runs in the caller's
thread, before anything reaches the event loop. `create_task_for_worker` makes the task of a call
that a worker has prepared, on the engine's thread. Knows the scheduler only as the giver of
scheduling classes.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...client.arguments import serialize_call, serialize_function
from ...client.context_vars import carried
from ...client.definitions import (
    Definition,
    define,
    define_actor,
    define_method,
    max_retries_now,
)
from ...client.entry import ObjectEntry, PlainEntry, StoredFailure
from ...client.environments import WorkerEnvironment, extend
from ...client.refs import ObjectRef
from ...client.results import returned
from ...core.functions import Function
from ...core.model import Kind, Task
from ...core.records import record, replace
from ...shared import ids
from ...shared.wire import DYNAMIC, TaskSpec
from ..objects.streams import Stream
from ..telemetry.sites import Sites
from .limiters import StartLimiters
from .owned import OwnedTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...client.context_vars import Carrier
    from ...client.definitions import ActorDefinition, MethodDefinition
    from ...client.protocol import Call, Client
    from ...core.model import SchedulingClass
    from ..objects.objects import ObjectTable
    from ..objects.stored import Stored
    from ..telemetry.tracing import Tracer
    from .actors import ActorRecord, Actors

__all__ = ["Binding", "Submission", "unfinished", "values_of"]


Trace = Sequence[tuple[str, str]]
"""See wire.Attempt.trace."""

_RESERVATION = Function(0, "placement_group")  # never runs


@record(slots=True)
class Binding:
    """What an engine has prepared for one function with one set of options."""

    kind: Kind
    held: Any = None  # refs that the function has captured
    max_retries: int | None = 0  # None: ask the environment at each submission
    priority: float = 0.0
    creation: bytes = b""  # of such calls: the id of the task that makes it
    known: ActorRecord | None = None  # of such calls: the actor


class Submission:
    """Makes tasks for one engine."""

    def __init__(
        self,
        client: Client,
        runtime_env: Mapping[str, Any] | None,
        class_for: Callable[
            [Definition | ActorDefinition, int, str | None], tuple[SchedulingClass, str]
        ],
    ) -> None:
        """Make tasks for `client`.

        runtime_env: the session's. class_for: see `groups.Groups.class_for`. Raises what
        `environments.extend` raises.
        """
        self._client = client
        self.environment = extend(WorkerEnvironment(), runtime_env)  # of the session
        self.class_for = class_for
        self.objects: ObjectTable | None = None  # where large arguments go
        self.actors: Actors | None = None
        self.limiters = StartLimiters()
        self.tracer: Tracer | None = None  # None: tasks get no spans
        self.carrier: Carrier | None = None  # None: no context variables go with tasks
        self.sites = Sites()
        self._actor_numbers = itertools.count(1)
        self._numbers = itertools.count(1)
        self._keys = itertools.count(1)
        self._lock = threading.Lock()
        # The function and the refs it captured, for as long as the remote function lives.
        self._functions: weakref.WeakKeyDictionary[Any, tuple[Function, Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._function_by_digest: weakref.WeakValueDictionary[bytes, Function] = (
            weakref.WeakValueDictionary()
        )
        self.streams: weakref.WeakValueDictionary[bytes, Stream] = weakref.WeakValueDictionary()
        self.serialize_function: Callable[[Call], tuple[bytes, Any]] = serialize_function
        self.on_function_gone: Callable[[int], None] = lambda _key: None  # in whatever thread

    # ------------------------------------------------------------ calls of the driver

    def create_task_for_driver(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Task, Any]:
        """Make the task of a call, and what `.remote()` returns: a ref, a list of refs, or None."""
        client = self._client
        binding: Binding = call.binding if call.client is client else self._bind(call)
        held, known = binding.held, binding.known
        payload: Any = b""
        entries: list[ObjectEntry] | None = None
        if args or kwargs:
            payload, entries, refs = serialize_call(call, binding.kind.name, args, kwargs, client)
            if type(payload) is not bytes:
                assert self.objects is not None
                payload = self.objects.keep(payload)
            if refs:
                held = (held, refs)
        number = next(self._numbers)
        task_key: ids.TaskKey = number
        if known is not None:
            task_key = (number, binding.creation)
            held = (call.actor, held)
            self.actors.count_call(known, 0)  # type: ignore[union-attr]  # it knows it
        retries = binding.max_retries
        if retries is None:
            retries = max_retries_now()
        num_returns = binding.kind.spec.num_returns
        task = self.create_task(
            binding, number, task_key, retries, payload, entries, held, owned=num_returns == 1
        )
        if self.tracer is not None:
            self.tracer.begin(task)
        if self.carrier is not None:
            add_to_trace(task, (self.carrier.now(),))
        if type(task) is OwnedTask:
            task.expect(client)
            return task, ObjectRef(task)
        if num_returns < 0:
            task.returns = [PlainEntry(client, task_key, 1, task)]
            self._open_stream(task)
        else:
            task.returns = [PlainEntry(client, task_key, 1 + i, task) for i in range(num_returns)]
        return task, returned([ObjectRef(entry) for entry in task.returns], num_returns)

    def create_task(
        self,
        binding: Binding,
        number: int,
        task_key: ids.TaskKey,
        max_retries: int,
        payload: Any = b"",
        arguments: list[ObjectEntry] | None = None,
        held: Any = None,
        parent: Task | None = None,
        caller: int = 0,
        *,
        owned: bool = False,
    ) -> Task:
        """Create the record of a task: every one of the engine comes from here.

        payload, arguments, held, caller: see `Task`; `held` includes what the binding holds. owned:
        it is an `OwnedTask`.
        """
        return (OwnedTask if owned else Task)(
            number,
            binding.kind,
            dependencies=unfinished(arguments) if arguments else (),
            max_retries=max_retries,
            parent=parent,
            task_key=task_key,
            priority=binding.priority,
            payload=payload,
            arguments=arguments,
            held=held,
            caller=caller,
        )

    def _open_stream(self, task: Task) -> None:
        dynamic = task.spec.num_returns == DYNAMIC
        stream = task.stream = Stream(self._client, task, task.spec.backpressure, dynamic=dynamic)
        self.streams[ids.task_id(self._client.job, task.task_key)] = stream

    def create_reservation(
        self, scheduling_class: SchedulingClass, name: str, value: bytes
    ) -> tuple[Task, ObjectRef[Any]]:
        """Make the task that stands for a placement group, and the ref that gives `value`."""
        number = next(self._numbers)
        binding = Binding(Kind(name, _RESERVATION, scheduling_class, spec=TaskSpec(name)))
        task = self.create_task(binding, number, number, 0, value, owned=True)
        assert type(task) is OwnedTask
        task.expect(self._client)
        return task, ObjectRef(task)

    def _bind(self, call: Call) -> Binding:
        with self._lock:
            if call.actor is not None:
                call.binding = self.bind_method(call.actor.binary(), define_method(call))
            else:
                function, captured = self._code_of(call)
                call.binding = self.binding(function, captured, define(call, self.environment), 0)
            call.client = self._client
        binding: Binding = call.binding
        return binding

    def _code_of(self, call: Call) -> tuple[Function, Any]:
        """Return the function, or class, and the refs that it has captured. With the lock."""
        known = self._functions.get(call.code)
        if known is None:
            code, captured = self.serialize_function(call)
            function = self._function(call.code.name, code)
            known = self._functions[call.code] = function, captured
        return known

    def create_actor_for_driver(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], namespace: str
    ) -> tuple[Task, ObjectRef[Any]]:
        """Make the creation of an actor, and its ref. namespace: the session's.

        Raises ActorAlreadyExistsError, and what `create_task_for_driver` raises.
        """
        assert self.actors is not None
        with self._lock:
            function, captured = self._code_of(call)
        definition = define_actor(call, self.environment)
        data, entries, refs = serialize_call(
            call, definition.class_name, args, kwargs, self._client
        )
        assert self.objects is not None
        creation, entry = self._create_actor(
            definition,
            self.class_for(definition, 0, None),
            function,
            ids.actor_task_id(ids.driver_task_id(self._client.job), next(self._actor_numbers)),
            namespace,
            None,
            self.objects.keep(data),
            entries,
            (captured, refs),
        )
        if self.tracer is not None:
            self.tracer.begin(creation)
        if self.carrier is not None:
            add_to_trace(creation, (self.carrier.now(),))
        return creation, ObjectRef(entry)

    def create_actor_for_worker(
        self,
        definition: ActorDefinition,
        function: tuple[Function, Any],
        task_key: bytes,
        namespace: str,
        *,
        parent: Task | None,
        payload: Any,
        entries: list[ObjectEntry] | None,
        held: Any,
        trace: Trace = (),
    ) -> tuple[Task, ObjectEntry]:
        """Make the creation of an actor for a task. function: the class, and captured refs."""
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        try:
            scheduling = self.class_for(definition, depth, None)
        except ValueError as error:  # its group is known no more: that was asked before
            scheduling = self.class_for(definition, depth, str(error))
        code, captured = function
        creation, entry = self._create_actor(
            definition,
            scheduling,
            code,
            task_key,
            namespace,
            parent,
            payload,
            entries,
            (captured, held),
        )
        if self.tracer is not None:
            self.tracer.begin_for_worker(creation, trace)
        if self.carrier is not None:
            add_to_trace(creation, carried(trace))
        return creation, entry

    def _create_actor(
        self,
        definition: ActorDefinition,
        scheduling: tuple[SchedulingClass, str],
        function: Function,
        task_key: bytes,
        namespace: str,
        parent: Task | None,
        payload: Any,
        arguments: list[ObjectEntry] | None,
        held: Any,
    ) -> tuple[Task, ObjectEntry]:
        """Make the creation of an actor, to be submitted, and the entry behind its ref.

        scheduling: its class, and the placement group. Raises ActorAlreadyExistsError.
        """
        assert self.actors is not None
        scheduling_class, group = scheduling
        known = self.actors.describe(definition, namespace, task_key, group)
        spec = known.spec()
        kind = Kind(spec.name, function, scheduling_class, limits=definition.limits, spec=spec)
        binding = Binding(kind, priority=definition.priority)
        number = next(self._numbers)
        creation = self.create_task(binding, number, task_key, 0, payload, arguments, held, parent)
        return creation, self.actors.add(known, creation)

    def bind_method(self, ref: bytes, definition: MethodDefinition) -> Binding:
        """Return what calls of a method of the actor with this ref have in common.

        Raises ActorHandleNotFoundError if there is no such actor in this session, and what
        `StartLimiters.of` raises.
        """
        assert self.actors is not None
        return self.actors.get(ref).bind(definition, self._keys, self.limiters)

    def _function(self, name: str, code: bytes) -> Function:
        """Return the function with this code: one, whoever has sent it."""
        digest = hashlib.sha256(code).digest()
        function = self._function_by_digest.get(digest)
        if function is None:
            function = Function(next(self._keys), name, code)
            self._function_by_digest[digest] = function
            ended = weakref.finalize(function, self._function_gone, function.key)
            ended.atexit = False
        return function

    def _function_gone(self, key: int) -> None:
        self.on_function_gone(key)

    def binding(
        self,
        function: Function,
        captured: Any,
        definition: Definition,
        depth: int,
        refusal: str | None = None,
    ) -> Binding:
        """Prepare what calls of this function with these options have in common.

        refusal: why they can run nowhere. Raises what `groups.Groups.class_for` raises.
        """
        scheduling_class, group = self.class_for(definition, depth, refusal)
        limits = definition.limits
        if limits is not None and limits.limiter is not None:
            limits = replace(limits, limiter=scheduling_class.limiter)
        spec = TaskSpec(
            definition.name,
            definition.num_returns,
            definition.backpressure,
            definition.retry_rule,
            definition.demand,
            group,
            definition.where.captures,
        )
        kind = Kind(
            spec.name,
            function,
            scheduling_class,
            definition.policy,
            definition.max_calls,
            limits,
            spec=spec,
        )
        return Binding(kind, captured, definition.max_retries, definition.priority)

    # ------------------------------------------------------------ calls of tasks

    def function(self, name: str, code: bytes) -> Function:
        """Return the function with this code, which a worker has sent."""
        with self._lock:
            return self._function(name, code)

    def create_task_for_worker(
        self,
        binding: Binding,
        *,
        parent: Task | None,
        task_key: bytes,
        max_retries: int,
        payload: Any,
        entries: list[ObjectEntry] | None,
        held: Any,
        caller: int = 0,
        trace: Trace = (),
    ) -> tuple[Task, list[ObjectEntry]]:
        """Make the task of a call made by the task `parent`, and its entries.

        The task does not keep its entries alive: it goes on also if nobody wants its values.
        held: refs inside the arguments. caller: see `Task.caller`. trace: of the calling code.
        """
        if binding.known is not None and self.actors is not None:
            self.actors.count_call(binding.known, caller)
        task = self.create_task(
            binding,
            next(self._numbers),
            task_key,
            max_retries,
            payload,
            entries,
            (binding.held, held) if held else binding.held,
            parent,
            caller,
        )
        if self.tracer is not None:
            self.tracer.begin_for_worker(task, trace)
        if self.carrier is not None:
            add_to_trace(task, carried(trace))
        num_returns = task.spec.num_returns
        mine: list[ObjectEntry] = [
            PlainEntry(self._client, task_key, index + 1, task)
            for index in range(1 if num_returns < 0 else num_returns)
        ]
        if num_returns < 0:
            self._open_stream(task)
        task.returns = tuple(map(weakref.ref, mine))
        return task, mine


def add_to_trace(task: Task, more: tuple[tuple[str, Any], ...]) -> None:
    """Let something go with all attempts of a task, see `wire.Attempt.trace`."""
    task.spec = task.spec._replace(trace=(*(task.spec.trace or ()), *more))


def unfinished(entries: list[ObjectEntry]) -> tuple[Task, ...]:
    """Return the tasks that have to finish, or have failed, before these have all their values."""
    return tuple(
        [
            entry.task
            for entry in entries
            if entry.task is not None
            and (entry.outcome is None or type(entry.outcome) is StoredFailure)
        ]
    )


def values_of(entries: list[ObjectEntry]) -> list[bytes | Stored] | None:
    """Return the values of a task's arguments, as they are kept; None if one was lost meanwhile."""
    values: list[bytes | Stored] = []
    for entry in entries:
        outcome = entry.outcome
        if outcome is None or type(outcome) is StoredFailure:
            return None
        values.append(outcome)  # type: ignore[arg-type]
    return values
