"""How attempts get into the table: as rows, or packed first, when they come too fast.

Room: state. A row costs SQLite about a microsecond, half of which is spent while nobody else can
run Python. So a driver that ends tens of thousands of tasks a second packs them: a thousand to a
blob, which takes a quarter of that, and survives a kill like rows do. They become rows when there
is time, or when somebody wants to read them; what is too old by then never does.

Rows go to SQLite as few statements of many rows: `executemany` would let go of the GIL, and wait
for it again, once for every row, behind a driver that is busy. Times become Unix seconds there.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .. import packing
from ..schema import ATTEMPT_COLUMNS

if TYPE_CHECKING:
    from ..packing import Rows

__all__ = [
    "copy_packed",
    "drop_packed",
    "has_packed",
    "insert_done",
    "insert_failed",
    "pack",
    "packed_count",
    "unpack_one",
]

_SIZES = (256, 16, 1)  # rows of one statement: few texts, which SQLite has prepared already
_DONE_COLUMNS = ATTEMPT_COLUMNS[:-2]  # of an attempt that has not failed
_TIMES = ("created", "ready", "sent", "started", "ended")


def insert_done(connection: sqlite3.Connection, rows: Rows, unix_offset: float) -> None:
    """Insert attempts that have their value.

    rows: as in the table, without what tells of errors, and with the seconds that it ran instead of
    the end. unix_offset: what makes Unix seconds of their times.
    """
    _insert(connection, _DONE_COLUMNS, rows, unix_offset, runs=True)


def insert_failed(connection: sqlite3.Connection, rows: Rows, unix_offset: float) -> None:
    """Insert attempts that have failed. rows: as in the table."""
    _insert(connection, ATTEMPT_COLUMNS, rows, unix_offset, runs=False)


def pack(connection: sqlite3.Connection, rows: Rows, unix_offset: float) -> None:
    """Store rows, as `insert_done` takes them, for later."""
    for start in range(0, len(rows), packing.ROWS_AT_ONCE):
        some = rows[start : start + packing.ROWS_AT_ONCE]
        data = packing.dump(some)
        connection.execute(
            "INSERT INTO packed VALUES (?, ?, ?, ?)",
            (len(some), unix_offset, zlib.crc32(data), data),
        )


def has_packed(connection: sqlite3.Connection) -> bool:
    """Tell whether attempts are packed."""
    return connection.execute("SELECT 1 FROM packed LIMIT 1").fetchone() is not None


def packed_count(connection: sqlite3.Connection) -> int:
    """Count the attempts that are packed."""
    (count,) = connection.execute("SELECT COALESCE(SUM(count), 0) FROM packed").fetchone()
    return int(count)


def drop_packed(connection: sqlite3.Connection, kept: int) -> int:
    """Drop the oldest blobs without which `kept` attempts remain; return how many do remain."""
    count = packed_count(connection)
    while True:
        first = connection.execute("SELECT rowid, count FROM packed ORDER BY rowid").fetchone()
        if first is None or count - first[1] < kept:
            return count
        connection.execute("DELETE FROM packed WHERE rowid = ?", first[:1])
        count -= first[1]


def copy_packed(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy what is packed, but for what is damaged. Raises sqlite3.Error."""
    for row in source.execute(_SELECT_PACKED):
        with contextlib.suppress(sqlite3.DatabaseError):
            _, rows = _unpacked(*row[1:])
            target.execute("INSERT INTO packed VALUES (?, ?, ?, ?)", (len(rows), *row[2:]))


def unpack_one(connection: sqlite3.Connection) -> bool:
    """Make rows of the oldest blob, in the transaction that is open; False if there is none.

    Raises sqlite3.DatabaseError if it is damaged.
    """
    first = connection.execute(f"{_SELECT_PACKED} LIMIT 1").fetchone()
    if first is None:
        return False
    unix_offset, rows = _unpacked(*first[1:])
    insert_done(connection, rows, unix_offset)
    connection.execute("DELETE FROM packed WHERE rowid = ?", first[:1])
    return True


_SELECT_PACKED = (
    "SELECT rowid, count, unix_offset, checksum, "
    f"CASE WHEN length(data) <= {packing.SIZE} THEN data END FROM packed ORDER BY rowid"
)


def _unpacked(count: Any, unix_offset: Any, checksum: Any, data: Any) -> tuple[float, Rows]:
    """Read offset and rows from a blob. Raises sqlite3.DatabaseError if it is damaged."""
    try:
        if not isinstance(data, bytes) or zlib.crc32(data) != checksum:
            raise ValueError("its checksum is another one")
        rows = packing.load(data, len(_DONE_COLUMNS))
        if len(rows) != count or not isinstance(unix_offset, float):
            raise ValueError("it is not as it was told")
    except ValueError as error:
        raise sqlite3.DatabaseError(
            f"a part of it has changed since it was written: {error}"
        ) from error
    return unix_offset, rows


def _insert(
    connection: sqlite3.Connection,
    columns: tuple[str, ...],
    rows: Rows,
    unix_offset: float,
    *,
    runs: bool,
) -> None:
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            some = rows[start : start + size]
            sql = _statement(columns, size, runs=runs)
            connection.execute(sql, (*itertools.chain.from_iterable(some), unix_offset))
            start += size


@lru_cache(maxsize=2 * len(_SIZES))
def _statement(columns: tuple[str, ...], count: int, *, runs: bool) -> str:
    """Write the INSERT of `count` rows, whose last parameter makes Unix seconds of times.

    runs: the seconds that an attempt ran stand in the place of its end.
    """
    numbers = {column: f"column{number}" for number, column in enumerate(columns, 1)}
    sources = numbers | {column: f"{numbers[column]} + unix_offset" for column in _TIMES}
    if runs:
        sources["ended"] = f"{numbers['started']} + {sources['ended']}"
    rows = ",".join([f"({','.join('?' * len(columns))})"] * count)
    chosen = ", ".join(sources[column] for column in columns)
    return (
        f"INSERT INTO attempts ({', '.join(columns)}) SELECT {chosen} FROM (VALUES {rows}), "
        f"(SELECT ? AS unix_offset)"
    )
