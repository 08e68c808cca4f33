"""Tells what has not ended: tasks, from what there is, and how many there are of everything.

Room: engine. Rows come in slices, so that a long queue does not hold up the loop.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ...core.states import TaskStatus
from ...shared import ids
from ...shared.wire import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ...core.model import Task
    from .signatures import Signatures

__all__ = ["Live"]

SLICE = 1_000  # tasks told in one go
_QUEUED = "PENDING_NODE_ASSIGNMENT"
_STATES = {
    TaskStatus.PENDING_ARGS_AVAIL: "PENDING_ARGS_AVAIL",
    TaskStatus.PENDING_NODE_ASSIGNMENT: _QUEUED,
    TaskStatus.BACKOFF: _QUEUED,
    TaskStatus.SUBMITTED_TO_WORKER: "SUBMITTED_TO_WORKER",
}
_WORKING = ("IDLE", "BUSY")


class Live:
    """What runs, or waits, in one engine now."""

    def __init__(
        self,
        signatures: Signatures,
        workers: Mapping[int, dict[str, Any]],
        actors: Mapping[str, dict[str, Any]],
        *,
        job: bytes,
        unix_offset: float,
    ) -> None:
        """Take over rows that a recorder keeps. workers, actors: of those that have not ended."""
        self._signatures = signatures
        self._workers = workers
        self._actors = actors
        self._job = job
        self._offset = unix_offset

    def unfinished(
        self, tasks: Sequence[Task], running: Mapping[int, tuple[int, float]], rows: list[Any]
    ) -> Iterator[None]:
        """Append a row for every task that has not ended, with pauses.

        running: by id of a worker, the attempt that it works on and since when. A row is as in
        `schema.ATTEMPT_COLUMNS` up to `started`, and the state; ids are hexadecimal.
        """
        for count, task in enumerate(tasks):
            if count % SLICE == SLICE - 1:
                yield
            row = self._row(task, running)
            if row is not None:
                task_key, parent = row[1], row[3]
                row[1] = task_key.hex() if type(task_key) is bytes else task_key
                row[3] = None if parent is None else parent.hex()
                rows.append(row)

    def running(self, tasks: Sequence[Task], running: Mapping[int, tuple[int, float]]) -> list[Any]:
        """Return rows of those tasks that are running, as in `schema.ATTEMPT_COLUMNS`."""
        rows = [self._row(task, running) for task in tasks]
        return [[*row[:-1], None, None, None] for row in rows if row is not None and row[-2]]

    def running_tasks(
        self, tasks: Sequence[Task], running: Mapping[int, tuple[int, float]]
    ) -> list[dict[str, Any]]:
        """Return those tasks that are running, by the names of Ray's columns; since: Unix."""
        return [
            {
                "name": task.name,
                "task_id": ids.task_id(self._job, task.task_key).hex(),
                "attempt_number": task.attempt,
                "seq": task.seq,
                "since": row[-2],
            }
            for task in tasks
            if (row := self._row(task, running)) is not None and row[-2]
        ]

    def figures(
        self, tasks: Sequence[Task], running: Mapping[int, tuple[int, float]]
    ) -> dict[str, Counter[tuple[str, ...]]]:
        """Count "tasks", "actors" and "workers", by function or class, and state."""
        counted: Counter[tuple[str, ...]] = Counter()
        for task in tasks:
            state = _STATES.get(task.state)
            if task.worker is not None:
                row = self._row(task, running)
                state = None if row is None else row[-1]
            if state is not None and not _is_hidden(task):
                attributes = self._signatures.attributes(self._signatures.number(task))
                counted[attributes["func_or_class_name"], state] += 1
        workers = [attributes for number, attributes in self._workers.items() if number]
        return {
            "tasks": counted,
            "actors": Counter(
                (attributes["class_name"], attributes["state"])
                for attributes in self._actors.values()
            ),
            "workers": Counter(
                (
                    "STARTING"
                    if not attributes["ready"]
                    else _WORKING[attributes["number"] in running],
                )
                for attributes in workers
            ),
        }

    def _row(self, task: Task, running: Mapping[int, tuple[int, float]]) -> list[Any] | None:
        cls = task.scheduling_class
        state = _STATES.get(task.state)
        if state is None or _is_hidden(task):
            return None  # it has ended during a pause, and is in the history
        worker: int | None = None
        seq: int | None = None
        sent = started = None
        if task.worker is not None:
            worker, seq, sent = task.worker.id, task.seq, task.sent_at
            at = running.get(worker)
            if at is not None and at[0] == seq:
                started = at[1]
            elif cls.actor is not None and not cls.actor.ahead:
                started = sent
            if started is not None:
                state = "RUNNING_IN_RAY_GET" if task.worker.blocked else "RUNNING"
        elif state is _QUEUED and cls.actor is not None and cls.actor.worker is not None:
            state = "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"
        ready = task.ready_at if task.ready_at >= task.created_at else None
        offset = self._offset
        signature, task_key, parent = self._signatures.identity(task)
        return [
            signature,
            task_key,
            task.attempt,
            parent,
            worker,
            seq,
            *(
                None if at is None else at + offset
                for at in (task.created_at, ready, sent, started)
            ),
            state,
        ]


def _is_hidden(task: Task) -> bool:
    """Tell whether a task is shown as something else: a placement group, or a map."""
    if task.scheduling_class.reserves is not None:
        return True
    return task.spec is not None and task.spec.num_returns == CHUNK
