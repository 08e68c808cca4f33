"""What arrives in a worker, taken apart; and the end of one to which something does not arrive.

Room: worker. Pure but for that end.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from typing import Any, NoReturn

from ..shared.wire import Attempt

__all__ = ["die", "die_of_loss", "unpack_bundle", "unpack_single"]

_HINT = (
    "A task may have used up this process's descriptors (ulimit -n) or addresses (ulimit -v), or "
    "closed or read descriptors that it has not opened."
)
_write = os.write  # user code sees another, see `output`


def unpack_bundle(codes: Any, attempts: Any, area: memoryview | None) -> tuple[Any, list[Attempt]]:
    """Return the codes of a bundle, by function key, and its attempts. area: its memory file."""
    if area is not None:

        def place_of(item: Any) -> Any:
            if type(item) is not tuple or len(item) != 2:
                return item
            return area[item[0] : item[0] + item[1]]

        codes = [(key, place_of(code)) for key, code in codes]
        attempts = [
            (*rest, place_of(payload), [place_of(value) for value in values])
            for *rest, payload, values in attempts
        ]
    return codes, [Attempt._make(fields) for fields in attempts]


def unpack_single(packet: bytes) -> tuple[Any, Attempt]:
    """Return the same of an attempt that was sent alone. If it is no such packet, the process ends.

    Somebody has then read a part of it.
    """
    try:
        codes, fields = marshal.loads(packet)
        return codes, Attempt._make(fields)
    except Exception as error:  # noqa: BLE001 - garbage can be of any kind
        die_of_loss("an attempt", error)


def die_of_loss(what: str, error: Exception) -> NoReturn:
    """End this process: nobody else would ever say that something was lost."""
    die(f"{what} is lost ({type(error).__name__}: {error}). {_HINT}")


def die(why: str) -> NoReturn:
    """End this process, whose channels are out of order, whatever its threads are doing."""
    with contextlib.suppress(OSError):
        _write(2, f"aioray: {why}\n".encode(errors="replace"))
    os._exit(1)
