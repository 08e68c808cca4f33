"""The tables of a session's history, shared by who writes and who reads them.

Room: state; stdlib only. One file per session. Times are Unix seconds; ids as whoever reads would
compute them are not stored where a number says the same: a task's `task_key` is what its id is made
of, see `aioray.shared.ids.task_id`. What many attempts have in common is said once, in
`signatures`. What attempts were running when somebody looked last is in `running`, for the case
that a driver is killed. What came too fast to become rows at once is in `packed`, see
`write.bulk_insert`.
"""

from __future__ import annotations

__all__ = ["ATTEMPT_COLUMNS", "MAP_COUNTS", "MAP_STATES", "SCHEMA", "VERSION"]

VERSION = 3  # of the tables; a file of another version is not read

ATTEMPT_COLUMNS = (
    "signature",
    "task_key",
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

MAP_COUNTS = ("taken", "done", "failed", "in_flight", "retries")
"""What is told of a map, in items."""
MAP_STATES = ("RUNNING", "FINISHED", "FAILED")

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE signatures (id INTEGER PRIMARY KEY, attributes TEXT);
CREATE TABLE attempts ({", ".join(ATTEMPT_COLUMNS)});
CREATE TABLE packed (count INTEGER, unix_offset REAL, checksum INTEGER, data BLOB);
CREATE TABLE running ({", ".join(ATTEMPT_COLUMNS)});
CREATE TABLE entities (kind TEXT, id TEXT, attributes TEXT, PRIMARY KEY (kind, id));
CREATE TABLE events (at REAL, severity TEXT, source TEXT, message TEXT);
CREATE TABLE output (worker INTEGER, seq INTEGER, stream INTEGER, at REAL, data BLOB);
CREATE INDEX output_of ON output (worker, seq);
"""
