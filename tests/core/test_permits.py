"""Limiters: how many attempts run at once, how many start within a time, and who is next."""

from __future__ import annotations

import pytest

from aioray.core.call_queues import limited_group, room_in
from aioray.core.commands import ResolveFailure, SendAttempts
from aioray.core.functions import CallTraits
from aioray.core.limiters import StartLimiter
from aioray.core.limits import TaskLimits
from aioray.core.outcomes import Ended, FailureKind

from .support import ONE_CPU, Core, answer, task_of


def limited(core, limiter, *, demand=ONE_CPU, function="f", **options):
    """A task that needs a permit of this limiter."""
    core.count += 1
    return task_of(
        core.count,
        f"t{core.count}",
        core.function(function),
        core.scheduler.scheduling_class(demand, (), limiter=limiter),
        limits=TaskLimits(limiter=limiter),
        **options,
    )


def limited_call(core, actor, limiter, *, group=0):
    """A call that needs a permit of this limiter."""
    core.count += 1
    return task_of(
        core.count,
        f"t{core.count}",
        core.function("m"),
        limited_group(actor.concurrency_groups[group], limiter),
        max_retries=0,
        limits=TaskLimits(limiter=limiter),
        traits=CallTraits(interruptible=False, retries_errors=False),
    )


def with_workers(count, cpus=None):
    core = Core(cpus or count)
    warm_up = core.tasks(count)
    core.submit(*warm_up)
    core.ready(*range(1, count + 1))
    for task in warm_up:
        core.answer(task.worker.id, answer(task))
    return core


def sent(commands):
    return [task for each in commands if isinstance(each, SendAttempts) for task in each.tasks]


def test_no_more_run_at_once_than_the_limiter_has_permits():
    core = with_workers(3)
    limiter = StartLimiter("a", 2)
    first, second, third, fourth = tasks = [limited(core, limiter) for _ in range(4)]
    assert sent(core.submit(*tasks)) == [first, second]
    assert limiter.holders() == [first, second]
    assert core.deadline is None
    assert sent(core.answer(second.worker.id, answer(second))) == [third]
    assert sent(core.answer(first.worker.id, answer(first))) == [fourth]


def test_what_waits_for_a_permit_holds_up_nothing_else():
    core = with_workers(2)
    one, other = StartLimiter("a", 1), StartLimiter("b", 1)
    first, second = (limited(core, one) for _ in range(2))
    assert sent(core.submit(first, second)) == [first]
    of_other, free = limited(core, other), core.task()
    assert sent(core.submit(of_other, free)) == [of_other]
    assert sent(core.answer(of_other.worker.id, answer(of_other))) == [free]


def test_nothing_is_sent_behind_a_limited_task():
    core = with_workers(1)
    limiter = StartLimiter("a", 8)
    core.function("f", 0.000_001)
    first, second = (limited(core, limiter) for _ in range(2))
    assert sent(core.submit(first, second)) == [first]
    assert sent(core.answer(1, answer(first))) == [second]


def test_a_window_lets_so_many_start_and_more_when_it_has_room():
    core = with_workers(4)
    limiter = StartLimiter("a", None, 2, 10.0)
    first, second, third, fourth = tasks = [limited(core, limiter) for _ in range(4)]
    assert sent(core.submit(first, now=1.0)) == [first]
    assert sent(core.submit(*tasks[1:], now=4.0)) == [second]
    core.answer(first.worker.id, answer(first), now=5.0)
    assert core.deadline == 11.0
    assert sent(core.timer(10.9)) == []
    assert sent(core.timer(11.0)) == [third]
    assert core.deadline == 14.0
    assert sent(core.timer(14.0)) == [fourth]
    assert core.deadline is None


def test_concurrency_and_window_hold_together():
    core = with_workers(3)
    limiter = StartLimiter("a", 1, 2, 10.0)
    first, second, third = tasks = [limited(core, limiter) for _ in range(3)]
    assert sent(core.submit(*tasks, now=0.0)) == [first]
    assert sent(core.answer(first.worker.id, answer(first), now=1.0)) == [second]
    assert sent(core.answer(second.worker.id, answer(second), now=2.0)) == []
    assert sent(core.timer(10.0)) == [third]


def test_a_ring_for_which_nobody_waits_any_more_does_nothing():
    core = with_workers(2)
    limiter = StartLimiter("a", None, 1, 10.0)
    first, second = (limited(core, limiter) for _ in range(2))
    core.submit(first, second)
    failed = core.cancel(second)
    assert [each.task for each in failed if isinstance(each, ResolveFailure)] == [second]
    assert core.timer(10.0) == []
    assert not core.scheduler.backlog.limited
    third = limited(core, limiter)
    assert sent(core.submit(third, now=10.0)) == [third]


def test_retries_are_starts():
    core = with_workers(1)
    limiter = StartLimiter("a", 1, 1, 10.0)
    task = limited(core, limiter, max_retries=1)
    core.submit(task)
    assert sent(core.answer(1, answer(task, ended=Ended.RAISED_RETRYABLE))) == []
    assert task.attempt == 1
    assert sent(core.timer(10.0)) == [task]


def test_a_permit_comes_back_from_a_worker_that_has_died():
    core = with_workers(2)
    limiter = StartLimiter("a", 1)
    first, second = limited(core, limiter, max_retries=0), limited(core, limiter)
    core.submit(first, second)
    assert sent(core.exited(first.worker.id)) == [second]
    assert limiter.holders() == [second]


def test_the_first_by_rank_gets_the_permit_that_comes_back():
    core = with_workers(2)
    limiter = StartLimiter("a", 1)
    first = limited(core, limiter)
    core.submit(first)
    half = (("CPU", ONE_CPU[0][1] // 2),)
    later = limited(core, limiter)
    urgent = limited(core, limiter, demand=half, priority=1.0)
    core.submit(later, now=1.0)
    core.submit(urgent, now=2.0)
    assert sent(core.answer(first.worker.id, answer(first), now=3.0)) == [urgent]
    assert sent(core.answer(urgent.worker.id, answer(urgent), now=3.0)) == [later]


def test_a_permit_goes_on_to_the_next_class_if_the_first_lacks_resources():
    core = with_workers(2)
    limiter = StartLimiter("a", 1)
    first = limited(core, limiter)
    core.submit(first)
    large = limited(core, limiter, demand=(("CPU", 2 * ONE_CPU[0][1]),))
    small = limited(core, limiter)
    keeps_one = core.task(function="other")
    core.submit(keeps_one, large, small)
    assert keeps_one.worker is not None
    assert sent(core.answer(first.worker.id, answer(first))) == [small]


def test_workers_are_ordered_only_for_what_has_a_permit():
    core = Core(4)
    limiter = StartLimiter("a", 1)
    core.submit(*(limited(core, limiter) for _ in range(4)))
    assert core.scheduler.pool.last_id == 1


@pytest.mark.parametrize("ends", ["answer", "death"])
def test_calls_of_one_that_runs_them_in_order_keep_it(ends):
    core = with_workers(2)
    actor = core.alive()
    limiter = StartLimiter("a", 1)
    holder = limited(core, limiter)
    core.submit(holder)
    before, behind = core.call(actor), core.call(actor)
    call = limited_call(core, actor, limiter)
    assert call.scheduling_class is actor.concurrency_groups[0]
    assert sent(core.submit(before)) == [before]
    assert sent(core.submit(call, behind)) == []
    if ends == "answer":
        assert sent(core.answer(holder.worker.id, answer(holder))) == []  # it would wait there
        assert sent(core.answer(actor.worker.id, answer(before))) == [call, behind]
    else:
        assert sent(core.answer(actor.worker.id, answer(before))) == []
        failed = core.kill(actor)
        failed = [each for each in failed if isinstance(each, ResolveFailure)]
        assert {each.task for each in failed} == {call, behind}
        assert {each.failure.kind for each in failed} == {FailureKind.ACTOR_DIED}


def test_a_call_gets_the_permit_that_comes_back():
    core = with_workers(1)
    actor = core.alive()
    limiter = StartLimiter("a", 1)
    first, second = limited_call(core, actor, limiter), limited_call(core, actor, limiter)
    assert sent(core.submit(first, second)) == [first]
    assert sent(core.answer(actor.worker.id, answer(first))) == [second]


def test_calls_that_run_side_by_side_do_not_wait_for_those_that_need_permits():
    core = with_workers(1)
    actor = core.alive(concurrency_groups=(2,), ordered=False)
    group = actor.concurrency_groups[0]
    limiter, other = StartLimiter("a", None, 1, 10.0), StartLimiter("b", 5)
    first, second = limited_call(core, actor, limiter), limited_call(core, actor, limiter)
    assert first.scheduling_class is second.scheduling_class is not group
    free, more = core.call(actor), core.call(actor)
    assert sent(core.submit(first, second, free, more)) == [first, free]
    assert room_in(group) == room_in(first.scheduling_class) == 0
    assert sent(core.answer(actor.worker.id, answer(first))) == [more]
    third = limited_call(core, actor, other)
    assert third.scheduling_class not in (group, first.scheduling_class)
    assert sent(core.submit(third)) == []
    assert sent(core.answer(actor.worker.id, answer(free))) == [third]
    core.answer(actor.worker.id, answer(more))
    assert sent(core.timer(10.0)) == [second]


def test_a_limited_group_of_a_dead_actor_is_as_dead():
    core = with_workers(1)
    actor = core.alive(concurrency_groups=(2,), ordered=False)
    core.kill(actor)
    group = actor.concurrency_groups[0]
    assert group.forbidden is not None
    assert limited_group(group, StartLimiter("a", 1)).forbidden is group.forbidden


def test_a_permit_for_which_nobody_waits_any_more_is_kept():
    core = with_workers(2)
    limiter = StartLimiter("a", 1)
    first, second = (limited(core, limiter) for _ in range(2))
    core.submit(first, second)
    core.cancel(second)
    core.answer(first.worker.id, answer(first))
    assert not core.scheduler.backlog.limited
    assert limiter.room(0.0) == 1


def test_a_limiter_tells_what_is_in_use():
    core = with_workers(2)
    limiter, other = StartLimiter("a", 1, 3, 10.0), StartLimiter("b", 1)
    core.submit(*(limited(core, limiter) for _ in range(3)), now=1.0)
    assert (limiter.started(1.0), limiter.started(11.0), limiter.waiting()) == (1, 0, 2)
    assert (other.started(1.0), other.waiting()) == (0, 0)


def test_limiters_say_what_they_are():
    assert StartLimiter("a", 3, 2, 1.0).figures == (3, 2, 1.0)
    assert repr(StartLimiter("a", 3)) == "<StartLimiter 'a' 0 of 3>"
