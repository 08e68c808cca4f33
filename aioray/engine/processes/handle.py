"""One worker process as the driver holds it: its descriptors, what it is given and how it is ended.

Room: engine. No policy: whoever calls decides. The driver's side of the channels described in
`aioray.shared.wire`: a handle writes to them, and what cannot be written at once waits in an
outbox. What the worker says is read by its `AnswerReader`, what it may see of the store is in its
`Loans`, and what it is doing stands on its `ControlPage`.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import signal
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from ...shared import linux
from ...shared.packets import MAX_PACKET, Enclosure, pack, send
from ...shared.wire import CLAIM, SINGLE, STACK_SIGNAL, WorkerFds
from .control import ControlPage, StackFile
from .inbound import READ_SIZE, AnswerReader
from .lending import Loans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.model import Task
    from ...core.outcomes import Excess
    from ..objects.store import Store
    from ..objects.stored import Stored
    from .output import LineReader
    from .watch import MemoryWatch

__all__ = ["WorkerHandle"]

ANSWERS_PIPE = 256 * 1024  # bytes; wished for, not needed


class WorkerHandle:
    """The driver's end of one worker, from before the fork until after the reaping."""

    def __init__(self, worker_id: int, hex_id: str, store: Store) -> None:
        """Open all channels. Raises OSError, and leaves nothing open, if one cannot be had."""
        self.id = worker_id
        self.hex_id = hex_id
        self.closed = False
        # What CUDA_VISIBLE_DEVICES of its own environment calls the GPUs, if that sets it.
        self.gpu_names: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None
        self._codes: set[int] = set()  # keys of functions whose code was sent
        self.loans = Loans(store)
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.kill_ordered = False
        self.killed_for = ""  # why, if it was not somebody's wish
        self.ready = False
        self.discarded = ""  # why it was killed: it cannot be worked with
        self.excess: Excess | None = None  # why it was killed: it has too much memory
        self.watch: MemoryWatch | None = None  # an attempt in it has, or had, a limit of memory
        self._nudged = False  # the worker was told to read, as its socket is full
        self.readers: list[LineReader] = []
        self._outbox: deque[tuple[bytes, Enclosure | None, list[int]]] = deque()
        self._claims = b""  # of what was sent, for which the pipe had no room
        self.trouble: OSError | None = None  # why the first in the outbox could not be sent
        self.tries = 0  # of that
        self._troubled: Any = None  # the one that was tried
        self.fault = ""  # what there was in the claims pipe that the driver has not written
        with contextlib.ExitStack() as stack:

            def own(fd: int) -> int:
                stack.callback(os.close, fd)
                return fd

            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            stack.callback(theirs.close)
            ours.setblocking(False)
            ours.shutdown(socket.SHUT_RD)  # who writes there gets an error, and does not wait
            claims_reader, claims_writer = map(own, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
            singles_reader, singles_writer = map(own, linux.packet_pipe())
            answers_reader, answers_writer = map(own, os.pipe2(os.O_CLOEXEC))
            stdout_reader, stdout_writer = map(own, os.pipe2(os.O_CLOEXEC))
            stderr_reader, stderr_writer = map(own, os.pipe2(os.O_CLOEXEC))
            for fd in (answers_reader, stdout_reader, stderr_reader):
                os.set_blocking(fd, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(answers_reader, fcntl.F_SETPIPE_SZ, ANSWERS_PIPE)
            doorbell = own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            stacks_fd = own(StackFile.create_file())
            page_fd = own(ControlPage.create_file())
            self.page = ControlPage(page_fd)
            stack.pop_all()
        self.bundles = ours
        self.claims_reader = claims_reader
        self.claims_writer: int | None = claims_writer
        self._singles = singles_reader, singles_writer
        self._is_to_unload = False  # that is in the socket, which who takes a single does not read
        self._single = b""  # what was written there last
        self.inbound = AnswerReader(answers_reader, doorbell, self.loans, hex_id)
        self.stacks = StackFile(stacks_fd)
        self.stdout = stdout_reader
        self.stderr = stderr_reader
        self._theirs: socket.socket | None = theirs
        self._lent = (answers_writer, stdout_writer, stderr_writer)
        self.child_fds = WorkerFds(
            theirs.fileno(),
            claims_reader,
            answers_writer,
            doorbell,
            page_fd,
            store.arena.fd,
            stdout_writer,
            stderr_writer,
            stacks_fd,
            singles_reader,
        )

    def release_child_fds(self) -> None:
        """Close what only the worker should have; called when the fork was asked for."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
            for fd in self._lent:
                os.close(fd)

    def close(self) -> None:
        """Close everything; the process is gone."""
        self.closed = True
        self.loans.close()
        self.release_child_fds()
        self.bundles.close()
        self.inbound.close()
        self.page.close()
        self.stacks.close()
        for fd in (self.claims_reader, *self._singles, self.stdout, self.stderr):
            os.close(fd)
        if self.claims_writer is not None:
            os.close(self.claims_writer)
            self.claims_writer = None
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        for _, enclosure, _ in self._outbox:
            if enclosure is not None:
                enclosure.close()
        self._outbox.clear()
        self._troubled = None

    # ------------------------------------------------------------ giving and taking back

    def send(
        self, tasks: Sequence[Task], values_of: Callable[[Any], list[bytes | Stored] | None]
    ) -> list[Task]:
        """Give attempts to the worker, and return those for which a value is missing.

        values_of: the values of a task's top-level refs; None if one is lost. If a part has to wait
        until the socket takes more, `is_waiting` is true afterwards.
        """
        codes: list[tuple[int, bytes]] = []
        known: set[int] = set()
        attempts: list[tuple[Any, ...]] = []
        seqs: list[int] = []
        missing: list[Task] = []
        size = 0
        worker = tasks[0].worker
        assert worker is not None
        alone = len(tasks) == 1 and len(worker.in_flight) == 1
        alone = alone and not self.is_waiting and not self._is_to_unload
        devices, functions = worker.devices, worker.functions
        if devices and self.gpu_names is not None:
            devices = self.gpu_names(devices)
        for task in tasks:
            args, arguments = task.payload, task.arguments
            values: Sequence[Any] = ()
            weight = 64
            if arguments or type(args) is not bytes:
                found = values_of(arguments) if arguments else []
                if found is None:
                    missing.append(task)
                    continue
                args, *values = self.loans.lend(task.seq, (args, *found))
                weight += sum(len(value) + 8 for value in values if type(value) is bytes)
            if type(args) is bytes:
                weight += len(args)
            function = task.kind.function
            code = None
            if function.key not in functions and function.key not in known:
                code = function.code
                if code is not None:  # else it is a method, which the actor has
                    weight += len(code)
            if attempts and size + weight > MAX_PACKET:
                self._post((codes, attempts), seqs)
                codes, attempts, seqs, size = [], [], [], 0
            if code is not None:
                codes.append((function.key, code))
                self._codes.add(function.key)
                known.add(function.key)
            head = (task.seq, function.key, task.task_key, task.attempt, devices)
            if weight > MAX_PACKET:
                enclosure = Enclosure()
                enclose = enclosure.enclose
                attempt = (
                    head + task.kind.spec + (enclose(args), [enclose(value) for value in values])
                )
                message = [(key, enclose(code)) for key, code in codes], [attempt]
                self._post(message, [task.seq], enclosure)
                codes, size = [], 0
                continue
            attempts.append(head + task.kind.spec + (args, values))
            seqs.append(task.seq)
            size += weight
        if attempts and not (alone and self._send_single(codes, attempts[0])):
            self._post((codes, attempts), seqs)
            self._is_to_unload = False
        return missing

    def _send_single(self, codes: list[tuple[int, bytes]], attempt: tuple[Any, ...]) -> bool:
        """Give the worker an attempt and its claim in one packet; False if that takes more."""
        packet = marshal.dumps((codes, attempt))
        if len(packet) > SINGLE:
            return False
        self._single = packet
        try:
            os.write(self._singles[1], packet)
        except OSError:  # there is no memory for it
            return False
        self.inbound.sent_single(attempt[0])
        return True

    def unload(self, key: int) -> None:
        """Let the worker forget a function that nobody can call any more."""
        if key in self._codes:
            self._codes.discard(key)
            self._post(([key],), [])
            self._is_to_unload = True

    def cancel_call(self, seq: int) -> None:
        """Tell an actor that this call is cancelled."""
        self._post((seq,), [])

    @property
    def is_waiting(self) -> bool:
        """Return whether something waits: for `full`, or for better times if there is `trouble`."""
        return bool(self._outbox or self._claims)

    @property
    def full(self) -> int:
        """Return the descriptor that takes no more now."""
        if self._claims:
            assert self.claims_writer is not None
            return self.claims_writer
        return self.bundles.fileno()

    def reply(self, request: int, body: Any) -> None:
        """Answer what the worker has asked. body: what marshal takes."""
        self._post((request, body), [])

    def _post(self, message: Any, seqs: list[int], enclosure: Enclosure | None = None) -> None:
        self._outbox.append((*pack(message, enclosure), seqs))
        if len(self._outbox) == 1 and not self._claims:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as possible: `is_waiting` says whether something is left."""
        outbox = self._outbox
        self.trouble = None
        try:
            if self._claims:
                self._claim(self._claims)
            while outbox and not self._claims:
                packet, enclosure, seqs = outbox[0]
                send(self.bundles, packet, enclosure)
                self._nudged = False
                outbox.popleft()
                if seqs:
                    self._claim(struct.pack(f"<{len(seqs)}Q", *seqs))
        except BlockingIOError:
            self._nudge()
        except OSError as error:
            first = outbox[0] if outbox else None
            self.tries = self.tries + 1 if self._troubled is first else 1
            self.trouble, self._troubled = error, first

    def _claim(self, claims: bytes) -> None:
        assert self.claims_writer is not None
        try:
            written = os.write(self.claims_writer, claims)
        except BlockingIOError:
            written = 0
        self._claims = claims[written:]

    def drop_first(self) -> list[int]:
        """Give up what could not be sent, if that is attempts: which; else none, and it stays."""
        if not self._outbox or not self._outbox[0][2]:
            return []
        _, enclosure, seqs = self._outbox.popleft()
        if enclosure is not None:
            enclosure.close()
        for seq in seqs:
            self.loans.end(seq)
        return seqs

    def _nudge(self) -> None:
        """Have an idle worker read its packets: it looks at claims only, and gets none now."""
        if not self._nudged and self.claims_writer is not None:
            self._nudged = True
            with contextlib.suppress(BlockingIOError):  # full of claims: it is not idle
                os.write(self.claims_writer, CLAIM.pack(0))

    def _reclaim_single(self) -> list[int]:
        seqs: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                if os.read(self._singles[0], SINGLE) != self._single:
                    self.fault = "the pipe of singles: bytes that are no attempt"
                elif self.inbound.single:
                    seqs.append(self.inbound.single)
                    self.inbound.single = 0
        return seqs

    def reclaim(self) -> list[int]:
        """Take back every attempt that the worker has not claimed. The kernel decides.

        What is no claim there, nor a single, is a `fault`.
        """
        seqs = self._reclaim_single()
        while True:
            try:
                data = os.read(self.claims_reader, READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                break
            if len(data) % CLAIM.size:
                self.fault = "the claims pipe: bytes that are no claim"
            seqs.extend(_seqs_in(data))
        seqs.extend(_seqs_in(self._claims))
        self._claims = b""
        grants = []
        for packet, enclosure, waiting in self._outbox:
            if not waiting:
                grants.append((packet, enclosure, waiting))
            elif enclosure is not None:
                enclosure.close()
            seqs.extend(waiting)
        self._outbox.clear()
        self._outbox.extend(grants)
        if 0 in seqs:
            seqs = [seq for seq in seqs if seq]
            self._nudged = False
            if grants:
                self._nudge()
        for seq in seqs:
            self.loans.end(seq)
        return seqs

    # ------------------------------------------------------------ signals and the end

    def interrupt(self, seq: int) -> None:
        """Send SIGINT for this attempt, unless its function has got it already."""
        if self.page.order_interrupt(seq):
            self._signal(signal.SIGINT)

    def ask_stack(self) -> bool:
        """Have the worker write its stacks; False if it has not begun yet, or is dead."""
        if self.pidfd is None or self.closed or not self.stacks.is_ready():
            return False
        if self.stacks.expect():
            self._signal(STACK_SIGNAL)
        return True

    def stop(self) -> None:
        """Let the worker come to its end: there will be no more claims."""
        if self.claims_writer is not None:
            os.close(self.claims_writer)
            self.claims_writer = None

    def abort(self) -> None:
        """Send SIGABRT, at which the worker writes where it is; it may survive that."""
        self._signal(signal.SIGABRT)

    def kill(self) -> None:
        """Send SIGKILL; if the process is not forked yet, as soon as it is."""
        self.kill_ordered = True
        self._signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """Kill what the worker has started, when there is no template to do it."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)


def _seqs_in(claims: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"<{len(claims) // CLAIM.size}Q", claims)
