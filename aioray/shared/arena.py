"""The shared memory that large values lie in, as any process of a session sees it.

Room: shared. One anonymous memory file, sparse and sealed against changes of
its size; it is gone with the last process that has it open. Who may write where is decided by the
driver alone (`aioray.engine.objects.store`). What is read is mapped for reading only: no reader can
change a value. The whole is mapped once, or where addresses are scarce (ulimit -v) each value as
long as it is looked at. It is written with `pwrite`, which finds new pages faster than faults in a
mapping do; only where a process has copied to before, copying to a mapping of its own is faster
still.

What finds no room there is written to a file. Files are copied by their readers, never mapped: to
read beyond the end of a mapping that was cut is deadly.

A reader gets a view. Buffers made from it (memoryviews, arrays, slices of arrays) keep it alive,
and it keeps its `owner` alive; that is how those who reuse memory know that nobody looks at it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

from . import linux

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..exceptions import ObjectStoreFullError, OutOfDiskError

__all__ = ["Arena", "disk_full", "is_whole", "not_written", "open_file", "read_file", "write_file"]

CHUNK = 4 * 1024 * 1024  # bytes copied at once
COPY_CHUNK = 1024 * 1024  # bytes; other threads may run in between
_BATCH = 1024  # pieces that one system call takes


class _Mapping:
    """The file, or a part of it, mapped for reading until the last view is gone."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        """Map `size` bytes from `start`, the first one wanted; the mapping may begin before it."""
        self.address = 0
        first = start - start % mmap.PAGESIZE
        self.start = first
        self._size = start + size - first
        self._unmap = linux.unmap  # at the interpreter's end the module may be gone before this
        self.address = linux.map_readable(fd, first, self._size)

    def __del__(self) -> None:
        if self.address:
            self._unmap(self.address, self._size)


class Arena:
    """One process's access to the shared memory."""

    def __init__(self, fd: int, size: int) -> None:
        """Take over `fd`, the memory file, which belongs to the arena then. size: of the file."""
        self.fd = fd
        self.size = size
        self._mapping: _Mapping | None = None
        self._is_scarce: bool | None = None  # too few addresses to map all of it; None: not known
        self._writable: mmap.mmap | None = None
        self._lock = threading.Lock()
        self._users = 0  # threads that use the descriptor now
        self._closed = False

    @classmethod
    def create(cls, size: int) -> Arena:
        """Make a new arena of `size` bytes. Raises OSError."""
        try:
            fd = linux.sealed_memory_file("aioray-objects", size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: the system refuses a file of {size:,} bytes of shared memory. "
                f"Raise the limits (ulimit -f for the size of files, ulimit -n for their number), "
                f"or give init() less object_store_memory",
            ) from error
        return cls(fd, size)

    def close(self) -> None:
        """Close the file. Views that exist stay usable; no new ones can be made."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._mapping = self._writable = None
                self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users:
            os.close(self.fd)

    def _open(self) -> int:
        """Return the descriptor, not closed until `_done`: its number could be another file's."""
        with self._lock:
            if self._closed:
                raise RuntimeError("This engine is shut down. Start another one.")
            self._users += 1
        return self.fd

    def _done(self) -> None:
        """Let the descriptor be closed."""
        with self._lock:
            self._users -= 1
            self._close_unused()

    def view(self, offset: int, size: int, owner: Any) -> Any:
        """Return a view of what lies there: a buffer, which can be referred to weakly.

        owner: kept alive as long as the view or any buffer made from it is.
        Raises OSError if the memory cannot be mapped, RuntimeError if the arena is closed.
        """
        mapping = self._mapping
        if mapping is None:
            fd = self._open()
            try:
                mapping = self._map(fd, offset, size)
            finally:
                self._done()
        # An array of ctypes is the one exporter of foreign memory that lets go of it by itself.
        view = (ctypes.c_char * size).from_address(mapping.address + offset - mapping.start)
        view.owner = (owner, mapping)  # type: ignore[attr-defined]
        return view

    def _map(self, fd: int, offset: int, size: int) -> _Mapping:
        """Map the whole file, or only what is wanted where that leaves the program too little."""
        if not self.is_scarce:
            with contextlib.suppress(OSError):
                self._mapping = _Mapping(fd, 0, self.size)
                return self._mapping
        try:
            return _Mapping(fd, offset, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: the system refuses to map {size:,} bytes of shared memory, for "
                f"a value that is looked at. Raise the limit of address space (ulimit -v), or look "
                f"at fewer large values at a time",
            ) from error

    @property
    def is_scarce(self) -> bool:
        """Whether mapping the whole file would take more than half of the addresses left."""
        if self._is_scarce is None:
            left = linux.addresses_left()
            self._is_scarce = left is not None and self.size > left // 2
        return self._is_scarce

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of what lies there. Raises OSError, RuntimeError if the arena is closed."""
        fd = self._open()
        try:
            return os.pread(fd, size, offset)
        finally:
            self._done()

    def write(self, offset: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Write the pieces one after the other.

        Raises ObjectStoreFullError if the system has no memory left, RuntimeError if the arena is
        closed.
        """
        fd = self._open()
        try:
            _write_pieces(fd, offset, pieces)
        except OSError as error:
            from ..exceptions import (
                ObjectStoreFullError,  # a child that never fails needs no errors
            )

            raise ObjectStoreFullError(
                f"The system has no memory left for a large value: {error}. Delete refs that you "
                f"no longer need, or give init() less object_store_memory, so that values go to "
                f"disk earlier."
            ) from error
        finally:
            self._done()

    def copy(
        self, offset: int, pieces: Sequence[bytes | memoryview], size: int, *, mapped: bool
    ) -> None:
        """Do what `write` does by copying, to memory that was in use before.

        mapped: this process has copied there before, and the memory was not given back since.
        """
        try:
            writable = self._writable or self._map_writable()
            if not mapped:
                start = offset - offset % mmap.PAGESIZE
                writable.madvise(linux.MADV_POPULATE_WRITE, start, offset + size - start)
        except OSError:  # no memory, no addresses, or a kernel before 5.14
            self.write(offset, pieces)
            return
        with memoryview(writable) as target:
            for piece in pieces:
                source = memoryview(piece)
                for at in range(0, len(source), COPY_CHUNK):
                    part = source[at : at + COPY_CHUNK]
                    target[offset : offset + len(part)] = part
                    offset += len(part)

    def _map_writable(self) -> mmap.mmap:
        fd = self._open()
        try:
            if self.is_scarce:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            self._writable = mmap.mmap(fd, self.size)
            return self._writable
        finally:
            self._done()

    def write_from_file(self, offset: int, path: str, size: int) -> bool:
        """Copy a file into the arena; False if it is gone or has not this size any more.

        Raises OSError if it cannot be read for another reason, and what `write` raises.
        """
        chunk = memoryview(bytearray(min(CHUNK, size)))

        def store(start: int, count: int) -> None:
            self.write(offset + start, [chunk[:count]])

        return _read(path, size, lambda start, end: chunk[: end - start], store)

    def give_back(self, offset: int, size: int) -> None:
        """Return memory to the system."""
        fd = self._open()
        try:
            linux.give_pages_back(fd, offset, size)
        finally:
            self._done()


def _write_pieces(fd: int, offset: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write the pieces into a file one after the other. Raises OSError."""
    rest = list(pieces)
    rest.reverse()  # the next one is the last
    while rest:
        batch = rest[: -_BATCH - 1 : -1]
        written = os.pwritev(fd, batch, offset)
        offset += written
        for piece in batch:
            size = len(piece)
            if written < size:
                rest[-1] = memoryview(piece)[written:]
                break
            rest.pop()
            written -= size


def write_file(path: str, pieces: Sequence[bytes | memoryview], size: int) -> None:
    """Write a value to a new file; nothing is left of it if that fails.

    Raises OutOfDiskError if the disk is full, ObjectStoreFullError for other reasons.
    """
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            _write_pieces(fd, 0, pieces)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise not_written(error, os.path.dirname(path), size) from error


def read_file(path: str, size: int) -> memoryview | None:
    """Read a file into private memory; None if it is gone or has not this size any more.

    Raises OSError if it cannot be read for another reason.
    """
    memory = mmap.mmap(-1, size)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)  # a fifth of the time, where there are any
    view = memoryview(memory)
    if not _read(path, size, lambda start, end: view[start:end]):
        return None
    return view.toreadonly()


def is_whole(path: str, size: int) -> bool:
    """Tell whether a file is there and has this size."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return _is_own(found) and found.st_size == size


def open_file(path: str) -> int | None:
    """Open the file of a value that this user has written; None if there is none.

    What somebody else has put there, where folders above can be exchanged, counts as nothing: what
    is in it would be unpickled. No link is followed. Raises OSError if it cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    if _is_own(os.fstat(fd)):
        return fd
    os.close(fd)
    return None


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _read(
    path: str,
    size: int,
    target: Callable[[int, int], Any],
    have_read: Callable[[int, int], None] | None = None,
) -> bool:
    """Read a file by chunks into buffers; False if it is gone or has another size.

    target: the buffer for the bytes from a start to an end. have_read: called after each chunk.
    """
    fd = open_file(path)
    if fd is None:
        return False
    try:
        if os.fstat(fd).st_size != size:
            return False
        done = 0
        while done < size:
            count = os.preadv(fd, [target(done, min(done + CHUNK, size))], done)
            if not count:
                return False
            if have_read is not None:
                have_read(done, count)
            done += count
        return True
    finally:
        os.close(fd)


def not_written(error: OSError, folder: str, size: int) -> ObjectStoreFullError | OutOfDiskError:
    """Build the error to raise when a value could not be written to a file."""
    from ..exceptions import ObjectStoreFullError, OutOfDiskError

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutOfDiskError(disk_full(size, folder, str(error)))
    return ObjectStoreFullError(
        f"Shared memory is full, and a value of {size:,} bytes could not be written to {folder}: "
        f"{error}. Give init() another object_spilling_directory, more object_store_memory, or "
        f"delete refs that you no longer need."
    )


def disk_full(size: int, folder: str, why: str) -> str:
    """Say that there is no room on disk for a value, and what to do."""
    return (
        f"Shared memory is full, and the disk has no room for a value of {size:,} bytes ({folder}: "
        f"{why}). All values stored before are still there. Delete refs that you no longer need, "
        f"give init() more object_store_memory, or an object_spilling_directory on another disk."
    )
