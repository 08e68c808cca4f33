"""Databases of tests, in memory, which end with whoever has them."""

from __future__ import annotations

import sqlite3


class _Fleeting(sqlite3.Connection):
    """Closes itself when nobody has it any more, of which Python would warn since 3.13."""

    def __del__(self) -> None:
        self.close()


def database(image: bytes | None = None) -> sqlite3.Connection:
    """An empty database, or the one that this is the image of."""
    connection = sqlite3.connect(
        ":memory:",
        isolation_level=None,
        check_same_thread=False,  # the collector runs in any
        factory=_Fleeting,
    )
    if image is not None:
        connection.deserialize(image)
    return connection
