"""Each part of the core by itself, with nothing above it: see `parts`."""

from __future__ import annotations

import pytest

from aioray.core.commands import (
    CancelCall,
    DiscardWorker,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    ReportActor,
    ReportCancel,
    ReportInfeasible,
    ReportRetry,
    ReportStarved,
    ResolveFailure,
    ResolveValues,
    Revive,
    SendAttempts,
    StartWorker,
    Stopped,
    StopWorker,
)
from aioray.core.devices import UNIT
from aioray.core.events import (
    ActorKilled,
    ActorReleased,
    AnswersReceived,
    AttemptsNotSent,
    AttemptsReclaimed,
    AttemptWaits,
    CancelRequested,
    GroupRemoved,
    ResultLost,
    ResultWanted,
    Revived,
    ShutdownRequested,
    TasksSubmitted,
    WorkerBlocked,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
    WorkerUnblocked,
)
from aioray.core.facts import (
    BackoffEnded,
    CreationFailed,
    CreationWaits,
    DrainEnded,
    GraceEnded,
    InterruptUnanswered,
    PauseEnded,
    ProgressOverdue,
    ShutdownGraceEnded,
    StarvationLookDue,
    StopOverdue,
    SurplusLookDue,
)
from aioray.core.functions import CallTraits
from aioray.core.groups import Group
from aioray.core.model import STOP_SECONDS
from aioray.core.outcomes import (
    GROUP_IS_REMOVED,
    CancelOutcome,
    DeathCause,
    Ended,
    Failure,
    FailureKind,
)
from aioray.core.pool import IDLE_SECONDS
from aioray.core.prefetch import MAX_IN_FLIGHT, STALL_SECONDS
from aioray.core.retries import RetryPolicy
from aioray.core.starts import BROKEN_SECONDS
from aioray.core.starvation import STARVED_SECONDS
from aioray.core.states import (
    ActorStatus,
    CancelStatus,
    GroupStatus,
    Phase,
    TaskStatus,
    WorkerStatus,
)
from aioray.core.turn import Timers

from .parts import ORDER, Parts
from .support import HALF_CPU, ONE_CPU, ONE_GPU, SHORT, TWO_CPUS, answer

PENDING = TaskStatus.PENDING_NODE_ASSIGNMENT
GPU = (("GPU", UNIT),)


@pytest.mark.parametrize("name", ORDER)
def test_part_is_built_with_those_below_it_only(name):
    parts = Parts()
    getattr(parts, name)
    later = list(ORDER)[list(ORDER).index(name) + 1 :]
    assert not set(later) & set(vars(parts))


# ---------------------------------------------------------------- timers


def test_timers_are_told_in_their_order_the_older_first():
    timers = Timers()
    for when, fact in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        timers.set(when, fact)
    assert timers.next() == 1.0
    assert [timer.fact for timer in timers] == ["first", "second", "late"]
    assert list(timers.due(1.5)) == ["first", "second"]
    assert timers.next() == 2.0


@pytest.mark.parametrize("index", [0, 1, 2])
def test_cancelled_timer_is_neither_listed_nor_told(index):
    timers = Timers()
    planned = [timers.set(float(when), when) for when in range(3)]
    timers.cancel(planned[index])
    left = [when for when in range(3) if when != index]
    assert [timer.fact for timer in timers] == left
    assert timers.next() == left[0]
    assert list(timers.due(9.0)) == left
    assert timers.next() is None


def test_what_is_planned_meanwhile_may_be_due_at_once():
    timers = Timers()
    timers.set(1.0, 1)
    told = []
    for fact in timers.due(2.0):
        told.append(fact)
        if fact < 3:
            timers.set(1.0, fact + 1)
    assert told == [1, 2, 3]


# ---------------------------------------------------------------- resources


def test_lease_takes_and_gives_back_what_its_class_asks_for():
    parts = Parts(2)
    cls, worker = parts.cls(HALF_CPU), parts.worker()
    assert parts.resources.free_leases(cls) == 4
    parts.resources.acquire(worker, cls)
    assert (worker.held, parts.resources.free_leases(cls), cls.leases) == (HALF_CPU, 3, 1)
    parts.resources.release(worker)
    assert parts.resources.available == parts.resources.total
    assert (worker.held, cls.leases) == ((), 0)
    parts.resources.release(worker)  # nothing to give back


def test_lent_cpus_are_owed_if_they_are_in_use_when_their_owner_goes_on():
    resources = (parts := Parts(1)).resources
    first, second = parts.worker(), parts.worker()
    resources.acquire(first, parts.cls())
    resources.lend_cpus(first)
    resources.acquire(second, parts.cls())
    resources.take_cpus_back(first)
    assert (resources.available["CPU"], resources.oversubscribed["CPU"]) == (0, UNIT)
    resources.release(second)
    assert (resources.available["CPU"], resources.oversubscribed["CPU"]) == (0, 0)
    resources.release(first)
    assert resources.available["CPU"] == UNIT


def test_what_is_saved_for_one_class_is_not_free_for_others():
    parts = Parts(2)
    resources = parts.resources
    resources.acquire(parts.worker(), parts.cls())
    resources.reserve_for(parts.cls(TWO_CPUS), parts.pool.workers.values())
    assert resources.free_leases(parts.cls()) == 0
    resources.stop_reserving()
    assert resources.free_leases(parts.cls()) == 1


def test_actor_keeps_what_it_has_but_its_cpus():
    parts = Parts(1, GPU=1)
    worker, cls = parts.worker(), parts.cls(ONE_GPU)
    parts.resources.acquire(worker, cls)
    parts.resources.keep_only(worker, cpus=False)
    assert (worker.held, worker.settled, cls.leases) == (GPU, True, 0)
    assert parts.resources.available == {"CPU": UNIT, "GPU": 0}
    assert parts.resources.short_beside(cls, (), [worker]) == {"GPU"}
    assert parts.resources.short_beside(cls, (), []) == set()


def test_shortage_and_what_never_fits():
    parts = Parts(1)
    parts.resources.acquire(parts.worker(), parts.cls())
    assert parts.resources.shortage(parts.cls()) == {"CPU"}
    assert not parts.resources.never_fits(parts.cls())
    assert parts.resources.never_fits(parts.cls(TWO_CPUS))


# ---------------------------------------------------------------- backlog


def test_backlog_knows_one_class_for_what_is_alike():
    backlog = Parts().backlog
    assert backlog.scheduling_class(ONE_CPU, ()) is backlog.scheduling_class(ONE_CPU, ())
    assert backlog.scheduling_class(ONE_CPU, (), 1) is not backlog.scheduling_class(ONE_CPU, ())


def test_classes_wait_in_the_order_of_their_heads():
    parts = Parts()
    one, two = parts.cls(ONE_CPU), parts.cls(HALF_CPU)
    first, second, third = parts.task(two), parts.task(one), parts.task(two)
    for task in (second, third):
        parts.backlog.put(task)
    assert list(parts.backlog.in_order()) == [one, two]
    parts.backlog.put_first(first)
    assert list(parts.backlog.in_order()) == [two, one]
    assert parts.backlog.older_than(one) == [two]
    assert parts.backlog.demands() == [(one, 1), (two, 2)]
    parts.backlog.remove(second)
    assert list(parts.backlog.waiting) == [two]


def test_class_of_a_removed_group_is_forgotten_and_refuses():
    parts = Parts()
    group = Group("g", (ONE_CPU,))
    cls = parts.backlog.reservation_class(group)
    parts.backlog.forget(group)
    assert cls.forbidden is GROUP_IS_REMOVED
    assert parts.backlog.demands() == []


# ---------------------------------------------------------------- concurrency groups


def test_calls_behind_one_that_is_not_ready_wait_in_its_line():
    parts = Parts()
    actor = parts.actor()
    first, second = parts.task(actor.concurrency_groups[0]), parts.task(actor.concurrency_groups[0])
    for call in (first, second):
        parts.call_queues.submitted(call)
    parts.call_queues.waits(first)
    parts.call_queues.submitted(third := parts.task(actor.concurrency_groups[0]))
    parts.turn.story.move(third, PENDING)
    parts.call_queues.enqueue(third, front=False)
    assert not actor.concurrency_groups[0].queue
    parts.turn.story.move(first, PENDING)
    parts.call_queues.enqueue(first, front=False)
    assert list(actor.concurrency_groups[0].queue) == [first, third]
    assert list(parts.call_queues.take_calling()) == [actor]
    assert not list(parts.call_queues.take_calling())


def test_calls_of_other_callers_do_not_wait():
    parts = Parts()
    actor = parts.actor()
    late, other = (
        parts.task(actor.concurrency_groups[0], caller=1),
        parts.task(actor.concurrency_groups[0], caller=2),
    )
    parts.call_queues.submitted(late)
    parts.call_queues.waits(late)
    parts.turn.story.move(other, PENDING)
    parts.call_queues.enqueue(other, front=False)
    assert list(actor.concurrency_groups[0].queue) == [other]
    parts.call_queues.drop(late)
    assert (actor.done, actor.lines) == ({1: 1}, {})


# ---------------------------------------------------------------- table of tasks


def test_dependent_is_queued_when_its_argument_has_its_value():
    parts = Parts()
    first = parts.task()
    second = parts.task(dependencies=(first,))
    parts.table.submit(TasksSubmitted([first, second]), 1.0)
    assert (first.state, second.state) == (PENDING, TaskStatus.PENDING_ARGS_AVAIL)
    parts.backlog.remove(first)
    parts.turn.story.move(first, TaskStatus.SUBMITTED_TO_WORKER)
    results = []
    parts.table.finish(first, answer(first), results)
    assert results == [(first, "value")]
    assert (second.state, list(parts.table.unfinished)) == (PENDING, [second.number])


def test_failure_runs_down_to_all_that_depend_on_it():
    parts = Parts()
    first = parts.task()
    second = parts.task(dependencies=(first,))
    parts.table.submit(TasksSubmitted([first, second]), 1.0)
    failure = Failure(FailureKind.APPLICATION)
    parts.table.fail(first, failure)
    assert parts.ordered() == [
        ResolveFailure(first, failure),
        ResolveFailure(second, Failure(FailureKind.DEPENDENCY, upstream=first)),
    ]
    assert (parts.table.unfinished, parts.backlog.waiting) == ({}, {})


def test_lost_value_is_computed_again_when_it_is_wanted():
    parts = Parts()
    task = parts.running(max_retries=1)
    parts.table.finish(task, answer(task), [])
    parts.table.lose(ResultLost(task), 1.0)
    parts.table.want(ResultWanted(task), 1.0)
    assert (parts.ordered(), task.retries_left, task.attempt) == ([Revive(task)], 0, 1)
    parts.table.revive(Revived(task), 1.0)
    assert task.state is PENDING


def test_creation_tells_upward_that_it_waits_and_that_it_has_failed():
    parts = Parts()
    actor = parts.actor()
    parts.table.submit(TasksSubmitted([actor.creation]), 0.0)
    assert CreationWaits(actor) in parts.turn.facts
    failure = Failure(FailureKind.CANCELLED)
    parts.table.fail(actor.creation, failure)
    assert parts.turn.facts[-1] == CreationFailed(actor, failure)


def test_nothing_is_taken_when_the_engine_ends():
    parts = Parts()
    parts.turn.story.move(parts.turn.life, Phase.KILLING)
    task = parts.task()
    parts.table.submit(TasksSubmitted([task]), 0.0)
    assert parts.ordered() == [ResolveFailure(task, Failure(FailureKind.SHUTDOWN))]


# ---------------------------------------------------------------- pool


def test_idle_workers_beyond_those_that_are_kept_are_stopped():
    parts = Parts(1)
    first = parts.worker()
    parts.worker()
    assert parts.due(IDLE_SECONDS) == [SurplusLookDue()]
    parts.pool.stop_surplus(SurplusLookDue())
    assert parts.ordered() == [StopWorker(first.id)]
    assert first.state is WorkerStatus.STOPPING


def test_worker_that_does_not_stop_in_time_is_killed():
    parts = Parts(1)
    worker = parts.worker()
    parts.pool.stop_idle(worker, 0.0)
    assert parts.due(STOP_SECONDS) == [StopOverdue(worker)]
    parts.pool.insist(StopOverdue(worker))
    assert parts.ordered() == [StopWorker(worker.id), KillWorker(worker.id)]


def test_worker_that_stops_in_time_leaves_no_timer():
    parts = Parts(1)
    worker = parts.worker()
    parts.pool.stop_idle(worker, 0.0)
    assert [timer.fact for timer in parts.turn.timers] == [StopOverdue(worker)]
    assert parts.pool.remove(worker.id) is worker
    assert list(parts.turn.timers) == []


def test_last_call_of_max_calls_retires_a_worker_and_orders_its_successor():
    parts = Parts(1)
    worker, task = parts.worker(), parts.task(max_calls=1)
    parts.pool.count_call(worker, task)
    assert (worker.state, parts.ordered()) == (WorkerStatus.RETIRING, [StartWorker(2, ())])
    parts.pool.uncount_call(worker, task)
    assert worker.state is WorkerStatus.READY


def test_only_an_idle_worker_of_its_environment_could_take_a_class():
    parts = Parts(1)
    assert not parts.pool.has_idle(parts.cls())
    parts.worker()
    assert parts.pool.has_idle(parts.cls())
    assert not parts.pool.has_idle(parts.cls(environment="other"))


def test_dead_worker_is_idle_no_more_and_stands_for_a_start():
    parts = Parts(1)
    worker = parts.worker()
    parts.pool.take_death(WorkerDied(worker.id), 0.0)
    assert (worker.state, parts.pool.idle_count) == (WorkerStatus.DEAD, 0)
    assert parts.pool.starting == {(): 1}
    parts.pool.remove(worker.id)
    assert parts.pool.starting == {(): 0}


def test_worker_that_answers_for_what_it_has_not_is_discarded():
    parts = Parts(1)
    worker = parts.worker()
    assert not parts.pool.expects(worker.id, 7)
    assert parts.pool.is_lying(worker)
    assert parts.ordered() == [DiscardWorker(worker.id)]


# ---------------------------------------------------------------- starts


def test_as_many_workers_are_ordered_as_are_wanted_and_not_on_their_way():
    parts = Parts(2)
    task = parts.queued()
    parts.starts.order(task.scheduling_class, 1, 0.0)
    parts.starts.order(task.scheduling_class, 1, 0.0)
    assert parts.ordered() == [StartWorker(1, ())]
    parts.starts.take_ready(WorkerReady(1), 0.0)
    assert (parts.pool.idle_count, parts.turn.dirty) == (1, True)


def test_environment_that_fails_fails_what_waits_for_it_and_is_left_alone_for_a_while():
    parts = Parts(1)
    task = parts.queued()
    parts.starts.order(task.scheduling_class, 1, 0.0)
    parts.starts.take_start_failure(WorkerStartFailed(1, "why", environment_failed=True), 0.0)
    failure = Failure(FailureKind.ENVIRONMENT, "why")
    assert parts.ordered() == [StartWorker(1, ()), ResolveFailure(task, failure)]
    later = parts.queued()
    parts.starts.order(later.scheduling_class, 1, 0.5)
    assert parts.ordered() == [ResolveFailure(later, failure)]
    assert parts.due(BROKEN_SECONDS) == [PauseEnded()]
    parts.turn.dirty = False
    parts.starts.end_pause(PauseEnded())
    assert parts.turn.dirty


def test_start_that_fails_is_tried_again_after_a_pause():
    parts = Parts(1)
    task = parts.queued()
    parts.starts.order(task.scheduling_class, 1, 0.0)
    parts.starts.take_start_failure(WorkerStartFailed(1, "why"), 0.0)
    assert [timer.fact for timer in parts.turn.timers] == [PauseEnded()]
    assert task.state is PENDING


# ---------------------------------------------------------------- attempts


def test_error_that_may_be_retried_is_tried_again_at_once_or_later():
    for policy, state in ((None, PENDING), (RetryPolicy(1.0, jitter=False), TaskStatus.BACKOFF)):
        parts = Parts(1)
        task = parts.running(max_retries=1, policy=policy)
        parts.attempts.judge(task, task.worker, answer(task, Ended.RAISED_RETRYABLE), 1.0)
        (report,) = parts.ordered()
        assert isinstance(report, ReportRetry)
        assert (task.state, task.retries_left, task.attempt) == (state, 0, 1)
        for fact in parts.due(1_000.0):
            assert fact == BackoffEnded(task)
            parts.attempts.end_backoff(fact)
        assert task.state is PENDING


def test_error_without_a_try_left_is_the_outcome():
    parts = Parts(1)
    task = parts.running(max_retries=0)
    parts.attempts.judge(task, task.worker, answer(task, Ended.RAISED_RETRYABLE), 1.0)
    (resolved,) = parts.ordered()
    assert resolved.failure.kind is FailureKind.APPLICATION
    assert [record.number for record in resolved.failure.attempts] == [0]


def test_crash_is_an_attempt_as_well():
    parts = Parts(1)
    task = parts.running(max_retries=0)
    parts.attempts.crash(task, task.worker, WorkerExited(1, "report"), 1.0)
    (resolved,) = parts.ordered()
    assert (resolved.failure.kind, resolved.failure.detail) == (FailureKind.WORKER_DIED, "report")


# ---------------------------------------------------------------- prefetch


def test_short_functions_are_sent_ahead_and_others_are_not():
    parts = Parts()
    assert parts.prefetch.target(parts.function) == 1
    parts.function.mean_seconds = SHORT
    assert parts.prefetch.target(parts.function) == MAX_IN_FLIGHT
    parts.function.mean_seconds = 1.0
    assert parts.prefetch.target(parts.function) == 1


def test_worker_that_stalls_is_asked_and_gives_back_what_another_could_run():
    parts = Parts(2)
    worker = parts.worker()
    parts.running(worker)
    parts.running(worker)
    parts.prefetch.watch(worker)
    (look,) = parts.due(STALL_SECONDS)
    assert look == ProgressOverdue(worker, STALL_SECONDS)
    parts.prefetch.check_progress(look)
    assert parts.ordered() == [PollWorker(worker.id), ReclaimAttempts(worker.id)]
    assert list(worker.reclaims) == [parts.attempts.last_seq]


# ---------------------------------------------------------------- cancellation


def test_task_that_waits_is_cancelled_at_once():
    parts = Parts()
    task = parts.queued()
    parts.cancels.cancel(CancelRequested(task, 1), 0.0)
    assert parts.ordered() == [
        ResolveFailure(task, Failure(FailureKind.CANCELLED)),
        ReportCancel(1, CancelOutcome.NOT_STARTED),
    ]
    assert task.cancellation.state is CancelStatus.ENDED


def test_ladder_is_climbed_from_reclaim_to_interrupt_to_kill():
    parts = Parts()
    task = parts.running()
    worker = task.worker
    parts.cancels.cancel(CancelRequested(task, 1, grace=1.0), 0.0)
    assert parts.ordered() == [ReclaimAttempts(worker.id)]
    parts.cancels.escalate(worker, task.seq, 0.0)
    assert parts.ordered() == [InterruptWorker(worker.id, task.seq)]
    assert task.cancellation.state is CancelStatus.INTERRUPTED
    repeat, grace = parts.due(1.0)
    assert (repeat, grace) == (InterruptUnanswered(task, worker), GraceEnded(task))
    parts.cancels.repeat(repeat)
    assert parts.ordered() == [InterruptWorker(worker.id, task.seq)]
    parts.cancels.end_grace(grace)
    parts.cancels.escalate(worker, task.seq, 1.0)
    assert parts.ordered() == [ReclaimAttempts(worker.id), KillWorker(worker.id)]
    assert task.cancellation.state is CancelStatus.KILLED


# ---------------------------------------------------------------- waits


def test_call_for_which_its_own_actor_waits_fails():
    parts = Parts(2)
    actor = parts.alive()
    running, later = parts.call(actor), parts.call(actor)
    parts.attempts.begin(running, actor.worker, 0.0)
    parts.attempts.begin(later, actor.worker, 0.0)
    for call in (running, later):
        actor.concurrency_groups[0].queue.remove(call)
        actor.concurrency_groups[0].leases += 1
    parts.waits.wait(AttemptWaits(actor.worker.id, running.seq, [later]), 0.0)
    command, resolved = parts.ordered()
    assert command == CancelCall(actor.worker.id, later.seq)
    assert resolved.failure.kind is FailureKind.CIRCLE
    parts.waits.forget([running])
    assert parts.waits.blocked == {}


# ---------------------------------------------------------------- supervision


def test_actor_lives_when_its_constructor_has_returned():
    parts = Parts()
    actor = parts.alive()
    assert list(parts.actors.living) == [actor]
    assert parts.pool.housed == 1
    assert parts.resources.available == parts.resources.total  # it has named no CPUs


@pytest.mark.parametrize(
    ("end", "cause", "order"),
    [
        (ActorReleased, DeathCause.OUT_OF_SCOPE, StopWorker(1)),
        (lambda actor: ActorKilled(actor, True), DeathCause.KILLED, KillWorker(1)),
    ],
)
def test_actor_that_nobody_wants_is_ended_and_its_calls_fail(end, cause, order):
    parts = Parts()
    actor = parts.alive()
    call = parts.call(actor)
    handle = parts.actors.released if end is ActorReleased else parts.actors.killed
    handle(end(actor), 1.0)
    report, resolved, stop = parts.ordered()
    assert (report, stop) == (ReportActor(actor), order)
    assert (resolved.task, resolved.failure.kind) == (call, FailureKind.ACTOR_DIED)
    assert (actor.state, actor.death.cause) == (ActorStatus.DEAD, cause)
    assert parts.actors.living == {}


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_actor_whose_worker_dies_starts_again_or_is_no_more(max_restarts):
    parts = Parts()
    actor = parts.alive(max_restarts=max_restarts)
    worker = parts.pool.remove(actor.worker.id)
    parts.resources.release(worker)
    parts.actors.exited(worker, WorkerExited(worker.id, "report"), (), 1.0)
    if max_restarts:
        assert (actor.state, actor.creation.state) == (ActorStatus.RESTARTING, PENDING)
    else:
        assert (actor.state, actor.death.detail) == (ActorStatus.DEAD, "report")
    assert parts.pool.housed == 0


# ---------------------------------------------------------------- calls


def test_calls_are_sent_to_an_actor_that_lives():
    parts = Parts()
    actor = parts.alive()
    first, second = parts.call(actor), parts.call(actor)
    parts.calls.dispatch(0.0)
    assert parts.ordered() == [SendAttempts(1, [first, second])]
    answers = [answer(first), answer(second)]
    parts.calls.answers(actor.worker, AnswersReceived(1, answers), 1.0)
    assert parts.ordered() == [ResolveValues([(first, "value"), (second, "value")])]
    assert actor.concurrency_groups[0].leases == 0


def test_no_more_calls_are_sent_than_may_run_at_once():
    parts = Parts()
    actor = parts.alive(concurrency_groups=(2,), ordered=False)
    calls = [parts.call(actor) for _ in range(3)]
    parts.calls.dispatch(0.0)
    assert parts.ordered() == [SendAttempts(1, calls[:2])]


def test_nothing_follows_a_call_that_may_be_tried_again():
    parts = Parts()
    actor = parts.alive()
    first = parts.call(actor, traits=CallTraits(interruptible=False, retries_errors=True))
    parts.call(actor)
    parts.calls.dispatch(0.0)
    assert parts.ordered() == [SendAttempts(1, [first])]


# ---------------------------------------------------------------- placement


def reserved(parts, *bundles):
    group = Group("g", bundles)
    cls = parts.backlog.reservation_class(group)
    return group, parts.queued(cls, payload="placed")


def test_group_is_placed_where_there_is_room_for_all_of_it():
    parts = Parts(2)
    group, task = reserved(parts, ONE_CPU, ONE_CPU)
    assert parts.placement.reserve(task.scheduling_class, group)
    assert parts.ordered() == [ResolveValues([(task, "placed")])]
    assert group.state is GroupStatus.CREATED
    assert parts.resources.available["CPU"] == 0
    parts.placement.remove(GroupRemoved(group), 1.0)
    assert parts.resources.available == parts.resources.total == {"CPU": 2 * UNIT}


def test_group_takes_nothing_where_it_does_not_fit():
    parts = Parts(1)
    group, task = reserved(parts, ONE_CPU, ONE_CPU)
    assert not parts.placement.reserve(task.scheduling_class, group)
    assert (parts.ordered(), task.state) == ([], PENDING)
    parts.placement.remove(GroupRemoved(group), 1.0)
    assert parts.ordered() == [ResolveFailure(task, GROUP_IS_REMOVED)]


# ---------------------------------------------------------------- starvation


def test_starved_class_is_told_by_one_look():
    parts = Parts(1)
    actor = parts.alive()
    parts.resources.acquire(actor.worker, parts.cls())
    actor.worker.settled = True
    task = parts.queued()
    task.scheduling_class.passed_over_since = 0.0
    parts.starvation.watch(0.0)
    parts.starvation.watch(0.0)
    (look,) = parts.due(STARVED_SECONDS)
    assert look == StarvationLookDue()
    parts.starvation.report(look)
    (report,) = parts.ordered()
    assert isinstance(report, ReportStarved)
    assert [holding.holder for holding in report.holdings] == [actor]


# ---------------------------------------------------------------- dispatch


def test_dispatcher_orders_workers_sends_and_lets_go():
    parts = Parts(1)
    task = parts.queued()
    parts.dispatcher.run(0.0)
    assert parts.ordered() == [StartWorker(1, ())]
    parts.starts.take_ready(WorkerReady(1), 0.0)
    parts.dispatcher.run(0.0)
    assert (parts.ordered(), parts.turn.dirty) == ([SendAttempts(1, [task])], False)
    worker = task.worker
    worker.in_flight.clear()
    parts.dispatcher.go_on(worker, 1.0)
    assert parts.pool.idle_count == 1
    assert parts.resources.available == parts.resources.total


def test_dispatcher_tells_of_what_never_fits():
    parts = Parts(1)
    task = parts.queued(parts.cls(TWO_CPUS))
    parts.dispatcher.run(0.0)
    assert parts.ordered() == [ReportInfeasible(task)]


def test_dispatcher_lends_the_cpus_of_a_task_that_waits():
    parts = Parts(1)
    task = parts.running()
    parts.dispatcher.block(WorkerBlocked(1, task.seq), 0.0)
    assert parts.resources.available["CPU"] == UNIT
    parts.dispatcher.unblock(WorkerUnblocked(1, task.seq), 0.0)
    assert parts.resources.available["CPU"] == 0


# ---------------------------------------------------------------- news of workers


def test_answers_become_values_and_the_worker_is_idle_again():
    parts = Parts(1)
    task = parts.running()
    parts.news.answer(AnswersReceived(1, [answer(task, payload=42)]), 1.0)
    assert parts.ordered() == [ResolveValues([(task, 42)])]
    assert parts.pool.idle_count == 1


def test_attempts_that_were_not_sent_fail():
    parts = Parts(1)
    task = parts.running(max_retries=0)
    parts.news.refuse(AttemptsNotSent(1, [answer(task, Ended.RAISED)]), 1.0)
    assert [command.task for command in parts.ordered()] == [task]


def test_calls_that_were_not_sent_fail_too():
    parts = Parts(1)
    actor = parts.alive()
    call = parts.call(actor)
    parts.calls.dispatch(0.0)
    parts.ordered()
    parts.news.refuse(AttemptsNotSent(1, [answer(call, Ended.RAISED)]), 1.0)
    assert [command.task for command in parts.ordered()] == [call]
    assert parts.turn.dirty


def test_attempts_that_come_back_are_queued_again():
    parts = Parts(1)
    task = parts.running()
    parts.prefetch.reclaim(task.worker)
    parts.news.reclaim(AttemptsReclaimed(1, [task.seq]), 1.0)
    assert (task.state, task.worker, parts.pool.idle_count) == (PENDING, None, 1)


def test_end_of_a_worker_harms_what_it_ran():
    parts = Parts(1)
    task = parts.running(max_retries=0)
    parts.pool.take_death(WorkerDied(1), 1.0)
    parts.news.bury(WorkerExited(1, "report"), 1.0)
    (resolved,) = parts.ordered()
    assert (resolved.task, resolved.failure.kind) == (task, FailureKind.WORKER_DIED)
    assert parts.pool.workers == {}


# ---------------------------------------------------------------- shutdown


def test_shutdown_drains_interrupts_kills_and_says_so():
    parts = Parts(1)
    task = parts.running()
    life = parts.turn.life
    parts.shutdown.request(ShutdownRequested(drain=1.0, grace=2.0), 0.0)
    assert (life.state, parts.ordered()) == (Phase.DRAINING, [])
    assert parts.due(1.0) == [DrainEnded()]
    parts.shutdown.end_drain(DrainEnded())
    assert (life.state, parts.ordered()) == (Phase.INTERRUPTING, [ReclaimAttempts(1)])
    assert parts.due(3.0) == [ShutdownGraceEnded()]
    parts.shutdown.end_grace(ShutdownGraceEnded())
    kill, resolved = parts.ordered()
    assert (life.state, kill, resolved.task) == (Phase.KILLING, KillWorker(1), task)
    parts.shutdown.end_workers(3.0)
    assert parts.ordered() == []
    parts.pool.remove(1)
    parts.shutdown.end_workers(3.0)
    assert (life.state, parts.ordered()) == (Phase.STOPPED, [Stopped()])
