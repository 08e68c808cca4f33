"""One attempt as it is read.

Room: state; stdlib only. Apart from `schema`, which the writer imports: that may be while the
interpreter ends, when to make a class of named fields would make Python forget that it was
interrupted.
"""

from __future__ import annotations

from ..core.records import NamedTuple

__all__ = ["Record"]


class Record(NamedTuple):
    """One attempt of a task. The columns of `attempts`, and `state`."""

    signature: int  # see `signatures`: a function with one set of options
    task_key: int | bytes  # number among the driver's tasks, from 1; of all others the id
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
