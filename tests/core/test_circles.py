"""A circle of tasks that wait for each other is found, and the one call fails that can break it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aioray.core.commands import CancelCall, DiscardWorker, ResolveFailure
from aioray.core.events import AttemptWaits, WorkerBlocked, WorkerUnblocked
from aioray.core.outcomes import Circle, Ended, Failure, FailureKind

from .support import Core, answer

if TYPE_CHECKING:
    from aioray.core.model import SupervisedActor, Task


def wait(core: Core, task: Task, *needed: Task):
    """The attempt blocks, in its own thread and without a limit."""
    assert task.worker is not None
    worker = task.worker.id
    core(WorkerBlocked(worker, task.seq))
    return core(AttemptWaits(worker, task.seq, needed))


def go_on(core: Core, task: Task):
    assert task.worker is not None
    worker = task.worker.id
    core(AttemptWaits(worker, task.seq, ()))
    core(WorkerUnblocked(worker, task.seq))


def broken(call: Task, actor: SupervisedActor, *others: Task) -> ResolveFailure:
    names = tuple(task.name for task in (call, *others))
    return ResolveFailure(call, Failure(FailureKind.CIRCLE, Circle(actor, names)))


def test_constructor_that_waits_for_a_caller_of_its_actor():
    core = Core(3)
    actor = core.making()
    helper = core.running()
    (call,) = core.called(actor)
    assert wait(core, actor.creation, helper) == []
    assert wait(core, helper, call) == [broken(call, actor, actor.creation, helper)]
    core.answer(helper.worker.id, answer(helper, Ended.RAISED))
    go_on(core, actor.creation)
    core.live(actor)
    core.called(actor)


def test_constructor_that_closes_the_circle_itself():
    core = Core(3)
    actor = core.making()
    helper = core.running()
    (call,) = core.called(actor)
    assert wait(core, helper, call) == []
    assert wait(core, actor.creation, helper) == [broken(call, actor, actor.creation, helper)]


def test_constructor_of_an_actor_that_is_made_again():
    core = Core(3)
    actor = core.alive(max_restarts=1)
    helper = core.running()
    call = core.called(actor, 2)[1]
    assert wait(core, helper, call) == []
    core.crash(actor, call)
    core.place(actor)
    assert wait(core, actor.creation, helper) == [broken(call, actor, actor.creation, helper)]


def test_circle_through_arguments():
    core = Core(3)
    actor = core.making()
    (call,) = core.called(actor)
    below = core.task(call)
    core.submit(below)
    commands = wait(core, actor.creation, below)
    assert commands[0] == broken(call, actor, actor.creation, below)
    dependency = Failure(FailureKind.DEPENDENCY, upstream=call)
    assert commands[1:] == [ResolveFailure(below, dependency)]


def test_method_that_waits_for_its_own_actor():
    core = Core()
    actor = core.alive()
    method, call, later = core.called(actor, 3)
    worker = actor.worker.id
    assert wait(core, method, call) == [
        CancelCall(worker, call.seq),
        broken(call, actor, method),
    ]
    go_on(core, method)
    assert core.scheduler.expects(worker, call.seq)
    commands = core.answer(worker, answer(method, Ended.RAISED), answer(call, Ended.NOT_STARTED))
    assert DiscardWorker(worker) not in commands
    assert not core.scheduler.expects(worker, call.seq)
    core.answer(worker, answer(later))
    assert core.scheduler.unfinished_tasks() == ()


def test_method_that_waits_for_a_call_that_stands_behind_others():
    core = Core(2)
    actor = core.alive()
    method, *_, call = core.called(actor, 300)
    assert call.worker is None
    assert wait(core, method, call) == [broken(call, actor, method)]


def test_two_actors_that_wait_for_each_other():
    core = Core(2)
    first, second = core.alive(), core.alive()
    (one,) = core.called(first)
    (other,) = core.called(second)
    (into_second,) = core.called(second)
    (into_first,) = core.called(first)
    assert wait(core, one, into_second) == []
    assert wait(core, other, into_first) == [
        CancelCall(first.worker.id, into_first.seq),
        broken(into_first, first, one, into_second, other),
    ]


def test_call_behind_the_head_of_its_line():
    core = Core(3)
    actor = core.alive()
    late = core.running()
    head, call = core.call(actor, late), core.call(actor)
    core.submit(head, call)
    assert wait(core, late, call) == [broken(call, actor, head, late)]


def test_call_that_blocks_the_loop_of_its_concurrency_group():
    core = Core()
    actor = core.alive(concurrency_groups=(10, 10), ordered=False, asynchronous=True)
    blocking, beside = core.called(actor, 2)
    (elsewhere,) = core.called(actor, concurrency_group=1)
    assert wait(core, blocking, elsewhere) == []
    go_on(core, blocking)
    assert wait(core, blocking, beside) == [
        CancelCall(actor.worker.id, beside.seq),
        broken(beside, actor, blocking),
    ]


@pytest.mark.parametrize("concurrency_groups", [(1,), (2,)], ids=["one at a time", "threads"])
def test_no_circle_where_calls_can_run(concurrency_groups):
    core = Core(3)
    actor = core.alive(concurrency_groups=concurrency_groups, ordered=concurrency_groups == (1,))
    other = core.alive()
    (method,) = core.called(actor)
    assert wait(core, method, *core.called(other, 2)) == []
    helper = core.running()
    assert wait(core, helper, method) == []


def test_no_circle_if_it_goes_on_before_or_has_died():
    core = Core(3)
    actor = core.making(max_restarts=1)
    helper = core.running(max_retries=1)
    (call,) = core.called(actor)
    wait(core, actor.creation, helper)
    go_on(core, actor.creation)
    assert wait(core, helper, call) == []
    go_on(core, helper)
    wait(core, actor.creation, helper)
    core.crash(actor)
    assert wait(core, helper, call) == []


def test_no_circle_of_tasks_that_call_no_actor():
    core = Core(2)
    one, other = core.running(), core.running()
    wait(core, one, other)
    assert wait(core, other, one) == []


def test_late_news_of_waiting_is_dropped():
    core = Core()
    task = core.running()
    assert core(AttemptWaits(1, task.seq + 1, (task,))) == []
    assert core(AttemptWaits(9, task.seq, (task,))) == []
    core.answer(1, answer(task))
    assert core(AttemptWaits(1, task.seq, (task,))) == []
