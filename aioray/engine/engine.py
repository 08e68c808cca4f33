"""The engine: an event loop's supervisor of workers, and the client that the API talks to.

Room: engine. It feeds the scheduler with what happens and carries out what that orders; all state
changes on the loop's thread, without locks. Other threads leave tasks and calls in one deque and
wake the loop once for many. A loop tick's submissions become one event, and answers that arrive
together too.

The engine takes no signals and installs no handlers; its only threads are one that keeps the
history and answers for it, one that prints, and one that works with the disk once shared memory is
full. It ends with `shutdown`, with `async with`, or with its loop: a guard task notices when the
loop's owner cancels everything, and then kills what is left at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import marshal
import os
import pickle
import random
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, Any

from ..client.awaiting import get_running_loop
from ..client.call_sites import recorder
from ..client.generators import DynamicObjectRefGenerator
from ..client.protocol import activate, registry
from ..client.refs import ObjectEntry, ObjectRef, StoredFailure
from ..core.commands import (
    ReportActor,
    ReportCancel,
    ReportInfeasible,
    ReportOrphans,
    ReportRetry,
    ReportStarved,
    ResolveFailure,
    ResolveValues,
    Revive,
    Stopped,
)
from ..core.devices import UNIT
from ..core.events import (
    GroupRemoved,
    ResultLost,
    ResultWanted,
    ShutdownRequested,
)
from ..core.outcomes import (
    ActorDeath,
    AttemptRecord,
    Circle,
    Failure,
    FailureKind,
    Overdue,
    Passage,
)
from ..core.scheduler import Scheduler
from ..core.states import GroupState
from ..exceptions import RaySystemError
from ..options.task import InitOptions, parse_init_options
from ..shared import ids, linux
from ..shared.printable import printable
from ..shared.serialization import dump, load
from ..shared.startup_hook import run_startup_hook
from ..state.folders import SessionFolder, new_name, root_folder
from ..state.write.writer import Keeper
from .mailbox import Mailbox
from .objects.entries import Entries, no_value
from .objects.lineage import entries_of
from .objects.objects import Objects
from .objects.spill import SpillFolder
from .objects.store import Stored
from .processes.descriptors import DescriptorsClosedError, leak
from .processes.output import FLUSH_SECONDS
from .processes.pool import Crew
from .requests.dispatcher import Requests
from .tasks.actors import WISHED, Actors, Known
from .tasks.groups import Groups
from .tasks.submission import Submission
from .telemetry.errors import exception_builder
from .telemetry.recorder import Recorder
from .telemetry.reports import NODE_IP, describe
from .telemetry.shortages import infeasible, starved
from .telemetry.sites import watch
from .telemetry.snapshot import Outlook
from .waiting import CancelRequests, Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from ..client.protocol import Call
    from ..core.devices import Demand
    from ..core.groups import Group
    from ..core.model import SchedulingClass, Task
    from ..state.read.sessions import Session
    from ..state.write.writer import Listener
    from .objects.streams import Stream
    from .processes.boot import Boot
    from .telemetry.reports import WorkerName

__all__ = ["Engine"]

logger = logging.getLogger("aioray")

NONE = pickle.dumps(None, 5)
FIGURES_SECONDS = 2.0  # that whoever asks for them from another thread waits


class Engine:
    """Runs remote functions in worker processes, on the event loop that it is started on.

        async with aioray.Engine(num_cpus=4) as engine:
            value = await f.remote(1)

    Takes the keywords of `aioray.init`. Inside the block, and in tasks started from it, calls use
    this engine; code outside can be given it by `with engine.activate():`, and the first engine of
    a process serves everybody who has none. Several may be open at once. Leaving the block is
    `shutdown()`.
    """

    # What a test replaces to run without processes and in virtual time.
    crew_class: Callable[..., Crew] = Crew
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, address: str | InitOptions | None = None, **settings: Any) -> None:
        """Check the settings; nothing is started yet. Raises what `aioray.init` raises.

        address: as in `aioray.init`, or settings that were checked before.
        """
        linux.check_platform()
        if not isinstance(address, InitOptions):
            address = parse_init_options(address, settings)
        self.settings: InitOptions = address
        self.namespace = self.settings.namespace or str(uuid.uuid4())
        self.node_id = ids.random_id().hex()
        self.session = new_name()
        self.folder = SessionFolder(root_folder(self.settings.temp_dir), self.session)
        self.job = b""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._totals = {
            **dict(self.settings.capacity),
            f"node:{NODE_IP}": UNIT,
            "node:__internal_head__": UNIT,
        }
        self._core = Scheduler(
            self._totals,
            random.Random(self.settings.retry_seed),
            devices=self.settings.devices,
        )
        self._mailbox = Mailbox(
            self._core, self.clock, fail=self._fail, close=self._close, let_go=self._abandon
        )
        self._groups = Groups(
            self._core, self.node_id, self.settings.labels or {}, self._scheduling_state
        )
        self._submission = Submission(self, self.settings.runtime_env, self._groups.class_for)
        self._actors = Actors(self, self._mailbox.feed, self._mailbox.post, self._name_of)
        self._submission.actors = self._actors
        self._entries = entries = Entries(self, self._mailbox, self._submission.streams)
        self.put, self.fetch, self.lose, self.look = (
            entries.put, entries.fetch, entries.lose, entries.look,
        )  # fmt: skip
        self.export, self.pin, self.adopt, self.new_entry = (
            entries.export, entries.pin, entries.adopt, entries.new_entry,
        )  # fmt: skip
        self.consume, self.abandon, self.store = entries.consume, entries.abandon, entries.store
        self._waits = waits = Waits(self, self._mailbox, entries.look)
        self.get, self.wait = waits.get, waits.wait
        self.when_ready, self.forget = waits.when_ready, waits.forget
        self._cancels = CancelRequests(self, self._mailbox)
        self.cancel = self._cancels.ask
        site = recorder(os.environ)
        if site is not None:
            watch(self, self._submission, self._submission.sites, site)
        self.runtime_env = self._submission.environment.fields()
        self._crew: Crew | None = None
        self._requests_of_tasks: Requests | None = None
        self._objects: Objects | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._recorder: Recorder | None = None
        self._outlook: Outlook | None = None
        self._activation: Any = None
        self._unix_offset = time.time() - time.monotonic()
        self._mailbox.orders = {
            ResolveValues: self._do_resolve_values,
            ResolveFailure: self._do_resolve_failure,
            Revive: self._do_revive,
            ReportCancel: self._cancels.report,
            ReportRetry: self._do_report_retry,
            ReportOrphans: self._do_report_orphans,
            ReportActor: self._do_report_actor,
            ReportInfeasible: self._do_report_infeasible,
            ReportStarved: self._do_report_starved,
            Stopped: self._do_stopped,
        }

    # ------------------------------------------------------------ life

    def start(self, boot: Boot | None = None, *, owns_thread: bool = False) -> None:
        """Begin on the running loop; workers come up in the background.

        boot: a template process that was started before, to save time; the engine takes it over.
        owns_thread: the loop's thread serves nobody else.

        Raises RuntimeError if there is no running loop or the engine was started before; OSError if
        the system has no room for it. Nothing is left open then.
        """
        loop = get_running_loop()
        if self.loop is not None:
            raise RuntimeError("This engine was started before. Make a new Engine.")
        linux.fill_standard_descriptors()  # they may have been closed since the import
        self.loop = loop
        self._mailbox.begin(loop, owns_thread=owns_thread)
        try:
            self._begin(loop, boot)
        except BaseException:
            self._close()
            raise

    def _begin(self, loop: asyncio.AbstractEventLoop, boot: Boot | None) -> None:
        self.job = ids.job_id(registry.free_job_number())
        self._stopped = loop.create_future()
        identity: dict[str, Any] = {
            "job": self.job.hex(),
            "node_id": self.node_id,
            "session": self.session,
            "namespace": self.namespace,
        }
        self._groups.job = self.job
        spill_directory = self.settings.spill_directory
        folder = SpillFolder(
            SessionFolder(root_folder(spill_directory), self.session)
            if spill_directory
            else self.folder,
            self.settings.disk_capacity_threshold,
        )
        config = self.settings.logging_config
        if config is not None:
            from ..client import logging_config

            identity["logging"] = (
                config.encoding,
                config.log_level,
                list(config.additional_log_standard_attrs),
            )
            logging_config.apply(*identity["logging"])
        identity["folder"] = self.folder.path
        identity["objects"] = folder.path
        if self.settings.tracing_startup_hook:
            run_startup_hook(self.settings.tracing_startup_hook)
            identity["tracing_startup_hook"] = self.settings.tracing_startup_hook
        if registry.traces or self.settings.tracing_startup_hook:
            self.trace()
        objects = Objects(loop, self.settings, folder, self, self._mailbox.feed, self._mailbox.post)
        self._objects = self._submission.objects = self._entries.objects = objects
        self._mailbox.sentinel = objects.sentinel
        requests = self._requests_of_tasks = Requests(
            self,
            self._submission,
            objects,
            self._actors,
            self._mailbox.feed,
            self._core.task_in_flight,
            self._core.submitter,
            self._core.expects,
        )
        self._crew = self.crew_class(
            loop, self._mailbox.feed, self.settings, identity, objects, requests, boot
        )
        self._mailbox.orders |= self._crew.orders
        if self.settings.history:
            self._record()
        self._submission.on_function_gone = self._function_gone
        self._guard = loop.create_task(self._watch_loop(), name="aioray-guard")
        registry.open(self)

    def _record(self) -> None:
        """Let the history of this session begin."""
        folder: SessionFolder | None = self.folder
        try:
            self.folder.make()
        except OSError as error:
            logger.warning(
                "This session's history stays in memory, and nobody can ask for it from outside: "
                "%s. Give init() another _temp_dir, or set RAY_TMPDIR.",
                error,
            )
            folder = None
        keeper = Keeper(
            folder,
            self.ask_state,
            attempts_kept=self.settings.history,
            unix_offset=self._unix_offset,
        )
        assert self._mailbox.sentinel is not None
        keeper.is_intact = self._mailbox.sentinel.is_intact
        self._recorder = Recorder(
            keeper,
            job=self.job,
            node_id=self.node_id,
            unix_offset=self._unix_offset,
            row_of_group=self._groups.described,
            sites=self._submission.sites,
        )
        self._recorder.begin(
            {
                "session": self.session,
                "namespace": self.namespace,
                "total": self.cluster_resources(),
                "labels": dict(self.settings.labels or {}),
            }
        )
        assert self._crew is not None
        assert self._objects is not None
        assert self._requests_of_tasks is not None
        self._crew.recorder = self._recorder
        self._outlook = Outlook(
            self,
            self._core,
            self._crew,
            self._recorder,
            self._objects.store,
            self._requests_of_tasks,
            self._entries.pinned,
            self._submission.sites,
        )
        keeper.listeners.extend(registry.listeners)
        keeper.start()
        self._mailbox.after_tasks = keeper.wake

    async def __aenter__(self) -> Self:
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

    def pids(self) -> list[int]:
        """The process ids of the template and of the workers, for monitoring."""
        return [] if self._crew is None else self._crew.pids()

    def activate(self) -> contextlib.AbstractContextManager[None]:
        """Let this engine serve the calls inside the `with` block."""
        return activate(self)

    def trace(self) -> None:
        """Make a span of each task from now on. See `aioray.util.tracing`."""
        if self._submission.tracer is None:
            from .telemetry.tracing import Tracer

            self._submission.tracer = Tracer(self.job, self._unix_offset, self._name_of)

    @property
    def closed(self) -> bool:
        """Whether it can do nothing more: shut down, its loop closed, or copied by a fork."""
        return self._mailbox.closed

    @property
    def lost(self) -> bool:
        """Whether somebody has closed its descriptors: then `forget_all` is its end."""
        return self._mailbox.lost

    def loop_is_broken(self) -> None:
        """The loop's own descriptors may be gone too. Does not return then."""
        with contextlib.suppress(DescriptorsClosedError):
            self._mailbox.refuse_lost()

    def forget_all(self) -> None:
        """Be closed, having lost everything."""
        with contextlib.suppress(DescriptorsClosedError):
            self._mailbox.refuse_lost()
        self._mailbox.forgotten = True
        registry.close(self)

    def disown(self) -> None:
        """Forget everything: this is a copy of the engine in a process forked from its own."""
        self._mailbox.ended = self._mailbox.forgotten = True
        if isinstance(self._crew, Crew):
            self._crew.disown()
        self._recorder = None
        self.folder.disown()
        if self._objects is not None:
            self._objects.disown()

    async def shutdown(self, drain: float = 0.0) -> None:
        """End everything. Idempotent.

        drain: seconds in which tasks may still finish, while new ones are refused; then running
        ones are interrupted, and a second later killed. Refs without an outcome raise
        EngineShutdownError.
        """
        if self._mailbox.ended or self.loop is None or self._stopped is None:
            self._mailbox.ended = True
            return
        self._mailbox.feed(ShutdownRequested(drain))
        try:
            await asyncio.shield(self._stopped)
            if self._crew is not None:
                await self._crew.leave()
        except asyncio.CancelledError:
            self._mailbox.feed(ShutdownRequested(0.0))
            raise
        finally:
            self._close()
        if self._guard is not None:
            await asyncio.wait([self._guard])

    def abort(self) -> None:
        """End everything at once, without waiting for the loop: kill, resolve, close."""
        if not self._mailbox.ended and self.loop is not None:
            self._mailbox.feed(ShutdownRequested(0.0))
            self._close()

    async def _watch_loop(self) -> None:
        assert self._stopped is not None
        try:
            await asyncio.shield(self._stopped)
        except asyncio.CancelledError:
            self.abort()  # whoever runs this loop is about to end it
            raise

    def _close(self) -> None:
        """Let go of everything. The template kills and reaps what may still run."""
        if self._mailbox.ended:
            return
        if self.lost:
            self._abandon()
            return
        self._mailbox.end()
        registry.close(self)
        if self._crew is not None:
            self._crew.close()
        if self._requests_of_tasks is not None:
            self._requests_of_tasks.close()
        if self._recorder is not None:
            self._recorder.end()
        if self._objects is not None:
            self._objects.close()
        self.folder.close()
        if self.loop is not None and not self.loop.is_closed():  # else nobody waits for these
            if self._guard is not None and not self._guard.done():
                self._guard.cancel()
            if self._stopped is not None and not self._stopped.done():
                self._stopped.set_result(None)
        self._cancels.end()
        self._entries.pinned.clear()
        self._actors.close()
        if self._submission.tracer is not None:
            self._submission.tracer.close()

    def _abandon(self) -> None:
        """Let go of everything, and of no descriptor: its number may be somebody else's by now."""
        leak(self, self.loop)
        self._mailbox.abandon()
        self._cancels.end()

    def _fail(self, task: Task, text: str) -> None:
        """Give a task that has no outcome this error: the engine itself has failed."""
        if task.actor is None and not isinstance(task.returns, StoredFailure | None):
            stored = StoredFailure(functools.partial(RaySystemError, text))
            self._store_failure(task, entries_of(task, self), stored)

    def _function_gone(self, key: int) -> None:
        """For any thread: no task of this function is left, and nobody can submit one."""
        if not self.closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._mailbox.post(lambda: self._unload(key))

    def _unload(self, key: int) -> None:
        if self._crew is not None:
            self._crew.unload(key)

    # ------------------------------------------------------------ client: tasks

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Take a task. See `aioray.client.protocol.Client`."""
        if self._mailbox.ended:
            self._mailbox.refuse_lost()
            raise RuntimeError("This engine is shut down. Start another one.")
        task, returned = self._submission.make(call, args, kwargs)
        self._mailbox.post(task)
        return returned

    # ------------------------------------------------------------ client: actors

    def create_actor(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Take an actor. See `aioray.client.protocol.Client`."""
        if self._mailbox.ended:
            self._mailbox.refuse_lost()
            raise RuntimeError("This engine is shut down. Start another one.")
        creation, ref = self._submission.make_actor(call, args, kwargs, self.namespace)
        self._mailbox.post(creation)
        return ref

    def get_actor(self, name: str, namespace: str | None) -> tuple[ObjectRef[Any], bytes] | None:
        """The ref and the meta of the living actor of this name."""
        return self._actors.named(name, namespace or self.namespace)

    def kill_actor(self, actor: ObjectRef[Any], *, no_restart: bool) -> None:
        """End an actor at once."""
        self._actors.kill(actor.binary(), no_restart=no_restart)

    def named_actors(self) -> list[tuple[str, str]]:
        """Namespace and name of every living actor that has a name."""
        return self._actors.names()

    def pending_calls(self, actor: ObjectRef[Any]) -> int:
        """How many calls of an actor the driver has made that have not ended."""
        return self._actors.pending_calls(actor.binary(), 0)

    def _name_of(self, worker_id: int) -> WorkerName | None:
        return None if self._crew is None else self._crew.names.get(worker_id)

    def _do_report_actor(self, command: ReportActor) -> None:
        self._actors.changed(command.actor)
        if self._recorder is not None:
            self._recorder.actor_changed(command.actor)

    # ------------------------------------------------------------ client: objects

    def in_own_thread(self) -> bool:
        """Whether this is the engine's thread, and the engine has not ended."""
        return self._mailbox.in_own_thread()

    def between_runs(self) -> bool:
        """Whether this thread could run the loop, which nobody runs now."""
        return self._mailbox.between_runs()

    def flush_output(self) -> None:
        """Return when all is printed that workers have printed until now, or it takes too long."""
        done = threading.Event()

        def flush() -> None:
            if self._crew is None or self._mailbox.ended:
                done.set()
            else:
                self._crew.flush_output(done.set)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._mailbox.on_thread(flush)
            done.wait(FLUSH_SECONDS)

    # ------------------------------------------------------------ client: placement groups

    def create_placement_group(
        self, identifier: bytes, bundles: Sequence[Demand], strategy: str, name: str, value: bytes
    ) -> None:
        """Take a placement group. See `aioray.client.protocol.Client`."""
        if self._mailbox.ended:
            self._mailbox.refuse_lost()
            raise RuntimeError("This engine is shut down. Start another one.")

        title = f"placement_group {name}" if name else "placement_group"
        self._groups.add(
            identifier, bundles, strategy, name, lambda cls: self._reserve(cls, title, value)
        )
        self._mailbox.post(lambda: self._group_changed(identifier))

    def _reserve(
        self, scheduling_class: SchedulingClass, name: str, value: bytes
    ) -> ObjectRef[Any]:
        task, ref = self._submission.make_reservation(scheduling_class, name, value)
        self._mailbox.post(task)
        return ref

    def remove_placement_group(self, identifier: bytes) -> None:
        """Remove a placement group, and return when that has begun."""
        group = self._groups.find(identifier)

        def remove() -> None:
            self._mailbox.feed(GroupRemoved(group))
            self._group_changed(identifier)
            self._mailbox.feed(functools.partial(self._groups.forget_old))

        if not self.closed:
            self._mailbox.do_now(remove)

    def _group_changed(self, identifier: bytes) -> None:
        if self._recorder is not None:
            self._recorder.group_changed(self._groups.find(identifier))

    def placement_group_ready(self, identifier: bytes) -> ObjectRef[Any]:
        """The ref that is ready when the group is placed, and fails if that was removed."""
        group = self._groups.find(identifier)
        if group.state is GroupState.REMOVED:  # its ref may have got the value before
            return self._reserve(group.classes[0], "placement_group", b"")
        return self._groups.ready(identifier)

    def placement_group_table(self) -> dict[str, dict[str, Any]]:
        """The placement groups by id, as Ray describes them."""
        return self._groups.table()

    def _scheduling_state(self, group: Group) -> str:
        if group.state is GroupState.PENDING:
            return "INFEASIBLE" if group.classes[0].reported_infeasible else "QUEUED"
        return "FINISHED" if group.state is GroupState.CREATED else "REMOVED"

    # ------------------------------------------------------------ client: state

    def silence(self) -> None:
        """Print no more of what workers print, for the rest of the session."""
        if self._crew is not None:
            self._crew.silence()

    def ask_state(self, request: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        """Answer a question about what is going on, from any thread.

        request: "want" names what more than tasks and resources: "objects"; or "running" alone, or
        "stacks".
        done: called with the answer, made of what JSON has, on the engine's thread.
        """
        try:
            self._mailbox.post(lambda: self._tell(request, done))
        except RuntimeError:  # the loop is closed
            done({"error": "ended"})

    def _tell(
        self,
        request: dict[str, Any],
        done: Callable[[dict[str, Any]], None],
        *,
        at_once: bool = False,
    ) -> None:
        if self._outlook is None or self._mailbox.ended:
            done({"error": "ended"})
        else:
            self._outlook.tell(request, done, at_once=at_once)

    def own_session(self) -> Session:
        """This session, to be looked at, from any thread."""
        from ..state.read.sessions import Session  # it takes sqlite3 along, which few need here

        return Session(
            self.session,
            self.folder.path,
            alive=not self.closed and self._recorder is not None,
            pid=os.getpid(),
            ask=self._ask_here,
        )

    def _ask_here(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Answer a question of this process, and wait for that. Raises TimeoutError."""
        answered: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()

        def complete(answer: dict[str, Any]) -> None:
            if self._recorder is None or self._mailbox.is_lost:
                answered.set_result(answer)
            else:
                self._recorder.keeper.complete(answer, answered.set_result)

        if threading.get_ident() == self._mailbox.thread_id:
            self._mailbox.drain()
            self._tell(request, complete, at_once=True)
        else:
            self.ask_state(request, complete)
        return answered.result(timeout)

    def ask_figures(self) -> dict[str, Mapping[tuple[str, ...], float]]:
        """What `aioray.state.write.metering` says of now, from any thread.

        Empty if the engine has ended, or its loop is blocked.
        """
        outlook = self._outlook
        if self.closed or outlook is None:
            return {}
        if threading.get_ident() == self._mailbox.thread_id:
            return outlook.figures()
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def tell() -> None:
            try:
                answer.set_result({} if self._mailbox.ended else outlook.figures())
            except Exception as error:  # noqa: BLE001 - whoever asks is told, not the session
                answer.set_exception(error)

        try:
            self._mailbox.post(tell)
            found: dict[str, Mapping[tuple[str, ...], float]] = answer.result(FIGURES_SECONDS)
        except (RuntimeError, TimeoutError):
            return {}
        return found

    def listen(self, listener: Listener) -> None:
        """Let somebody know what is recorded from now on; nothing is if `history` is 0."""
        if self._recorder is not None:
            self._recorder.keeper.listeners.append(listener)

    # ------------------------------------------------------------ client: what there is

    def cluster_resources(self) -> dict[str, float]:
        """Totals by name."""
        memory = {"object_store_memory": float(self.settings.object_store_memory)}
        return {**_in_whole_units(self._totals), **memory}

    def available_resources(self) -> dict[str, float]:
        """What nobody holds or has reserved, by name; what is used up is left out."""
        used = 0 if self._objects is None else self._objects.store.used
        left = self.settings.object_store_memory - used
        memory = {"object_store_memory": float(left)} if left > 0 else {}
        available = dict(self._core.available)  # at once: it may be changing
        free = {name: amount for name, amount in available.items() if name in self._totals}
        return {**_in_whole_units(free), **memory}

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
        objects = self._objects
        assert objects is not None
        results = command.results
        short = {task for task, _ in results if task.stream is not None and task.stream.is_short}
        good = [each for each in results if each[0] not in short] if short else results
        watchers = [each for each in (self._recorder, self._submission.tracer) if each is not None]
        for watcher in watchers:
            watcher.finished(good)
        for task, payload in results:
            if task.actor is not None:
                known: Known = task.actor.payload
                known.repr_name = _text(payload)
                continue  # it lives, and nobody waits for a value of that
            if type(payload) is bytes and type(task.returns) is ObjectEntry:
                self.store(task.returns, payload)
                task.returns = task.payload = task.arguments = task.held = None
                continue
            if task.stream is not None:
                failure = self._finish_stream(task, payload)
                if failure is not None:
                    for watcher in watchers:
                        watcher.failed(task, _too_short(task), failure)
                continue
            returns = task.returns
            if type(returns) is ObjectEntry:
                self.store(returns, payload)
                objects.finished(task, recoverable=type(payload) is Stored)
                continue
            values = payload
            if type(payload) is bytes:
                values = _split(payload) if len(returns) > 1 else [payload][: len(returns)]
            elif type(payload) is Stored:
                values = [payload]
            if len(values) != len(returns):
                error = ValueError(f"{len(values)} values instead of {len(returns)}")
                values = [StoredFailure(functools.partial(no_value, error))] * len(returns)
            # Those that a task has submitted are held by whoever wants them, if anybody does.
            entries = [ref() for ref in returns] if type(returns) is tuple else returns
            recoverable = False
            for entry, value in zip(entries, values, strict=True):
                if entry is not None:
                    self.store(entry, value)
                    # Of the entry, not of the payload: another run may have had a smaller result.
                    recoverable |= type(entry.outcome) is Stored
            objects.finished(task, recoverable=recoverable)

    def _finish_stream(self, task: Task, payload: bytes | Stored) -> StoredFailure | None:
        """The end of a generator task: its items have come before. Its error, if it has one."""
        assert self._objects is not None
        stream: Stream = task.stream
        failure = stream.finish()
        completed, *_ = task.returns
        if type(completed) is not ObjectEntry:
            completed = completed()
        if completed is not None:
            self.store(completed, payload if failure is None else failure)
        items = [entry for entry in (completed, *stream.items.values()) if entry is not None]
        recoverable = any(type(entry.outcome) is Stored for entry in items)
        task.returns = tuple(map(weakref.ref, items))
        lost = [entry for entry in items if entry.lost]  # while the task went on to others
        self._objects.finished(task, recoverable=recoverable or bool(lost))
        if lost:
            self._mailbox.feed(ResultLost(task))
        if any(entry.waiters for entry in lost):
            self._mailbox.feed(ResultWanted(task))
        return failure

    def _do_revive(self, command: Revive) -> None:
        if self._objects is not None:
            self._objects.revive(command.task)

    def _do_resolve_failure(self, command: ResolveFailure) -> None:
        task, failure = command.task, command.failure
        death = failure.detail if isinstance(failure.detail, ActorDeath) else None
        if isinstance(failure.detail, (ActorDeath, Circle, Overdue)):
            failure = dataclasses.replace(failure, detail=self._actors.told(failure.detail))
        names = [
            None if record.worker_id is None else self._name_of(record.worker_id)
            for record in failure.attempts
        ]
        entries = [] if task.actor is not None else entries_of(task, self)
        stored = StoredFailure(
            exception_builder(
                task,
                failure,
                index=next((entry.index for entry in entries if entry.outcome is None), 1),
                job=self.job,
                workers=names,
                unix_offset=self._unix_offset,
            )
        )
        if self._recorder is not None:
            self._recorder.failed(task, failure, stored)
        if self._submission.tracer is not None:
            self._submission.tracer.failed(task, failure, stored)
        if task.actor is not None:
            stored.seen = True  # its calls will tell
            return
        # A cancel, a removal or a shutdown is somebody's wish: no log line has to tell of it.
        stored.seen = failure.kind in (
            FailureKind.CANCELLED,
            FailureKind.GROUP_REMOVED,
            FailureKind.SHUTDOWN,
        )
        if death is not None:
            stored.seen = death.cause in WISHED
        if failure.upstream is not None:
            failure.upstream.returns.seen = True  # it lives on in this one
        if task.stream is not None:
            raised = failure.kind is FailureKind.APPLICATION
            items = task.stream.fail(stored, raised=raised)
            if items:
                self.store(entries[0], _dynamic(items))
            elif raised and not task.stream.dynamic:
                self.store(entries[0], NONE)  # the error is the last item's
        self._store_failure(task, entries, stored)

    def _store_failure(self, task: Task, entries: list[ObjectEntry], stored: StoredFailure) -> None:
        task.returns = stored  # dependents submitted later build upon it
        task.drop_arguments()
        task.failures = None
        for entry in entries:
            self.store(entry, stored)

    def _do_report_retry(self, command: ReportRetry) -> None:
        if self._recorder is not None:
            self._recorder.retried(command.task, command.record)
        left = "infinite" if command.retries_left < 0 else command.retries_left
        after = f" in {command.delay:.3g} s" if command.delay else ""
        logger.warning(
            "Task %s failed. There are %s retries remaining, so the task will be retried%s. "
            "Error: %s",
            printable(command.task.name),
            left,
            after,
            printable(describe(command.record)),
        )

    def _do_report_orphans(self, command: ReportOrphans) -> None:
        if self._requests_of_tasks is not None:
            self._requests_of_tasks.cancel_orphans(command.tasks)

    def _do_report_infeasible(self, command: ReportInfeasible) -> None:
        text = infeasible(
            command.task,
            _in_whole_units(dict(command.task.scheduling_class.demand)),
            _in_whole_units(dict(self.settings.capacity)),
        )
        self._warn(text)

    def _do_report_starved(self, command: ReportStarved) -> None:
        self._warn(starved(command, self._groups.title))

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        if self._recorder is not None:
            self._recorder.event("WARNING", "TASK", text)

    def _do_stopped(self, _command: Stopped) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)


def _split(payload: bytes) -> list[Any]:
    """The values of a task that has several, none if the payload is not made of them."""
    try:
        values = marshal.loads(payload)
    except (EOFError, TypeError, ValueError):
        return []
    return values if isinstance(values, list) else []


def _dynamic(items: Sequence[ObjectEntry]) -> bytes:
    """The value of a task with num_returns="dynamic" that has raised: the last item's error."""
    value: DynamicObjectRefGenerator[Any] = DynamicObjectRefGenerator(
        [ObjectRef(entry) for entry in items]
    )
    data, _ = dump(value)
    assert isinstance(data, bytes)  # refs have no buffers
    return data


def _text(payload: Any) -> str:
    """The repr of an actor, as far as it is one."""
    try:
        return str(load(payload))
    except Exception:  # noqa: BLE001 - a worker may have written anything
        return ""


def _too_short(task: Task) -> Failure:
    """How a generator has failed that yielded less than before; for the scheduler it has not."""
    kind = FailureKind.APPLICATION
    record = AttemptRecord(
        task.attempt, task.sent_to, task.started_at, task.seconds, kind, None, Passage.of(task)
    )
    return Failure(kind, attempts=(record,))


def _in_whole_units(amounts: Mapping[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in amounts.items() if amount}
