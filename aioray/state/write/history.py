"""The database that holds what happened in a session.

Room: state; disk only. Written by one thread, in batches, each one transaction; readers are other
processes. The file is in write-ahead mode and not synced: what is committed survives the death of
the driver, and a crash of the machine may damage it. What cannot be written or is damaged is set
aside with a warning, and history goes on in memory; it is never a reason to fail.

How attempts are written, and what is done if they come too fast, is in `bulk_insert`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import stat
from typing import TYPE_CHECKING, Any

from ...shared.printable import printable
from ..folders import SHORTAGES, check_ours
from ..schema import ATTEMPT_COLUMNS, SCHEMA, VERSION
from .bulk_insert import (
    copy_packed,
    drop_packed,
    has_packed,
    insert_done,
    insert_failed,
    pack,
    packed_count,
    unpack_one,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["DAMAGE", "FILE", "Batch", "History", "open_file", "open_image", "version_of"]

logger = logging.getLogger("aioray")

FILE = "history.db"
DAMAGE = (sqlite3.Error, UnicodeDecodeError, MemoryError)
"""What reading a damaged file raises: SQLite's errors, which quote it, and sizes that are lies."""
FILES = 3  # that SQLite opens for it
LONGEST_VALUE = 256 * 1024 * 1024  # bytes that are read at once, of a text or of output
_MEMORY = ":memory:"
OUTPUT_BYTES = 256 * 1024 * 1024  # of workers' output that one session keeps
EVENTS_KEPT = 10_000
ENTITIES_KEPT = 10_000  # changes of entities; those that have not ended stay
PACK_FROM = 1_000  # attempts in one batch that are packed: more than 2,000 a second


class Batch:
    """What is written in one transaction."""

    __slots__ = (
        "done",
        "entities",
        "events",
        "failed",
        "meta",
        "old_signatures",
        "output",
        "signatures",
    )

    def __init__(
        self,
        *,
        done: Sequence[tuple[Any, ...]] = (),
        failed: Sequence[tuple[Any, ...]] = (),
        signatures: Sequence[tuple[int, dict[str, Any]]] = (),
        old_signatures: int = 0,
        entities: Sequence[tuple[str, str, dict[str, Any]]] = (),
        events: Sequence[tuple[float, str, str, str]] = (),
        output: Sequence[tuple[int, int, int, float, bytes]] = (),
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Collect what is to be written. Times of attempts are monotonic here.

        done: attempts that have their value, without the columns that tell of errors, and with the
        seconds that it ran instead of the end. failed: the others, whole. old_signatures: up to
        this number only attempts that were written speak of them. The rest: see `schema`.
        """
        self.done = done
        self.failed = failed
        self.signatures = signatures
        self.old_signatures = old_signatures
        self.entities = entities
        self.events = events
        self.output = output
        self.meta = meta or {}

    def apart(self) -> Iterator[Batch]:
        """Yield a batch for each part of this one, what others speak of first."""
        for part in (
            "meta",
            "signatures",
            "entities",
            "done",
            "failed",
            "events",
            "output",
            "old_signatures",
        ):
            if value := getattr(self, part):
                yield Batch(**{part: value})


class History:
    """The history of one session that is being written. For one thread."""

    def __init__(self, folder: str | None, *, attempts_kept: int, unix_offset: float) -> None:
        """Begin an empty history. Raises OSError if there are no descriptors for its file now.

        folder: where the file goes; None: it stays in memory. attempts_kept: older ones go.
        unix_offset: what makes Unix seconds of monotonic ones.
        """
        self._path = None if folder is None else os.path.join(folder, FILE)
        self._attempts_kept = attempts_kept
        self._offset = unix_offset
        self.packed = 0  # attempts that are not rows yet
        self._output_bytes = 0
        self._old_signatures = 0  # up to which those that nobody speaks of were removed
        self._connection = self._open()

    @property
    def path(self) -> str | None:
        """The path of the file; None: all is in memory."""
        return self._path

    def write(self, batch: Batch) -> None:
        """Add a batch to the history."""
        try:
            self._write(batch)
        except DAMAGE as error:
            if self._path is None:
                raise
            self._set_aside(error)
            self._write(batch)

    def unpack(self, *, all_of_it: bool = True) -> bool:
        """Make rows of what is packed, or of a part of it; tell whether something is left."""
        if not self.packed:
            return False
        connection = self._connection
        try:
            connection.execute("BEGIN")
            while unpack_one(connection) and all_of_it:
                pass
            self.packed = packed_count(connection)
            self._keep_newest_attempts()
            connection.execute("COMMIT")
        except DAMAGE as error:
            if self._path is None:
                raise
            self._set_aside(error)
        return self.packed > 0

    def _keep_newest_attempts(self) -> None:
        _keep_newest(self._connection, "attempts", max(0, self._attempts_kept - self.packed))

    def write_running(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Note which attempts are running now. Times are Unix seconds."""
        marks = ",".join("?" * len(ATTEMPT_COLUMNS))
        try:
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM running")
            self._connection.executemany(f"INSERT INTO running VALUES ({marks})", rows)
            self._connection.execute("COMMIT")
        except DAMAGE:  # the next batch will find out, and say so
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def image(self) -> bytes:
        """Return the whole database, as `sqlite3.Connection.deserialize` takes it."""
        return self._connection.serialize()

    def finish(self) -> None:
        """End the history with the session: nothing runs any more, and all are to find rows."""
        try:
            self.unpack()
            self.write_running(())
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    # ------------------------------------------------------------ the file

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            try:
                return _create(self._path)
            except sqlite3.Error as error:
                _check_descriptors()
                _warn(f"There will be no file of this session's history: {error}", self._path)
                self._path = None
        return _create(_MEMORY)

    def _set_aside(self, error: Exception) -> None:
        """Begin anew in memory, with all that can still be read."""
        path, self._path = self._path, None
        damaged, self._connection = self._connection, _create(_MEMORY)
        with contextlib.suppress(sqlite3.Error):
            damaged.execute("ROLLBACK")
        for table in ("meta", "signatures", "entities", "attempts", "events"):
            with contextlib.suppress(*DAMAGE):
                for row in damaged.execute(f"SELECT * FROM {table}"):
                    marks = ",".join("?" * len(row))
                    self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        with contextlib.suppress(*DAMAGE):
            copy_packed(damaged, self._connection)
        self.packed = packed_count(self._connection)
        self._output_bytes = 0
        with contextlib.suppress(sqlite3.Error):
            damaged.close()
        assert path is not None
        with contextlib.suppress(OSError):
            os.replace(path, f"{path}.damaged")
        _warn(
            f"The file of this session's history cannot be written any more ({error}); it was set "
            f"aside, and history goes on in memory until the session ends",
            f"{path}.damaged",
        )

    # ------------------------------------------------------------ writing

    def _write(self, batch: Batch) -> None:
        connection = self._connection
        connection.execute("BEGIN")
        try:
            if batch.meta:
                connection.executemany(
                    "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                    [(key, json.dumps(value)) for key, value in batch.meta.items()],
                )
            if batch.signatures:
                connection.executemany(
                    "INSERT OR REPLACE INTO signatures VALUES (?, ?)",
                    [(number, json.dumps(attributes)) for number, attributes in batch.signatures],
                )
            if batch.entities:
                newest = {(kind, name): attributes for kind, name, attributes in batch.entities}
                connection.executemany(
                    "INSERT OR REPLACE INTO entities VALUES (?, ?, ?)",
                    [(*key, json.dumps(attributes)) for key, attributes in newest.items()],
                )
            if len(batch.done) >= PACK_FROM or (batch.done and self.packed):
                pack(connection, batch.done, self._offset)
                self.packed = drop_packed(connection, self._attempts_kept)
            else:
                insert_done(connection, batch.done, self._offset)
            insert_failed(connection, list(map(_storable, batch.failed)), self._offset)
            if batch.events:
                rows = map(_storable, batch.events)
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            if batch.output:
                connection.executemany("INSERT INTO output VALUES (?, ?, ?, ?, ?)", batch.output)
            self._forget_old(batch)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _forget_old(self, batch: Batch) -> None:
        connection = self._connection
        if (batch.done and not self.packed) or batch.failed:
            self._keep_newest_attempts()
        if batch.events:
            _keep_newest(connection, "events", EVENTS_KEPT)
        if batch.entities:
            ended = "AND json_extract(attributes, '$.ended') IS NOT NULL"
            _keep_newest(connection, "entities", ENTITIES_KEPT, ended)
        if batch.old_signatures > self._old_signatures:
            self._old_signatures = batch.old_signatures
            while unpack_one(connection):
                self.packed = 0
            connection.execute(
                "DELETE FROM signatures WHERE id <= ? "
                "AND id NOT IN (SELECT signature FROM attempts)",
                (batch.old_signatures,),
            )
        self._output_bytes += sum(len(data) for *_, data in batch.output)
        while self._output_bytes > OUTPUT_BYTES:
            oldest = connection.execute(
                "SELECT max(rowid), sum(length(data)) FROM "
                "(SELECT rowid, data FROM output ORDER BY rowid LIMIT 1000)"
            ).fetchone()
            connection.execute("DELETE FROM output WHERE rowid <= ?", oldest[:1])
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('output_dropped', 'true')")
            self._output_bytes -= oldest[1]


def open_file(path: str, *, ended: bool) -> sqlite3.Connection:
    """Open a session's file, to be read. ended: nobody writes it any more.

    Raises sqlite3.Error; PermissionError if it is not a file of this user alone, and
    FileNotFoundError.
    """
    check_ours(path, stat.S_IFREG)
    for suffix in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            check_ours(path + suffix, stat.S_IFREG)
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    try:
        _distrust(connection)
        if ended and version_of(connection) == VERSION and has_packed(connection):
            connection.execute("BEGIN IMMEDIATE")  # it was killed
            while unpack_one(connection):
                pass
            connection.execute("COMMIT")
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_image(image: bytes) -> sqlite3.Connection:
    """Open what `History.image` has given. Raises sqlite3.Error."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(image)
        _distrust(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _distrust(connection: sqlite3.Connection) -> None:
    """Expect anything of a database that somebody else has written, or a bad disk has changed."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.text_factory = _text


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the tables, see `schema`. Raises sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _storable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make texts of a row such that SQLite takes them: it knows no halves of surrogate pairs."""
    return tuple(
        value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for value in row
    )


def _keep_newest(
    connection: sqlite3.Connection, table: str, count: int, condition: str = ""
) -> None:
    (newest,) = connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()
    if newest is not None and newest > count:
        connection.execute(f"DELETE FROM {table} WHERE rowid <= ? {condition}", (newest - count,))


def _create(path: str) -> sqlite3.Connection:
    if path != _MEMORY:
        with contextlib.suppress(OSError):  # SQLite will say what is wrong
            flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(path, flags, 0o600))
        try:
            check_ours(path, stat.S_IFREG)
        except PermissionError as error:
            raise sqlite3.OperationalError(error.strerror) from error
        except OSError:  # the same
            pass
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=32
    )
    try:
        connection.execute("PRAGMA synchronous = OFF")  # first, as the next would wait for the disk
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_size = -512")  # kB; it is written to, and hardly read
        connection.execute("PRAGMA temp_store = MEMORY")  # there may be no descriptor for a file
        connection.execute("BEGIN")
        for statement in filter(str.strip, SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_descriptors() -> None:
    """Raise OSError if SQLite, which does not say why, lacks descriptors to open a file."""
    fds = []
    try:
        for _ in range(FILES):
            fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - one by one
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
    finally:
        for fd in fds:
            os.close(fd)


def _warn(what: str, path: str) -> None:
    logger.warning("%s (%s).", printable(what), printable(path))
