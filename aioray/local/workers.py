"""The workers of an engine that has no processes: orders carried out, news brought back.

Room: local. Plays the part of `aioray.engine.processes.pool.WorkerProcesses`; those who derive from
it say when an attempt runs, and in what.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

from ..client.current import ExecutionContext, use_scopes
from ..client.environments import WorkerEnvironment
from ..core.commands import (
    CancelCall,
    DiscardWorker,
    InterruptWorker,
    KillWorker,
    LocateAttempt,
    LookAtAttempt,
    PollWorker,
    ReclaimAttempts,
    SendAttempts,
    StartWorker,
    StopWorker,
)
from ..core.events import (
    AnswersReceived,
    AttemptLocated,
    AttemptSeen,
    AttemptsReclaimed,
    WorkerExited,
    WorkerReady,
)
from ..core.outcomes import Answer, Ended
from ..engine.processes.departures import Departures
from ..engine.processes.inbound import Yielded
from ..engine.processes.watching import asks_for_retry
from ..engine.telemetry.reports import DeathReport, Whereabouts, WorkerName
from ..shared import ids
from ..worker.answers import hidden_files
from .targets import Targets
from .worker import KILLED, InProcessWorker, running_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    from ..core.events import Event
    from ..core.model import Task
    from ..engine.client import DriverClient
    from ..engine.objects.objects import ObjectTable
    from ..engine.processes.inbound import Item
    from ..engine.requests.dispatcher import Requests
    from ..engine.telemetry.recorder import Recorder
    from ..options.task import InitOptions
    from .worker import InProcessCall

__all__ = ["InProcessWorkers"]


class InProcessWorkers:
    """All workers of one engine."""

    unserializable = logging.WARNING  # how loud it is said that no process could run something

    def __init__(
        self,
        loop: Any,
        feed: Callable[[Event | functools.partial[None]], None],
        settings: InitOptions,
        identity: Mapping[str, Any],
        objects: ObjectTable,
        requests: Requests,
        _boot: Any = None,
    ) -> None:
        """Begin with no workers. See `WorkerProcesses`."""
        use_scopes()
        self.loop = loop
        self.feed = feed
        self.objects = objects
        self.requests = requests
        self.client: DriverClient  # by whoever puts the engine together
        self.clock: Callable[[], float]  # the same
        self.recorder: Recorder | None = None
        self.names: dict[int, WorkerName] = {}
        self.workers: dict[int, InProcessWorker] = {}
        self.departures = Departures(self.workers)
        self.targets = Targets(self.unserializable)
        self.partial: set[int] = set()  # seqs of attempts that have told of values before the end
        self.closed = False
        self.context = here = ExecutionContext()
        here.job = bytes.fromhex(identity["job"])
        for name in ("node_id", "namespace", "session", "folder"):
            setattr(here, name, identity[name])
        self.orders: dict[type[Any], Callable[[Any], None]] = {
            StartWorker: self._start,
            SendAttempts: self._send,
            ReclaimAttempts: self._reclaim,
            PollWorker: lambda _command: None,
            LookAtAttempt: self._look_at_attempt,
            LocateAttempt: self._locate,
            InterruptWorker: self._interrupt,
            CancelCall: self._cancel_call,
            KillWorker: self._kill,
            DiscardWorker: self._kill,
            StopWorker: self._stop,
        }

    def attach(self, client: DriverClient, clock: Callable[[], float]) -> None:
        """Let calls that tasks make be theirs: of this client, by this clock."""
        self.client, self.clock = client, clock
        submission = client.submission
        submission.serialize_function = self.targets.export
        create = submission.create_task

        def create_task(*args: Any, **settings: Any) -> Task:
            call = running_call.get()
            if call is not None and call.worker.workers is self:
                settings.setdefault("parent", call.task)
            return create(*args, **settings)

        changed: Any = submission
        changed.create_task = create_task

    # ------------------------------------------------------------ what an engine asks

    def silence(self) -> None:
        """Do nothing: what is printed goes straight out."""

    def pids(self) -> list[int]:
        """List no processes."""
        return []

    def running(self) -> dict[int, tuple[int, float]]:
        """Return, by id of the worker, an attempt that it works on and since when."""
        return {
            worker.id: (seq, call.began)
            for worker in tuple(self.workers.values())
            for seq, call in tuple(worker.calls.items())[:1]
        }

    def handles(self) -> list[Any]:
        """List no handles: no worker is a client of its own."""
        return []

    def take_output(self) -> None:
        """Do nothing, see `silence`."""

    def flush_output(self, done: Callable[[], None]) -> None:
        """Call back: everything is printed."""
        done()

    def unload(self, key: int) -> None:
        """Let all workers forget a function."""
        for worker in tuple(self.workers.values()):
            worker.execution.unload(key)

    async def leave(self) -> None:
        """Do nothing: there is no template."""

    def after_fork_in_child(self) -> None:
        """Do nothing: there is no process."""

    def close(self) -> None:
        """End all workers."""
        self.closed = True
        for worker in tuple(self.workers.values()):
            self.abandon(worker)
        self.workers.clear()
        self.departures.tell_all()

    # ------------------------------------------------------------ orders

    def _start(self, command: StartWorker) -> None:
        worker_id = command.worker_id
        node = self.context.node_id
        hex_id = hashlib.sha256(f"{node}/{worker_id}".encode()).hexdigest()[: 2 * ids.NODE_ID_SIZE]
        environment = command.environment
        assert isinstance(environment, WorkerEnvironment)
        worker = InProcessWorker(self, worker_id, hex_id, environment.fields())
        worker.hook = environment.hook
        self.workers[worker_id] = worker
        self.names[worker_id] = WorkerName(hex_id, os.getpid())
        if self.recorder is not None:
            self.recorder.launched(worker_id, hex_id)
            self.recorder.forked(worker_id, os.getpid())
            self.recorder.ready(worker_id)
        self.feed(WorkerReady(worker_id))

    def _send(self, command: SendAttempts) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.queue.extend(command.tasks)
            self.look_at(worker)

    def _reclaim(self, command: ReclaimAttempts) -> None:
        worker = self.workers.get(command.worker_id)
        seqs: list[int] = []
        if worker is not None:
            seqs = [task.seq for task in worker.queue]
            worker.queue.clear()
        self.feed(AttemptsReclaimed(command.worker_id, seqs))

    def _look_at_attempt(self, command: LookAtAttempt) -> None:
        worker = self.workers.get(command.worker_id)
        call = None if worker is None else worker.calls.get(command.seq)
        if call is not None:
            self.feed(AttemptSeen(command.worker_id, command.seq, call.began, call.beat_at))
        elif worker is not None:
            self.feed(AttemptSeen(command.worker_id, command.seq, None))

    def _locate(self, command: LocateAttempt) -> None:
        worker, task = self.workers.get(command.worker_id), command.task
        call = None if worker is None else worker.calls.get(task.seq)
        if worker is None:
            return
        stack = "" if call is None else _described(self.frames(call))
        report = Whereabouts(self.names[worker.id], task.attempt, stack)
        retries = asks_for_retry(self.context.job, task, command.overrun, report)
        self.feed(AttemptLocated(worker.id, task.seq, report, retries))

    def _interrupt(self, command: InterruptWorker) -> None:
        worker = self.workers.get(command.worker_id)
        call = None if worker is None else worker.calls.get(command.seq)
        if worker is not None and call is not None and not worker.hangs:
            worker.interrupts.wanted.add(command.seq)
            self.reach(call)

    def _cancel_call(self, command: CancelCall) -> None:
        worker = self.workers.get(command.worker_id)
        call = None if worker is None else worker.calls.get(command.seq)
        if worker is None:
            return
        if call is not None:
            worker.channel.cancelled.add(command.seq)
            self.cancel(call)
            return
        for task in tuple(worker.queue):
            if task.seq == command.seq:  # it has failed before it could begin
                worker.queue.remove(task)
                self.answered(worker, Answer(command.seq, Ended.NOT_STARTED, b"", 0.0, 0.0))

    def _kill(self, command: KillWorker | DiscardWorker) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.kill_ordered = True
            if isinstance(command, KillWorker):
                worker.killed_for = command.reason
            self.bury(worker, KILLED)

    def _stop(self, command: StopWorker) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.stopping = True
            worker.claims_writer = None
            self.look_at(worker)

    # ------------------------------------------------------------ news

    def answered(self, worker: InProcessWorker, answer: Answer) -> None:
        """Take the answer of an attempt."""
        self.feed(AnswersReceived(worker.id, [answer]))

    def said(self, worker: InProcessWorker, item: Item) -> None:
        """Take what a worker says beside its answers."""
        if isinstance(item, Yielded):
            self.partial.add(item.seq)
        handle: Any = worker
        self.feed(functools.partial(self.requests.handle, handle, [item]))

    def outlived(self, call: InProcessCall) -> bool:
        """Take a call that has ended from its worker; tell whether that lives, or bury it."""
        worker = call.worker
        worker.end_call(call)
        if worker.gone:
            return False
        if worker.fate is None:
            return True
        worker.calls[call.attempt.seq] = call  # it counts as what the worker died of
        self.bury(worker, worker.fate)
        return False

    def bury(self, worker: InProcessWorker, status: int) -> None:
        """Tell of the death of a worker; what it runs unwinds when it comes to aioray."""
        if self.workers.pop(worker.id, None) is None:
            return
        self.abandon(worker)
        queued = [task.seq for task in worker.queue]
        worker.queue.clear()
        self.feed(AttemptsReclaimed(worker.id, queued))
        report = DeathReport(self.names[worker.id], status, discarded=worker.killed_for)
        if self.recorder is not None:
            handle: Any = worker
            self.recorder.exited(handle, report)
        self.feed(functools.partial(self.requests.gone, worker.id))
        began = min((call.began for call in worker.calls.values()), default=None)
        self.feed(WorkerExited(worker.id, report, began))
        self.departures.tell(worker.id)

    def abandon(self, worker: InProcessWorker) -> None:
        """Let nothing that a worker still does count, and have its calls unwind."""
        worker.gone = worker.closed = True
        worker.instance = worker.context = None
        worker.execution.functions.clear()
        for call in tuple(worker.calls.values()):
            self.reach(call)

    # ------------------------------------------------------------ what others say

    def frames(self, call: InProcessCall) -> list[FrameType]:
        """Return the frames of a call, innermost first, as far as they can be seen."""
        return []

    def look_at(self, worker: InProcessWorker) -> None:
        """Have a worker begin what it can begin, or end if it is to."""
        raise NotImplementedError

    def reach(self, call: InProcessCall) -> None:
        """Wake a call that waits, so that it finds what is wanted of it. See `check`."""
        raise NotImplementedError

    def cancel(self, call: InProcessCall) -> None:
        """Cancel a call of an actor that has noted it: wake it, if it waits on a loop."""
        raise NotImplementedError

    def times(self, call: InProcessCall, started: float, duration: float) -> tuple[float, float]:
        """Return when an attempt began and how long it took, by the engine's clock.

        started, duration: by the machine's.
        """
        raise NotImplementedError

    def hang(self, call: InProcessCall) -> Any:
        """Have a call wait for ever, or return a coroutine that does."""
        raise NotImplementedError

    def wait_for_room(self, call: InProcessCall, count: int) -> None:
        """Block until a generator that has yielded so many items may yield another."""

    def when_room(self, call: InProcessCall, count: int, go_on: Callable[[], None]) -> None:
        """Call back when such a generator may go on."""
        go_on()


def _described(frames: Sequence[FrameType]) -> str:
    """Describe the frames of user code, the innermost first, as the stack of a process is told."""
    hidden = hidden_files()
    lines = []
    for frame in frames:
        code = frame.f_code
        if code.co_filename not in hidden and not code.co_filename.endswith("/threading.py"):
            lines.append(f'File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}')
    return "\n".join(lines)
