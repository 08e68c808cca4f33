"""Sends the log records of this worker to the driver, whose handlers then have them.

Room: worker; loaded where `init(forward_logging=...)` was given. Records go with whatever is said
next, or at once if nobody is writing, and before the answer of the attempt that has logged them. A
worker that logs faster than `RATE` drops the rest, and says how many: neither this process nor the
driver's event loop is to suffer from somebody's loop. What cannot be said is the log's problem, and
never that of who logs.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from ..client.current import execution_context
from ..shared import ids
from ..shared.asks import Log

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["forward"]

RATE = 1_000  # records a second
BURST = 2_000  # records at once
LONGEST = 20_000  # characters of a text; the rest is cut off
LONGEST_EXTRA = 1_000  # of what `extra=` has given
MOST_EXTRAS = 30
STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})


def forward(channel: Channel, level: int) -> None:
    """Forward from now on what the loggers of this process pass on to the root logger.

    level: of the root logger.
    """
    root = logging.getLogger()
    root.addHandler(ForwardHandler(channel))
    root.setLevel(level)


class ForwardHandler(logging.Handler):
    """Sends records to the driver."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._pid = os.getpid()
        self._formatter = logging.Formatter()
        self._left = float(BURST)  # records that may be sent now
        self._seen_at = time.monotonic()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or count it if there are too many."""
        try:
            if os.getpid() != self._pid:  # a process that a task has forked
                if logging.lastResort is not None:
                    logging.lastResort.handle(record)
                return
            now = time.monotonic()
            self._left = min(BURST, self._left + (now - self._seen_at) * RATE)
            self._seen_at = now
            if self._left < 1:
                self._dropped += 1
                return
            self._left -= 1
            if self._dropped:
                count, self._dropped = self._dropped, 0
                self._send(_of_drops(count))
            self._send(record)
        except Exception:  # noqa: BLE001 - as the handlers of logging do
            self.handleError(record)

    def _send(self, record: logging.LogRecord) -> None:
        exception = record.exc_text
        if record.exc_info and not exception:
            exception = self._formatter.formatException(record.exc_info)
        attempt, actor = execution_context.attempt, execution_context.actor
        where: dict[str, Any] = {"worker_id": execution_context.worker_id}
        if attempt is not None:
            where["task_name"] = attempt.name
            where["task_id"] = ids.task_id(execution_context.job, attempt.task_key).hex()
            where["attempt"] = attempt.attempt
        if actor is not None:
            where["actor_id"], where["actor_name"] = actor.actor_id, actor.name
        given = vars(record)
        extras = [name for name in given if name not in STANDARD][:MOST_EXTRAS]
        facts = {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": _cut(record.getMessage(), LONGEST),
            "exc_text": None if not exception else _cut(exception, LONGEST),
            "stack_info": None if not record.stack_info else _cut(record.stack_info, LONGEST),
            "created": record.created,
            "pathname": record.pathname,
            "filename": record.filename,
            "module": record.module,
            "lineno": record.lineno,
            "funcName": record.funcName,
            "process": self._pid,
            "processName": f"worker {self._pid}",
            "threadName": record.threadName,
            **where,
            **{name: _plain(given[name]) for name in extras if name not in where},
        }
        self._channel.tell_later(Log(facts))
        self._channel.tell_soon()


def _of_drops(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "aioray",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": f"{count} log records were dropped: at most {RATE} a second are forwarded.",
        }
    )


def _plain(value: Any) -> Any:
    """Return what can be sent as it is, or a text of it."""
    if value is None or type(value) in (bool, int, float):
        return value
    return _cut(value if type(value) is str else repr(value), LONGEST_EXTRA)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"
