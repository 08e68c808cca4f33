"""Starts the interpreter of a template process, before anything else of the engine is there.

Room: engine; light: no asyncio, nothing else of the engine. It
takes a template about as long to come up as it takes the driver to import asyncio and the engine,
so `init()` starts the one before the other, and tells it at once what there is to prepare: it
imports what users want preloaded while the driver imports the engine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from typing import Any

from ...compat import alias as ray_alias
from ...shared import linux, packets

__all__ = ["TemplateLauncher"]

SMALL = 4096  # characters of a variable, of which there is always room for some

_CODE = (
    "import gc, sys; gc.disable(); sys.path[:] = {path!r}; "
    "from aioray.worker.template import main; main({control}, {driver}, {canary})"
)


class TemplateLauncher:
    """A starting template: its process, the socket to it, and the pipe that it prints to.

    And a canary: a pipe that nobody writes to. This process has the only writing end, so reading
    comes to an end when somebody closes that, and the other descriptors of the engine with it. The
    guardian has the reading end too, else nobody here would be told after that was closed as well.
    """

    def __init__(
        self, env_vars: tuple[tuple[str, str], ...] = (), preload: tuple[str, ...] = ()
    ) -> None:
        """Start the template, `env_vars` added to this process's. Raises OSError if that fails.

        preload: modules that it is to import.
        """
        linux.fill_standard_descriptors()  # which the template is to have too
        environ = {**os.environ, **dict(env_vars)}
        # If the user has not, workers set it to the CPUs that a task has reserved, as in Ray.
        sets_threads = "OMP_NUM_THREADS" not in environ
        environ.setdefault("OMP_NUM_THREADS", "1")
        self.taken = False  # whoever took it ends it
        # Absolute, as workers may change their directory; an entry may also be no path at all.
        sys_path = [
            os.path.abspath(path) if os.path.exists(path or ".") else path for path in sys.path
        ]
        with contextlib.ExitStack() as stack:
            self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(self.control.close)
            self.canary, self.canary_writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, self.canary)
            stack.callback(os.close, self.canary_writer)
            self.output, writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, self.output)
            with theirs, contextlib.ExitStack() as lent:
                lent.callback(os.close, writer)
                driver = os.pidfd_open(os.getpid())
                lent.callback(os.close, driver)
                code = _CODE.format(
                    path=sys_path,
                    control=theirs.fileno(),
                    driver=driver,
                    canary=self.canary,
                )
                command = [sys.executable, "-P", *_interpreter_flags(), "-c", code]
                fds = theirs.fileno(), driver, self.canary
                try:
                    self.process = _start(command, writer, fds, environ)
                except OSError as error:
                    if error.errno != errno.E2BIG:
                        raise
                    # What is too large for a new program it sets itself, when it is told.
                    small = {name: value for name, value in env_vars if len(value) < SMALL}
                    environ = {"OMP_NUM_THREADS": "1", **os.environ, **small}
                    self.process = _start(command, writer, fds, environ)
            stack.pop_all()
        try:
            self._prepare(
                {
                    "sys_path": sys_path,
                    "sets_threads": sets_threads,
                    "env_vars": dict(env_vars),
                    "ray_alias": ray_alias.installed(),
                    "inherits_alias": ray_alias.is_inherited(),
                    "preload": list(preload),
                }
            )
        except BaseException:
            self.abandon()
            raise

    def _prepare(self, what: dict[str, Any]) -> None:
        """Say what to prepare, see `aioray.worker.template`."""
        packet, enclosure = packets.pack(what)
        try:
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # whoever waits is told
                packets.send(self.control, packet, enclosure)
        finally:
            if enclosure is not None:
                enclosure.close()

    def abandon(self) -> None:
        """End the template, unless somebody has taken it over: its engine did not start."""
        if self.taken:
            return
        self.taken = True
        self.control.close()
        for fd in (self.output, self.canary, self.canary_writer):
            os.close(fd)
        self.process.kill()
        self.process.wait()


def _start(
    command: list[str], output: int, fds: tuple[int, ...], environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=fds,
        start_new_session=True,
        env=environ,
    )


def _interpreter_flags() -> list[str]:
    """Return the flags of this interpreter that its children should have too."""
    flags = [f"-W{option}" for option in sys.warnoptions]
    for option, value in sys._xoptions.items():
        if option not in ("frozen_modules", "importtime", "perf"):
            flags.append(f"-X{option}" if value is True else f"-X{option}={value}")
    flags.extend(["-O"] * sys.flags.optimize)
    if sys.flags.dont_write_bytecode:
        flags.append("-B")
    return flags
