"""What the scheduler notes of attempts and of what waits, for whoever tells what happens."""

from __future__ import annotations

import pytest

from aioray.core.commands import ReportRetry, ResolveFailure
from aioray.core.devices import UNIT
from aioray.core.outcomes import AttemptTimes, Ended
from aioray.core.states import TaskStatus

from .support import LONG, SHORT, Core, answer


@pytest.fixture
def core():
    return Core(cpus=1)


def test_times_of_a_task_are_those_of_the_events_that_moved_it(core):
    first = core.task()
    second = core.task(first)
    core.submit(first, second, now=1.0)
    assert (first.created_at, first.ready_at, second.created_at) == (1.0, 1.0, 1.0)
    assert second.ready_at < second.created_at  # its argument is missing
    core.ready(1, now=2.0)
    assert (first.sent_at, first.sent_to) == (2.0, 1)
    core.answer(1, answer(first, started_at=2.5, duration=LONG), now=4.0)
    assert (first.started_at, first.seconds) == (2.5, LONG)
    assert (second.ready_at, second.sent_at, second.seq) == (4.0, 4.0, first.seq + 1)


def test_retry_begins_when_the_attempt_before_has_ended(core):
    task = core.task(max_retries=2)
    core.submit(task, now=1.0)
    core.ready(1, now=2.0)
    seq = task.seq
    failed = answer(task, Ended.RAISED_RETRYABLE, started_at=2.5)
    report, *_ = core.answer(1, failed, now=4.0)
    assert isinstance(report, ReportRetry)
    assert report.record.passage == AttemptTimes(1.0, 1.0, 2.0, seq)
    assert (task.attempt, task.created_at, task.ready_at, task.sent_at) == (1, 4.0, 4.0, 4.0)
    assert task.seq > seq


def test_crash_tells_the_passage_of_the_attempt_that_it_harmed(core):
    task = core.task(max_retries=2)
    core.submit(task, now=1.0)
    core.ready(1, now=2.0)
    seq = task.seq
    commands = core.exited(1, started_at=2.5, now=4.0)
    (report,) = [command for command in commands if isinstance(command, ReportRetry)]
    assert report.record.passage == AttemptTimes(1.0, 1.0, 2.0, seq)
    assert (task.created_at, task.seq) == (4.0, 0)


def test_attempt_that_came_back_was_not_sent(core):
    core.function("short", SHORT)
    known = core.running(function="short")
    core.answer(1, answer(known, duration=SHORT), now=1.0)
    runs, behind = core.tasks(2, function="short")
    core.submit(runs, behind, now=2.0)
    assert (runs.seq > 0, behind.seq > 0) == (True, True)
    core.reclaimed(1, behind, now=3.0)
    assert (behind.seq, behind.state) == (0, TaskStatus.PENDING_NODE_ASSIGNMENT)


def test_failure_without_an_attempt_tells_of_none(core):
    task = core.task(core.running())
    core.submit(task, now=1.0)
    (failed, *_) = core.cancel(task, now=2.0)
    assert isinstance(failed, ResolveFailure)
    assert (failed.failure.attempts, task.seq) == ((), 0)


def test_what_waits_is_told_by_what_it_asks_for(core):
    core.running()
    halves = core.tasks(2, demand=(("CPU", UNIT // 2),))
    core.submit(*halves, core.task())
    told = {cls.demand: count for cls, count in core.scheduler.demands()}
    assert told == {(("CPU", UNIT // 2),): 2, (("CPU", UNIT),): 1}


def test_tasks_in_flight_are_those_of_the_workers_that_are_known(core):
    task = core.running()
    assert core.scheduler.tasks_in_flight([1, 99]) == [task]
    assert core.scheduler.pool.is_running()
    core.answer(1, answer(task))
    assert core.scheduler.tasks_in_flight([1]) == []
    assert not core.scheduler.pool.is_running()


def test_classes_have_numbers_of_their_own(core):
    one, two = core.task().scheduling_class, core.task(demand=(("CPU", 1),)).scheduling_class
    assert one.number != two.number
    assert core.task().scheduling_class.number == one.number
