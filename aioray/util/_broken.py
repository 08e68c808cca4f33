"""The error of an executor's call whose process has died. Room: api; loaded when that happens."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from aioray.exceptions import WorkerCrashedError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["CallCrashedError"]


class CallCrashedError(WorkerCrashedError, BrokenProcessPool):
    """The process died in which this call of an `Executor` ran, and no retry was left.

    Code that is written for ProcessPoolExecutor catches it as BrokenProcessPool; but the executor
    is not broken, and its other calls go on.
    """

    @classmethod
    def of(cls, why: WorkerCrashedError | str) -> Self:
        """Make it of the error of a task, with all that this knows, or of a text."""
        if isinstance(why, str):
            return cls(why)
        error = cls(*why.args)
        error.__dict__.update(why.__dict__)
        return error
