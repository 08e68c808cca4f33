"""What the scheduler orders when values get lost: whole lists of commands, for each rule."""

from __future__ import annotations

import itertools

import pytest

from aioray.core.commands import (
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    ReportCancel,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    Revive,
    SendAttempts,
    StartWorker,
    Stopped,
    StopWorker,
)
from aioray.core.devices import UNIT
from aioray.core.events import ResultLost, ResultWanted, Revived, ShutdownRequested
from aioray.core.outcomes import (
    LOST_CANCELLED,
    LOST_MAX_ATTEMPTS,
    LOST_RETRIES_DISABLED,
    CancelOutcome,
    Ended,
    Failure,
    FailureKind,
)
from aioray.core.retries import RetryPolicy, crash_delay
from aioray.core.states import TaskStatus

from .support import HALF_CPU, SHORT, Core, answer, record

WAITING = TaskStatus.PENDING_ARGS_AVAIL
FINISHED = TaskStatus.FINISHED
FAILED = TaskStatus.FAILED


def values(*tasks):
    return ResolveValues([(task, "value") for task in tasks])


def lost(why, *records):
    return Failure(FailureKind.LOST, why, attempts=records)


def lost_argument(upstream):
    return Failure(FailureKind.DEPENDENCY, upstream=upstream)


def finished(core, *dependencies, **options):
    """A task that the one worker has run."""
    task = core.task(*dependencies, **options)
    commands = core.submit(task)
    if commands == [StartWorker(1, ())]:
        commands = core.ready(1)
    assert commands == [SendAttempts(1, [task])]
    assert core.answer(1, answer(task)) == [values(task)]
    return task


def lose(core, *tasks):
    for task in tasks:
        assert core(ResultLost(task)) == []
        assert task.lost


def want(core, task, now=0.0):
    return core(ResultWanted(task), now)


def revived(core, task, *dependencies, now=0.0, **options):
    return core(Revived(task, dependencies, **options), now)


def running_again(core, **options):
    """A task whose value was lost and which runs again."""
    task = finished(core, **options)
    lose(core, task)
    assert want(core, task) == [Revive(task)]
    assert revived(core, task) == [SendAttempts(1, [task])]
    return task


# ---------------------------------------------------------------- lost and wanted


def test_nothing_is_done_about_a_loss_before_somebody_wants_the_value():
    core = Core()
    task = finished(core)
    lose(core, task)
    assert task.state is FINISHED
    assert core.scheduler.unfinished_tasks() == ()
    assert core.deadline is None


def test_wanted_value_is_computed_again_at_once_as_one_more_attempt():
    core = Core()
    task = finished(core)
    first_seq = task.seq
    lose(core, task)
    assert want(core, task, now=9.0) == [Revive(task)]
    assert task.state is WAITING
    assert not task.lost
    assert core.scheduler.unfinished_tasks() == (task,)
    assert revived(core, task, now=9.0) == [SendAttempts(1, [task])]
    assert (task.attempt, task.retries_left) == (1, 2)
    assert task.seq > first_seq
    assert core.deadline is None  # there was no delay
    assert core.answer(1, answer(task, payload="again"), now=9.0) == [
        ResolveValues([(task, "again")])
    ]
    assert task.state is FINISHED
    assert not task.lost
    assert core.scheduler.unfinished_tasks() == ()
    assert core.scheduler.available == core.scheduler.total


def test_wanting_a_value_that_was_not_lost_orders_nothing():
    core = Core()
    task = finished(core)
    assert want(core, task) == []
    assert task.state is FINISHED


def test_loss_of_what_was_found_lost_before_counts_once():
    core = Core()
    task = finished(core)
    lose(core, task, task)
    assert want(core, task) == [Revive(task)]
    assert (task.attempt, task.retries_left) == (1, 2)


def test_value_wanted_twice_is_computed_once():
    core = Core()
    task = finished(core)
    lose(core, task)
    assert want(core, task) == [Revive(task)]
    assert want(core, task) == []
    assert revived(core, task) == [SendAttempts(1, [task])]
    assert want(core, task) == []
    assert core.answer(1, answer(task)) == [values(task)]
    assert want(core, task) == []
    assert task.retries_left == 2


def test_news_of_a_loss_while_the_task_runs_again_is_old():
    """The next value is not lost because the one before was, at whatever point that is told."""
    core = Core()
    task = finished(core)
    lose(core, task)
    want(core, task)
    core(ResultLost(task))
    revived(core, task)
    core(ResultLost(task))
    assert core.answer(1, answer(task)) == [values(task)]
    assert not task.lost
    assert want(core, task) == []


def test_loss_of_a_value_that_never_was_is_ignored():
    core = Core()
    failed = core.running()
    core.answer(1, answer(failed, Ended.RAISED))
    queued, waiting = core.task(), core.task()
    core.submit(core.task(), queued)
    for task in (failed, queued, waiting):
        assert core(ResultLost(task)) == []
        assert want(core, task) == []
        assert not task.lost
    assert failed.state is FAILED


def test_value_may_be_lost_again_and_again():
    core = Core()
    task = finished(core, max_retries=2)
    for attempt in (1, 2):
        lose(core, task)
        assert want(core, task) == [Revive(task)]
        assert task.attempt == attempt
        assert revived(core, task) == [SendAttempts(1, [task])]
        assert core.answer(1, answer(task)) == [values(task)]
    lose(core, task)
    assert want(core, task) == [ResolveFailure(task, lost(LOST_MAX_ATTEMPTS))]


def test_task_that_runs_again_waits_for_resources_like_any_other():
    core = Core()
    task = finished(core)
    first, second = core.tasks(2)
    core.submit(first, second)
    lose(core, task)
    want(core, task)
    assert revived(core, task) == []
    assert core.answer(1, answer(first)) == [values(first), SendAttempts(1, [second])]
    assert core.answer(1, answer(second)) == [values(second), SendAttempts(1, [task])]


def test_task_that_runs_again_orders_a_worker_if_there_is_none():
    core = Core()
    task = finished(core)
    core.exited(1)
    lose(core, task)
    want(core, task)
    assert revived(core, task) == [StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, [task])]


# ---------------------------------------------------------------- budget


@pytest.mark.parametrize(
    ("max_retries", "why"), [(0, LOST_RETRIES_DISABLED), (1, LOST_MAX_ATTEMPTS)]
)
def test_budget_of_retries_bounds_how_often_a_value_is_computed_again(max_retries, why):
    core = Core()
    task = finished(core, max_retries=max_retries)
    for _ in range(max_retries):
        lose(core, task)
        assert want(core, task) == [Revive(task)]
        revived(core, task)
        core.answer(1, answer(task))
    lose(core, task)
    assert want(core, task) == [ResolveFailure(task, lost(why))]
    assert task.state is FAILED
    assert not task.lost
    assert task.attempt == max_retries
    assert core.scheduler.unfinished_tasks() == ()
    assert want(core, task) == []


def test_unlimited_budget_does_not_run_out():
    core = Core()
    task = finished(core, max_retries=-1)
    for attempt in range(1, 100):
        lose(core, task)
        assert want(core, task) == [Revive(task)]
        assert revived(core, task) == [SendAttempts(1, [task])]
        assert core.answer(1, answer(task)) == [values(task)]
        assert (task.attempt, task.retries_left) == (attempt, -1)


def test_crashes_and_losses_share_one_budget_and_the_failure_tells_of_the_crashes():
    core = Core()
    task = core.running(max_retries=1)
    core.exited(1)
    core.ready(2)
    core.answer(2, answer(task))
    lose(core, task)
    crash = record(0, 1, FailureKind.WORKER_DIED, "died", duration=0.0)
    assert want(core, task) == [ResolveFailure(task, lost(LOST_MAX_ATTEMPTS, crash))]


def test_application_errors_and_losses_share_one_budget():
    core = Core()
    task = core.running(max_retries=1)
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE))
    core.answer(1, answer(task))
    lose(core, task)
    assert want(core, task) == [ResolveFailure(task, lost(LOST_MAX_ATTEMPTS, record(0, 1)))]


def test_crash_of_a_re_run_is_retried_out_of_what_is_left():
    """Two retries: one for the loss, one for the crash; the second crash is the end."""
    core = Core()
    task = running_again(core, max_retries=2)
    crash = record(1, 1, FailureKind.WORKER_DIED, "died", duration=0.0)
    delay = crash_delay(2)
    assert core.exited(1) == [ReportRetry(task, crash, 1, delay)]
    assert task.state is TaskStatus.BACKOFF
    assert core.timer(delay) == [StartWorker(2, ())]
    core.ready(2, now=delay)
    assert task.attempt == 2
    end = record(2, 2, FailureKind.WORKER_DIED, "died", started_at=delay, duration=0.0)
    assert core.exited(2, now=delay)[0] == ResolveFailure(
        task, Failure(FailureKind.WORKER_DIED, "died", attempts=(crash, end))
    )


def test_crash_of_the_last_re_run_is_the_end():
    core = Core()
    task = running_again(core, max_retries=1)
    crash = record(1, 1, FailureKind.WORKER_DIED, "died", duration=0.0)
    failure = Failure(FailureKind.WORKER_DIED, "died", attempts=(crash,))
    assert core.exited(1) == [ResolveFailure(task, failure)]


def test_error_of_a_re_run_is_the_tasks_outcome():
    """The value that there once was does not come back."""
    core = Core()
    task = running_again(core)
    failure = Failure(FailureKind.APPLICATION, "error", attempts=(record(1, 1, detail="error"),))
    assert core.answer(1, answer(task, Ended.RAISED, "error")) == [ResolveFailure(task, failure)]


def test_policy_does_not_delay_a_re_run():
    core = Core()
    task = finished(core, policy=RetryPolicy(5.0))
    lose(core, task)
    want(core, task)
    assert revived(core, task) == [SendAttempts(1, [task])]


def test_re_run_that_was_not_claimed_costs_no_second_retry():
    core = Core(2)
    core.function("f", SHORT)
    first = core.running()
    core.answer(1, answer(first, duration=SHORT))
    task = core.task()
    core.submit(task)
    core.answer(1, answer(task, duration=SHORT))
    lose(core, task)
    want(core, task)
    revived(core, task)
    assert core.exited(1, task) == [StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, [task])]
    assert (task.attempt, task.retries_left) == (1, 2)


# ---------------------------------------------------------------- dependents


def test_task_that_is_submitted_has_its_lost_argument_computed_again():
    core = Core()
    upstream = finished(core)
    lose(core, upstream)
    task = core.task(upstream)
    assert core.submit(task) == [Revive(upstream)]
    assert task.state is WAITING
    assert revived(core, upstream) == [SendAttempts(1, [upstream])]
    assert core.answer(1, answer(upstream)) == [values(upstream), SendAttempts(1, [task])]


def test_two_tasks_that_need_the_same_lost_argument_wait_for_one_re_run():
    core = Core()
    upstream = finished(core)
    lose(core, upstream)
    first, second = core.task(upstream), core.task(upstream)
    assert core.submit(first, second) == [Revive(upstream)]
    assert want(core, upstream) == []
    assert revived(core, upstream) == [SendAttempts(1, [upstream])]
    assert core.answer(1, answer(upstream)) == [values(upstream), SendAttempts(1, [first])]
    assert core.answer(1, answer(first)) == [values(first), SendAttempts(1, [second])]
    assert upstream.attempt == 1


def test_same_lost_argument_twice_is_computed_once():
    core = Core()
    upstream = finished(core)
    lose(core, upstream)
    task = core.task(upstream, upstream)
    assert core.submit(task) == [Revive(upstream)]
    revived(core, upstream)
    assert core.answer(1, answer(upstream)) == [values(upstream), SendAttempts(1, [task])]


def test_argument_that_cannot_be_computed_again_fails_the_task_and_what_waits_for_it():
    core = Core()
    upstream = finished(core, max_retries=0)
    lose(core, upstream)
    task = core.task(upstream)
    below = core.task(task)
    assert core.submit(task, below) == [
        ResolveFailure(upstream, lost(LOST_RETRIES_DISABLED)),
        ResolveFailure(task, lost_argument(upstream)),
        ResolveFailure(below, lost_argument(task)),
    ]
    assert core.scheduler.unfinished_tasks() == ()


def test_task_with_one_argument_on_its_way_and_one_that_cannot_come_fails_at_once():
    core = Core()
    good, bad = finished(core), finished(core, max_retries=0)
    lose(core, good, bad)
    task = core.task(good, bad)
    assert core.submit(task) == [
        Revive(good),
        ResolveFailure(bad, lost(LOST_RETRIES_DISABLED)),
        ResolveFailure(task, lost_argument(bad)),
    ]
    revived(core, good)
    assert core.answer(1, answer(good)) == [values(good)]


def test_failure_of_a_re_run_fails_what_waits_for_it():
    core = Core()
    upstream = running_again(core)
    task = core.task(upstream)
    assert core.submit(task) == []
    failure = Failure(FailureKind.APPLICATION, "value", attempts=(record(1, 1),))
    assert core.answer(1, answer(upstream, Ended.RAISED)) == [
        ResolveFailure(upstream, failure),
        ResolveFailure(task, lost_argument(upstream)),
    ]


def test_missing_arguments_of_a_re_run_are_computed_first():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, bottom)
    assert want(core, bottom) == [Revive(bottom)]
    lose(core, top)
    assert revived(core, bottom, top) == [Revive(top)]
    assert revived(core, top) == [SendAttempts(1, [top])]
    assert core.answer(1, answer(top)) == [values(top), SendAttempts(1, [bottom])]
    assert core.answer(1, answer(bottom)) == [values(bottom)]
    assert (top.attempt, bottom.attempt) == (1, 1)


def test_re_run_does_not_wait_for_arguments_that_are_there():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, bottom)
    want(core, bottom)
    assert revived(core, bottom, top) == [SendAttempts(1, [bottom])]


def test_re_run_waits_for_an_argument_that_is_on_its_way_already():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, top, bottom)
    assert want(core, top) == [Revive(top)]
    assert want(core, bottom) == [Revive(bottom)]
    assert revived(core, bottom, top) == []
    assert revived(core, top) == [SendAttempts(1, [top])]
    assert core.answer(1, answer(top)) == [values(top), SendAttempts(1, [bottom])]


def test_re_run_whose_argument_has_failed_since_fails():
    core = Core()
    top = finished(core, max_retries=0)
    bottom = finished(core, top)
    lose(core, top, bottom)
    assert want(core, top) == [ResolveFailure(top, lost(LOST_RETRIES_DISABLED))]
    assert want(core, bottom) == [Revive(bottom)]
    assert revived(core, bottom, top) == [ResolveFailure(bottom, lost_argument(top))]
    assert core.scheduler.unfinished_tasks() == ()


def test_diamond_is_computed_again_with_each_task_once():
    core = Core()
    top = finished(core)
    left, right = finished(core, top), finished(core, top)
    bottom = finished(core, left, right)
    lose(core, top, left, right, bottom)
    assert want(core, bottom) == [Revive(bottom)]
    assert revived(core, bottom, left, right) == [Revive(left), Revive(right)]
    assert revived(core, left, top) == [Revive(top)]
    assert revived(core, right, top) == []
    assert revived(core, top) == [SendAttempts(1, [top])]
    assert core.answer(1, answer(top)) == [values(top), SendAttempts(1, [left])]
    assert core.answer(1, answer(left)) == [values(left), SendAttempts(1, [right])]
    assert core.answer(1, answer(right)) == [values(right), SendAttempts(1, [bottom])]
    assert core.answer(1, answer(bottom)) == [values(bottom)]
    assert [task.attempt for task in (top, left, right, bottom)] == [1, 1, 1, 1]


def test_diamond_whose_top_cannot_be_computed_again_fails_each_task_once():
    core = Core()
    top = finished(core, max_retries=0)
    left, right = finished(core, top), finished(core, top)
    bottom = finished(core, left, right)
    lose(core, top, left, right, bottom)
    want(core, bottom)
    revived(core, bottom, left, right)
    assert revived(core, left, top) == [
        ResolveFailure(top, lost(LOST_RETRIES_DISABLED)),
        ResolveFailure(left, lost_argument(top)),
        ResolveFailure(bottom, lost_argument(left)),
    ]
    assert revived(core, right, top) == [ResolveFailure(right, lost_argument(top))]
    assert core.scheduler.unfinished_tasks() == ()


def chain(core, length, **first):
    tasks = [finished(core, **first)]
    while len(tasks) < length:
        tasks.append(finished(core, tasks[-1]))
    lose(core, *tasks)
    return tasks


def test_chain_of_a_thousand_lost_values_is_asked_for_one_by_one_and_runs_from_its_top():
    core = Core()
    tasks = chain(core, 1_000)
    assert want(core, tasks[-1]) == [Revive(tasks[-1])]
    for upstream, task in itertools.pairwise(tasks[::-1]):
        assert revived(core, upstream, task) == [Revive(task)]
    assert revived(core, tasks[0]) == [SendAttempts(1, [tasks[0]])]
    for task, following in itertools.pairwise(tasks):
        assert core.answer(1, answer(task)) == [values(task), SendAttempts(1, [following])]
    assert core.answer(1, answer(tasks[-1])) == [values(tasks[-1])]
    assert all(task.state is FINISHED and task.attempt == 1 for task in tasks)
    assert core.scheduler.unfinished_tasks() == ()


def test_chain_of_a_thousand_fails_without_recursion_if_its_top_cannot_be_computed_again():
    core = Core()
    tasks = chain(core, 1_000, max_retries=0)
    want(core, tasks[-1])
    for upstream, task in itertools.pairwise(tasks[:0:-1]):
        assert revived(core, upstream, task) == [Revive(task)]
    commands = revived(core, tasks[1], tasks[0])
    assert [command.task for command in commands] == tasks
    assert [command.failure.upstream for command in commands] == [None, *tasks[:-1]]
    assert core.scheduler.unfinished_tasks() == ()


def test_argument_lost_while_the_task_waits_for_another_is_not_missed():
    """1. Two arguments, one is there. 2. It is lost. 3. The other comes. 4. The worker looks."""
    core = Core(2)
    there = finished(core)
    other = core.task()
    core.submit(other)
    task = core.task(there, other)
    assert core.submit(task) == []
    lose(core, there)
    assert core.answer(1, answer(other)) == [values(other), SendAttempts(1, [task])]
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [Revive(task)]
    assert revived(core, task, there) == [Revive(there)]
    assert revived(core, there) == [SendAttempts(1, [there])]
    assert core.answer(1, answer(there)) == [values(there), SendAttempts(1, [task])]
    assert (there.attempt, task.attempt) == (1, 0)


def test_task_that_lost_its_second_argument_while_it_waited_for_the_first_waits_again():
    core = Core()
    first, second = finished(core), finished(core)
    task = core.task(first, second)
    core.submit(task)
    lose(core, first)
    core.answer(1, answer(task, Ended.ARGUMENT_LOST))
    assert revived(core, task, first) == [Revive(first)]
    revived(core, first)
    lose(core, second)
    assert core.answer(1, answer(first)) == [values(first), SendAttempts(1, [task])]
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [Revive(task)]
    assert revived(core, task, second) == [Revive(second)]
    revived(core, second)
    assert core.answer(1, answer(second)) == [values(second), SendAttempts(1, [task])]
    assert core.answer(1, answer(task)) == [values(task)]


# ---------------------------------------------------------------- argument lost


@pytest.mark.parametrize("max_retries", [0, 1, -1])
def test_attempt_without_its_argument_costs_nothing(max_retries):
    core = Core()
    upstream = finished(core, max_retries=-1)
    task = core.task(upstream, max_retries=max_retries)
    core.submit(task)
    for attempt in range(1, 4):
        lose(core, upstream)
        assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [Revive(task)]
        assert task.state is WAITING
        assert task.worker is None
        assert core.scheduler.available == core.scheduler.total
        assert revived(core, task, upstream) == [Revive(upstream)]
        assert revived(core, upstream) == [SendAttempts(1, [upstream])]
        assert core.answer(1, answer(upstream)) == [values(upstream), SendAttempts(1, [task])]
        assert upstream.attempt == attempt
    assert (task.attempt, task.retries_left, task.failures) == (0, max_retries, None)
    assert core.answer(1, answer(task)) == [values(task)]


def test_attempt_whose_argument_was_found_again_is_sent_again():
    core = Core()
    task = core.running()
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [Revive(task)]
    assert revived(core, task) == [SendAttempts(1, [task])]


def test_worker_whose_attempt_has_no_argument_takes_another_at_once():
    core = Core()
    task = core.running()
    following = core.task()
    core.submit(following)
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [
        Revive(task),
        SendAttempts(1, [following]),
    ]
    assert revived(core, task) == []
    assert core.answer(1, answer(following)) == [values(following), SendAttempts(1, [task])]


def test_function_that_was_not_entered_is_neither_known_nor_measured():
    """Its code may not have been loaded; and its time says nothing of how long it runs."""
    core = Core()
    task = core.running()
    core.answer(1, answer(task, Ended.ARGUMENT_LOST, duration=SHORT))
    assert task.function.mean_seconds is None
    core.function("f", SHORT)
    first, second = core.tasks(2, demand=HALF_CPU)
    core.submit(first)
    assert first.worker is not None
    assert first.function.key not in first.worker.functions
    assert core.submit(second) == [StartWorker(2, ())]  # and it is not sent behind the first


def test_rest_of_a_bundle_is_not_harmed_by_an_attempt_without_its_argument():
    core = Core()
    core.function("f", SHORT)
    core.answer(1, answer(core.running(), duration=SHORT))
    blocker = core.task()
    core.submit(blocker)
    first, second, third = core.tasks(3)
    assert core.submit(first, second, third) == [SendAttempts(1, [first, second, third])]
    core.answer(1, answer(blocker, duration=SHORT))
    assert core.answer(1, answer(first, Ended.ARGUMENT_LOST)) == [Revive(first)]
    assert core.answer(1, answer(second, duration=SHORT), answer(third, duration=SHORT)) == [
        values(second, third)
    ]
    assert revived(core, first) == [SendAttempts(1, [first])]


def test_worker_that_dies_after_it_found_no_argument_harms_nobody():
    core = Core()
    task = core.running()
    core.answer(1, answer(task, Ended.ARGUMENT_LOST))
    assert core.exited(1) == []
    assert revived(core, task) == [StartWorker(2, ())]
    assert (task.attempt, task.failures) == (0, None)


def test_call_that_found_no_argument_is_not_counted():
    """Two calls: the one without its argument, and two more. The last one ends the worker."""
    core = Core()
    first = core.running(max_calls=2)
    core.answer(1, answer(first, Ended.ARGUMENT_LOST))
    second = core.task(max_calls=2)
    core.submit(second)
    assert core.answer(1, answer(second)) == [values(second)]
    assert revived(core, first) == [StartWorker(2, ()), SendAttempts(1, [first])]
    assert core.answer(1, answer(first)) == [values(first), StopWorker(1)]


def test_last_call_that_found_no_argument_does_not_end_its_worker():
    core = Core()
    task = core.running(max_calls=1)
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [Revive(task)]
    assert revived(core, task) == [SendAttempts(1, [task])]
    assert core.answer(1, answer(task)) == [values(task), StopWorker(1)]


def test_retiring_worker_stays_so_if_another_function_used_up_its_calls():
    core = Core()
    core.function("f", SHORT)
    core.function("g", SHORT)
    for name in "fg":
        task = core.task(function=name)
        core.submit(task)
        core.ready(1)
        core.answer(1, answer(task, duration=SHORT))
    blocker = core.task()
    core.submit(blocker)
    few, last = core.task(max_calls=3), core.task(function="g", max_calls=1)
    assert core.submit(few, last) == [StartWorker(2, ()), SendAttempts(1, [few, last])]
    core.answer(1, answer(blocker, duration=SHORT), answer(few, Ended.ARGUMENT_LOST))
    assert core.answer(1, answer(last, duration=SHORT)) == [values(last), StopWorker(1)]


def test_value_is_stored_before_the_shell_looks_for_it():
    """An argument that ran again must not seem lost to the task behind whose attempt it ran.

    1. A task is sent ahead, and its argument is lost. 2. Somebody wants that, and it is sent to the
    same worker. 3. The task finds no argument, and then the argument's task has a value. 4. Both
    answers are read at once.
    """
    core = Core()
    upstream = finished(core, max_retries=1)
    core.function("f", SHORT)
    blocker = core.task()
    task = core.task(upstream)
    core.submit(blocker)
    assert core.submit(task) == [SendAttempts(1, [task])]
    lose(core, upstream)
    want(core, upstream)
    assert revived(core, upstream) == [SendAttempts(1, [upstream])]
    core.answer(1, answer(blocker))
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST), answer(upstream)) == [
        values(upstream),
        Revive(task),
    ]


# ---------------------------------------------------------------- forbidden by the shell


def test_what_the_shell_forbids_fails_with_the_reason_given():
    core = Core()
    task = finished(core)
    lose(core, task)
    want(core, task)
    below = core.task(task)
    core.submit(below)
    assert revived(core, task, forbidden="evicted") == [
        ResolveFailure(task, lost("evicted")),
        ResolveFailure(below, lost_argument(task)),
    ]
    assert core.scheduler.unfinished_tasks() == ()


def test_what_the_shell_forbids_does_not_have_its_arguments_computed():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, top, bottom)
    want(core, bottom)
    assert revived(core, bottom, top, forbidden="put") == [ResolveFailure(bottom, lost("put"))]
    assert top.lost


def test_failure_by_the_shells_word_tells_of_the_attempts_before():
    core = Core()
    task = core.running()
    core.answer(1, answer(task, Ended.RAISED_RETRYABLE))
    core.answer(1, answer(task, Ended.ARGUMENT_LOST))
    assert revived(core, task, forbidden="put") == [ResolveFailure(task, lost("put", record(0, 1)))]


# ---------------------------------------------------------------- cancelling


def test_task_that_finished_before_its_cancel_is_never_run_again():
    core = Core()
    task = core.running()
    core.cancel(task)
    assert core.answer(1, answer(task)) == [
        ReportCancel(1, CancelOutcome.FINISHED_FIRST),
        values(task),
    ]
    core.reclaimed(1)
    lose(core, task)
    assert want(core, task) == [ResolveFailure(task, lost(LOST_CANCELLED))]
    assert task.state is FAILED


def test_cancel_counts_more_than_the_budget():
    core = Core()
    task = core.running(max_retries=0)
    core.cancel(task)
    core.answer(1, answer(task))
    core.reclaimed(1)
    lose(core, task)
    assert want(core, task) == [ResolveFailure(task, lost(LOST_CANCELLED))]


def test_end_of_grace_after_a_cancelled_tasks_value_is_lost_kills_nobody():
    core = Core()
    task = core.running()
    core.cancel(task, grace=1.0)
    core.answer(1, answer(task))
    core.reclaimed(1)
    lose(core, task)
    want(core, task)
    core.submit(core.task())
    assert core.timer(1.0) == []


def test_cancel_between_the_question_and_the_answer_makes_the_answer_late():
    core = Core()
    task = finished(core)
    below = core.task(task)
    lose(core, task)
    assert core.submit(below) == [Revive(task)]
    assert core.cancel(task) == [
        ResolveFailure(task, Failure(FailureKind.CANCELLED)),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
        ResolveFailure(below, lost_argument(task)),
    ]
    assert revived(core, task) == []
    assert revived(core, task, forbidden="put") == []
    assert core.scheduler.unfinished_tasks() == ()


def test_late_answer_for_a_cancelled_task_has_none_of_its_arguments_computed():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, top, bottom)
    want(core, bottom)
    core.cancel(bottom)
    assert revived(core, bottom, top) == []
    assert top.state is FINISHED
    assert top.lost


def test_cancel_of_a_task_that_waits_for_an_argument_to_be_computed_again():
    """The argument's re-run goes on: others may want it, and it was not asked to stop."""
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, top, bottom)
    want(core, bottom)
    assert revived(core, bottom, top) == [Revive(top)]
    assert core.cancel(bottom) == [
        ResolveFailure(bottom, Failure(FailureKind.CANCELLED)),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
    ]
    assert revived(core, top) == [SendAttempts(1, [top])]
    assert core.answer(1, answer(top)) == [values(top)]


def test_cancel_of_a_re_run_interrupts_it():
    core = Core()
    task = running_again(core)
    assert core.cancel(task) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [InterruptWorker(1, task.seq)]
    end = record(1, 1, FailureKind.CANCELLED)
    failure = Failure(FailureKind.CANCELLED, "value", attempts=(end,))
    assert core.answer(1, answer(task, Ended.INTERRUPTED)) == [
        ResolveFailure(task, failure),
        ReportCancel(1, CancelOutcome.INTERRUPTED),
    ]


def test_re_run_that_crosses_with_its_cancel_has_a_value_that_cannot_be_computed_again():
    core = Core()
    task = running_again(core)
    core.cancel(task)
    assert core.answer(1, answer(task)) == [
        ReportCancel(1, CancelOutcome.FINISHED_FIRST),
        values(task),
    ]
    core.reclaimed(1)
    lose(core, task)
    assert want(core, task) == [ResolveFailure(task, lost(LOST_CANCELLED))]


def test_attempt_to_be_cancelled_that_found_no_argument_never_starts():
    core = Core()
    task = core.running()
    below = core.task(task)
    core.submit(below)
    core.cancel(task)
    core.reclaimed(1)
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [
        ResolveFailure(task, Failure(FailureKind.CANCELLED)),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
        ResolveFailure(below, lost_argument(task)),
    ]
    assert core.timer(0.05) == []  # no interrupt is due any more


def test_cancel_looks_for_an_answer_before_it_harms_what_runs():
    """The attempt has found no argument, and its answer is not read yet."""
    core = Core()
    core.function("f", SHORT)
    core.answer(1, answer(core.running(), duration=SHORT))
    blocker = core.task()
    core.submit(blocker)
    task, running = core.tasks(2)
    core.submit(task, running)
    core.answer(1, answer(blocker, duration=SHORT))
    core.cancel(task, force=True)
    assert core.reclaimed(1) == [PollWorker(1)]
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [
        ResolveFailure(task, Failure(FailureKind.CANCELLED)),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
    ]
    assert core.answer(1, answer(running, duration=SHORT)) == [values(running)]


# ---------------------------------------------------------------- shutdown


def shut_down(core, drain=0.0, now=0.0):
    return core(ShutdownRequested(drain), now)


GIVEN_UP = Failure(FailureKind.SHUTDOWN)


def test_closing_engine_computes_nothing_again():
    core = Core()
    task = finished(core)
    lose(core, task)
    core.submit(core.task())
    shut_down(core, drain=9.0)
    assert want(core, task) == [ResolveFailure(task, GIVEN_UP)]
    assert task.state is FAILED


def test_closed_engine_computes_nothing_again():
    core = Core()
    task = finished(core)
    lose(core, task)
    assert shut_down(core) == [KillWorker(1)]
    assert core.exited(1) == [Stopped()]
    assert want(core, task) == [ResolveFailure(task, GIVEN_UP)]
    assert core.deadline is None


def test_shutdown_between_the_question_and_the_answer_makes_the_answer_late():
    core = Core()
    task = finished(core)
    lose(core, task)
    want(core, task)
    assert shut_down(core) == [KillWorker(1), ResolveFailure(task, GIVEN_UP)]
    assert revived(core, task) == []
    assert core.exited(1) == [Stopped()]


def test_drain_lets_a_re_run_that_was_wanted_before_finish():
    core = Core()
    task = finished(core)
    lose(core, task)
    want(core, task)
    assert shut_down(core, drain=9.0) == []
    assert revived(core, task) == [SendAttempts(1, [task])]
    assert core.answer(1, answer(task)) == [values(task), StopWorker(1)]


def test_argument_that_would_have_to_be_computed_again_during_the_drain_fails_both():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, top, bottom)
    want(core, bottom)
    shut_down(core, drain=9.0)
    assert revived(core, bottom, top) == [
        ResolveFailure(top, GIVEN_UP),
        ResolveFailure(bottom, lost_argument(top)),
        StopWorker(1),
    ]


def test_end_of_the_drain_gives_up_what_waits_for_its_arguments():
    core = Core()
    top = finished(core)
    bottom = finished(core, top)
    lose(core, top, bottom)
    want(core, bottom)
    revived(core, bottom, top)
    shut_down(core, drain=1.0)
    assert core.timer(1.0) == [
        ResolveFailure(bottom, GIVEN_UP),
        ResolveFailure(top, GIVEN_UP),
        StopWorker(1),
    ]
    assert revived(core, top, now=1.0) == []


def test_shutdown_kills_a_re_run():
    core = Core()
    task = running_again(core)
    assert shut_down(core) == [KillWorker(1), ResolveFailure(task, GIVEN_UP)]
    assert core.exited(1) == [Stopped()]


def test_attempt_that_finds_no_argument_during_the_drain_asks_for_it():
    core = Core()
    task = core.running()
    shut_down(core, drain=9.0)
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST)) == [Revive(task)]
    assert revived(core, task) == [SendAttempts(1, [task])]


def test_attempt_that_finds_no_argument_after_the_drain_is_given_up():
    core = Core()
    task = core.running()
    shut_down(core, drain=1.0)
    assert core.timer(1.0) == [ReclaimAttempts(1)]
    core.reclaimed(1, now=1.0)
    assert core.answer(1, answer(task, Ended.ARGUMENT_LOST), now=1.0) == [
        ResolveFailure(task, GIVEN_UP),
        StopWorker(1),
    ]


# ---------------------------------------------------------------- fairness


def test_task_that_runs_again_keeps_its_place_among_the_classes():
    """It was submitted first, so its class goes first again; within the class it queues up."""
    core = Core()
    task = finished(core, demand=HALF_CPU)
    blocker, other = core.tasks(2)
    core.submit(blocker, other)
    lose(core, task)
    want(core, task)
    revived(core, task)
    assert core.answer(1, answer(blocker)) == [values(blocker), SendAttempts(1, [task])]
    assert core.scheduler.available == {"CPU": UNIT // 2}
