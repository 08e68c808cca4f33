"""What the scheduler orders for each event, as whole lists of commands."""

from __future__ import annotations

import gc
import itertools
import random

import pytest

from aioray.core import pool as pool_module
from aioray.core import starts as starts_module
from aioray.core.commands import (
    DiscardWorker,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    ReportCancel,
    ReportInfeasible,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
    StartWorker,
    Stopped,
    StopWorker,
)
from aioray.core.devices import UNIT
from aioray.core.dispatch import MAX_BUNDLE as BUNDLE
from aioray.core.events import (
    AnswersReceived,
    AttemptsNotSent,
    AttemptsReclaimed,
    ShutdownRequested,
    TasksSubmitted,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from aioray.core.intensity import RestartIntensity
from aioray.core.outcomes import Answer, CancelOutcome, Ended, Failure, FailureKind
from aioray.core.prefetch import MAX_IN_FLIGHT as MOST
from aioray.core.retries import RetryPolicy
from aioray.core.states import IllegalMove, TaskStatus

from .support import (
    HALF_CPU,
    LONG,
    ONE_CPU,
    ONE_GPU,
    SHORT,
    TWO_CPUS,
    Core,
    answer,
    record,
)

OTHER = (("NAME", "value"),)  # an environment
ON_NET = (("CPU", UNIT), ("net", UNIT))  # needs more than others do, but no process of its own

PENDING = TaskStatus.PENDING_NODE_ASSIGNMENT
SUBMITTED = TaskStatus.SUBMITTED_TO_WORKER


def cancelled(*records):
    return Failure(FailureKind.CANCELLED, attempts=records)


def lost_argument(upstream):
    return Failure(FailureKind.DEPENDENCY, upstream=upstream)


def shut_down(*records):
    return Failure(FailureKind.SHUTDOWN, attempts=records)


# ---------------------------------------------------------------- dispatch


def test_first_task_orders_a_worker_and_is_sent_when_that_is_ready():
    core = Core()
    task = core.task()
    assert core.submit(task) == [StartWorker(1, ())]
    assert task.state is PENDING
    assert core.ready(1) == [SendAttempts(1, [task])]
    assert task.state is SUBMITTED
    assert core.answer(1, answer(task, payload=42)) == [ResolveValues([(task, 42)])]
    assert task.state is TaskStatus.FINISHED
    assert task.worker is None
    assert core.deadline is None
    assert core.scheduler.unfinished_tasks() == ()


def test_unfinished_tasks_are_those_without_an_outcome():
    core = Core()
    first, second, third = core.tasks(3)
    core.submit(first, second, third)
    core.ready(1)
    core.cancel(second)
    assert core.scheduler.unfinished_tasks() == (first, third)


def test_empty_submission_orders_nothing():
    assert Core().submit() == []


def test_as_many_workers_are_ordered_as_tasks_can_run():
    core = Core(2)
    assert core.submit(*core.tasks(5)) == [StartWorker(1, ()), StartWorker(2, ())]
    assert core.submit(core.task()) == []
    assert core.scheduler.available == {"CPU": 2 * UNIT}  # nothing is held before it is used


def test_no_more_workers_are_ordered_than_there_are_tasks():
    core = Core(8)
    assert core.submit(*core.tasks(2)) == [StartWorker(1, ()), StartWorker(2, ())]
    assert core.submit(core.task()) == [StartWorker(3, ())]


def test_starts_under_way_are_limited_to_one_per_cpu():
    core = Core(2)
    first, second, *_ = tasks = core.tasks(5, demand=HALF_CPU)
    assert core.submit(*tasks) == [StartWorker(1, ()), StartWorker(2, ())]
    assert core.ready(1) == [SendAttempts(1, [first]), StartWorker(3, ())]
    assert core.ready(2) == [SendAttempts(2, [second]), StartWorker(4, ())]
    assert core.ready(3, 4)[1:] == [SendAttempts(4, [tasks[3]])]
    assert core.scheduler.available == {"CPU": 0}


def test_tasks_are_sent_in_the_order_submitted():
    core = Core()
    tasks = core.tasks(3)
    core.submit(*tasks)
    sent = core.ready(1)
    for task in tasks[:2]:
        values, *sent = core.answer(1, answer(task))
        assert values == ResolveValues([(task, "value")])
        assert sent == [SendAttempts(1, [tasks[tasks.index(task) + 1]])]


def test_idle_worker_is_used_before_another_is_ordered():
    core = Core(2)
    first = core.running()
    core.answer(1, answer(first))
    second = core.task()
    assert core.submit(second) == [SendAttempts(1, [second])]


def test_worker_that_was_idle_last_is_used_first():
    core = Core(2)
    tasks = core.tasks(2)
    core.submit(*tasks)
    core.ready(1, 2)
    core.answer(2, answer(tasks[1]))
    core.answer(1, answer(tasks[0]))
    again = core.task()
    assert core.submit(again) == [SendAttempts(1, [again])]


def test_class_with_the_oldest_head_is_served_first():
    core = Core(1, net=1)
    running = core.running()
    on_net, plain, later_on_net = core.task(demand=ON_NET), core.task(), core.task(demand=ON_NET)
    core.submit(plain, later_on_net)
    core.submit(on_net)
    # `on_net` is older than `plain`, but stands behind `later_on_net`.
    assert core.answer(1, answer(running)) == [
        ResolveValues([(running, "value")]),
        SendAttempts(1, [plain]),
    ]
    assert core.answer(1, answer(plain)) == [
        ResolveValues([(plain, "value")]),
        SendAttempts(1, [later_on_net]),
    ]


def test_tasks_that_ask_for_nothing_need_a_worker_only():
    core = Core(0)
    first, second = core.tasks(2, demand=())
    assert core.submit(first, second) == [StartWorker(1, ())]
    assert core.ready(1) == [SendAttempts(1, [first]), StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, [second])]


def test_worker_of_another_environment_is_not_used():
    core = Core(2)
    core.answer(1, answer(core.running()))
    task = core.task(environment=OTHER)
    assert core.submit(task) == [StartWorker(2, OTHER)]
    assert core.ready(2) == [SendAttempts(2, [task])]


def test_at_the_limit_of_workers_the_one_idle_longest_makes_room(monkeypatch):
    """Bug: workers kept idle for one environment locked out another for ever."""
    monkeypatch.setattr(pool_module, "MAX_WORKERS", 2)
    core = Core(2)
    tasks = core.tasks(2)
    core.submit(*tasks)
    core.ready(1, 2)
    core.answer(2, answer(tasks[1]), now=1.0)
    core.answer(1, answer(tasks[0]), now=2.0)
    others = core.tasks(2, environment=OTHER)
    assert core.submit(others[0], now=3.0) == [StopWorker(2)]
    assert core.submit(others[1], now=3.0) == []  # one is on its way out
    assert core.exited(2, now=3.0) == [StartWorker(3, OTHER)]
    assert core(WorkerReady(3), 3.0) == [SendAttempts(3, [others[0]]), StopWorker(1)]


def test_at_the_limit_of_workers_nothing_is_done_if_all_are_busy(monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_WORKERS", 1)
    core = Core(2)
    task = core.running()
    assert core.submit(core.task(environment=OTHER)) == []
    _, stop = core.answer(1, answer(task))
    assert stop == StopWorker(1)


# ---------------------------------------------------------------- demands


def test_lease_holds_resources_until_the_worker_is_idle():
    core = Core(2, GPU=1)
    core.function("f", SHORT)
    first, second = core.tasks(2, demand=ONE_GPU)
    core.submit(first, second)
    core.ready(1)
    assert core.scheduler.available == {"CPU": UNIT, "GPU": 0}
    core.answer(1, answer(first, duration=SHORT))
    assert core.scheduler.available == {"CPU": UNIT, "GPU": 0}
    core.answer(1, answer(second, duration=SHORT))
    assert core.scheduler.available == core.scheduler.total


def test_infeasible_demand_is_reported_once_and_waits():
    core = Core()
    first, second = core.tasks(2, demand=TWO_CPUS)
    assert core.submit(first) == [ReportInfeasible(first)]
    assert core.submit(second) == []
    unknown = core.task(demand=(("TPU", UNIT),))
    assert core.submit(unknown) == [ReportInfeasible(unknown)]
    assert [task.state for task in (first, second, unknown)] == [PENDING] * 3
    assert core.cancel(first) == [
        ResolveFailure(first, cancelled()),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
    ]


def test_infeasible_task_holds_up_nobody():
    """Bug: while one waited, nothing was prefetched, nor taken back from stalled workers."""
    core = Core()
    core.submit(core.task(demand=TWO_CPUS))
    core.function("f", SHORT)
    first = core.running()
    core.answer(1, answer(first, duration=SHORT))
    one, two, three = core.tasks(3)
    assert core.submit(one) == [SendAttempts(1, [one])]
    assert core.submit(two, three) == [SendAttempts(1, [two, three])]


def test_class_that_fits_only_when_all_is_free_is_not_passed_over_for_ever():
    """Bug: a stream of small tasks starved a large one.

    1. Two workers run one task of one CPU each. A task that needs both CPUs arrives.
    2. Small ones go on arriving and take each CPU as it comes free; for a second that is welcome.
    3. After that, what comes free is saved until the large one fits.
    """
    core = Core(2)
    small = core.tasks(2)
    core.submit(*small)
    core.ready(1, 2)
    large = core.task(demand=TWO_CPUS)
    core.submit(large, now=0.0)
    later = core.tasks(4)
    core.submit(*later, now=0.0)
    _, sent = core.answer(1, answer(small[0]), now=0.9)
    assert sent == SendAttempts(1, [later[0]])
    assert core.answer(2, answer(small[1]), now=1.0) == [ResolveValues([(small[1], "value")])]
    assert core.answer(1, answer(later[0]), now=5.0) == [
        ResolveValues([(later[0], "value")]),
        SendAttempts(1, [large]),
    ]
    # Served once, it starts to be patient anew.
    another = core.task(demand=TWO_CPUS)
    core.submit(another, now=5.0)
    assert core.answer(1, answer(large), now=6.5) == [
        ResolveValues([(large, "value")]),
        SendAttempts(1, [later[1]]),
        SendAttempts(2, [later[2]]),
    ]
    core.answer(1, answer(later[1]), now=6.6)
    core.submit(core.task(), now=7.0)
    assert core.answer(2, answer(later[2]), now=8.0) == [ResolveValues([(later[2], "value")])]


def test_nothing_is_saved_for_a_class_of_which_something_runs():
    core = Core(2, GPU=1)
    on_gpu = core.tasks(2, demand=ONE_GPU)
    core.submit(*on_gpu)
    core.ready(1)
    plain = core.tasks(2)
    core.submit(*plain)
    core.ready(2)
    assert core.answer(2, answer(plain[0]), now=50.0) == [
        ResolveValues([(plain[0], "value")]),
        SendAttempts(2, [plain[1]]),
    ]


def test_what_was_saved_is_given_away_when_the_waiting_task_is_cancelled():
    core = Core(2)
    first, second = core.tasks(2)
    core.submit(first, second)
    core.ready(1, 2)
    large, small = core.task(demand=TWO_CPUS), core.task()
    core.submit(large, small)
    assert core.answer(1, answer(first), now=2.0) == [ResolveValues([(first, "value")])]
    assert core.cancel(large, now=2.0) == [
        ResolveFailure(large, cancelled()),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
        SendAttempts(1, [small]),
    ]


def test_waiting_starts_anew_when_a_class_had_nothing_to_wait_for():
    core = Core(2)
    first, second = core.tasks(2)
    core.submit(first, second)
    core.ready(1, 2)
    large = core.task(demand=TWO_CPUS)
    core.submit(large, now=0.0)
    core.cancel(large, now=0.0)
    core.submit(core.task(demand=TWO_CPUS), now=10.0)
    small = core.task()
    core.submit(small, now=10.0)
    assert core.answer(1, answer(first), now=10.5) == [
        ResolveValues([(first, "value")]),
        SendAttempts(1, [small]),
    ]


# ---------------------------------------------------------------- prefetch


def busy_core(count, *, cpus=1, mean=SHORT, **options):
    """A core whose worker 1 has run a task of `f` already, and `count` tasks that it has sent."""
    core = Core(cpus)
    core.answer(1, answer(core.running(), duration=mean))
    core.function("f", mean)
    tasks = core.tasks(count, **options)
    return core, tasks


def test_function_that_never_ran_is_sent_one_by_one():
    core = Core()
    tasks = core.tasks(3)
    core.submit(*tasks)
    assert core.ready(1) == [SendAttempts(1, tasks[:1])]


@pytest.mark.parametrize(
    ("mean", "sent"),
    [(SHORT, MOST), (3e-3 / MOST, MOST), (1e-4, 31), (1e-3, 4), (LONG, 1)],
)
def test_about_three_milliseconds_of_work_are_sent_ahead(mean, sent):
    core, tasks = busy_core(MOST + 36, mean=mean)
    bundles = core.submit(*tasks)
    assert [task for bundle in bundles for task in bundle.tasks] == tasks[:sent]
    assert [len(bundle.tasks) for bundle in bundles] == (
        [BUNDLE] * (MOST // BUNDLE) if sent == MOST else [sent]
    )


NEXT = 0.01  # seconds: of such a function a worker has the next attempt at hand


def test_next_attempt_is_at_hand_before_the_one_that_runs_has_ended():
    core, tasks = busy_core(4, mean=NEXT)
    assert core.submit(*tasks) == [SendAttempts(1, tasks[:1]), SendAttempts(1, [tasks[1]])]
    assert core.answer(1, answer(tasks[0], duration=NEXT)) == [
        ResolveValues([(tasks[0], "value")]),
        SendAttempts(1, [tasks[2]]),
    ]


def two_idle_workers(mean, count):
    """A core whose two workers have run `f` already, and tasks of it."""
    core = Core(2)
    warm = core.tasks(2)
    core.submit(*warm)
    core.ready(1, 2)
    for worker, task in enumerate(warm, 1):
        core.answer(worker, answer(task, duration=mean))
    return core, core.tasks(count)


def test_every_idle_worker_begins_before_one_has_its_next_attempt():
    core, tasks = two_idle_workers(NEXT, 4)
    assert core.submit(*tasks) == [
        SendAttempts(2, [tasks[0]]),
        SendAttempts(1, [tasks[1]]),
        SendAttempts(1, [tasks[2]]),
        SendAttempts(2, [tasks[3]]),
    ]


def test_attempt_at_hand_goes_to_a_worker_that_is_idle_sooner():
    core, tasks = two_idle_workers(NEXT, 3)
    core.submit(*tasks, now=10.0)
    assert core.answer(2, answer(tasks[0], duration=NEXT), now=10.001) == [
        ResolveValues([(tasks[0], "value")]),
        ReclaimAttempts(1),
    ]
    assert core.reclaimed(1, tasks[2], now=10.001) == [SendAttempts(2, [tasks[2]])]


def test_what_was_claimed_meanwhile_is_not_asked_for_again_before_an_answer():
    core, tasks = two_idle_workers(NEXT, 4)
    core.submit(*tasks[:3], now=10.0)
    core.answer(2, answer(tasks[0], duration=NEXT), now=10.001)
    assert core.reclaimed(1, now=10.001) == []
    late = core.task(function="slow")
    assert core.submit(late, now=10.002) == [SendAttempts(2, [late])]
    assert core.answer(2, answer(late), now=10.003) == [ResolveValues([(late, "value")])]


@pytest.mark.parametrize(("mean", "at", "comes_back"), [
    (3e-3, 10.0015, False),  # it will begin in a moment where it is
    (3e-3, 10.0005, True),
    (1e-3, 10.0025, True),  # what has taken longer than usual may take as long again
])  # fmt: skip
def test_attempt_at_hand_stays_where_it_will_begin_soon(mean, at, comes_back):
    core, tasks = two_idle_workers(mean, 3)
    core.submit(*tasks, now=10.0)
    if len(tasks[0].worker.in_flight) == 2:
        tasks.insert(0, tasks.pop())
    alone, running = tasks[0], tasks[1]
    assert len(alone.worker.in_flight) == 1
    commands = core.answer(alone.worker.id, answer(alone, duration=mean), now=at)
    assert (ReclaimAttempts(running.worker.id) in commands) is comes_back


def test_only_who_has_most_to_wait_for_gives_back_to_one_idle_worker():
    core = Core(3)
    warm = core.tasks(3)
    core.submit(*warm)
    core.ready(1, 2, 3)
    for worker, task in enumerate(warm, 1):
        core.answer(worker, answer(task, duration=NEXT))
    tasks = core.tasks(5)
    core.submit(*tasks, now=10.0)
    assert [task.worker.id for task in tasks] == [3, 2, 1, 1, 2]
    core.answer(1, answer(tasks[2], duration=NEXT), now=10.001)
    core.submit(core.task(), now=10.001)
    assert core.answer(3, answer(tasks[0], duration=NEXT), now=10.002)[1:] == [ReclaimAttempts(1)]


def test_older_attempts_come_back_from_behind_one_that_takes_longer_than_usual():
    """Those of its class would begin with what was submitted later."""
    core, tasks = two_idle_workers(NEXT, 8)
    core.submit(*tasks, now=10.0)
    assert core.timer(10.005) == [PollWorker(1), PollWorker(2)]
    core.answer(2, answer(tasks[0], duration=NEXT), now=10.01)
    assert core.timer(10.0126) == [PollWorker(1), ReclaimAttempts(1)]
    assert core.reclaimed(1, tasks[2], now=10.0126) == []
    assert core.answer(2, answer(tasks[3], duration=NEXT), now=10.02)[1:] == [
        SendAttempts(2, [tasks[2]])
    ]


def test_short_tasks_are_shared_between_idle_workers():
    core = Core(2)
    first = core.tasks(2)
    core.submit(*first)
    core.ready(1, 2)
    core.answer(1, answer(first[0], duration=SHORT))
    core.answer(2, answer(first[1], duration=SHORT))
    tasks = core.tasks(5)
    assert core.submit(*tasks) == [SendAttempts(2, tasks[:3]), SendAttempts(1, tasks[3:])]


def test_worker_is_topped_up_when_half_of_its_work_is_done():
    core, tasks = busy_core(3 * MOST)
    core.submit(*tasks)
    half = MOST // 2
    answers = [answer(task, duration=SHORT) for task in tasks[:half]]
    results = [(task, "value") for task in tasks]
    assert core.answer(1, *answers[:-1]) == [ResolveValues(results[: half - 1])]
    assert core.answer(1, answers[-1]) == [
        ResolveValues(results[half - 1 : half]),
        *(
            SendAttempts(1, tasks[begin : begin + BUNDLE])
            for begin in range(MOST, MOST + half, BUNDLE)
        ),
    ]


def test_last_of_the_queue_is_sent_when_half_of_the_work_is_done():
    core, tasks = busy_core(MOST + 6)
    core.submit(*tasks)
    answers = [answer(task, duration=SHORT) for task in tasks[: MOST // 2 + 8]]
    assert core.answer(1, *answers)[1:] == [SendAttempts(1, tasks[MOST:])]
    other = core.task(demand=HALF_CPU)
    assert core.submit(other) == []
    assert list(core.scheduler.backlog.waiting) == [other.scheduling_class]


def test_work_that_arrives_is_sent_behind_short_work():
    core, tasks = busy_core(3)
    core.submit(tasks[0])
    assert core.submit(tasks[1]) == [SendAttempts(1, [tasks[1]])]
    assert core.submit(tasks[2]) == [SendAttempts(1, [tasks[2]])]


def test_nothing_is_sent_behind_a_function_that_runs_long():
    core, (first, second) = busy_core(2, function="slow")
    core.function("slow", LONG)
    core.submit(first)
    second.function = core.function("f")
    assert core.submit(second) == []


def test_nothing_is_sent_behind_an_attempt_that_turned_out_long():
    core, (first, second, third) = busy_core(3)
    core.submit(first, now=10.0)
    assert core.submit(second, now=10.004) == [SendAttempts(1, [second])]
    assert core.submit(third, now=10.005) == []


def test_last_of_the_queue_is_shared_between_the_workers_that_run_its_like():
    core, tasks = two_idle_workers(1e-3, 11)
    core.submit(*tasks, now=10.0)
    assert [len(worker.in_flight) for worker in core.scheduler.pool.workers.values()] == [4, 4]
    first = [task for task in tasks if task.worker is tasks[0].worker]
    answers = [answer(task, duration=1e-3) for task in first[:3]]
    assert core.answer(2, *answers, now=10.002)[1:] == [SendAttempts(2, tasks[8:10])]


def test_function_is_not_sent_behind_others_before_its_code_is_surely_there():
    core, (known,) = busy_core(1)
    core.submit(known)
    core.function("g", SHORT)
    new = core.tasks(2, function="g")
    assert core.submit(*new) == []
    assert core.answer(1, answer(known, duration=SHORT)) == [
        ResolveValues([(known, "value")]),
        SendAttempts(1, new),
    ]


def test_code_that_travels_in_the_middle_of_a_bundle_is_known_from_there_on():
    core, (known, *_) = busy_core(1)
    core.function("g", SHORT)
    new = core.tasks(BUNDLE + 8, function="g")
    # A second bundle begins with code that only the first one carries.
    assert core.submit(known, *new) == [SendAttempts(1, [known, *new[: BUNDLE - 1]])]


def test_nothing_is_sent_ahead_while_another_worker_is_on_its_way():
    core, tasks = busy_core(4, cpus=2)
    first, *rest = tasks
    assert core.submit(first) == [SendAttempts(1, [first])]
    assert core.submit(*rest) == [StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, rest)]


def test_lease_is_not_topped_up_while_a_longer_waiting_class_could_use_it():
    core, tasks = busy_core(3)
    core.submit(tasks[0])
    other = core.task(demand=HALF_CPU)
    core.submit(other)
    late = core.task()
    assert core.submit(late) == []
    assert core.answer(1, answer(tasks[0], duration=SHORT)) == [
        ResolveValues([(tasks[0], "value")]),
        SendAttempts(1, [other]),
    ]


GPU_ONLY = (("GPU", UNIT),)
LICENCE = (("licence", UNIT),)


@pytest.mark.parametrize(
    ("other", "topped_up"),
    [(GPU_ONLY, True), (GPU_ONLY + LICENCE, False), ((("licence", UNIT // 2),), False)],
)
def test_lease_ends_for_a_longer_waiting_class_only_if_that_lacks_what_it_holds(other, topped_up):
    core = Core(1, GPU=1, licence=1)
    core.running(demand=GPU_ONLY, function="slow")
    core.answer(2, answer(core.running(demand=LICENCE), duration=SHORT))
    core.submit(core.task(demand=LICENCE))
    core.submit(core.task(demand=other))
    task = core.task(demand=LICENCE)
    assert core.submit(task) == ([SendAttempts(2, [task])] if topped_up else [])


def test_lease_ends_for_a_longer_waiting_class_that_lacks_nothing_but_a_worker():
    core = Core(2, licence=1)
    core.answer(1, answer(core.running(demand=LICENCE), duration=SHORT))
    first = core.task(demand=LICENCE)
    core.submit(first)
    other = core.task()
    assert core.submit(other) == [StartWorker(2, ())]
    core(WorkerStartFailed(2, "why"))
    assert core.submit(core.task(demand=LICENCE)) == []
    assert core.answer(1, answer(first)) == [
        ResolveValues([(first, "value")]),
        SendAttempts(1, [other]),
    ]


def test_lease_does_not_end_for_a_class_that_needs_another_environment():
    core = Core(2, licence=1)
    core.answer(1, answer(core.running(demand=LICENCE), duration=SHORT))
    first = core.task(demand=LICENCE)
    core.submit(first)
    assert core.submit(core.task(environment=OTHER)) == [StartWorker(2, OTHER)]
    second = core.task(demand=LICENCE)
    assert core.submit(second) == [SendAttempts(1, [second])]


def test_duration_of_what_never_entered_the_function_does_not_count():
    """Bug: an attempt cancelled at its start made its function look infinitely short."""
    core = Core()
    task = core.running()
    core.cancel(task)
    core.reclaimed(1)
    core.answer(1, answer(task, Ended.NOT_STARTED, None, duration=0.0))
    assert task.function.mean_seconds is None


def test_mean_follows_what_is_measured():
    core = Core()
    first, second = core.tasks(2)
    core.submit(first, second)
    core.ready(1)
    core.answer(1, answer(first, duration=1.0))
    assert first.function.mean_seconds == 1.0
    core.answer(1, answer(second, duration=2.0))
    assert first.function.mean_seconds == pytest.approx(1.2)


# ---------------------------------------------------------------- dependencies


def test_task_waits_for_its_last_argument_and_is_sent_after_the_value_is_stored():
    core = Core(2)
    first, second = core.tasks(2)
    both = core.task(first, second)
    core.submit(first, second, both)
    core.ready(1, 2)
    assert both.state is TaskStatus.PENDING_ARGS_AVAIL
    assert core.answer(1, answer(first)) == [ResolveValues([(first, "value")])]
    assert core.answer(2, answer(second)) == [
        ResolveValues([(second, "value")]),
        SendAttempts(2, [both]),
    ]


def test_same_argument_twice_counts_once_it_is_there():
    core = Core()
    first = core.running()
    twice = core.task(first, first)
    assert core.submit(twice) == []
    assert core.answer(1, answer(first))[1:] == [SendAttempts(1, [twice])]


def test_argument_that_is_there_already_is_not_waited_for():
    core = Core()
    first = core.running()
    core.answer(1, answer(first))
    second = core.task(first)
    assert core.submit(second) == [SendAttempts(1, [second])]


def test_argument_that_failed_already_fails_the_task_at_once():
    core = Core(2)
    failed, fine = core.tasks(2)
    core.submit(failed)
    core.cancel(failed)
    core.submit(fine)
    task = core.task(fine, failed, max_retries=3)
    dependent = core.task(task)
    assert core.submit(task, dependent) == [
        ResolveFailure(task, lost_argument(failed)),
        ResolveFailure(dependent, lost_argument(task)),
    ]
    assert core.ready(1) == [SendAttempts(1, [fine])]
    assert core.answer(1, answer(fine)) == [ResolveValues([(fine, "value")])]


def test_failure_fails_everything_that_waits_for_it_and_each_once():
    core = Core()
    top = core.running()
    left, right = core.task(top), core.task(top)
    bottom = core.task(left, right)
    core.submit(left, right, bottom)
    failure = Failure(FailureKind.APPLICATION, "error", attempts=(record(0, 1, detail="error"),))
    assert core.answer(1, answer(top, Ended.RAISED, "error")) == [
        ResolveFailure(top, failure),
        ResolveFailure(left, lost_argument(top)),
        ResolveFailure(right, lost_argument(top)),
        ResolveFailure(bottom, lost_argument(right)),
    ]


def test_failure_runs_down_a_chain_of_ten_thousand_without_recursion():
    core = Core()
    tasks = [core.running()]
    for _ in range(10_000):
        tasks.append(core.task(tasks[-1]))
    core.submit(*tasks[1:])
    failures = core.answer(1, answer(tasks[0], Ended.RAISED))
    assert [command.task for command in failures] == tasks
    assert [command.failure.upstream for command in failures] == [None, *tasks[:-1]]
    assert core.scheduler.table.unfinished == {}


def test_chain_of_ten_thousand_runs_one_after_the_other():
    core = Core()
    tasks = [core.running()]
    for _ in range(10_000):
        tasks.append(core.task(tasks[-1]))
    core.scheduler.handle(TasksSubmitted(tasks[1:]), 0.0)
    for task, following in itertools.pairwise(tasks):
        commands = core.scheduler.handle(AnswersReceived(1, [answer(task)]), 0.0)
        assert commands == [ResolveValues([(task, "value")]), SendAttempts(1, [following])]


def test_cancelled_task_is_not_woken_by_its_argument():
    core = Core()
    first = core.running()
    task = core.task(first)
    core.submit(task)
    core.cancel(task)
    assert core.answer(1, answer(first)) == [ResolveValues([(first, "value")])]


def test_task_does_not_keep_its_arguments_tasks():
    """Bug: x = f.remote(x) in a loop kept every task there had ever been."""
    core = Core()
    first = core.running()
    second, third = core.task(first), core.task(first)
    core.submit(second)
    core.answer(1, answer(first))
    core.submit(third)
    assert first not in [*gc.get_referents(second), *gc.get_referents(third)]
    assert second.dependencies == third.dependencies == ()


# ---------------------------------------------------------------- retries

ENDINGS = {  # what follows the last attempt: one that may be retried or not
    Ended.RAISED: False,
    Ended.RAISED_RETRYABLE: True,
    Ended.ASKED_FOR_RETRY: True,
    Ended.FORBADE_RETRY: False,
    "crash": True,
}


def at_work(core, task, now):
    """The worker that runs a task, which may have waited for the last one that was ordered."""
    if task.worker is None:
        core.ready(core.scheduler.pool.last_id, now=now)
    return task.worker.id


@pytest.mark.parametrize("max_retries", [0, 1, 3])
@pytest.mark.parametrize(("ended", "retried"), ENDINGS.items(), ids=str)
def test_retries_are_counted(ended, retried, max_retries):
    """Each way to end against each number of retries: attempts made, and what is reported."""
    core = Core()
    task = core.running(max_retries=max_retries)
    kind = FailureKind.WORKER_DIED if ended == "crash" else FailureKind.APPLICATION
    worker_id, now, records = 1, 0.0, []
    while True:
        number = task.attempt
        if ended == "crash":
            commands = core.exited(worker_id, report="error", now=now)
            records.append(record(number, worker_id, kind, "error", started_at=now, duration=0.0))
        else:
            commands = core.answer(worker_id, answer(task, ended, "error"), now=now)
            records.append(record(number, worker_id, kind, "error"))
        if not isinstance(commands[0], ReportRetry):
            break
        assert commands[0].task is task
        assert commands[0].record == records[-1]
        assert commands[0].retries_left == max_retries - number
        while task.state is TaskStatus.BACKOFF:
            now, commands = core.tick()
        if ended == "crash":
            worker_id = at_work(core, task, now)
        assert task.state is SUBMITTED
    assert len(records) == (max_retries + 1 if retried else 1)
    assert commands == [ResolveFailure(task, Failure(kind, "error", attempts=tuple(records)))]
    assert task.state is TaskStatus.FAILED


def test_unlimited_retries_do_not_run_out():
    core = Core()
    task = core.running(max_retries=-1)
    for number in range(50):
        assert core.answer(1, answer(task, Ended.RAISED_RETRYABLE)) == [
            ReportRetry(task, record(number, 1), -1, 0.0),
            SendAttempts(1, [task]),
        ]


def test_attempts_of_both_kinds_share_one_budget_and_one_history():
    core = Core()
    task = core.running(max_retries=1)
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE, "first"))
    records = (
        record(0, 1, detail="first"),
        record(1, 1, FailureKind.WORKER_DIED, "second", started_at=0.0, duration=2.0),
    )
    assert core.exited(1, report="second", now=2.0) == [
        ResolveFailure(task, Failure(FailureKind.WORKER_DIED, "second", attempts=records))
    ]


def test_history_of_a_crash_begins_where_the_attempt_is_known_to_have_begun():
    core = Core()
    task = core.running(max_retries=0)
    [failed] = core.exited(1, started_at=3.5, now=5.0)
    assert failed.failure.attempts == (
        record(0, 1, FailureKind.WORKER_DIED, "died", started_at=3.5, duration=1.5),
    )
    assert failed.task is task


def test_crashes_are_retried_at_once_and_then_ever_later():
    core = Core()
    task = core.running(max_retries=-1)
    delays, now = [], 0.0
    for _ in range(10):
        report, *_ = core.exited(at_work(core, task, now), now=now)
        delays.append(report.delay)
        due = now
        while task.state is TaskStatus.BACKOFF:
            due, _ = core.tick()
        assert due == now + report.delay
        now = due
    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@pytest.mark.parametrize("ended", [Ended.RAISED_RETRYABLE, "crash"])
def test_policy_sets_the_delays_of_both_kinds_of_failure(ended):
    core = Core()
    task = core.running(policy=RetryPolicy(0.5, 3.0, 2.0, jitter=False))
    worker_id, now = 1, 0.0
    for delay in (0.5, 1.5, 2.0):
        if ended == "crash":
            report, *_ = core.exited(worker_id, now=now)
        else:
            report, *_ = core.answer(worker_id, answer(task, ended), now=now)
        assert report.delay == delay
        assert task.state is TaskStatus.BACKOFF
        due = now + delay
        assert core.deadline <= due
        core.timer(due - 0.001)  # too early
        assert task.state is TaskStatus.BACKOFF
        core.timer(due)
        if ended == "crash":
            worker_id = at_work(core, task, due)
        assert task.state is SUBMITTED
        now = due


def test_jitter_comes_from_the_given_generator():
    core = Core(seed=7)
    task = core.running(policy=RetryPolicy(10.0))
    report, *_ = core.answer(1, answer(task, Ended.RAISED_RETRYABLE))
    assert report.delay == random.Random(7).uniform(0.0, 10.0)


@pytest.mark.parametrize(("asked", "delay"), [(None, 0.0), (0.0, 0.0), (2.5, 2.5)])
def test_task_that_asks_for_a_retry_gets_the_delay_it_asks_for(asked, delay):
    core = Core()
    task = core.running(policy=RetryPolicy(10.0, jitter=False))
    report, *_ = core.answer(1, answer(task, Ended.ASKED_FOR_RETRY, delay=asked))
    assert report == ReportRetry(task, record(0, 1), 3, delay)


@pytest.mark.parametrize(("now", "retried"), [(109.0, True), (109.1, False)])
def test_time_budget_counts_from_the_start_of_the_first_attempt(now, retried):
    """Bug: it counted from when the first attempt was sent, however long that had to wait.

    1. At 50 two tasks are sent to one worker; the first runs until 100.
    2. The second starts at 100, and fails twice.
    """
    core, (first, second) = busy_core(2, policy=RetryPolicy(1.0, 1.0, jitter=False, time_budget=10))
    core.submit(first, second, now=50.0)
    core.answer(1, answer(first, duration=SHORT), now=100.0)
    core.answer(1, answer(second, Ended.RAISED_RETRYABLE, started_at=100.0), now=101.0)
    core.timer(102.0)
    report, *_ = core.answer(1, answer(second, Ended.RAISED_RETRYABLE, started_at=102.0), now=now)
    assert isinstance(report, ReportRetry) is retried
    assert second.state is (TaskStatus.BACKOFF if retried else TaskStatus.FAILED)


def test_zero_time_budget_retries_nothing():
    core = Core()
    task = core.running(policy=RetryPolicy(time_budget=0))
    [failed] = core.answer(1, answer(task, Ended.RAISED_RETRYABLE), now=0.1)
    assert failed.failure.kind is FailureKind.APPLICATION


def test_first_retry_goes_ahead_of_what_waits_and_the_second_behind():
    core = Core()
    failing = core.running()
    others = core.tasks(2)
    core.submit(*others)
    assert core.answer(1, answer(failing, Ended.RAISED_RETRYABLE))[1:] == [
        SendAttempts(1, [failing])
    ]
    assert core.answer(1, answer(failing, Ended.RAISED_RETRYABLE))[1:] == [
        SendAttempts(1, [others[0]])
    ]
    assert core.answer(1, answer(others[0]))[1:] == [SendAttempts(1, [others[1]])]
    assert core.answer(1, answer(others[1]))[1:] == [SendAttempts(1, [failing])]


def test_task_that_always_fails_does_not_starve_another_class():
    """Bug: its old submission number put it in front for ever."""
    core = Core(1, net=1)
    failing = core.running(max_retries=-1)
    other = core.task(demand=ON_NET, max_retries=-1)
    core.submit(other)
    core.answer(1, answer(failing, Ended.RAISED_RETRYABLE))
    sent = []
    for _ in range(6):
        task = failing if failing.worker else other
        *_, send = core.answer(1, answer(task, Ended.RAISED_RETRYABLE))
        sent += send.tasks
    assert sent == [other, failing] * 3


def test_retry_waits_for_a_free_worker_like_any_other():
    core = Core()
    policy = RetryPolicy(1.0, jitter=False)
    task = core.running(policy=policy)
    other = core.task()
    core.submit(other)
    assert core.answer(1, answer(task, Ended.RAISED_RETRYABLE))[1:] == [SendAttempts(1, [other])]
    assert core.timer(1.0) == []
    assert task.state is PENDING
    assert core.answer(1, answer(other), now=2.0)[1:] == [SendAttempts(1, [task])]


# ---------------------------------------------------------------- max_calls


def test_worker_leaves_after_its_last_call_and_a_successor_is_started_beforehand():
    core = Core()
    first, second, third = core.tasks(3, max_calls=2)
    core.submit(first, second, third)
    assert core.ready(1) == [SendAttempts(1, [first])]
    assert core.answer(1, answer(first, Ended.RAISED, "e"))[1:] == [  # a call that raised counts
        StartWorker(2, ()),
        SendAttempts(1, [second]),
    ]
    assert core.ready(2) == []  # the CPU is in use
    assert core.answer(1, answer(second)) == [
        ResolveValues([(second, "value")]),
        StopWorker(1),
        SendAttempts(2, [third]),
    ]
    assert core.exited(1, report="exit 0") == []  # costs nobody a retry


def test_no_successor_is_started_if_enough_workers_stay():
    core = Core(2)
    tasks = core.tasks(3, demand=HALF_CPU)
    core.submit(*tasks)
    core.ready(1, 2, 3)
    core.answer(1, answer(tasks[0]))
    once = core.task(max_calls=1, demand=HALF_CPU)
    assert core.submit(once) == [SendAttempts(1, [once])]


def test_no_successor_is_started_beyond_the_limit_of_workers(monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_WORKERS", 1)
    core = Core()
    task = core.task(max_calls=1)
    core.submit(task)
    assert core.ready(1) == [SendAttempts(1, [task])]


def test_short_calls_are_sent_ahead_up_to_the_last_one():
    """Bug: the successor, started in the middle of looking through the workers, broke the look."""
    core, (first,) = busy_core(1, max_calls=4)
    core.submit(first)
    rest = core.tasks(5, max_calls=4)
    assert core.submit(*rest) == [StartWorker(2, ()), SendAttempts(1, rest[:3])]


def test_calls_that_are_taken_back_do_not_count():
    core, (first, second) = busy_core(2, max_calls=3)
    core.submit(first, second)
    core.cancel(second)
    core.reclaimed(1, second)
    core.answer(1, answer(first, duration=SHORT))
    rest = core.tasks(3, max_calls=3)
    assert core.submit(*rest) == [StartWorker(2, ()), SendAttempts(1, rest[:2])]


def test_last_call_that_is_taken_back_does_not_count():
    """Bug: the worker left without it."""
    core, (first, second) = busy_core(2, max_calls=2)
    assert core.submit(first, second) == [StartWorker(2, ()), SendAttempts(1, [first, second])]
    core.cancel(second)
    assert core.reclaimed(1, second) == [
        ResolveFailure(second, cancelled()),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
    ]
    assert core.answer(1, answer(first, duration=SHORT)) == [ResolveValues([(first, "value")])]
    again = core.task(max_calls=2)
    assert core.submit(again) == [SendAttempts(1, [again])]
    assert core.answer(1, answer(again)) == [ResolveValues([(again, "value")]), StopWorker(1)]


# ---------------------------------------------------------------- cancel


def reported(outcome, *request_ids):
    return [ReportCancel(request_id, outcome) for request_id in request_ids or (1,)]


def test_cancel_of_a_task_that_waits_for_arguments():
    core = Core()
    first = core.running()
    task = core.task(first)
    dependent = core.task(task)
    core.submit(task, dependent)
    assert core.cancel(task) == [
        ResolveFailure(task, cancelled()),
        *reported(CancelOutcome.NOT_STARTED),
        ResolveFailure(dependent, lost_argument(task)),
    ]


@pytest.mark.parametrize("options", [{}, {"force": True}, {"grace": 5.0}])
def test_cancel_of_a_queued_task(options):
    core = Core()
    core.running()
    task, other = core.tasks(2)
    core.submit(task, other)
    assert core.cancel(task, **options) == [
        ResolveFailure(task, cancelled()),
        *reported(CancelOutcome.NOT_STARTED),
    ]
    assert core.deadline is None
    assert other.state is PENDING


def test_cancel_in_backoff_ends_the_retrying():
    core = Core()
    task = core.running(policy=RetryPolicy(1.0, jitter=False))
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE, "error"))
    assert core.cancel(task, now=0.5) == [
        ResolveFailure(task, cancelled(record(0, 1, detail="error"))),
        *reported(CancelOutcome.NOT_STARTED),
    ]
    assert core.timer(1.0) == []


def test_cancel_of_a_retry_that_is_queued():
    core = Core()
    task = core.running()
    core.exited(1, report="died")
    assert task.state is PENDING
    death = record(0, 1, FailureKind.WORKER_DIED, "died", duration=0.0)
    assert core.cancel(task) == [
        ResolveFailure(task, cancelled(death)),
        *reported(CancelOutcome.NOT_STARTED),
    ]


@pytest.mark.parametrize("options", [{}, {"force": True}, {"grace": 5.0}])
def test_cancel_of_an_attempt_that_was_sent_and_not_claimed(options):
    core, (first, second, third) = busy_core(3)
    core.submit(first, second, third)
    assert core.cancel(second, **options) == [ReclaimAttempts(1)]
    assert core.reclaimed(1, second, third) == [
        ResolveFailure(second, cancelled()),
        *reported(CancelOutcome.NOT_STARTED),
        SendAttempts(1, [third]),
    ]
    assert first.state is SUBMITTED


def test_cancel_of_a_running_attempt_interrupts_it():
    core = Core()
    task = core.running()
    assert core.cancel(task) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [InterruptWorker(1, task.seq)]
    failure = Failure(
        FailureKind.CANCELLED,
        "traceback",
        attempts=(record(0, 1, FailureKind.CANCELLED, "traceback"),),
    )
    assert core.answer(1, answer(task, Ended.INTERRUPTED, "traceback")) == [
        ResolveFailure(task, failure),
        *reported(CancelOutcome.INTERRUPTED),
    ]


def test_interrupt_is_repeated_until_there_is_an_answer():
    core = Core()
    task = core.running()
    core.cancel(task, now=1.0)
    core.reclaimed(1, now=1.0)
    now = 1.0
    for _ in range(5):
        due, commands = core.tick()
        assert due == now + 0.05
        assert commands == [InterruptWorker(1, task.seq)]
        now = due
    core.answer(1, answer(task, Ended.INTERRUPTED), now=now)
    assert core.tick() == (now + 0.05, [])
    assert core.deadline is None


def test_interrupt_does_not_follow_the_task_to_another_worker():
    """The seq names one attempt on one worker, and a cancelled task gets no other."""
    core = Core()
    task = core.running()
    core.cancel(task)
    core.reclaimed(1)
    again = core.task()
    core.submit(again)
    core.answer(1, answer(task, Ended.INTERRUPTED))
    assert again.worker is not None
    assert core.timer(0.05) == []


def test_attempt_that_had_not_entered_its_function_counts_as_not_started():
    core = Core()
    task = core.running()
    core.cancel(task)
    core.reclaimed(1)
    end = record(0, 1, FailureKind.CANCELLED, b"", duration=0.0)
    assert core.answer(1, answer(task, Ended.NOT_STARTED, b"", duration=0.0)) == [
        ResolveFailure(task, cancelled(end)),
        *reported(CancelOutcome.NOT_STARTED),
    ]


@pytest.mark.parametrize("ended", [Ended.RETURNED, Ended.RAISED, Ended.RAISED_RETRYABLE])
@pytest.mark.parametrize("interrupted", [False, True])
def test_answer_that_crosses_with_a_cancel_stands(ended, interrupted):
    """The answer was written before the cancel took hold. The error is not retried any more."""
    core = Core()
    task = core.running()
    core.cancel(task)
    if interrupted:
        core.reclaimed(1)
    failure = Failure(FailureKind.APPLICATION, "value", attempts=(record(0, 1),))
    outcome = (
        ResolveValues([(task, "value")])
        if ended is Ended.RETURNED
        else ResolveFailure(task, failure)
    )
    finished = reported(CancelOutcome.FINISHED_FIRST)
    expected = [*finished, outcome] if ended is Ended.RETURNED else [outcome, *finished]
    assert core.answer(1, answer(task, ended)) == expected
    if not interrupted:
        assert core.reclaimed(1) == []


@pytest.mark.parametrize("ended", [Ended.RETURNED, Ended.RAISED])
def test_cancel_that_comes_after_the_answer_is_told_so(ended):
    core = Core()
    task = core.running()
    core.answer(1, answer(task, ended))
    assert core.cancel(task) == reported(CancelOutcome.FINISHED_FIRST)


def test_keyboard_interrupt_of_the_functions_own_counts_as_cancelled():
    core = Core()
    task = core.running()
    failure = Failure(
        FailureKind.CANCELLED, "value", attempts=(record(0, 1, FailureKind.CANCELLED),)
    )
    assert core.answer(1, answer(task, Ended.INTERRUPTED)) == [ResolveFailure(task, failure)]


def test_keyboard_interrupt_that_comes_before_ours_is_not_told_as_never_started():
    """Bug: an interrupted answer read before the first interrupt was ordered meant NOT_STARTED."""
    core = Core()
    task = core.running()
    core.cancel(task)
    [_, report] = core.answer(1, answer(task, Ended.INTERRUPTED))
    assert report == ReportCancel(1, CancelOutcome.INTERRUPTED)


def test_everybody_who_cancels_gets_one_report():
    core = Core()
    task = core.running()
    assert core.cancel(task, 1) == [ReclaimAttempts(1)]
    assert core.cancel(task, 2) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [InterruptWorker(1, task.seq)]
    assert core.reclaimed(1) == []
    assert core.cancel(task, 3) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == []
    assert core.answer(1, answer(task, Ended.INTERRUPTED))[1:] == reported(
        CancelOutcome.INTERRUPTED, 1, 2, 3
    )
    assert core.cancel(task, 4) == reported(CancelOutcome.INTERRUPTED, 4)


def test_force_kills_and_the_task_is_not_retried():
    core = Core()
    task = core.running(max_retries=-1)
    other = core.task()
    core.submit(other)
    assert core.cancel(task, force=True) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [KillWorker(1)]
    end = record(0, 1, FailureKind.CANCELLED, "killed", duration=0.0)
    assert core.exited(1, report="killed") == [
        ResolveFailure(task, cancelled(end)),
        *reported(CancelOutcome.KILLED),
        StartWorker(2, ()),
    ]


def test_force_after_a_plain_cancel_kills_and_ends_the_interrupting():
    """Bug: the interrupts went on until the killed worker was reaped."""
    core = Core()
    task = core.running()
    core.cancel(task, 1)
    core.reclaimed(1)
    core.cancel(task, 2, force=True)
    assert core.reclaimed(1) == [KillWorker(1)]
    assert core.timer(0.05) == [StartWorker(2, ())]  # a spare one
    assert core.deadline == 10.0  # until when there is to be one
    assert core.exited(1)[1:] == reported(CancelOutcome.KILLED, 1, 2)


def test_answer_that_crosses_with_the_kill_stands():
    """1. Killed. 2. The answer that it had written is read. 3. It is reaped."""
    core = Core()
    task = core.running()
    core.cancel(task, force=True)
    core.reclaimed(1)
    assert core.answer(1, answer(task)) == [
        *reported(CancelOutcome.FINISHED_FIRST),
        ResolveValues([(task, "value")]),
    ]
    assert core.exited(1) == []


def test_answer_after_the_worker_was_reaped_is_dropped():
    """1. Killed. 2. It is reaped. 3. An answer turns up all the same."""
    core = Core()
    task = core.running()
    core.cancel(task, force=True)
    core.reclaimed(1)
    late = answer(task)
    core.exited(1)
    assert core.answer(1, late) == []
    assert task.state is TaskStatus.FAILED


@pytest.mark.parametrize("crash_first", [False, True])
def test_worker_that_dies_of_itself_while_its_task_is_cancelled(crash_first):
    core = Core()
    task = core.running(max_retries=-1)
    core.cancel(task)
    if not crash_first:
        core.reclaimed(1)
    end = record(0, 1, FailureKind.CANCELLED, "died", duration=0.0)
    assert core.exited(1) == [
        ResolveFailure(task, cancelled(end)),
        *reported(CancelOutcome.KILLED),
    ]
    assert core.reclaimed(1) == []


def test_grace_ends_in_a_kill():
    core = Core()
    task = core.running()
    core.cancel(task, grace=0.12, now=1.0)
    assert core.reclaimed(1, now=1.0) == [InterruptWorker(1, task.seq)]
    assert [core.tick()[1] for _ in range(3)] == [
        [InterruptWorker(1, task.seq)],
        [InterruptWorker(1, task.seq)],
        [ReclaimAttempts(1)],
    ]
    assert core.reclaimed(1, now=1.12) == [KillWorker(1)]


def test_grace_ends_without_a_kill_if_the_task_has_ended():
    core = Core()
    task = core.running()
    core.cancel(task, grace=0.01)
    core.reclaimed(1)
    core.answer(1, answer(task, Ended.INTERRUPTED))
    assert core.timer(0.01) == []


def test_second_grace_that_ends_later_changes_nothing():
    core = Core()
    task = core.running()
    core.cancel(task, 1, grace=0.01)
    core.cancel(task, 2, grace=0.02)
    core.reclaimed(1)
    core.reclaimed(1)
    assert core.timer(0.01) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [KillWorker(1)]
    assert core.timer(0.02) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == []


def test_force_does_not_kill_a_bystander():
    """Bug: the attempt had ended, its answer was not read yet, and the next one was running.

    1. Two attempts are sent; the worker answers the first, rings no bell, and claims the second.
    2. The first is cancelled by force. Neither can be reclaimed.
    3. Only the second can be running, so there is an answer to be read instead of a kill.
    """
    core, (first, second) = busy_core(2)
    core.submit(first, second)
    assert core.cancel(first, force=True) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [PollWorker(1)]
    assert core.answer(1, answer(first)) == [
        *reported(CancelOutcome.FINISHED_FIRST),
        ResolveValues([(first, "value")]),
    ]
    assert second.state is SUBMITTED


def test_end_of_grace_does_not_kill_a_bystander():
    """Bug: as above, where the next attempt was sent after the cancel."""
    core, (first, second) = busy_core(2)
    core.submit(first)
    core.cancel(first, grace=0.004)
    assert core.reclaimed(1) == [InterruptWorker(1, first.seq)]
    assert core.submit(second) == [SendAttempts(1, [second])]
    assert core.timer(0.004) == [ReclaimAttempts(1)]
    assert core.reclaimed(1, now=0.004) == [PollWorker(1)]


def test_attempt_sent_while_others_are_reclaimed_is_not_killed_for_them():
    """1. A cancel orders a reclaim. 2. Before it is reported, the worker gets one more."""
    core, (first, second) = busy_core(2)
    core.submit(first)
    core.cancel(first, force=True)
    core.submit(second)
    assert core.reclaimed(1) == [ReclaimAttempts(1)]
    assert core.reclaimed(1, second) == [KillWorker(1)]
    assert second.state is PENDING


def test_kill_harms_nobody_but_the_attempt_it_is_meant_for():
    core, tasks = busy_core(3, max_retries=0)
    core.submit(*tasks)
    core.cancel(tasks[0], force=True)
    assert core.reclaimed(1, *tasks[1:]) == [KillWorker(1)]
    _, _, start = core.exited(1)
    assert start == StartWorker(2, ())
    assert core.ready(2) == [SendAttempts(2, tasks[1:])]


# ---------------------------------------------------------------- death of a worker


def test_death_harms_only_the_claimed_attempt_and_the_others_keep_their_places():
    core, tasks = busy_core(5, max_retries=0)
    core.submit(*tasks)
    core.answer(1, answer(tasks[0], duration=SHORT))
    assert core.exited(1, *tasks[2:]) == [
        ResolveFailure(
            tasks[1],
            Failure(
                FailureKind.WORKER_DIED,
                "died",
                attempts=(record(0, 1, FailureKind.WORKER_DIED, "died", duration=0.0),),
            ),
        ),
        StartWorker(2, ()),
    ]
    late = core.task()
    core.submit(late)
    assert core.ready(2) == [SendAttempts(2, [*tasks[2:], late])]
    assert [task.attempt for task in tasks[2:]] == [0, 0, 0]
    assert core.scheduler.available == {"CPU": 0}


def test_task_given_to_a_dying_worker_is_not_harmed():
    """Bug: between the reclaim and the report of the death it was given more, and blamed.

    1. The worker dies idle. Before that is noticed, a task is sent to it.
    2. It is noticed: what comes back goes to others.
    3. The death is explained.
    """
    core, (task,) = busy_core(1, max_retries=0)
    assert core.submit(task) == [SendAttempts(1, [task])]
    assert core(WorkerDied(1)) == []
    assert core.reclaimed(1, task) == []
    assert core(WorkerExited(1, "died")) == [StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, [task])]


def test_dead_worker_is_neither_interrupted_nor_killed():
    core = Core()
    task = core.running()
    core.cancel(task, 1)
    core.reclaimed(1)
    core(WorkerDied(1))
    core.cancel(task, 2, force=True)
    assert core.reclaimed(1) == []
    assert core.timer(0.05) == []
    assert core(ShutdownRequested(), 0.1) == [
        ResolveFailure(task, cancelled()),
        *reported(CancelOutcome.KILLED, 1, 2),
    ]
    assert core(WorkerExited(1, "died"), 0.2) == [Stopped()]


def test_death_may_be_told_twice():
    core = Core()
    core.submit(core.task())
    core.ready(1)
    assert core(WorkerDied(1)) == []
    assert core(WorkerDied(1)) == []
    _, start = core(WorkerExited(1, "died"))
    assert start == StartWorker(2, ())


def test_worker_that_comes_up_dead_takes_nothing():
    """1. Its end is noticed. 2. Its greeting is found in the pipe. 3. Its end is explained."""
    core = Core()
    task = core.task()
    core.submit(task)
    assert core(WorkerDied(1)) == []
    assert core.ready(1) == []
    assert core(WorkerExited(1, "died starting")) == []
    assert core.timer(0.02) == [StartWorker(2, ())]


def test_death_that_is_told_without_notice_counts_as_well():
    core = Core(2)
    core.submit(*core.tasks(2))
    core.ready(1)
    assert core(WorkerExited(1, "died"))[1:] == [StartWorker(3, ())]
    assert core(WorkerExited(2, "died starting")) == []


def test_death_of_an_idle_worker_that_has_served_harms_nobody():
    core = Core()
    core.answer(1, answer(core.running()))
    assert core.exited(1) == []
    assert core.submit(core.task()) == [StartWorker(2, ())]


def test_news_of_unknown_workers_is_ignored():
    core = Core()
    assert core(WorkerReady(7)) == []
    assert core(WorkerDied(7)) == []
    assert core(WorkerStartFailed(7, "no process")) == []
    assert core.exited(7) == []
    assert core.answer(7, Answer(1, Ended.RETURNED, "value", 0.0, 1.0)) == []
    assert core(AttemptsReclaimed(7, [1])) == []


def test_second_greeting_of_a_worker_is_ignored():
    core = Core()
    task = core.running()
    assert core.ready(1) == []
    assert task.worker.id == 1


def test_answer_to_an_attempt_of_the_past_is_dropped_and_its_worker_discarded():
    """The attempt was taken back and is running elsewhere: its seq is another."""
    core = Core(2)
    first = core.running()
    old = answer(first, payload="old")
    core.exited(1)
    core.ready(2)
    assert core.answer(2, old) == [DiscardWorker(2)]
    assert core.answer(2, answer(first, payload="new")) == [ResolveValues([(first, "new")])]


def test_late_answer_does_not_make_an_idle_worker_idle_twice():
    """Bug: it stood in the list of idle workers two times, and got two leases at once."""
    core = Core(2)
    task = core.running()
    old = answer(task)
    core.answer(1, old)
    assert core.answer(1, old) == [DiscardWorker(1)]
    one, two = core.tasks(2)
    assert core.submit(one, two) == [SendAttempts(1, [one]), StartWorker(2, ())]


# ---------------------------------------------------------------- failing to start


def test_failed_starts_are_repeated_ever_later_and_then_fail_what_waits():
    core = Core()
    task = core.task()
    dependent = core.task(task)
    core.submit(task, dependent)
    now = 0.0
    for worker_id, delay in ((1, 0.02), (2, 0.04), (3, 0.08)):
        assert core(WorkerStartFailed(worker_id, "why"), now) == []
        assert core.submit(now=now) == []  # nothing is started before it is time
        due, commands = core.tick()
        assert due == pytest.approx(now + delay)
        assert commands == [StartWorker(worker_id + 1, ())]
        now = due
    assert core(WorkerStartFailed(4, "why"), now) == [
        ResolveFailure(task, Failure(FailureKind.WORKER_STARTUP, "why")),
        ResolveFailure(dependent, lost_argument(task)),
    ]
    assert core.submit(core.task(), now=now) == [StartWorker(5, ())]  # with tries of its own


def scarce(worker_id):
    return WorkerStartFailed(worker_id, "no descriptors", scarce=True)


def test_starts_that_fail_for_want_of_room_are_repeated_for_longer():
    core = Core()
    task = core.task()
    core.submit(task)
    now = 0.0
    for worker_id in range(1, 13):
        assert core(scarce(worker_id), now) == []
        now, commands = core.tick()
        assert commands == [StartWorker(worker_id + 1, ())]
    assert now == pytest.approx(7.26)
    assert core(scarce(13), now) == [
        ResolveFailure(task, Failure(FailureKind.WORKER_STARTUP, "no descriptors")),
    ]


def no_process(worker_id):
    return WorkerStartFailed(worker_id, "its template died")


@pytest.mark.parametrize("failed", [scarce, no_process])
def test_starts_that_fail_together_count_as_one(failed):
    """Bug: one death of the template while four workers started failed all that waited."""
    core = Core(4)
    core.submit(*core.tasks(4))
    assert [core(failed(worker_id), 0.0) for worker_id in (1, 2, 3, 4)] == [[], [], [], []]
    due, commands = core.tick()
    assert due == pytest.approx(0.02)
    assert commands == [StartWorker(worker_id, ()) for worker_id in (5, 6, 7, 8)]


@pytest.mark.parametrize("failed", [scarce, no_process])
def test_start_that_fails_after_the_pause_of_its_try_is_made_up_for_at_once(failed):
    core = Core(2)
    core.submit(*core.tasks(2))
    core(failed(1), 0.0)
    now, commands = core.tick()
    assert commands == [StartWorker(3, ())]
    assert core(failed(2), now) == [StartWorker(4, ())]
    core(failed(3), now)
    assert core.tick()[0] == pytest.approx(now + 0.04)  # the second try, not the third


def test_tasks_wait_for_a_worker_that_has_no_room_as_long_as_others_work():
    core = Core(2)
    core.running()
    waiting = core.task()
    assert core.submit(waiting) == [StartWorker(2, ())]
    now = 0.0
    for worker_id in range(2, 30):
        assert core(scarce(worker_id), now) == []
        due, commands = core.tick()
        assert due <= now + 1.0
        assert commands == [StartWorker(worker_id + 1, ())]
        now = due
    assert core.ready(30) == [SendAttempts(30, [waiting])]


@pytest.mark.parametrize("closing", [False, True])
def test_attempts_that_cannot_be_sent_fail_and_leave_their_worker_to_others(closing):
    core = Core()
    task, next_one = core.tasks(2)
    core.submit(task, next_one)
    core.ready(1)
    if closing:
        core(ShutdownRequested(0.0))
        assert core(AttemptsNotSent(1, [answer(task, ended=Ended.RAISED)])) == []
        return
    commands = core(AttemptsNotSent(1, [answer(task, ended=Ended.RAISED, payload="full")]))
    [failure, sent] = commands
    assert (failure.task, failure.failure.kind) == (task, FailureKind.APPLICATION)
    assert failure.failure.detail == "full"
    assert sent == SendAttempts(1, [next_one])
    assert task.function.key not in core.scheduler.pool.workers[1].functions


def failed_starts(core, *worker_ids, now=0.0):
    commands = []
    for worker_id in worker_ids:
        commands = core(WorkerStartFailed(worker_id, "why"), now)
        if core.deadline is not None:
            now, _ = core.tick()
    return commands


def test_failure_to_start_keeps_the_history_of_a_retried_task():
    core = Core()
    task = core.running()
    core.exited(1)
    core.timer(0.05)  # it is time for a spare worker, but one is on its way
    [failed] = failed_starts(core, 2, 3, 4, 5)
    death = record(0, 1, FailureKind.WORKER_DIED, "died", duration=0.0)
    assert failed == ResolveFailure(
        task, Failure(FailureKind.WORKER_STARTUP, "why", attempts=(death,))
    )


def test_failure_to_start_in_one_environment_leaves_others_alone():
    core = Core(2)
    here, there = core.task(), core.task(environment=OTHER)
    core.submit(here, there)
    core.ready(2)
    assert failed_starts(core, 1, 3, 4, 5) == [
        ResolveFailure(here, Failure(FailureKind.WORKER_STARTUP, "why"))
    ]
    assert there.state is SUBMITTED


def test_nothing_fails_for_lack_of_more_workers_while_one_is_there():
    """Bug: a worker at its first task did not count, and what waited for it was failed."""
    core = Core(2)
    first, second = core.tasks(2)
    core.submit(first, second)
    core.ready(1)
    assert failed_starts(core, 2, 3, 4, 5) == []
    assert core.answer(1, answer(first)) == [
        ResolveValues([(first, "value")]),
        SendAttempts(1, [second]),
    ]


def test_worker_that_has_served_ends_the_counting_of_failures():
    core = Core()
    task = core.task()
    core.submit(task)
    failed_starts(core, 1, 2, 3)
    core.ready(4, now=1.0)
    core.answer(4, answer(task), now=1.0)
    core.exited(4, now=1.0)
    later = core.task()
    assert core.submit(later, now=1.0) == [StartWorker(5, ())]
    assert failed_starts(core, 5, 6, 7, now=1.0) == []
    assert later.state is PENDING


def test_worker_that_dies_before_it_did_anything_counts_as_a_failed_start():
    core = Core()
    task = core.task()
    core.submit(task)
    assert core.exited(1, report="died starting") == []
    assert core.timer(0.02) == [StartWorker(2, ())]
    core.ready(2, now=0.02)
    assert core.exited(2, task, report="died unused", now=0.02) == []
    now, commands = core.tick()
    assert (now, commands) == (0.02 + 0.04, [StartWorker(3, ())])


def broken(worker_id, report="no such place"):
    return WorkerStartFailed(worker_id, report, environment_failed=True)


def in_broken_environment(task, report="no such place", **others):
    return ResolveFailure(task, Failure(FailureKind.ENVIRONMENT, report, **others))


def test_broken_environment_fails_what_waits_for_it_at_once():
    core = Core()
    task = core.task(environment=OTHER)
    dependent = core.task(task)
    core.submit(task, dependent)
    assert core(broken(1)) == [
        in_broken_environment(task),
        ResolveFailure(dependent, lost_argument(task)),
    ]


def test_broken_environment_is_not_tried_again_before_a_pause_is_over():
    core = Core()
    core.submit(core.task(environment=OTHER))
    core(broken(1))
    early, late = core.tasks(2, environment=OTHER)
    almost = starts_module.BROKEN_SECONDS - 0.001
    assert core.submit(early, now=almost) == [in_broken_environment(early)]
    assert core.submit(late, now=almost + 0.001) == [StartWorker(2, OTHER)]
    core.ready(2, now=almost + 0.001)
    assert late.state is SUBMITTED


def test_broken_environment_leaves_others_alone():
    core = Core(2)
    here, there = core.task(), core.task(environment=OTHER)
    core.submit(here, there)
    assert core(broken(2)) == [in_broken_environment(there)]
    core.ready(1)
    assert here.state is SUBMITTED


def test_worker_on_its_way_may_still_prove_an_environment_sound():
    core = Core(2)
    first, second = core.tasks(2, environment=OTHER)
    core.submit(first, second)
    assert core(broken(1)) == []
    assert core.ready(2) == [SendAttempts(2, [first])]
    assert core.answer(2, answer(first)) == [
        ResolveValues([(first, "value")]),
        SendAttempts(2, [second]),
    ]


def test_last_worker_on_its_way_to_fail_fails_the_queue():
    core = Core(2)
    first, second = core.tasks(2, environment=OTHER)
    core.submit(first, second)
    assert core(broken(1, "why the first")) == []
    assert core(broken(2, "why the second")) == [
        in_broken_environment(first, "why the second"),
        in_broken_environment(second, "why the second"),
    ]


def test_task_that_lost_its_worker_fails_if_the_environment_is_broken_by_now():
    """1. Two workers are ordered, one fails. 2. The other runs the task, and crashes."""
    core = Core(2)
    first, second = core.tasks(2, environment=OTHER)
    core.submit(first, second)
    core.ready(1)
    core(broken(2))
    core.answer(1, answer(first))
    death = record(0, 1, FailureKind.WORKER_DIED, "died", duration=0.0)
    assert second.state is SUBMITTED
    commands = core.exited(1)
    assert isinstance(commands[0], ReportRetry)
    assert commands[1:] == [in_broken_environment(second, attempts=(death,))]


def test_environment_that_was_broken_is_forgotten_when_a_worker_comes_up():
    """1. Of two workers one fails, one comes up. 2. That dies unused, within the pause."""
    core = Core(2)
    core.submit(*core.tasks(2, environment=OTHER))
    core(broken(1))
    core.ready(2)
    core.exited(2)
    later = core.task(environment=OTHER)
    assert core.submit(later) == []
    assert later.state is PENDING
    assert StartWorker(3, OTHER) in core.timer(starts_module.BROKEN_SECONDS)


def test_failed_set_up_may_be_preceded_by_the_news_of_the_death():
    core = Core()
    task = core.task(environment=OTHER)
    core.submit(task)
    assert core(WorkerDied(1)) == []
    assert core(broken(1)) == [in_broken_environment(task)]


def test_broken_environment_does_not_hold_up_the_end():
    core = Core()
    task = core.task(environment=OTHER)
    core.submit(task)
    assert core(ShutdownRequested()) == [
        KillWorker(1),
        ResolveFailure(task, Failure(FailureKind.SHUTDOWN)),
    ]
    assert core(broken(1)) == [Stopped()]
    assert core.deadline is None


def test_idle_workers_of_many_environments_do_not_pile_up():
    core = Core(2)
    for number in range(1, 6):
        task = core.task(environment=(("NUMBER", str(number)),))
        core.submit(task)
        core.ready(number)
        core.answer(number, answer(task))
    now, commands = core.tick()
    assert now == pool_module.IDLE_SECONDS
    assert commands == [StopWorker(number) for number in (1, 2, 3)]


def test_what_was_saved_for_tasks_that_cannot_start_is_given_away():
    core = Core(2)
    small = core.tasks(2)
    core.submit(*small)
    core.ready(1, 2)
    large = core.task(demand=TWO_CPUS, environment=OTHER)
    later = core.task()
    core.submit(large, later)
    core.scheduler.starts.blocked_until[OTHER] = 100.0
    assert core.answer(1, answer(small[0]), now=5.0) == [ResolveValues([(small[0], "value")])]
    core.scheduler.pool.start(OTHER)
    core.scheduler.turn.out.clear()
    for _ in range(3):
        core.scheduler.starts.intensity.setdefault(OTHER, RestartIntensity()).failed(5.0)
    assert core(WorkerStartFailed(3, "why"), 5.0) == [
        ResolveFailure(large, Failure(FailureKind.WORKER_STARTUP, "why")),
        SendAttempts(1, [later]),
    ]


# ---------------------------------------------------------------- stalls


def stalled_core(**options):
    """Worker 1 has three attempts in flight since 10.0; the first turns out long."""
    core, tasks = busy_core(3, **options)
    core.submit(*tasks, now=10.0)
    return core, tasks


def stalled_beside_a_busy_one():
    """Worker 1 is as in `stalled_core`, and was polled; worker 2 runs another task."""
    core = Core(2)
    first, other = core.tasks(2)
    core.submit(first, other)
    core.ready(1, 2)
    core.answer(1, answer(first, duration=SHORT))
    tasks = core.tasks(3)
    core.submit(*tasks, now=10.0)
    assert core.timer(10.005) == [PollWorker(1)]
    return core, tasks, other


def test_worker_without_an_answer_for_five_milliseconds_is_polled():
    core, tasks = stalled_core()
    assert core.tick() == (10.005, [PollWorker(1)])
    assert core.answer(1, *[answer(task, duration=SHORT) for task in tasks[:2]], now=10.005) == [
        ResolveValues([(task, "value") for task in tasks[:2]])
    ]


def test_progress_puts_the_poll_off():
    core, tasks = stalled_core()
    core.answer(1, answer(tasks[0], duration=SHORT), now=10.004)
    assert core.tick() == (10.005, [])
    due, commands = core.tick()
    assert due == pytest.approx(10.009)
    assert commands == [PollWorker(1)]


def test_stalled_worker_is_polled_again_ever_less_often():
    """Bug: it was polled once; an answer it gave after that waited for the bell, as long as the
    next attempt ran.
    """
    core, _ = stalled_core()
    times = []
    for _ in range(8):
        now, commands = core.tick()
        times.append(now - 10.0)
        assert commands == [PollWorker(1)]
    assert times == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.26, 0.36])


def test_new_stall_is_noticed_in_time_after_an_old_one():
    core, tasks = stalled_core()
    while core.deadline < 10.3:
        core.tick()
    core.answer(1, answer(tasks[0], duration=SHORT), now=10.3)
    old = core.scheduler.pool.workers[1].last_progress + 0.06  # the look planned before
    looks = dict(core.tick() for _ in range(6))
    assert list(looks) == pytest.approx([10.305, 10.31, 10.32, 10.34, old, 10.38])
    assert list(looks.values()) == [[PollWorker(1)]] * 4 + [[]] + [[PollWorker(1)]]


def test_timer_of_an_old_look_does_nothing():
    core, tasks = stalled_core()
    while core.deadline < 10.3:
        core.tick()
    old = core.deadline
    core.answer(1, *[answer(task, duration=SHORT) for task in tasks], now=10.3)
    while core.deadline is not None:
        now, commands = core.tick()
        assert commands == []
    assert now == old


def test_what_waits_behind_a_long_attempt_goes_to_an_idle_worker():
    core, tasks, other = stalled_beside_a_busy_one()
    core.function("f", SHORT)
    assert core.answer(2, answer(other, duration=SHORT), now=11.0) == [
        ResolveValues([(other, "value")]),
        ReclaimAttempts(1),
    ]
    assert core.reclaimed(1, *tasks[1:], now=11.0) == [SendAttempts(2, tasks[1:])]
    results = [(task, "value") for task in tasks[1:]]
    answers = [answer(task, duration=SHORT) for task in tasks[1:]]
    assert core.answer(2, *answers, now=11.0) == [ResolveValues(results)]
    assert core.answer(1, answer(tasks[0]), now=12.0) == [ResolveValues([(tasks[0], "value")])]


def test_what_waits_behind_a_long_attempt_is_taken_back_while_others_wait_for_something_else():
    """Bug: it was looked at only if no class was waiting at all."""
    core = Core(2, GPU=1)
    on_gpu = core.running(demand=ONE_GPU, function="slow")
    short = core.running()
    core.answer(2, answer(short, duration=SHORT))
    tasks = core.tasks(2)
    core.submit(*tasks, now=10.0)
    late = core.tasks(2, demand=GPU_ONLY)
    core.submit(*late, core.task(demand=GPU_ONLY, function="slow"), now=10.0)
    assert core.timer(10.005) == [PollWorker(2)]
    assert core.answer(1, answer(on_gpu), now=11.0) == [
        ResolveValues([(on_gpu, "value")]),
        SendAttempts(1, late),
        ReclaimAttempts(2),
    ]


def test_nothing_is_sent_behind_an_attempt_that_may_run_for_long():
    """Bug: a task of a short function went along with one of an unknown, ran after it and held
    nobody's CPU meanwhile, which was then given to what had been submitted later.
    """
    core = Core(2)
    warm = core.tasks(2)
    core.submit(*warm)
    core.ready(1, 2)
    for worker, task in enumerate(warm, 1):
        core.answer(worker, answer(task, duration=SHORT))
    unknown, short, late = core.task(function="g"), core.task(), core.task(function="g")
    commands = core.submit(unknown, short, late, now=10.0)
    assert [command.tasks for command in commands] == [[unknown], [short]]
    worker = short.worker.id
    assert core.answer(worker, answer(short, duration=SHORT), now=10.001) == [
        ResolveValues([(short, "value")]),
        SendAttempts(worker, [late]),
    ]


def test_worker_that_is_free_begins_with_what_waits_behind_a_long_attempt():
    """Bug: what was submitted later came first, and for ever if that never ended."""
    core, tasks, other = stalled_beside_a_busy_one()
    core.function("f", NEXT)
    late = core.task()
    assert core.submit(late, now=10.006) == []
    assert core.answer(2, answer(other, duration=NEXT), now=10.011) == [
        ResolveValues([(other, "value")]),
        ReclaimAttempts(1),
    ]
    assert core.reclaimed(1, *tasks[1:], now=10.011) == [
        SendAttempts(2, [tasks[1]]),
        SendAttempts(2, [tasks[2]]),
    ]


def test_what_waits_behind_a_long_attempt_goes_before_what_is_submitted_later():
    core, tasks, other = stalled_beside_a_busy_one()
    late = core.task()
    assert core.submit(late, now=10.1) == [ReclaimAttempts(1)]
    assert core.reclaimed(1, *tasks[1:], now=10.1) == []
    assert core.answer(2, answer(other, duration=SHORT), now=11.0) == [
        ResolveValues([(other, "value")]),
        SendAttempts(2, [*tasks[1:], late]),
    ]


def test_what_waits_behind_a_long_attempt_gets_a_new_worker():
    core, tasks = stalled_core(cpus=2)
    assert core.timer(10.005) == [PollWorker(1), ReclaimAttempts(1)]
    assert core.reclaimed(1, *tasks[1:], now=10.005) == [StartWorker(2, ())]
    assert core.ready(2, now=10.01) == [SendAttempts(2, tasks[1:])]


@pytest.mark.parametrize("obstacle", ["limit", "starting", "blocked"])
def test_nothing_is_taken_back_if_nobody_could_run_it(obstacle, monkeypatch):
    core, _ = stalled_core(cpus=3)
    if obstacle == "limit":
        monkeypatch.setattr(pool_module, "MAX_WORKERS", 1)
    else:
        core.submit(core.task(function="slow"), now=10.0)
        if obstacle == "blocked":
            core(WorkerStartFailed(2, "why"), 10.0)
            core.timer(10.0)
    assert PollWorker(1) in core.timer(10.005)
    assert not any(isinstance(c, ReclaimAttempts) for c in core.timer(10.006))


def test_stalled_worker_is_left_alone_when_only_the_long_attempt_is_left():
    core = Core(2)
    core.answer(1, answer(core.running(), duration=SHORT))
    tasks = core.tasks(2)
    other = core.task(function="slow", demand=ONE_GPU[:1])
    core.submit(*tasks, now=10.0)
    core.submit(other, now=10.0)
    core.ready(2, now=10.0)
    assert core.timer(10.005) == [PollWorker(1)]
    core.cancel(tasks[1], now=10.006)
    core.reclaimed(1, tasks[1], now=10.006)
    assert core.answer(2, answer(other), now=10.007) == [ResolveValues([(other, "value")])]
    assert core.timer(10.02) == []
    assert core.deadline is None


def test_what_waits_behind_a_long_attempt_makes_way_for_a_class_that_waits_longer():
    """1. A task that needs both CPUs waits. 2. Short ones ran ahead of it, and one turns out long.

    The lease must end with the long attempt, not with all that was sent behind it.
    """
    core = Core(2)
    first = core.tasks(2)
    core.submit(*first)
    core.ready(1, 2)
    core.answer(1, answer(first[0], duration=SHORT))
    large = core.task(demand=TWO_CPUS)
    core.submit(large, now=10.0)
    tasks = core.tasks(3)
    assert core.submit(*tasks, now=10.0) == [SendAttempts(1, tasks)]
    assert core.timer(10.005) == [PollWorker(1), ReclaimAttempts(1)]
    assert core.reclaimed(1, *tasks[1:], now=10.005) == []
    core.answer(2, answer(first[1]), now=11.5)
    assert core.answer(1, answer(tasks[0]), now=12.0) == [
        ResolveValues([(tasks[0], "value")]),
        SendAttempts(1, [large]),
    ]


def test_dead_worker_is_not_looked_at():
    core, tasks = stalled_core()
    core.exited(1, *tasks[1:], now=10.001)
    assert core.timer(10.005) == []


# ---------------------------------------------------------------- spare workers


def test_after_a_loss_there_is_a_spare_worker_besides_the_one_that_is_needed():
    core = Core()
    task = core.running()
    core.exited(1, now=10.0)
    core.ready(2, now=10.01)
    assert core.tick() == (10.05, [StartWorker(3, ())])
    core.ready(3, now=10.06)
    core.answer(2, answer(task), now=10.07)
    task = core.task()
    assert core.submit(task, now=11.0) == [SendAttempts(2, [task])]
    report, again = core.exited(2, now=11.1)
    assert isinstance(report, ReportRetry)
    assert again == SendAttempts(3, [task])  # without waiting for a fork


def test_two_idle_workers_are_spare_enough_and_one_if_nothing_else_could_run():
    core = Core(2)
    tasks = core.tasks(2)
    core.submit(*tasks)
    core.ready(1, 2)
    core.cancel(tasks[0], force=True, now=10.0)
    core.reclaimed(1, now=10.0)
    assert core.tick() == (10.05, [StartWorker(3, ())])
    core.exited(1, now=10.06)
    core.ready(3, now=10.06)
    core.answer(2, answer(tasks[1]), now=10.07)
    assert core.timer(10.08) == []
    core.submit(core.task(), now=10.09)
    task = core.task()
    core.submit(task, now=10.09)
    core.exited(task.worker.id, now=10.1)
    assert core.timer(10.15) == []  # the one that it needs is on its way


def test_spare_worker_is_stopped_when_nothing_was_lost_for_long():
    core = Core()
    task = core.running()
    core.exited(1, now=10.0)
    core.ready(2, now=10.01)
    core.timer(10.05)
    core.ready(3, now=10.06)
    core.answer(2, answer(task), now=10.07)
    assert core.timer(19.9) == []
    assert core.timer(20.0) == []
    assert core.tick() == (21.0, [StopWorker(3)])
    core.exited(3, now=21.1)
    assert core.deadline is None


@pytest.mark.parametrize("loss", ["idle", "actor", "shut down", "blocked"])
def test_no_spare_worker_where_none_is_wanted_or_can_be_started(loss):
    core = Core()
    if loss == "actor":
        core.crash(core.alive(max_restarts=-1), now=10.0)
    else:
        task = core.running(max_retries=0)
        if loss == "idle":
            core.answer(1, answer(task))
        core.exited(1, now=10.0)
        if loss == "shut down":
            core(ShutdownRequested(), 10.01)
        if loss == "blocked":
            core.scheduler.starts.blocked_until[()] = 11.0
    assert not any(isinstance(command, StartWorker) for command in core.timer(10.05))


# ---------------------------------------------------------------- idle workers


def idle_core(cpus, workers):
    """A core with idle workers 1 to `workers`, more than one for each CPU; idle since 10.0 on."""
    core = Core(cpus)
    tasks = core.tasks(workers, demand=(("CPU", UNIT // 10),))
    core.submit(*tasks)
    for worker_id in range(1, workers + 1):
        core.ready(worker_id)
    for task in tasks:
        core.answer(task.worker.id, answer(task), now=10.0 + task.worker.id / 10)
    return core


def test_idle_workers_beyond_the_cpus_are_stopped_after_a_second():
    core = idle_core(1, 3)
    assert core.tick() == (11.2, [StopWorker(1), StopWorker(2)])
    assert core.exited(1) == []
    assert core.exited(2) == []
    # Worker 3 is kept. The two would have been killed, had they not gone within five seconds.
    assert core.deadline is None


def test_each_idle_worker_has_its_own_second():
    core = idle_core(1, 3)
    tasks = core.tasks(2, demand=(("CPU", UNIT // 10),))
    assert core.submit(*tasks, now=10.7) == [
        SendAttempts(3, [tasks[0]]),
        SendAttempts(2, [tasks[1]]),
    ]
    core.answer(3, answer(tasks[0]), now=10.8)
    core.answer(2, answer(tasks[1]), now=10.9)
    assert core.tick() == (11.2, [StopWorker(1)])
    assert core.tick() == (11.8, [StopWorker(3)])


def test_idle_time_starts_anew_when_a_worker_was_used():
    core = idle_core(1, 2)
    task = core.task(demand=(("CPU", UNIT // 10),))
    assert core.submit(task, now=10.9) == [SendAttempts(2, [task])]
    core.answer(2, answer(task), now=11.1)
    assert core.tick() == (11.2, [StopWorker(1)])


def test_surplus_that_was_used_up_is_not_stopped():
    core = idle_core(1, 2)
    task = core.task(demand=(("CPU", UNIT // 10),))
    core.submit(task, now=10.9)
    assert core.tick() == (11.2, [])
    assert core.deadline is None


def test_surplus_is_stopped_at_any_time_of_day():
    """Bug: (now + 1) - 1 may be a little less than now, and then it was idle for ever."""
    rng = random.Random(0)
    for _ in range(200):
        core = idle_core(1, 1)
        task = core.tasks(2, demand=(("CPU", UNIT // 10),))
        core.submit(*task, now=20.0)
        core.ready(2, now=20.0)
        core.answer(1, answer(task[0]), now=20.0)
        now = rng.uniform(20.0, 1e5)
        core.answer(2, answer(task[1]), now=now)
        assert core.tick() == (now + 1.0, [StopWorker(1)])


def test_worker_that_does_not_go_politely_is_killed():
    core = idle_core(1, 2)
    assert core.tick() == (11.2, [StopWorker(1)])
    due, commands = core.tick()
    assert due == pytest.approx(16.2)
    assert commands == [KillWorker(1)]


# ---------------------------------------------------------------- shutdown


def test_shutdown_of_an_idle_core_without_workers_is_immediate():
    core = Core()
    assert core(ShutdownRequested()) == [Stopped()]
    assert core(ShutdownRequested(5.0)) == []
    assert core.deadline is None


def test_shutdown_without_drain_kills_first_and_then_fails_everything():
    """Nothing may start after its failure was told, so the kill comes first."""
    core = Core(2, GPU=1)
    running = core.running(max_retries=-1)
    waiting = core.task(running)
    starting, queued = core.task(demand=ONE_GPU), core.task()
    core.submit(waiting, starting, queued)
    assert core(ShutdownRequested()) == [
        KillWorker(1),
        KillWorker(2),
        ResolveFailure(running, shut_down()),
        ResolveFailure(waiting, lost_argument(running)),
        ResolveFailure(starting, shut_down()),
        ResolveFailure(queued, shut_down()),
    ]
    assert core.exited(1) == []
    assert core.exited(2) == [Stopped()]
    assert core.scheduler.available == core.scheduler.total


def test_unclaimed_attempts_of_a_worker_killed_by_shutdown_are_forgotten():
    """Bug: KeyError in the shell when such a worker was reaped."""
    core, tasks = busy_core(3)
    core.submit(*tasks)
    core(ShutdownRequested())
    late = answer(tasks[0])
    assert core.answer(1, late) == []
    assert core.reclaimed(1, tasks[1]) == []
    assert core.exited(1, tasks[2]) == [Stopped()]


def test_worker_killed_while_stalled_is_not_asked_for_anything():
    core, tasks = stalled_core()
    core.timer(10.005)
    core(ShutdownRequested(), 10.006)
    assert core.submit(now=10.007) == []
    assert core.exited(1, *tasks, now=10.007) == [Stopped()]


def test_drain_lets_tasks_finish_and_refuses_new_ones():
    core = Core()
    running = core.running()
    queued, waiting = core.task(), core.task(running)
    core.submit(queued, waiting)
    assert core(ShutdownRequested(drain=5.0), 1.0) == []
    refused = core.task()
    dependent = core.task(refused)
    assert core.submit(refused, dependent, now=1.0) == [
        ResolveFailure(refused, shut_down()),
        ResolveFailure(dependent, shut_down()),
    ]
    assert core.answer(1, answer(running), now=2.0)[1:] == [SendAttempts(1, [queued])]
    assert core.answer(1, answer(queued), now=3.0)[1:] == [SendAttempts(1, [waiting])]
    assert core.answer(1, answer(waiting), now=4.0) == [
        ResolveValues([(waiting, "value")]),
        StopWorker(1),
    ]
    assert core.exited(1, now=4.1) == [Stopped()]
    assert core.deadline is None


def test_drain_still_retries_and_starts_workers():
    core = Core()
    task = core.running()
    core(ShutdownRequested(drain=5.0))
    assert core.exited(1) == [
        ReportRetry(task, record(0, 1, FailureKind.WORKER_DIED, "died", duration=0.0), 3, 0.0),
        StartWorker(2, ()),
    ]
    assert core(WorkerStartFailed(2, "why"), 1.0) == []
    assert core.timer(1.02) == [StartWorker(3, ())]


def test_no_successor_is_started_while_draining():
    core = Core()
    first, second = core.tasks(2, max_calls=2)
    core.submit(first, second)
    core.ready(1)
    core(ShutdownRequested(drain=5.0))
    assert core.answer(1, answer(first)) == [
        ResolveValues([(first, "value")]),
        SendAttempts(1, [second]),
    ]
    assert core.answer(1, answer(second)) == [ResolveValues([(second, "value")]), StopWorker(1)]


def test_after_the_drain_what_runs_is_interrupted_and_after_the_grace_killed():
    """Drain over: queued ones fail, unclaimed too, running ones are interrupted, then killed."""
    core, (running, unclaimed) = busy_core(2)
    core.submit(running, unclaimed)
    queued = core.task(function="new")
    core.submit(queued)
    core(ShutdownRequested(drain=2.0, grace=0.5), 0.0)
    while core.deadline < 2.0:
        core.tick()
    assert core.timer(2.0) == [ResolveFailure(queued, shut_down()), ReclaimAttempts(1)]
    assert core.reclaimed(1, unclaimed, now=2.0) == [
        ResolveFailure(unclaimed, shut_down()),
        InterruptWorker(1, running.seq),
    ]
    assert core.timer(2.05) == [InterruptWorker(1, running.seq)]
    assert core.timer(2.5) == [
        InterruptWorker(1, running.seq),
        KillWorker(1),
        ResolveFailure(running, shut_down()),
    ]
    assert core.timer(2.6) == []
    assert core.exited(1, now=2.7) == [Stopped()]


def test_drain_over_ends_a_backoff():
    core = Core()
    task = core.running(policy=RetryPolicy(50.0, jitter=False))
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE))
    core(ShutdownRequested(drain=2.0), 0.0)
    assert core.timer(2.0) == [ResolveFailure(task, shut_down(record(0, 1))), StopWorker(1)]


@pytest.mark.parametrize("ended", [Ended.INTERRUPTED, Ended.NOT_STARTED, "crash"])
def test_what_ends_by_the_shutdowns_interrupt_says_so(ended):
    core = Core()
    task = core.running(max_retries=-1)
    core(ShutdownRequested(drain=1.0))
    core.timer(1.0)
    core.reclaimed(1, now=1.0)
    if ended == "crash":
        failed, *_ = core.exited(1, now=1.0)
    else:
        failed, *_ = core.answer(1, answer(task, ended), now=1.0)
    assert failed.failure.kind is FailureKind.SHUTDOWN
    assert failed.failure.attempts[0].kind is FailureKind.SHUTDOWN


def test_value_that_comes_after_the_shutdowns_interrupt_stands():
    core = Core()
    task = core.running()
    core(ShutdownRequested(drain=1.0))
    core.timer(1.0)
    core.reclaimed(1, now=1.0)
    assert core.answer(1, answer(task), now=1.1) == [
        ResolveValues([(task, "value")]),
        StopWorker(1),
    ]


@pytest.mark.parametrize("ended", [Ended.RAISED_RETRYABLE, Ended.ASKED_FOR_RETRY])
def test_nothing_is_retried_after_the_drain(ended):
    core = Core()
    task = core.running()
    core(ShutdownRequested(drain=1.0))
    core.timer(1.0)
    [failed, stop] = core.answer(1, answer(task, ended), now=1.0)
    assert failed.failure.kind is FailureKind.APPLICATION
    assert stop == StopWorker(1)


def test_cancel_during_the_drain_is_reported_as_what_happened():
    core = Core()
    task = core.running()
    core(ShutdownRequested(drain=5.0))
    core.cancel(task)
    core.reclaimed(1)
    core.timer(5.0)
    assert core(ShutdownRequested(), 5.5) == [
        KillWorker(1),
        ResolveFailure(task, cancelled()),
        *reported(CancelOutcome.KILLED),
    ]


def test_worker_on_its_way_is_killed_when_everything_is_over():
    core = Core()
    task = core.task()
    core.submit(task)
    core.cancel(task)
    assert core(ShutdownRequested(drain=5.0)) == [KillWorker(1)]
    assert core.ready(1) == []  # it came up all the same
    assert core.exited(1) == [Stopped()]


def test_worker_killed_on_its_way_that_never_came_up_is_enough_for_the_end():
    core = Core()
    core.submit(core.task())
    core(ShutdownRequested())
    assert core(WorkerStartFailed(1, "killed")) == [Stopped()]


def test_start_that_fails_when_everything_is_over_is_not_repeated():
    core = Core()
    core.answer(1, answer(core.running()))
    assert core(ShutdownRequested(drain=5.0)) == [StopWorker(1)]
    assert core.exited(1) == [Stopped()]
    assert core.deadline is None


def test_worker_that_does_not_go_at_shutdown_is_killed():
    core = Core()
    core.answer(1, answer(core.running()))
    assert core(ShutdownRequested(drain=50.0), 1.0) == [StopWorker(1)]
    assert core.tick() == (6.0, [KillWorker(1)])


def test_idle_worker_that_dies_after_the_last_task_is_not_replaced():
    core = Core()
    task = core.task()
    core.submit(task)
    core.cancel(task)
    core.ready(1)
    core(ShutdownRequested(drain=5.0))
    assert core.exited(1) == [Stopped()]


def test_shutdown_that_becomes_impatient_kills():
    core = Core()
    task = core.running()
    core(ShutdownRequested(drain=100.0))
    assert core(ShutdownRequested(drain=0.0)) == [KillWorker(1), ResolveFailure(task, shut_down())]
    assert core.exited(1) == [Stopped()]
    assert core.deadline is None


def test_after_the_end_tasks_are_refused():
    core = Core()
    core(ShutdownRequested())
    task = core.task()
    assert core.submit(task) == [ResolveFailure(task, shut_down())]
    assert core.cancel(task) == reported(CancelOutcome.FINISHED_FIRST)


# ---------------------------------------------------------------- bugs of our own


def test_impossible_move_is_refused_and_names_both_states_and_what_came_before():
    core = Core()
    task = core.running()
    core.answer(1, answer(task), now=1.5)
    with pytest.raises(IllegalMove) as caught:
        core.scheduler.turn.story.move(task, TaskStatus.SUBMITTED_TO_WORKER)
    text = str(caught.value)
    assert "t1" in text
    assert "FINISHED" in text
    assert "SUBMITTED_TO_WORKER" in text
    assert "AnswersReceived at 1.500000" in text
    assert task.state is TaskStatus.FINISHED


def test_classes_are_one_for_each_demand_and_environment():
    scheduler = Core().scheduler
    plain = scheduler.scheduling_class(ONE_CPU, ())
    assert scheduler.scheduling_class(ONE_CPU, ()) is plain
    assert scheduler.scheduling_class(ONE_CPU, OTHER) is not plain
    assert scheduler.scheduling_class(TWO_CPUS, ()) is not plain


def test_environment_that_fails_when_all_is_over_is_not_tried_again():
    core = Core()
    task = core.task()
    core.submit(task)
    core.cancel(task)
    core(WorkerDied(1))
    core(ShutdownRequested())
    assert core(broken(1)) == [Stopped()]
    assert core.deadline is None


@pytest.mark.parametrize("partial", [False, True])
def test_what_waits_for_a_failed_task_runs_if_some_values_are_there(partial):
    core = Core()
    upstream = core.running()
    waiting = core.task(upstream)
    core.submit(waiting)
    commands = core.answer(1, answer(upstream, Ended.RAISED)._replace(partial=partial))
    assert upstream.state is TaskStatus.FAILED
    if partial:
        assert SendAttempts(1, [waiting]) in commands
    else:
        assert waiting.state is TaskStatus.FAILED
