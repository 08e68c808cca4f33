"""Writes the log records of a driver and its workers in the form of its `LoggingConfig`.

Room: client; of aioray it reads where code runs. `init` applies it to the root
logger and those named "ray" and "aioray" in its own process, and sends it to every worker. Records
say which job, node, worker, task and actor they come from. Source: Ray API, ray.LoggingConfig.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final

from ..options.logging_config import STANDARD_ATTRIBUTES
from ..shared import ids
from .current import execution_context, function_name
from .protocol import registry

__all__ = ["apply"]

LOGGERS: Final = ("", "ray", "aioray")
_TEXT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"


def apply(encoding: str, level: str | int, attributes: list[str]) -> None:
    """Set up the loggers of this process. Raises ValueError for an unknown level.

    The root logger keeps no other handlers, as in Ray, so that no record is written twice.
    """
    handler = logging.StreamHandler(sys.stderr)
    form = _Json if encoding == "JSON" else _Text
    handler.setFormatter(form(attributes))
    level = level.upper() if isinstance(level, str) else level
    handler.setLevel(level)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _Text(logging.Formatter):
    """Formats a record as a line as Ray writes it, with what else is known behind it."""

    def __init__(self, attributes: list[str]) -> None:
        super().__init__(_TEXT)
        self._attributes = attributes

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        text = super().format(record)
        more = _more(record, self._attributes)
        return " ".join([text, *(f"{key}={value}" for key, value in more.items())])


class _Json(logging.Formatter):
    """Formats a record as an object of JSON."""

    def __init__(self, attributes: list[str]) -> None:
        super().__init__()
        self._attributes = attributes

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        found: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            found["exc_text"] = record.exc_text
        return json.dumps(found | _more(record, self._attributes), default=repr)


def _more(record: logging.LogRecord, attributes: list[str]) -> dict[str, Any]:
    found = {name: getattr(record, name, None) for name in attributes}
    given = vars(record)
    found |= {name: given[name] for name in given if name not in STANDARD_ATTRIBUTES}
    for name, value in _where().items():
        found.setdefault(name, value)  # a forwarded record says itself where it comes from
    found["timestamp_ns"] = int(record.created * 1e9)
    return found


def _where() -> dict[str, Any]:
    """Return which job, process, task and actor this is; an empty dict without a session."""
    client = registry.current()
    if execution_context.job:
        job, worker_id, node_id = (
            execution_context.job,
            execution_context.worker_id,
            execution_context.node_id,
        )
    elif client is not None:
        job, worker_id, node_id = client.job, ids.driver_id(client.job).hex(), client.node_id
    else:
        return {}
    found: dict[str, Any] = {"job_id": job.hex(), "worker_id": worker_id, "node_id": node_id}
    actor, attempt = execution_context.actor, execution_context.attempt
    if actor is not None:
        found["actor_id"] = actor.actor_id
        found["actor_name"] = actor.name
    if attempt is not None:
        found["task_id"] = ids.task_id(job, attempt.task_key).hex()
        found["task_name"] = attempt.name
        found["task_func_name"] = function_name()
    return {name: value for name, value in found.items() if value}
