"""What process tests share: pipes to talk with tasks, loops to run on, drivers to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

import aioray

ROOT = Path(__file__).parents[2]
GUARD = 100.0  # seconds; a wait that lasts longer has failed, on any machine
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Pipe:
    """A named pipe between a test and its tasks; lines in either direction."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._have = b""

    def tell(self, text="go on"):
        """Let one task that listens go on."""
        os.write(self.fd, f"{text}\n".encode())

    def _line(self):
        with contextlib.suppress(BlockingIOError):
            self._have += os.read(self.fd, 65536)
        if b"\n" not in self._have:
            return None
        line, _, self._have = self._have.partition(b"\n")
        return line.decode()

    async def heard(self):
        """The next line that a task says."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(GUARD):
            while (line := self._line()) is None:
                readable = asyncio.Event()
                loop.add_reader(self.fd, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self.fd)
        return line

    def hear(self):
        """The same for tests without a loop."""
        while (line := self._line()) is None:
            ready, _, _ = select.select([self.fd], [], [], GUARD)
            assert ready, "nobody has said anything"
        return line

    def close(self):
        os.close(self.fd)


class Lifeline:
    """The reading end of a named pipe that processes keep open as long as they live."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def is_let_go(self):
        """Whether everybody who has had it is gone, after a bounded wait for that."""
        while True:
            ready, _, _ = select.select([self.fd], [], [], GUARD)
            if not ready:
                return False
            with contextlib.suppress(BlockingIOError):
                if not os.read(self.fd, 65536):
                    return True

    def close(self):
        os.close(self.fd)


def _runner(test, names, run):
    """A test function that asks for the fixtures of `test` and for `names`, and calls `run`."""

    @functools.wraps(test)
    def wrapper(**given):
        own = {name: given.pop(name) for name in names}
        run(test, given, **own)

    signature = inspect.signature(test)
    extra = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    wrapper.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *extra])
    del wrapper.__wrapped__
    return wrapper


async def _check_tasks(coroutine):
    await coroutine
    await asyncio.sleep(0)  # a task that was cancelled last needs a turn to end
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"asyncio tasks are left over: {left}"


def on_both_loops(test):
    """Run an async test on asyncio's loop and on uvloop; it may leave no asyncio task behind."""

    def run(body, given, loop_name):
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(_check_tasks(body(**given)))

    return pytest.mark.parametrize("loop_name", LOOPS)(_runner(test, ["loop_name"], run))


def everywhere(test=None, **settings):
    """Run an async test three times, within a session that is open when it starts.

    With an engine on its own loop, asyncio's and uvloop's, and with the engine of a plain script,
    which has a thread of its own: there every `await` crosses from loop to loop.
    """
    if test is None:
        return functools.partial(everywhere, **settings)
    settings = {"num_cpus": 2, **settings}

    async def in_engine(body, given):
        async with aioray.Engine(**settings):
            await body(**given)

    def run(body, given, session):
        if session == "script":
            aioray.init(**settings)
            try:
                asyncio.run(_check_tasks(body(**given)))
            finally:
                aioray.shutdown()
        else:
            with asyncio.Runner(loop_factory=LOOPS[session]) as runner:
                runner.run(_check_tasks(in_engine(body, given)))

    return pytest.mark.parametrize("session", [*LOOPS, "script"])(_runner(test, ["session"], run))


class Driver:
    """A script in a process of its own, so that something can happen to it."""

    def __init__(self, script, *arguments, before="", **popen):
        preamble = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        # Tests that are run in a shell's background would otherwise hand on SIGINT ignored.
        popen.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.process = subprocess.Popen(
            [sys.executable, "-c", preamble + before + script, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            **popen,
        )
        self.pid = self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self):
        """Wait for its end: exit status, stdout, stderr."""
        out, err = self.process.communicate(timeout=2 * GUARD)
        return self.process.returncode, out.decode(), err.decode()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


class Watch:
    """Processes, held by pidfds so that nobody is taken for somebody else."""

    def __init__(self, pids):
        self.fds = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self.fds[pid] = os.pidfd_open(pid)

    def survivors(self, seconds=GUARD):
        """Who is alive after a bounded wait for everybody's end."""
        alive = []
        for pid, fd in self.fds.items():
            ready, _, _ = select.select([fd], [], [], seconds)
            if not ready:
                alive.append(pid)
        return alive

    def close(self):
        for fd in self.fds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
