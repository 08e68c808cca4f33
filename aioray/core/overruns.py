"""Tasks that take too long: which limit they exceed, and what is done about it.

Room: core. `deadline` counts from the submission: what has not begun by then fails, wherever it
waits. `timeout` counts from the entry of an attempt, `stall_timeout` from its last heartbeat; both
are known to its worker, so when an attempt could have exceeded one the shell is asked to look
(`LookAtAttempt`). What waits behind others in a worker was not entered, and does not count.

What runs too long climbs the ladder of `cancellation`, for this attempt: what is behind it comes
back, where it is is found out (`LocateAttempt`), it is interrupted, and killed after
`GRACE_SECONDS`, also if it is a call of an actor. Who wins when news cross is as with a cancel: an
answer that has come stands, and a request to cancel takes the ladder over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .cancels import Cancellation
from .commands import LookAtAttempt
from .outcomes import Failure, FailureKind, Overrun
from .records import replace

if TYPE_CHECKING:
    from .alarms import Alarms
    from .cancellation import Cancellations
    from .events import AttemptLocated, AttemptSeen
    from .facts import AlarmDue
    from .model import Task
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Overruns"]


class Overruns:
    """The one who minds how long tasks take."""

    __slots__ = ("_alarms", "_cancels", "_pool", "_prefetch", "_table", "_turn")

    def __init__(
        self,
        turn: Turn,
        table: TaskTable,
        pool: WorkerPool,
        prefetch: Prefetch,
        cancels: Cancellations,
    ) -> None:
        """Take the parts below."""
        self._turn = turn
        self._table = table
        self._alarms: Alarms = table.alarms
        self._pool = pool
        self._prefetch = prefetch
        self._cancels = cancels

    def ring(self, _fact: AlarmDue) -> None:
        """Look at what an alarm was set for."""
        self.look(self._turn.now)

    def look(self, now: float) -> None:
        """Look at all that is due: a deadline that has passed, an attempt that may have to end."""
        for when, task, seq in self._alarms.due(now):
            limits, worker = task.limits, task.worker
            assert limits is not None
            if seq:
                assert worker is not None
                self._turn.out.append(LookAtAttempt(worker.id, seq))
            elif task.number in self._table.unfinished:  # it has not failed with one before
                assert limits.deadline is not None
                overrun = Overrun.of_deadline(limits.deadline, now - when + limits.deadline)
                if worker is None:
                    attempts = tuple(task.failures or ())
                    self._table.fail(task, Failure(FailureKind.TIMEOUT, overrun, attempts=attempts))
                    self._turn.dirty = True  # others may have waited for it to go first
                else:
                    self._begin(task, overrun)

    def see(self, event: AttemptSeen, now: float) -> None:
        """Judge an attempt that was looked at: it has taken too long, or there is another look."""
        task = self._pool.task_in_flight(event.worker_id, event.seq)
        if task is None or task.limits is None:
            return
        limits = task.limits
        shortest, entered = limits.shortest, event.entered_at
        if shortest is None:
            return
        if entered is None:
            self._alarms.again(task, now + shortest)
            return
        entered = min(max(entered, task.sent_at), now)
        beat = now if event.beat_at == math.inf else min(max(event.beat_at, entered), now)
        ends = [
            (since + seconds, since, option, seconds)
            for since, option, seconds in (
                (entered, "timeout", limits.timeout),
                (beat, "stall_timeout", limits.stall_timeout),
            )
            if seconds is not None
        ]
        due, since, option, seconds = min(ends)
        if due > now:
            self._alarms.again(task, due)
        else:
            self._begin(task, Overrun(option, seconds, now - since))

    def _begin(self, task: Task, overrun: Overrun) -> None:
        """Begin to climb the ladder with an attempt that has taken too long."""
        worker, cancellation = task.worker, task.cancellation
        assert worker is not None
        if cancellation is None:
            task.cancellation = Cancellation(overrun=overrun)
            self._prefetch.reclaim(worker)  # AttemptsReclaimed climbs on
        elif cancellation.overrun is None:
            self._cancels.insist(task)  # it is cancelled, and must not go on for ever
        elif overrun.is_final:
            cancellation.overrun = replace(overrun, report=cancellation.overrun.report)

    def locate(self, event: AttemptLocated, _now: float) -> None:
        """Climb on with an attempt of which is known where it is."""
        task = self._pool.task_in_flight(event.worker_id, event.seq)
        cancellation = None if task is None else task.cancellation
        if task is None or cancellation is None or cancellation.overrun is None:
            return
        cancellation.overrun = replace(
            cancellation.overrun, report=event.report, retries=event.retries
        )
        assert task.worker is not None
        self._prefetch.reclaim(task.worker)
