"""The one who knows what is right: what of the plan has happened, and what may come of it.

It hears from workers what they have really done, and from the engine what it says of that. Every
task has its outcome once, and a right one; an attempt is entered once, within the budget; nothing
runs after a cancel was acknowledged; the history tells what has happened, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from aioray import exceptions
from aioray.client.entry import ObjectEntry, StoredFailure
from aioray.core.outcomes import CancelOutcome, FailureKind
from aioray.shared.serialization import load
from aioray.shared.wire import Status

from .playing import SimError, value_of

if TYPE_CHECKING:
    from .plan import Item
    from .playing import Playing
    from .session import SimSession
    from .workers import SimWorker

__all__ = ["Attempted", "Facts", "Witness"]

_RAISED = (
    Status.RAISED, Status.RAISED_RETRYABLE, Status.ASKED_FOR_RETRY, Status.FORBADE_RETRY,
    Status.RAISED_CANCELLED, Status.RAISED_CANCELLED_RETRYABLE,
)  # fmt: skip
_ERRORS: dict[FailureKind, tuple[type[BaseException], ...]] = {
    FailureKind.APPLICATION: (exceptions.RayTaskError,),
    FailureKind.WORKER_DIED: (exceptions.WorkerCrashedError,),
    FailureKind.CANCELLED: (exceptions.TaskCancelledError,),
    FailureKind.TIMEOUT: (exceptions.TaskTimeoutError,),
    FailureKind.CIRCUIT_OPEN: (exceptions.CircuitOpenError,),
    FailureKind.DEPENDENCY: (exceptions.RayTaskError,),
    FailureKind.WORKER_STARTUP: (exceptions.WorkerStartupError,),
    FailureKind.TOO_MANY_BLOCKED: (exceptions.WorkerStartupError,),
    FailureKind.GROUP_REMOVED: (exceptions.TaskPlacementGroupRemoved,),
    FailureKind.UNSCHEDULABLE: (exceptions.TaskUnschedulableError,),
    FailureKind.ACTOR_DIED: (exceptions.ActorDiedError,),
    FailureKind.ACTOR_UNAVAILABLE: (exceptions.ActorUnavailableError,),
    FailureKind.OUT_OF_MEMORY: (exceptions.OutOfMemoryError,),
    FailureKind.LOST: (exceptions.ObjectLostError, exceptions.RayTaskError),
    FailureKind.SHUTDOWN: (exceptions.EngineShutdownError, exceptions.ActorDiedError),
}
# What the history calls how an attempt has ended, by what the worker knows of that.
_OF_INTERRUPT = {"TASK_CANCELLED", "TASK_TIMEOUT", "LOCAL_RAYLET_DIED"}
_OF_DEATH = {
    "WORKER_DIED", "OUT_OF_MEMORY", "ACTOR_DIED", "ACTOR_UNAVAILABLE", "TASK_CANCELLED",
    "TASK_TIMEOUT", "TASK_PLACEMENT_GROUP_REMOVED", "LOCAL_RAYLET_DIED", "WORKER_STARTUP_FAILED",
    "CIRCUIT_OPEN",
}  # fmt: skip


class Attempted:
    """What is known of one attempt that was entered."""

    __slots__ = ("died", "seq", "status", "worker")

    def __init__(self, worker: SimWorker, seq: int) -> None:
        self.worker = worker
        self.seq = seq
        self.status: Status | None = None  # as the worker has answered
        self.died = False  # it had not answered when its process ended


class Facts:
    """What is known of one task."""

    __slots__ = (
        "asked", "attempts", "cancels", "failure", "item", "made_by", "never_again", "number",
        "resolved", "upstream", "values",
    )  # fmt: skip

    def __init__(self, item: Item, number: int, made_by: Playing | None) -> None:
        self.item = item
        self.number = number
        self.made_by = made_by  # the attempt that has submitted it
        self.attempts: dict[int, Attempted] = {}
        self.resolved = 0  # times that it got an outcome and was not run again since
        self.values = 0  # times that it got a value
        self.failure: FailureKind | None = None
        self.upstream: int | None = None  # of a failure: the task that is to blame
        self.asked = False  # somebody wants it cancelled, or an ancestor with its descendants
        self.cancels: list[CancelOutcome] = []
        self.never_again = False  # a cancel of it was acknowledged


class Witness:
    """The witness of one session."""

    def __init__(self, session: SimSession) -> None:
        self.session = session
        self.facts: dict[int, Facts] = {}  # by number of the task
        self.of_item: dict[int, list[Facts]] = {}
        self.by_key: dict[Any, tuple[Item, Playing | None]] = {}
        self.submitting: Item | None = None  # by the driver
        self.stopped = 0
        self.counts: Counter[str] = Counter()
        self.workers: list[SimWorker] = []  # that have died

    # ------------------------------------------------------------ what is asked for

    def submitted(self, number: int, task_key: Any) -> None:
        """Note a task that the engine has made."""
        item, made_by = self.by_key.get(task_key) or (self.submitting, None)
        assert item is not None, "a task that nobody has asked for"
        facts = self.facts[number] = Facts(item, number, made_by)
        self.of_item.setdefault(item.number, []).append(facts)
        if made_by is not None:
            parent = self.facts[made_by.task]
            facts.asked = parent.asked
        self.session.story("submit", item.number, number)

    def item_of(self, number: int) -> Item:
        """Return what a task was made for."""
        return self.facts[number].item

    def cancel_asked(self, facts: Facts, *, recursive: bool) -> None:
        """Note that a task may be cancelled."""
        facts.asked = True
        if recursive:
            for other in self.facts.values():
                if other.made_by is not None and self.facts[other.made_by.task] is facts:
                    self.cancel_asked(other, recursive=True)

    def cancel_known(self, facts: Facts, outcome: CancelOutcome) -> None:
        """Take note of what became of a cancel: from now on it does not run."""
        self.session.story("cancelled", facts.item.number, outcome.name)
        self.counts[f"cancel {outcome.name}"] += 1
        facts.cancels.append(outcome)
        if outcome is CancelOutcome.FINISHED_FIRST or self.session.closing:
            return
        facts.never_again = True
        for worker in self.session.workers.workers.values():
            for playing in worker.playing.values():
                runs = playing.task == facts.number and playing.entered is not None
                assert not (runs and worker.alive), (
                    f"item {facts.item.number} runs, and its cancel was {outcome.name}"
                )

    # ------------------------------------------------------------ what workers do

    def entered(self, playing: Playing) -> None:
        """Note that a function was entered."""
        facts, number = self.facts[playing.task], playing.attempt.attempt
        item = facts.item
        self.session.story("enter", item.number, number, playing.worker.id)
        assert not facts.never_again, f"item {item.number} runs after its cancel was acknowledged"
        assert number not in facts.attempts, f"attempt {number} of item {item.number} ran twice"
        facts.attempts[number] = Attempted(playing.worker, playing.seq)
        self._check_budget(facts)

    def _check_budget(self, facts: Facts) -> None:
        item = facts.item
        options = item.options
        if item.kind == "actor":
            allowed = options.get("max_restarts", 0)
        elif item.kind == "call":
            assert item.actor is not None
            allowed = self.session.by_number[item.actor].options.get("max_task_retries", 0)
        else:
            allowed = options.get("max_retries", 3)
        if allowed < 0 or item.kind == "actor":
            return
        apart = sum(each.worker.excess is not None for each in facts.attempts.values())
        assert len(facts.attempts) - apart <= allowed + 1, (
            f"item {item.number} has had {len(facts.attempts)} attempts, and {allowed} retries "
            "are allowed"
        )

    def check_arguments(self, playing: Playing, values: list[Any]) -> None:
        """Check what an attempt was given."""
        (args, kwargs), *rest = values
        item = playing.item
        assert not kwargs
        assert args[0] == item.number, "another's arguments"
        assert len(args[1]) == item.weight, "its weight"
        needed = self.session.given.get(item.number, ())
        assert len(rest) == len(needed) == len(args) - 2
        for number, value in zip(needed, rest, strict=True):
            other = self.session.by_number[number]
            assert value == value_of(number, 0, other.size), f"item {number} has a wrong value"

    def answered(self, playing: Playing, status: Status) -> None:
        """Note what a worker has written, though nobody may read it."""
        facts = self.facts[playing.task]
        self.session.story("answer", facts.item.number, playing.attempt.attempt, status.name)
        attempted = facts.attempts.get(playing.attempt.attempt)
        if attempted is not None:
            attempted.status = status

    def worker_died(self, worker: SimWorker) -> None:
        """Note what has died with a process."""
        for playing in worker.playing.values():
            attempted = self.facts[playing.task].attempts.get(playing.attempt.attempt)
            if attempted is not None and attempted.status is None:
                attempted.died = True

    # ------------------------------------------------------------ what the engine says

    def has_value(self, task: Any) -> None:
        """Take note of a value."""
        facts = self.facts[task.number]
        self.session.story("value", facts.item.number, task.attempt)
        facts.resolved += 1
        facts.values += 1
        kind = facts.item.kind
        if kind == "actor":
            facts.resolved = 1
        assert facts.resolved == 1, f"item {facts.item.number} is resolved twice"
        if kind == "group":
            return
        attempted = facts.attempts.get(task.attempt)
        assert attempted is not None, f"item {facts.item.number} has a value and did not run"
        assert attempted.status is Status.RETURNED, f"item {facts.item.number} has no such value"

    def has_failed(self, task: Any, failure: Any) -> None:
        """Take note of a failure, which must have a reason."""
        facts = self.facts[task.number]
        item, kind = facts.item, failure.kind
        self.session.story("failure", item.number, task.attempt, kind.name)
        self.counts[kind.name] += 1
        late = (FailureKind.LOST, FailureKind.SHUTDOWN)
        if item.kind == "actor" or (facts.values and kind in late and facts.failure is None):
            facts.resolved = 0  # it may be made again; or its value was there, and is no more
        facts.resolved += 1
        assert facts.resolved == 1, f"item {item.number} is resolved twice"
        facts.failure = kind  # not itself: it holds a task
        facts.upstream = None if failure.upstream is None else failure.upstream.number
        last = facts.attempts.get(task.attempt)
        options = item.options
        if item.kind == "actor":
            return
        if kind is FailureKind.APPLICATION:
            assert last is not None, item
            assert last.status in _RAISED, item
            retries = task.max_retries
            if (
                last.status in (Status.RAISED_RETRYABLE, Status.ASKED_FOR_RETRY)
                and not facts.asked
                and "retry" not in options
                and "breaker" not in options
                and "deadline" not in options
                and not self.session.closing
            ):
                assert retries >= 0
                assert self._spent(facts) > retries, f"item {item.number} had retries left"
        elif kind is FailureKind.WORKER_DIED:
            assert last is not None, item
            assert last.died, item
            if "retry" not in options and "breaker" not in options and not self.session.closing:
                assert self._spent(facts) > task.max_retries >= 0, f"item {item.number} had retries"
        elif kind is FailureKind.CANCELLED:
            assert facts.asked or facts.made_by is not None, f"nobody has cancelled {item.number}"
        elif kind is FailureKind.TIMEOUT:
            assert options.keys() & {"timeout", "deadline", "stall_timeout"}, item
        elif kind is FailureKind.CIRCUIT_OPEN:
            assert "breaker" in options
        elif kind is FailureKind.DEPENDENCY:
            upstream = self.facts[failure.upstream.number]
            assert upstream.failure is not None
            assert upstream.item.number in self.session.given.get(item.number, ())
        elif kind in (FailureKind.ACTOR_DIED, FailureKind.ACTOR_UNAVAILABLE):
            assert item.kind == "call"
        elif kind is FailureKind.GROUP_REMOVED:
            assert item.group is not None or item.kind == "group"
        elif kind is FailureKind.SHUTDOWN:
            assert self.session.closing
        elif kind is FailureKind.LOST:
            assert facts.values or self.session.has_losses, item
        elif kind is FailureKind.WORKER_STARTUP:
            assert self.session.plan.failed_starts or self.counts["template"], item
        elif kind is FailureKind.OUT_OF_MEMORY:
            assert last is not None, item
            assert last.died, item
        else:
            assert kind is FailureKind.TOO_MANY_BLOCKED, kind

    def _spent(self, facts: Facts) -> int:
        """Count the attempts that a task has had, but those that died of their memory."""
        return sum(not each.died or each.worker.excess is None for each in facts.attempts.values())

    def runs_again(self, task: Any) -> None:
        """Take note that a finished task is run once more."""
        facts = self.facts[task.number]
        self.session.story("again", facts.item.number)
        assert facts.failure is None
        facts.resolved = 0

    # ------------------------------------------------------------ what callers get

    def check_outcome(self, item: Item, entry: ObjectEntry, index: int = 0) -> None:
        """Check what somebody gets who has waited for a ref."""
        outcome = entry.outcome
        if isinstance(outcome, StoredFailure):
            self.check_error(item, outcome.exception())
            return
        if isinstance(outcome, bytes):
            data: Any = outcome
        else:
            assert outcome is not None, f"item {item.number} was ready and is not"
            try:
                data = outcome.view(from_disk=True)
            except Exception:  # noqa: BLE001 - it was lost just now, or all is over
                assert self.session.has_losses or self.session.closing
                return
        self.check_value(item, load(data), index)

    def check_value(self, item: Item, value: Any, index: int = 0) -> None:
        """Check a value."""
        self.counts["values"] += 1
        assert value == value_of(item.number, index, item.size), (
            f"item {item.number} has the value of another: {value!r:.100}"
        )

    def check_error(self, item: Item, error: BaseException) -> None:
        """Check the error that a caller gets for an item, of which there may be several tasks."""
        self.counts["errors"] += 1
        if item.kind == "put":
            assert isinstance(error, exceptions.ObjectLostError | exceptions.EngineShutdownError)
            return
        tasks = [*self.of_item[item.number], *self.of_item.get(item.actor or 0, ())]
        failures = [each.failure for each in tasks if each.failure is not None]
        allowed = {kind for failure in failures for kind in _ERRORS[failure]}
        if self.session.closing:
            allowed.add(exceptions.EngineShutdownError)
        if self.session.has_losses:
            allowed.add(exceptions.ObjectLostError)
        assert isinstance(error, tuple(allowed)), (
            f"item {item.number} has {error!r:.200}, and {[each.name for each in failures]}"
        )
        cause = error.cause if isinstance(error, exceptions.RayTaskError) else None
        if isinstance(cause, SimError) and cause.item == item.number:
            status = [
                each.attempts[cause.attempt].status
                for each in self.of_item[item.number]
                if cause.attempt in each.attempts
            ]
            assert any(each in _RAISED for each in status), "an error that nobody has raised"

    # ------------------------------------------------------------ the end

    def check_end(self) -> None:
        """Check that everything has its outcome, and only one."""
        for facts in self.facts.values():
            assert facts.resolved == 1, f"item {facts.item.number} has no outcome"
            cancelled = facts.failure is not None and self._is_cancel(facts)
            told = [outcome is not CancelOutcome.FINISHED_FIRST for outcome in facts.cancels]
            if told and facts.item.kind != "actor" and not self.session.closing:
                assert all(each == cancelled for each in told), (
                    f"item {facts.item.number}: cancels were {facts.cancels}, and it has "
                    f"{facts.failure}"
                )

    def _is_cancel(self, facts: Facts) -> bool:
        if facts.failure is FailureKind.DEPENDENCY:
            assert facts.upstream is not None
            return self._is_cancel(self.facts[facts.upstream])
        return facts.failure is FailureKind.CANCELLED

    def check_history(self, rows: list[tuple[Any, ...]]) -> None:
        """Compare what the history tells of attempts with what has happened.

        rows: task_key, attempt, worker, seq and error_type, for each attempt.
        """
        keys = self.session.keys
        told: dict[tuple[int, int], tuple[Any, ...]] = {}
        for task_key, number, worker, seq, error in rows:
            task = keys[task_key]
            assert (task, number) not in told, f"attempt {number} of task {task} is told twice"
            told[task, number] = worker, seq, error
        for facts in self.facts.values():
            item = facts.item
            if item.kind == "group":
                continue
            for number, attempted in facts.attempts.items():
                row = told.get((facts.number, number))
                where = f"attempt {number} of item {item.number} (task {facts.number})"
                assert row is not None, f"the history has not {where}"
                worker, seq, error = row
                if worker is not None:
                    assert (worker, seq) == (attempted.worker.id, attempted.seq), where
                self._check_row(facts, attempted, error, where)
        last: dict[int, tuple[int, Any]] = {}
        for (task, number), (_, _, error) in told.items():
            if number >= last.get(task, (-1, None))[0]:
                last[task] = number, error
        for facts in self.facts.values():
            if facts.item.kind in ("group", "actor"):
                continue
            assert facts.number in last, f"the history has nothing of item {facts.item.number}"
            error, failure = last[facts.number][1], facts.failure
            if failure in (FailureKind.LOST, FailureKind.SHUTDOWN) and facts.values:
                continue  # it has done what it was to do, and its value was lost later
            assert (error is None) == (failure is None), (
                f"item {facts.item.number} has {facts.failure}, the history says {error}"
            )
        for (task, number), (_, _, error) in told.items():
            facts = self.facts[task]
            if number not in facts.attempts and facts.item.kind != "actor":
                assert error is not None, f"attempt {number} of task {task} was never entered"

    def _check_row(self, facts: Facts, attempted: Attempted, error: Any, where: str) -> None:
        status = attempted.status
        if status is Status.RETURNED and error is None:
            return
        died = attempted.died or not attempted.worker.alive
        allowed: set[Any] = set()
        if status in _RAISED:
            allowed = {"TASK_EXECUTION_EXCEPTION"}
            if facts.asked or facts.made_by is not None:
                allowed.add("TASK_CANCELLED")
        if status is Status.INTERRUPTED:
            allowed |= _OF_INTERRUPT
        if died or self.session.closing:
            allowed |= _OF_DEATH  # what it had written may not have been read
        if status is Status.RETURNED and facts.cancels:
            allowed |= {"TASK_CANCELLED"}  # of a call that was told
        if status is Status.RETURNED and facts.asked:
            allowed |= {"TASK_CANCELLED"}
        if facts.item.kind in ("call", "actor"):
            allowed |= _OF_DEATH
        if facts.values and facts.failure is not None:
            allowed |= {"OBJECT_LOST"}
        assert error in allowed, f"the history says {error} of {where}, which has {status}"
