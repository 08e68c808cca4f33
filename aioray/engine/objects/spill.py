"""The files that values go to when shared memory is full.

Room: engine, disk only. One file per value, below the session's folder, in one that is made with
the first of them and goes with the session: the driver removes it, after a kill -9 the template
does, and should that be killed too, the next session that makes such a folder sweeps it away. A
file is complete or it is not there; one that became shorter since counts as not there.

No file is ever mapped, because reading beyond the end of a mapping that was cut is deadly.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ...exceptions import OutOfDiskError
from ...shared.arena import disk_full, not_written, write_file
from ...state.folders import OBJECTS, make_folder, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...state.folders import SessionFolder

__all__ = ["SpillFolder"]


class SpillFolder:
    """The spill files of one session. All methods may be called from any thread."""

    def __init__(self, session: SessionFolder, capacity_threshold: float) -> None:
        """Name the folder, which is not created yet.

        session: it is closed together with this. capacity_threshold: share of the disk that may be
        in use.
        """
        self._session = session
        self.path = os.path.join(session.path, OBJECTS)
        self._capacity_threshold = capacity_threshold
        self._made = False

    def write(self, serial: int, pieces: Sequence[bytes | memoryview], size: int) -> str:
        """Write a value to a file of its own, and return the path. Raises what `reserve` does."""
        path = self.reserve(serial, size)
        write_file(path, pieces, size)
        return path

    def reserve(self, serial: int, size: int) -> str:
        """Return the path for a file of this size; it is not made.

        Raises OutOfDiskError if the disk is full, or would be fuller than it may be;
        ObjectStoreFullError if there can be no file for another reason.
        """
        try:
            if not self._made:
                self._make()
            self._check_capacity(size)
        except OSError as error:
            raise not_written(error, self.path, size) from error
        return os.path.join(self.path, str(serial))

    def remove(self, path: str) -> None:
        """Remove a file; harmless if it is gone."""
        with contextlib.suppress(OSError):
            os.unlink(path)

    def size(self) -> int:
        """Return the bytes of all files."""
        try:
            with os.scandir(self.path) as entries:
                return sum(entry.stat().st_size for entry in entries)
        except OSError:  # there is none yet, or a file has just gone
            return 0

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        if self._made:
            import shutil

            shutil.rmtree(self.path, ignore_errors=True)
        self._session.close()

    def after_fork_in_child(self) -> None:
        """Leave the folder to the parent: this object is a copy in a forked process."""
        self._made = False
        self._session.after_fork_in_child()

    def _make(self) -> None:
        import shutil  # noqa: F401 - few sessions spill, but the end of one that does needs it

        self._session.make()
        sweep(self._session.root)
        make_folder(self.path)
        self._made = True

    def _check_capacity(self, size: int) -> None:
        disk = os.statvfs(self.path)
        total = disk.f_blocks * disk.f_frsize
        free = disk.f_bavail * disk.f_frsize
        threshold = self._capacity_threshold
        if total - free + size > total * threshold:
            why = f"it is {1 - free / total:.0%} full, and {threshold:.0%} is the limit"
            raise OutOfDiskError(disk_full(size, self.path, why))
