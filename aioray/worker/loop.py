"""A worker's main loop: claim an attempt, run it, ring the doorbell when nothing is left to do.

Room: worker. Everything happens in the main thread, because a hand-over between threads costs more
than a small task. The order of one attempt is fixed: claim its number, note it in the page, load
function and arguments, enter user code, leave it, write the answer, clear the page. What comes
between the two notes is the part of `execution`, `results` and `answers`. An interrupt counts only
between enter and leave (see `interrupts`); what the kernel has in the answers pipe survives this
process.

A process that makes an actor runs only calls of it from then on (`actors`): one after the other
just as it runs tasks, or side by side, and then `run` leaves the work to a `actor.host.Host`.

The doorbell wakes the driver, which costs more than a small task too. It is rung when there is
nothing left to claim, before a function that is not known to be short, or when an answer got old.
Nobody rings for an attempt that came alone: the driver looks at its answer itself. The title says
what ran last until nothing has come for a while, so that it does not change twice for each task.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import struct
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import setproctitle

from ..client.current import execution_context
from ..client.protocol import registry
from ..shared.serialization import dumps, load
from ..shared.wire import (
    CLAIM,
    NOTE_UNUSED,
    PAGE_BEAT,
    PAGE_RUNNING,
    STACK_END,
    STACK_SIGNAL,
    ActorCallInfo,
    Status,
)
from . import output, setup
from .answers import Answers, hidden_files
from .channel import Channel
from .devices import VisibleDevices
from .execution import SHORT_SECONDS, Execution, faults_of
from .interrupts import Interrupts
from .objects import AttemptHandles, LocalObjects
from .orphans import family

if TYPE_CHECKING:
    import mmap

    from ..shared.wire import Attempt, Location, WorkerFds
    from .actor.host import Host
    from .scales import Scales

__all__ = ["THREADS", "WorkerLoop"]

IDLE_MS = 1  # without work, until the title says so
LONG_SECONDS = 10e-3  # usually at least; then two system calls more do not matter

THREADS = "OMP_NUM_THREADS"

_DOUBLE = struct.Struct("<d")
_RUNNING = struct.Struct("<Qd")  # PAGE_RUNNING and PAGE_STARTED in one
_MAKES = ActorCallInfo._fields.index("creation")
_monotonic = time.monotonic


class WorkerLoop:
    """The state of one worker process."""

    def __init__(self, fds: WorkerFds, page: mmap.mmap) -> None:
        self.claims = fds.claims
        self.page = page
        self.interrupts = Interrupts(page)
        self.channel = Channel(fds, self.interrupts)
        self.objects = LocalObjects(fds.arena, self.channel, self.want_room)
        self.devices = VisibleDevices()
        self.use = AttemptHandles()  # of the attempt that runs; hosts have one for each
        self.answers = Answers(self.channel, self.objects, lambda: self.instance)
        self.execution = Execution(self, self.answers)
        self.instance: Any = None  # the actor that this process is
        self.host: Host | None = None  # of an actor whose calls run side by side
        self.saves_every = 0  # calls; 0: its state is not saved
        self.unsaved = 0  # calls that have changed its state since it was
        self.idle = "IDLE"  # the title when nothing runs
        self.title = ""
        self.resources: Any = None  # of the latest attempt
        self.stacks = -1  # file for `tell_stacks`
        self.threads: str | None = None  # what this process has set; None: it is the user's
        execution_context.beat = self.beat
        self.scales: Scales | None = None  # None: it may keep any amount of memory

    def after_fork_in_child(self) -> None:
        """Give up the channels, in a copy of this in a process that a task has forked."""
        self.channel.after_fork_in_child()
        registry.after_fork_in_child()

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
            self.answers.answer(0, Status.RAISED, payload, 0.0, 0.0, self.use)
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
        channel = self.channel
        claims, singles, size, unpack = self.claims, channel.singles, CLAIM.size, CLAIM.unpack
        poll = select.poll()
        # In this order: if both come between the two looks, the single, which is first, is seen.
        poll.register(claims, select.POLLIN)
        poll.register(singles, select.POLLIN)
        may_claim = False
        while self.host is None:
            if not may_claim:
                ready = self._wait(poll)
                may_claim = claims in ready
                if singles in ready:
                    single = channel.take_single()
                    if single is not None:
                        self._work(single)
                continue
            try:
                claim = os.read(claims, size)
            except BlockingIOError:
                may_claim = False
                continue
            if not claim:
                return
            (seq,) = unpack(claim)
            if seq:
                self._work(channel.take_attempt(seq))
            else:
                channel.drain_socket()

    def _wait(self, poll: select.poll) -> set[int]:
        """Say what is left to say, and sleep until something can be claimed: where."""
        channel = self.channel
        channel.tell_news()
        if self.objects.spare:
            channel.note(NOTE_UNUSED, self.objects.take_unused())
        if channel.unrung_bytes:
            channel.ring()
        if channel.cancelled and not channel.queue:
            known = channel.cancelled.copy()
            if ready := poll.poll(0):  # maybe a call of which another thread has read that
                return {fd for fd, _ in ready}
            channel.cancelled -= known  # they had just ended
        pause = family.reap()
        if self.title != self.idle:
            ready = poll.poll(IDLE_MS)
            if ready:
                return {fd for fd, _ in ready}
            self.show(self.idle)
        return {fd for fd, _ in poll.poll(None if pause is None else pause * 1000)}

    def _work(self, attempt: Attempt) -> None:
        """Run an attempt that was claimed."""
        self.execute(attempt)
        if self.scales is not None:
            self.scales.weigh()

    # -- running

    def execute(self, attempt: Attempt) -> None:
        """Run one attempt and answer."""
        seq, role = attempt.seq, attempt.role
        if role is not None and role[_MAKES] is not None and self._becomes_host(attempt):
            return
        started = _monotonic()
        channel = self.channel
        mean = self.execution.mean_seconds.get(attempt.function, 1.0)
        if channel.unrung_bytes and (
            started - channel.unrung_since > SHORT_SECONDS or mean > SHORT_SECONDS
        ):
            channel.ring()
        _RUNNING.pack_into(self.page, PAGE_RUNNING, seq, started)
        execution_context.attempt = attempt
        if mean > LONG_SECONDS:
            output.announce()  # C code may print past all that does so when it must
        found = self.execution.prepare(attempt, self.use, started)
        if found is not None:
            function, given = found
            execution_context.function = function
            if attempt.name != self.title:
                self.show(attempt.name)
            if self.interrupts.requested(seq) or (channel.cancelled and seq in channel.cancelled):
                self.answers.answer(seq, Status.NOT_STARTED, b"", started, 0.0, self.use)
            elif role is not None and role[_MAKES] is not None:
                # Its methods see what __init__ sets.
                self.execution.call(attempt, function, given, self.use)
            else:  # context variables that this one sets are not seen by the next
                copy_context().run(self.execution.call, attempt, function, given, self.use)
        execution_context.attempt = execution_context.function = None
        if attempt.trace is not None and faults_of().has_span(attempt.trace):
            from . import tracing

            tracing.leave()
        _RUNNING.pack_into(self.page, PAGE_RUNNING, 0, 0.0)
        if family.has_begun:
            family.reap_again()
        if role is not None:
            if channel.cancelled:
                channel.cancelled.discard(seq)
            if role[_MAKES] is not None:
                from .actor import instance

                instance.become_host(self, attempt)

    def _becomes_host(self, attempt: Attempt) -> bool:
        """Make this process an actor; tell whether a thread with a loop makes it."""
        from .actor import instance

        return instance.become(self, attempt)

    def clear(self) -> None:
        """Note in the page that nothing runs."""
        _RUNNING.pack_into(self.page, PAGE_RUNNING, 0, 0.0)

    # -- telling and asking the driver

    def beat(self, at: float | None = None) -> None:
        """Note in the page that what runs gets on: now, or as `PAGE_BEAT` says."""
        _DOUBLE.pack_into(self.page, PAGE_BEAT, _monotonic() if at is None else at)

    def want_room(self, size: int) -> list[Location] | bytes:
        """Ask the driver for room in the store, wait until it has some, and return it."""
        from ..shared.asks import Allocate

        attempt = execution_context.attempt
        seq = 0 if attempt is None else attempt.seq
        locations: list[Location] | bytes = self.channel.ask(
            seq, Allocate(size, len(self.channel.queue))
        )
        return locations

    def tell_stacks(self, file: int) -> None:
        """Write all stacks to `file` whenever the driver sends STACK_SIGNAL.

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
        """Let the host tell, after the stacks, of calls that are in no thread.

        The handler for that runs in the main thread, which runs no user code then.
        """
        faulthandler.unregister(STACK_SIGNAL)
        faulthandler.register(STACK_SIGNAL, file=self.stacks, all_threads=True, chain=True)

    def show(self, name: str) -> None:
        """Let `ps` tell what this process does."""
        if name != self.title:
            self.title = name
            setproctitle.setproctitle(f"ray::{name}")
