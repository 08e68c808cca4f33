"""Tells the history what happens in an engine: attempts, workers, actors, placement groups.

Room: engine. It looks at what the scheduler orders and at what processes do, turns that into rows
and hands them to the writer's thread; it decides nothing. What is done for every task is one tuple.
Texts of errors are made in that thread. What has not ended is told by `Live`.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ...core.outcomes import DeathCause, FailureKind
from ...core.states import ActorStatus, GroupStatus
from ...shared import ids
from ...shared.wire import CHUNK
from . import redaction, texts
from .actor_reports import ActorEnd
from .guard import log_instead_of_raising
from .live import Live
from .reports import (
    NODE_IP,
    DeathReport,
    StartReport,
    error_type,
)
from .signatures import Signatures, amounts, fields

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping, Sequence

    from ...client.entry import StoredFailure
    from ...core.groups import Group
    from ...core.model import SupervisedActor, Task
    from ...core.outcomes import AttemptRecord, Failure
    from ...state.write.writer import HistoryWriter
    from ..processes.handle import WorkerHandle
    from ..tasks.actors import ActorRecord
    from .sites import Sites

__all__ = ["Recorder"]

_DEATHS = {
    DeathCause.WORKER_DIED: "WORKER_DIED",
    DeathCause.TOO_OFTEN: "WORKER_DIED",
    DeathCause.EXITED: "INTENDED_USER_EXIT",
    DeathCause.KILLED: "RAY_KILL",
    DeathCause.OUT_OF_SCOPE: "OUT_OF_SCOPE",
    DeathCause.CREATION_FAILED: "ACTOR_CREATION_FAILED",
    DeathCause.GROUP_REMOVED: "PLACEMENT_GROUP_REMOVED",
    DeathCause.SHUTDOWN: "OWNER_DIED",
}


_log_instead_of_raising = log_instead_of_raising(
    logging.ERROR, "Something is missing in the history, which is a bug in aioray."
)


class Recorder:
    """What one engine tells. On the engine's thread, but where it says otherwise."""

    def __init__(
        self,
        writer: HistoryWriter,
        *,
        job: bytes,
        node_id: str,
        unix_offset: float,
        row_of_group: Callable[[Group], dict[str, Any]],
        sites: Sites,
        redacts: bool = False,
    ) -> None:
        """Note nothing yet.

        row_of_group: a placement group as Ray's state API describes it. redacts: keep no texts of
        the program, see `redaction`.
        """
        self.writer = writer
        self._row_of_group = row_of_group
        self._sites = sites
        self._job = job
        self._node_id = node_id
        self._redacts = redacts
        self._texts: Any = redaction if redacts else texts
        self._signatures = Signatures(writer, job, sites, redacts=redacts)
        self._workers: dict[int, dict[str, Any]] = {}  # those that have not ended
        self._actors: dict[str, dict[str, Any]] = {}  # the same
        self._maps: dict[str, dict[str, Any]] = {}  # the same
        self._leaving: set[int] = set()  # workers whose actors have ended themselves
        writer.finish_row = texts.with_text
        self.live = Live(
            self._signatures, self._workers, self._actors, job=job, unix_offset=unix_offset
        )

    def begin(self, session: Mapping[str, Any]) -> None:
        """Begin the history. session: what is known of the session as a whole."""
        now = time.time()
        program = sys.argv if sys.argv and sys.argv[0] else ["python"]
        self.writer.meta = {
            "job": self._job.hex(),
            "node_id": self._node_id,
            "pid": os.getpid(),
            "hostname": os.uname().nodename,
            "ip": NODE_IP,
            "entrypoint": " ".join(program[:1] if self._redacts else program),
            "python": sys.version.partition(" ")[0],
            "started_at": now,
            "ended_at": None,
            **({"redacted": True} if self._redacts else {}),
            **session,
        }
        driver = {
            **_worker_attributes(0, ids.random_id().hex(), "DRIVER"),
            "pid": os.getpid(),
            "launched": now,
            "forked": now,
            "ready": now,
        }
        self._workers[0] = driver
        self._tell("worker", "0", driver)

    def end(self) -> None:
        """End the history, and everything in it that has not ended."""
        now = time.time()
        for attributes in self._workers.values():
            self._tell(
                "worker",
                str(attributes["number"]),
                {
                    **attributes,
                    "is_alive": False,
                    "ended": now,
                    "exit_type": "INTENDED_SYSTEM_EXIT",
                },
            )
        self.writer.meta = {**self.writer.meta, "ended_at": now}
        self.writer.close()

    # ------------------------------------------------------------ attempts

    @_log_instead_of_raising
    def finished(self, results: Sequence[tuple[Task, Any]]) -> None:
        """Note that these tasks have their values."""
        writer = self.writer
        append = writer.done.append
        number = self._signatures.number
        sited = self._sites.known
        kind = signature = submitter = parent_id = None
        hidden = False
        for task, _ in results:
            seq = task.seq
            if not seq:
                self._group_changed(task)
                continue
            if task.kind is not kind or sited:
                kind = task.kind
                signature = number(task)
                hidden = kind.spec is not None and kind.spec.num_returns == CHUNK
            if hidden:
                continue  # what there is to know is told of its map
            task_key, parent = task.task_key, task.parent_key
            if parent is not submitter:  # what a task submits mostly comes together
                submitter = parent
                parent_id = None if parent is None else ids.task_id(self._job, parent)
            append(
                (
                    signature,
                    task_key[0] if type(task_key) is tuple else task_key,
                    task.attempt,
                    parent_id,
                    task.sent_to,
                    seq,
                    task.created_at,
                    task.ready_at,
                    task.sent_at,
                    task.started_at,
                    task.seconds,
                )
            )
        writer.wake()

    @_log_instead_of_raising
    def retried(self, task: Task, record: AttemptRecord) -> None:
        """Note that this attempt has failed, and another follows."""
        how = self._texts.describe(record)
        self.event("WARNING", "TASK", f"Task {task.name} is tried again: {how}.")
        text = functools.partial(self._texts.text_of, record)
        self._failed(task, record, record.kind, text, self.writer.retried)

    @_log_instead_of_raising
    def failed(self, task: Task, failure: Failure, stored: StoredFailure) -> None:
        """Note that this task has failed for good."""
        record = failure.attempts[-1] if failure.attempts else None
        if record is not None and record.number != task.attempt:
            record = None
        if record is None and task.seq and _is_exit(failure):
            self.finished([(task, None)])  # it has done what it was to do: end its actor
            return
        if record is None and task.seq and task.started_at >= task.sent_at:
            why = f"Task {task.name} had a value, which is lost: {failure.kind.value}."
            self.event("WARNING", "TASK", why)  # the attempt has finished all the same
            return
        # Not `stored` itself: that it is gone is how an error is found that nobody has looked at.
        text = functools.partial(self._texts.text_of_error, stored.build)
        self._failed(task, record, failure.kind, text, self.writer.failed)

    def actor_not_made(self, creation: Task) -> None:
        """Note that making an actor has failed, and is tried again."""
        record = creation.failures[-1] if creation.failures else None
        if record is not None and record.number == creation.attempt - 1:
            self.retried(creation, record)

    def _failed(
        self,
        task: Task,
        record: AttemptRecord | None,
        kind: FailureKind,
        text: Callable[[], str],
        rows: deque[tuple[Any, ...]],
    ) -> None:
        if task.scheduling_class.reserves is not None:
            self._group_changed(task)
            return
        if task.spec is not None and task.spec.num_returns == CHUNK:
            return  # what there is to know is told of its map
        worker: int | None = None
        seq: int | None = None
        sent = started = None
        number, created, ready = task.attempt, task.created_at, task.ready_at
        ended = time.monotonic()
        if record is not None and record.passage is not None:
            number, worker, started = record.number, record.worker_id, record.started_at
            created, ready, sent, seq = record.passage
            if started is not None and record.duration is not None:
                ended = started + record.duration
            if not record.duration and not record.started_at:
                started = None
        elif task.seq:
            worker, seq, sent = task.sent_to, task.seq, task.sent_at
        signature, task_key, parent = self._signatures.identity(task)
        rows.append(
            (
                signature,
                task_key,
                number,
                parent,
                worker,
                seq,
                created,
                ready if ready >= created else None,
                sent,
                started,
                ended,
                error_type(kind),
                text,
            )
        )
        self.writer.wake()

    @_log_instead_of_raising
    def map_changed(
        self,
        key: bytes,
        first: Task | None,
        state: str,
        counts: Sequence[int],
        error: Sequence[str],
    ) -> None:
        """Note how far a map has come. first: its first chunk, if that is still known."""
        name, now = key.hex(), time.time()
        attributes = self._maps.get(name)
        if attributes is None:
            if first is None:
                return
            parent = first.parent_key
            attributes = {
                "task_id": name,
                "signature": self._signatures.number(first),
                "parent": None if parent is None else ids.task_id(self._job, parent).hex(),
                "created": now,
                "ended": None,
                "error_type": None,
                "error_message": None,
            }
        attributes = self._maps[name] = {**attributes, "state": state, "counts": list(counts)}
        if state != "RUNNING":
            del self._maps[name]
            attributes["ended"] = now
            if error:
                attributes["error_type"], attributes["error_message"] = error
        self._tell("map", name, attributes)

    # ------------------------------------------------------------ workers

    @_log_instead_of_raising
    def launched(self, worker_id: int, hex_id: str) -> None:
        """Note that a worker was ordered."""
        attributes = _worker_attributes(worker_id, hex_id, "WORKER")
        attributes["launched"] = time.time()
        self._workers[worker_id] = attributes

    @_log_instead_of_raising
    def forked(self, worker_id: int, pid: int) -> None:
        """Note that a worker has a process."""
        self._change(worker_id, pid=pid, forked=time.time())

    @_log_instead_of_raising
    def ready(self, worker_id: int) -> None:
        """Note that a worker takes attempts."""
        self._change(worker_id, ready=time.time())

    @_log_instead_of_raising
    def start_failed(self, worker_id: int, report: StartReport) -> None:
        """Note that a worker has not come up."""
        why = redaction.REDACTED if self._redacts else report.reason
        self._exit(worker_id, "SYSTEM_ERROR", f"It could not be started: {why}")
        self.event("ERROR", "WORKER", f"A worker could not be started: {why}")

    @_log_instead_of_raising
    def exited(self, handle: WorkerHandle, report: DeathReport) -> None:
        """Note that the process of a worker has been reaped."""
        detail = report.one_line()
        is_actor = self._workers.get(handle.id, {}).get("actor_id") is not None
        if handle.id in self._leaving:
            self._leaving.discard(handle.id)
            kind, detail = "INTENDED_USER_EXIT", "It has ended itself, by exit_actor() or exit(0)."
        elif report.oom_killed or report.excess is not None:
            kind = "NODE_OUT_OF_MEMORY"
            self.event("ERROR", "WORKER", f"Worker {report.worker.pid}: {detail}.")
        elif handle.kill_ordered:
            why = f": {handle.killed_for}" if handle.killed_for else ", as was ordered"
            kind, detail = "INTENDED_SYSTEM_EXIT", f"It was killed{why}."
        elif handle.claims_writer is None:
            kind, detail = "INTENDED_SYSTEM_EXIT", "It was asked to end."
        else:
            wished = report.exit_code == 0 and not is_actor  # an actor would have said so
            kind = "INTENDED_USER_EXIT" if wished else "SYSTEM_ERROR"
            self.event("ERROR", "WORKER", f"Worker {report.worker.pid}: {detail}.")
        self._exit(handle.id, kind, detail)

    def _exit(self, worker_id: int, kind: str, detail: str) -> None:
        self._change(
            worker_id, is_alive=False, exit_type=kind, exit_detail=detail, ended=time.time()
        )
        self._workers.pop(worker_id, None)

    def _change(self, worker_id: int, **changes: Any) -> None:
        attributes = self._workers.get(worker_id)
        if attributes is not None:
            attributes = self._workers[worker_id] = {**attributes, **changes}
            self._tell("worker", str(worker_id), attributes)

    # ------------------------------------------------------------ actors and groups

    @_log_instead_of_raising
    def actor_changed(self, actor: SupervisedActor) -> None:
        """Note that the state of an actor has changed."""
        known: ActorRecord = actor.payload
        attributes = self._actors.get(known.description.actor_id)
        if attributes is None:
            attributes = self._new_actor(known)
        worker = known.worker
        state = actor.state
        alive = state is ActorStatus.ALIVE
        attributes = {
            **attributes,
            "state": state.name,
            "num_restarts": actor.num_restarts,
            "pid": None if worker is None or state is ActorStatus.PENDING_CREATION else worker.pid,
            "repr_name": known.repr_name,
        }
        if actor.worker is not None:
            attributes["worker"] = actor.worker.id
            attributes["node_id"] = self._node_id
            if alive:
                self._change(actor.worker.id, actor_id=known.description.actor_id)
        self._actors[known.description.actor_id] = attributes
        if state is ActorStatus.DEAD:
            del self._actors[known.description.actor_id]
            end = known.end
            assert end is not None
            if end.cause is DeathCause.EXITED and actor.worker is not None:
                self._leaving.add(actor.worker.id)
            attributes |= {
                "ended": time.time(),
                "death_cause": {
                    "reason": _DEATHS[end.cause],
                    "error_message": end.one_line(),
                },
            }
            if end.cause in (DeathCause.WORKER_DIED, DeathCause.TOO_OFTEN):
                self.event("ERROR", "ACTOR", end.notice())
        elif state is ActorStatus.RESTARTING:
            self.actor_not_made(actor.creation)
            self.event(
                "WARNING",
                "ACTOR",
                f"Actor {known.description.class_name} ({known.description.actor_id}) is made "
                f"again, because its {actor.loss.one_line()}.",
            )
        self._tell("actor", known.description.actor_id, attributes)

    def _new_actor(self, known: ActorRecord) -> dict[str, Any]:
        definition, attributes = known.definition, known.description
        return {
            "actor_id": attributes.actor_id,
            "class_name": attributes.class_name,
            "state": None,
            "job_id": self._job.hex(),
            "name": attributes.name,
            "node_id": None,  # until it is placed
            "pid": None,
            "ray_namespace": attributes.namespace,
            "serialized_runtime_env": fields(definition.environment),
            "required_resources": amounts(definition.demand),
            "death_cause": None,
            "is_detached": definition.detached,
            "placement_group_id": known.group or None,
            "repr_name": "",
            "num_restarts": 0,
            "num_restarts_due_to_lineage_reconstruction": 0,
            "num_restarts_due_to_node_preemption": 0,
            "call_site": self._sites.stack(known.actor.creation),
            "label_selector": {},
            "fallback_strategy": [],
            "worker": None,
            "created": time.time(),
            "ended": None,
        }

    @_log_instead_of_raising
    def group_changed(self, group: Group) -> None:
        """Note that the state of a placement group has changed."""
        attributes = self._row_of_group(group)
        ended = time.time() if group.state is GroupStatus.REMOVED else None
        self._tell("placement_group", group.key, {**attributes, "ended": ended})

    def _group_changed(self, reservation: Task) -> None:
        group = reservation.scheduling_class.reserves
        assert group is not None
        self.group_changed(group)

    # ------------------------------------------------------------ what else there is

    def event(self, severity: str, source: str, message: str) -> None:
        """Note something that an operator may want to know of."""
        self.writer.events.append((time.time(), severity, source, message))
        self.writer.wake()

    def output(self, worker_id: int, seq: int, stream: int, data: bytes) -> None:
        """Keep what an attempt has printed; 0: it was no attempt. stream: 1 or 2."""
        if not self._redacts:
            self.writer.keep_output((worker_id, seq, stream, time.time(), data))

    def _tell(self, kind: str, name: str, attributes: dict[str, Any]) -> None:
        if self._redacts:
            attributes = redaction.attributes(attributes)
        self.writer.entities.append((kind, name, attributes))
        self.writer.wake()

    # ------------------------------------------------------------ what has not ended


def _worker_attributes(number: int, hex_id: str, kind: str) -> dict[str, Any]:
    return {
        "number": number,
        "worker_id": hex_id,
        "pid": None,
        "is_alive": True,
        "worker_type": kind,
        "exit_type": None,
        "exit_detail": None,
        "launched": None,
        "forked": None,
        "ready": None,
        "ended": None,
        "actor_id": None,
    }


def _is_exit(failure: Failure) -> bool:
    """Return whether a failure is that of the calls of an actor that has ended itself.

    The call that has done so was sent, and has no record of a failed attempt.
    """
    return isinstance(failure.detail, ActorEnd) and failure.detail.cause is DeathCause.EXITED
