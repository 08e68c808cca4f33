"""A worker that is no process: what executes attempts, connected to the engine by plain calls.

Room: local. An `InProcessWorker` is to `aioray.worker.execution` what a `WorkerLoop` is: it has a
channel, objects and answers, and they go straight to the engine. It does not decide where and when
its attempts run, which is the matter of those who have it: `inline`, and `aioray.testing.virtual`.

Nobody can interrupt or kill code in the same thread. So a worker notes what is wanted of a call,
and `check`, wherever the call comes to aioray, raises it there: KeyboardInterrupt, or `WorkerGone`,
which unwinds a call whose worker is no more; what it answers then counts no longer.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from contextvars import Context, ContextVar
from types import CoroutineType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..client.current import ExecutionContext, execution_context, scope
from ..client.protocol import registry
from ..core.outcomes import Answer, Ended
from ..engine.processes.inbound import Saved
from ..engine.tasks.submission import values_of
from ..shared.actor_exit import SHUTDOWN
from ..shared.wire import ActorCallInfo, Attempt, Status
from ..worker.actor.instance import made_by
from ..worker.objects import AttemptHandles
from .connection import DirectChannel, DirectExecution, DirectObjects, NoSignals

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.current import ThisActor
    from ..core.model import Task
    from ..engine.processes.inbound import Yielded
    from ..worker.actor.instance import SavedState
    from .workers import InProcessWorkers

__all__ = ["InProcessCall", "InProcessWorker", "WorkerGone", "running_call"]

logger = logging.getLogger("aioray")

KILLED = 9  # as from waitpid: of SIGKILL
_ENDED = tuple(Ended)[: len(Status)]  # in the order of wire.Status
_MAKES = ActorCallInfo._fields.index("creation")


class WorkerGone(BaseException):
    """Unwinds a call whose worker has been killed, or has crashed."""


class InProcessCall:
    """One attempt that runs, or is about to."""

    __slots__ = (
        "attempt",
        "beat_at",
        "began",
        "context",
        "inside",
        "interrupted",
        "runner",
        "stray",
        "task",
        "worker",
    )

    def __init__(self, worker: InProcessWorker, task: Task, attempt: Attempt) -> None:
        self.worker = worker
        self.task = task
        self.attempt = attempt
        self.began = worker.workers.clock()
        self.beat_at = self.began  # when it said last that it gets on; inf: it waits
        self.inside = False  # user code, where it can be cancelled, see `execution.OnLoop`
        self.stray = False  # has ended by a KeyboardInterrupt that nobody wanted
        self.interrupted = False  # has got the KeyboardInterrupt that was wanted
        self.runner: Any = None  # what runs it, as far as somebody has to reach that
        self.context = here = ExecutionContext()
        for name in ("job", "node_id", "namespace", "session", "folder"):
            setattr(here, name, getattr(worker.workers.context, name))
        here.worker_id = worker.hex_id
        here.env, here.hook = worker.env, worker.hook
        here.actor = worker.actor
        here.beat = self.beat
        here.attempt = attempt

    def beat(self, at: float | None = None) -> None:
        """Note that it gets on. at: None: now; inf: it waits, and need not."""
        self.beat_at = math.inf if at == math.inf else self.worker.workers.clock()

    def check(self) -> None:
        """Raise what somebody wants raised in this call, now that it has come to aioray."""
        worker = self.worker
        if worker.fate is not None or worker.gone:
            raise WorkerGone
        if self.attempt.seq in worker.interrupts.wanted and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt

    @property
    def makes(self) -> bool:
        """Whether it makes an actor."""
        return self.attempt.role is not None and self.attempt.role[_MAKES] is not None


running_call: ContextVar[InProcessCall | None] = ContextVar("aioray_running_call", default=None)
"""The call to which the code that asks belongs; None: it is the driver's."""


class InProcessWorker:
    """One worker, from its start to its end."""

    def __init__(
        self, workers: InProcessWorkers, worker_id: int, hex_id: str, env: dict[str, Any]
    ) -> None:
        self.workers = workers
        self.id = worker_id
        self.hex_id = hex_id
        self.env = env
        self.hook = b""
        self.queue: deque[Task] = deque()  # sent and not begun
        self.calls: dict[int, InProcessCall] = {}  # by seq: those that run
        self.fate: int | None = None  # how it ends, as from waitpid, as soon as a call has unwound
        self.gone = False  # it has ended; nothing that it says counts
        self.stopping = False  # it ends when nothing is left to do
        self.hangs = False  # it answers no more, whatever its calls do
        # What the recorder wants to know of a handle.
        self.kill_ordered = False
        self.killed_for = ""
        self.claims_writer: object | None = self
        self.pid = os.getpid()
        self.closed = False
        # What `Execution` wants to know of its server.
        self.actor: ThisActor | None = None
        self.instance: Any = None
        self.context: Context | None = None  # of an actor, with what its `__init__` has set
        self.host = None
        self.saves_every = 0
        self.unsaved = 0
        self.resources: Any = None
        self.devices = SimpleNamespace(names=(), show=self._show_devices)
        self.interrupts = NoSignals()
        self.channel = DirectChannel(self)
        self.objects = DirectObjects(workers)
        self.execution = DirectExecution(self)

    # ------------------------------------------------------------ what `Execution` asks of it

    def set_threads(self, resources: Any) -> None:
        """Note what the attempt holds; the variables of the process are the driver's."""
        self.resources = resources

    def _show_devices(self, names: tuple[str, ...]) -> None:
        self.devices.names = names

    def clear(self) -> None:
        """Do nothing: there is no page."""

    # ------------------------------------------------------------ attempts

    def prepare(self, task: Task) -> InProcessCall | None:
        """Make an attempt ready to run; None: a value of it is lost, which was answered."""
        arguments = values_of(task.arguments) if task.arguments else []
        assert task.worker is not None
        given: list[Any] | None = None
        if arguments is not None:
            try:
                given = [_opened(value) for value in (task.payload, *arguments)]
            except Exception:  # noqa: BLE001 - it went to disk and is gone, or all is closed
                given = None
        if given is None:
            lost = Answer(task.seq, Ended.ARGUMENT_LOST, b"", 0.0, 0.0)
            self.workers.answered(self, lost)
            return None
        head = (task.seq, task.function.key, task.task_key, task.attempt, task.worker.devices)
        attempt = Attempt._make((*head, *task.spec, given[0], given[1:]))
        key, code = task.function.key, task.function.code
        if code is not None and key not in self.channel.known:
            self.channel.code[key] = code
        call = InProcessCall(self, task, attempt)
        if call.makes:
            token = scope.set(call.context)
            try:
                call.context.actor = self.actor = made_by(attempt, self.channel.has_cancelled)
            finally:
                scope.reset(token)
        self.calls[task.seq] = call
        return call

    def context_for(self, call: InProcessCall) -> Context:
        """Make the context in which a call runs: an actor's, if it is one, and no driver's."""
        context = Context() if self.context is None else self.context.copy()
        if call.makes:
            self.context = context
        context.run(self._enter, call)
        return context

    def _enter(self, call: InProcessCall) -> None:
        registry.active.set(self.workers.client)
        scope.set(call.context)
        running_call.set(call)

    def execute(self, call: InProcessCall) -> None:
        """Run an attempt in this thread, in its context, and answer."""
        use = AttemptHandles()
        attempt = call.attempt
        try:
            found = self._find(call, use)
            if found is not None:
                self.execution.call(attempt, *found, use)
        except SystemExit as error:
            self.exit(error)
        except WorkerGone:
            pass

    async def execute_on_loop(self, call: InProcessCall) -> None:
        """Do the same on an event loop."""
        use = AttemptHandles()
        on_loop: Any = call
        try:
            found = self._find(call, use)
            if found is not None:
                await self.execution.call_on_loop(on_loop, *found, use)
        except SystemExit as error:
            self.exit(error)
        except WorkerGone:
            pass

    def _find(
        self, call: InProcessCall, use: AttemptHandles
    ) -> tuple[Callable[..., Any], list[Any]] | None:
        attempt = call.attempt
        started = time.monotonic()
        found = self.execution.prepare(attempt, use, started)
        if found is None:
            return None
        execution_context.function = found[0]
        if attempt.seq in self.interrupts.wanted or attempt.seq in self.channel.cancelled:
            self.answer(attempt.seq, Status.NOT_STARTED, b"", started, 0.0)
            return None
        return found

    def end_call(self, call: InProcessCall) -> None:
        """Forget a call that has ended, and let nothing of it live on."""
        seq = call.attempt.seq
        self.calls.pop(seq, None)
        self.interrupts.wanted.discard(seq)
        self.channel.cancelled.discard(seq)
        call.context.beat = None  # it leads back to the call

    def exit(self, error: SystemExit) -> None:
        """Note that a call has ended the process, as Python would."""
        code = error.code
        if code is None:
            code = 0
        elif not isinstance(code, int):
            code = 1
        if self.fate is None:
            self.fate = (code & 0xFF) << 8

    def crash(self) -> None:
        """End the worker from inside a call, as SIGKILL would. Raises WorkerGone."""
        self.fate = KILLED
        raise WorkerGone

    def hang(self) -> Any:
        """Have the call that runs here hang until the worker is killed."""
        call = running_call.get()
        assert call is not None
        return self.workers.hang(call)

    async def end_actor(self) -> None:
        """Run the hook that the actor may have for its end, and let go of the actor."""
        instance, self.instance = self.instance, None
        self.execution.functions.clear()
        hook = getattr(instance, SHUTDOWN, None)
        if not callable(hook):
            return
        try:
            value = hook()
            if type(value) is CoroutineType:
                await value
        except SystemExit:
            pass  # it ends anyway
        except Exception:
            logger.exception(
                "The hook %s of %s has failed. The actor ends all the same.",
                SHUTDOWN,
                type(instance).__name__,
            )

    # ------------------------------------------------------------ what it says

    def say(self, item: Yielded | Saved, seq: int) -> None:
        """Tell the engine of something that comes before the answer of an attempt."""
        call = self.calls.get(seq)
        if call is not None and not self._is_mute:
            self.workers.said(self, item)

    @property
    def _is_mute(self) -> bool:
        return self.gone or self.fate is not None or self.hangs

    def answer(
        self,
        seq: int,
        status: int,
        payload: bytes,
        started: float,
        duration: float,
        delay: float = 0.0,
        state: SavedState | None = None,
    ) -> None:
        """Take the answer of an attempt, unless the worker is no more."""
        call = self.calls.get(seq)
        if call is None or self._is_mute:
            return
        if state is not None and state.error is None:
            self.workers.said(self, Saved(seq, self.objects.value(state.payload)))
        started, duration = self.workers.times(call, started, duration)
        ended = _ENDED[status]
        call.stray = ended is Ended.INTERRUPTED and not (
            seq in self.interrupts.wanted or seq in self.channel.cancelled
        )
        result = self.objects.result(payload) if ended is Ended.RETURNED and payload else payload
        partial = seq in self.workers.partial
        self.workers.partial.discard(seq)
        self.workers.answered(
            self,
            Answer(
                seq,
                ended,
                result,
                started,
                duration,
                delay if ended is Ended.ASKED_FOR_RETRY else None,
                partial=partial,
            ),
        )


def _opened(value: Any) -> Any:
    """Return a serialized value as it can be loaded; a stored one also from its file."""
    return value if isinstance(value, bytes) else value.view(from_disk=True)
