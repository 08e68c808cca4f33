"""Executes an attempt: loads what it calls, enters user code, leaves it, and has it answered.

Room: worker. The same for tasks and for the calls of actors, in the main thread, in others
(`actor.threads`) and on event loops (`actor.loops`), where the call itself is awaited.
"""

from __future__ import annotations

import time
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from ..shared.serialization import ArgumentSlot, load
from ..shared.wire import CHUNK, ActorCallInfo, Status
from . import output
from .objects import ArgumentLost
from .results import Results, pack_returns

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shared.wire import Attempt
    from .actor.instance import SavedState
    from .answers import Answers
    from .loop import WorkerLoop
    from .objects import AttemptHandles

__all__ = ["SHORT_SECONDS", "Execution", "OnLoop", "faults_of"]

SHORT_SECONDS = 100e-6  # a function that usually runs longer is preceded by the doorbell
MEAN_WEIGHT = 0.2  # of the newest run in a function's moving average

_RETURNED = int(Status.RETURNED)
_INTERRUPTIBLE = ActorCallInfo._fields.index("interruptible")
_monotonic = time.monotonic


class OnLoop:
    """A call that runs on an event loop, where others can cancel it."""

    __slots__ = ("attempt", "inside")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.inside = False  # user code, where it can be cancelled


class Execution:
    """Runs attempts of one worker, one or many at once."""

    def __init__(self, server: WorkerLoop, answers: Answers) -> None:
        self._server = server  # what the process is, and has set
        self.answers = answers
        self.channel = server.channel
        self.objects = server.objects
        self.interrupts = server.interrupts
        self.results = Results(server.channel, server.objects, server.interrupts)
        self.functions: dict[int, Callable[..., Any]] = {}
        self.mean_seconds: dict[int, float] = {}
        self.channel.unload = self.unload

    def prepare(
        self, attempt: Attempt, use: AttemptHandles, started: float
    ) -> tuple[Callable[..., Any], list[Any]] | None:
        """Return what is to be called, and with what; None: that has failed, and was answered."""
        if attempt.resources != self._server.resources:
            self._server.set_threads(attempt.resources)
        if attempt.devices != self._server.devices.names:
            self._server.devices.show(attempt.devices)
        if attempt.trace is not None and faults_of().has_span(attempt.trace):
            from . import tracing

            tracing.enter(attempt.trace)
        try:
            function = self.functions.get(attempt.function)
            if function is None:
                function = self.load_function(attempt, use)
            payload = attempt.payload
            if type(payload) is bytes and not attempt.arguments:
                given = list(load(payload)) if payload else [(), {}]
            else:
                given = self.load_arguments(attempt, use)
        except ArgumentLost:
            self.answers.answer(attempt.seq, Status.ARGUMENT_LOST, b"", started, 0.0, use)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self.answers.answer_error(attempt, error, Status.RAISED, started, use)
        else:
            if attempt.trace is not None:
                function = faults_of().spoil(function, attempt.trace, self._server)
            return function, given
        return None

    def call(
        self, attempt: Attempt, function: Callable[..., Any], given: list[Any], use: AttemptHandles
    ) -> None:
        """Enter user code, leave it whatever happens, and answer with the outcome.

        given: args and kwargs, which are taken out: nothing may hold them when the task has ended.
        """
        seq, role = attempt.seq, attempt.role
        args, kwargs = given
        given.clear()
        gate = self.interrupts
        error: BaseException | None = None
        value: Any = None
        started = _monotonic()
        try:
            try:
                gate.current = seq if role is None or role[_INTERRUPTIBLE] else 0
                value = function(*args, **kwargs)
                if type(value) is CoroutineType:
                    from . import coroutines  # few tasks have any

                    value = coroutines.run(value, gate)
                if attempt.num_returns < 0:
                    if attempt.num_returns == CHUNK:
                        from . import chunks  # only maps have any

                        chunk, value = value, None
                        chunks.run(self, chunk, attempt, use)
                    else:
                        value = self.results.produce(value, attempt, use)
                elif type(value) is GeneratorType:
                    value = self.results.collect(value, attempt, use)
                gate.current = 0
            except BaseException as raised:  # noqa: BLE001 - user code may raise anything
                gate.current = 0
                error = raised
        except KeyboardInterrupt as raised:
            # The signal came after the function had raised and before `current` was cleared.
            gate.current = 0
            error = raised
        duration = _monotonic() - started
        args, kwargs = (), {}
        gate.restore()
        state = None
        if self._server.saves_every:
            state = self._saved(attempt, error)
        self.answer(attempt, value, error, state, started, duration, use)

    async def call_on_loop(
        self, call: OnLoop, function: Callable[..., Any], given: list[Any], use: AttemptHandles
    ) -> None:
        """Do the same as `call` on an event loop, where a cancel is a CancelledError."""
        import asyncio

        attempt = call.attempt
        args, kwargs = given
        given.clear()
        error: BaseException | None = None
        value: Any = None
        started = _monotonic()
        try:
            call.inside = True
            value = function(*args, **kwargs)
            if type(value) is CoroutineType:
                value = await value
            if attempt.num_returns < 0:
                value = await self.results.produce_on_loop(value, attempt, use)
            elif type(value) is GeneratorType:
                value = self.results.collect(value, attempt, use)
        except asyncio.CancelledError as raised:
            error = raised
            if attempt.seq in self.channel.cancelled:  # else it is an error of the method's own
                error = KeyboardInterrupt().with_traceback(raised.__traceback__)
        except BaseException as raised:  # noqa: BLE001 - user code may raise anything
            error = raised
        finally:
            call.inside = False
        duration = _monotonic() - started
        args, kwargs = (), {}
        # Without a state: where calls run side by side, there is none that is after a call.
        self.answer(attempt, value, error, None, started, duration, use)

    def _saved(self, attempt: Attempt, error: BaseException | None) -> SavedState | None:
        """Return the state of the actor after this call, if it is to be saved now."""
        from .actor import instance

        due = instance.is_due(self._server, attempt, error)
        return instance.save(self._server) if due else None

    def answer(
        self,
        attempt: Attempt,
        value: Any,
        error: BaseException | None,
        state: SavedState | None,
        started: float,
        duration: float,
        use: AttemptHandles,
    ) -> None:
        """Answer with what came out of user code. Raises SystemExit if that is what did.

        state: of the actor, to be saved along with the answer.
        """
        output.flush()
        items, use.items = use.items, None
        mean = self.mean_seconds.get(attempt.function, duration)
        self.mean_seconds[attempt.function] = mean + MEAN_WEIGHT * (duration - mean)
        if state is not None and state.error is not None:
            value = None
            self.objects.failed(use)
            if error is not None:
                from ..shared.failures import release

                release(error)
            self.answers.answer_error(attempt, state.error, Status.RAISED, started, use, duration)
        elif error is None:
            refs: list[Any] = []
            try:
                payload = pack_returns(value, attempt, self.objects, use, refs)
                value = None
            except BaseException as failure:  # noqa: BLE001 - user code may raise anything
                self.results.send_collected(items, attempt, use)
                self.objects.failed(use)
                self.answers.answer_error(
                    attempt, failure, Status.RAISED, started, use, duration, 0.0, state
                )
            else:
                if use.written:
                    use.written = []
                self.answers.answer(
                    attempt.seq, _RETURNED, payload, started, duration, use, 0.0, state
                )
                refs.clear()
                if duration > SHORT_SECONDS:
                    self.channel.ring()  # whatever comes next, this has taken long enough
        elif isinstance(error, SystemExit):
            # Else it counts as a death of the worker: what was answered is safe, if maybe unrung.
            if attempt.role is not None and _is_wished(error):
                self.answers.answer(attempt.seq, Status.EXITED, b"", started, duration, use)
                self._server.clear()
            self.channel.ring()
            raise error
        else:
            if not isinstance(error, KeyboardInterrupt):
                self.results.send_collected(items, attempt, use)
            self.objects.failed(use)  # an item may have been written, and not told of
            status, delay = self.answers.judge(error, attempt)
            self.answers.answer_error(attempt, error, status, started, use, duration, delay, state)

    def load_arguments(self, attempt: Attempt, use: AttemptHandles) -> list[Any]:
        """Return positional and keyword arguments, with a value of its own in place of each ref."""
        if not attempt.payload:
            return [(), {}]
        args, kwargs = self.load(attempt.payload, use)
        values = attempt.arguments

        def value_of(item: Any) -> Any:
            return self.load(values[item.index], use) if type(item) is ArgumentSlot else item

        # No `map`, which a StopIteration out of `__setstate__` would end.
        given = [value_of(item) for item in args]
        return [tuple(given), {key: value_of(item) for key, item in kwargs.items()}]

    def load(self, value: Any, use: AttemptHandles) -> Any:
        """Deserialize what was sent, or lies in the store. Raises ArgumentLost."""
        return load(self.objects.open(value, use) if type(value) is tuple else value)

    def load_function(self, attempt: Attempt, use: AttemptHandles) -> Callable[..., Any]:
        """Load what the attempt calls, at its first use: a function, a method, or an actor's maker.

        Raises what unpickling raises, AttributeError for a method that there is not.
        """
        role = attempt.role
        if role is not None:
            from .actor import instance

            return instance.find(self._server, attempt, use)
        function = self.functions[attempt.function] = self.load_code(attempt.function)
        return function

    def load_code(self, key: int) -> Callable[..., Any]:
        """Unpickle a function, or a class."""
        channel = self.channel
        function: Callable[..., Any] = load(channel.code[key])
        channel.known.add(key)
        del channel.code[key]
        return function

    def unload(self, key: int) -> None:
        """Forget a function: nobody can call it any more."""
        self.channel.known.discard(key)
        self.functions.pop(key, None)
        self.mean_seconds.pop(key, None)


def faults_of() -> Any:
    """Return the module that knows of faults; few attempts may have any."""
    from . import faults

    return faults


def _is_wished(error: SystemExit) -> bool:
    """Tell whether the actor means to end; else it has crashed. Source: Ray; None is no 0 there."""
    return isinstance(error.code, int) and error.code == 0
