"""The life of an engine, an event loop's supervisor of workers: how it begins, and how it ends.

Room: engine. `LocalEngine` puts the parts together and is handed to none of them. Those who call
have its `client`; what has happened reaches the core through the `mailbox`, which carries out what
the core orders: by worker processes (`processes.pool`), or by `resolve`, which gives refs
their values. All state changes on the loop's thread, without locks.

The engine takes no signals and installs no handlers; its only threads are one that keeps the
history and answers for it, one that prints, one that looks at the memory while tasks run, and one
that works with the disk once shared memory is full. It ends with `shutdown`, with `async with`, or
with its loop: a guard task notices when the loop's owner cancels everything, and then kills what is
left at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

from ..client.awaiting import get_running_loop
from ..client.protocol import activate, registry
from ..core.commands import ReportCancel, ReportMemoryShort, Stopped
from ..core.devices import UNIT
from ..core.events import ShutdownRequested
from ..core.scheduler import Scheduler
from ..options.task import InitOptions, parse_init_options
from ..shared import ids, linux
from ..shared.startup_hook import run_startup_hook
from ..state.folders import SessionFolder, root_folder
from .client import DriverClient
from .mailbox import Mailbox
from .objects.objects import ObjectTable
from .objects.spill import SpillFolder
from .processes.descriptors import DescriptorsClosedError, leak
from .processes.pool import WorkerProcesses
from .processes.watch import MemoryWatch
from .requests.dispatcher import Requests
from .resolve import Resolver
from .telemetry.recording import begin_recording
from .telemetry.reports import NODE_IP

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..core.model import Task
    from .processes.boot import TemplateLauncher

__all__ = ["LocalEngine", "open_engines"]

_open: dict[DriverClient, LocalEngine] = {}  # by the client that is in the registry


def open_engines() -> list[LocalEngine]:
    """Return the engines of this process that were started and have not ended."""
    return list(_open.values())


class LocalEngine:
    """Runs remote functions in worker processes, on the event loop that it is started on.

        async with aioray.Engine(num_cpus=4) as engine:
            value = await f.remote(1)

    Takes the keywords of `aioray.init`. Inside the block, and in tasks started from it, calls use
    this engine; code outside can be given it by `with engine.activate():`, and the first engine of
    a process serves everybody who has none. Several may be open at once. Leaving the block is
    `shutdown()`.
    """

    # What engines without processes, and those in virtual time, have instead, see `aioray.local`.
    processes_class: Callable[..., WorkerProcesses] = WorkerProcesses
    mailbox_class: Callable[..., Mailbox] = Mailbox
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
            max_worker_age=self.settings.max_worker_age,
            memory_retries=self.settings.task_oom_retries,
        )
        self._mailbox = self.mailbox_class(
            self._core, self.clock, fail=self._fail_task, close=self._close, let_go=self._abandon
        )
        self.client = client = DriverClient(
            self.settings, self._core, self._mailbox, totals, self._after_fork_in_child
        )
        self.session = client.session
        self._folder = client.questions.folder
        self._processes: WorkerProcesses | None = None
        self._requests: Requests | None = None
        self._objects: ObjectTable | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._resolver: Resolver | None = None
        self._activation: Any = None

    # ------------------------------------------------------------ life

    def start(self, boot: TemplateLauncher | None = None, *, owns_thread: bool = False) -> None:
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

    def _begin(self, loop: asyncio.AbstractEventLoop, boot: TemplateLauncher | None) -> None:
        """Open what the engine needs, and put its parts together."""
        self._stopped = loop.create_future()
        self._assemble(loop, boot)
        self._guard = loop.create_task(self._watch_loop(), name="aioray-guard")
        registry.open(self.client)
        _open[self.client] = self

    def _assemble(self, loop: asyncio.AbstractEventLoop, boot: TemplateLauncher | None) -> None:
        """Make the parts that come with the start, and connect them with those there are."""
        client, feed, post = self.client, self._mailbox.feed, self._mailbox.post
        job = ids.job_id(registry.free_job_number())
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
        if self.settings.forward_logging is not None:
            identity["forward_logging"] = self.settings.forward_logging
        identity["folder"] = self._folder.path
        identity["objects"] = folder.path
        if self.settings.tracing_startup_hook:
            run_startup_hook(self.settings.tracing_startup_hook)
            identity["tracing_startup_hook"] = self.settings.tracing_startup_hook
        objects = self._objects = ObjectTable(loop, self.settings, folder, client, feed, post)
        client.begin(loop, job, objects)
        if registry.traces or self.settings.tracing_startup_hook:
            client.trace()
        self._mailbox.sentinel = objects.sentinel
        requests = self._requests = Requests(
            client,
            client.submission,
            objects,
            client.actors,
            feed,
            self._core.task_in_flight,
            self._core.submitter,
            self._core.expects,
        )
        self._processes = client.processes = self.processes_class(
            loop, feed, self.settings, identity, objects, requests, boot
        )
        self._resolver = Resolver(client, feed, objects, requests, self.settings.capacity)
        self._mailbox.orders = {
            **self._resolver.orders,
            **self._processes.orders,
            ReportCancel: client.cancels.report,
            Stopped: self._do_stopped,
        }
        if isinstance(self._processes, WorkerProcesses):
            self._processes.work_in(self._mailbox.in_pass)
            memory = self._processes.memory = MemoryWatch(
                loop,
                feed,
                post,
                self.settings,
                self._processes.handles,
                self._core.pool.is_running,
                self._core.tasks_in_flight,
            )
            self._mailbox.orders[ReportMemoryShort] = memory.tell_of_nobody
        if self.settings.history:
            self._record(objects, requests)
        self.client.submission.on_function_gone = self._function_gone

    def _record(self, objects: ObjectTable, requests: Requests) -> None:
        """Begin the history of the session."""
        assert self._processes is not None
        begin_recording(
            self.client,
            self._mailbox,
            self._core,
            self.settings,
            self._processes,
            objects,
            requests,
        )

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
        """Return the process ids of the template and of the workers, for monitoring."""
        return [] if self._processes is None else self._processes.pids()

    def activate(self) -> contextlib.AbstractContextManager[None]:
        """Let this engine serve the calls inside the `with` block."""
        return activate(self.client)

    @property
    def closed(self) -> bool:
        """Whether the engine can do nothing more: shut down, its loop closed, or a fork's copy."""
        return self._mailbox.closed

    @property
    def lost(self) -> bool:
        """Whether somebody has closed the engine's descriptors: then `forget_all` is its end."""
        return self._mailbox.lost

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that the engine was started on."""
        return self._mailbox.loop

    def between_runs(self) -> bool:
        """Tell whether this thread could run the loop, which nobody runs now."""
        return self._mailbox.between_runs()

    def loop_is_broken(self) -> None:
        """See whether the loop's own descriptors are gone too. Does not return then."""
        with contextlib.suppress(DescriptorsClosedError):
            self._mailbox.refuse_lost()

    def forget_all(self) -> None:
        """Become closed, having lost everything."""
        with contextlib.suppress(DescriptorsClosedError):
            self._mailbox.refuse_lost()
        self._mailbox.forgotten = True
        registry.close(self.client)
        _open.pop(self.client, None)

    def _after_fork_in_child(self) -> None:
        """Become closed and leave the parent's things alone: this is a forked process's copy."""
        self._mailbox.ended = self._mailbox.forgotten = True
        _open.pop(self.client, None)
        if isinstance(self._processes, WorkerProcesses):
            self._processes.after_fork_in_child()
        self.client.recorder = None
        self._folder.after_fork_in_child()
        if self._objects is not None:
            self._objects.after_fork_in_child()

    async def shutdown(self, drain: float = 0.0) -> None:
        """End everything. Idempotent.

        drain: seconds in which tasks may still finish, while new ones are refused; then running
        ones are interrupted, and a second later killed. Refs without an outcome raise
        EngineShutdownError.
        """
        if self._mailbox.ended or self.loop is None or self._stopped is None:
            self._mailbox.ended = True
            return
        if self.client.recorder is not None and not drain:
            self.client.recorder.writer.hurry()  # beside the end of the processes
        self._mailbox.feed(ShutdownRequested(drain))
        try:
            await asyncio.shield(self._stopped)
            if self._processes is not None:
                await self._processes.leave()
        except asyncio.CancelledError:
            self._mailbox.feed(ShutdownRequested(0.0))
            raise
        finally:
            self._close()
        await asyncio.wait([each for each in (self._guard, self._mailbox.backoff) if each])

    def end_here(self, drain: float = 0.0) -> None:
        """End everything in the thread that calls: for engines that have no loop."""
        raise NotImplementedError

    def abort(self) -> None:
        """End everything at once, without waiting for the loop: kill, resolve, close."""
        if not self._mailbox.ended and self.loop is not None:
            self._mailbox.feed(ShutdownRequested(0.0))
            self._close()

    async def _watch_loop(self) -> None:
        """Guard the loop: end everything when its owner cancels all that runs there."""
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
        if self._processes is not None:
            self._processes.close()
        if self._requests is not None:
            self._requests.close()
        if self.client.recorder is not None:
            self.client.recorder.end()
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
        if self.client.submission.tracer is not None:
            self.client.submission.tracer.close()

    def _abandon(self) -> None:
        """Let go of everything, and of no descriptor: its number may be somebody else's by now."""
        leak(self, self.loop)
        self._mailbox.abandon()
        self.client.cancels.end()

    def _fail_task(self, task: Task, text: str) -> None:
        """Give a task an error because the engine itself has failed."""
        if self._resolver is not None:
            self._resolver.fail(task, text)

    def _function_gone(self, key: int) -> None:
        """Have workers forget a function of which no task is left, nor can be. For any thread."""
        if not self.closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._mailbox.post(lambda: self._unload(key))

    def _unload(self, key: int) -> None:
        """Have workers forget a function, on the engine's thread."""
        if self._processes is not None:
            self._processes.unload(key)

    def _do_stopped(self, _command: Stopped) -> None:
        """Let `shutdown` go on: no worker is left."""
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)
