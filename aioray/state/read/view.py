"""What one session can tell, put together from its history and from what is going on.

Room: state. Rows as they were recorded; what Ray calls them is in `columns`. What is damaged is
left out here, see `soundness`, and the view says that there was such: all others can trust it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...core.records import NamedTuple
from ...shared import ids
from ..record import Record
from ..schema import ATTEMPT_COLUMNS, MAP_COUNTS
from ..soundness import ATTEMPT_IS_SOUND, EVENT_IS_SOUND, FIELDS, RUNNING_IS_SOUND, checked, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sessions import Session

__all__ = ["Counts", "View"]

_SELECT = (
    f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE {ATTEMPT_IS_SOUND} ORDER BY rowid"
)
_SELECT_COUNTS = (
    "SELECT signature, error_type IS NOT NULL, attempt > 0, COUNT(*) FROM attempts WHERE rowid > ? "
    "GROUP BY 1, 2, 3"
)
_SELECT_NEWEST = "SELECT task_key, attempt FROM attempts ORDER BY rowid DESC LIMIT ?"
_SELECT_EVENTS = (
    f"SELECT at, severity, source, message FROM events WHERE {EVENT_IS_SOUND} ORDER BY rowid"
)
_SELECT_RUNNING = (
    f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM running AS r WHERE {RUNNING_IS_SOUND} AND NOT "
    "EXISTS (SELECT 1 FROM attempts AS a WHERE a.task_key = r.task_key AND a.attempt = r.attempt)"
)
NEWEST = 100_000  # attempts among which are those that ended while the session answered
_KILLED = "The driver has died while this attempt was running."
_STATES = {False: "FINISHED", True: "FAILED"}


class Counts(NamedTuple):
    """All attempts, those that have ended only counted: SQLite does that for many in no time."""

    ended: Counter[
        tuple[int, bool, bool]
    ]  # by signature, whether it failed, whether it was a retry
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
    def signatures(self) -> dict[int, dict[str, Any]]:
        """What attempts have in common, by `Record.signature`."""
        rows = self.connection.execute("SELECT id, attributes FROM signatures")
        found = {
            number: self._checked(parsed(attributes), "signature") for number, attributes in rows
        }
        return {
            number: attributes for number, attributes in found.items() if attributes is not None
        }

    @cached_property
    def workers(self) -> dict[int, dict[str, Any]]:
        """The workers there are and were, by `Record.worker`; 0: the driver."""
        workers = {attributes["number"]: attributes for attributes in self._entities("worker")}
        if not self.alive:
            for attributes in workers.values():
                attributes["is_alive"] = False
        return workers

    @cached_property
    def actors(self) -> list[dict[str, Any]]:
        """The actors there are and were."""
        actors = self._entities("actor")
        if not self.alive:
            for attributes in actors:
                # Also if everything ended together, and nobody said so.
                attributes["state"] = "DEAD"
        return actors

    @cached_property
    def maps(self) -> list[dict[str, Any]]:
        """The maps there are and were, of signatures that are known."""
        return [each for each in self._entities("map") if each["signature"] in self.signatures]

    @cached_property
    def map_items(self) -> dict[int | bytes, dict[str, int]]:
        """How far each map has come, in items, by `Record.task_key`."""
        return {
            bytes.fromhex(each["task_id"]): dict(zip(MAP_COUNTS, each["counts"], strict=True))
            for each in self.maps
        }

    @cached_property
    def placement_groups(self) -> list[dict[str, Any]]:
        """The placement groups there are and were."""
        return self._entities("placement_group")

    @cached_property
    def events(self) -> list[tuple[float, str, str, str]]:
        """The session's events, in their order: when, severity, source, message."""
        found = self.connection.execute(_SELECT_EVENTS).fetchall()
        self._expect("events", len(found))
        return found

    def records(self) -> Iterator[Record]:
        """Yield all attempts: those that have ended, in that order, then those that have not."""
        unfinished = self.live.get("tasks", ())
        keys = {_key(task_key, attempt) for _, task_key, attempt, *_ in unfinished}
        signatures, count = self.signatures, 0
        for row in self.connection.execute(_SELECT):
            if row[0] not in signatures:
                continue
            count += 1
            if keys and row[1:3] in keys:
                keys.discard(row[1:3])  # it has ended since
            yield Record._make((*row, _STATES[row[-2] is not None]))
        self._expect("attempts", count)
        for row in unfinished:
            if _key(row[1], row[2]) in keys and row[0] in signatures:
                yield self._unfinished(row)
        if not self.alive:
            yield from self._killed()
        yield from self._maps_as_records()

    def _maps_as_records(self) -> Iterator[Record]:
        """Yield a record for each map: the state API tells of it as of one task."""
        for each in self.maps:
            parent = each["parent"]
            record = Record(
                signature=each["signature"],
                task_key=bytes.fromhex(each["task_id"]),
                attempt=0,
                parent=None if parent is None else bytes.fromhex(parent),
                worker=None,
                seq=None,
                created=each["created"],
                ready=each["created"],
                sent=None,
                started=each["created"],
                ended=each["ended"],
                error_type=each["error_type"],
                error_message=each["error_message"],
                state=each["state"],
            )
            if not self.alive and record.state == "RUNNING":
                record = record._replace(
                    state="FAILED", error_type="OWNER_DIED", error_message=_KILLED
                )
            yield record

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
            for signature, failed, again, count in connection.execute(_SELECT_COUNTS, (after,)):
                if signature in self.signatures:
                    ended[signature, bool(failed), bool(again)] += count
                else:
                    self.damaged = True
            if left:
                for key in connection.execute(_SELECT_NEWEST, (NEWEST,)):
                    left.pop(key, None)  # it has ended since
            found = [self._unfinished(row) for row in left.values() if row[0] in self.signatures]
            if not self.alive:
                found += self._killed()
        finally:
            if began:
                connection.execute("COMMIT")
        return Counts(ended, found, mark)

    def _unfinished(self, row: list[Any]) -> Record:
        signature, task_key, attempt, parent, *times, state = row
        whose = None if parent is None else bytes.fromhex(parent)
        return Record._make(
            (signature, *_key(task_key, attempt), whose, *times, None, None, None, state)
        )

    def _killed(self) -> Iterator[Record]:
        for row in self.connection.execute(_SELECT_RUNNING):
            if row[0] in self.signatures:
                yield Record._make((*row[:-3], None, "OWNER_DIED", _KILLED, "FAILED"))

    def task_id(self, record: Record) -> str:
        """Return the id of the attempt's task, in hexadecimal digits."""
        return self.identify(record.task_key, record.signature)

    def identify(self, task_key: int | bytes, signature: int) -> str:
        """Return the id of a task by its task_key and signature, in hexadecimal digits."""
        if isinstance(task_key, bytes):
            return task_key.hex()
        creation = self.signatures[signature]["creation"]
        if creation is None:
            return ids.task_id(self.job, task_key).hex()
        return ids.task_id(self.job, (task_key, bytes.fromhex(creation))).hex()

    def _entities(self, kind: str) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            "SELECT attributes FROM entities WHERE kind = ? ORDER BY rowid", (kind,)
        )
        found = [self._checked(parsed(attributes), kind) for (attributes,) in rows]
        return [attributes for attributes in found if attributes is not None]

    def _checked(self, attributes: Any, kind: str) -> dict[str, Any] | None:
        found, whole = checked(attributes, FIELDS[kind])
        self.damaged |= not whole
        return found

    def _expect(self, table: str, count: int) -> None:
        """Note damage if the table has more rows than so many."""
        (there,) = self.connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        self.damaged |= there > count


def _key(task_key: int | str, attempt: int) -> tuple[int | bytes, int]:
    return (bytes.fromhex(task_key) if isinstance(task_key, str) else task_key), attempt
