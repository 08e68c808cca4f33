"""The guardian: the process between driver and template, which outlives both to end what is below.

Room: worker. It is forked off the template when that has imported what it needs, shares all of that
memory, and from then on only waits for two things: the end of the template, and the end of the
driver. Then it kills and reaps everything below itself, and ends as the template has ended. So
whoever waits for it knows that nothing is left.

It and the template guard each other. Both are sub-reapers and watch the driver, and the template
watches the guardian: whichever of them is killed or stopped, with or without the driver, the other
ends everything. What a killed worker has started comes to the template; what a killed template has
left, to the guardian. Only if both are killed at once nobody is there for what has left its
worker's process group; and what has become another user's may not be killed by anybody here.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
from typing import TYPE_CHECKING, NoReturn

import setproctitle

from ..core.records import NamedTuple
from ..shared import linux

if TYPE_CHECKING:
    import socket

__all__ = ["Ward", "clear_folders", "part"]

LEAVE_MS = 2_000  # that the template has to end everything itself when the driver is gone


class Ward(NamedTuple):
    """What the template holds of its guardian."""

    pid: int
    pidfd: int
    folders: int  # pipe on which it tells what is to be cleared when the driver is gone


def part(driver: int, control: socket.socket) -> Ward:
    """Fork: the parent becomes the guardian, and never returns; the child goes on.

    driver: its pidfd, which both keep. control: of the child, whose end it must tell.
    """
    pid = os.getpid()
    pidfd = os.pidfd_open(pid)
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        os.close(pidfd)
        control.close()
        _guard(child, driver, reader)
    os.close(reader)
    # As long as it does not watch the guardian itself.
    if not linux.die_with_parent(signal.SIGKILL, pid):
        os._exit(0)
    os.setpgid(0, 0)  # a kill of the one's group spares the other
    linux.become_subreaper()
    return Ward(pid, pidfd, writer)


def clear_folders(folders: list[str]) -> None:
    """Remove what a driver that was killed has left on disk."""
    from ..state.folders import clear

    for folder in folders:
        clear(folder)


def _guard(template: int, driver: int, folders: int) -> NoReturn:
    """Wait for the end of the template or the driver, and end everything."""
    status = 1
    try:
        setproctitle.setproctitle("aioray::guardian")
        pidfd = os.pidfd_open(template)  # not reaped yet, so it is this process
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(driver, select.POLLIN)
        ended = {fd for fd, _ in poll.poll()}
        if driver in ended and pidfd not in ended:
            # It has seen that too, unless somebody has stopped it.
            os.kill(template, signal.SIGCONT)
            poll.unregister(driver)
            poll.poll(LEAVE_MS)
        status = linux.end_children().get(template, 1)
        if driver in ended:
            with contextlib.suppress(EOFError, ValueError):
                clear_folders(marshal.loads(os.read(folders, 64 * 1024)))
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)
            linux.no_core_dumps()
            os.kill(os.getpid(), number)
    finally:
        os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
