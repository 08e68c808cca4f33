"""`LoggingConfig`: one form for the log records of a driver and its workers.

Room: options. What it says is done by `aioray.client.logging_config`.
"""

from __future__ import annotations

import logging
from typing import Final

from ..core.records import field, record

__all__ = ["STANDARD_ATTRIBUTES", "LoggingConfig"]

ENCODINGS: Final = ("TEXT", "JSON")
STANDARD_ATTRIBUTES: Final = frozenset(
    {*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"}
)


@record
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
            if name not in STANDARD_ATTRIBUTES:
                raise ValueError(
                    f"Unknown python logging standard attribute: {name}. The valid attributes are: "
                    f"{', '.join(sorted(STANDARD_ATTRIBUTES))}"
                )
