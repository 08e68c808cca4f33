"""`LoggingConfig`: one form for the log records of a driver and its workers.

Room: shared by driver and worker; of aioray it reads where code runs. `init` applies it to the root
logger and those named "ray" and "aioray" in its own process, and sends it to every worker. Records
say which job, node, worker, task and actor they come from. Source: Ray API, ray.LoggingConfig.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from .current import place
from .protocol import registry

__all__ = ["LoggingConfig", "apply"]

ENCODINGS: Final = ("TEXT", "JSON")
LOGGERS: Final = ("", "ray", "aioray")
_TEXT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
_STANDARD: Final = frozenset(
    {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"}
)


@dataclass
class LoggingConfig:
    """How log records are written, by the driver and by its workers, whose lines get no prefix.

    encoding: "TEXT", with key=value pairs at the end of each line, or "JSON", an object per line.
    log_level: of the loggers that it sets up, a name or a number. additional_log_standard_attrs:
    names of attributes of logging.LogRecord to add, such as "name" or "threadName". What a record
    was given by `extra=` is added too.
    Raises ValueError for another encoding, and for what is no attribute of records.
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(
                f"Invalid encoding type: {self.encoding}. Valid encoding types are: "
                f"{list(ENCODINGS)}"
            )
        for name in self.additional_log_standard_attrs:
            if name not in _STANDARD:
                raise ValueError(
                    f"Unknown python logging standard attribute: {name}. The valid attributes are: "
                    f"{', '.join(sorted(_STANDARD))}"
                )


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
    """A line as Ray writes it, with what else is known behind it."""

    def __init__(self, attributes: list[str]) -> None:
        super().__init__(_TEXT)
        self._attributes = attributes

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        text = super().format(record)
        more = _more(record, self._attributes)
        return " ".join([text, *(f"{key}={value}" for key, value in more.items())])


class _Json(logging.Formatter):
    """An object of JSON."""

    def __init__(self, attributes: list[str]) -> None:
        super().__init__()
        self._attributes = attributes

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
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
    found |= {name: given[name] for name in given if name not in _STANDARD}
    found |= _where()
    found["timestamp_ns"] = int(record.created * 1e9)
    return found


def _where() -> dict[str, Any]:
    """Which job, process, task and actor this is; nothing if there is no session."""
    from ..runtime_context import RuntimeContext

    if not place.job and registry.current() is None:
        return {}
    context = RuntimeContext()
    found: dict[str, Any] = {
        "job_id": context.get_job_id(),
        "worker_id": context.get_worker_id(),
        "node_id": context.get_node_id(),
    }
    if not place.job:
        return found
    if place.actor is not None:
        found["actor_id"] = context.get_actor_id()
        found["actor_name"] = context.get_actor_name()
    if place.attempt is not None:
        found["task_id"] = context.get_task_id()
        found["task_name"] = context.get_task_name()
        found["task_func_name"] = context.get_task_function_name()
    return {name: value for name, value in found.items() if value}
