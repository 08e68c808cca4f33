"""Cgroups of workers whose tasks have a memory limit, so that the kernel minds it too.

Room: engine. Only of version 2, and only where the driver may make some: below its own cgroup, or
beside it if what is above belongs to the same user, as where systemd delegates. Everywhere else
there are none, and looking now and then has to do.

This is for what takes memory faster than anybody can look. The kernel counts more than `watch`
does: also what a task writes into the object store. So what is set here is the limit and the size
of the store.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MemoryCgroups"]


class MemoryCgroups:
    """Makes a cgroup for each worker that needs one, and takes it away again."""

    def __init__(self, spare: int, proc: str = "/proc", root: str = "/sys/fs/cgroup") -> None:
        """Make none yet. spare: bytes beyond a limit that the kernel is to allow."""
        self._spare = spare
        self._proc = proc
        self._root = root
        self._parent: str | None = None  # in which they are made; empty: nowhere
        self._kills: dict[int, int] = {}  # by worker id: how many there were when it began

    def _folder(self, worker_id: int) -> str:
        return f"{self._parent}/aioray-{os.getpid()}-{worker_id}"

    def _find_parent(self) -> str:
        """Return a folder in which cgroups can be made whose memory is counted, or nothing."""
        for folder in self._candidates():
            with contextlib.suppress(OSError):
                if b"memory" in _read(f"{folder}/cgroup.controllers").split():
                    if b"memory" not in _read(f"{folder}/cgroup.subtree_control").split():
                        # Refused where processes are in it, but at the root.
                        _write(f"{folder}/cgroup.subtree_control", "+memory")
                    return folder
        return ""

    def _candidates(self) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for line in _read(f"{self._proc}/self/cgroup").decode().splitlines():
                _, controllers, path = line.split(":", 2)
                if not controllers:
                    own = f"{self._root}{path}".rstrip("/")
                    yield own
                    above, user = os.path.dirname(own), os.geteuid()
                    if user and path != "/" and os.stat(above).st_uid == user:
                        yield above

    def hold(self, worker_id: int, pid: int, limit: int) -> None:
        """Let a worker, and what it starts, have so many bytes more than it has."""
        if self._parent is None:
            self._parent = self._find_parent()
        if not self._parent:
            return
        folder = self._folder(worker_id)
        try:
            if worker_id not in self._kills:
                os.mkdir(folder)
                self._kills[worker_id] = 0
                _write(f"{folder}/memory.oom.group", "1")  # all of it, or nothing
                _write(f"{folder}/cgroup.procs", str(pid))
            with contextlib.suppress(OSError):
                self._kills[worker_id] = _oom_kills(folder)
            held = 0
            with contextlib.suppress(OSError, ValueError):
                held = int(_read(f"{folder}/memory.current"))
            _write(f"{folder}/memory.max", str(held + limit + self._spare))
        except OSError:  # it cannot be done after all
            self.remove(worker_id)
            self._parent = ""

    def release(self, worker_id: int) -> None:
        """Let a worker have any amount again."""
        if worker_id in self._kills:
            with contextlib.suppress(OSError):
                _write(f"{self._folder(worker_id)}/memory.max", "max")

    def has_killed(self, worker_id: int) -> bool:
        """Tell whether the kernel has killed a worker for its limit."""
        before = self._kills.get(worker_id)
        with contextlib.suppress(OSError):
            return before is not None and _oom_kills(self._folder(worker_id)) > before
        return False

    def remove(self, worker_id: int) -> None:
        """Take the cgroup of a worker away that is dead, with all below it."""
        if self._kills.pop(worker_id, None) is not None:
            with contextlib.suppress(OSError):
                os.rmdir(self._folder(worker_id))


def _oom_kills(folder: str) -> int:
    for line in _read(f"{folder}/memory.events").splitlines():
        name, _, count = line.partition(b" ")
        if name == b"oom_kill":
            return int(count)
    return 0


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
