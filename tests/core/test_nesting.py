"""What tasks submit, and tasks that wait for it: ranks, CPUs given back, cancels that go down."""

from __future__ import annotations

import weakref

import pytest

from aioray.core import starts as starts_module
from aioray.core.commands import (
    InterruptWorker,
    ReclaimAttempts,
    ReportCancel,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
    StartWorker,
)
from aioray.core.devices import UNIT
from aioray.core.dispatch import STARVATION_SECONDS
from aioray.core.events import ShutdownRequested, WorkerBlocked, WorkerUnblocked
from aioray.core.outcomes import CancelOutcome, Failure, FailureKind
from aioray.core.states import TaskStatus

from .support import ONE_GPU, SHORT, Core, answer

CANCELLED = Failure(FailureKind.CANCELLED)


def child_of(core: Core, parent, *dependencies, **options):
    task = core.task(*dependencies, parent=parent, **options)
    cls = task.scheduling_class
    depth = parent.scheduling_class.depth + 1
    task.scheduling_class = core.scheduler.scheduling_class(cls.demand, cls.environment, depth)
    return task


def test_blocked_worker_gives_its_cpu_to_its_child():
    core = Core(1)
    parent = core.running()
    child = child_of(core, parent)
    assert core.submit(child) == []
    assert core(WorkerBlocked(1, parent.seq)) == [StartWorker(2, ())]
    assert core.scheduler.available == {"CPU": UNIT}
    assert core.ready(2) == [SendAttempts(2, [child])]
    assert core.scheduler.available == {"CPU": 0}


def test_worker_goes_on_at_once_and_the_next_cpu_freed_pays_for_it():
    core = Core(1)
    parent = core.running()
    core(WorkerBlocked(1, parent.seq))
    other = core.running()
    waiting = core.task()
    core.submit(waiting)
    assert core(WorkerUnblocked(1, parent.seq)) == []
    assert core.scheduler.available == {"CPU": 0}
    assert core.scheduler.oversubscribed == {"CPU": UNIT}
    assert core.answer(2, answer(other)) == [ResolveValues([(other, "value")])]
    assert core.scheduler.available == core.scheduler.oversubscribed == {"CPU": 0}
    assert core.answer(1, answer(parent))[1:] == [SendAttempts(1, [waiting])]


def test_worker_takes_what_is_free_and_is_owed_the_rest():
    core = Core(2)
    parent = core.running(demand=(("CPU", 2 * UNIT),))
    core(WorkerBlocked(1, parent.seq))
    core.running()
    core(WorkerUnblocked(1, parent.seq))
    assert core.scheduler.available == {"CPU": 0}
    assert core.scheduler.oversubscribed == {"CPU": UNIT}
    core.answer(1, answer(parent))
    assert core.scheduler.available == {"CPU": UNIT}
    assert core.scheduler.oversubscribed == {"CPU": 0}


def test_blocked_worker_keeps_everything_but_its_cpus():
    core = Core(1, GPU=1)
    parent = core.running(demand=ONE_GPU)
    core(WorkerBlocked(1, parent.seq))
    assert core.scheduler.available == {"CPU": UNIT, "GPU": 0}


def test_task_without_cpus_gives_nothing_back():
    core = Core(1)
    parent = core.running(demand=())
    core(WorkerBlocked(1, parent.seq))
    core(WorkerUnblocked(1, parent.seq))
    assert core.scheduler.available == {"CPU": UNIT}


def test_what_was_sent_ahead_to_a_worker_that_blocks_is_taken_back():
    core = Core(1)
    core.answer(1, answer(core.running(), duration=SHORT))
    tasks = core.tasks(3)
    assert core.submit(*tasks) == [SendAttempts(1, tasks)]
    assert core(WorkerBlocked(1, tasks[0].seq)) == [ReclaimAttempts(1)]
    assert core.reclaimed(1, *tasks[1:]) == [StartWorker(2, ())]
    core.ready(2)
    assert {task.worker.id for task in tasks[1:]} == {2}


def test_nothing_more_is_sent_to_a_blocked_worker():
    core = Core(2)
    core.answer(1, answer(core.running(), duration=SHORT))
    parent = core.task()
    assert core.submit(parent) == [SendAttempts(1, [parent])]
    core(WorkerBlocked(1, parent.seq))
    assert core.submit(*core.tasks(3)) == [StartWorker(2, ()), StartWorker(3, ())]


def test_news_of_another_attempt_than_the_one_that_runs_is_ignored():
    core = Core(1)
    parent = core.running()
    core(WorkerBlocked(1, parent.seq + 1))
    core(WorkerUnblocked(1, parent.seq))
    core(WorkerBlocked(9, parent.seq))
    core(WorkerUnblocked(9, parent.seq))
    assert core.scheduler.available == {"CPU": 0}
    core(WorkerBlocked(1, parent.seq))
    core(WorkerBlocked(1, parent.seq))
    assert core.scheduler.available == {"CPU": UNIT}
    core(WorkerUnblocked(1, parent.seq + 1))
    assert core.scheduler.available == {"CPU": UNIT}


def test_task_that_ends_while_it_is_thought_to_be_blocked_leaks_nothing():
    core = Core(1)
    parent = core.running()
    core(WorkerBlocked(1, parent.seq))
    core.answer(1, answer(parent))
    assert core.scheduler.available == {"CPU": UNIT}
    assert core.scheduler.blocked_workers == 0


def test_children_go_before_what_was_submitted_after_their_parent():
    core = Core(1)
    parent = core.running()
    core.submit(*core.tasks(3, function="slow"))
    child = child_of(core, parent)
    core.submit(child)
    core(WorkerBlocked(1, parent.seq))
    assert core.ready(2) == [SendAttempts(2, [child])]


def test_task_that_has_ended_is_not_kept_by_what_it_has_submitted():
    core = Core(2)
    parent = core.running()
    child = child_of(core, parent)
    core.submit(child)
    core.ready(2)
    core.answer(1, answer(parent))
    key, there = parent.task_key, weakref.ref(parent)
    del parent
    assert there() is None
    assert (child.parent, child.parent_key) == (None, key)
    assert core.answer(2, answer(child)) == [ResolveValues([(child, "value")])]


def test_recursive_cancel_takes_the_descendants_along_and_those_to_come():
    core = Core(2)
    parent = core.running()
    child = child_of(core, parent)
    core.submit(child)
    core.ready(2)
    grandchild = child_of(core, child)
    core.submit(grandchild)
    assert core.cancel(parent, recursive=True) == [
        ReclaimAttempts(1),
        ReclaimAttempts(2),
        ResolveFailure(grandchild, CANCELLED),
    ]
    assert core.reclaimed(1) == [InterruptWorker(1, parent.seq)]
    assert core.reclaimed(2) == [InterruptWorker(2, child.seq)]
    for late in (child_of(core, parent), child_of(core, child)):
        assert core.submit(late) == [ResolveFailure(late, CANCELLED)]
        after = child_of(core, late)
        assert core.submit(after) == [ResolveFailure(after, CANCELLED)]


def test_cancel_that_is_not_recursive_leaves_the_children_alone():
    core = Core(2)
    parent = core.running()
    child = child_of(core, parent)
    core.submit(child)
    assert core.cancel(parent) == [ReclaimAttempts(1)]
    late = child_of(core, parent)
    core.submit(late)
    core.ready(2)
    assert child.worker is not None
    assert [child.cancellation, late.cancellation] == [None, None]


def test_recursive_cancel_of_a_finished_task_does_nothing_to_its_children():
    core = Core(2)
    parent = core.running()
    child = child_of(core, parent)
    core.submit(child)
    core.answer(1, answer(parent))
    assert core.cancel(parent, recursive=True) == [ReportCancel(1, CancelOutcome.FINISHED_FIRST)]
    assert child.cancellation is None


def test_child_that_fails_with_its_sibling_is_not_failed_again():
    core = Core(1)
    parent = core.running()
    first = child_of(core, parent)
    second = child_of(core, parent, first)
    core.submit(first, second)
    assert core.cancel(parent, recursive=True) == [
        ReclaimAttempts(1),
        ResolveFailure(first, CANCELLED),
        ResolveFailure(second, Failure(FailureKind.DEPENDENCY, upstream=first)),
    ]
    assert second.state is TaskStatus.FAILED


def test_recursion_without_end_fails_instead_of_filling_the_machine(monkeypatch):
    monkeypatch.setattr(starts_module, "MAX_BLOCKED", 2)
    core = Core(1)
    parent = core.running()
    core(WorkerBlocked(1, parent.seq))
    child = child_of(core, parent)
    core.submit(child)
    core.ready(2)
    core(WorkerBlocked(2, child.seq))
    grandchild = child_of(core, child)
    failure = Failure(FailureKind.TOO_MANY_BLOCKED)
    assert core.submit(grandchild) == [ResolveFailure(grandchild, failure)]


def test_of_one_family_the_deeper_goes_first():
    core = Core(1)
    parent = core.running()
    child = child_of(core, parent)
    core.submit(child)
    grandchild = child_of(core, child)
    core.submit(grandchild)
    assert core.answer(1, answer(parent))[1:] == [SendAttempts(1, [grandchild])]
    assert core.answer(1, answer(grandchild))[1:] == [SendAttempts(1, [child])]


@pytest.mark.parametrize(("own", "first"), [(0.0, "child"), (1.0, "other"), (3.0, "child")])
def test_child_has_the_priority_of_its_parent_unless_it_has_one_of_its_own(own, first):
    core = Core(1)
    parent = core.running(priority=2)
    other = core.task(priority=1.5)
    child = child_of(core, parent, priority=own)
    assert child.priority == (own or 2)
    core.submit(other)
    core.submit(child)
    assert core.answer(1, answer(parent))[1:] == [
        SendAttempts(1, [child if first == "child" else other])
    ]


def test_child_has_waited_as_long_as_its_parent():
    core = Core(1)
    parent = core.running()
    urgent = core.task(priority=1)  # worth ten seconds
    core.submit(urgent, now=11.0)
    child = child_of(core, parent)
    core.submit(child, now=12.0)
    assert core.answer(1, answer(parent), now=13.0)[1:] == [SendAttempts(1, [child])]


def test_thread_of_an_actor_submits_in_the_name_of_the_creation_and_at_its_own_time():
    core = Core(2)
    actor = core.alive()
    assert core.scheduler.submitter(actor.worker.id, 0) is actor.creation
    parent = core.running()
    assert core.scheduler.submitter(parent.worker.id, 0) is None
    assert core.scheduler.submitter(parent.worker.id, parent.seq) is parent
    assert core.scheduler.submitter(99, 0) is None
    waiting = core.task()
    core.submit(waiting, now=1.0)
    child = core.task(parent=actor.creation)
    core.submit(child, now=2.0)
    assert core.answer(parent.worker.id, answer(parent), now=3.0)[1:] == [
        SendAttempts(parent.sent_to, [waiting])
    ]


def test_nothing_is_saved_up_that_needs_the_end_of_a_task_that_waits_for_others():
    core = Core(2, GPU=1)
    parent = core.running(demand=(("CPU", UNIT), ("GPU", UNIT)))
    large = core.task(demand=(("CPU", 2 * UNIT), ("GPU", UNIT)), priority=1)
    core.submit(large)
    now = STARVATION_SECONDS + 0.1
    assert core.submit(core.task(), now=now) == []  # what is free is saved for the large one
    core(WorkerBlocked(1, parent.seq), now)
    assert core.scheduler.available == {"CPU": 2 * UNIT, "GPU": 0}
    child = child_of(core, parent)
    core.submit(child, now=now)
    assert SendAttempts(2, [child]) in core.ready(2, now=now)


def test_what_a_task_needs_to_finish_is_still_taken_while_draining():
    core = Core(1)
    parent = core.running()
    core(ShutdownRequested(drain=5.0))
    child, stranger = child_of(core, parent), core.task()
    assert core.submit(child, stranger) == [ResolveFailure(stranger, Failure(FailureKind.SHUTDOWN))]
    core(WorkerBlocked(1, parent.seq))
    assert core.ready(2) == [SendAttempts(2, [child])]
    core.timer(5.0)  # the drain is over
    late = child_of(core, parent)
    assert core.submit(late, now=5.1) == [ResolveFailure(late, Failure(FailureKind.SHUTDOWN))]


def test_children_of_what_has_finished_are_not_taken_while_draining():
    core = Core(2)
    parent, other = core.running(), core.running()
    core(ShutdownRequested(drain=5.0))
    core.answer(1, answer(parent))
    late = child_of(core, parent)
    assert core.submit(late) == [ResolveFailure(late, Failure(FailureKind.SHUTDOWN))]
    assert other.worker is not None
