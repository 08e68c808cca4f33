"""Which workers are to come up, and what it means when they do not.

Room: core. `Starts` orders workers of the `WorkerPool` for what waits in the backlog.

What cannot be set up. If an environment is to blame for a failed start, what waits for it fails
with it, unless a worker that is there or on its way can still serve; for a short while the next
tasks do too, and then it is tried again. Starts that failed for another reason are counted and
repeated, see `RestartIntensity`. Those that were ordered before a failure was known are one try
with it, for one cause may end them all, such as the death of the template.

What has had its time. A worker that keeps too much memory, or is too old, goes on until its
successor is ready, so that nothing waits for a start; then it gets no more. Not so that of an
actor, which cannot be replaced without losing what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .facts import PauseEnded, SpareLookDue, WorkerAged
from .intensity import RestartIntensity
from .outcomes import FailureKind
from .states import LEAVING, Phase, WorkerStatus

if TYPE_CHECKING:
    from .backlog import Backlog
    from .events import WorkerOutgrown, WorkerReady, WorkerStartFailed, WorkerWanted
    from .model import Environment, SchedulingClass, Worker
    from .pool import WorkerPool
    from .resources import Resources
    from .tasks import TaskTable
    from .turn import Turn

__all__ = ["Starts"]

SCARCITY = (12, 60.0)  # tries, within how many seconds, to start a worker where there is no room
SCARCITY_PAUSE = 1.0  # seconds between two tries after that, as long as others work
AGED_SECONDS = 10.0  # between two tries to replace a worker that is too old
BROKEN_SECONDS = 1.0  # for which an environment that failed is not tried again
MAX_BLOCKED = 1_000  # workers beyond those, whose tasks wait for others: a recursion without end


class Starts:
    """The starts of one engine, and those that have failed."""

    __slots__ = (
        "_backlog",
        "_broken",
        "_max_age",
        "_pool",
        "_resources",
        "_scarcity",
        "_start_intensity",
        "_table",
        "_tried",
        "_turn",
        "blocked_until",
        "intensity",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        backlog: Backlog,
        table: TaskTable,
        pool: WorkerPool,
        start_intensity: tuple[int, float] = (3, 10.0),
        max_worker_age: float | None = None,
    ) -> None:
        """Begin with no starts. start_intensity: failed ones tolerated, within how many seconds.

        max_worker_age: seconds after which a worker is replaced; None: never.
        """
        self._turn = turn
        self._resources = resources
        self._backlog = backlog
        self._table = table
        self._pool = pool
        self._start_intensity = start_intensity
        self._max_age = max_worker_age
        self.blocked_until: dict[Environment, float] = {}  # no starts before this time
        self.intensity: dict[Environment, RestartIntensity] = {}
        self._scarcity: dict[Environment, RestartIntensity] = {}
        self._tried: dict[Environment, int] = {}  # the newest worker when one was counted last
        self._broken: dict[Environment, Any] = {}  # why its set-up failed last, while blocked

    def order(self, cls: SchedulingClass, wanted: int, now: float) -> None:
        """Order workers for a class, as many as it can make use of and are not on their way."""
        environment = cls.environment
        if self.blocked_until.get(environment, 0.0) > now:
            if environment in self._broken and not self._is_served(cls):
                self._table.fail_waiting(cls, FailureKind.ENVIRONMENT, self._broken[environment])
            return
        more = self._pool.room()
        if more <= 0:
            self._make_room(now)
            return
        if self._resources.blocked_workers >= MAX_BLOCKED:
            self._table.fail_waiting(cls, FailureKind.TOO_MANY_BLOCKED, None)
            return
        starting = self._pool.starting.get(environment, 0)
        room = min(more, self._pool.kept - starting)
        for _ in range(min(wanted - starting, room)):
            self._pool.start(environment)

    def warm_up(self, event: WorkerWanted, now: float) -> None:
        """Order a first worker, if there is none, before there is anything to do."""
        environment = event.environment
        blocked = self.blocked_until.get(environment, now) > now
        if self._turn.life.state is Phase.OPEN and not self._pool.workers and not blocked:
            self._pool.start(environment)

    def provide_spare(self, fact: SpareLookDue) -> None:
        """Order the spare worker of an environment, if it is missing."""
        environment, now = fact.environment, self._turn.now
        if (
            self._pool.needs_spare(environment, now)
            and self.blocked_until.get(environment, 0.0) <= now
        ):
            self._pool.start(environment)

    def _is_served(self, cls: SchedulingClass) -> bool:
        """Tell whether a worker is there, or on its way, that can take what waits in this queue."""
        return any(
            worker.environment == cls.environment
            and worker.state not in LEAVING
            and not worker.blocked
            and worker.actor is None
            and self._resources.suits(worker, cls)
            for worker in self._pool.workers.values()
        )

    def _make_room(self, now: float) -> None:
        """Stop the worker that is idle longest: it is not of the kind that is wanted."""
        if self._pool.idle_count and not any(
            w.state in LEAVING for w in self._pool.workers.values()
        ):
            self._pool.stop_idle(self._pool.longest_idle()[0], now)

    def has_served(self, worker: Worker) -> None:
        """Note that a worker was of use: its environment works."""
        if not worker.served:
            worker.served = True
            intensity = self.intensity.get(worker.environment)
            if intensity is not None:
                intensity.succeeded()
            self._scarcity.pop(worker.environment, None)

    def take_ready(self, event: WorkerReady, now: float) -> None:
        """Take in a worker that has come up."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is None or worker.state is not WorkerStatus.STARTING:
            return
        self._broken.pop(worker.environment, None)
        old, worker.replaces = worker.replaces, None
        if old is not None and old.state is WorkerStatus.READY and old.actor is None:
            self._pool.retire(old, now)
        self._pool.take_in(worker, now)
        if self._max_age is not None:
            self._turn.timers.set(now + self._max_age, WorkerAged(worker))
        self._turn.dirty = True

    # ------------------------------------------------------------ successors

    def outgrown(self, event: WorkerOutgrown, now: float) -> None:
        """Replace a worker that keeps too much memory."""
        worker = self._pool.workers.get(event.worker_id)
        if worker is not None:
            self._replace(worker, now)

    def aged(self, fact: WorkerAged) -> None:
        """Replace a worker that is too old, and look later whether it could be."""
        worker, now = fact.worker, self._turn.now
        if worker.state is WorkerStatus.READY and self._max_age is not None:
            self._replace(worker, now)
            # If it is an actor's, that may still turn out not to be made there.
            pause = AGED_SECONDS if worker.actor is None else max(AGED_SECONDS, self._max_age)
            self._turn.timers.set(now + pause, fact)

    def _replace(self, worker: Worker, now: float) -> None:
        """Order the successor of a worker, unless it has one, or none can be started now."""
        pool = self._pool
        if (
            worker.state is WorkerStatus.READY
            and worker.actor is None
            and self._turn.life.state is Phase.OPEN
            and self.blocked_until.get(worker.environment, 0.0) <= now
            and pool.room() > 0
            and not any(each.replaces is worker for each in pool.workers.values())
        ):
            pool.start(worker.environment).replaces = worker

    # ------------------------------------------------------------ failures

    def take_start_failure(self, event: WorkerStartFailed, now: float) -> None:
        """Judge a start that has failed."""
        worker = self._pool.remove(event.worker_id)
        if worker is None:
            return
        if worker.state in (WorkerStatus.STARTING, WorkerStatus.DEAD):
            if event.environment_failed:
                self._environment_failed(worker.environment, event.report, now)
            else:
                self.start_failed(worker, event.report, now, scarce=event.scarce)

    def start_failed(
        self, worker: Worker, report: Any, now: float, *, scarce: bool = False
    ) -> None:
        """Count a start that has failed, and try again, or fail what waits for it."""
        environment = worker.environment
        if self._turn.life.state is not Phase.OPEN and not self._table.unfinished:
            return
        if worker.id <= self._tried.get(environment, 0):
            self._turn.dirty = True  # somebody may have counted on it
            return
        self._tried[environment] = self._pool.last_id
        counts = self._scarcity if scarce else self.intensity
        intensity = counts.get(environment)
        if intensity is None:
            tolerated = SCARCITY if scarce else self._start_intensity
            intensity = counts[environment] = RestartIntensity(*tolerated)
        delay = intensity.failed(now)
        others: list[Worker] = []
        dead_ends: list[SchedulingClass] = []
        if delay is None:
            others = [
                worker
                for worker in self._pool.workers.values()
                if worker.environment == environment
                and worker.state is not WorkerStatus.STARTING
                and not worker.blocked
                and worker.actor is None
            ]
            dead_ends = [
                cls
                for cls in self._backlog.waiting
                if cls.environment == environment
                and not any(self._resources.suits(worker, cls) for worker in others)
            ]
            if scarce and others:
                delay = SCARCITY_PAUSE
        if delay is None:
            self.blocked_until.pop(environment, None)
        else:
            self.blocked_until[environment] = now + delay
            self._turn.timers.set(now + delay, PauseEnded())
        for cls in dead_ends:
            self._table.fail_waiting(cls, FailureKind.WORKER_STARTUP, report)
        # Else others work on the queue: too few workers, but no dead end.
        if dead_ends or (delay is None and not others):
            self._turn.dirty = True

    def _environment_failed(self, environment: Environment, report: Any, now: float) -> None:
        """Start no more of its workers for a while; what nobody else can run fails at once."""
        if self._turn.life.state is not Phase.OPEN and not self._table.unfinished:
            return
        self._broken[environment] = report
        self.blocked_until[environment] = now + BROKEN_SECONDS
        self._turn.timers.set(now + BROKEN_SECONDS, PauseEnded())
        for cls in tuple(self._backlog.waiting):
            if cls.environment == environment and not self._is_served(cls):
                self._table.fail_waiting(cls, FailureKind.ENVIRONMENT, report)
        self._turn.dirty = True

    def end_pause(self, _fact: PauseEnded) -> None:
        """Let what waits be looked at: its workers may be started again."""
        self._turn.dirty = True
