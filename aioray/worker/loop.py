"""A worker's main loop: claim an attempt, run it, answer, ring the bell when nothing is left to do.

Room: worker. Everything happens in the main thread, because a hand-over between threads costs more
than a small task. The order of one attempt is fixed: claim its number, note it in the page, load
function and arguments, enter user code, leave it, write the answer, clear the page. An interrupt
counts only between enter and leave (see `interrupts`); what the kernel has in the answers pipe
survives this process.

A process that makes an actor runs only calls of it from then on (`actors`): one after the other
just as it runs tasks, or side by side, and then `run` leaves the work to a `actor.host.Host`.

The bell wakes the driver, which costs more than a small task too. It is rung when there is nothing
left to claim, before a function that is not known to be short, or when an answer got old.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import struct
import sys
import time
from contextvars import copy_context
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

import cloudpickle
import setproctitle

from ..client.current import place
from ..client.protocol import registry
from ..shared import ids
from ..shared.serialization import ArgumentSlot, dumps, load
from ..shared.wire import (
    ANSWER,
    CLAIM,
    NOTE_SAVED,
    NOTE_UNUSED,
    NOTE_YIELDED,
    NUMBER,
    PAGE_RUNNING,
    STACK_END,
    STACK_SIGNAL,
    STREAMING,
    Ask,
    Role,
    Status,
)
from . import output, setup
from .channel import Channel
from .devices import VisibleDevices
from .interrupts import Interrupts
from .objects import ArgumentLost, Objects, Use
from .orphans import family
from .results import Collected, pack, pack_returns

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from ..shared.wire import Attempt, Place, WorkerFds
    from .actor.host import Host
    from .actor.instance import State

__all__ = ["THREADS", "Server"]

SHORT_SECONDS = 100e-6  # a function that usually runs longer is preceded by the bell
LONG_SECONDS = 10e-3  # usually at least; then two system calls more do not matter
MEAN_WEIGHT = 0.2  # of the newest run in a function's moving average

THREADS = "OMP_NUM_THREADS"

_RUNNING = struct.Struct("<Qd")  # PAGE_RUNNING and PAGE_STARTED in one
_RETURNED = int(Status.RETURNED)
_INTERRUPTIBLE, _MAKES = Role._fields.index("interruptible"), Role._fields.index("creation")
_monotonic = time.monotonic


class Server:
    """The state of one worker process."""

    def __init__(self, fds: WorkerFds, page: mmap.mmap) -> None:
        self.claims = fds.claims
        self.page = page
        self.interrupts = Interrupts(page)
        self.channel = Channel(fds, self.interrupts)
        self.objects = Objects(fds.arena, self.channel, self.want_room)
        self.channel.unload = self.unload
        self.devices = VisibleDevices()
        self.functions: dict[int, Callable[..., Any]] = {}
        self.mean_seconds: dict[int, float] = {}
        self.rules: dict[bytes, Any] = {}
        self.use = Use()  # of the attempt that runs; hosts have one for each
        self.write = self.channel.write  # puts answers into the pipe
        self.instance: Any = None  # the actor that this process is
        self.host: Host | None = None  # of an actor whose calls run side by side
        self.saves_every = 0  # calls; 0: its state is not saved
        self.unsaved = 0  # calls that have changed its state since it was
        self.idle = "IDLE"  # the title when nothing runs
        self.title = ""
        self.resources: Any = None  # of the latest attempt
        self.stacks = -1  # file for `tell_stacks`
        self.threads: str | None = None  # what this process has set; None: it is the user's

    def disown(self) -> None:
        """This is a copy in a process that a task has forked: the channels are the parent's."""
        self.channel.disown()
        registry.disown()

    # -- the environment

    def enter(self, env: dict[str, Any], hook: bytes, tracing_hook: str | None) -> None:
        """Set up the runtime environment; if that fails, say why and end the process."""
        try:
            setup.set_up(env, hook, tracing_hook)
        except BaseException as error:  # noqa: BLE001 - a hook may raise anything
            from ..shared.failures import capture

            output.flush()
            payload = capture(
                error,
                function_name="setup",
                proctitle="ray::setup",
                pid=os.getpid(),
                ip="127.0.0.1",
                dumps=dumps,
                loads=load,
                hide_files=hidden_files(),
            )
            self.answer(0, Status.RAISED, payload, 0.0, 0.0, self.use)
            self.channel.ring()
            os._exit(1)
        output.flush()
        self.interrupts.restore()

    def set_threads(self, resources: tuple[tuple[str, int], ...]) -> None:
        """Tell libraries how many CPUs the task has reserved, unless the user has told them.

        As in Ray, and with the same limit: a library that reads the variable only once, when it is
        imported, keeps what the task (or preload, or hook) that imported it had.
        """
        self.resources = resources
        if self.threads is not None and os.environ.get(THREADS) == self.threads:
            cpus = dict(resources).get("CPU", 0) // 10_000
            self.threads = os.environ[THREADS] = str(max(1, cpus))

    # -- claiming

    def run(self) -> None:
        """Work until the driver closes the claims pipe, or a host is to go on."""
        poll = select.poll()
        poll.register(self.claims, select.POLLIN)
        channel = self.channel
        claims, size, unpack = self.claims, CLAIM.size, CLAIM.unpack
        while self.host is None:
            try:
                claim = os.read(claims, size)
            except BlockingIOError:
                channel.tell_news()
                if self.objects.spare:
                    channel.note(NOTE_UNUSED, self.objects.take_unused())
                if channel.unrung_bytes:
                    channel.ring()
                if channel.cancelled and not channel.queue:
                    channel.cancelled.clear()  # of calls that had just ended
                self.show(self.idle)
                pause = family.look()
                poll.poll(None if pause is None else pause * 1000)
                continue
            if not claim:
                return
            (seq,) = unpack(claim)
            if seq:
                self.execute(channel.take(seq))
            else:
                channel.make_room()

    # -- running

    def execute(self, attempt: Attempt) -> None:
        """Run one attempt and answer."""
        seq, role = attempt.seq, attempt.role
        if role is not None and role[_MAKES] is not None and self.actors().become(self, attempt):
            return
        started = _monotonic()
        channel = self.channel
        mean = self.mean_seconds.get(attempt.function, 1.0)
        if channel.unrung_bytes and (
            started - channel.unrung_since > SHORT_SECONDS or mean > SHORT_SECONDS
        ):
            channel.ring()
        _RUNNING.pack_into(self.page, PAGE_RUNNING, seq, started)
        place.attempt = attempt
        if mean > LONG_SECONDS:
            output.announce()  # C code may print past all that does so when it must
        found = self.prepare(attempt, self.use, started)
        if found is not None:
            function, given = found
            place.function = function
            if attempt.name != self.title:
                self.show(attempt.name)
            if self.interrupts.requested(seq) or (channel.cancelled and seq in channel.cancelled):
                self.answer(seq, Status.NOT_STARTED, b"", started, 0.0, self.use)
            elif role is not None and role[_MAKES] is not None:
                self.call(attempt, function, given, self.use)  # its methods see what __init__ sets
            else:  # context variables that this one sets are not seen by the next
                copy_context().run(self.call, attempt, function, given, self.use)
        place.attempt = place.function = None
        if attempt.trace is not None:
            self.tracing().leave()
        _RUNNING.pack_into(self.page, PAGE_RUNNING, 0, 0.0)
        if family.has_begun:
            family.look_again()
        if role is not None:
            if channel.cancelled:
                channel.cancelled.discard(seq)
            if role[_MAKES] is not None:
                self.actors().become_host(self, attempt)

    def prepare(
        self, attempt: Attempt, use: Use, started: float
    ) -> tuple[Callable[..., Any], list[Any]] | None:
        """What is to be called, and with what; None: that has failed, and was answered."""
        if attempt.resources != self.resources:
            self.set_threads(attempt.resources)
        if attempt.devices != self.devices.names:
            self.devices.show(attempt.devices)
        if attempt.trace is not None:
            self.tracing().enter(attempt.trace)
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
            self.answer(attempt.seq, Status.ARGUMENT_LOST, b"", started, 0.0, use)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self.answer_error(attempt, error, Status.RAISED, started, use)
        else:
            return function, given
        return None

    def call(
        self, attempt: Attempt, function: Callable[..., Any], given: list[Any], use: Use
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
                    value = self.coroutines().run(value, gate)
                if attempt.num_returns < 0:
                    value = self.produce(value, attempt, use)
                elif type(value) is GeneratorType:
                    value = self.collect(value, attempt, use)
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
        if self.saves_every and self.actors().is_due(self, attempt, error):
            state = self.actors().save(self)
        self.settle(attempt, value, error, state, started, duration, use)

    def settle(
        self,
        attempt: Attempt,
        value: Any,
        error: BaseException | None,
        state: State | None,
        started: float,
        duration: float,
        use: Use,
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
            self.answer_error(attempt, state.error, Status.RAISED, started, use, duration)
        elif error is None:
            refs: list[Any] = []
            try:
                payload = pack_returns(value, attempt, self.objects, use, refs)
                value = None
            except BaseException as failure:  # noqa: BLE001 - user code may raise anything
                self.send_collected(items, attempt, use)
                self.objects.failed(use)
                self.answer_error(
                    attempt, failure, Status.RAISED, started, use, duration, 0.0, state
                )
            else:
                if use.written:
                    use.written = []
                self.answer(attempt.seq, _RETURNED, payload, started, duration, use, 0.0, state)
                refs.clear()
                if duration > SHORT_SECONDS:
                    self.channel.ring()  # whatever comes next, this has taken long enough
        elif isinstance(error, SystemExit):
            # Else it counts as a death of the worker: what was answered is safe, the bell may be
            # missing.
            if attempt.role is not None and self.actors().is_wished(error):
                self.answer(attempt.seq, Status.EXITED, b"", started, duration, use)
                _RUNNING.pack_into(self.page, PAGE_RUNNING, 0, 0.0)
            self.channel.ring()
            raise error
        else:
            if not isinstance(error, KeyboardInterrupt):
                self.send_collected(items, attempt, use)
            self.objects.failed(use)  # an item may have been written, and not told of
            status, delay = self.judge(error, attempt)
            self.answer_error(attempt, error, status, started, use, duration, delay, state)

    @staticmethod
    def actors() -> Any:
        """The module that knows what actors need beyond tasks."""
        from .actor import instance as actors

        return actors

    @staticmethod
    def tracing() -> Any:
        """The module that knows the span of an attempt."""
        from . import tracing

        return tracing

    @staticmethod
    def coroutines() -> Any:
        """The module that runs them."""
        from . import coroutines

        return coroutines

    def collect(self, generator: Any, attempt: Attempt, use: Use) -> Collected:
        """Fill the return values of the attempt with what a generator yields, one after the other.

        Runs as user code. If the generator raises, what it has yielded before is in `use.items`;
        what it yields, or raises, when all are filled is told, and changes nothing. As in Ray.
        """
        found: Collected = Collected()
        use.items = found
        count = attempt.num_returns
        try:
            for item in generator:
                if len(found.packed) < count:
                    label = f"result[{len(found.packed)}]"
                    try:
                        found.packed.append(
                            pack(item, attempt, label, self.objects, use, found.refs)
                        )
                    except Exception as failure:  # noqa: BLE001 - user code may raise anything
                        found.failure = failure
                        break
                elif count:
                    sys.stderr.write(
                        f"{attempt.name} has yielded more than num_returns={count} values. The "
                        f"first {count} are its results, and the generator was closed.\n"
                    )
                    break
        except Exception as error:
            if len(found.packed) < count or not count:
                raise
            import traceback

            sys.stderr.write(
                f"{attempt.name} has raised an error after all its {count} results were yielded. "
                f"They stand.\n{''.join(traceback.format_exception(error))}"
            )
        finally:
            generator.close()
        return found

    def send_collected(self, items: Collected | None, attempt: Attempt, use: Use) -> None:
        """Send what a generator has yielded that fails now: those results stand."""
        if items is None or not items.packed:
            return
        for number, payload in enumerate(items.packed):
            self.channel.note(NOTE_YIELDED, NUMBER.pack(number) + payload, attempt.seq)
        use.written = []  # one whose writing has failed is not among them
        self.channel.ring()

    def produce(self, items: Any, attempt: Attempt, use: Use) -> Any:
        """Send what a generator yields, as it yields it; the value of the task after that.

        Runs as user code, but for the sending: it can be interrupted. What runs in an actor, where
        a cancel is a flag, ends with the item after which that is seen.
        """
        count = 0
        actor = place.actor
        if type(items) is AsyncGeneratorType:
            items = self.coroutines().iterate(items, self.interrupts)
        try:
            for item in items:
                self.send_item(item, count, attempt, use)
                del item
                count += 1
                if attempt.backpressure and attempt.num_returns == STREAMING:
                    self.channel.ask(attempt.seq, Ask.MORE, count)
                if actor is not None and actor.is_cancelled(attempt.seq):
                    raise KeyboardInterrupt
        finally:
            items.close()
        return self.end_items(count, attempt)

    def send_item(self, item: Any, number: int, attempt: Attempt, use: Use) -> None:
        """Send one item of a generator; numbers are from 0. Raises what `pack` raises."""
        channel = self.channel
        refs: list[Any] = []
        payload = pack(item, attempt, f"item {number}", self.objects, use, refs)
        with channel.uninterrupted():
            channel.note(NOTE_YIELDED, NUMBER.pack(number) + payload, attempt.seq)
            use.written = []
            channel.ring()

    def end_items(self, count: int, attempt: Attempt) -> Any:
        """Say how many items there were; the value of the task after that."""
        self.channel.note(NOTE_YIELDED, NUMBER.pack(count), attempt.seq)
        if attempt.num_returns == STREAMING:
            return None
        from ..client.generators import DynamicObjectRefGenerator
        from ..client.refs import ObjectRef

        client = registry.current()
        assert client is not None
        task = ids.task_id(place.job, attempt.label)
        return DynamicObjectRefGenerator(
            [
                ObjectRef(client.adopt(ids.object_id(task, ids.FIRST_ITEM + number)))
                for number in range(count)
            ]
        )

    def load_arguments(self, attempt: Attempt, use: Use) -> list[Any]:
        """The positional and keyword arguments, with a value of its own in place of each ref."""
        if not attempt.payload:
            return [(), {}]
        args, kwargs = self.load(attempt.payload, use)
        values = attempt.arguments

        def value_of(item: Any) -> Any:
            return self.load(values[item.index], use) if type(item) is ArgumentSlot else item

        # No `map`, which a StopIteration out of `__setstate__` would end.
        given = [value_of(item) for item in args]
        return [tuple(given), {key: value_of(item) for key, item in kwargs.items()}]

    def load(self, value: Any, use: Use) -> Any:
        """Deserialize what was sent, or lies in the store. Raises ArgumentLost."""
        return load(self.objects.open(value, use) if type(value) is tuple else value)

    def load_function(self, attempt: Attempt, use: Use) -> Callable[..., Any]:
        """What the attempt calls, on the first use: a function, a method, or what makes an actor.

        Raises what unpickling raises, AttributeError for a method that there is not.
        """
        role = attempt.role
        if role is not None:
            found: Callable[..., Any] = self.actors().find(self, attempt, use)
            return found
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

    def judge(self, error: BaseException, attempt: Attempt) -> tuple[Status, float]:
        """What the error means for retrying, and the delay that it asks for."""
        from ..exceptions import DoNotRetry, RayTaskError, RetryTask, TaskCancelledError

        if isinstance(error, KeyboardInterrupt):
            return Status.INTERRUPTED, 0.0
        if isinstance(error, RetryTask):
            return Status.ASKED_FOR_RETRY, error.delay
        if isinstance(error, DoNotRetry):
            return Status.FORBADE_RETRY, 0.0
        retryable = self.may_retry(error, attempt)
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, TaskCancelledError):  # of a task that this one has waited for
            cancelled = Status.RAISED_CANCELLED_RETRYABLE, Status.RAISED_CANCELLED
            return cancelled[not retryable], 0.0
        return (Status.RAISED_RETRYABLE if retryable else Status.RAISED), 0.0

    def may_retry(self, error: BaseException, attempt: Attempt) -> bool:
        """Whether `retry_exceptions` allows another attempt after this error."""
        from ..exceptions import RayTaskError

        rule = attempt.retry_rule
        if isinstance(rule, bool):
            return rule
        try:
            allowed = self.rules.get(rule)
            if allowed is None:
                allowed = self.rules[rule] = load(rule)
            cause = error.cause if isinstance(error, RayTaskError) else error
            if isinstance(allowed, tuple):  # which may name RayTaskError, or what a child raised
                return isinstance(error, allowed) or isinstance(cause, allowed)
            return bool(allowed(cause))
        except Exception as broken:  # noqa: BLE001 - user code may raise anything
            error.add_note(
                f"aioray: not retried, because retry_exceptions itself failed: {broken!r}"
            )
        return False

    # -- answering

    def answer_error(
        self,
        attempt: Attempt,
        error: BaseException,
        status: int,
        started: float,
        use: Use,
        duration: float = 0.0,
        delay: float = 0.0,
        state: State | None = None,
    ) -> None:
        """Write how the attempt failed, and let nothing of it live on. state: see `answer`."""
        from ..shared.failures import capture, release

        payload = capture(
            error,
            function_name=attempt.name,
            proctitle=f"ray::{attempt.name}",
            pid=os.getpid(),
            ip="127.0.0.1",
            dumps=dumps,
            loads=load,
            hide_files=hidden_files(),
            task_id=ids.task_id(place.job, attempt.label).hex(),
            actor=self.this_actor(),
        )
        release(error)
        self.answer(attempt.seq, status, payload, started, duration, use, delay, state)

    def this_actor(self) -> tuple[str, str] | None:
        """The id and the repr of the actor that this is."""
        actor = place.actor
        if actor is None:
            return None
        try:
            shown = f"<{actor.path} object>" if self.instance is None else repr(self.instance)
        except Exception:  # noqa: BLE001 - user code may raise anything
            shown = f"<{actor.path} object>"
        return actor.actor_id, shown

    def answer(
        self,
        seq: int,
        status: int,
        payload: bytes,
        started: float,
        duration: float,
        use: Use,
        delay: float = 0.0,
        state: State | None = None,
    ) -> None:
        """Put an answer into the pipe, where it is safe; the bell comes later.

        state: of the actor after the call; it goes in the same piece.
        """
        if use.opened:
            self.objects.tell_kept(seq, use)
        frame = ANSWER.pack(len(payload), seq, status, started, duration, delay) + payload
        if state is not None:
            saved = ANSWER.pack(len(state.payload), seq, NOTE_SAVED, 0.0, 0.0, 0.0)
            frame = saved + state.payload + frame
        self.write(frame)

    def want_room(self, size: int) -> list[Place] | bytes:
        """Ask the driver for room in the store, and wait until it has some."""
        attempt = place.attempt
        seq = 0 if attempt is None else attempt.seq
        places: list[Place] | bytes = self.channel.ask(seq, Ask.ROOM, size, len(self.channel.queue))
        return places

    def tell_stacks(self, file: int) -> None:
        """Write all stacks there whenever the driver sends STACK_SIGNAL.

        faulthandler does it in the signal handler itself, so also if this process is stuck, and has
        the kernel begin system calls again that the signal has interrupted.
        """

        def told(_signum: int, _frame: Any) -> None:
            assert self.host is not None
            os.write(file, self.host.stacks().encode(errors="replace") + STACK_END)

        self.stacks = file
        signal.signal(STACK_SIGNAL, told)
        faulthandler.register(STACK_SIGNAL, file=file, all_threads=True)
        os.write(file, b"\n")

    def tell_calls_too(self) -> None:
        """After the stacks, let the host tell of calls that are in no thread.

        That handler runs in the main thread, which runs no user code then.
        """
        faulthandler.unregister(STACK_SIGNAL)
        faulthandler.register(STACK_SIGNAL, file=self.stacks, all_threads=True, chain=True)

    def show(self, name: str) -> None:
        """Let `ps` tell what this process does."""
        if name != self.title:
            self.title = name
            setproctitle.setproctitle(f"ray::{name}")


def hidden_files() -> frozenset[str]:
    """The files whose frames users need not see in a traceback: aioray's own, and what it runs."""
    files = {cloudpickle.cloudpickle.__file__}
    for name, module in tuple(sys.modules.items()):
        if name.startswith("aioray.") and not name.startswith("aioray.examples"):
            files.add(getattr(module, "__file__", None) or "")
    if "aioray.worker.coroutines" in sys.modules:
        files.add(sys.modules["asyncio.base_events"].__file__ or "")
    return frozenset(files)
