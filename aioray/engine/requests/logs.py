"""Takes the log records of workers into the logging of the driver.

Room: engine. See `aioray.worker.forwarding`, which makes and bounds them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...shared.asks import Log
    from ..processes.inbound import Asked
    from .session import WorkerSession

__all__ = ["take_log_record"]

_NEEDED = {"name": str, "levelno": int, "levelname": str, "msg": str, "created": float}


def take_log_record(_session: WorkerSession, ask: Log, _asked: Asked) -> None:
    """Hand a record to the logger of its name, with the levels and handlers of this process.

    Raises ValueError for what is no record.
    """
    facts: dict[Any, Any] = ask.facts
    if not all(isinstance(facts.get(name), kind) for name, kind in _NEEDED.items()):
        raise ValueError("a log record that is none")
    logger = logging.getLogger(None if facts["name"] == "root" else facts["name"])
    if not logger.isEnabledFor(facts["levelno"]):
        return
    created = facts["created"]
    record = logging.makeLogRecord({**facts, "msecs": int(created % 1 * 1000) + 0.0})
    try:
        logger.handle(record)
    except Exception:  # noqa: BLE001 - a filter, or a handler, of the user's
        if logging.lastResort is not None:
            logging.lastResort.handleError(record)
