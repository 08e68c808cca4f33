"""The futures of an `Executor`, and the errors that `concurrent.futures` has for what may happen.

Room: api. Code that takes an executor knows the errors of `ProcessPoolExecutor`: the function's own
exception, whose `__cause__` shows where it came from, and BrokenProcessPool for a process that has
died. So these are what a future raises.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from aioray.api.objects import cancel
from aioray.client.futures import RefFuture
from aioray.exceptions import RayTaskError, WorkerCrashedError, is_control_flow

from ._calls import Exited, InitializerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioray.client.refs import ObjectRef

__all__ = ["CallFuture", "RemoteTraceback", "broken"]

T = TypeVar("T")


class RemoteTraceback(Exception):  # noqa: N818 - as Python's own, which it stands for
    """The `__cause__` of an exception that a call has raised: its text is the worker's traceback.

    `tb` is that text too, as in `concurrent.futures`. Nobody raises it.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f"\n{self.tb}"


class CallFuture(RefFuture[T]):
    """The future of a task; cancelling it cancels the task."""

    def __init__(
        self,
        ref: ObjectRef[T],
        breaks: Callable[[CallFuture[Any], BaseException], BaseException],
    ) -> None:
        """Wait for `ref`. breaks: returns what an error of the initializer makes of the call."""
        super().__init__(ref.entry)
        self._ref = [ref]
        self._breaks = breaks

    def running(self) -> bool:
        """Tell whether the call is with a worker; in workers that is not known, and False."""
        task = self.entry.task
        return super().running() or (task is not None and task.worker is not None)

    def cancel(self) -> bool:
        """Cancel the future, if it is not done, and interrupt the task, or keep it from running."""
        if not super().cancel():
            return False
        with contextlib.suppress(IndexError):  # cancelled before
            ref = self._ref.pop()
            self.set_running_or_notify_cancel()  # wakes those who wait
            cancel(ref)
        return True

    def end(self, error: BaseException, grace: float | None) -> None:
        """Fail the future, if it is not done, and end the task: its worker is killed after `grace`.

        grace: seconds from the interrupt on; None: at once.
        """
        with contextlib.suppress(concurrent.futures.InvalidStateError, IndexError):
            super().set_exception(error)
            cancel(self._ref.pop(), force=grace is None, grace=grace)

    def set_result(self, result: T) -> None:
        """Take the value of the task."""
        if isinstance(result, Exited):
            self.set_exception(SystemExit(result.code))
        else:
            super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Take the error of the task, as `concurrent.futures` would have it."""
        super().set_exception(None if exception is None else self._translated(exception))

    def _translated(self, error: BaseException) -> BaseException:
        if isinstance(error, WorkerCrashedError):
            return broken(error)
        cause = error.cause if isinstance(error, RayTaskError) else None
        if cause is None or isinstance(cause, RayTaskError):
            return error
        if isinstance(cause, InitializerError):
            return self._breaks(self, error)
        plain = isinstance(cause, Exception) and not is_control_flow(cause)
        if not plain and not isinstance(cause, SystemExit):
            return error
        cause.__cause__ = RemoteTraceback(str(error))
        return cause


def broken(why: WorkerCrashedError | str, cause: BaseException | None = None) -> BaseException:
    """Return the error of a call whose process has died, was ended, or was never fit for it."""
    from ._broken import CallCrashedError  # it needs multiprocessing, which nothing else does

    error = CallCrashedError.of(why)
    error.__cause__ = cause
    return error
