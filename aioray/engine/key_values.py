"""The session's key-value store, which driver and workers share.

Room: engine. It holds bytes, and lives in the driver as long as the session. Programs come to it by
`aioray.experimental.internal_kv`, the names Ray has for its own.
"""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["KeyValues"]


class KeyValues:
    """Bytes by namespace and key. Threads of the driver, and the engine for workers, may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spaces: dict[bytes, dict[bytes, bytes]] = {}

    def __call__(
        self, verb: str, namespace: bytes, key: bytes, value: bytes = b"", decides: bool = False
    ) -> Any:
        """Do with the keys of a namespace what `verb` says.

        "put": set it, whether or not it is there if `decides`, and say whether it was there.
        "get": its value, or None. "list": the keys that begin with `key`. "delete": it, or if
        `decides` all that begin so, and say how many.
        Raises ValueError for another verb.
        """
        with self._lock:
            held = self._spaces.setdefault(namespace, {})
            if verb == "get":
                return held.get(key)
            if verb == "put":
                was_there = key in held
                if decides or not was_there:
                    held[key] = value
                return was_there
            found = [known for known in held if known.startswith(key)]
            if verb == "list":
                return found
            if verb != "delete":
                raise ValueError(f"{verb!r} is nothing that a key-value store does")
            gone = found if decides else [known for known in found if known == key]
            for known in gone:
                del held[known]
            return len(gone)
