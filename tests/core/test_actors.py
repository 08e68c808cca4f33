"""Actors in the scheduler: their birth, the order of their calls, and every way to end."""

from __future__ import annotations

import pytest

from aioray.core.calls import MAX_AHEAD, MAX_BUNDLE
from aioray.core.commands import (
    CancelCall,
    Command,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    ReportActor,
    ReportCancel,
    ReportOrphans,
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
from aioray.core.dispatch import STARVATION_SECONDS
from aioray.core.events import (
    AttemptsReclaimed,
    GroupRemoved,
    ResultLost,
    ResultWanted,
    Revived,
    ShutdownRequested,
    WorkerBlocked,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
    WorkerUnblocked,
)
from aioray.core.groups import Group
from aioray.core.intensity import RestartPolicy
from aioray.core.model import STOP_SECONDS, SupervisedActor, Task
from aioray.core.outcomes import (
    LOST_RETRIES_DISABLED,
    ActorDeath,
    CancelOutcome,
    DeathCause,
    Ended,
    Failure,
    FailureKind,
    Overdue,
)
from aioray.core.prefetch import STALL_SECONDS
from aioray.core.retries import RetryPolicy
from aioray.core.states import ActorStatus, TaskStatus

from .support import HALF_CPU, ONE_CPU, ONE_GPU, TWO_CPUS, Core, answer, record, task_of

UNAVAILABLE = FailureKind.ACTOR_UNAVAILABLE


def sent(commands: list[Command]) -> list[Task]:
    """What was sent to workers, in order."""
    return [task for c in commands if isinstance(c, SendAttempts) for task in c.tasks]


def failures(commands: list[Command]) -> dict[Task, Failure]:
    return {c.task: c.failure for c in commands if isinstance(c, ResolveFailure)}


def values(commands: list[Command]) -> list[Task]:
    return [task for c in commands if isinstance(c, ResolveValues) for task, _ in c.results]


def is_dead(actor: SupervisedActor, cause: DeathCause, detail: object = None) -> bool:
    return actor.state is ActorStatus.DEAD and actor.death == ActorDeath(actor, cause, detail)


def run(
    core: Core, actor: SupervisedActor, *tasks: Task, ended: Ended = Ended.RETURNED
) -> list[Command]:
    """The actor answers these calls."""
    assert actor.worker is not None
    return core.answer(actor.worker.id, *(answer(task, ended) for task in tasks))


# ---------------------------------------------------------------- birth


def test_a_creation_gets_a_worker_and_what_was_called_meanwhile_follows():
    core = Core()
    actor = core.actor()
    first, second = core.calls(actor, 2)
    commands = core.submit(actor.creation, first, second)
    assert commands == [ReportActor(actor), StartWorker(1, ())]
    assert actor.state is ActorStatus.PENDING_CREATION
    assert core.ready(1) == [SendAttempts(1, [actor.creation])]
    assert core.answer(1, answer(actor.creation)) == [
        ResolveValues([(actor.creation, "value")]),
        ReportActor(actor),
        SendAttempts(1, [first, second]),
    ]
    assert actor.state is ActorStatus.ALIVE
    assert actor.worker is first.worker
    assert actor.num_restarts == 0


def test_a_creation_waits_for_its_arguments_and_then_for_a_worker():
    core = Core()
    upstream = core.running()
    actor = core.actor(upstream)
    assert core.submit(actor.creation) == [ReportActor(actor)]
    assert actor.state is ActorStatus.DEPENDENCIES_UNREADY
    blocker = core.task()
    core.submit(blocker)
    commands = core.answer(1, answer(upstream))
    assert ReportActor(actor) in commands
    assert actor.state is ActorStatus.PENDING_CREATION


def test_a_default_actor_takes_a_cpu_to_start_and_holds_nothing_while_it_lives():
    core = Core()
    task = core.running()
    actors = [core.actor() for _ in range(5)]
    core.submit(*(actor.creation for actor in actors))
    assert not any(actor.worker for actor in actors)
    core.answer(1, answer(task))
    for actor in actors:
        core.place(actor)
        assert core.scheduler.available["CPU"] == 0
        core.live(actor)
    assert core.scheduler.available["CPU"] == UNIT
    assert len({actor.worker for actor in actors}) == len(actors)


def test_an_actor_that_names_resources_keeps_them_until_it_is_gone():
    core = Core(2, GPU=1)
    actor = core.alive(demand=ONE_GPU, keeps_cpus=True)
    assert core.scheduler.available == {"CPU": UNIT, "GPU": 0}
    assert actor.worker is not None
    assert actor.worker.devices == ("0",)
    assert core.release(actor) == [ReportActor(actor), StopWorker(1)]
    assert core.scheduler.available == {"CPU": UNIT, "GPU": 0}
    core.exited(1)
    assert core.scheduler.available == {"CPU": 2 * UNIT, "GPU": UNIT}


def test_nothing_else_is_given_to_the_worker_of_an_actor():
    core = Core()
    core.alive()
    task = core.task()
    assert core.submit(task) == [StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, [task])]


def test_living_actors_do_not_take_the_places_of_workers_that_tasks_need(monkeypatch):
    monkeypatch.setattr("aioray.core.pool.MAX_WORKERS", 2)
    core = Core(2)
    for _ in range(3):
        core.alive()
    assert core.submit(core.task()) == [StartWorker(4, ())]


def test_a_failed_environment_fails_an_actor_although_others_live_in_one_that_came_up():
    core = Core()
    core.alive()
    actor = core.actor()
    (call,) = core.calls(actor, 1)
    core.submit(actor.creation, call)
    commands = core(WorkerStartFailed(2, "broken", environment_failed=True))
    environment = Failure(FailureKind.ENVIRONMENT, "broken")
    assert failures(commands)[actor.creation] == environment
    assert is_dead(actor, DeathCause.CREATION_FAILED, environment)
    assert failures(commands)[call] == Failure(FailureKind.ACTOR_DIED, actor.death)


def test_a_worker_that_never_starts_fails_the_actor():
    core = Core()
    actor = core.actor()
    core.submit(actor.creation)
    now, worker_id = 0.0, 1
    while actor.state is not ActorStatus.DEAD:
        core(WorkerStartFailed(worker_id, "no"), now)
        now, worker_id = now + 0.2, worker_id + 1
        core.timer(now)
    assert is_dead(actor, DeathCause.CREATION_FAILED, Failure(FailureKind.WORKER_STARTUP, "no"))


def test_the_worker_of_a_creation_that_lost_its_argument_is_as_any_other_again():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.actor(upstream)
    core.submit(actor.creation)
    assert core.answer(1, answer(actor.creation, Ended.ARGUMENT_LOST)) == [
        Revive(actor.creation),
        ReportActor(actor),
    ]
    assert actor.state is ActorStatus.DEPENDENCIES_UNREADY
    assert actor.worker is None
    task = core.task()
    assert sent(core.submit(task)) == [task]
    core(Revived(actor.creation))
    assert actor.state is ActorStatus.PENDING_CREATION
    assert sent(core.answer(1, answer(task))) == [actor.creation]


def test_a_creation_whose_argument_fails_is_the_end():
    core = Core()
    upstream = core.running()
    actor = core.actor(upstream)
    (call,) = core.calls(actor, 1)
    core.submit(actor.creation, call)
    commands = core.answer(1, answer(upstream, Ended.RAISED))
    failure = Failure(FailureKind.DEPENDENCY, upstream=upstream)
    assert is_dead(actor, DeathCause.CREATION_FAILED, failure)
    assert failures(commands)[call] == Failure(FailureKind.ACTOR_DIED, actor.death)


def test_a_creation_that_raises_is_not_tried_again():
    core = Core()
    actor = core.making(max_restarts=3)
    (call,) = core.called(actor)
    commands = core.answer(1, answer(actor.creation, Ended.RAISED, "error"))
    failure = Failure(FailureKind.APPLICATION, "error", attempts=(record(0, 1, detail="error"),))
    assert failures(commands)[actor.creation] == failure
    assert is_dead(actor, DeathCause.CREATION_FAILED, failure)
    assert failures(commands)[call] == Failure(FailureKind.ACTOR_DIED, actor.death)
    assert commands[-1] == StopWorker(1)


def test_a_creation_that_was_sent_and_not_claimed_costs_no_restart():
    core = Core()
    actor = core.making()
    core.exited(1, actor.creation)
    assert actor.state is ActorStatus.PENDING_CREATION
    core.tick()
    core.live(actor, now=0.1)
    assert actor.num_restarts == 0


def test_what_a_cancelled_task_makes_is_made_all_the_same():
    core = Core(2)
    parent = core.running()
    core.cancel(parent, recursive=True)
    core.reclaimed(1)
    actor = core.actor(parent=parent)
    core.submit(actor.creation)
    core.live(actor)


# ---------------------------------------------------------------- order


def test_calls_are_sent_ahead_in_bundles_up_to_a_limit_and_then_by_halves():
    core = Core()
    actor = core.alive()
    calls = core.calls(actor, MAX_AHEAD + 10)
    commands = core.submit(*calls)
    sizes = [len(c.tasks) for c in commands if isinstance(c, SendAttempts)]
    assert sizes == [MAX_BUNDLE] * (MAX_AHEAD // MAX_BUNDLE)
    assert sent(commands) == calls[:MAX_AHEAD]
    assert sent(run(core, actor, *calls[: MAX_AHEAD // 2 - 1])) == []
    assert sent(run(core, actor, calls[MAX_AHEAD // 2 - 1])) == calls[MAX_AHEAD:]


def test_a_late_argument_holds_up_what_the_same_caller_calls_later():
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    early = core.call(actor, caller=1)
    late = core.call(actor, upstream, caller=1)
    after = core.calls(actor, 2, caller=1)
    other = core.call(actor, caller=2)
    assert sent(core.submit(early, late, *after, other)) == [early, other]
    assert sent(core.answer(1, answer(upstream))) == [late, *after]


def test_each_late_argument_holds_up_its_own_successors():
    core = Core(3)
    first, second = core.running(), core.running()
    actor = core.alive()
    late, ready = core.call(actor, first), core.call(actor)
    later, last = core.call(actor, second), core.call(actor)
    core.submit(late, ready, later, last)
    assert sent(core.answer(2, answer(second))) == []
    assert sent(core.answer(1, answer(first))) == [late, ready, later, last]


def test_without_order_a_late_argument_holds_up_nobody():
    core = Core(2)
    upstream = core.running()
    actor = core.alive(ordered=False)
    late, ready = core.call(actor, upstream), core.call(actor)
    assert sent(core.submit(late, ready)) == [ready]
    assert sent(core.answer(1, answer(upstream))) == [late]


@pytest.mark.parametrize("how", ["cancelled", "argument failed"])
def test_a_late_call_that_fails_lets_its_successors_go(how):
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    late, after = core.call(actor, upstream), core.call(actor)
    core.submit(late, after)
    if how == "cancelled":
        commands = core.cancel(late)
        assert ReportCancel(1, CancelOutcome.NOT_STARTED) in commands
    else:
        commands = core.answer(1, answer(upstream, Ended.RAISED))
    assert list(failures(commands))[-1] is late
    assert sent(commands) == [after]


def test_a_call_that_waits_in_line_can_be_cancelled():
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    late, after, last = core.call(actor, upstream), core.call(actor), core.call(actor)
    core.submit(late, after, last)
    assert sent(core.cancel(after)) == []
    assert sent(core.answer(1, answer(upstream))) == [late, last]


def test_calls_that_were_not_claimed_come_back_in_order():
    core = Core()
    actor = core.alive(max_restarts=1)
    first, second, third = core.called(actor, 3)
    core(WorkerDied(1))
    fourth = core.call(actor)
    core.submit(fourth)
    core.reclaimed(1, second, third)
    commands = core(WorkerExited(1, "died"), 0.0)
    assert failures(commands)[first].kind is UNAVAILABLE
    assert sent(core.live(actor)) == [second, third, fourth]


def test_nothing_is_sent_while_calls_are_taken_back():
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    running, waiting, unclaimed = core.calls(actor, 3)
    late, after = core.call(actor, upstream), core.call(actor)
    core.submit(running, waiting, unclaimed, late, after)
    assert core.cancel(waiting) == [ReclaimAttempts(2)]
    assert sent(core.cancel(late)) == []
    commands = core.reclaimed(2, waiting, unclaimed)
    assert failures(commands) == {waiting: Failure(FailureKind.CANCELLED)}
    assert sent(commands) == [unclaimed, after]


def test_what_was_claimed_to_the_last_lets_others_go_when_nothing_comes_back():
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    (running,) = core.called(actor)
    late, after = core.call(actor, upstream), core.call(actor)
    core.submit(late, after)
    core.cancel(running)
    assert sent(core.cancel(late)) == []
    assert sent(core.reclaimed(2)) == [after]


def test_a_call_that_lost_its_argument_holds_up_what_is_not_sent_yet():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive()
    first = core.call(actor, upstream)
    others = core.calls(actor, MAX_AHEAD)
    core.submit(first, *others)
    commands = core.answer(1, answer(first, Ended.ARGUMENT_LOST))
    assert commands == [ReclaimAttempts(1), Revive(first)]
    assert core.reclaimed(1) == []  # it has claimed them all
    assert sent(run(core, actor, *others[:200])) == []
    assert sent(core(Revived(first))) == [first, others[-1]]


def test_what_was_sent_ahead_of_a_call_that_now_waits_joins_its_line_when_given_back():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive(max_restarts=1)
    first = core.call(actor, upstream)
    second, third = core.calls(actor, 2)
    core.submit(first, second, third)
    core.answer(1, answer(first, Ended.ARGUMENT_LOST))
    core.crash(actor, second, third)
    assert sent(core.live(actor)) == []
    assert sent(core(Revived(first))) == [first, second, third]


def test_two_calls_that_wait_stand_in_the_order_in_which_they_were_made():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive()
    first, second = core.call(actor, upstream), core.call(actor, upstream)
    core.submit(first, second)
    lost = [answer(task, Ended.ARGUMENT_LOST) for task in (second, first)]
    core.answer(1, *lost)
    assert sent(core(Revived(second))) == []
    assert sent(core(Revived(first))) == [first, second]


def test_an_error_that_may_be_retried_is_followed_by_nothing_until_it_is_answered():
    core = Core()
    actor = core.alive()
    before = core.call(actor)
    risky = core.call(actor, retries_errors=True, max_retries=1)
    after = core.call(actor)
    assert sent(core.submit(before, risky, after)) == [before, risky]
    assert sent(run(core, actor, before)) == []
    commands = run(core, actor, risky, ended=Ended.RAISED_RETRYABLE)
    assert ReportRetry(risky, record(0, 1), 1, 0.0) in commands
    assert sent(commands) == [risky]
    assert sent(run(core, actor, risky, ended=Ended.RAISED)) == [after]


def test_a_call_that_is_retried_after_a_while_holds_up_its_caller():
    core = Core()
    actor = core.alive()
    policy = RetryPolicy(0.5, jitter=False)
    risky = core.call(actor, retries_errors=True, max_retries=1, policy=policy)
    after, other = core.call(actor), core.call(actor, caller=1)
    core.submit(risky, after, other)
    assert sent(run(core, actor, risky, ended=Ended.RAISED_RETRYABLE)) == [other]
    now, commands = core.tick()
    while not sent(commands):
        now, commands = core.tick()
    assert now == 0.5
    assert sent(commands) == [
        risky,
    ]
    assert sent(run(core, actor, risky)) == [after]


def test_later_retries_of_a_call_wait_as_after_a_crash_if_there_is_no_policy():
    core = Core()
    actor = core.alive(ordered=False)
    risky = core.call(actor, retries_errors=True, max_retries=2)
    core.submit(risky)
    assert sent(run(core, actor, risky, ended=Ended.RAISED_RETRYABLE)) == [risky]
    assert sent(run(core, actor, risky, ended=Ended.RAISED_RETRYABLE)) == []
    assert risky.state is TaskStatus.BACKOFF
    assert sent(core.timer(0.05)) == [risky]


# ---------------------------------------------------------------- concurrency groups


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_more_is_sent_to_a_lane_than_may_run_at_once(asynchronous):
    core = Core()
    actor = core.alive(concurrency_groups=(2, 1), ordered=False, asynchronous=asynchronous)
    default = core.calls(actor, 4)
    others = core.calls(actor, 2, concurrency_group=1)
    assert sent(core.submit(*default, *others)) == [*default[:2], others[0]]
    assert sent(run(core, actor, default[1])) == [default[2]]
    assert sent(run(core, actor, others[0])) == [others[1]]
    assert sent(run(core, actor, others[1])) == []


def test_an_asynchronous_actor_with_one_place_is_sent_one_call():
    core = Core()
    actor = core.alive(ordered=False, asynchronous=True)
    first, second = core.calls(actor, 2)
    assert sent(core.submit(first, second)) == [first]
    assert sent(run(core, actor, first)) == [second]


def test_calls_of_a_dead_worker_that_ran_at_once_are_all_harmed():
    core = Core()
    actor = core.alive(concurrency_groups=(3,), ordered=False, max_restarts=1)
    calls = core.called(actor, 4, max_retries=1)
    commands = core.crash(actor)
    assert [c.task for c in commands if isinstance(c, ReportRetry)] == calls[2::-1]
    assert sent(core.live(actor)) == calls[:3]


# ---------------------------------------------------------------- ends


def test_the_running_call_is_unavailable_and_what_waits_follows_the_restart():
    core = Core()
    actor = core.alive(max_restarts=1)
    running, waiting = core.called(actor, 2)
    commands = core.crash(actor, waiting)
    death = ActorDeath(actor, DeathCause.WORKER_DIED, "died")
    attempt = record(0, 1, UNAVAILABLE, "died", duration=0.0)
    assert commands == [
        ReportActor(actor),
        ResolveFailure(running, Failure(UNAVAILABLE, death, attempts=(attempt,))),
        StartWorker(2, ()),
    ]
    assert actor.state is ActorStatus.RESTARTING
    assert (actor.num_restarts, actor.restarts_left) == (1, 0)
    assert sent(core.live(actor)) == [waiting]


def test_without_restarts_all_calls_fail():
    core = Core()
    actor = core.alive()
    running, waiting = core.called(actor, 2, max_retries=-1)
    commands = core.crash(actor, waiting)
    assert is_dead(actor, DeathCause.WORKER_DIED, "died")
    attempt = record(0, 1, FailureKind.ACTOR_DIED, "died", duration=0.0)
    assert failures(commands) == {
        waiting: Failure(FailureKind.ACTOR_DIED, actor.death),
        running: Failure(FailureKind.ACTOR_DIED, actor.death, attempts=(attempt,)),
    }
    assert core.submit(core.call(actor)) != []
    assert actor.done == {0: 3}


def test_calls_are_counted_only_if_somebody_wants_to_know():
    core = Core()
    actor = core.alive(counts_calls=False)
    core.called(actor, 2)
    core.crash(actor)
    assert actor.state is ActorStatus.DEAD
    assert actor.done == {}


def test_a_harmed_call_that_may_be_retried_runs_first_in_the_next_incarnation():
    core = Core()
    actor = core.alive(max_restarts=1)
    running, waiting = core.called(actor, 2, max_retries=1)
    attempt = record(0, 1, UNAVAILABLE, "died", duration=0.0)
    assert ReportRetry(running, attempt, 1, 0.0) in core.crash(actor, waiting)
    assert sent(core.live(actor)) == [running, waiting]
    failed = failures(core.crash(actor, waiting))
    assert is_dead(actor, DeathCause.WORKER_DIED, "died")
    assert [each.kind for each in failed.values()] == [FailureKind.ACTOR_DIED] * 2


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
@pytest.mark.parametrize("when", ["idle", "running", "creating"])
def test_an_actor_comes_back_as_often_as_it_may(max_restarts, when):
    core = Core()
    actor = core.making(max_restarts=max_restarts)
    for restart in range(max_restarts):
        if when != "creating":
            core.live(actor, now=restart * 20.0)
        if when == "running":
            core.called(actor)
        core.crash(actor, now=restart * 20.0)
        assert actor.state is ActorStatus.RESTARTING
        core.place(actor, now=restart * 20.0)
    commands = core.crash(actor)
    assert is_dead(actor, DeathCause.WORKER_DIED, "died")
    assert actor.num_restarts == max_restarts
    assert not any(isinstance(command, StartWorker) for command in commands)
    if when == "creating":
        failure = failures(commands)[actor.creation]
        assert failure.kind is FailureKind.ACTOR_DIED
        assert [each.number for each in failure.attempts] == list(range(max_restarts))


def test_unlimited_restarts_never_run_out_and_wait_ever_longer():
    core = Core()
    actor = core.alive(max_restarts=-1)
    waits, now = [], 0.0
    for _ in range(6):
        core.crash(actor, now=now)
        began = now
        while not (actor.worker or core.scheduler.pool.starting.get(())):
            now, _ = core.tick()
        waits.append(round(now - began, 3))
        core.live(actor, now=now)
    assert waits == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8]
    assert actor.restarts_left == -1


def test_an_actor_that_dies_more_often_than_its_policy_tolerates_stays_dead():
    core = Core()
    actor = core.alive(max_restarts=-1, policy=RestartPolicy(1, 10.0))
    core.crash(actor)
    core.live(actor)
    core.crash(actor, now=20.0)  # the first is forgotten
    core.live(actor, now=20.0)
    (call,) = core.called(actor)
    commands = core.crash(actor, now=21.0)
    assert is_dead(actor, DeathCause.TOO_OFTEN, "died")
    assert failures(commands)[call].detail is actor.death


def test_a_creation_in_its_delay_can_be_killed_and_released():
    for end, cause in ((Core.kill, DeathCause.KILLED), (Core.release, DeathCause.OUT_OF_SCOPE)):
        core = Core()
        actor = core.alive(max_restarts=-1)
        core.crash(actor)
        core.live(actor)
        core.crash(actor)
        assert actor.creation.state is TaskStatus.BACKOFF
        commands = end(core, actor)
        assert is_dead(actor, cause)
        assert failures(commands) == {actor.creation: Failure(FailureKind.ACTOR_DIED, actor.death)}
        core.timer(1.0)
        assert core.scheduler.unfinished_tasks() == ()


def test_what_a_creation_and_a_call_have_submitted_is_orphaned_by_a_crash():
    for creating in (True, False):
        core = Core(2)
        actor = core.making() if creating else core.alive()
        parent = actor.creation if creating else core.called(actor)[0]
        child = core.task(parent=parent)
        core.submit(child)
        assert ReportOrphans((child,)) in core.crash(actor)


def test_a_restarted_creation_of_a_task_is_its_child_again():
    core = Core(2)
    parent = core.running()
    actor = core.actor(parent=parent, max_restarts=1)
    core.submit(actor.creation)
    core.live(actor)
    core.crash(actor)
    core.live(actor)
    assert parent.children == {}


@pytest.mark.parametrize("cancelled", [False, True])
def test_exit_actor_ends_it_for_good(cancelled):
    core = Core()
    actor = core.alive(max_restarts=-1)
    leaving, waiting = core.called(actor, 2, max_retries=-1)
    if cancelled:
        core.cancel(leaving)
        core.reclaimed(1)
    commands = run(core, actor, leaving, ended=Ended.EXITED)
    assert is_dead(actor, DeathCause.EXITED)
    assert failures(commands) == {leaving: Failure(FailureKind.ACTOR_DIED, actor.death)}
    assert commands[-1] == StopWorker(1)
    commands = core.exited(1, waiting)
    assert failures(commands) == {waiting: Failure(FailureKind.ACTOR_DIED, actor.death)}


def test_exit_actor_in_the_creation_ends_it_for_good():
    core = Core()
    actor = core.making(max_restarts=-1)
    commands = core.answer(1, answer(actor.creation, Ended.EXITED))
    assert is_dead(actor, DeathCause.EXITED)
    assert commands.count(ReportActor(actor)) == 1
    assert failures(commands) == {actor.creation: Failure(FailureKind.ACTOR_DIED, actor.death)}
    assert commands[-1] == StopWorker(1)


def test_an_actor_that_leaves_takes_along_what_runs_beside():
    core = Core()
    actor = core.alive(concurrency_groups=(2,), ordered=False, max_restarts=-1)
    leaving, beside = core.called(actor, 2, max_retries=-1)
    run(core, actor, leaving, ended=Ended.EXITED)
    assert failures(core.exited(1))[beside].detail is actor.death


def test_a_worker_that_does_not_leave_is_killed():
    core = Core()
    actor = core.alive()
    core.release(actor)
    assert core.timer(STOP_SECONDS) == [KillWorker(1)]


def test_a_worker_that_may_take_longer_to_leave_is_killed_later():
    core = Core()
    actor = core.alive(stop_seconds=35.0)
    core.release(actor)
    assert core.timer(STOP_SECONDS) == []
    assert core.timer(35.0) == [KillWorker(1)]


def overdue(actor: SupervisedActor, call: Task) -> ResolveFailure:
    return ResolveFailure(call, Failure(FailureKind.OVERDUE, Overdue(actor, 10.0)))


def test_calls_wait_for_a_restart_as_long_as_its_policy_says():
    core = Core()
    actor = core.alive(max_restarts=-1, policy=RestartPolicy(patience=10.0))
    _, waiting = core.called(actor, 2)
    core.crash(actor, waiting, now=100.0)
    (late,) = core.calls(actor, 1)
    core.submit(late, now=105.0)
    core.place(actor, now=105.0)
    assert core.timer(109.0) == []
    assert core.timer(110.0) == [overdue(actor, waiting)]
    assert core.timer(114.0) == []
    assert core.timer(115.0) == [overdue(actor, late)]
    (last,) = core.calls(actor, 1)
    core.submit(last, now=116.0)
    assert actor.worker is not None
    assert sent(core.answer(actor.worker.id, answer(actor.creation), now=120.0)) == [last]
    assert core.timer(130.0) == []


def test_patience_begins_anew_with_each_restart_and_may_have_no_end():
    core = Core()
    policy = RestartPolicy(initial_delay=0.0, maximum_delay=0.0, patience=10.0)
    actor = core.alive(max_restarts=-1, policy=policy)
    (waiting,) = core.called(actor)
    core.crash(actor, waiting, now=100.0)
    core.place(actor, now=100.0)
    core.crash(actor, now=105.0)
    core.place(actor, now=105.0)
    assert overdue(actor, waiting) not in core.timer(110.0)
    assert overdue(actor, waiting) in core.timer(115.0)
    core = Core()
    actor = core.alive(max_restarts=-1, policy=RestartPolicy(patience=None))
    (waiting,) = core.called(actor)
    core.crash(actor, waiting)
    assert core.deadline is None


def test_a_kill_ends_it_at_once_and_what_runs_when_it_is_dead():
    core = Core()
    actor = core.alive(max_restarts=-1)
    calls = core.called(actor, MAX_AHEAD + 1)
    commands = core.kill(actor)
    assert is_dead(actor, DeathCause.KILLED)
    assert failures(commands) == {calls[-1]: Failure(FailureKind.ACTOR_DIED, actor.death)}
    assert commands[-1] == KillWorker(1)
    assert core.kill(actor) == []
    failed = failures(core.exited(1, *calls[1:-1]))
    assert {each.detail for each in failed.values()} == {actor.death}
    assert len(failed) == MAX_AHEAD


def test_an_answer_that_was_written_before_the_kill_stands():
    core = Core()
    actor = core.alive()
    first, leaving = core.called(actor, 2)
    core.kill(actor)
    commands = core.answer(1, answer(first), answer(leaving, Ended.EXITED))
    assert values(commands) == [first]
    assert failures(commands)[leaving].detail is actor.death
    assert is_dead(actor, DeathCause.KILLED)
    core.exited(1)


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_a_kill_that_allows_a_restart_is_as_a_crash(max_restarts):
    core = Core()
    actor = core.alive(max_restarts=max_restarts)
    (running,) = core.called(actor)
    assert core.kill(actor, no_restart=False) == [KillWorker(1)]
    assert actor.state is ActorStatus.ALIVE
    kind = failures(core.exited(1))[running].kind
    assert kind is (UNAVAILABLE if max_restarts else FailureKind.ACTOR_DIED)
    assert actor.num_restarts == max_restarts


def test_a_pending_actor_can_be_killed():
    core = Core()
    core.running()
    actor = core.actor()
    core.submit(actor.creation)
    commands = core.kill(actor)
    assert failures(commands) == {actor.creation: Failure(FailureKind.ACTOR_DIED, actor.death)}


def test_a_kill_of_a_pending_actor_that_allows_a_restart_uses_one_up():
    core = Core()
    task = core.running()
    actor, endless = core.actor(max_restarts=1), core.actor(max_restarts=-1)
    core.submit(actor.creation, endless.creation)
    for each in (actor, endless):
        assert core.kill(each, no_restart=False) == [ReportActor(each)]
        assert each.state is ActorStatus.PENDING_CREATION
        assert each.num_restarts == 1
    assert (actor.restarts_left, endless.restarts_left) == (0, -1)
    commands = core.kill(actor, no_restart=False)
    assert failures(commands) == {actor.creation: Failure(FailureKind.ACTOR_DIED, actor.death)}
    assert is_dead(actor, DeathCause.KILLED)
    core.answer(1, answer(task))
    core.place(endless)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_kill_while_it_is_made(claimed):
    core = Core()
    actor = core.making(max_restarts=-1)
    assert core.kill(actor) == [ReportActor(actor), KillWorker(1)]
    commands = core.exited(1, *(() if claimed else (actor.creation,)))
    assert failures(commands) == {actor.creation: Failure(FailureKind.ACTOR_DIED, actor.death)}
    assert not any(isinstance(command, StartWorker) for command in commands)


def test_an_actor_that_was_made_before_the_kill_took_hold_stays_dead():
    core = Core()
    actor = core.making()
    core.kill(actor)
    commands = core.answer(1, answer(actor.creation))
    assert values(commands) == [actor.creation]
    assert is_dead(actor, DeathCause.KILLED)


@pytest.mark.parametrize("end", ["made", "unclaimed", "claimed", "argument lost"])
def test_an_actor_that_is_released_while_it_is_made_leaves(end):
    core = Core()
    actor = core.making(max_restarts=-1)
    assert core.release(actor) == []
    if end == "made":
        assert core.answer(1, answer(actor.creation))[-1] == StopWorker(1)
        core.exited(1)
    elif end == "argument lost":
        core.answer(1, answer(actor.creation, Ended.ARGUMENT_LOST))
    else:
        core.exited(1, *((actor.creation,) if end == "unclaimed" else ()))
    assert is_dead(actor, DeathCause.OUT_OF_SCOPE)
    assert core.scheduler.unfinished_tasks() == ()
    assert core.release(actor) == []


def test_a_pending_actor_that_is_released_is_never_made():
    core = Core()
    core.running()
    actor = core.actor()
    core.submit(actor.creation)
    commands = core.release(actor)
    assert failures(commands) == {actor.creation: Failure(FailureKind.ACTOR_DIED, actor.death)}


def test_a_dead_worker_that_is_released_is_not_told_to_stop():
    core = Core()
    actor = core.alive(max_restarts=1)
    core(WorkerDied(1))
    assert core.release(actor) == [ReportActor(actor)]
    core(WorkerExited(1, "died"))
    assert actor.num_restarts == 0


def test_a_lost_result_that_waits_when_the_last_handle_goes_fails():
    core = Core()
    actor = core.alive(ordered=False, max_restarts=1)
    (call,) = core.called(actor, max_retries=2)
    run(core, actor, call)
    core.crash(actor)
    core(ResultLost(call))
    core(ResultWanted(call))
    core(Revived(call))
    commands = core.release(actor)
    assert failures(commands)[call] == Failure(FailureKind.ACTOR_DIED, actor.death)


# ---------------------------------------------------------------- dead actors


def test_a_call_of_a_dead_actor_fails_whatever_it_waits_for():
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    core.kill(actor)
    late = core.call(actor, upstream)
    assert failures(core.submit(late)) == {late: Failure(FailureKind.ACTOR_DIED, actor.death)}


def test_a_call_that_lost_its_argument_when_its_actor_was_killed_fails():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive()
    call = core.call(actor, upstream)
    core.submit(call)
    core.kill(actor)
    commands = core.answer(1, answer(call, Ended.ARGUMENT_LOST))
    assert failures(commands) == {call: Failure(FailureKind.ACTOR_DIED, actor.death)}


def test_a_call_that_lost_its_argument_is_not_overtaken_by_what_was_sent_behind_it():
    """Bug: what came back later went in front of it.

    1. Three calls are sent. 2. The first finds its argument lost. 3. The others come back. 4. The
    first is ready again: all three go in their order.
    """
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive()
    first, *others = core.call(actor, upstream), *core.calls(actor, 2)
    core.submit(first, *others)
    core(ResultLost(upstream))
    assert core.answer(1, answer(first, Ended.ARGUMENT_LOST)) == [
        ReclaimAttempts(1),
        Revive(first),
    ]
    assert core.reclaimed(1, *others) == []
    assert core(Revived(first, [])) == [SendAttempts(1, [first, *others])]


def test_a_cancelled_call_that_lost_its_argument_never_runs():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.alive()
    call = core.call(actor, upstream)
    core.submit(call)
    core.cancel(call)
    assert core.answer(1, answer(call, Ended.ARGUMENT_LOST)) == [
        ResolveFailure(call, Failure(FailureKind.CANCELLED)),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
    ]


def test_the_end_fails_what_stands_in_line():
    core = Core(2)
    upstream = core.running()
    actor = core.alive()
    late, after = core.call(actor, upstream), core.call(actor)
    core.submit(late, after)
    commands = core.kill(actor)
    assert failures(commands).keys() == {late, after}
    core.answer(1, answer(upstream))


# ---------------------------------------------------------------- cancelling


def test_a_running_call_of_a_synchronous_actor_is_told_and_its_value_does_not_count():
    core = Core()
    actor = core.alive()
    (running,) = core.called(actor)
    assert core.cancel(running, force=True, grace=0.0) == [ReclaimAttempts(1)]
    assert core.reclaimed(1) == [CancelCall(1, running.seq)]
    assert core.reclaimed(1) == []
    commands = run(core, actor, running)
    attempts = (record(0, 1, FailureKind.CANCELLED),)
    assert commands == [
        ResolveFailure(running, Failure(FailureKind.CANCELLED, attempts=attempts)),
        ReportCancel(1, CancelOutcome.INTERRUPTED),
    ]
    assert not any(isinstance(c, KillWorker) for c in core.timer(1.0))


def test_a_cancel_that_came_too_late_is_told_so():
    core = Core()
    actor = core.alive()
    first, second = core.called(actor, 2)
    core.cancel(first)
    assert core.reclaimed(1, second)[0] == CancelCall(1, first.seq)
    core.answer(1, answer(first))
    (third,) = core.called(actor)
    core.cancel(third)
    commands = core.answer(1, answer(second), answer(third))  # written before it was claimed
    assert ReportCancel(1, CancelOutcome.FINISHED_FIRST) in commands


def test_a_cancelled_call_whose_answer_lies_in_the_pipe_is_looked_for():
    core = Core()
    actor = core.alive()
    first, second = core.called(actor, 2)
    core.cancel(first)
    assert core.reclaimed(1) == [PollWorker(1)]
    run(core, actor, first)
    assert second.cancellation is None


def test_what_was_sent_after_the_order_to_reclaim_is_taken_back_first():
    core = Core()
    actor = core.alive()
    (running,) = core.called(actor)
    core.cancel(running)
    core.answer(1, answer(running))
    core(AttemptsReclaimed(1, []))
    first, second = core.called(actor, 2)
    core.cancel(first)
    core.cancel(second, 2)
    commands = core.reclaimed(1, second)
    assert commands[-1] == CancelCall(1, first.seq)
    assert failures(commands).keys() == {second}


def test_an_interruptible_call_is_interrupted_until_it_ends():
    core = Core()
    actor = core.alive()
    (running,) = core.called(actor, interruptible=True)
    core.cancel(running)
    assert core.reclaimed(1) == [InterruptWorker(1, running.seq)]
    now, commands = core.tick()
    assert commands == [InterruptWorker(1, running.seq)]
    commands = core.answer(1, answer(running, Ended.INTERRUPTED), now=now)
    assert ReportCancel(1, CancelOutcome.INTERRUPTED) in commands
    assert actor.state is ActorStatus.ALIVE


def test_a_cancelled_method_of_an_asynchronous_actor_decides_its_outcome():
    core = Core()
    actor = core.alive(concurrency_groups=(9,), ordered=False, asynchronous=True)
    obeys, ignores, queued = core.called(actor, 3)
    for request_id, task in enumerate((obeys, ignores), 1):
        core.cancel(task, request_id)
        assert core.reclaimed(1) == [CancelCall(1, task.seq)]
    commands = core.answer(1, answer(obeys, Ended.INTERRUPTED), answer(ignores))
    assert failures(commands)[obeys].kind is FailureKind.CANCELLED
    assert values(commands) == [ignores]
    assert ReportCancel(1, CancelOutcome.INTERRUPTED) in commands
    assert ReportCancel(2, CancelOutcome.FINISHED_FIRST) in commands
    core.cancel(queued)
    commands = core.reclaimed(1, queued)
    assert commands[-1] == ReportCancel(1, CancelOutcome.NOT_STARTED)


def test_a_queued_call_never_runs_after_a_cancel():
    core = Core()
    actor = core.making()
    first, second = core.called(actor, 2)
    assert core.cancel(first)[-1] == ReportCancel(1, CancelOutcome.NOT_STARTED)
    assert sent(core.live(actor)) == [second]


def test_a_creation_cannot_be_cancelled():
    core = Core()
    actor = core.making()
    assert core.cancel(actor.creation) == [ReportCancel(1, CancelOutcome.FINISHED_FIRST)]
    core.live(actor)


def test_a_recursive_cancel_takes_calls_along_and_makes_no_actor_end():
    core = Core(3)
    actor = core.alive()
    parent = core.running()
    call = core.call(actor, parent=parent)
    other = core.actor(parent=parent)
    core.submit(call, other.creation)
    core.cancel(parent, recursive=True, force=True)
    core.reclaimed(1)
    assert other.creation.cancellation is None
    commands = run(core, actor, call)
    assert failures(commands)[call].kind is FailureKind.CANCELLED


def test_a_cancelled_call_whose_worker_dies_is_cancelled():
    core = Core()
    actor = core.alive(max_restarts=1)
    (running,) = core.called(actor, max_retries=1)
    core.cancel(running)
    core.reclaimed(1)
    commands = core.crash(actor)
    assert failures(commands)[running].kind is FailureKind.CANCELLED
    assert ReportCancel(1, CancelOutcome.KILLED) in commands


# ---------------------------------------------------------------- lost results


def test_the_lost_result_of_a_call_is_made_again_if_it_may_be():
    core = Core()
    actor = core.alive()
    again, never = core.call(actor, max_retries=1), core.call(actor)
    core.submit(again, never)
    run(core, actor, again, never)
    assert actor.done == {0: 2}
    for task in (again, never):
        core(ResultLost(task))
    assert core(ResultWanted(again)) == [Revive(again)]
    assert actor.done == {0: 1}
    assert sent(core(Revived(again))) == [again]
    assert values(run(core, actor, again)) == [again]
    failed = failures(core(ResultWanted(never)))
    assert failed == {never: Failure(FailureKind.LOST, LOST_RETRIES_DISABLED)}
    assert actor.done == {0: 2}


def test_the_lost_result_of_a_call_of_a_dead_actor_is_gone():
    core = Core()
    actor = core.alive()
    (call,) = core.called(actor, max_retries=1)
    run(core, actor, call)
    core.kill(actor)
    core(ResultLost(call))
    core(ResultWanted(call))
    commands = core(Revived(call))
    assert failures(commands) == {call: Failure(FailureKind.ACTOR_DIED, actor.death)}


# ---------------------------------------------------------------- resources


def test_a_synchronous_actor_that_waits_gives_its_cpu_back_until_the_call_is_answered():
    core = Core()
    actor = core.alive(keeps_cpus=True)
    first, second = core.called(actor, 2)
    core(WorkerBlocked(1, first.seq))
    assert core.scheduler.available["CPU"] == UNIT
    core(WorkerUnblocked(1, first.seq))
    assert core.scheduler.available["CPU"] == 0
    core(WorkerBlocked(1, first.seq))
    run(core, actor, first)
    assert core.scheduler.available["CPU"] == 0
    assert core.scheduler.blocked_workers == 0
    core(WorkerUnblocked(1, first.seq))
    core(WorkerBlocked(1, second.seq))
    core.crash(actor)
    assert core.scheduler.blocked_workers == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"concurrency_groups": (2,), "ordered": False, "keeps_cpus": True}],
    ids=["default", "threaded"],
)
def test_other_actors_give_nothing_back_while_they_wait(options):
    core = Core()
    actor = core.alive(**options)
    free = dict(core.scheduler.available)
    (call,) = core.called(actor)
    assert core(WorkerBlocked(1, call.seq)) == []
    assert core.scheduler.available == free
    assert core.scheduler.blocked_workers == 0


def test_a_creation_that_waits_gives_its_cpu_back():
    core = Core()
    actor = core.making()
    core(WorkerBlocked(1, actor.creation.seq))
    task = core.task()
    core.submit(task)
    assert sent(core.ready(2)) == [task]
    core.live(actor)
    assert core.scheduler.blocked_workers == 0


def test_nothing_is_saved_up_that_living_actors_keep():
    core = Core(2)
    core.alive(demand=ONE_CPU, keeps_cpus=True)
    wide = core.task(demand=TWO_CPUS)
    core.submit(wide)
    core.submit(core.task(demand=HALF_CPU))
    core.timer(STARVATION_SECONDS + 0.1)
    small = core.task(demand=ONE_CPU)
    core.submit(small, now=STARVATION_SECONDS + 0.2)
    commands = core(WorkerReady(2), STARVATION_SECONDS + 0.3)
    assert wide not in sent(commands)
    assert len(sent(commands)) == 1
    assert not core.scheduler.resources.reserved


def test_a_creation_is_saved_for_as_a_task_is():
    core = Core(2)
    first = core.running(function="long")
    second = core.running(function="long")
    wide = core.actor(demand=TWO_CPUS, keeps_cpus=True)
    core.submit(wide.creation, *core.tasks(3, function="long"))
    core.answer(1, answer(first), now=STARVATION_SECONDS + 0.1)
    core.answer(1, *(answer(t) for t in core.scheduler.pool.workers[1].in_flight.values()), now=2.5)
    commands = core.answer(2, answer(second), now=2.6)
    assert sent(commands) == [wide.creation]


def test_an_actor_that_names_no_cpu_gives_it_back_and_keeps_the_rest():
    core = Core(cpus=1, GPU=1)
    core.alive(demand=ONE_GPU)
    assert core.scheduler.available == {"CPU": UNIT, "GPU": 0}


def test_an_actor_that_works_long_is_asked_for_answers_and_keeps_its_calls():
    core = Core(2)
    actor = core.alive()
    core.called(actor, 2)
    core.submit(core.task())
    now, commands = core.tick()
    assert now == STALL_SECONDS
    assert commands == [PollWorker(1)]
    assert actor.worker in core.scheduler.prefetch.stalled
    assert ReclaimAttempts(1) not in core.timer(1.0)


# ---------------------------------------------------------------- placement groups


def placed(core: Core, *bundles: tuple[tuple[str, int], ...]) -> Group:
    group = Group("g", bundles or (ONE_CPU,))
    cls = core.scheduler.reservation_class(group)
    core.count += 1
    core.submit(task_of(core.count, "group", core.function("g"), cls))
    return group


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("state", list(ActorStatus)[:4])
def test_actors_of_a_removed_group_end_with_it(keeps, state):
    core = Core(2)
    group = placed(core)
    options = {"group": group, "keeps_cpus": keeps, "max_restarts": -1}
    if state is ActorStatus.DEPENDENCIES_UNREADY:
        actor = core.actor(core.running(), **options)
        core.submit(actor.creation)
    elif state is ActorStatus.PENDING_CREATION:
        actor = core.making(**options)
    else:
        actor = core.alive(**options)
    if state is ActorStatus.RESTARTING:
        core.crash(actor)
    assert actor.state is state
    worker = actor.worker
    commands = core(GroupRemoved(group))
    assert is_dead(actor, DeathCause.GROUP_REMOVED)
    if worker is not None:
        assert KillWorker(worker.id) in commands
        core.exited(worker.id)
    assert core.scheduler.total == {"CPU": 2 * UNIT}
    assert all(t.actor is not actor for t in core.scheduler.unfinished_tasks())


# ---------------------------------------------------------------- shutdown


def test_a_shutdown_without_drain_kills_what_lives():
    core = Core(2)
    actor, pending = core.alive(max_restarts=-1), core.actor()
    running = core.called(actor)[0]
    core.submit(pending.creation)
    commands = core(ShutdownRequested())
    assert failures(commands)[running].kind is FailureKind.SHUTDOWN
    assert failures(commands)[pending.creation].kind is FailureKind.SHUTDOWN
    assert is_dead(actor, DeathCause.SHUTDOWN)
    assert is_dead(pending, DeathCause.SHUTDOWN)
    core.exited(1)
    assert core.exited(2)[-1] == Stopped()


@pytest.mark.parametrize("claimed", [False, True])
def test_a_shutdown_kills_what_is_being_made(claimed):
    core = Core()
    actor = core.making(max_restarts=-1)
    if not claimed:
        core.release(actor)
    commands = core(ShutdownRequested())
    assert actor.creation in failures(commands)
    assert actor.state is ActorStatus.DEAD
    assert core.exited(1)[-1] == Stopped()


def test_while_draining_calls_run_and_an_actor_comes_back_but_not_after_the_end():
    core = Core()
    actor = core.alive(max_restarts=-1)
    first, second = core.called(actor, 2, max_retries=1)
    assert core(ShutdownRequested(drain=5.0)) == []
    core.crash(actor, second)
    assert sent(core.live(actor)) == [first, second]
    commands = run(core, actor, first, second)
    assert commands[-2:] == [ReportActor(actor), StopWorker(2)]
    assert is_dead(actor, DeathCause.SHUTDOWN)
    assert core.exited(2) == [Stopped()]
    assert actor.num_restarts == 1


def test_after_the_drain_running_calls_are_told_and_a_crash_is_the_end():
    core = Core()
    actor = core.alive(max_restarts=-1)
    calls = core.called(actor, 2, max_retries=1)
    core(ShutdownRequested(drain=1.0, grace=1.0))
    assert ReclaimAttempts(1) in core.timer(1.0)
    commands = core.reclaimed(1, calls[1], now=1.0)
    assert CancelCall(1, calls[0].seq) in commands
    assert failures(commands)[calls[1]].kind is FailureKind.SHUTDOWN
    commands = core.exited(1, now=1.1)
    assert is_dead(actor, DeathCause.SHUTDOWN)
    assert failures(commands)[calls[0]].kind is FailureKind.SHUTDOWN


def test_after_the_drain_a_creation_may_end_but_a_crash_of_it_is_the_end():
    core = Core()
    actor = core.making(max_restarts=-1)
    core(ShutdownRequested(drain=1.0, grace=1.0))
    core.timer(1.0)
    assert core.reclaimed(1, now=1.0) == []
    commands = core.exited(1, now=1.1)
    assert is_dead(actor, DeathCause.SHUTDOWN)
    assert failures(commands)[actor.creation].kind is FailureKind.SHUTDOWN


def test_a_creation_that_lost_its_argument_after_the_drain_is_not_made():
    core = Core()
    upstream = core.running()
    core.answer(1, answer(upstream))
    actor = core.actor(upstream)
    core.submit(actor.creation)
    core(ShutdownRequested(drain=1.0, grace=1.0))
    core.timer(1.0)
    core.reclaimed(1, now=1.0)
    commands = core.answer(1, answer(actor.creation, Ended.ARGUMENT_LOST), now=1.1)
    assert failures(commands)[actor.creation].kind is FailureKind.SHUTDOWN
    assert is_dead(actor, DeathCause.SHUTDOWN)


# ---------------------------------------------------------------- counts


def test_calls_are_counted_by_caller_when_they_have_an_outcome():
    core = Core()
    actor = core.alive()
    mine = core.called(actor, 3, caller=1)
    theirs = core.called(actor, 2, caller=2)
    run(core, actor, mine[0])
    run(core, actor, mine[1], ended=Ended.RAISED)
    core.cancel(mine[2])
    core.reclaimed(1, mine[2], *theirs)
    run(core, actor, theirs[0])
    assert actor.done == {1: 3, 2: 1}


def test_actors_say_which_they_are():
    assert repr(Core().alive()) == "<Actor 'a1' ALIVE>"
