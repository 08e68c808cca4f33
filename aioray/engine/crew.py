"""The workers of one engine and the template that forks them: orders carried out, news brought
back.

Room: shell. The scheduler's commands for workers end here, and everything that processes do begins
here: the bell, the forks, the deaths. A death is explained before it is reported: the template's
word, the kernel's out-of-memory counter, the last lines of stderr, the Python stack.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import signal
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .. import ids, linux
from ..boot import Boot
from ..core.messages import (
    Answer,
    AnswersReceived,
    AttemptsReclaimed,
    CancelCall,
    Ended,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    SendAttempts,
    StartWorker,
    StopWorker,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from ..environments import WorkerEnvironment, needs_setup, setup_seconds
from .output import LineReader, Printer
from .reports import DeathReport, StartReport, WorkerName
from .setup import Setup
from .submission import values_of
from .template import TemplateProcess
from .worker import WorkerHandle

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from ..core.messages import Event
    from ..options import InitOptions
    from .objects import Objects
    from .recorder import Recorder
    from .requests import Requests

__all__ = ["Crew"]

NAMES_KEPT = 10_000  # workers whose name is remembered for the history of attempts
REPORT_SECONDS = 1.0  # that a death waits for the template's explanation


class Crew:
    """All processes of one engine."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event | functools.partial[None]], None],
        settings: InitOptions,
        identity: dict[str, str],
        objects: Objects,
        requests: Requests,
        boot: Boot | None,
    ) -> None:
        """Start the template. Raises OSError if that cannot be done.

        feed: takes the news. identity: job, node_id, session and namespace, for the workers.
        objects: where their results go. requests: answers what their tasks ask.
        boot: a template that was started before; None: start one.
        """
        self.loop = loop
        self.names: OrderedDict[int, WorkerName] = OrderedDict()
        self.recorder: Recorder | None = None  # is told of all workers
        self._feed = feed
        self._settings = settings
        self._identity = identity
        self._objects = objects
        self._requests = requests
        requests.wait_for_socket = self._wait_for_socket
        self._workers: dict[int, WorkerHandle] = {}
        self._setups: dict[int, Setup] = {}  # of workers that are not ready, by their id
        self._printer = Printer()
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
            StopWorker: self._stop,
        }
        self._start_template(boot)

    def pids(self) -> list[int]:
        """The process ids of the template and of the workers that are known to run."""
        found = [] if self._template is None else [self._template.pid]
        return found + [handle.pid for handle in self._workers.values() if handle.pid is not None]

    def running(self) -> dict[int, tuple[int, float]]:
        """By id of the worker, the attempt that it works on and since when."""
        found = {worker_id: handle.running() for worker_id, handle in self._workers.items()}
        return {worker_id: running for worker_id, running in found.items() if running is not None}

    def handles(self) -> list[WorkerHandle]:
        """The workers whose processes are known to run."""
        return [handle for handle in self._workers.values() if handle.pid is not None]

    def take_output(self) -> None:
        """Take in what workers have printed until now, without waiting for the loop to find it."""
        for handle in self._workers.values():
            for reader in handle.readers:
                reader.read()

    def unload(self, key: int) -> None:
        """Let all workers forget a function."""
        for handle in self._workers.values():
            if not handle.closed:
                handle.unload(key)
                self._wait_for_socket(handle)

    async def leave(self) -> None:
        """End the template, without blocking the loop. No worker may be left; `close` follows."""
        if self._template is not None:
            await self._template.leave()

    def close(self) -> None:
        """End and reap every process, print what they have left, close every descriptor."""
        if self._template is not None:
            self._template.close()
            self._template = None
        for handle in self._workers.values():
            self._let_go(handle)
        self._workers.clear()
        self._printer.close()

    def _let_go(self, handle: WorkerHandle) -> None:
        """Take in a dead worker's last output and close its descriptors."""
        setup = self._setups.pop(handle.id, None)
        if setup is not None:
            setup.end()
        for reader in handle.readers:
            reader.finish()
        if not self.loop.is_closed():
            for fd in (handle.bell, handle.answers):
                self.loop.remove_reader(fd)
            self.loop.remove_writer(handle.bundles)
            if handle.pidfd is not None:
                self.loop.remove_reader(handle.pidfd)
        handle.close()

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
            template.fork(worker_id, hex_id, fields, environment.hook, handle.child_fds)
        except OSError as error:
            if handle is not None:
                handle.close()
            self._not_started(worker_id, StartReport(f"{type(error).__name__}: {error}"))
            return
        handle.release_child_fds()
        self._workers[worker_id] = handle
        if needs_setup(fields) or self._settings.tracing_startup_hook:
            self._setups[worker_id] = Setup(setup_seconds(fields))
        self.loop.add_reader(handle.bell, self._bell_rang, handle)

    def _send(self, command: SendAttempts) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is None:
            return
        missing = handle.send(command.tasks, values_of)
        self._wait_for_socket(handle)
        if missing:
            answers = [Answer(task.seq, Ended.ARGUMENT_LOST, b"", 0.0, 0.0) for task in missing]
            self._feed(AnswersReceived(handle.id, answers))

    def _wait_for_socket(self, handle: WorkerHandle) -> None:
        if handle.is_waiting:
            self.loop.add_writer(handle.bundles, self._flush_bundles, handle)

    def _flush_bundles(self, handle: WorkerHandle) -> None:
        if handle.flush():
            self.loop.remove_writer(handle.bundles)

    def _reclaim(self, command: ReclaimAttempts) -> None:
        handle = self._workers.get(command.worker_id)
        seqs: Sequence[int] = () if handle is None else handle.reclaim()
        self._feed(AttemptsReclaimed(command.worker_id, seqs))

    def _poll(self, command: PollWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            self._read_answers(handle)

    def _interrupt(self, command: InterruptWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.interrupt(command.seq)

    def _cancel_call(self, command: CancelCall) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.cancel_call(command.seq)
            self._wait_for_socket(handle)
            self._requests.let_yield(handle, command.seq)

    def _kill(self, command: KillWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.kill()

    def _stop(self, command: StopWorker) -> None:
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            handle.stop()

    # ------------------------------------------------------------ answers

    def _bell_rang(self, handle: WorkerHandle) -> None:
        handle.silence_bell()
        self._read_answers(handle)

    def _read_answers(self, handle: WorkerHandle) -> None:
        was_in_mid_frame = handle.in_mid_frame
        items = handle.read_answers()
        if handle.in_mid_frame != was_in_mid_frame:
            if was_in_mid_frame:
                self.loop.remove_reader(handle.answers)
            else:
                self.loop.add_reader(handle.answers, self._read_answers, handle)
        if not handle.ready and items:
            self._take_hello(handle, items.pop(0))  # type: ignore[arg-type]
        # Each kind in one go, and all in their order: what an answer contains may be let go next.
        for kind, some in itertools.groupby(items, type):
            if kind is Answer:
                self._feed(AnswersReceived(handle.id, list(some)))  # type: ignore[arg-type]
            else:
                asked = functools.partial(self._requests.handle, handle, list(some))  # type: ignore[arg-type]
                self._feed(asked)

    def _take_hello(self, handle: WorkerHandle, hello: Answer) -> None:
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
        if self.recorder is not None:
            self.recorder.ready(handle.id)
        self._feed(WorkerReady(handle.id))

    # ------------------------------------------------------------ births and deaths

    def _start_template(self, boot: Boot | None = None) -> TemplateProcess:
        settings = {
            **self._identity,
            "preload": list(self._settings.preload),
            "ray_alias": getattr(sys.modules.get("ray"), "__name__", "") == "aioray",
        }
        boot = boot or Boot(self._settings.env_vars)
        self._template = TemplateProcess(
            self.loop, boot, settings, self._template_says, self._template_ended
        )
        return self._template

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

    def _start_failed(self, worker_id: int, report: StartReport) -> None:
        handle = self._workers.pop(worker_id, None)
        if handle is not None:
            self._let_go(handle)
            self._not_started(worker_id, report)

    def _not_started(self, worker_id: int, report: StartReport) -> None:
        if self.recorder is not None:
            self.recorder.start_failed(worker_id, report)
        self._feed(WorkerStartFailed(worker_id, report))

    def _died(self, handle: WorkerHandle) -> None:
        """The process is dead; its template will say how, and if not, it is said without."""
        if handle.pidfd is not None:
            self.loop.remove_reader(handle.pidfd)
        self._feed(WorkerDied(handle.id))
        self.loop.call_later(REPORT_SECONDS, self._exited, handle.id, None)

    def _exited(self, worker_id: int, status: int | None, template_death: str = "") -> None:
        """The worker is reaped: take in all that it has left behind, then report it."""
        handle = self._workers.get(worker_id)
        if handle is None:
            return
        running = handle.running()
        self._feed(WorkerDied(worker_id))  # or what it gives back would be given to it again
        self._read_answers(handle)
        self._feed(AttemptsReclaimed(worker_id, handle.reclaim()))
        del self._workers[worker_id]
        for reader in handle.readers:
            reader.finish()
        report = DeathReport(
            WorkerName(handle.hex_id, handle.pid),
            status,
            oom_killed=self._was_oom_killed(handle, status),
            stderr_tail="\n".join(handle.readers[1].tail) if handle.readers else "",
            python_stack=handle.python_stack(),
            template_death=template_death,
        )
        setup = self._setups.get(worker_id)
        if self.recorder is not None:
            self.recorder.exited(handle, report)
        self._let_go(handle)
        self._feed(functools.partial(self._requests.gone, worker_id))
        if setup is not None:
            self._feed(WorkerStartFailed(worker_id, setup.explain(report), environment_failed=True))
        else:
            self._feed(WorkerExited(worker_id, report, None if running is None else running[1]))

    def _was_oom_killed(self, handle: WorkerHandle, status: int | None) -> bool:
        """Whether the kernel has counted an out-of-memory kill since the last look."""
        if status is None or handle.kill_ordered or not os.WIFSIGNALED(status):
            return False
        if os.WTERMSIG(status) != signal.SIGKILL:
            return False
        before, self._oom_kills = self._oom_kills, linux.oom_kills()
        return self._oom_kills > before

    def _template_ended(self, template: TemplateProcess) -> None:
        """The template is dead, and its workers with it.

        Its guardian has ended all that they have started. If that was killed too, their process
        groups are what can still be found.
        """
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
