"""The set-up of one new worker in its runtime environment, as the driver sees it.

Room: engine. It begins with the process and ends with the worker's first word, in time or not at
all; whatever else ends it is the environment's fault, and is put in words here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..telemetry.reports import StartReport

if TYPE_CHECKING:
    import asyncio

    from ..telemetry.reports import DeathReport
    from .handle import WorkerHandle

__all__ = ["Setup"]

ABORT_SECONDS = 1.0  # that a process gets to write where it hangs, before it is killed


class Setup:
    """One worker's set-up, while it lasts."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds  # that it may take; None: no limit
        self.error = (
            b""  # the exception that ended it, as `aioray.shared.failures.capture` describes it
        )
        self.late = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def failed(self) -> bool:
        """Whether it is known that the worker will not be used."""
        return self.late or bool(self.error)

    def begin(self, loop: asyncio.AbstractEventLoop, handle: WorkerHandle) -> None:
        """Let the time of the set-up run: the process is there."""
        if self.seconds is not None:
            self._timer = loop.call_later(self.seconds, self._time_is_over, loop, handle)

    def end(self) -> None:
        """Stop the timer: the set-up has ended, one way or another."""
        if self._timer is not None:
            self._timer.cancel()

    def _time_is_over(self, loop: asyncio.AbstractEventLoop, handle: WorkerHandle) -> None:
        self.late = True
        handle.abort()
        self._timer = loop.call_later(ABORT_SECONDS, handle.kill)

    def explain(self, death: DeathReport) -> StartReport:
        """Explain why the worker, which is dead now, could not be set up."""
        if self.error:
            return StartReport("The set-up raised an exception:", death.stderr_tail, self.error)
        if self.late:
            where = f"\nIt was here:\n{death.python_stack}" if death.python_stack else ""
            return StartReport(
                f"The set-up had not ended after {self.seconds:g} seconds, and its process was "
                f"killed. The limit is setup_timeout_seconds in the config of runtime_env.{where}",
                death.stderr_tail,
            )
        stack = f"\n{death.python_stack}" if death.python_stack else ""
        return StartReport(
            f"The set-up did not end: the {death.one_line()}.{stack}", death.stderr_tail
        )
