"""The classes of ids that Ray has: `ray.TaskID`, `ray.NodeID` and their like.

Room: shared; stdlib only. An id is bytes with a kind. Inside aioray ids are bytes, and in the state
API hexadecimal digits; these classes are for programs that hold or annotate ids. That of an object
is its `ObjectRef`. Source: Ray API, ray._raylet.BaseID.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import ids

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "ActorClassID",
    "ActorID",
    "BaseID",
    "FunctionID",
    "JobID",
    "NodeID",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
]


class BaseID(str):
    """An id of some kind. Hashable, picklable, equal to one of the same class.

    It is a str too, of its hexadecimal digits, so that it can stand wherever the state API and the
    runtime context take and tell those. That is beyond Ray; what is printed is as in Ray.
    """

    __slots__ = ()
    _SIZE: int  # bytes

    def __new__(cls, id: bytes) -> Self:  # noqa: A002 - Ray's name
        """Take the bytes of an id. Raises TypeError or ValueError for anything else."""
        if not isinstance(id, bytes):
            raise TypeError(f"Unsupported type: {type(id)}, expected bytes")
        if len(id) != cls._SIZE:
            raise ValueError(f"ID string needs to have length {cls._SIZE}, got {len(id)}")
        return super().__new__(cls, id.hex())

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> Self:
        """Return the id of these bytes."""
        return cls(id_bytes)

    @classmethod
    def from_hex(cls, hex_id: str | bytes) -> Self:
        """Return the id of these hexadecimal digits."""
        return cls(bytes.fromhex(hex_id if isinstance(hex_id, str) else hex_id.decode()))

    @classmethod
    def nil(cls) -> Self:
        """Return the id of nothing."""
        return cls(b"\xff" * cls._SIZE)

    @classmethod
    def size(cls) -> int:
        """Return how many bytes ids of this class have."""
        return cls._SIZE

    def binary(self) -> bytes:
        """Return the id as bytes."""
        return bytes.fromhex(self)

    def hex(self) -> str:
        """Return the id in hexadecimal digits, as a plain str."""
        return "".join(self)

    def is_nil(self) -> bool:
        """Tell whether this is the id of nothing."""
        return self == self.nil()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseID) and type(other) is not type(self):
            return False
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.binary(),)


class UniqueID(BaseID):
    """An id that is drawn at random."""

    __slots__ = ()
    _SIZE = ids.NODE_ID_SIZE

    @classmethod
    def from_random(cls) -> Self:
        """Return a new id, drawn at random."""
        return cls(os.urandom(cls._SIZE))


class NodeID(UniqueID):
    """The id of a machine in a session."""

    __slots__ = ()


class WorkerID(UniqueID):
    """The id of a process in a session."""

    __slots__ = ()


class FunctionID(UniqueID):
    """The id of a remote function."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """The id of a class of actors."""

    __slots__ = ()


class JobID(BaseID):
    """The id of a driver in its session."""

    __slots__ = ()
    _SIZE = ids.JOB_ID_SIZE

    @classmethod
    def from_int(cls, value: int) -> JobID:
        """Return the id of the job with this number."""
        return cls(ids.job_id(value))

    def int(self) -> int:
        """Return the number of the job."""
        return int.from_bytes(self.binary(), "little")


class ActorID(BaseID):
    """The id of an actor."""

    __slots__ = ()
    _SIZE = ids.ACTOR_ID_SIZE

    def job_id(self) -> JobID:
        """Return the id of the job that the actor belongs to."""
        return JobID(self.binary()[-ids.JOB_ID_SIZE :])

    @classmethod
    def from_random(cls) -> Self:
        """Return a new id, drawn at random."""
        return cls(os.urandom(cls._SIZE))


class TaskID(BaseID):
    """The id of a task, or of a call of an actor."""

    __slots__ = ()
    _SIZE = ids.TASK_ID_SIZE

    def job_id(self) -> JobID:
        """Return the id of the job that the task belongs to."""
        return JobID(self.binary()[-ids.JOB_ID_SIZE :])

    def actor_id(self) -> ActorID:
        """Return the id of the actor whose call, or creation, the task is; nil: of none."""
        actor = ids.actor_of(self.binary())
        return ActorID.nil() if actor is None else ActorID(actor)

    @classmethod
    def for_driver_task(cls, job_id: JobID) -> TaskID:
        """Return the id that stands for a driver."""
        return cls(ids.driver_task_id(job_id.binary()))


class PlacementGroupID(BaseID):
    """The id of a placement group."""

    __slots__ = ()
    _SIZE = 18

    @classmethod
    def from_random(cls) -> Self:
        """Return a new id, drawn at random."""
        return cls(os.urandom(cls._SIZE))

    @classmethod
    def of(cls, job_id: JobID) -> PlacementGroupID:
        """Return a new id of a placement group of this job."""
        return cls(os.urandom(cls._SIZE - ids.JOB_ID_SIZE) + job_id.binary())
