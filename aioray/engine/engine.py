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
import contextlib
import dataclasses
import functools
import logging
import marshal
import pickle
import random
import time
import weakref
from typing import TYPE_CHECKING, Any

from ..client.awaiting import get_running_loop
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
from ..exceptions import RaySystemError
from ..options.task import InitOptions, parse_init_options
from ..shared import ids, linux
from ..shared.printable import printable
from ..shared.serialization import dump, load
from ..shared.startup_hook import run_startup_hook
from ..state.folders import SessionFolder, root_folder
from ..state.write.writer import Keeper
from .client import DriverClient
from .mailbox import Mailbox
from .objects.entries import no_value
from .objects.lineage import entries_of
from .objects.objects import Objects
from .objects.spill import SpillFolder
from .objects.store import Stored
from .processes.descriptors import DescriptorsClosedError, leak
from .processes.pool import Crew
from .requests.dispatcher import Requests
from .tasks.actors import WISHED, Known
from .telemetry.errors import exception_builder
from .telemetry.questions import in_whole_units
from .telemetry.recorder import Recorder
from .telemetry.reports import NODE_IP, describe
from .telemetry.shortages import infeasible, starved
from .telemetry.snapshot import Outlook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from ..core.model import Task
    from .objects.streams import Stream
    from .processes.boot import Boot

__all__ = ["Engine", "open_engines"]

logger = logging.getLogger("aioray")

NONE = pickle.dumps(None, 5)

_open: dict[DriverClient, Engine] = {}


def open_engines() -> list[Engine]:
    """Return the engines of this process that were started and have not ended."""
    return list(_open.values())


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
        totals = {
            **dict(self.settings.capacity),
            f"node:{NODE_IP}": UNIT,
            "node:__internal_head__": UNIT,
        }
        self._core = Scheduler(
            totals,
            random.Random(self.settings.retry_seed),
            devices=self.settings.devices,
        )
        self._mailbox = Mailbox(
            self._core, self.clock, fail=self._fail, close=self._close, let_go=self._abandon
        )
        self._unix_offset = time.time() - time.monotonic()
        self.client = client = DriverClient(
            self.settings, self._core, self._mailbox, totals, self._unix_offset, self.disown
        )
        self.session = client.session
        self._folder = client.questions.folder
        self._submission = client.submission
        self._crew: Crew | None = None
        self._requests_of_tasks: Requests | None = None
        self._objects: Objects | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._recorder: Recorder | None = None
        self._activation: Any = None
        self._mailbox.orders = {
            ResolveValues: self._do_resolve_values,
            ResolveFailure: self._do_resolve_failure,
            Revive: self._do_revive,
            ReportCancel: client.cancels.report,
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
        self._mailbox.begin(loop, owns_thread=owns_thread)
        try:
            self._begin(loop, boot)
        except BaseException:
            self._close()
            raise

    def _begin(self, loop: asyncio.AbstractEventLoop, boot: Boot | None) -> None:
        client, feed, post = self.client, self._mailbox.feed, self._mailbox.post
        job = ids.job_id(registry.free_job_number())
        self._stopped = loop.create_future()
        identity: dict[str, Any] = {
            "job": job.hex(),
            "node_id": client.node_id,
            "session": client.session,
            "namespace": client.namespace,
        }
        spill_directory = self.settings.spill_directory
        folder = SpillFolder(
            SessionFolder(root_folder(spill_directory), self.session)
            if spill_directory
            else self._folder,
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
        identity["folder"] = self._folder.path
        identity["objects"] = folder.path
        if self.settings.tracing_startup_hook:
            run_startup_hook(self.settings.tracing_startup_hook)
            identity["tracing_startup_hook"] = self.settings.tracing_startup_hook
        objects = self._objects = Objects(loop, self.settings, folder, client, feed, post)
        client.begin(loop, job, objects)
        if registry.traces or self.settings.tracing_startup_hook:
            client.trace()
        self._mailbox.sentinel = objects.sentinel
        requests = self._requests_of_tasks = Requests(
            client,
            client.submission,
            objects,
            client.actors,
            feed,
            self._core.task_in_flight,
            self._core.submitter,
            self._core.expects,
        )
        self._crew = client.crew = self.crew_class(
            loop, feed, self.settings, identity, objects, requests, boot
        )
        self._mailbox.orders |= self._crew.orders
        if self.settings.history:
            self._record()
        self._submission.on_function_gone = self._function_gone
        self._guard = loop.create_task(self._watch_loop(), name="aioray-guard")
        registry.open(client)
        _open[client] = self

    def _record(self) -> None:
        """Let the history of this session begin."""
        folder: SessionFolder | None = self._folder
        try:
            self._folder.make()
        except OSError as error:
            logger.warning(
                "This session's history stays in memory, and nobody can ask for it from outside: "
                "%s. Give init() another _temp_dir, or set RAY_TMPDIR.",
                error,
            )
            folder = None
        keeper = Keeper(
            folder,
            self.client.ask_state,
            attempts_kept=self.settings.history,
            unix_offset=self._unix_offset,
        )
        assert self._mailbox.sentinel is not None
        keeper.is_intact = self._mailbox.sentinel.is_intact
        client = self.client
        self._recorder = client.recorder = Recorder(
            keeper,
            job=client.job,
            node_id=client.node_id,
            unix_offset=self._unix_offset,
            row_of_group=client.groups.described,
            sites=self._submission.sites,
        )
        self._recorder.begin(
            {
                "session": client.session,
                "namespace": client.namespace,
                "total": client.cluster_resources(),
                "labels": dict(self.settings.labels or {}),
            }
        )
        assert self._crew is not None
        assert self._objects is not None
        assert self._requests_of_tasks is not None
        self._crew.recorder = self._recorder
        client.questions.outlook = Outlook(
            client,
            self._core,
            self._crew,
            self._recorder,
            self._objects.store,
            self._requests_of_tasks,
            client.entries.pinned,
            client.submission.sites,
            self.settings.object_store_memory,
        )
        keeper.listeners.extend(registry.listeners)
        keeper.start()
        self._mailbox.after_tasks = keeper.wake

    async def __aenter__(self) -> Self:
        self.start()
        self._activation = activate(self.client)
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
        return activate(self.client)

    @property
    def closed(self) -> bool:
        """Whether it can do nothing more: shut down, its loop closed, or copied by a fork."""
        return self._mailbox.closed

    @property
    def lost(self) -> bool:
        """Whether somebody has closed its descriptors: then `forget_all` is its end."""
        return self._mailbox.lost

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it was started on."""
        return self._mailbox.loop

    def between_runs(self) -> bool:
        """Whether this thread could run the loop, which nobody runs now."""
        return self._mailbox.between_runs()

    def loop_is_broken(self) -> None:
        """The loop's own descriptors may be gone too. Does not return then."""
        with contextlib.suppress(DescriptorsClosedError):
            self._mailbox.refuse_lost()

    def forget_all(self) -> None:
        """Be closed, having lost everything."""
        with contextlib.suppress(DescriptorsClosedError):
            self._mailbox.refuse_lost()
        self._mailbox.forgotten = True
        registry.close(self.client)
        _open.pop(self.client, None)

    def disown(self) -> None:
        """Forget everything: this is a copy of the engine in a process forked from its own."""
        self._mailbox.ended = self._mailbox.forgotten = True
        _open.pop(self.client, None)
        if isinstance(self._crew, Crew):
            self._crew.disown()
        self._recorder = self.client.recorder = None
        self._folder.disown()
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
        registry.close(self.client)
        _open.pop(self.client, None)
        if self._crew is not None:
            self._crew.close()
        if self._requests_of_tasks is not None:
            self._requests_of_tasks.close()
        if self._recorder is not None:
            self._recorder.end()
        if self._objects is not None:
            self._objects.close()
        self._folder.close()
        if self.loop is not None and not self.loop.is_closed():  # else nobody waits for these
            if self._guard is not None and not self._guard.done():
                self._guard.cancel()
            if self._stopped is not None and not self._stopped.done():
                self._stopped.set_result(None)
        self.client.cancels.end()
        self.client.entries.pinned.clear()
        self.client.actors.close()
        if self._submission.tracer is not None:
            self._submission.tracer.close()

    def _abandon(self) -> None:
        """Let go of everything, and of no descriptor: its number may be somebody else's by now."""
        leak(self, self.loop)
        self._mailbox.abandon()
        self.client.cancels.end()

    def _fail(self, task: Task, text: str) -> None:
        """Give a task that has no outcome this error: the engine itself has failed."""
        if task.actor is None and not isinstance(task.returns, StoredFailure | None):
            stored = StoredFailure(functools.partial(RaySystemError, text))
            self._store_failure(task, entries_of(task, self.client), stored)

    def _function_gone(self, key: int) -> None:
        """For any thread: no task of this function is left, and nobody can submit one."""
        if not self.closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._mailbox.post(lambda: self._unload(key))

    def _unload(self, key: int) -> None:
        if self._crew is not None:
            self._crew.unload(key)

    # ------------------------------------------------------------ commands

    def _do_report_actor(self, command: ReportActor) -> None:
        self.client.actors.changed(command.actor)
        if self._recorder is not None:
            self._recorder.actor_changed(command.actor)

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
                self.client.store(task.returns, payload)
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
                self.client.store(returns, payload)
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
                    self.client.store(entry, value)
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
            self.client.store(completed, payload if failure is None else failure)
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
            failure = dataclasses.replace(failure, detail=self.client.actors.told(failure.detail))
        names = [
            None if record.worker_id is None else self.client.name_of(record.worker_id)
            for record in failure.attempts
        ]
        entries = [] if task.actor is not None else entries_of(task, self.client)
        stored = StoredFailure(
            exception_builder(
                task,
                failure,
                index=next((entry.index for entry in entries if entry.outcome is None), 1),
                job=self.client.job,
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
                self.client.store(entries[0], _dynamic(items))
            elif raised and not task.stream.dynamic:
                self.client.store(entries[0], NONE)  # the error is the last item's
        self._store_failure(task, entries, stored)

    def _store_failure(self, task: Task, entries: list[ObjectEntry], stored: StoredFailure) -> None:
        task.returns = stored  # dependents submitted later build upon it
        task.drop_arguments()
        task.failures = None
        for entry in entries:
            self.client.store(entry, stored)

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
            in_whole_units(dict(command.task.scheduling_class.demand)),
            in_whole_units(dict(self.settings.capacity)),
        )
        self._warn(text)

    def _do_report_starved(self, command: ReportStarved) -> None:
        self._warn(starved(command, self.client.groups.title))

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
