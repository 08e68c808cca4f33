"""What one session can tell, put together from its history and from what is going on.

Room: state. Rows as they were recorded; what Ray calls them is in `resources`.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import ids
from .record import Record
from .schema import ATTEMPT_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .sessions import Session

__all__ = ["Glance", "View"]

_SELECT = f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts"
_SELECT_COUNTS = (
    "SELECT kind, error_type IS NOT NULL, attempt > 0, COUNT(*) FROM attempts WHERE rowid > ? "
    "GROUP BY 1, 2, 3"
)
_SELECT_NEWEST = "SELECT label, attempt FROM attempts ORDER BY rowid DESC LIMIT ?"
_SELECT_RUNNING = (
    f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM running AS r WHERE NOT EXISTS "
    "(SELECT 1 FROM attempts AS a WHERE a.label = r.label AND a.attempt = r.attempt)"
)
NEWEST = 100_000  # attempts among which are those that ended while the session answered
_KILLED = "The driver has died while this attempt was running."
_STATES = {False: "FINISHED", True: "FAILED"}


class Glance(NamedTuple):
    """All attempts, those that have ended only counted: SQLite does that for many in no time."""

    ended: Counter[tuple[int, bool, bool]]  # by kind, whether it failed, whether it was a retry
    unfinished: list[Record]
    mark: int  # for the next glance


class View:
    """What there is to know of a session at one moment."""

    def __init__(
        self, session: Session | None, connection: sqlite3.Connection, live: dict[str, Any]
    ) -> None:
        """session: whose; None: made up. live: the session's answer; empty: it has ended."""
        self.session = session
        self.connection = connection
        self.live = live

    @property
    def alive(self) -> bool:
        """Whether the session goes on."""
        return bool(self.live)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What is said of the session as a whole."""
        rows = self.connection.execute("SELECT key, value FROM meta")
        return {key: json.loads(value) for key, value in rows}

    @cached_property
    def job(self) -> bytes:
        """The id of the session's job."""
        return bytes.fromhex(self.meta["job"])

    @cached_property
    def kinds(self) -> dict[int, dict[str, Any]]:
        """What attempts have in common, by `Record.kind`."""
        rows = self.connection.execute("SELECT id, facts FROM kinds")
        return {number: json.loads(facts) for number, facts in rows}

    @cached_property
    def workers(self) -> dict[int, dict[str, Any]]:
        """The workers there are and were, by `Record.worker`; 0: the driver."""
        workers = {facts["number"]: facts for facts in self._things("worker")}
        if not self.alive:
            for facts in workers.values():
                facts["is_alive"] = False
        return workers

    @cached_property
    def actors(self) -> list[dict[str, Any]]:
        """The actors there are and were."""
        actors = self._things("actor")
        if not self.alive:
            for facts in actors:
                facts["state"] = "DEAD"  # also if everything ended together, and nobody said so
        return actors

    @cached_property
    def placement_groups(self) -> list[dict[str, Any]]:
        """The placement groups there are and were."""
        return self._things("placement_group")

    @cached_property
    def events(self) -> list[tuple[float, str, str, str]]:
        """What was told of, in its order: when, severity, source, message."""
        return self.connection.execute("SELECT * FROM events ORDER BY rowid").fetchall()

    def records(self) -> Iterator[Record]:
        """All attempts: those that have ended, in that order, then those that have not."""
        unfinished = self.live.get("tasks", ())
        keys = {_key(label, attempt) for _, label, attempt, *_ in unfinished}
        for row in self.connection.execute(f"{_SELECT} ORDER BY rowid"):
            if keys and row[1:3] in keys:
                keys.discard(row[1:3])  # it has ended since
            yield Record._make((*row, _STATES[row[-2] is not None]))
        for row in unfinished:
            if _key(row[1], row[2]) in keys:
                yield self._unfinished(row)
        if not self.alive:
            yield from self._killed()

    def glance(self, after: int = 0) -> Glance:
        """Look at all attempts at once.

        after: the `mark` of an earlier glance; what had ended by then is not counted again.
        """
        left = {_key(row[1], row[2]): row for row in self.live.get("tasks", ())}
        ended: Counter[tuple[int, bool, bool]] = Counter()
        connection = self.connection
        began = not connection.in_transaction
        if began:
            connection.execute("BEGIN")  # all that follows sees the same
        try:
            (mark,) = connection.execute("SELECT COALESCE(MAX(rowid), 0) FROM attempts").fetchone()
            for kind, failed, again, count in connection.execute(_SELECT_COUNTS, (after,)):
                ended[kind, bool(failed), bool(again)] = count
            if left:
                for key in connection.execute(_SELECT_NEWEST, (NEWEST,)):
                    left.pop(key, None)  # it has ended since
            found = [self._unfinished(row) for row in left.values()]
            if not self.alive:
                found += self._killed()
        finally:
            if began:
                connection.execute("COMMIT")
        return Glance(ended, found, mark)

    def _unfinished(self, row: list[Any]) -> Record:
        kind, label, attempt, parent, *times, state = row
        whose = None if parent is None else bytes.fromhex(parent)
        return Record._make((kind, *_key(label, attempt), whose, *times, None, None, None, state))

    def _killed(self) -> Iterator[Record]:
        for row in self.connection.execute(_SELECT_RUNNING):
            yield Record._make((*row[:-2], "OWNER_DIED", _KILLED, "FAILED"))

    def task_id(self, record: Record) -> str:
        """The id of the task, in hexadecimal digits."""
        return self.identify(record.label, record.kind)

    def identify(self, label: int | bytes, kind: int) -> str:
        """The id of a task by its label and kind."""
        if isinstance(label, bytes):
            return label.hex()
        creation = self.kinds[kind]["creation"]
        if creation is None:
            return ids.task_id(self.job, label).hex()
        return ids.task_id(self.job, (label, bytes.fromhex(creation))).hex()

    def _things(self, sort: str) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            "SELECT facts FROM things WHERE sort = ? ORDER BY rowid", (sort,)
        )
        return [json.loads(facts) for (facts,) in rows]


def _key(label: int | str, attempt: int) -> tuple[int | bytes, int]:
    return (bytes.fromhex(label) if isinstance(label, str) else label), attempt
