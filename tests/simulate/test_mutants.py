"""The simulator catches an engine that is broken: each test breaks it in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioray.client.entry import ObjectEntry
from aioray.core.attempts import Attempts
from aioray.core.cancellation import Cancellations
from aioray.core.commands import ReportCancel
from aioray.core.outcomes import CancelOutcome
from aioray.core.resources import Resources
from aioray.core.tasks import TaskTable
from aioray.core.worker_news import WorkerNews
from aioray.engine.objects.entries import Entries
from aioray.engine.objects.objects import ObjectTable
from aioray.engine.processes.inbound import AnswerReader
from aioray.engine.processes.lending import Loans
from aioray.engine.telemetry.recorder import Recorder

from .plan import FAULTS
from .run import play

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

SESSIONS = 20
EVERY = 30  # how often something goes wrong, in calls


def caught(faults: Sequence[str] = FAULTS, sessions: int = SESSIONS) -> str:
    """Play sessions until the engine is caught; return what is said of it."""
    for seed in range(sessions):
        failed = play(seed, 150, faults).failed
        if failed is not None:
            return f"{type(failed).__name__}: {failed}"
    return "nothing was found"


def now_and_then(right: Callable[..., Any], wrong: Callable[..., Any]) -> Any:
    """Return a function that is wrong now and then."""
    calls = 0

    def either(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return (right if calls % EVERY else wrong)(*args, **kwargs)

    return either


def break_it(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, wrong: Callable[..., Any]
) -> None:
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, now_and_then(right, lambda *a, **k: wrong(right, *a, **k)))


def test_catches_an_answer_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(right: Any, self: Any, data: bytes, answers: list[Any]) -> None:
        right(self, data, answers)
        answers[:] = answers[1:]

    break_it(monkeypatch, AnswerReader, "_take", lose)
    said = caught(())
    assert "deadlock" in said or "still held" in said


def test_catches_a_value_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(right: Any, self: Any, task: Any, answer: Any, results: list[Any]) -> None:
        right(self, task, answer, results)
        results.append(results[-1])

    break_it(monkeypatch, TaskTable, "finish", twice)
    assert "resolved twice" in caught(())


def test_catches_resources_that_are_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch, Resources, "release", lambda _right, _self, _worker: None)
    assert "nothing was found" not in caught(())


def test_catches_a_cancel_that_is_acknowledged_and_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def only_say(self: Cancellations, event: Any, _now: float) -> None:
        self._turn.out.append(ReportCancel(event.request_id, CancelOutcome.NOT_STARTED))

    monkeypatch.setattr(Cancellations, "cancel", only_say)
    said = caught()
    assert "its cancel was" in said or "cancels were" in said


def test_catches_one_retry_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Attempts.retry

    def generous(self: Attempts, task: Any, *args: Any, **kwargs: Any) -> bool:
        if task.retries_left == 0 and task.attempt == task.max_retries:
            task.retries_left = 1
        return right(self, task, *args, **kwargs)

    monkeypatch.setattr(Attempts, "retry", generous)
    assert "retries are allowed" in caught(("raises", "crashes"))


def test_catches_one_retry_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch, Attempts, "retry", lambda *_: False)
    assert "had retries" in caught(("raises", "crashes"))


def test_catches_an_attempt_that_the_history_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(right: Any, self: Any, results: Any) -> None:
        right(self, results[1:])

    break_it(monkeypatch, Recorder, "finished", forget)
    assert "the history has not" in caught(())


def test_catches_an_error_that_the_history_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "retried", lambda *_: None)
    assert "the history has not" in caught(("raises",))


def test_catches_memory_that_is_used_again_while_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Loans.lend

    def careless(self: Loans, seq: int, values: Any) -> Any:
        found = right(self, seq, values)
        for extent in self.by_seq.pop(seq, ()):
            extent.lent -= 1
        return found

    monkeypatch.setattr(Loans, "lend", careless)
    assert caught(sessions=40) != "nothing was found"


def test_catches_the_value_of_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    last: list[Any] = [b""]

    def mix_up(right: Any, self: Any, entry: Any, outcome: Any) -> None:
        right(self, entry, last[0] or outcome)

    def keep(self: Entries, entry: Any, outcome: Any) -> None:
        if type(outcome) is bytes:
            last[0] = outcome
        kept(self, entry, outcome)

    kept = Entries.store
    monkeypatch.setattr(Entries, "store", keep)
    break_it(monkeypatch, Entries, "store", mix_up)
    assert "value" in caught(())


def test_catches_a_waiter_who_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(_right: Any, self: ObjectEntry) -> None:
        self.waiters = None

    break_it(monkeypatch, ObjectEntry, "wake_waiters", forget)
    assert "deadlock" in caught(())


def test_catches_attempts_that_are_taken_back_and_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forget(_right: Any, _self: Any, worker: Any, seqs: Any) -> None:
        for seq in seqs:
            worker.in_flight.pop(seq, None)

    break_it(monkeypatch, WorkerNews, "_put_back", forget)
    assert caught(sessions=40) != "nothing was found"


def test_catches_descriptors_that_are_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_open(self: ObjectTable) -> None:
        self._closed = True
        leaked.append(self.store.arena)

    leaked: list[Any] = []
    monkeypatch.setattr(ObjectTable, "close", leave_open)
    said = caught(())
    for arena in leaked:
        arena.close()
    assert "descriptors" in said
