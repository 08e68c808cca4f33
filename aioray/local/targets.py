"""What runs in the driver's own process: the functions and classes themselves, and not copies.

Room: local. So patches, mocks and breakpoints of a test reach what it calls. What a function
captures need not be serializable here; but as a process would need that, a warning says so.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

from ..client.arguments import serialize_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.protocol import Call

__all__ = ["Targets"]

logger = logging.getLogger("aioray")


class Targets:
    """The functions and classes of one engine, by what stands for their code."""

    def __init__(self, level: int) -> None:
        """Begin with none. level: of the log lines about what no process could run."""
        self._level = level
        self._by_code: dict[bytes, Callable[..., Any]] = {}
        self._numbers = itertools.count(1)

    def export(self, call: Call) -> tuple[bytes, Any]:
        """Return what stands for the code of a call, and the refs that it has captured."""
        captured: Any = ()
        try:
            _, captured = serialize_function(call)
        except (TypeError, ValueError) as error:
            found = " ".join(str(error).splitlines()[:2])
            logger.log(self._level, "It runs here, but in no worker process. %s", found)
        code = b"%d" % next(self._numbers)
        self._by_code[code] = call.code.function
        return code, captured

    def find(self, code: bytes) -> Callable[..., Any]:
        """Return the function, or class, that this stands for."""
        return self._by_code[code]
