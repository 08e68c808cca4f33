"""The core as the shell sees it: takes one fact, and returns the orders that follow from it.

Room: core. `Scheduler` builds the parts and decides nothing itself. Two tables say all that it
knows: which part takes which event, and which part hears which fact that another one, or a timer,
tells (see `facts`). A part calls only parts below it, in the order in which they are built here:

    resources, backlog            what there is, what waits
    call_queues, permits          in which order; what else it waits for
    tasks, pool, starts           what a task waits for; who is there, and who is to come
    attempts, prefetch            beginning and judging them; how many are sent ahead
    cancellation, overruns        the ladder; what takes too long
    memory, waits                 who has too much; who blocks for whom
    actors, calls, placement      their lives, their calls; groups
    starvation, dispatch          who is to be told; who gets what
    worker_news, shutdown         what workers say; the end

An event comes from `handle`, commands go out by `Turn.out`. Whatever makes something free, or ready
to run, leaves the turn dirty, and is followed by one dispatch. The same events give the same
commands; `next_deadline()` says when a `TimerFired` is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import events, facts
from .actors import ActorSupervisor
from .attempts import Attempts
from .backlog import Backlog
from .call_queues import CallQueues
from .calls import ActorCalls
from .cancellation import Cancellations
from .devices import UNIT
from .dispatch import Dispatcher
from .memory import MemoryGuard
from .overruns import Overruns
from .permits import Permits
from .placement import Placement
from .pool import WorkerPool
from .prefetch import Prefetch
from .resources import Resources
from .shutdown import Shutdown
from .starts import Starts
from .starvation import Starvation
from .states import Phase
from .tasks import TaskTable
from .turn import Turn
from .waits import Waits
from .worker_news import WorkerNews

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from .commands import Command
    from .model import Task

__all__ = ["Scheduler"]

_OPEN = Phase.OPEN  # members are slow to look up


class Scheduler:
    """The state of one engine: every unfinished task, every worker, every resource."""

    def __init__(
        self,
        resources: Mapping[str, int],
        rng: random.Random,
        *,
        devices: Sequence[str] | None = None,
        start_intensity: tuple[int, float] = (3, 10.0),
        max_worker_age: float | None = None,
        memory_retries: int | None = None,
    ) -> None:
        """Start with no workers.

        resources: totals in 1/10,000 units; "CPU" also sets how many idle workers are kept.
        devices: names of the GPUs, as many as there are of "GPU"; None: their numbers from 0.
        rng: source of jitter. start_intensity: failed starts tolerated, within how many seconds.
        max_worker_age: in seconds; None: any. memory_retries: as in `Attempts`.
        """
        self.turn = turn = Turn()
        turn.announce = lambda fact: self._facts[type(fact)](fact)
        self.resources = ledger = Resources(resources, devices)
        self.backlog, self.call_queues = backlog, call_queues = Backlog(), CallQueues()
        permits = Permits(turn, backlog, call_queues)
        self.table = table = TaskTable(turn, backlog, call_queues)
        kept = max(1, -(-resources.get("CPU", 0) // UNIT))
        self.pool = pool = WorkerPool(turn, ledger, kept=kept)
        self.starts = starts = Starts(
            turn, ledger, backlog, table, pool, start_intensity, max_worker_age
        )
        self.attempts = attempts = Attempts(turn, table, call_queues, rng, memory_retries)
        self.prefetch = prefetch = Prefetch(turn, ledger, backlog, pool, starts, attempts)
        self.cancels = cancels = Cancellations(turn, table, pool, prefetch)
        self.overruns = overruns = Overruns(turn, table, pool, prefetch, cancels)
        self.alarms, self.breakers = table.alarms, table.breakers
        self.memory = memory = MemoryGuard(turn, pool, attempts, prefetch)
        self.waits = waits = Waits(turn, table, pool)
        self.actors = actors = ActorSupervisor(turn, ledger, call_queues, table, pool, attempts)
        self.calls = calls = ActorCalls(
            turn, ledger, call_queues, permits, table, pool, starts, attempts, prefetch, actors
        )
        self.placement = placement = Placement(turn, ledger, backlog, table, pool, actors)
        starvation = Starvation(turn, ledger, backlog, table, pool, actors)
        self.dispatcher = dispatcher = Dispatcher(
            turn, ledger, backlog, call_queues, permits, pool, starts, attempts, prefetch, actors,
            calls, placement, starvation,
        )  # fmt: skip
        news = WorkerNews(
            turn, ledger, backlog, call_queues, table, pool, starts, attempts, prefetch, actors,
            calls, waits, cancels, memory, dispatcher,
        )  # fmt: skip
        self.shutdown = shutdown = Shutdown(turn, table, pool, prefetch, actors, waits)
        self._events: dict[type[Any], Callable[[Any, float], None]] = {
            events.TasksSubmitted: table.submit,
            events.AnswersReceived: news.answer,
            events.AttemptsNotSent: news.refuse,
            events.AttemptsReclaimed: news.reclaim,
            events.WorkerReady: starts.take_ready,
            events.WorkerStartFailed: starts.take_start_failure,
            events.WorkerDied: pool.take_death,
            events.WorkerExited: news.bury,
            events.WorkerOutgrown: starts.outgrown,
            events.WorkerBlocked: dispatcher.block,
            events.WorkerUnblocked: dispatcher.unblock,
            events.AttemptWaits: waits.wait,
            events.AttemptSeen: overruns.see,
            events.AttemptLocated: overruns.locate,
            events.CancelRequested: cancels.cancel,
            events.ResultLost: table.lose,
            events.ResultWanted: table.want,
            events.Revived: table.revive,
            events.MemoryMeasured: memory.measured,
            events.MemoryRanShort: memory.ran_short,
            events.GroupRemoved: placement.remove,
            events.ActorReleased: actors.released,
            events.ActorKilled: actors.killed,
            events.WorkerWanted: starts.warm_up,
            events.TimerFired: self._fire,
            events.ShutdownRequested: shutdown.request,
        }
        self._facts: dict[type[Any], Callable[[Any], None]] = {
            facts.CreationWaits: actors.note_waiting,
            facts.CreationFailed: actors.creation_failed,
            facts.BackoffEnded: attempts.end_backoff,
            facts.GraceEnded: cancels.end_grace,
            facts.AlarmDue: overruns.ring,
            facts.OverrunGraceEnded: cancels.end_overrun_grace,
            facts.InterruptUnanswered: cancels.repeat,
            facts.StopOverdue: pool.insist,
            facts.ProgressOverdue: prefetch.check_progress,
            facts.SpareLookDue: starts.provide_spare,
            facts.SurplusLookDue: pool.stop_surplus,
            facts.PauseEnded: starts.end_pause,
            facts.WorkerAged: starts.aged,
            facts.PermitsDue: permits.ring,
            facts.StarvationLookDue: starvation.report,
            facts.PatienceEnded: actors.lose_patience,
            facts.DrainEnded: shutdown.end_drain,
            facts.ShutdownGraceEnded: shutdown.end_grace,
        }
        # What the shell asks; it changes nothing.
        self.total, self.available = ledger.total, ledger.available
        self.oversubscribed = ledger.oversubscribed
        self.scheduling_class, self.demands = backlog.scheduling_class, backlog.demands
        self.reservation_class = backlog.reservation_class
        self.task_in_flight, self.tasks_in_flight = pool.task_in_flight, pool.tasks_in_flight
        self.submitter, self.expects = pool.submitter, pool.expects
        self.next_deadline, self.unfinished = turn.timers.next, self.table.unfinished

    def handle(self, event: events.Event, now: float) -> list[Command]:
        """Take one fact, and return what has to be done about it, in order."""
        turn = self.turn
        turn.begin(now, type(event).__name__, getattr(event, "worker_id", None))
        if self.alarms.due_at <= now:  # whatever this event makes free is not for what is over
            self.overruns.look(now)
        self._events[type(event)](event, now)
        if turn.dirty:
            self.dispatcher.run(now)
        if turn.life.state is not _OPEN and not self.table.unfinished:
            self.shutdown.end_workers(now)
        self.actors.reported.clear()
        return turn.end()

    def _fire(self, _event: events.TimerFired, now: float) -> None:
        for fact in self.turn.timers.due(now):
            self.turn.announce(fact)
            if self.turn.dirty:
                self.dispatcher.run(now)

    @property
    def blocked_workers(self) -> int:
        """How many workers have tasks that wait for others."""
        return self.resources.blocked_workers

    def unfinished_tasks(self) -> tuple[Task, ...]:
        """Return the tasks that have no outcome yet."""
        return tuple(self.table.unfinished.values())
