"""Functions that kill their workers: none is called any more for a while, see `CrashBreaker`.

Room: core. A `Breaker` is what is known of one policy; functions that were given equal ones share
it. It counts attempts that have died with their workers, whoever had them tried again, and looks at
nothing else: an error of a function is none of its business. `TaskTable` asks whether a task may
run, `Attempts` tells how one has ended.

Closed: everything runs. Open: what is submitted fails at once, what waits has failed, what runs may
finish, and is not retried. When the rest is over, one task is let through as a trial. The first end
of its attempt that is no death closes the breaker, and another death opens it anew. A trial that
never begins, because it is cancelled or an argument fails, leaves its place to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import ReportBreaker
from .outcomes import Failure, FailureKind, OpenCircuit
from .records import field, record
from .states import BreakerStatus, Tracked

if TYPE_CHECKING:
    from .limits import BreakerPolicy
    from .model import Task
    from .outcomes import AttemptRecord
    from .turn import Turn

__all__ = ["Breaker", "Breakers"]


@record(slots=True, eq=False)
class Breaker(Tracked):
    """What is known of one policy: every function that was given an equal one shares it."""

    policy: BreakerPolicy
    state: BreakerStatus = BreakerStatus.CLOSED
    deaths: list[tuple[float, str, AttemptRecord]] = field(default_factory=list)  # when, whose
    opened_at: float = 0.0
    trial: Task | None = None  # the one that was let through

    @property
    def identity(self) -> str:
        """What the breaker is called in a story."""
        return f"the breaker {self.policy.name}"

    def circuit(self, now: float) -> OpenCircuit:
        """Say why nothing is let through."""
        left = max(0.0, self.opened_at + self.policy.rest - now)
        deaths = tuple((name, record) for _, name, record in self.deaths)
        return OpenCircuit(self.policy.name, deaths, self.policy.period, left)


class Breakers:
    """The breakers of one engine."""

    __slots__ = ("_move", "_turn", "known")

    def __init__(self, turn: Turn) -> None:
        """Begin with none: one is known from its first task on."""
        self._turn = turn
        self._move = turn.story.move
        self.known: dict[BreakerPolicy, Breaker] = {}

    def _of(self, task: Task) -> Breaker | None:
        policy = None if task.limits is None else task.limits.breaker
        if policy is None:
            return None
        breaker = self.known.get(policy)
        if breaker is None:
            breaker = self.known[policy] = Breaker(policy)
        return breaker

    def refusal(self, task: Task) -> Failure | None:
        """Return why a task that is to wait, or to run, must not; None: it may."""
        breaker = self._of(task)
        if breaker is None or breaker.state is BreakerStatus.CLOSED or breaker.trial is task:
            return None
        now = self._turn.now
        rested = now >= breaker.opened_at + breaker.policy.rest
        if rested and breaker.state is BreakerStatus.OPEN:
            self._enter(breaker, BreakerStatus.HALF_OPEN)
        if breaker.state is BreakerStatus.HALF_OPEN and breaker.trial is None:
            breaker.trial = task
            return None
        attempts = tuple(task.failures or ())
        return Failure(FailureKind.CIRCUIT_OPEN, breaker.circuit(now), attempts=attempts)

    def allows_retry(self, task: Task) -> bool:
        """Tell whether another attempt of a task may follow."""
        breaker = self._of(task)
        return breaker is None or breaker.state is BreakerStatus.CLOSED

    def died(self, task: Task, record: AttemptRecord) -> bool:
        """Count an attempt that died with its worker; tell whether that has opened a breaker."""
        breaker = self._of(task)
        if breaker is None:
            return False
        now, policy = self._turn.now, breaker.policy
        breaker.deaths.append((now, task.name, record))
        since = now - policy.period
        if breaker.state is BreakerStatus.CLOSED:
            breaker.deaths = [death for death in breaker.deaths if death[0] > since]
        del breaker.deaths[: -policy.crashes]
        is_trial = breaker.trial is task
        if is_trial:
            breaker.trial = None
        elif breaker.state is not BreakerStatus.CLOSED or len(breaker.deaths) < policy.crashes:
            return False  # one that ran already when it was opened tells nothing new
        breaker.opened_at = now
        self._enter(breaker, BreakerStatus.OPEN)
        return True

    def survived(self, task: Task) -> None:
        """Take note that an attempt has ended, and its worker lives."""
        breaker = self._of(task)
        if breaker is not None and breaker.trial is task:
            breaker.trial = None
            breaker.deaths.clear()
            self._enter(breaker, BreakerStatus.CLOSED)

    def gave_up(self, task: Task) -> None:
        """Take note that a task has failed, maybe without having begun."""
        breaker = self._of(task)
        if breaker is not None and breaker.trial is task:
            breaker.trial = None

    def shares(self, task: Task, other: Task) -> bool:
        """Tell whether two tasks have the same breaker."""
        breaker = self._of(task)
        return breaker is not None and breaker is self._of(other)

    def _enter(self, breaker: Breaker, state: BreakerStatus) -> None:
        self._move(breaker, state)
        self._turn.out.append(ReportBreaker(state, breaker.circuit(self._turn.now)))
