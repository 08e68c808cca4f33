"""The record of a cancel: what was asked, and how far up the ladder it has come.

Room: core. Data; who climbs is `cancellation`, and for limits of time `overruns`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outcomes import CancelOutcome
from .records import field, record
from .states import CancelStatus, Tracked

if TYPE_CHECKING:
    from .outcomes import Overrun

__all__ = ["Cancellation"]


@record(slots=True, eq=False)
class Cancellation(Tracked):
    """What was asked of one task that is to be cancelled, and how far that has gone."""

    state: CancelStatus = CancelStatus.REQUESTED
    request_ids: list[int] = field(default_factory=list)
    recursive: bool = False  # what the task submits from now on is cancelled too
    by_shutdown: bool = False  # nobody asked, but the engine has to end
    force: bool = False  # kill instead of interrupting: as asked, or the grace period is over
    outcome: CancelOutcome = CancelOutcome.FINISHED_FIRST  # of the failed task: how it came
    overrun: Overrun | None = None  # nobody asked, but this attempt takes too long
    told: bool = False  # the method was, in its thread: its outcome does not count any more

    @property
    def identity(self) -> str:
        """What it is called in a story."""
        return "a cancel"
