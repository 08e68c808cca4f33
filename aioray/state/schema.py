"""The tables of a session's history, shared by who writes and who reads them.

Room: state; stdlib only. One file per session. Times are Unix seconds; ids as whoever reads would
compute them are not stored where a number says the same: a task's `label` is what its id is made
of, see `aioray.ids.task_id`. What many attempts have in common is said once, in `kinds`. What
attempts were running when somebody looked last is in `running`, for the case that a driver is
killed. What came too fast to become rows at once is in `packed`, see `insertion`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ATTEMPT_COLUMNS", "SCHEMA", "VERSION", "Record"]

VERSION = 1  # of the tables; a file of another version is not read

ATTEMPT_COLUMNS = (
    "kind",
    "label",
    "attempt",
    "parent",
    "worker",
    "seq",
    "created",
    "ready",
    "sent",
    "started",
    "ended",
    "error_type",
    "error_message",
)

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE kinds (id INTEGER PRIMARY KEY, facts TEXT);
CREATE TABLE attempts ({", ".join(ATTEMPT_COLUMNS)});
CREATE TABLE packed (count INTEGER, unix_offset REAL, checksum INTEGER, data BLOB);
CREATE TABLE running ({", ".join(ATTEMPT_COLUMNS)});
CREATE TABLE things (sort TEXT, id TEXT, facts TEXT, PRIMARY KEY (sort, id));
CREATE TABLE events (at REAL, severity TEXT, source TEXT, message TEXT);
CREATE TABLE output (worker INTEGER, seq INTEGER, stream INTEGER, at REAL, data BLOB);
CREATE INDEX output_of ON output (worker, seq);
"""


class Record(NamedTuple):
    """One attempt of a task. The columns of `attempts`, and `state`."""

    kind: int  # see `kinds`: a function with one set of options
    label: int | bytes  # number among the driver's tasks, from 1; of all others the id
    attempt: int  # from 0
    parent: bytes | None  # id of the task that submitted it; None: the driver
    worker: int | None  # the engine's number of the worker; None: it never got to one
    seq: int | None  # of the attempt in that worker, as `output.seq`
    created: float  # submitted, or the attempt before had ended
    ready: float | None  # its arguments were there
    sent: float | None  # to the worker
    started: float | None  # running
    ended: float | None  # None: it has not
    error_type: str | None  # None: it has not failed
    error_message: str | None
    state: str  # Ray's names
