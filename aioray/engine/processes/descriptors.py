"""What is left to do when somebody has closed the engine's descriptors: nothing, but that cleanly.

Room: engine. Old code that makes a daemon closes whatever is open, by `os.closerange(3, …)`, also
after `init()`. Then the numbers that the engine, its loop and libuv know may stand for files of the
program: nothing may be written to them, nor closed, at the end of the interpreter either; and libuv
aborts at the next look. So all waiting is answered with an error, the objects that own numbers are
never freed, and threads of the engine's own stay where they are.

It is noticed at once by the canary (`aioray.engine.processes.boot`), and whoever calls from another
thread looks. What cannot be helped is a thread that is in the middle of it: libuv aborts if it is
just about to look, and what was opened for a moment (a module, the history) is closed by its
number.
"""

from __future__ import annotations

import ctypes
import os
import random
import threading
from typing import NoReturn

from ...exceptions import RaySystemError

__all__ = ["TEXT", "DescriptorsClosedError", "Sentinel", "leak", "park"]

TEXT = (
    "Somebody has closed the descriptors of the engine in this process, as os.closerange() does, "
    "and with them the way to its workers, which have ended. A program that becomes a daemon must "
    "close what it does not want before init(). After shutdown(), init() starts a new session."
)


_lseek, _HERE = os.lseek, os.SEEK_CUR


class DescriptorsClosedError(RaySystemError, RuntimeError):
    """The engine can do nothing more; also what it is when a loop is closed."""

    def __init__(self) -> None:
        super().__init__(TEXT)


class Sentinel:
    """A memory file that tells by its position whether the descriptor is still its own.

    Nothing may read, write or seek there. It is asked after each event, and `fstat` takes three
    times as long.
    """

    __slots__ = ("_fd", "_position")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = random.getrandbits(40) | 1 << 40  # no other file stands there
        os.lseek(fd, self._position, os.SEEK_SET)

    def is_intact(self) -> bool:
        """Tell whether nobody has closed the memory file, or put another file in its place."""
        try:
            return _lseek(self._fd, 0, _HERE) == self._position
        except OSError:
            return False


def leak(*things: object) -> None:
    """See to it that these objects are never freed, nor what they refer to."""
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def park() -> NoReturn:
    """Hold this thread, a daemon, for ever."""
    while True:
        threading.Event().wait()
