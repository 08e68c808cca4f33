"""Workers that have had their time: their successors come first, and nothing waits for a start."""

from __future__ import annotations

import random

import pytest

from aioray.core import pool as pool_module
from aioray.core.commands import SendAttempts, StartWorker, StopWorker
from aioray.core.devices import UNIT
from aioray.core.events import (
    ShutdownRequested,
    WorkerExited,
    WorkerOutgrown,
    WorkerReady,
    WorkerStartFailed,
)
from aioray.core.scheduler import Scheduler
from aioray.core.starts import AGED_SECONDS
from aioray.core.states import WorkerStatus

from .support import SHORT, Core, answer

MAX_AGE = 60.0


@pytest.fixture
def core() -> Core:
    """One CPU, and an idle worker: number 1."""
    core = Core()
    task = core.running()
    core.answer(1, answer(task))
    return core


def aging(cpus: int = 1) -> Core:
    core = Core(cpus)
    core.scheduler = Scheduler({"CPU": cpus * UNIT}, random.Random(0), max_worker_age=MAX_AGE)
    return core


def states(core: Core) -> dict[int, WorkerStatus]:
    return {worker.id: worker.state for worker in core.scheduler.pool.workers.values()}


def test_an_idle_worker_that_has_grown_leaves_when_its_successor_is_ready(core: Core) -> None:
    assert core(WorkerOutgrown(1)) == [StartWorker(2, ())]
    assert states(core) == {1: WorkerStatus.READY, 2: WorkerStatus.STARTING}
    assert core.ready(2) == [StopWorker(1)]
    task = core.task()
    assert core.submit(task) == [SendAttempts(2, [task])]


def test_a_worker_goes_on_until_its_successor_is_ready(core: Core) -> None:
    core(WorkerOutgrown(1))
    first, second, third = core.tasks(3)
    assert core.submit(first) == [SendAttempts(1, [first])]
    core.answer(1, answer(first))
    assert core.submit(second) == [SendAttempts(1, [second])]
    assert core.ready(2) == []
    assert states(core) == {1: WorkerStatus.RETIRING, 2: WorkerStatus.READY}
    core.submit(third)
    commands = core.answer(1, answer(second))
    assert commands[1:] == [StopWorker(1), SendAttempts(2, [third])]


def test_what_was_sent_ahead_is_run_by_the_worker_that_leaves(core: Core) -> None:
    core.function("f", SHORT)
    first, second = core.tasks(2)
    core.submit(first, second)
    core(WorkerOutgrown(1))
    assert core.ready(2) == []
    later = core.task()
    assert core.submit(later) == []  # the one CPU is taken
    assert core.answer(1, answer(first))[1:] == []
    assert core.answer(1, answer(second))[1:] == [StopWorker(1), SendAttempts(2, [later])]


def test_a_worker_that_says_it_again_has_one_successor(core: Core) -> None:
    core(WorkerOutgrown(1))
    assert core(WorkerOutgrown(1)) == []
    core.ready(2)
    assert core(WorkerOutgrown(1)) == []
    assert core(WorkerOutgrown(99)) == []


@pytest.mark.parametrize("dies", [False, True])
def test_a_successor_that_does_not_come_is_ordered_again_when_that_may_help(
    core: Core, dies: bool
) -> None:
    core(WorkerOutgrown(1))
    if dies:
        core.exited(2)
    else:
        core(WorkerStartFailed(2, "no room"))
    assert core(WorkerOutgrown(1), 0.01) == []  # for a while nothing is started
    assert states(core) == {1: WorkerStatus.READY}
    assert core(WorkerOutgrown(1), 5.0) == [StartWorker(3, ())]
    assert core.ready(3, now=5.0) == [StopWorker(1)]


def test_a_worker_that_dies_before_its_successor_is_ready_is_not_stopped(core: Core) -> None:
    core(WorkerOutgrown(1))
    core.exited(1)
    assert core.ready(2) == []
    assert states(core) == {2: WorkerStatus.READY}


def test_no_successor_is_ordered_beyond_the_limit_of_workers(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_WORKERS", 1)
    assert core(WorkerOutgrown(1)) == []


def test_no_successor_is_ordered_when_everything_ends(core: Core) -> None:
    core.submit(core.task())
    core(ShutdownRequested(10.0))
    assert core(WorkerOutgrown(1)) == []


def test_the_worker_of_an_actor_is_not_replaced(core: Core) -> None:
    core.alive()
    assert core(WorkerOutgrown(1)) == []


def test_an_actor_that_moves_in_meanwhile_stays() -> None:
    core = Core(2)
    task = core.running()
    core.answer(1, answer(task))
    core(WorkerOutgrown(1))
    actor = core.alive()
    assert actor.worker is not None
    assert actor.worker.id == 1
    assert core.ready(2) == []
    assert states(core) == {1: WorkerStatus.READY, 2: WorkerStatus.READY}


def test_a_worker_is_replaced_when_it_is_old() -> None:
    core = aging()
    task = core.task()
    core.submit(task)
    core.ready(1, now=5.0)
    assert core.deadline == 5.0 + MAX_AGE
    assert core.tick() == (65.0, [StartWorker(2, ())])
    assert core.ready(2, now=66.0) == []
    assert core.answer(1, answer(task), now=67.0)[1:] == [StopWorker(1)]
    core.exited(1, now=67.0)
    _, commands = core.tick()  # the old one is gone
    assert commands == []
    assert core.tick() == (66.0 + MAX_AGE, [StartWorker(3, ())])


def test_an_old_worker_whose_successor_does_not_come_is_looked_at_again() -> None:
    core = aging()
    task = core.task()
    core.submit(task)
    core.ready(1)
    core.tick()
    core(WorkerStartFailed(2, "no room"), MAX_AGE)
    core.tick()  # its pause
    assert core.tick() == (MAX_AGE + AGED_SECONDS, [StartWorker(3, ())])


def test_an_old_worker_of_an_actor_is_left_alone() -> None:
    core = aging()
    actor = core.alive()
    core.ready(1)
    assert actor.worker is not None
    assert core.tick() == (MAX_AGE, [])
    assert core.tick() == (2 * MAX_AGE, [])


def test_workers_without_a_limit_set_no_timer(core: Core) -> None:
    assert core.deadline is None
    assert core(WorkerReady(1)) == []
    core(WorkerExited(1, "died"))
    assert core.deadline is None
