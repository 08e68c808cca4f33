"""Reaps what a worker inherits, and nothing that the user's code has started.

Room: worker. A worker is a sub-reaper, so that its end takes along what its tasks have started: the
orphans of their processes become its children, and zombies when they end. Somebody has to collect
those, but a child that user code has started is that code's own: it wants the exit status.

Which is which, the kernel does not tell. So the pids are noted of all that Python code starts here,
and everything else is an orphan, unless a C library has started it, which then waits for it, too. A
zombie is therefore left alone for a while: a longer one for a program that was executed, which is
what libraries start; a short one for a process that was only forked, like most daemons.

Nothing is looked at in a process that has never started one. Then it is when the next one is
started, after an attempt, and in an idle worker now and then, as long as it has children. No
thread (a fork would warn of it) and no handler of SIGCHLD (that is the user's). `os.wait` and its
kin, asked for any child, do what they would do in a process that inherits nothing.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import threading
import time
from typing import TYPE_CHECKING, Any

from ..shared import linux

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replacements import Replacements

__all__ = ["Family", "family", "install", "wrap"]

FORKED_SECONDS = 0.05  # that a zombie is left alone which was forked and has executed nothing
EXECUTED_SECONDS = 2.0  # that another one is
PAUSE = 0.05  # seconds between two looks; in an idle process twice as many each time
LONGEST_PAUSE = 1.0  # seconds

_PF_FORKNOEXEC = 0x40  # include/linux/sched.h
_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
_OTHER_NEWS = os.WUNTRACED | os.WCONTINUED | os.WSTOPPED

_wait4, _waitid, _waitpid = os.wait4, os.waitid, os.waitpid


class Family:
    """The children of this process."""

    def __init__(self) -> None:
        self.has_begun = False  # something was started: there may be orphans
        self.wake: Callable[[], None] | None = None  # lets somebody idle look; None: nobody is
        self._own: set[int] = set()  # started here; some may have been waited for
        self._starting: list[None] = []  # one for each call that starts something right now
        self._ended: dict[int, float] = {}  # by pid of zombies that are nobody's: since when seen
        self._next_look = 0.0
        self._pause = PAUSE
        self._looking = threading.Lock()

    def after_fork_in_child(self) -> None:
        """Begin anew, in a process that a task has forked, which inherits nothing."""
        self.__init__()  # type: ignore[misc]

    # -- starting

    def starts(
        self, function: Callable[..., Any], pid_of: Callable[[Any], int]
    ) -> Callable[..., Any]:
        """Wrap a function such that what it starts is noted."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            starting = self._starting
            starting.append(None)
            try:
                result = function(*args, **kwargs)
                pid = pid_of(result)
                if pid:
                    self._own.add(pid)  # before it is not starting any more
            finally:
                if starting:  # not in the child
                    starting.pop()
            if pid:
                self._started()
            return result

        return wrapper

    def may_start(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that waits itself for what it starts; orphans are looked for then."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self._started()
            return result

        return wrapper

    def _started(self) -> None:
        self.has_begun = True
        self._pause = PAUSE
        self.reap_again()
        if self.wake is not None:
            self.wake()

    # -- looking

    def reap_again(self) -> None:
        """Look for orphans, unless somebody just has."""
        if time.monotonic() >= self._next_look:
            self.reap()

    def reap(self) -> float | None:
        """Reap orphans; return after how many seconds to look again, None: if something starts."""
        if not self.has_begun:
            return None
        if not self._looking.acquire(blocking=False):
            return PAUSE
        try:
            now = time.monotonic()
            self._next_look = now + PAUSE
            there_are = linux.children()  # of the main thread, to which orphans come
            if self._starting:
                return PAUSE  # one of them may be nobody's only because it is not noted yet
            seen: dict[int, float] = {}
            for pid in there_are:
                if pid not in self._own and self._has_ended(pid):
                    since = self._ended.get(pid, now)
                    if now - since < _patience(pid):
                        seen[pid] = since
                    else:
                        self._reap(pid)
            self._ended = seen
            self._own -= {pid for pid in self._own.copy() if self._has_ended(pid) is None}
            if not there_are and not self._own:
                return None  # nobody is left who could leave one
            pause = PAUSE if seen else self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return pause
        finally:
            self._looking.release()

    @staticmethod
    def _has_ended(pid: int) -> bool | None:
        """Tell whether this child is a zombie; None if it is no child, or no longer."""
        try:
            return _waitid(os.P_PID, pid, _ENDED) is not None
        except ChildProcessError:
            return None

    @staticmethod
    def _reap(pid: int) -> None:
        with contextlib.suppress(ChildProcessError):
            _waitpid(pid, os.WNOHANG)

    # -- waiting for any child

    def next_ended(self, options: int) -> int:
        """Wait for the end of a child that was started here; return its pid.

        0: none has ended, and `options` say not to wait. -1: this cannot say. ChildProcessError.
        """
        if not self.has_begun or options & _OTHER_NEWS:
            return -1
        while True:
            ended = {pid: self._has_ended(pid) for pid in self._own.copy()}
            children = [pid for pid, has_ended in ended.items() if has_ended is not None]
            for pid in children:
                if ended[pid]:
                    return pid
            if not children and not self._starting:
                raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
            if options & os.WNOHANG:
                return 0
            found = _waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            if self._starting:
                time.sleep(0)  # by another thread, which is to note it
            elif found is not None and found.si_pid not in self._own:
                self._reap(found.si_pid)


def _patience(pid: int) -> float:
    """Return how many seconds a zombie is left alone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            flags = int(file.read().rpartition(b")")[2].split()[6])
    except OSError:
        return EXECUTED_SECONDS
    return FORKED_SECONDS if flags & _PF_FORKNOEXEC else EXECUTED_SECONDS


family = Family()


def wrap(functions: Replacements) -> None:
    """Have functions that start processes note these, and those that wait for any skip orphans."""
    for name in ("fork", "posix_spawn", "posix_spawnp"):
        functions.wrap("os", name, functools.partial(family.starts, pid_of=lambda pid: pid))
    functions.wrap("os", "forkpty", functools.partial(family.starts, pid_of=lambda pair: pair[0]))
    functions.wrap("os", "system", family.may_start)
    functions.wrap(
        "_posixsubprocess", "fork_exec", functools.partial(family.starts, pid_of=lambda pid: pid)
    )
    for function in (wait, wait3, wait4, waitid, waitpid):
        functions.wrap("os", function.__name__, functools.partial(_instead, function))


def install() -> None:
    """Inherit nothing in processes that tasks fork."""
    os.register_at_fork(after_in_child=family.after_fork_in_child)


def _instead(function: Callable[..., Any], _: Callable[..., Any]) -> Callable[..., Any]:
    return function


def wait() -> tuple[int, int]:  # what follows is documented where it is wrapped
    return waitpid(-1, 0)


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    found = family.next_ended(options) if pid == -1 else -1
    return (0, 0) if found == 0 else _waitpid(pid if found < 0 else found, options)


def wait3(options: int) -> tuple[int, int, Any]:
    return wait4(-1, options)


def wait4(pid: int, options: int) -> tuple[int, int, Any]:
    found = family.next_ended(options) if pid == -1 else -1
    if found == 0:
        return 0, 0, resource.struct_rusage((0.0, 0.0, *[0] * 14))
    return _wait4(pid if found < 0 else found, options)


def waitid(idtype: int, ident: int, options: int, /) -> Any:
    if idtype != os.P_ALL or not options & os.WEXITED:
        return _waitid(idtype, ident, options)
    found = family.next_ended(options)
    if found == 0:
        return None
    return _waitid(idtype, ident, options) if found < 0 else _waitid(os.P_PID, found, options)
