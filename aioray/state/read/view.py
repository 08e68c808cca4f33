"""What one session can tell, put together from its history and from what is going on.

Room: state. Rows as they were recorded; what Ray calls them is in `columns`. What is damaged is
left out here, see `soundness`, and the view says that there was such: all others can trust it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ...shared import ids
from ..record import Record
from ..schema import ATTEMPT_COLUMNS
from ..soundness import ATTEMPT_IS_SOUND, EVENT_IS_SOUND, FIELDS, RUNNING_IS_SOUND, checked, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sessions import Session

__all__ = ["Counts", "View"]

_SELECT = (
    f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE {ATTEMPT_IS_SOUND} ORDER BY rowid"
)
_SELECT_COUNTS = (
    "SELECT kind, error_type IS NOT NULL, attempt > 0, COUNT(*) FROM attempts WHERE rowid > ? "
    "GROUP BY 1, 2, 3"
)
_SELECT_NEWEST = "SELECT label, attempt FROM attempts ORDER BY rowid DESC LIMIT ?"
_SELECT_EVENTS = (
    f"SELECT at, severity, source, message FROM events WHERE {EVENT_IS_SOUND} ORDER BY rowid"
)
_SELECT_RUNNING = (
    f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM running AS r WHERE {RUNNING_IS_SOUND} AND NOT "
    "EXISTS (SELECT 1 FROM attempts AS a WHERE a.label = r.label AND a.attempt = r.attempt)"
)
NEWEST = 100_000  # attempts among which are those that ended while the session answered
_KILLED = "The driver has died while this attempt was running."
_STATES = {False: "FINISHED", True: "FAILED"}


class Counts(NamedTuple):
    """All attempts, those that have ended only counted: SQLite does that for many in no time."""

    ended: Counter[tuple[int, bool, bool]]  # by kind, whether it failed, whether it was a retry
    unfinished: list[Record]
    mark: int  # for the next glance


class View:
    """What there is to know of a session at one moment."""

    def __init__(
        self, session: Session | None, connection: sqlite3.Connection, live: dict[str, Any]
    ) -> None:
        """Join a session's history, which `connection` reads, and its answer.

        session: whose; None: made up. live: the session's answer; empty: it has ended.
        """
        self.session = session
        self.connection = connection
        self.live = live
        self.damaged = False  # whether something was left out

    @property
    def alive(self) -> bool:
        """Whether the session goes on."""
        return bool(self.live)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What is said of the session as a whole. Raises sqlite3.DatabaseError if that is lost."""
        rows = self.connection.execute("SELECT key, value FROM meta WHERE typeof(key) = 'text'")
        stored = {key: parsed(value) for key, value in rows}
        meta = self._checked(stored, "meta")
        if meta is None:
            raise sqlite3.DatabaseError("it does not say whose it is")
        return meta

    @cached_property
    def job(self) -> bytes:
        """The id of the session's job."""
        return bytes.fromhex(self.meta["job"])

    @cached_property
    def kinds(self) -> dict[int, dict[str, Any]]:
        """What attempts have in common, by `Record.kind`."""
        rows = self.connection.execute("SELECT id, facts FROM kinds")
        found = {number: self._checked(parsed(facts), "kind") for number, facts in rows}
        return {number: facts for number, facts in found.items() if facts is not None}

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
        """The session's events, in their order: when, severity, source, message."""
        found = self.connection.execute(_SELECT_EVENTS).fetchall()
        self._expect("events", len(found))
        return found

    def records(self) -> Iterator[Record]:
        """Yield all attempts: those that have ended, in that order, then those that have not."""
        unfinished = self.live.get("tasks", ())
        keys = {_key(label, attempt) for _, label, attempt, *_ in unfinished}
        kinds, count = self.kinds, 0
        for row in self.connection.execute(_SELECT):
            if row[0] not in kinds:
                continue
            count += 1
            if keys and row[1:3] in keys:
                keys.discard(row[1:3])  # it has ended since
            yield Record._make((*row, _STATES[row[-2] is not None]))
        self._expect("attempts", count)
        for row in unfinished:
            if _key(row[1], row[2]) in keys and row[0] in kinds:
                yield self._unfinished(row)
        if not self.alive:
            yield from self._killed()

    def glance(self, after: int = 0) -> Counts:
        """Count the attempts that have ended, and list those that have not.

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
                if kind in self.kinds:
                    ended[kind, bool(failed), bool(again)] += count
                else:
                    self.damaged = True
            if left:
                for key in connection.execute(_SELECT_NEWEST, (NEWEST,)):
                    left.pop(key, None)  # it has ended since
            found = [self._unfinished(row) for row in left.values() if row[0] in self.kinds]
            if not self.alive:
                found += self._killed()
        finally:
            if began:
                connection.execute("COMMIT")
        return Counts(ended, found, mark)

    def _unfinished(self, row: list[Any]) -> Record:
        kind, label, attempt, parent, *times, state = row
        whose = None if parent is None else bytes.fromhex(parent)
        return Record._make((kind, *_key(label, attempt), whose, *times, None, None, None, state))

    def _killed(self) -> Iterator[Record]:
        for row in self.connection.execute(_SELECT_RUNNING):
            if row[0] in self.kinds:
                yield Record._make((*row[:-3], None, "OWNER_DIED", _KILLED, "FAILED"))

    def task_id(self, record: Record) -> str:
        """Return the id of the attempt's task, in hexadecimal digits."""
        return self.identify(record.label, record.kind)

    def identify(self, label: int | bytes, kind: int) -> str:
        """Return the id of a task by its label and kind, in hexadecimal digits."""
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
        found = [self._checked(parsed(facts), sort) for (facts,) in rows]
        return [facts for facts in found if facts is not None]

    def _checked(self, facts: Any, sort: str) -> dict[str, Any] | None:
        found, whole = checked(facts, FIELDS[sort])
        self.damaged |= not whole
        return found

    def _expect(self, table: str, count: int) -> None:
        """Note damage if the table has more rows than so many."""
        (there,) = self.connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        self.damaged |= there > count


def _key(label: int | str, attempt: int) -> tuple[int | bytes, int]:
    return (bytes.fromhex(label) if isinstance(label, str) else label), attempt
