"""The template process: forks a worker per request, reaps it, and outlives nobody.

Room: worker. Started once per engine by exec, never by a fork of the driver, so it is clean and has
one thread; a fork of it is a worker five milliseconds later. It imports what workers need and what
the user asked to preload, then waits for four things: requests from the driver, the end of a
child, the end of the driver, and that of its parent, the guardian.

Requests and reports are dicts, sent as `packets` does it, with descriptors attached.
Driver to template: first what to prepare, as `aioray.engine.processes.boot` says it; then, when the
driver has loaded the engine, the session's settings; then {"fork": id, "worker_id", "env", "hook"}
with `wire.WorkerFds`, at last {"leave"}.
Template to driver: {"ready": pid} with its pidfd, or {"broken"} with the text of what went wrong
in a preload; {"forked": id, "pid"} with a pidfd, or {"failed": id, "reason", "errno"};
{"exited": id, "status"} after the worker was reaped.

Nothing is left behind: workers die with the template (parent-death signal), and it ends everything
when the driver's pidfd or the guardian's says so, or the socket is closed. Orphans of a dead worker
come to the template, which is a sub-reaper, and every child that is not a worker is killed. Who
does that if it is the template that is killed, see `guardian`.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import marshal
import os
import select
import signal
import socket
import sys
import warnings
from typing import Any, NoReturn

import setproctitle

from ..compat import alias as ray_alias
from ..shared import linux, packets
from ..shared.wire import WorkerFds
from . import ending, guardian
from . import main as worker

__all__ = ["main"]

IDLE_MS = 100  # without a request after the first, until what workers need later is imported
# That is: when a task fails, makes an actor, returns much, or calls the API. What it loads is the
# same for all workers, and they share its pages. None of it knows options, the core or the engine.
LATER: tuple[str, ...] = (
    "aioray.shared.failures",
    "aioray.shared.asks",
    "aioray.worker.actor.instance",
    "aioray.worker.client",
    "aioray.remote_function",
    "aioray.actor",
)


class Broken(Exception):  # noqa: N818  # told, and raised no further
    """There can be no workers, for the reason that it gives."""


class Template:
    """One template process."""

    def __init__(
        self, control: socket.socket, driver: int, ward: guardian.Ward, on_hangup: Any
    ) -> None:
        self.control = control
        self.driver = driver  # pidfd
        self.guardian = ward
        self.on_hangup = on_hangup  # what workers do at SIGHUP
        self.pid = os.getpid()
        self.worker_by_pid: dict[int, int] = {}
        self.settings: dict[str, Any] = {}
        self.has_session = False  # they are complete
        self.niceness = 0
        self.driver_is_gone = False
        self.wake_reader, self.wake_writer = os.pipe()
        for fd in (self.wake_reader, self.wake_writer):
            os.set_blocking(fd, False)

    # -- talking to the driver

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Report something; if nobody listens any more, the next poll says so. Raises OSError."""
        packet, enclosure = packets.pack(message)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            packets.send(self.control, packet, enclosure, fds)

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """Receive the next message with its descriptors; None at the end."""
        try:
            message, fds, _ = packets.receive(self.control, len(WorkerFds._fields))
        except packets.Cut as cut:  # a request for a fork: no other has descriptors
            return {"cut": _number_of(cut.message)}, []
        return message, fds

    # -- life

    def run(self) -> None:
        """Prepare, then serve until the driver is gone."""
        first, _ = self.receive()
        if first is None:
            return
        self.settings = first
        try:
            self.prepare()
        except Broken as broken:
            self.send({"broken": str(broken)})
            self.drain_until_closed()
            return
        if not self.has_session:
            session, _ = self.receive()
            if session is None:
                return
            self.begin(session)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        own = os.pidfd_open(self.pid)
        self.send({"ready": self.pid}, (own,))
        os.close(own)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.driver, select.POLLIN)
        poll.register(self.guardian.pidfd, select.POLLIN)
        poll.register(self.wake_reader, select.POLLIN)
        linux.die_with_parent(0, self.guardian.pid)  # but do what it would have done
        later = list(LATER)
        patience: float | None = None  # the first worker is waited for by somebody
        while True:
            ready = {fd for fd, _ in poll.poll(patience)}
            if not ready:  # time to spare, so import, but not all at once: nobody is to wait long
                try:
                    importlib.import_module(later.pop(0))
                except (OSError, ImportError):  # no descriptor, no memory: workers try themselves
                    later.clear()
                gc.freeze()
                patience = 0 if later else None
                continue
            patience = IDLE_MS if later else None
            if self.driver in ready:
                self.driver_is_gone = True
                return
            if self.guardian.pidfd in ready:
                return
            if self.wake_reader in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake_reader, 4096)
                self.reap()
            if self.control.fileno() in ready:
                message, fds = self.receive()
                if message is None:
                    self.driver_is_gone = True
                    return
                if "leave" in message:
                    return
                if "cut" in message:
                    self.failed(message["cut"], OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                else:
                    self.fork(message, WorkerFds(*fds))

    def prepare(self) -> None:
        """Do what can be done before the driver has loaded the engine. Raises Broken."""
        settings = self.settings
        ending.note_own_modules()
        os.environ.update(settings["env_vars"])
        sys.path[:] = settings["sys_path"]
        if settings["ray_alias"]:
            ray_alias.install(inherit=settings["inherits_alias"])
        wished = os.environ.get("RAY_worker_niceness") or "0"  # noqa: SIM112
        try:
            self.niceness = int(wished)
        except ValueError:
            raise Broken(f"RAY_worker_niceness is no whole number: {wished!r}.") from None
        for module in settings["preload"]:
            self.look_for_session()
            try:
                importlib.import_module(module)
            except BaseException:  # noqa: BLE001 - SystemExit too: whatever a module does when imported
                import traceback

                text = f"Preloading the module {module!r} failed:\n{traceback.format_exc()}"
                raise Broken(text) from None
        worker.prepare()
        gc.freeze()  # workers share these pages; collecting would copy them

    def look_for_session(self) -> None:
        """Take the session's settings if they have come, so that the guardian learns its folders.

        A preload that takes long is no time in which a killed driver would leave them.
        """
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        if not self.has_session and poll.poll(0):
            session, _ = self.receive()
            if session is not None:  # else it is found out when it is waited for
                self.begin(session)

    def begin(self, session: dict[str, Any]) -> None:
        """Take the session's settings, and tell the guardian what is the driver's to clear."""
        self.settings |= session
        self.has_session = True
        with contextlib.suppress(OSError):  # it has just been killed
            os.write(self.guardian.folders, marshal.dumps(self.folders()))
        os.close(self.guardian.folders)

    def drain_until_closed(self) -> None:
        """Stay until the driver has read why nothing works: it must see a reason, not a death."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.driver, select.POLLIN)
        while True:
            if self.driver in {fd for fd, _ in poll.poll()}:
                return
            message, fds = self.receive()
            for fd in fds:
                os.close(fd)
            if message is None:
                return
            if "folder" in message:
                self.begin(message)

    def fork(self, request: dict[str, Any], fds: WorkerFds) -> None:
        """Fork a worker and report its pid, or why there is none."""
        worker_id: int = request["fork"]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a preload may own threads
                pid = os.fork()
        except OSError as error:
            for fd in fds:
                os.close(fd)
            self.failed(worker_id, error, "fork: ")
            return
        if pid == 0:
            self.become_worker(request, fds)
        for fd in fds:
            os.close(fd)
        self.worker_by_pid[pid] = worker_id
        try:
            pidfd = os.pidfd_open(pid)
            try:
                self.send({"forked": worker_id, "pid": pid}, (pidfd,))
            finally:
                os.close(pidfd)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
            self.failed(worker_id, error, "its pidfd: ")

    def failed(self, worker_id: int, error: OSError, where: str = "") -> None:
        """Report that there is no such worker."""
        reason = f"{where}{error}, in the template process"
        self.send({"failed": worker_id, "reason": reason, "errno": error.errno})

    def become_worker(self, request: dict[str, Any], fds: WorkerFds) -> NoReturn:
        """Let go of all that is the template's, in the forked child, then work."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, self.on_hangup)
        if not linux.die_with_parent(signal.SIGKILL, self.pid):
            os._exit(0)
        os.setpgid(0, 0)
        linux.become_subreaper()
        linux.no_core_dumps()
        self.control.close()
        os.close(self.driver)
        os.close(self.guardian.pidfd)
        os.close(self.wake_reader)
        os.close(self.wake_writer)
        env = request["env"]
        if self.niceness:
            with contextlib.suppress(PermissionError):  # of less than nothing, for others than root
                os.nice(self.niceness)
        os.environ.update(env.get("env_vars", {}))
        if self.settings["ray_alias"] and self.settings["inherits_alias"]:
            ray_alias.hand_on()  # they may have another PYTHONPATH
        worker.main(fds, self.settings, request["worker_id"], env, request["hook"])

    def reap(self) -> None:
        """Reap whoever has ended, and kill what a dead worker leaves."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            except ChildProcessError:
                return
            if found is None:
                break
            pid = found.si_pid
            if pid in self.worker_by_pid:
                # Not reaped yet, so the group's number cannot have been given to anyone else.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            worker_id = self.worker_by_pid.pop(pid, None)
            if worker_id is not None:
                report = {"exited": worker_id, "status": status, "max_rss_kb": usage.ru_maxrss}
                with contextlib.suppress(OSError):  # its death is known without
                    self.send(report)
        linux.kill_children(spare=self.worker_by_pid)  # what dead workers have left

    def folders(self) -> list[str]:
        """List the folders to be cleared if the driver cannot."""
        return list({self.settings["folder"], os.path.dirname(self.settings["objects"])})

    def end(self) -> None:
        """Kill and reap everything below this process."""
        signal.set_wakeup_fd(-1)
        linux.end_children()
        if self.driver_is_gone:
            if self.has_session:
                guardian.clear_folders(self.folders())
            # There is nothing left for it to do, and it may have been stopped.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.guardian.pidfd, signal.SIGKILL)


def _number_of(request: Any) -> int:
    """Return the worker that a request was for which has lost its descriptors."""
    number: int = request["fork"] if type(request) is dict else request
    return number


def main(control_fd: int, driver_fd: int, canary: int) -> None:
    """Be the template: `control_fd` is the socket to the driver, `driver_fd` its pidfd.

    canary: what the guardian is to keep open for the driver, see `aioray.engine.processes.boot`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The kernel sends it to who is stopped when the parent ends.
    on_hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.set_inheritable(control_fd, False)
    os.set_inheritable(driver_fd, False)
    linux.become_subreaper()
    control = socket.socket(fileno=control_fd)
    gc.freeze()  # so that no collection copies what the two and all workers share
    ward = guardian.part(driver_fd, control)
    os.close(canary)
    gc.enable()  # which the code that starts it has disabled
    setproctitle.setproctitle("aioray::template")
    template = Template(control, driver_fd, ward, on_hangup)
    try:
        template.run()
    finally:
        if os.getpid() == template.pid:
            template.end()
    ending.end_template()
