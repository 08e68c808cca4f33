"""The files that values go to when shared memory is full.

Room: shell, disk only. One file per value, in the session's folder, which is made with the first of
them: `TEMP/aioray-UID/SESSION/objects`, mode 0700, where a lock says that the session lives. A file
is complete or it is not there; one that became shorter since counts as not there. The folder goes
with the session: the driver removes it, after a kill -9 the template does, and should that be
killed too, the next session that makes a folder sweeps it away.

No file is ever mapped, because reading beyond the end of a mapping that was cut is deadly.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import threading
from typing import TYPE_CHECKING

from ..arena import disk_full, not_written, write_file
from ..exceptions import OutOfDiskError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SpillFolder"]

_LOCK = "lock"


class SpillFolder:
    """The spill files of one session. All methods may be called from any thread."""

    def __init__(self, parent: str, session: str, capacity_threshold: float) -> None:
        """Nothing is created yet.

        parent: the folder of this user's sessions. capacity_threshold: share of the disk that may
        be in use.
        """
        self.parent = parent
        self.session_folder = os.path.join(parent, session)
        self._folder = os.path.join(self.session_folder, "objects")
        self._capacity_threshold = capacity_threshold
        self._lock_fd: int | None = None
        self._closed = False
        self._mutex = threading.Lock()

    def write(self, serial: int, pieces: Sequence[bytes | memoryview], size: int) -> str:
        """Write a value to a file of its own, and return the path. Raises what `reserve` does."""
        path = self.reserve(serial, size)
        write_file(path, pieces, size)
        return path

    def reserve(self, serial: int, size: int) -> str:
        """The path for a file of this size; it is not made.

        Raises OutOfDiskError if the disk is full, or would be fuller than it may be;
        ObjectStoreFullError if there can be no file for another reason.
        """
        try:
            with self._mutex:
                self._make_folder()
            self._check_capacity(size)
        except OSError as error:
            raise not_written(error, self._folder, size) from error
        return os.path.join(self._folder, str(serial))

    def remove(self, path: str) -> None:
        """Remove a file; harmless if it is gone."""
        with contextlib.suppress(OSError):
            os.unlink(path)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        with self._mutex:
            self._closed = True
            fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            shutil.rmtree(self.session_folder, ignore_errors=True)
            os.close(fd)
            with contextlib.suppress(OSError):  # others have sessions, or it is not ours alone
                os.rmdir(self.parent)

    def disown(self) -> None:
        """This is a copy in a forked process: the folder is the parent's."""
        self._closed = True
        self._lock_fd = None
        self._mutex = threading.Lock()  # the other may be held by a thread that is not here

    def _make_folder(self) -> None:
        if self._closed:
            raise RuntimeError("This engine is shut down. Start another one.")
        if self._lock_fd is not None:
            return
        os.makedirs(self.parent, mode=0o700, exist_ok=True)
        found = os.lstat(self.parent)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(
                errno.EPERM, "somebody else could write there: remove it", self.parent
            )
        self._sweep()
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        fd = _open_lock(self.session_folder)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self._lock_fd = fd

    def _sweep(self) -> None:
        """Remove what sessions have left that were killed with all their processes.

        A session's name ends with the pid of its driver.
        """
        for name in os.listdir(self.parent):
            folder = os.path.join(self.parent, name)
            pid = name.rpartition("_")[2]
            if not pid.isdigit() or os.path.exists(f"/proc/{pid}"):
                continue  # not ours, or alive; the lock decides for what other containers share
            with contextlib.suppress(OSError):
                fd = _open_lock(folder)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it lives
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(fd)

    def _check_capacity(self, size: int) -> None:
        disk = os.statvfs(self._folder)
        total = disk.f_blocks * disk.f_frsize
        free = disk.f_bavail * disk.f_frsize
        threshold = self._capacity_threshold
        if total - free + size > total * threshold:
            why = f"it is {1 - free / total:.0%} full, and {threshold:.0%} is the limit"
            raise OutOfDiskError(disk_full(size, self._folder, why))


def _open_lock(folder: str) -> int:
    return os.open(os.path.join(folder, _LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
