"""Memory: who is killed for it, what becomes of what ran there, and how often it is tried again."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aioray.core.commands import (
    KillWorker,
    ReclaimAttempts,
    ReportMemoryShort,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
)
from aioray.core.devices import UNIT
from aioray.core.events import MemoryMeasured, MemoryRanShort, ShutdownRequested
from aioray.core.limits import TaskLimits
from aioray.core.memory import ABOUT_EQUAL, TOLD_SECONDS, WORTH_KILLING, Candidate, who_exceeds_most
from aioray.core.model import Task, Worker
from aioray.core.outcomes import (
    ActorDeath,
    AttemptRecord,
    CancelOutcome,
    DeathCause,
    Excess,
    Failure,
    FailureKind,
    Shortage,
)
from aioray.core.retries import RetryPolicy
from aioray.core.scheduler import Scheduler
from aioray.core.states import ActorStatus, TaskStatus, WorkerStatus

from .support import HALF_CPU, ONE_CPU, SHORT, Core, answer

MB = 1024 * 1024
LIMITED = TaskLimits(memory_limit=100 * MB)
USED, TOTAL, ALLOWED = 970, 1000, 950
OOM = FailureKind.OUT_OF_MEMORY


def with_budget(retries: int | None, cpus: int = 1) -> Core:
    core = Core(cpus)
    totals = {"CPU": cpus * UNIT, "memory": 10_000 * MB * UNIT}
    core.scheduler = Scheduler(totals, random.Random(0), memory_retries=retries)
    return core


def short(*measures: tuple[int, int]) -> MemoryRanShort:
    """Memory runs short; measures: workers, and how many megabytes each has."""
    sizes = [(worker, megabytes * MB) for worker, megabytes in measures]
    return MemoryRanShort(USED, TOTAL, ALLOWED, sizes)


def condemned(core: Core, worker_id: int) -> Excess:
    excess = core.scheduler.pool.workers[worker_id].excess
    assert excess is not None
    return excess


def until_sent(core: Core, task: Task, now: float) -> float:
    """When a worker has got the task: they come up as they are ordered."""
    core.ready(core.scheduler.pool.last_id, now=now)
    while task.worker is None:
        now, _ = core.tick()
        core.ready(core.scheduler.pool.last_id, now=now)
    return now


def failed(core: Core, task: Task) -> Failure:
    """How it has failed, at the end of its worker."""
    assert task.worker is not None
    commands = core.exited(task.worker.id)
    (failure,) = [each.failure for each in commands if type(each) is ResolveFailure]
    return failure


# ---------------------------------------------------------------- limits


def test_an_attempt_within_its_limit_is_left_alone() -> None:
    core = Core()
    task = core.running(limits=LIMITED)
    assert core(MemoryMeasured(1, task.seq, 100 * MB)) == []
    assert core.answer(1, answer(task)) == [ResolveValues([(task, "value")])]


def test_an_attempt_that_exceeds_its_limit_is_killed_and_fails() -> None:
    core = Core()
    task = core.running(limits=LIMITED, max_retries=0)
    excess = Excess(task.seq, 101 * MB, 100 * MB)
    assert core(MemoryMeasured(1, task.seq, 101 * MB)) == [KillWorker(1, excess=excess)]
    assert core(MemoryMeasured(1, task.seq, 102 * MB)) == []  # once is enough
    record = AttemptRecord(0, 1, 0.0, 2.0, OOM, "died")
    assert core.exited(1, now=2.0)[-1] == ResolveFailure(
        task, Failure(OOM, "died", attempts=(record,))
    )


def test_its_answer_does_not_count_once_it_was_seen_to_exceed_its_limit() -> None:
    core = Core()
    task = core.running(limits=LIMITED, max_retries=0)
    core(MemoryMeasured(1, task.seq, 101 * MB))
    assert core.answer(1, answer(task)) == []
    assert failed(core, task).kind is OOM


@pytest.mark.parametrize("limits", [None, TaskLimits(timeout=1.0)])
def test_a_measure_means_nothing_for_who_has_no_limit(limits: TaskLimits | None) -> None:
    core = Core()
    task = core.running(limits=limits)
    assert core(MemoryMeasured(1, task.seq, 10**15)) == []


def test_a_measure_of_what_has_ended_means_nothing() -> None:
    core = Core()
    task = core.running(limits=LIMITED)
    core.answer(1, answer(task))
    assert core(MemoryMeasured(1, task.seq, 101 * MB)) == []
    assert core(MemoryMeasured(99, task.seq, 101 * MB)) == []


def test_nothing_is_sent_ahead_of_a_task_with_a_limit_or_behind_it() -> None:
    core = Core()
    core.function("f", SHORT)
    core.submit(first := core.task())
    core.ready(1)
    core.answer(1, answer(first, duration=SHORT))
    plain, limited, later = core.task(), core.task(limits=LIMITED), core.task()
    assert core.submit(plain, limited, later) == [SendAttempts(1, [plain])]
    assert core.submit(core.task()) == []
    assert core.answer(1, answer(plain, duration=SHORT))[1:] == [SendAttempts(1, [limited])]
    assert core.submit(core.task()) == []
    (sent,) = core.answer(1, answer(limited, duration=SHORT))[1:]
    assert sent.tasks[0] is later
    assert len(sent.tasks) == 3


@pytest.mark.parametrize(
    ("max_retries", "budget", "retries"),
    [(0, None, 0), (2, None, 2), (0, -1, 0), (1, 3, 3), (3, 0, 0), (-1, 1, 1)],
)
def test_its_tries_are_counted_apart_from_those_after_crashes(
    max_retries: int, budget: int | None, retries: int
) -> None:
    core = with_budget(budget)
    task = core.task(limits=LIMITED, max_retries=max_retries)
    core.submit(task)
    now = 0.0
    for left in range(retries, -1, -1):
        now = until_sent(core, task, now)
        worker = core.scheduler.pool.last_id
        core(MemoryMeasured(worker, task.seq, 101 * MB), now)
        commands = core.exited(worker, now=now)
        told = [each.retries_left for each in commands if type(each) is ReportRetry]
        assert told == ([left] if left else [])
        assert task.retries_left == max_retries
    assert task.state is TaskStatus.FAILED
    assert [record.kind for record in task.failures or ()] == [OOM] * (retries + 1)


@pytest.mark.parametrize(("max_retries", "budget"), [(-1, None), (3, -1)])
def test_tries_without_a_limit_do_not_run_out(max_retries: int, budget: int | None) -> None:
    core = with_budget(budget)
    task = core.running(limits=LIMITED, max_retries=max_retries)
    core(MemoryMeasured(1, task.seq, 101 * MB))
    commands = core.exited(1)
    assert [each.retries_left for each in commands if type(each) is ReportRetry] == [-1]


def test_a_policy_sets_the_delay_of_such_tries_too() -> None:
    core = Core()
    policy = RetryPolicy(initial_delay=7.0, jitter=False)
    task = core.running(limits=LIMITED, policy=policy)
    core(MemoryMeasured(1, task.seq, 101 * MB))
    commands = core.exited(1)
    assert [each.delay for each in commands if type(each) is ReportRetry] == [7.0]


def test_a_cancelled_task_is_not_told_of_its_memory() -> None:
    core = Core()
    task = core.running(limits=LIMITED)
    core.cancel(task, force=True)
    core(MemoryMeasured(1, task.seq, 101 * MB))
    core.exited(1)
    assert task.cancel_outcome is CancelOutcome.KILLED


# ---------------------------------------------------------------- actors


def with_limit(core: Core, **options: Any) -> Any:
    """An actor that may have so much as long as it lives; its creation has not returned."""
    actor = core.actor(**options)
    actor.creation.limits = LIMITED
    core.submit(actor.creation)
    core.place(actor)
    return actor


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_actor_that_exceeds_its_limit_is_killed_and_what_it_runs_fails(
    asynchronous: bool,
) -> None:
    core = Core()
    groups = (2,) if asynchronous else (1,)
    actor = with_limit(
        core, concurrency_groups=groups, ordered=not asynchronous, asynchronous=asynchronous
    )
    core.live(actor)
    running, other = core.called(actor, 2)
    excess = Excess(0, 101 * MB, 100 * MB)
    event = MemoryMeasured(1, actor.creation.seq, 101 * MB)
    assert core(event) == [KillWorker(1, excess=excess)]
    commands = core.exited(1, *([] if asynchronous else [other]))
    failures = {each.task: each.failure for each in commands if type(each) is ResolveFailure}
    death = ActorDeath(actor, DeathCause.WORKER_DIED, "died")
    assert failures[running].kind is OOM
    assert failures[running].detail == "died"
    if asynchronous:
        assert failures[other].kind is OOM
    else:
        assert failures[other] == Failure(FailureKind.ACTOR_DIED, death)


def test_a_restart_after_it_counts_and_what_may_be_tried_again_is() -> None:
    core = Core()
    actor = with_limit(core, max_restarts=1)
    core.live(actor)
    (call,) = core.called(actor, max_retries=1)
    core(MemoryMeasured(1, actor.creation.seq, 101 * MB))
    core.exited(1)
    assert actor.state is ActorStatus.RESTARTING
    assert actor.restarts_left == 0
    assert call.retries_left == 1
    core.live(actor)
    assert call.state is TaskStatus.SUBMITTED_TO_WORKER


def test_a_constructor_that_exceeds_the_limit_uses_up_restarts() -> None:
    core = Core()
    actor = with_limit(core, max_restarts=1)
    core(MemoryMeasured(1, actor.creation.seq, 101 * MB))
    assert condemned(core, 1).seq == actor.creation.seq
    core.exited(1)
    assert actor.state is ActorStatus.RESTARTING
    assert [record.kind for record in actor.creation.failures or ()] == [OOM]


def test_a_call_that_exceeds_its_own_limit_is_to_blame_alone() -> None:
    core = Core()
    actor = core.alive(concurrency_groups=(2,), ordered=False, asynchronous=True)
    limited, other = core.call(actor, limits=LIMITED), core.call(actor)
    core.submit(limited, other)
    core(MemoryMeasured(1, limited.seq, 101 * MB))
    commands = core.exited(1)
    kinds = {each.task: each.failure.kind for each in commands if type(each) is ResolveFailure}
    assert kinds[limited] is OOM
    assert kinds[other] is FailureKind.ACTOR_DIED


def test_a_call_with_a_limit_is_alone_in_an_actor_that_runs_one_at_a_time() -> None:
    core = Core()
    actor = core.alive()
    first, limited, last = core.call(actor), core.call(actor, limits=LIMITED), core.call(actor)
    assert core.submit(first, limited, last) == [SendAttempts(1, [first])]
    assert core.answer(1, answer(first))[1:] == [SendAttempts(1, [limited])]
    later = core.call(actor)
    assert core.submit(later) == []
    assert core.answer(1, answer(limited))[1:] == [SendAttempts(1, [last, later])]


# ---------------------------------------------------------------- who is to go


def candidate(number: int, megabytes: float, *, retried: bool = True, began: float = 0.0) -> Any:
    return Candidate(Worker(number, ()), int(megabytes * MB), retried, began)


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], None),
        ([candidate(1, WORTH_KILLING / MB - 1)], None),
        ([candidate(1, WORTH_KILLING / MB)], 1),
        ([candidate(1, 900, retried=False), candidate(2, 500)], 1),  # the most goes first
        ([candidate(1, 1000, began=9), candidate(2, 1000 * ABOUT_EQUAL - 1, began=10)], 1),
        ([candidate(1, 1000, retried=False), candidate(2, 950)], 2),  # about equal
        ([candidate(1, 1000, began=1), candidate(2, 950, began=2)], 2),  # the newer
        ([candidate(1, 1000, began=2), candidate(2, 950, began=1, retried=True)], 1),
        ([candidate(2, 1000), candidate(1, 1000)], 2),
        ([candidate(1, -500), candidate(2, 100)], 2),  # has less than it asked for
    ],
)
def test_who_exceeds_most_is_chosen(candidates: list[Any], chosen: int | None) -> None:
    found = who_exceeds_most(candidates)
    assert (None if found is None else found.worker.id) == chosen


def two_running(**options: Any) -> tuple[Core, Task, Task]:
    core = with_budget(None, cpus=2)
    first, second = core.tasks(2, **options)
    core.submit(first, second)
    core.ready(1, 2)
    assert first.worker is not None
    assert second.worker is not None
    return core, first, second


def test_when_memory_runs_short_who_has_most_is_killed_and_tried_again_later() -> None:
    core, first, second = two_running()
    shortage = Shortage(USED, TOTAL, ALLOWED)
    excess = Excess(first.seq, 900 * MB, None, shortage)
    assert core(short((1, 900), (2, 300))) == [KillWorker(1, excess=excess)]
    assert core(short((1, 900), (2, 300))) == []  # one at a time
    commands = core.exited(1, now=5.0)
    (retry,) = [each for each in commands if type(each) is ReportRetry]
    assert (retry.task, retry.retries_left, retry.delay) == (first, -1, 1.0)
    assert first.retries_left == 3
    assert second.state is TaskStatus.SUBMITTED_TO_WORKER


def test_such_delays_double() -> None:
    core, first, _ = two_running()
    delays = []
    now = 0.0
    for _ in range(3):
        assert first.worker is not None
        victim = first.worker.id
        core(short((victim, 900), (2, 300)), now)
        commands = core.exited(victim, now=now)
        delays += [each.delay for each in commands if type(each) is ReportRetry]
        now = until_sent(core, first, now)
    assert delays == [1.0, 2.0, 4.0]


def test_what_was_reserved_or_allowed_does_not_count_as_excess() -> None:
    core = with_budget(None, cpus=3)
    reserved = core.task(demand=(*ONE_CPU, ("memory", 800 * MB * UNIT)))
    limited = core.task(limits=TaskLimits(memory_limit=700 * MB))
    plain = core.task()
    core.submit(reserved, limited, plain)
    core.ready(1, 2, 3)
    ids = [task.worker.id for task in (reserved, limited, plain) if task.worker is not None]
    core(short((ids[0], 900), (ids[1], 850), (ids[2], 200)))
    assert condemned(core, ids[2]).used == 200 * MB


def test_the_only_one_that_runs_is_not_tried_again_unless_that_was_asked_for() -> None:
    for budget, fails in ((None, True), (2, False)):
        core = with_budget(budget)
        task = core.running()
        core(short((1, 900)))
        commands = core.exited(1)
        assert any(type(each) is ResolveFailure for each in commands) is fails, task


def test_a_worker_that_runs_nothing_goes_first_and_harms_nobody() -> None:
    core, first, second = two_running()
    core.answer(1, answer(first))
    commands = core(short((1, 100), (2, 900)))
    assert commands == [
        KillWorker(1, excess=Excess(0, 100 * MB, None, condemned(core, 1).shortage))
    ]
    core.exited(1)
    core(short((2, 900)))
    assert failed(core, second).kind is OOM


def test_what_was_sent_ahead_comes_back_before_the_kill_and_loses_no_try() -> None:
    core = Core()
    core.function("f", SHORT)
    core.submit(first := core.task())
    core.ready(1)
    core.answer(1, answer(first, duration=SHORT))
    running, waiting = core.tasks(2)
    core.submit(running, waiting)
    assert core(short((1, 900))) == [ReclaimAttempts(1)]
    commands = core.reclaimed(1, waiting)
    assert [type(each) for each in commands] == [KillWorker]
    assert condemned(core, 1).seq == running.seq
    core.exited(1)
    assert (waiting.attempt, waiting.retries_left) == (0, 3)
    assert running.state is TaskStatus.FAILED  # nobody else ran


def test_a_value_that_was_written_before_the_kill_stands() -> None:
    core = Core()
    task = core.running()
    core(short((1, 900)))
    assert core.answer(1, answer(task)) == [ResolveValues([(task, "value")])]
    assert core.exited(1) == []


def test_what_had_ended_when_the_rest_came_back_is_not_to_blame() -> None:
    core = Core()
    core.function("f", SHORT)
    core.submit(first := core.task())
    core.ready(1)
    core.answer(1, answer(first, duration=SHORT))
    running, waiting = core.tasks(2)
    core.submit(running, waiting)
    core(short((1, 900)))
    core.answer(1, answer(running, duration=SHORT), answer(waiting, duration=SHORT))
    assert core.scheduler.pool.workers[1].state is WorkerStatus.STOPPING
    assert core.reclaimed(1) == []


def test_an_actor_is_killed_for_what_it_has_and_its_calls_fail_with_that() -> None:
    core = with_budget(None, cpus=2)
    actor = core.alive()
    (call,) = core.called(actor)
    core.submit(core.task(demand=HALF_CPU))
    core.ready(2)
    core(short((1, 900), (2, 100)))
    assert condemned(core, 1).seq == 0
    assert failed(core, call).kind is OOM
    assert actor.state is ActorStatus.DEAD


def test_an_actor_that_would_not_start_again_goes_after_one_that_would() -> None:
    core = Core(2)
    actors = [core.alive(max_restarts=restarts) for restarts in (1, 0)]
    ids = [actor.worker.id for actor in actors if actor.worker is not None]
    core(short(*[(each, 500) for each in ids]))
    assert condemned(core, ids[0]).seq == 0


def test_nobody_is_killed_where_that_would_free_nothing_and_that_is_told_now_and_then() -> None:
    core = Core()
    core.running()
    told = [ReportMemoryShort(Shortage(USED, TOTAL, ALLOWED, alone=True))]
    assert core(short((1, 10), (99, 10_000)), 1.0) == told
    assert core(short((1, 10)), 2.0) == []
    assert core(short((1, 10)), 1.0 + TOLD_SECONDS) == told


def test_who_is_leaving_is_left_alone_and_so_is_everybody_at_the_end() -> None:
    core, first, _ = two_running()
    core.cancel(first, force=True)
    core.reclaimed(1)
    assert core.scheduler.pool.workers[1].state is WorkerStatus.KILLED
    commands = core(short((1, 900)))
    assert [type(each) for each in commands] == [ReportMemoryShort]
    core(ShutdownRequested(0.0))
    assert core(short((2, 900))) == []
