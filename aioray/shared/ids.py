"""Identifiers: what a job, a task, an object and a worker are called.

Room: shared; stdlib only. The shapes are Ray's: JobID 4 bytes, ActorID 16,
TaskID 24, ObjectRef 28 = task id + little-endian index, node and worker ids 28. A task's id is a
function of job, parent task and submission counter, so a script names its tasks alike in every run.
Inside the engine tasks are known by that counter alone; ids are computed when somebody looks at
them. Source: Ray design documents, "ID specification".
"""

from __future__ import annotations

import os
import struct

__all__ = [
    "FIRST_ITEM",
    "NODE_ID_SIZE",
    "OBJECT_ID_SIZE",
    "PUTS_OF_AN_ATTEMPT",
    "PUT_ATTEMPTS",
    "PUT_INDEX",
    "SIGNAL_INDEX",
    "TASK_ID_SIZE",
    "TaskKey",
    "actor_call_id",
    "actor_of",
    "actor_task_id",
    "child_task_id",
    "driver_id",
    "driver_task_id",
    "index_of",
    "is_actor",
    "job_id",
    "job_of",
    "object_id",
    "random_id",
    "task_id",
    "worker_key",
]

JOB_ID_SIZE = 4
ACTOR_ID_SIZE = 16
TASK_ID_SIZE = 24
OBJECT_ID_SIZE = 28
NODE_ID_SIZE = 28  # worker ids too
PUT_INDEX = 100_000_000  # objects of `put` are numbered from here
FIRST_ITEM = 2  # index of the first item of a generator; 1 is that of its end
SIGNAL_INDEX = 1 << 31 | 1 << 30 | 1 << 29 | 1 << 28  # signals of items are numbered from here
PUTS_OF_AN_ATTEMPT = 1_000_000  # numbers that an attempt of a task has for them
PUT_ATTEMPTS = 3_900  # attempts that have numbers of their own

_NO_ACTOR = b"\xff" * 12
_CREATION = b"\xff" * 8
_INDEX = struct.Struct("<I")
_COUNTER = struct.Struct("<Q")


def job_id(number: int) -> bytes:
    """Return the id of the `number`-th job, counted from 1."""
    return _INDEX.pack(number)


def driver_task_id(job: bytes) -> bytes:
    """Return the id of the driver as a task, the parent of the tasks it submits."""
    return b"\xff" * 20 + job


TaskKey = int | bytes | tuple[int, bytes]
"""What a task's id is made of: of what the driver has submitted, its number among those, from 1;
the same and the id of the creation, if it is a call of an actor; of all else the id itself."""


def task_id(job: bytes, task_key: TaskKey) -> bytes:
    """Return the id of a task by its task_key; job: of the driver."""
    if isinstance(task_key, bytes):
        return task_key
    if isinstance(task_key, tuple):
        number, creation = task_key
        return actor_call_id(child_task_id(driver_task_id(job), number), creation)
    return child_task_id(driver_task_id(job), task_key)


def child_task_id(parent: bytes, counter: int, attempt: int = 0) -> bytes:
    """Return the id of the `counter`-th task, from 1, that this attempt of `parent` submitted.

    What later attempts submit has ids of its own: of the first something may still be in use.
    """
    from hashlib import sha256  # here, because few workers ever look at an id

    job = parent[-JOB_ID_SIZE:]
    again = _INDEX.pack(attempt) if attempt else b""
    digest = sha256(job + parent + _COUNTER.pack(counter) + again).digest()
    return digest[:8] + _NO_ACTOR + job


def actor_task_id(parent: bytes, counter: int, attempt: int = 0) -> bytes:
    """Return the id of the task that makes the `counter`-th actor, from 1, of this attempt.

    Its last 16 bytes are the id of the actor. parent: the task of which this is an attempt.
    """
    from hashlib import sha256

    again = _INDEX.pack(attempt) if attempt else b""
    digest = sha256(b"actor" + parent + _COUNTER.pack(counter) + again).digest()
    return _CREATION + digest[:12] + parent[-JOB_ID_SIZE:]


def actor_call_id(task: bytes, creation: bytes) -> bytes:
    """Return the id of a call of an actor. task: the id it would have as a call of a function."""
    return task[:8] + creation[8:TASK_ID_SIZE]


def actor_of(identifier: bytes) -> bytes | None:
    """Return the id of the actor that this task, or object, belongs to; None if to none."""
    actor = identifier[8:TASK_ID_SIZE]
    return None if actor.startswith(_NO_ACTOR) else actor


def is_actor(identifier: bytes) -> bool:
    """Tell whether this id is that of the object that stands for an actor."""
    return identifier[:8] == _CREATION and not identifier[8:].startswith(_NO_ACTOR)


def index_of(identifier: bytes) -> int:
    """Return the index inside an object id."""
    index: int = _INDEX.unpack(identifier[TASK_ID_SIZE:])[0]
    return index


def worker_key(worker_id: str) -> bytes:
    """Return what stands for a task where a worker asks for something between its tasks."""
    return bytes.fromhex(worker_id)[: TASK_ID_SIZE - JOB_ID_SIZE]


def object_id(task: bytes, index: int) -> bytes:
    """Return the id of a task's `index`-th return value, from 1, or of an object put by it."""
    return task + _INDEX.pack(index)


def job_of(identifier: bytes) -> bytes:
    """Return the job id inside an object id."""
    return identifier[TASK_ID_SIZE - JOB_ID_SIZE : TASK_ID_SIZE]


def driver_id(job: bytes) -> bytes:
    """Return the id of a driver as a process, beside those of its workers."""
    return job.ljust(NODE_ID_SIZE, b"\xff")


def random_id(size: int = NODE_ID_SIZE) -> bytes:
    """Draw a fresh id for what has no deterministic one: sessions, nodes, workers."""
    return os.urandom(size)
