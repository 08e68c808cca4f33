"""Rows of attempts as bytes, column by column: quick to write, and safe to read whatever it is.

Room: state; stdlib only. Whoever reads may have a file before him that was damaged, so nothing here
can be made to do more than to fail: a number says how many rows follow, and each column is numbers
of eight bytes, ids, or JSON, with its length before it. That takes less time than `marshal`, which
trusts what it reads.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

from ..shared import ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    Rows = Sequence[tuple[Any, ...]]

__all__ = ["ROWS_AT_ONCE", "SIZE", "dump", "load"]

ROWS_AT_ONCE = 1_000  # little enough not to hold up other threads
SIZE = 4 * 1024 * 1024  # bytes of so many rows, at most
_COUNT = struct.Struct("<I")
_HEAD = struct.Struct("<cI")  # of a column: kind and bytes
_EMPTY, _INTS, _FLOATS, _IDS, _ANY = b"n", b"q", b"d", b"i", b"j"
_EACH = {_INTS: 8, _FLOATS: 8, _IDS: ids.TASK_ID_SIZE}  # bytes


def dump(rows: Rows) -> bytes:
    """Pack up to `ROWS_AT_ONCE` rows of int, float, bytes and None."""
    parts = [_COUNT.pack(len(rows))]
    for column in zip(*rows, strict=True):
        kind, data = _dump_column(column)
        parts += (_HEAD.pack(kind, len(data)), data)
    return b"".join(parts)


def _dump_column(column: tuple[Any, ...]) -> tuple[bytes, bytes]:
    count, kind = len(column), type(column[0])
    try:
        if kind is int:
            return _INTS, struct.pack(f"<{count}q", *column)
        if kind is float:
            return _FLOATS, struct.pack(f"<{count}d", *column)
        if kind is bytes and {*map(len, column)} == {ids.TASK_ID_SIZE}:
            return _IDS, b"".join(column)
    except (struct.error, TypeError):  # they are not all of that kind
        pass
    if kind is type(None) and column.count(None) == count:
        return _EMPTY, b""
    plain = [value.hex() if isinstance(value, bytes) else value for value in column]
    return _ANY, json.dumps(plain).encode()


def load(data: bytes, columns: int) -> list[tuple[Any, ...]]:
    """Unpack rows of so many columns. Raises ValueError for what `dump` has not made."""
    try:
        (count,) = _COUNT.unpack_from(data)
        if not 0 < count <= ROWS_AT_ONCE:
            raise ValueError(f"{count} rows")
        at, found = _COUNT.size, []
        for _ in range(columns):
            kind, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            found.append(_load_column(kind, data[at : at + size], size, count))
            at += size
    except (struct.error, RecursionError) as error:
        raise ValueError(str(error)) from error
    if at != len(data):
        raise ValueError("something follows the last column")
    return list(zip(*found, strict=True))


def _load_column(kind: bytes, data: bytes, size: int, count: int) -> Sequence[Any]:
    each = _EACH.get(kind)
    if len(data) != size or (each is not None and size != count * each):
        raise ValueError("a column is cut off")
    if kind == _EMPTY and not size:
        return (None,) * count
    if kind == _INTS:
        return struct.unpack(f"<{count}q", data)
    if kind == _FLOATS:
        return struct.unpack(f"<{count}d", data)
    if kind == _IDS:
        return [data[at : at + ids.TASK_ID_SIZE] for at in range(0, size, ids.TASK_ID_SIZE)]
    if kind != _ANY:
        raise ValueError(f"no kind of columns: {kind!r}")
    values = json.loads(data)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError("a column has another length")
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return bytes.fromhex(value)
    if value is None or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"no value of a row: {str(value)[:40]}")
