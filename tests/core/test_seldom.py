"""What seldom happens to tasks and actors, so that no branch of the core is left to chance."""

from __future__ import annotations

import random

from aioray.core.commands import (
    DiscardWorker,
    KillWorker,
    ReportActor,
    ResolveFailure,
    Revive,
    SendAttempts,
    StartWorker,
)
from aioray.core.devices import UNIT
from aioray.core.events import (
    AttemptsNotSent,
    GroupRemoved,
    ResultLost,
    ResultWanted,
    ShutdownRequested,
    WorkerStartFailed,
    WorkerWanted,
)
from aioray.core.intensity import RestartPolicy
from aioray.core.outcomes import Answer, Ended, FailureKind
from aioray.core.scheduler import Scheduler
from aioray.core.states import ActorStatus, TaskStatus, WorkerStatus

from .support import SHORT, Core, answer
from .test_circles import broken, wait
from .test_placement import CPU, Site, gpus


def test_line_of_a_caller_goes_as_far_as_arguments_are_there() -> None:
    core = Core(3)
    actor = core.alive()
    x, y = core.running(), core.running()
    first, second = core.call(actor, x), core.call(actor, y)
    core.submit(first, second)
    commands = core.answer(x.worker.id, answer(x))
    assert SendAttempts(actor.worker.id, [first]) in commands
    assert second.state is TaskStatus.PENDING_ARGS_AVAIL
    commands = core.answer(y.worker.id, answer(y))
    assert SendAttempts(actor.worker.id, [second]) in commands


def test_worker_of_an_actor_that_answers_for_what_it_has_not_is_discarded() -> None:
    core = Core()
    actor = core.alive()
    (call,) = core.called(actor)
    made_up = Answer(call.seq + 1, Ended.RETURNED, "value", 0.0, 1.0)
    assert core.answer(actor.worker.id, made_up, answer(call)) == [DiscardWorker(actor.worker.id)]
    assert call.state is TaskStatus.SUBMITTED_TO_WORKER


def test_kill_of_an_actor_that_is_being_made_again_counts_and_is_not_told_twice() -> None:
    core = Core()
    actor = core.alive(max_restarts=3)
    core.crash(actor)
    assert actor.state is ActorStatus.RESTARTING
    assert core.kill(actor, no_restart=False) == []
    assert (actor.num_restarts, actor.restarts_left) == (2, 1)
    assert actor.state is ActorStatus.RESTARTING


def test_group_takes_along_its_own_actors_alone() -> None:
    core = Site(2)
    group, _ = core.request((CPU,))
    inside = core.actor(group=group)
    core.start(core.submit(inside.creation))
    core.answer(inside.worker.id, answer(inside.creation))
    outside = core.actor()
    core.start(core.submit(outside.creation))
    core.answer(outside.worker.id, answer(outside.creation))
    worker = inside.worker.id
    assert core(GroupRemoved(group)) == [KillWorker(worker), ReportActor(inside)]
    assert outside.state is ActorStatus.ALIVE


def test_call_that_fails_with_an_overdue_one_is_not_overdue_as_well() -> None:
    core = Core()
    actor = core.alive(max_restarts=-1, policy=RestartPolicy(patience=10.0))
    core.crash(actor, now=100.0)
    first = core.call(actor)
    second = core.call(actor, first)
    core.submit(first, second, now=100.0)
    failed = {c.task: c.failure.kind for c in core.timer(110.0) if isinstance(c, ResolveFailure)}
    assert failed == {first: FailureKind.OVERDUE, second: FailureKind.DEPENDENCY}


def test_circle_is_found_where_ways_meet_and_others_wait_as_well() -> None:
    core = Core(5)
    actor = core.making()
    helper, other, missing = core.running(), core.running(), core.running()
    first = core.call(actor, missing)
    second = core.call(actor)
    near = core.task(second)
    far = core.task(second, near)
    gone = core.task(second)
    core.submit(first, second, near, far, gone)
    core.cancel(gone)
    assert wait(core, other, missing) == []
    assert wait(core, helper, far) == []
    commands = wait(core, actor.creation, helper)
    assert commands[0] == broken(second, actor, actor.creation, helper, far)
    assert [command.task for command in commands] == [second, near, far]


def test_records_say_in_their_repr_which_they_are() -> None:
    core = Site(1)
    group, _ = core.request((CPU,))
    assert repr(group) == f"<Group {group.key} CREATED>"


def test_gpus_have_the_names_that_they_were_given() -> None:
    core, totals = Core(), {"CPU": UNIT, "GPU": 2 * UNIT}
    core.scheduler = Scheduler(totals, random.Random(0), devices=["MIG-a", "MIG-b"])
    assert core.running(demand=gpus(2)).worker.devices == ("MIG-a", "MIG-b")


def test_attempts_that_could_not_be_sent_to_a_worker_that_is_gone_are_no_news() -> None:
    core = Core()
    task = core.running(max_retries=0)
    worker = task.worker.id
    core.exited(worker)
    assert core(AttemptsNotSent(worker, [answer(task, Ended.RAISED)])) == []


def test_calls_that_could_not_be_sent_fail_and_their_actor_goes_on() -> None:
    core = Core()
    actor = core.alive()
    first, second = core.called(actor, 2)
    commands = core(AttemptsNotSent(actor.worker.id, [answer(first, Ended.RAISED, "full")]))
    (failure,) = [command for command in commands if isinstance(command, ResolveFailure)]
    assert (failure.task, failure.failure.detail) == (first, "full")
    core.answer(actor.worker.id, answer(second))
    assert second.state is TaskStatus.FINISHED


def test_lost_value_of_a_call_is_computed_again_by_its_actor() -> None:
    core = Core()
    actor = core.alive()
    (call,) = core.called(actor, max_retries=1)
    core.answer(actor.worker.id, answer(call))
    core(ResultLost(call))
    assert core(ResultWanted(call)) == [Revive(call)]


def test_lost_value_of_a_task_that_another_has_submitted_is_computed_again_as_its_child() -> None:
    core = Core(2)
    parent = core.running()
    child = core.running(parent=parent, max_retries=1)
    core.answer(child.worker.id, answer(child))
    core(ResultLost(child))
    assert core(ResultWanted(child)) == [Revive(child)]
    assert parent.children == {child.number: child}


def test_answer_of_an_actor_for_a_call_that_the_shutdown_gave_up_is_no_news() -> None:
    core = Core()
    actor = core.alive()
    (call,) = core.called(actor)
    core(ShutdownRequested(0.0))
    assert core.answer(actor.worker.id, answer(call)) == []


def test_worker_with_a_gpu_stays_for_what_needs_one_when_another_retires() -> None:
    core = Site(1, GPU=2)
    first, last = core.task(demand=gpus(1)), core.task(demand=gpus(1), max_calls=1)
    core.run(first)
    commands = core.run(last)
    assert last.worker.state is WorkerStatus.RETIRING
    assert [c.worker_id for c in commands if isinstance(c, StartWorker)] == [last.worker.id]


def test_retry_in_front_leaves_what_a_stalled_worker_was_given_later() -> None:
    core = Core(2)
    known, old = core.task(), core.task(max_retries=1)
    core.submit(known, old)
    core.ready(1, 2)
    core.answer(1, answer(known, duration=SHORT))
    core.submit(*core.tasks(3), now=10.0)
    core.timer(10.005)
    commands = core.answer(2, answer(old, Ended.RAISED_RETRYABLE), now=11.0)
    assert SendAttempts(2, [old]) in commands


def test_news_that_attempts_were_not_sent_to_a_worker_that_is_gone_change_nothing() -> None:
    core = Core()
    task = core.running()
    assert core(AttemptsNotSent(task.worker.id + 1, [answer(task, Ended.RAISED, "full")])) == []
    assert task.state is TaskStatus.SUBMITTED_TO_WORKER


def test_shutdown_that_kills_can_be_asked_for_again() -> None:
    core = Core()
    task = core.running()
    core(ShutdownRequested(0.0))
    assert task.state is TaskStatus.FAILED
    assert core(ShutdownRequested(0.0)) == []


def test_creation_that_could_not_be_sent_fails_its_actor() -> None:
    core = Core()
    actor = core.making()
    worker = actor.worker
    commands = core(AttemptsNotSent(worker.id, [answer(actor.creation, Ended.RAISED, "full")]))
    (failure,) = [command for command in commands if isinstance(command, ResolveFailure)]
    assert (failure.task, failure.failure.detail) == (actor.creation, "full")
    assert (actor.state, worker.state) == (ActorStatus.DEAD, WorkerStatus.STOPPING)


def test_first_worker_can_be_had_before_there_is_work_and_is_one() -> None:
    core = Core(2)
    assert core(WorkerWanted("env")) == [StartWorker(1, "env")]
    assert core(WorkerWanted("env")) == []
    core.ready(1)
    task = core.task(environment="env")
    assert core.submit(task) == [SendAttempts(1, [task])]


def test_no_first_worker_comes_up_where_it_may_not() -> None:
    core = Core(2)
    core(WorkerWanted(()))
    core(WorkerStartFailed(1, "report"))
    assert core(WorkerWanted(()), 0.0) == []  # it was tried just now
    assert core(WorkerWanted(()), 100.0) == [StartWorker(2, ())]
    core = Core(2)
    core(ShutdownRequested(0.0))
    assert core(WorkerWanted(())) == []
