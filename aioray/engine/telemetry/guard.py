"""Keeps what merely looks on from failing what it looks at.

Room: engine; stdlib only.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["log_instead_of_raising"]

P = ParamSpec("P")
logger = logging.getLogger("aioray")


def log_instead_of_raising(
    level: int, message: str
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a method log what it raises, with this message, instead of raising it."""

    def decorate(method: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(method)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                method(*args, **kwargs)
            except Exception:
                logger.log(level, message, exc_info=True)

        return guarded

    return decorate
