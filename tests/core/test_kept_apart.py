"""Workers are kept apart by the GPUs that they have been shown: a library looks for them once."""

from __future__ import annotations

import pytest

from aioray.core import pool as pool_module
from aioray.core.commands import (
    ReclaimAttempts,
    ResolveFailure,
    SendAttempts,
    StartWorker,
    StopWorker,
)
from aioray.core.devices import UNIT
from aioray.core.events import WorkerBlocked, WorkerStartFailed
from aioray.core.outcomes import Failure, FailureKind
from aioray.core.starts import BROKEN_SECONDS

from .support import ONE_CPU, SHORT, Core, answer
from .test_nesting import child_of
from .test_placement import Site, gpus


def served_by(core, *tasks):
    """Run these one after the other, and say by which workers."""
    workers = []
    for task in tasks:
        core.run(task)
        workers.append(task.worker.id)
        core.end(task)
    return workers


def test_process_that_has_run_a_cpu_task_is_not_given_a_gpu_nor_the_other_way_round():
    core = Site(1, GPU=1)
    plain, on_gpu = core.tasks(2), core.tasks(2, demand=gpus(1))
    tasks = [plain[0], on_gpu[0], plain[1], on_gpu[1]]
    assert served_by(core, *tasks) == [1, 2, 1, 2]


def test_process_serves_only_tasks_that_are_given_the_same_gpus():
    core = Site(4, GPU=2)
    first, second, both = (core.task(demand=gpus(n)) for n in (1, 1, 2))
    core.run(first, second)
    assert [first.worker.devices, second.worker.devices] == [("0",), ("1",)]
    workers = [first.worker.id, second.worker.id]
    core.end(first)
    core.end(second)
    assert served_by(core, both) == [3]
    again = core.tasks(2, demand=gpus(1))
    core.run(*again)
    assert [task.worker.id for task in again] == workers


def test_fractions_of_one_gpu_may_share_a_process_one_after_the_other():
    core = Site(4, GPU=1)
    tasks = [core.task(demand=gpus(amount)) for amount in (0.5, 0.3, 1)]
    assert served_by(core, *tasks) == [1, 1, 1]


def test_process_that_has_run_nothing_serves_any_task():
    core = Site(2, GPU=1)
    core.submit(core.task(), core.task())
    core.cancel(core.scheduler.unfinished_tasks()[0])
    core.cancel(core.scheduler.unfinished_tasks()[0], 2)
    core.ready(1, 2)  # both have come up, and there is nothing to do
    assert set(served_by(core, core.task(), core.task(demand=gpus(1)))) == {1, 2}


def test_process_that_has_shown_the_same_goes_before_one_that_has_run_nothing():
    core = Site(2, GPU=1)
    task = core.task()
    core.submit(task, core.task(demand=gpus(1)), core.task())
    core.ready(1)
    core.cancel(core.scheduler.unfinished_tasks()[-1])
    core.cancel(core.scheduler.unfinished_tasks()[-1], 2)
    core.end(task)
    core.ready(2)
    assert served_by(core, core.task(), core.task()) == [1, 1]


def test_actor_with_a_gpu_gets_a_process_that_was_shown_none_before():
    core = Site(1, GPU=1)
    served_by(core, core.task())
    actor = core.actor(demand=gpus(1))
    core.run(actor.creation)
    assert actor.worker.id == 2
    assert actor.worker.devices == ("0",)


def test_nested_task_with_a_gpu_gets_a_process_of_its_own():
    core = Site(1, GPU=1)
    served_by(core, *core.tasks(1))
    parent = core.task()
    core.run(parent)
    core(WorkerBlocked(1, parent.seq))
    child = child_of(core, parent, demand=gpus(1))
    core.run(child)
    assert child.worker.id == 2


def test_another_attempt_is_given_a_process_that_was_shown_its_gpu():
    core = Site(2, GPU=1)
    task = core.task(demand=gpus(1), max_retries=3)
    core.run(task, core.task())
    core.start(core.exited(task.worker.id))
    assert task.attempt == 1
    assert task.worker.shown == ("0",)
    assert task.worker.id == 3


def test_bundles_with_different_gpus_share_no_process():
    core = Site(4, GPU=2)
    group, _ = core.request(gpus(1, 1), gpus(1, 1))
    tasks = [core.inside(group, gpus(1), bundle) for bundle in (0, 1, 0, 1)]
    assert served_by(core, *tasks) == [1, 2, 1, 2]
    outside = core.task()
    assert served_by(core, outside) == [3]


def test_task_of_a_group_without_a_gpu_shares_a_process_with_those_outside():
    core = Site(2, GPU=1)
    group, _ = core.request(gpus(1, 1))
    assert served_by(core, core.task(), core.inside(group, ONE_CPU)) == [1, 1]


def test_idle_process_of_another_kind_makes_room_when_there_may_be_no_more(monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_WORKERS", 1)
    core = Site(1, GPU=1)
    served_by(core, core.task())
    on_gpu = core.task(demand=gpus(1))
    assert core.submit(on_gpu) == [StopWorker(1)]
    assert core.exited(1) == [StartWorker(2, ())]
    assert core.ready(2) == [SendAttempts(2, [on_gpu])]


@pytest.mark.parametrize("broken", [False, True])
def test_processes_of_another_kind_are_no_hope_for_what_gets_none(broken):
    """Bug: a task waited for ever for workers that could not start, as others were there."""
    core = Core(2, GPU=1)
    plain = core.running()
    on_gpu = core.task(demand=gpus(1))
    core.submit(on_gpu)
    now, commands = 0.0, []
    for worker_id in range(2, 12):
        now += 2 * BROKEN_SECONDS
        commands = core(WorkerStartFailed(worker_id, "why", environment_failed=broken), now)
        if commands:
            break
        commands = core.timer(core.deadline)
    kind = FailureKind.ENVIRONMENT if broken else FailureKind.WORKER_STARTUP
    assert commands == [ResolveFailure(on_gpu, Failure(kind, "why"))]
    assert plain.worker is not None


def test_what_is_stuck_is_not_taken_back_for_a_process_that_could_not_run_it():
    core = Core(2, GPU=1)
    core.answer(1, answer(core.running(), duration=SHORT))
    tasks = core.tasks(3)
    core.submit(*tasks)
    core.running(demand=gpus(1), function="slow")
    on_gpu = core.scheduler.unfinished_tasks()[-1]
    core.answer(on_gpu.worker.id, answer(on_gpu), now=0.001)
    # The GPU's process is idle, and of no use: what is stuck is for one that has to start first.
    now, commands = core.tick()
    assert ReclaimAttempts(1) in commands
    assert core.reclaimed(1, *tasks[1:], now=now) == [StartWorker(3, ())]


def test_without_gpus_every_process_serves_every_task():
    core = Site(1, net=1)
    core.run(core.task(demand=(("net", UNIT),)))
    (task,) = core.scheduler.unfinished_tasks()
    core.end(task)
    assert served_by(core, core.task(), core.task(demand=())) == [1, 1]
