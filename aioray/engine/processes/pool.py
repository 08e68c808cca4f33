"""The workers of one engine and the template that forks them: orders carried out, news brought
back.

Room: engine. The scheduler's commands for workers end here, and forks and deaths begin here. A
death is explained before it is reported: the template's word, the kernel's out-of-memory counter,
the last lines of stderr, the Python stack.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import signal
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ...client.environments import WorkerEnvironment, needs_setup, setup_seconds
from ...core.commands import (
    CancelCall,
    DiscardWorker,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    SendAttempts,
    StartWorker,
    StopWorker,
)
from ...core.events import (
    AnswersReceived,
    AttemptsReclaimed,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from ...core.outcomes import Answer, Ended
from ...options.task import shown_gpus
from ...shared import ids, linux
from ..tasks.submission import values_of
from ..telemetry.reports import DeathReport, StartReport, WorkerName
from .boot import TemplateLauncher
from .departures import Departures
from .descriptors import DescriptorsClosedError, leak
from .gpus import gpu_names
from .handle import WorkerHandle
from .listening import Listener, wrote_garbage
from .output import LineReader, Printer
from .sending import REPORT_SECONDS, SCARCE, Sender
from .setup import Setup
from .template import TemplateProcess
from .watching import Watcher

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from ...core.events import Event
    from ...options.task import InitOptions
    from ..objects.objects import ObjectTable
    from ..requests.dispatcher import Requests
    from ..telemetry.recorder import Recorder
    from .inbound import News
    from .watch import MemoryWatch

__all__ = ["WorkerProcesses"]

NAMES_KEPT = 10_000  # workers whose name is remembered for the history of attempts


class WorkerProcesses:
    """All processes of one engine."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event | functools.partial[None]], None],
        settings: InitOptions,
        identity: dict[str, str],
        objects: ObjectTable,
        requests: Requests,
        boot: TemplateLauncher | None,
    ) -> None:
        """Start the template. Raises OSError if that cannot be done.

        feed: takes the news. identity: job, node_id, session and namespace, for the workers.
        objects: where their results go. requests: answers what their tasks ask.
        boot: a template that was started before; None: start one.
        """
        self.loop = loop
        self.names: OrderedDict[int, WorkerName] = OrderedDict()
        self.recorder: Recorder | None = None  # is told of all workers
        self.memory: MemoryWatch | None = None  # likewise of what is sent to them
        self._feed = feed
        self._settings = settings
        self._identity = identity
        self._objects = objects
        self._requests = requests
        self._workers: dict[int, WorkerHandle] = {}
        self._sender = Sender(loop, feed, requests, self._discard)
        self._listener = Listener(
            loop, feed, requests, self._workers, self._take_hello, self._discard
        )
        self._send_rest = requests.wait_for_socket = self._sender.send_rest
        self._setups: dict[int, Setup] = {}  # of workers that are not ready, by their id
        self.departures = Departures(self._workers)
        self._printer = Printer(prefixes=settings.logging_config is None)
        self._oom_kills = linux.oom_kills()
        self._template: TemplateProcess | None = None
        self.orders: dict[type[Any], Callable[[Any], None]] = {
            StartWorker: self._start,
            SendAttempts: self._send,
            ReclaimAttempts: self._reclaim,
            PollWorker: self._poll,
            InterruptWorker: self._interrupt,
            CancelCall: self._cancel_call,
            KillWorker: self._kill,
            DiscardWorker: self._answers_too_much,
            StopWorker: self._stop,
            **Watcher(loop, feed, self._workers, bytes.fromhex(identity["job"])).orders,
        }
        self._start_template(boot)

    def work_in(self, in_pass: Callable[..., None]) -> None:
        """Let whoever waits for an answer go on as soon as it is there, see `Mailbox.in_pass`."""
        self._listener.in_pass = in_pass

    def silence(self) -> None:
        """Print no more of what workers print."""
        self._printer.silent = True

    def pids(self) -> list[int]:
        """Return the process ids of the template and of the workers that are known to run."""
        found = [] if self._template is None else [self._template.pid]
        return found + [handle.pid for handle in self._workers.values() if handle.pid is not None]

    def running(self) -> dict[int, tuple[int, float]]:
        """Return, by id of the worker, the attempt that it works on and since when."""
        found = {worker_id: handle.page.running() for worker_id, handle in self._workers.items()}
        return {worker_id: running for worker_id, running in found.items() if running is not None}

    def handles(self) -> list[WorkerHandle]:
        """Return the workers whose processes are known to run."""
        return [handle for handle in tuple(self._workers.values()) if handle.pid is not None]

    def take_output(self) -> None:
        """Take in what workers have printed until now, without waiting for the loop to find it."""
        for handle in self._workers.values():
            for reader in handle.readers:
                reader.read()

    def flush_output(self, done: Callable[[], None]) -> None:
        """Have everything printed that workers have printed until now; then call `done`."""
        self.take_output()
        self._printer.flush(done)

    def unload(self, key: int) -> None:
        """Let all workers forget a function."""
        for handle in self._workers.values():
            if not handle.closed:
                handle.unload(key)
                self._send_rest(handle)

    async def leave(self) -> None:
        """End the template, without blocking the loop. No worker may be left; `close` follows."""
        if self._template is not None:
            await self._template.leave()

    def after_fork_in_child(self) -> None:
        """Leave the template alone, in a copy of this in a forked process."""
        if self._template is not None:
            self._template.after_fork_in_child()

    def close(self) -> None:
        """End and reap every process, print what they have left, close every descriptor."""
        if self.memory is not None:
            self.memory.close()
        self._listener.close()
        if self._template is not None:
            self._template.close()
            self._template = None
        for handle in self._workers.values():
            self._let_go(handle)
        self._workers.clear()
        self._printer.close()
        self.departures.tell_all()

    def _let_go(self, handle: WorkerHandle) -> None:
        """Take in a dead worker's last output and close its descriptors."""
        self._refuse_lost(handle)
        if self.memory is not None:
            self.memory.gone(handle)
        setup = self._setups.pop(handle.id, None)
        if setup is not None:
            setup.end()
        for reader in handle.readers:
            reader.finish()
        self._sender.stop(handle)
        self._listener.remove(handle)
        if handle.pidfd is not None and not self.loop.is_closed():
            self.loop.remove_reader(handle.pidfd)
        handle.close()

    def _refuse_lost(self, holder: object) -> None:
        """Raise if somebody has closed our descriptors, before those of `holder` are closed."""
        if not self._objects.sentinel.is_intact():
            leak(holder)
            raise DescriptorsClosedError

    # ------------------------------------------------------------ orders

    def _start(self, command: StartWorker) -> None:
        worker_id = command.worker_id
        digest = hashlib.sha256(f"{self._identity['node_id']}/{worker_id}".encode()).hexdigest()
        hex_id = digest[: 2 * ids.NODE_ID_SIZE]
        handle: WorkerHandle | None = None
        if self.recorder is not None:
            self.recorder.launched(worker_id, hex_id)
        try:
            template = self._template or self._start_template()
            if template.broken is not None:
                self._not_started(worker_id, StartReport(template.broken, template.tail()))
                return
            handle = WorkerHandle(worker_id, hex_id, self._objects.store)
            environment = command.environment
            assert isinstance(environment, WorkerEnvironment)
            fields = environment.fields()
            own = shown_gpus(fields.get("env_vars", {}))
            if own is not None:
                handle.gpu_names = functools.partial(gpu_names, own, self._settings.devices)
            self._listener.add(handle)
            template.fork(worker_id, hex_id, fields, environment.hook, handle.child_fds)
        except OSError as error:
            self._refuse_lost(handle)
            if handle is not None:
                self._let_go(handle)
            report = StartReport(f"{type(error).__name__}: {error}")
            self._not_started(worker_id, report, scarce=error.errno in SCARCE)
            return
        self._refuse_lost(handle)
        handle.release_child_fds()
        self._workers[worker_id] = handle
        if needs_setup(fields) or self._settings.tracing_startup_hook:
            self._setups[worker_id] = Setup(setup_seconds(fields))

    def _send(self, command: SendAttempts) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is None:
            return
        if self.memory is not None:
            self.memory.sent(handle, command.tasks)
        missing = handle.send(command.tasks, values_of)
        self._listener.attend(handle)
        self._listener.look_soon()
        self._send_rest(handle)
        if missing:
            answers = [Answer(task.seq, Ended.ARGUMENT_LOST, b"", 0.0, 0.0) for task in missing]
            self._feed(AnswersReceived(handle.id, answers))

    def _discard(self, handle: WorkerHandle, reason: str) -> None:
        """Kill a worker that cannot be worked with. Its exit tells why."""
        if handle.discarded or handle.closed:
            return
        handle.discarded = reason
        self._sender.stop(handle)
        self._listener.remove(handle)
        self._feed(WorkerDied(handle.id))  # or it would be given more
        handle.kill()

    def _answers_too_much(self, command: DiscardWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            why = "an answer for an attempt that it does not have"
            handle.inbound.deaf = True
            self._discard(handle, wrote_garbage(f"the answers pipe: {why}"))

    def _reclaim(self, command: ReclaimAttempts) -> None:
        handle = self._workers.get(command.worker_id)
        seqs: Sequence[int] = () if handle is None else handle.reclaim()
        self._feed(AttemptsReclaimed(command.worker_id, seqs))
        if handle is not None and handle.fault:
            self._discard(handle, wrote_garbage(handle.fault))

    def _poll(self, command: PollWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            self._listener.read(handle)

    def _interrupt(self, command: InterruptWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.interrupt(command.seq)

    def _cancel_call(self, command: CancelCall) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.cancel_call(command.seq)
            self._send_rest(handle)
            self._requests.let_yield(handle, command.seq)

    def _kill(self, command: KillWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.killed_for = command.reason
            if command.excess is not None and self.memory is not None:
                self.memory.condemned(handle, command.excess)
            handle.kill()

    def _stop(self, command: StopWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            self._sender.stop(handle)
            handle.stop()
            self._send_rest(handle)

    # ------------------------------------------------------------ births and deaths

    def _start_template(self, boot: TemplateLauncher | None = None) -> TemplateProcess:
        settings = {**self._identity, "max_worker_rss": self._settings.max_worker_rss}
        boot = boot or TemplateLauncher(self._settings.env_vars, self._settings.preload)
        try:
            self._template = TemplateProcess(
                self.loop, boot, settings, self._template_says, self._template_ended, self._lost
            )
        except BaseException:
            boot.abandon()
            raise
        return self._template

    def _lost(self) -> None:
        def tell() -> None:
            raise DescriptorsClosedError

        self._feed(functools.partial(tell))

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
            report = StartReport(message["reason"], template.tail())
            scarce = message["errno"] in SCARCE
            self._start_failed(message["failed"], report, scarce=scarce)
        elif "broken" in message:
            for handle in tuple(self._workers.values()):
                self._start_failed(handle.id, StartReport(message["broken"], template.tail()))

    def _forked(self, worker_id: int, pid: int, pidfd: int | None) -> None:
        handle = self._workers.get(worker_id)
        if handle is None:
            if pidfd is not None:
                os.close(pidfd)
            return
        if pidfd is None:  # it ends, as its channels do
            text = f"{os.strerror(errno.EMFILE)}: its pidfd could not be received"
            self._start_failed(worker_id, StartReport(text), scarce=True)
            return
        handle.pid, handle.pidfd = pid, pidfd
        self.names[worker_id] = WorkerName(handle.hex_id, pid)
        if len(self.names) > NAMES_KEPT:
            self.names.popitem(last=False)
        self.loop.add_reader(pidfd, self._died, handle)
        keep: Callable[[int, int, bytes], None] | None = None
        if self.recorder is not None:
            self.recorder.forked(worker_id, pid)
            keep = functools.partial(self.recorder.output, worker_id)
        printer = self._printer if self._settings.log_to_driver else None
        handle.readers = [
            LineReader(self.loop, handle.stdout, pid, printer, keep, to_stderr=False),
            LineReader(self.loop, handle.stderr, pid, printer, keep, to_stderr=True),
        ]
        if handle.kill_ordered:
            handle.kill()
        if worker_id in self._setups:
            self._setups[worker_id].begin(self.loop, handle)
        if handle.ready:
            self._feed(WorkerReady(worker_id))

    def _take_hello(self, handle: WorkerHandle, hello: News) -> None:
        if not isinstance(hello, Answer) or hello.seq:
            self._discard(handle, wrote_garbage("the answers pipe: no greeting"))
            return
        setup = self._setups.get(handle.id)
        if setup is not None:
            if hello.ended is not Ended.RETURNED:
                setup.error = hello.payload
            if setup.failed:
                handle.kill()  # `_exited` will report it
                return
            setup.end()
            del self._setups[handle.id]
        handle.ready = True
        handle.inbound.expects = functools.partial(self._requests.expects, handle.id)
        if self.recorder is not None:
            self.recorder.ready(handle.id)
        if handle.pid is not None:  # else the template's word is still on its way
            self._feed(WorkerReady(handle.id))

    def _start_failed(self, worker_id: int, report: StartReport, *, scarce: bool = False) -> None:
        handle = self._workers.pop(worker_id, None)
        if handle is not None:
            self._let_go(handle)
            self._not_started(worker_id, report, scarce=scarce)

    def _not_started(self, worker_id: int, report: StartReport, *, scarce: bool = False) -> None:
        if self.recorder is not None:
            self.recorder.start_failed(worker_id, report)
        self._feed(WorkerStartFailed(worker_id, report, scarce=scarce))

    def _died(self, handle: WorkerHandle) -> None:
        """Note a death; its template will say how, and if not, it is reported without."""
        if handle.pidfd is not None:
            self.loop.remove_reader(handle.pidfd)
        if handle.watch is not None:
            handle.watch.dies(handle)
        self._feed(WorkerDied(handle.id))
        self.loop.call_later(REPORT_SECONDS, self._unexplained, handle.id)

    def _unexplained(self, worker_id: int) -> None:
        """Report a death without its cause, unless the template has told it meanwhile.

        The loop may have stood still for so long, and some loops look at their timers first.
        """
        if worker_id in self._workers and self._template is not None:
            self._template.take_reports()
        self._exited(worker_id, None)

    def _exited(self, worker_id: int, status: int | None, template_death: str = "") -> None:
        """Take in all that a reaped worker has left behind, then report its exit."""
        handle = self._workers.get(worker_id)
        if handle is None:
            return
        running, begun = handle.page.running(), handle.page.begun()
        if handle.watch is not None:
            handle.watch.dies(handle)
        self._feed(WorkerDied(worker_id))  # or what it gives back would be given to it again
        self._listener.read(handle)
        if running is not None and (news := handle.page.last_news()):
            self._feed(functools.partial(self._requests.last_news, handle, running[0], news))
        self._feed(AttemptsReclaimed(worker_id, handle.reclaim()))
        del self._workers[worker_id]
        for reader in handle.readers:
            reader.finish()
        report = DeathReport(
            WorkerName(handle.hex_id, handle.pid),
            status,
            oom_killed=self._was_oom_killed(handle, status),
            stderr_tail="\n".join(handle.readers[1].tail) if handle.readers else "",
            python_stack=handle.page.fatal_stack(),
            template_death=template_death,
            discarded=handle.discarded or handle.killed_for,
            excess=handle.excess,
        )
        setup = self._setups.get(worker_id)
        if self.recorder is not None:
            self.recorder.exited(handle, report)
        self._let_go(handle)
        self._feed(functools.partial(self._requests.gone, worker_id))
        if setup is not None:
            self._feed(WorkerStartFailed(worker_id, setup.explain(report), environment_failed=True))
        else:
            started = None if running is None else running[1]
            self._feed(WorkerExited(worker_id, report, started, begun))
        self.departures.tell(worker_id)

    def _was_oom_killed(self, handle: WorkerHandle, status: int | None) -> bool:
        """Return whether the kernel has counted an out-of-memory kill since the last look."""
        if status is None or handle.kill_ordered or not os.WIFSIGNALED(status):
            return False
        if os.WTERMSIG(status) != signal.SIGKILL:
            return False
        before, self._oom_kills = self._oom_kills, linux.oom_kills()
        return self._oom_kills > before

    def _template_ended(self, template: TemplateProcess) -> None:
        """Report the deaths of all workers, which have died with their template.

        Its guardian has ended all that they have started. If that was killed too, their process
        groups are what can still be found.
        """
        if template is not self._template:
            return
        self._refuse_lost(template)
        self._template = None
        death = template.death()
        template.close()
        for handle in tuple(self._workers.values()):
            handle.kill_group()
            if handle.ready:
                self._exited(handle.id, None, death)
            else:
                self._start_failed(handle.id, StartReport(death, template.tail()))
