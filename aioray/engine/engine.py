"""The engine: an event loop's supervisor of workers, and the client that the API talks to.

Room: shell. It feeds the scheduler with what happens and carries out what that orders; all state changes
on the loop's thread, without locks. Other threads leave tasks and calls in one deque and wake the
loop once for many. A loop tick's submissions become one event, and answers that arrive together too.

The engine takes no signals, installs no handlers and starts no thread but the one that prints. It ends
with `shutdown`, with `async with`, or with its loop: a guard task notices when the loop's owner
cancels everything, and then kills what is left at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import itertools
import logging
import marshal
import os
import random
import sys
import threading
import time
import weakref
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from .. import ids, linux
from ..client import activate, registry
from ..core.messages import (
    AnswersReceived,
    AttemptsReclaimed,
    CancelOutcome,
    CancelRequested,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    ReportCancel,
    ReportInfeasible,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
    ShutdownRequested,
    StartWorker,
    Stopped,
    StopWorker,
    TasksSubmitted,
    TimerFired,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from ..core.model import Function, Task
from ..core.scheduler import UNIT, Scheduler
from ..exceptions import GetTimeoutError, ObjectFreedError
from ..options import default_max_retries, parse_init_options
from ..refs import ObjectEntry, ObjectRef, StoredFailure
from ..serializability import explain
from ..serialization import ArgumentSlot, contained_ids, dump, dump_function
from .output import LineReader, Printer
from .reports import NODE_IP, DeathReport, StartReport, WorkerName, describe, exception_builder
from .template import TemplateProcess
from .worker import WorkerHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from types import TracebackType

    from ..core.messages import Command, Event
    from ..options import InitOptions
    from ..remote_function import Call

__all__ = ["CancelRequest", "Engine"]

logger = logging.getLogger("aioray")

NAMES_KEPT = 10_000  # workers whose name is remembered for the history of attempts
REPORT_SECONDS = 1.0  # that a death waits for the template's explanation
HELLO = 0  # seq of the answer by which a worker says that it is ready
TIMER_STEP = 0.001  # seconds; uvloop fires anything shorter at once

Payload = tuple[tuple[Any, ...], bytes, "list[ObjectEntry] | None", Any]
"""What a task carries for its workers: the part that all calls with these options share (see
`wire.Attempt`, from `name` to `resources`), pickled arguments, entries of top-level refs, and whatever
must live until the task is done."""


class CancelRequest:
    """A request to cancel; await it for what became of it, a `CancelOutcome`."""

    def __init__(self) -> None:
        self._future: concurrent.futures.Future[CancelOutcome] = concurrent.futures.Future()

    def __await__(self) -> Generator[Any, None, CancelOutcome]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout: float | None = None) -> CancelOutcome:
        """Block for the outcome, up to `timeout` seconds. Not for the engine's own loop."""
        return self._future.result(timeout)

    def resolve(self, outcome: CancelOutcome) -> None:
        """Told by the engine."""
        if not self._future.done():
            self._future.set_result(outcome)


class _Binding:
    """What an engine has prepared for one function with one set of options."""

    __slots__ = (
        "function",
        "held",
        "max_calls",
        "max_retries",
        "name",
        "num_returns",
        "policy",
        "retries_variable",
        "scheduling_class",
        "static",
    )


class _Countdown:
    """Lets a thread wait for several entries. `hit` runs on the engine's thread."""

    __slots__ = ("_lock", "left", "stop_on_failure")

    def __init__(self, left: int, *, stop_on_failure: bool) -> None:
        self.left = left
        self.stop_on_failure = stop_on_failure
        self._lock = threading.Lock()
        self._lock.acquire()

    def hit(self, entry: ObjectEntry) -> None:
        """One entry is ready."""
        self.left -= 1
        if self.left == 0 or (self.stop_on_failure and type(entry.outcome) is not bytes):
            with contextlib.suppress(RuntimeError):  # released already, by a failure before
                self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Block; False if the time is over. Ctrl-C gets through."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(timeout, 4_000_000))


class Engine:
    """Runs remote functions in worker processes, on the event loop that it is started on.

        async with aioray.Engine(num_cpus=4) as engine:
            value = await f.remote(1)

    Takes the keywords of `aioray.init`. Inside the block, and in tasks started from it, calls use this
    engine; code outside can be given it by `with engine.activate():`, and the first engine of a process
    serves everybody who has none. Several may be open at once. Leaving the block is `shutdown()`.
    """

    def __init__(self, address: str | None = None, **settings: Any) -> None:
        """Check the settings; nothing is started yet. Raises what `aioray.init` raises."""
        linux.check_platform()
        self.settings: InitOptions = parse_init_options(address, settings)
        self.env_vars = self.settings.env_vars
        self.namespace = self.settings.namespace or str(_uuid())
        self.node_id = ids.random_id().hex()
        self.session = f"session_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
        self.job = b""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._closed = False
        self._core = Scheduler(dict(self.settings.capacity), random.Random(self.settings.retry_seed))
        self._inbox: deque[Task | Callable[[], None]] = deque()
        self._awake = False
        self._events: deque[Event] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._thread_id = 0
        self._task_numbers = itertools.count(1)
        self._put_numbers = itertools.count(ids.PUT_INDEX + 1)
        self._function_keys = itertools.count(1)
        self._request_ids = itertools.count(1)
        self._binding_lock = threading.Lock()
        self._functions: weakref.WeakKeyDictionary[Any, tuple[Function, Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._requests: dict[int, CancelRequest] = {}
        self._exported: weakref.WeakValueDictionary[bytes, ObjectEntry] = (
            weakref.WeakValueDictionary()
        )
        self._pinned: set[ObjectEntry] = set()
        self._template: TemplateProcess | None = None
        self._workers: dict[int, WorkerHandle] = {}
        self._names: OrderedDict[int, WorkerName] = OrderedDict()
        self._oom_kills = 0
        self._printer = Printer()
        self._stopped: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._activation: Any = None
        self._unix_offset = time.time() - time.monotonic()
        self._do: dict[type[Any], Callable[[Any], None]] = {
            StartWorker: self._do_start,
            SendAttempts: self._do_send,
            ReclaimAttempts: self._do_reclaim,
            PollWorker: self._do_poll,
            InterruptWorker: self._do_interrupt,
            KillWorker: self._do_kill,
            StopWorker: self._do_stop,
            ResolveValues: self._do_resolve_values,
            ResolveFailure: self._do_resolve_failure,
            ReportCancel: self._do_report_cancel,
            ReportRetry: self._do_report_retry,
            ReportInfeasible: self._do_report_infeasible,
            Stopped: self._do_stopped,
        }

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begin on the running loop; workers come up in the background.

        Raises RuntimeError if there is no running loop or the engine was started before.
        """
        loop = asyncio.get_running_loop()
        if self.loop is not None:
            raise RuntimeError("This engine was started before. Make a new Engine.")
        self.loop = loop
        self._thread_id = threading.get_ident()
        self.job = ids.job_id(registry.free_job_number())
        self._stopped = loop.create_future()
        self._oom_kills = linux.oom_kills()
        self._start_template()
        self._guard = loop.create_task(self._watch_loop(), name="aioray-guard")
        registry.open(self)

    async def __aenter__(self) -> Engine:
        self.start()
        self._activation = activate(self)
        self._activation.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        activation, self._activation = self._activation, None
        if activation is not None:
            with contextlib.suppress(ValueError):  # left in another context than entered
                activation.__exit__(None, None, None)
        await self.shutdown()

    def activate(self) -> contextlib.AbstractContextManager[None]:
        """Let this engine serve the calls inside the `with` block."""
        return activate(self)

    @property
    def closed(self) -> bool:
        """Whether it can do nothing more: shut down, its loop closed, or copied by a fork."""
        return self._closed or (
            self.loop is not None and (self.loop.is_closed() or os.getpid() != self._pid)
        )

    async def shutdown(self, drain: float = 0.0) -> None:
        """End everything. Idempotent.

        drain: seconds in which tasks may still finish, while new ones are refused; then running ones
        are interrupted, and a second later killed. Tasks without an outcome raise EngineShutdownError.
        """
        if self._closed or self.loop is None or self._stopped is None:
            self._closed = True
            return
        self._feed(ShutdownRequested(drain))
        try:
            await asyncio.shield(self._stopped)
        except asyncio.CancelledError:
            self._feed(ShutdownRequested(0.0))
            raise
        finally:
            self._close()

    def abort(self) -> None:
        """End everything at once, without waiting for the loop: kill, resolve, close."""
        if not self._closed and self.loop is not None:
            if self._pid == os.getpid():
                self._feed(ShutdownRequested(0.0))
                self._close()
            else:
                self._closed = True

    async def _watch_loop(self) -> None:
        assert self._stopped is not None
        try:
            await asyncio.shield(self._stopped)
        except asyncio.CancelledError:
            self.abort()  # whoever runs this loop is about to end it
            raise

    def _close(self) -> None:
        """Let go of everything. The template kills and reaps what may still run."""
        if self._closed:
            return
        self._drain_inbox()  # what came too late gets its EngineShutdownError
        self._closed = True
        registry.close(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._template is not None:
            self._template.close()
            self._template = None
        for handle in tuple(self._workers.values()):
            self._finish_output(handle)
            self._forget_readers(handle)
            handle.close()
        self._workers.clear()
        self._printer.close()
        if self._guard is not None and not self._guard.done():
            self._guard.cancel()
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)
        for request in self._requests.values():
            request.resolve(CancelOutcome.KILLED)
        self._requests.clear()
        self._pinned.clear()

    # ------------------------------------------------------------ feeding the core

    def _feed(self, event: Event) -> None:
        """Hand an event to the core and carry out what it orders, and what follows from that."""
        events = self._events
        events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            handle, do = self._core.handle, self._do
            while events:
                command: Command
                for command in handle(events.popleft(), time.monotonic()):
                    do[type(command)](command)
        finally:
            self._feeding = False
        deadline = self._core.next_deadline()
        if deadline is not None and (self._timer is None or deadline < self._timer_at):
            self._set_timer(deadline)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.loop is not None and not self.loop.is_closed():
            self._timer_at = deadline
            delay = max(0.0, deadline - time.monotonic()) + TIMER_STEP
            self._timer = self.loop.call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if not self._closed:
            self._feed(TimerFired())
            deadline = self._core.next_deadline()
            if deadline is not None and self._timer is None:
                self._set_timer(deadline)

    def _post(self, item: Task | Callable[[], None]) -> None:
        """Have a task submitted or a function called on the engine's thread, in order."""
        self._inbox.append(item)
        if not self._awake:
            self._awake = True
            loop = self.loop
            if loop is None:
                raise RuntimeError("The engine is not started.")
            if threading.get_ident() == self._thread_id:
                loop.call_soon(self._drain_inbox)
            else:
                try:
                    loop.call_soon_threadsafe(self._drain_inbox)
                except RuntimeError:
                    raise RuntimeError("The engine's event loop is closed.") from None

    def _drain_inbox(self) -> None:
        self._awake = False  # before looking: whatever comes from now on wakes again
        inbox = self._inbox
        tasks: list[Task] = []
        while inbox:
            item = inbox.popleft()
            if type(item) is Task:
                tasks.append(item)
                continue
            if tasks:
                self._feed(TasksSubmitted(tasks))
                tasks = []
            item()  # type: ignore[operator]  # the rest are callables
        if tasks:
            self._feed(TasksSubmitted(tasks))

    # ------------------------------------------------------------ client: tasks

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Take a task. See `aioray.client.Client`."""
        binding: _Binding = call.binding if call.client is self else self._bind(call)
        payload, entries, held = b"", None, binding.held
        if args or kwargs:
            payload, entries, refs = self._pack_arguments(call, args, kwargs)
            if refs:
                held = (held, refs)
        retries = binding.max_retries
        if retries is None:
            retries = _retries_from_environment()
        task = Task(
            next(self._task_numbers),
            binding.name,
            binding.function,
            binding.scheduling_class,
            max_retries=retries,
            policy=binding.policy,
            max_calls=binding.max_calls,
            payload=(binding.static, payload, entries, held),
        )
        if entries:
            task.dependencies = tuple(
                [
                    entry.task
                    for entry in entries
                    if entry.task is not None and type(entry.outcome) is not bytes
                ]
            )
        count = binding.num_returns
        if count == 1:
            entry = ObjectEntry(self, task.number, 1, task)
            task.returns = entry
            self._post(task)
            return ObjectRef(entry)
        task.returns = [ObjectEntry(self, task.number, index + 1, task) for index in range(count)]
        refs_made = [ObjectRef[Any](entry) for entry in task.returns]
        self._post(task)
        return refs_made if count else None

    def _bind(self, call: Call) -> _Binding:
        """Prepare what all calls of this function with these options share."""
        if self.closed:
            raise RuntimeError("This engine is shut down.")
        options = call.options
        with self._binding_lock:
            known = self._functions.get(call.code)
            if known is None:
                try:
                    code, captured = dump_function(call.code.function)
                except Exception as error:
                    report = explain(call.code.function, call.code.name, lambda v: dump(v)[0])
                    raise TypeError(
                        f"Could not serialize the function {call.code.name!r}:\n{report}"
                    ) from error
                function = Function(next(self._function_keys), call.code.name, code)
                known = self._functions[call.code] = (function, captured)
            environment = tuple(sorted({**dict(self.env_vars), **dict(options.env_vars)}.items()))
            binding = _Binding()
            binding.function, binding.held = known
            binding.name = options.name or call.code.name
            binding.num_returns = options.num_returns
            binding.max_calls = options.max_calls
            binding.policy = options.retry
            binding.scheduling_class = self._core.scheduling_class(options.demand, environment)
            binding.max_retries = options.max_retries
            if options.max_retries is None:
                variables = dict(environment)
                if {"AIORAY_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"} & set(variables):
                    binding.max_retries = default_max_retries(variables)
            rule: Any = options.retry_exceptions
            if not isinstance(rule, bool):
                rule = dump_function(rule)[0]
            binding.static = (binding.name, options.num_returns, rule, options.demand)
            call.binding = binding
            call.client = self
        return binding

    def _pack_arguments(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, list[ObjectEntry] | None, Sequence[Any]]:
        entries: list[ObjectEntry] | None = None
        for value in (*args, *kwargs.values()) if kwargs else args:
            if type(value) is ObjectRef:
                entries = []
                args = tuple([self._slot(item, entries) for item in args])
                kwargs = {key: self._slot(item, entries) for key, item in kwargs.items()}
                break
        try:
            payload, refs = dump((args, kwargs))
        except Exception as error:
            report = explain((args, dict(kwargs)), "arguments", lambda v: dump(v)[0])
            raise TypeError(
                f"Could not serialize the arguments of {call.code.name}.remote():\n{report}"
            ) from error
        return payload, entries, refs

    def _slot(self, value: Any, entries: list[ObjectEntry]) -> Any:
        if type(value) is not ObjectRef:
            return value
        entry = value._entry
        if entry.owner() is not self:
            raise ValueError(
                f"{value!r} belongs to another engine. Get its value there and pass that."
            )
        entries.append(entry)
        return ArgumentSlot(len(entries) - 1)

    def cancel(self, entry: ObjectEntry, *, force: bool, grace: float | None) -> CancelRequest:
        """Ask for a cancel. See `aioray.api.cancel`."""
        request = CancelRequest()
        if entry.task is None or entry.outcome is not None:
            request.resolve(CancelOutcome.FINISHED_FIRST)
            return request
        request_id = next(self._request_ids)
        self._requests[request_id] = request
        self._post(lambda: self._feed(CancelRequested(entry.task, request_id, force, grace)))
        return request

    # ------------------------------------------------------------ client: objects

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value. See `aioray.api.put`."""
        try:
            data, refs = dump(value)
        except Exception as error:
            report = explain(value, "value", lambda v: dump(v)[0])
            raise TypeError(f"Could not serialize the value given to put():\n{report}") from error
        entry = ObjectEntry(self, 0, next(self._put_numbers))
        entry.contains = refs
        entry.outcome = data
        return ObjectRef(entry)

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> None:
        """Block until all refs are ready or one has failed."""
        self._refuse_on_loop("get()", "`await ref`, or `await asyncio.gather(*refs)`")
        pending = [ref._entry for ref in refs if ref._entry.outcome is None]
        failed = any(isinstance(ref._entry.outcome, StoredFailure) for ref in refs)
        if (
            pending
            and not failed
            and not self._block(pending, len(pending), timeout, stop_on_failure=True)
        ):
            raise GetTimeoutError("Get timed out: some object(s) not ready.")

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> None:
        """Block until `num_returns` of the refs are ready or the time is over."""
        self._refuse_on_loop("wait()", "`await asyncio.wait(refs)`")
        pending = [ref._entry for ref in refs if ref._entry.outcome is None]
        missing = num_returns - (len(refs) - len(pending))
        if missing > 0:
            self._block(pending, missing, timeout, stop_on_failure=False)

    def _block(
        self,
        entries: list[ObjectEntry],
        count: int,
        timeout: float | None,
        *,
        stop_on_failure: bool,
    ) -> bool:
        countdown = _Countdown(count, stop_on_failure=stop_on_failure)
        hits = [(entry, lambda entry=entry: countdown.hit(entry)) for entry in entries]

        def register() -> None:
            for entry, hit in hits:
                self._register(entry, hit)

        def withdraw() -> None:
            for entry, hit in hits:
                self._withdraw(entry, hit)

        self._post(register)
        done = False
        try:
            done = countdown.wait(timeout)
        finally:
            if not done or countdown.left > 0:
                with contextlib.suppress(RuntimeError):
                    self._post(withdraw)
        return done

    def _refuse_on_loop(self, what: str, instead: str) -> None:
        if threading.get_ident() == self._thread_id and not self._closed:
            raise RuntimeError(
                f"{what} would block the event loop that the engine itself runs on, for ever. "
                f"In async code use {instead}."
            )

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call back on the engine's thread."""
        if threading.get_ident() == self._thread_id:
            self._register(entry, callback)
        else:
            self._post(lambda: self._register(entry, callback))

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Take a callback back."""
        if threading.get_ident() == self._thread_id:
            self._withdraw(entry, callback)
        elif not self.closed:
            self._post(lambda: self._withdraw(entry, callback))

    def _register(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        if entry.outcome is not None:
            callback()
        elif entry.waiters is None:
            entry.waiters = [callback]
        else:
            entry.waiters.append(callback)

    def _withdraw(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        if entry.waiters is not None:
            with contextlib.suppress(ValueError):
                entry.waiters.remove(callback)

    def runs_on(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether this is the engine's own loop."""
        return loop is self.loop

    def export(self, entry: ObjectEntry) -> None:
        """Remember the entry by its id: its ref is being pickled."""
        self._exported[entry.binary()] = entry

    def pin(self, entry: ObjectEntry) -> None:
        """Keep the object for the session."""
        self._pinned.add(entry)

    def adopt(self, identifier: bytes) -> ObjectEntry:
        """The entry behind an id."""
        entry = self._exported.get(identifier)
        if entry is None:
            entry = ObjectEntry(self, 0, 0)
            entry.identifier = identifier
            failure = StoredFailure(lambda: ObjectFreedError(identifier.hex()))
            failure.seen = True  # nobody has lost anything yet
            entry.outcome = failure
        return entry

    # ------------------------------------------------------------ client: what there is

    def cluster_resources(self) -> dict[str, float]:
        """Totals by name."""
        return {**_in_whole_units(self._core.total), f"node:{NODE_IP}": 1.0}

    def available_resources(self) -> dict[str, float]:
        """What no running attempt holds, by name; what is used up is left out."""
        return {**_in_whole_units(self._core.available), f"node:{NODE_IP}": 1.0}

    def nodes(self) -> list[dict[str, Any]]:
        """This machine, as Ray describes a node."""
        return [
            {
                "NodeID": self.node_id,
                "Alive": not self.closed,
                "NodeManagerAddress": NODE_IP,
                "NodeManagerHostname": os.uname().nodename,
                "NodeManagerPort": 0,
                "ObjectManagerPort": 0,
                "ObjectStoreSocketName": "",
                "RayletSocketName": "",
                "MetricsExportPort": 0,
                "MetricsAgentPort": 0,
                "DashboardAgentListenPort": 0,
                "NodeName": NODE_IP,
                "RuntimeEnvAgentPort": 0,
                "DeathReason": 0,
                "DeathReasonMessage": "",
                "alive": not self.closed,
                "Resources": self.cluster_resources(),
                "Labels": dict(self.settings.labels or {}),
            }
        ]

    # ------------------------------------------------------------ commands: objects

    def _do_resolve_values(self, command: ResolveValues) -> None:
        for task, payload in command.results:
            returns = task.returns
            task.returns = task.payload = None
            if type(returns) is ObjectEntry:
                self._store(returns, payload)
            else:
                values = marshal.loads(payload) if returns else ()
                for entry, value in zip(returns, values, strict=True):
                    self._store(entry, value)

    def _store(self, entry: ObjectEntry, outcome: bytes | StoredFailure) -> None:
        if type(outcome) is bytes and outcome[0] == 1:
            entry.contains = [self.adopt(found) for found in contained_ids(outcome)]
        entry.outcome = outcome
        waiters = entry.waiters
        if waiters is not None:
            entry.waiters = None
            for waiter in waiters:
                waiter()

    def _do_resolve_failure(self, command: ResolveFailure) -> None:
        task, failure = command.task, command.failure
        names = [
            None if record.worker_id is None else self._names.get(record.worker_id)
            for record in failure.attempts
        ]
        stored = StoredFailure(
            exception_builder(
                task, failure, job=self.job, workers=names, unix_offset=self._unix_offset
            )
        )
        if failure.upstream is not None:
            failure.upstream.returns.seen = True  # it lives on in this one
        returns = task.returns
        task.returns = stored  # dependents submitted later build upon it
        task.payload = None
        task.failures = None
        for entry in (returns,) if type(returns) is ObjectEntry else returns:
            self._store(entry, stored)
        if returns == []:
            stored.seen = False

    def _do_report_cancel(self, command: ReportCancel) -> None:
        request = self._requests.pop(command.request_id, None)
        if request is not None:
            request.resolve(command.outcome)

    def _do_report_retry(self, command: ReportRetry) -> None:
        left = "infinite" if command.retries_left < 0 else command.retries_left
        after = f" in {command.delay:.3g} s" if command.delay else ""
        logger.warning(
            "Task %s failed. There are %s retries remaining, so the task will be retried%s. "
            "Error: %s",
            command.task.name,
            left,
            after,
            describe(command.record),
        )

    def _do_report_infeasible(self, command: ReportInfeasible) -> None:
        needs = {name: amount / UNIT for name, amount in command.task.scheduling_class.demand}
        logger.warning(
            "Task %s asks for %s, but this machine has %s in total: it will never run. Give init() "
            "more num_cpus, num_gpus or resources, or ask for less.",
            command.task.name,
            needs,
            _in_whole_units(self._core.total),
        )

    # ------------------------------------------------------------ commands: workers

    def _do_start(self, command: StartWorker) -> None:
        worker_id = command.worker_id
        digest = hashlib.sha256(f"{self.node_id}/{worker_id}".encode()).hexdigest()
        hex_id = digest[: 2 * ids.NODE_ID_SIZE]
        handle: WorkerHandle | None = None
        try:
            if self._template is None:
                self._start_template()
            template = self._template
            assert template is not None
            if template.broken is not None:
                raise OSError(template.broken)
            handle = WorkerHandle(worker_id, hex_id)
            template.fork(worker_id, hex_id, dict(command.environment), handle.child_fds)
        except OSError as error:
            if handle is not None:
                handle.close()
            self._feed(WorkerStartFailed(worker_id, StartReport(str(error))))
            return
        handle.release_child_fds()
        self._workers[worker_id] = handle
        loop = self._own_loop()
        loop.add_reader(handle.bell, self._bell_rang, handle)

    def _do_send(self, command: SendAttempts) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None and not handle.send(command.tasks, _values_of):
            self._own_loop().add_writer(handle.bundles, self._flush_bundles, handle)

    def _flush_bundles(self, handle: WorkerHandle) -> None:
        if handle.flush():
            self._own_loop().remove_writer(handle.bundles)

    def _do_reclaim(self, command: ReclaimAttempts) -> None:
        handle = self._workers.get(command.worker_id)
        seqs: Sequence[int] = () if handle is None else handle.reclaim()
        self._feed(AttemptsReclaimed(command.worker_id, seqs))

    def _do_poll(self, command: PollWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            self._read_answers(handle)

    def _do_interrupt(self, command: InterruptWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.interrupt(command.seq)

    def _do_kill(self, command: KillWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.kill()

    def _do_stop(self, command: StopWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.stop()

    def _do_stopped(self, _command: Stopped) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    # ------------------------------------------------------------ what workers do

    def _bell_rang(self, handle: WorkerHandle) -> None:
        handle.silence_bell()
        self._read_answers(handle)

    def _read_answers(self, handle: WorkerHandle) -> None:
        was_in_mid_frame = handle.in_mid_frame
        answers = handle.read_answers()
        if handle.in_mid_frame != was_in_mid_frame:
            loop = self._own_loop()
            if was_in_mid_frame:
                loop.remove_reader(handle.answers)
            else:
                loop.add_reader(handle.answers, self._read_answers, handle)
        if not answers:
            return
        if not handle.ready and answers[0].seq == HELLO:
            handle.ready = True
            del answers[0]
            self._feed(WorkerReady(handle.id))
        if answers:
            self._feed(AnswersReceived(handle.id, answers))

    # ------------------------------------------------------------ the template

    def _start_template(self) -> None:
        options = self.settings
        settings = {
            "job": self.job.hex(),
            "node_id": self.node_id,
            "session": self.session,
            "namespace": self.namespace,
            "sys_path": [path or os.getcwd() for path in sys.path],
            "preload": list(options.preload),
            "ray_alias": getattr(sys.modules.get("ray"), "__name__", "") == "aioray",
        }
        environ = {**os.environ, **dict(self.env_vars)}
        environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray: a task that reserved one CPU
        self._template = TemplateProcess(
            self._own_loop(), settings, environ, self._template_says, self._template_ended
        )

    def _template_says(
        self, template: TemplateProcess, message: dict[str, Any], fd: int | None
    ) -> None:
        if template is not self._template:
            if fd is not None:
                os.close(fd)
        elif "forked" in message:
            self._forked(message["forked"], message["pid"], fd)
        elif "exited" in message:
            self._exited(message["exited"], message["status"])
        elif "failed" in message:
            self._start_failed(message["failed"], StartReport(message["reason"], template.tail()))
        elif "broken" in message:
            for handle in tuple(self._workers.values()):
                self._start_failed(handle.id, StartReport(message["broken"], template.tail()))

    def _forked(self, worker_id: int, pid: int, pidfd: int | None) -> None:
        handle = self._workers.get(worker_id)
        if handle is None or pidfd is None:
            if pidfd is not None:
                os.close(pidfd)
            return
        handle.pid, handle.pidfd = pid, pidfd
        self._names[worker_id] = WorkerName(handle.hex_id, pid)
        if len(self._names) > NAMES_KEPT:
            self._names.popitem(last=False)
        loop = self._own_loop()
        loop.add_reader(pidfd, self._died, handle)
        printer = self._printer if self.settings.log_to_driver else None
        handle.readers = [
            LineReader(loop, handle.stdout, pid, printer, to_stderr=False),
            LineReader(loop, handle.stderr, pid, printer, to_stderr=True),
        ]
        if handle.kill_ordered:
            handle.kill()

    def _start_failed(self, worker_id: int, report: StartReport) -> None:
        handle = self._workers.pop(worker_id, None)
        if handle is not None:
            self._forget_readers(handle)
            handle.close()
            self._feed(WorkerStartFailed(worker_id, report))

    def _died(self, handle: WorkerHandle) -> None:
        """The process is dead; its template will say how, and if not, it is said without."""
        loop = self._own_loop()
        loop.remove_reader(handle.pidfd)  # type: ignore[arg-type]  # it is what has called
        loop.call_later(REPORT_SECONDS, self._exited, handle.id, None)

    def _exited(self, worker_id: int, status: int | None, template_death: str = "") -> None:
        """The worker is reaped: take in all that it has left behind, then report it."""
        handle = self._workers.get(worker_id)
        if handle is None:
            return
        running = handle.running()
        self._read_answers(handle)
        self._feed(AttemptsReclaimed(worker_id, handle.reclaim()))
        del self._workers[worker_id]
        self._finish_output(handle)
        self._forget_readers(handle)
        killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9
        oom_kills = linux.oom_kills() if killed and not handle.kill_ordered else self._oom_kills
        report = DeathReport(
            self._names.get(worker_id, WorkerName(handle.hex_id, handle.pid)),
            status,
            oom_killed=oom_kills > self._oom_kills,
            stderr_tail="\n".join(handle.readers[1].tail) if handle.readers else "",
            python_stack=handle.python_stack(),
            template_death=template_death,
        )
        self._oom_kills = oom_kills
        handle.close()
        self._feed(WorkerExited(worker_id, report, None if running is None else running[1]))

    def _template_ended(self, template: TemplateProcess) -> None:
        """The template is dead, and its workers with it: not their children, so kill the groups."""
        if template is not self._template:
            return
        self._template = None
        death = template.death()
        template.close()
        for handle in tuple(self._workers.values()):
            handle.kill_group()
            if handle.ready:
                self._exited(handle.id, None, death)
            else:
                self._start_failed(handle.id, StartReport(death, template.tail()))

    def _finish_output(self, handle: WorkerHandle) -> None:
        for reader in handle.readers:
            reader.finish()

    def _forget_readers(self, handle: WorkerHandle) -> None:
        loop = self._own_loop()
        if loop.is_closed():
            return
        for fd in (handle.bell, handle.answers, handle.stdout, handle.stderr):
            loop.remove_reader(fd)
        loop.remove_writer(handle.bundles)
        if handle.pidfd is not None:
            loop.remove_reader(handle.pidfd)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        assert self.loop is not None
        return self.loop


def _values_of(entries: list[ObjectEntry]) -> list[bytes]:
    """The serialized values of a task's arguments; the core has seen to it that they are there."""
    values = []
    for entry in entries:
        assert type(entry.outcome) is bytes
        values.append(entry.outcome)
    return values


def _retries_from_environment() -> int:
    # os.environ decodes and encodes at each look; this is on the way of every submission.
    environ = os.environb
    if environ.get(b"AIORAY_TASK_MAX_RETRIES") or environ.get(b"RAY_TASK_MAX_RETRIES"):
        return default_max_retries(os.environ)
    return default_max_retries({})


def _in_whole_units(amounts: Mapping[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in amounts.items() if amount}


def _uuid() -> Any:
    import uuid

    return uuid.uuid4()
