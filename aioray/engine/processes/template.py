"""The template process as the driver holds it: asked for forks, listened to for deaths.

Room: engine. Started by exec with `subprocess`, reaped by its pidfd; never by SIGCHLD, which
belongs to the host. What it says is described in `aioray.worker.template`.

The driver's own child is the template's guardian (`aioray.worker.guardian`), which ends last, and
in the way the template has. If one of the two has ended, the other is about to: it is killed only
if it is not in time, for it could not end any more what is below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from ...shared import packets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ...shared.wire import WorkerFds
    from .boot import TemplateLauncher

__all__ = ["TemplateProcess"]

TAIL = 8 * 1024  # bytes of its output that are kept to explain a failure
REAP_SECONDS = 2.0  # that each of the two has to kill and reap all below it; longer: it hangs


class TemplateProcess:
    """One template process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        boot: TemplateLauncher,
        settings: dict[str, Any],
        on_message: Callable[[TemplateProcess, dict[str, Any], int | None], None],
        on_end: Callable[[TemplateProcess], None],
        on_loss: Callable[[], None],
    ) -> None:
        """Take over a starting template and tell it its settings.

        on_loss: called when somebody has closed the engine's descriptors.
        Raises OSError; then the template is still its starter's.
        """
        self.loop = loop
        self.broken: str | None = None  # why it will never fork
        self._on_message = on_message
        self._on_end = on_end
        self._tail = b""
        self._ended = False
        self._left: asyncio.Future[None] | None = None  # done when it has left as it was told
        self.process = boot.process
        self.control: socket.socket = boot.control
        self._output = boot.output
        self._canary = boot.canary
        self._canary_writer = boot.canary_writer
        self.pid = self.process.pid  # the guardian's, until the template has said its own
        self._own_pidfd: int | None = None  # the template's
        self._patience: asyncio.TimerHandle | None = None  # with what should have ended
        os.set_blocking(self._output, False)
        self.control.setblocking(False)
        with contextlib.ExitStack() as stack:
            self.pidfd = os.pidfd_open(self.process.pid)  # not reaped yet, so it is this process
            stack.callback(os.close, self.pidfd)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end will be told
                self._say(settings)
            for source, callback in (
                (self.control, self.take_reports),
                (self._output, self._printed),
                (self.pidfd, self._exited),
                (self._canary, on_loss),
            ):
                loop.add_reader(source, callback)
                stack.callback(loop.remove_reader, source)
            stack.pop_all()
        boot.taken = True

    def fork(
        self, worker_id: int, hex_id: str, env: dict[str, Any], hook: bytes, fds: WorkerFds
    ) -> None:
        """Ask for a worker. Raises OSError if the request cannot be sent."""
        request = {"fork": worker_id, "worker_id": hex_id, "env": env, "hook": hook}
        self._say(request, fds, worker_id)

    def _say(self, message: dict[str, Any], fds: tuple[int, ...] = (), number: int = 0) -> None:
        packet, enclosure = packets.pack(message, number=number)
        try:
            packets.send(self.control, packet, enclosure, fds)
        finally:
            if enclosure is not None:
                enclosure.close()

    def tail(self) -> str:
        """Return the last lines that the template printed."""
        return self._tail.decode(errors="replace").strip()

    def take_reports(self) -> None:
        """Take what the template has said since, and notice that it has ended."""
        while True:
            fds: list[int] = []
            try:
                message, fds, _ = packets.receive(self.control, 1)
            except BlockingIOError:
                return
            except packets.Cut as cut:  # a report of a fork, without its pidfd
                message = cut.message
            except OSError:
                message = None
            if message is None:
                self.loop.remove_reader(self.control)
                self._one_has_ended()
                return
            if type(message) is not dict:  # its text is lost, not that there is one
                message = {"broken": "Why it does not work could not be received."}
            if "ready" in message:
                self.pid, self._own_pidfd = message["ready"], fds[0] if fds else None
                continue
            if "broken" in message:
                self.broken = message["broken"]
            self._on_message(self, message, fds[0] if fds else None)
            if self._ended:
                return

    def _printed(self) -> None:
        try:
            data = os.read(self._output, TAIL)
        except BlockingIOError:
            return
        if not data:
            self.loop.remove_reader(self._output)
        self._tail = (self._tail + data)[-TAIL:]

    def _exited(self) -> None:
        self.loop.remove_reader(self.pidfd)
        if self._left is not None:
            if not self._left.done():
                self._left.set_result(None)
            return
        self.take_reports()  # the last ones, before the end
        self._printed()
        if self._ended:
            return
        if self._own_pidfd is None or _has_ended(self._own_pidfd):
            self._all_has_ended()
        else:
            self._one_has_ended()
            self.loop.add_reader(self._own_pidfd, self._all_has_ended)

    def _one_has_ended(self) -> None:
        """Continue the other process, which may be stopped, and kill it if it does not end soon."""
        if self._patience is None and self._left is None and not self._ended:
            self._signal_both(signal.SIGCONT)
            self._patience = self.loop.call_later(REAP_SECONDS, self._signal_both, signal.SIGKILL)

    def _all_has_ended(self) -> None:
        if self._own_pidfd is not None:
            self.loop.remove_reader(self._own_pidfd)
        self.process.wait()
        self._on_end(self)

    def _signal_both(self, number: int) -> None:
        for fd in (self._own_pidfd, self.pidfd):
            if fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)

    async def leave(self) -> None:
        """Tell the template to end with all that it forked, and wait without blocking the loop."""
        if self._ended or self._left is not None:
            return
        self._left = self.loop.create_future()
        self.loop.remove_reader(self.control)
        self._say_leave()
        self.control.close()
        await asyncio.wait([self._left], timeout=REAP_SECONDS)

    def _say_leave(self) -> None:
        with contextlib.suppress(OSError):  # it is dead already
            self._say({"leave": True})

    def close(self) -> None:
        """End the template with all that it forked, and reap it; a matter of milliseconds."""
        if self._ended:
            return
        self._ended = True
        if not self.loop.is_closed():
            for source in (self._output, self.pidfd, self._canary):
                self.loop.remove_reader(source)
            if self._left is None:
                self.loop.remove_reader(self.control)
            if self._own_pidfd is not None:
                self.loop.remove_reader(self._own_pidfd)
        if self._patience is not None:
            self._patience.cancel()
        if self._left is None:
            self._say_leave()
        self.control.close()
        self._signal_both(signal.SIGCONT)
        deadline = time.monotonic() + REAP_SECONDS
        for fd in (self._own_pidfd, self.pidfd):  # in this order: the other one ends what is left
            if fd is not None:
                if not _has_ended(fd, max(0.0, deadline - time.monotonic())):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                    deadline = time.monotonic() + REAP_SECONDS
                if fd is not self.pidfd:
                    os.close(fd)
        self.process.wait()
        for fd in (self._output, self.pidfd, self._canary, self._canary_writer):
            os.close(fd)

    def after_fork_in_child(self) -> None:
        """Close the canary in a forked process, which may live on when it is to be heard."""
        os.close(self._canary_writer)

    def death(self) -> str:
        """Say how the template ended."""
        code = self.process.returncode
        how = (
            f"was killed by signal {-code}"
            if code is not None and code < 0
            else f"exited with {code}"
        )
        printed = f" Its last output:\n{self.tail()}" if self.tail() else ""
        return f"The template process, which forks the workers, {how}.{printed}"


def _has_ended(pidfd: int, seconds: float = 0.0) -> bool:
    """Tell whether a process has ended, or does so in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
