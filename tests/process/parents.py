"""Tasks and actors that start processes which start others; imported in workers by name."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from typing import Any

from .jobs import FOREVER

ENDING = [sys.executable, "-S", "-c", "raise SystemExit(7)"]


def fork_twice(how="ends"):
    """What daemons do; the pid of the second, which ends at once, or not."""
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        second = os.fork()
        if second == 0:
            os.close(writer)
            if how != "ends":
                time.sleep(FOREVER)
            os._exit(0)
        os.write(writer, str(second).encode())
        os._exit(3)
    os.close(writer)
    with os.fdopen(reader) as answer:
        second = int(answer.read())
    return first, second


def daemonize(way):
    """Leave an orphan behind that ends at once; the pid of this process."""
    if way == "fork":
        first, _ = fork_twice()
        assert os.wait() == (first, 3 << 8)
    elif way == "shell":
        subprocess.run(["sh", "-c", "true &"], check=True)
    elif way == "system":
        assert os.system("/bin/true &") == 0  # executed, unlike what a shell does itself
    return os.getpid()


def wait_in_all_ways():
    """What is said of children while an orphan lives that ended and one that goes on."""
    ends, _ = fork_twice()
    goes_on, orphan = fork_twice("goes on")
    assert {os.waitpid(goes_on, 0), os.wait()} == {(ends, 3 << 8), (goes_on, 3 << 8)}
    found: list[Any] = []
    for ask in (
        os.wait,
        lambda: os.waitpid(-1, 0),
        lambda: os.waitpid(-1, os.WNOHANG),
        lambda: os.wait3(0),
        lambda: os.wait4(-1, 0),
        lambda: os.waitid(os.P_ALL, 0, os.WEXITED),
    ):
        try:
            ask()
        except ChildProcessError as error:
            found.append(error.errno)
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", "input()"], os.environ)
    os.kill(pid, 19)  # SIGSTOP: it lives, whatever its stdin is
    found += [os.waitpid(-1, os.WNOHANG), os.wait3(os.WNOHANG)[:2]]
    found.append(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG))
    os.kill(pid, 9)
    found.append(os.wait4(-1, 0)[:2] == (pid, 9))
    os.kill(orphan, 9)
    return found


class Parent:
    """Keeps children that have ended, and asks for their statuses only when it is told to."""

    def pid(self):
        return os.getpid()

    def keep(self):
        self.popen = subprocess.Popen(ENDING)
        self.spawned = os.posix_spawn(ENDING[0], ENDING, os.environ)
        self.forked = os.fork()
        if self.forked == 0:
            os._exit(7)
        self.process = multiprocessing.get_context("fork").Process(target=os._exit, args=(7,))
        self.process.start()
        return [self.popen.pid, self.spawned, self.forked, self.process.pid]

    def daemonize(self, way):
        return daemonize(way) if way != "fork" else self.fork_twice()

    def fork_twice(self):
        first, _ = fork_twice()
        assert os.waitpid(first, 0) == (first, 3 << 8)

    def statuses(self):
        self.process.join()
        return [
            self.popen.wait(),
            os.waitstatus_to_exitcode(os.waitpid(self.spawned, 0)[1]),
            os.waitstatus_to_exitcode(os.waitpid(self.forked, 0)[1]),
            self.process.exitcode,
        ]


class AsyncParent(Parent):
    """The same on an event loop."""

    async def keep(self):
        self.child = await asyncio.create_subprocess_exec(*ENDING)
        return [self.child.pid, *super().keep()]

    async def statuses(self):
        assert await self.child.wait() == 7
        return super().statuses()
