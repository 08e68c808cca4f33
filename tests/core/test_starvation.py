"""Whoever waits for what others keep for life is told of once, with those who keep it."""

from __future__ import annotations

import pytest

from aioray.core.commands import Holding, ReportStarved
from aioray.core.devices import UNIT
from aioray.core.events import TimerFired, WorkerBlocked
from aioray.core.starvation import STARVED_SECONDS

from .support import ONE_CPU, ONE_GPU, TWO_CPUS, answer
from .test_placement import Site

CPU = ("CPU", UNIT)
GPU: tuple[tuple[str, int], ...] = (("GPU", UNIT),)
NET = (("net", UNIT),)
LATER = 1.0  # seconds, after which what is to starve is submitted


def reports(commands):
    return [command for command in commands if isinstance(command, ReportStarved)]


def told(core, until=1_000.0):
    """What is reported by all timers up to then."""
    found = []
    while core.deadline is not None and core.deadline <= until:
        now, commands = core.tick()
        found += [(now, command) for command in reports(commands)]
    return found


def holding(actor, amounts=ONE_CPU):
    return Holding(actor, amounts)


@pytest.mark.parametrize(
    ("demand", "kept"), [(ONE_CPU, ONE_CPU), (GPU, GPU), (NET, NET), (ONE_GPU, ONE_GPU)]
)
@pytest.mark.parametrize("waiting", ["task", "creation", "group"])
def test_what_waits_for_what_an_actor_holds_is_told_once(demand, kept, waiting):
    core = Site(1, GPU=1, net=1)
    holder = core.alive(demand=demand, keeps_cpus=True)
    if waiting == "group":
        group, _ = core.request(demand, now=LATER)
        head = group.classes[0].queue[0]
    else:
        head = core.task(demand=demand) if waiting == "task" else core.actor(demand=demand).creation
        core.submit(head, now=LATER)
    expected = ReportStarved(((head, 1),), (holding(holder, kept),))
    assert told(core) == [(LATER + STARVED_SECONDS, expected)]
    assert reports(core.submit(now=2_000.0)) == told(core, 3_000.0) == []


@pytest.mark.parametrize("waiting", ["task", "creation", "group"])
def test_what_waits_for_what_a_group_holds_is_told_once(waiting):
    core = Site(2)
    holder, _ = core.request((CPU,), (CPU,))
    if waiting == "group":
        group, _ = core.request((CPU,), now=LATER)
        head = group.classes[0].queue[0]
    else:
        head = core.task() if waiting == "task" else core.actor().creation
        core.submit(head, now=LATER)
    expected = ReportStarved(((head, 1),), (Holding(holder, TWO_CPUS),))
    assert told(core) == [(LATER + STARVED_SECONDS, expected)]


def test_task_in_a_group_waits_for_the_actors_in_it():
    core = Site(2)
    group, _ = core.request((CPU,))
    holder = core.actor(group=group, keeps_cpus=True)
    core.run(holder.creation)
    core.end(holder.creation)
    cls = core.scheduler.scheduling_class(ONE_CPU, (), group=group)
    task = core.task()
    task.scheduling_class = cls
    core.submit(task)
    expected = ReportStarved(((task, 1),), (holding(holder),))
    assert told(core) == [(STARVED_SECONDS, expected)]


def test_report_counts_by_name_and_shows_all_who_hold_what_is_short():
    core = Site(2, net=1)
    first, second = (core.alive(keeps_cpus=True) for _ in range(2))
    core.alive(demand=NET)  # of that there is enough
    tasks = core.tasks(3)
    tasks[2].name = tasks[0].name
    core.submit(*tasks)
    expected = ReportStarved(((tasks[0], 2), (tasks[1], 1)), (holding(first), holding(second)))
    assert told(core) == [(STARVED_SECONDS, expected)]


def test_other_holders_are_told_anew():
    core = Site(1)
    holder = core.alive(keeps_cpus=True)
    heir = core.actor(keeps_cpus=True)
    task = core.task()
    core.submit(heir.creation)
    core.submit(task)
    assert [c.holdings for _, c in told(core)] == [(holding(holder),)] * 2  # one of each class
    core.kill(holder, now=20.0)
    core.start(core.exited(holder.worker.id, now=20.0), 20.0)
    core.answer(heir.worker.id, answer(heir.creation), now=20.0)
    expected = ReportStarved(((task, 1),), (holding(heir),))
    assert told(core) == [(20.0, expected)]


def test_nothing_is_told_while_a_task_runs_whose_end_makes_room():
    core = Site(2)
    core.alive(keeps_cpus=True)
    running = core.task()
    core.run(running)
    waiting = core.task(demand=ONE_CPU, environment="other")
    core.submit(waiting)
    assert told(core) == []
    assert waiting.worker is None
    core.end(running, now=2_000.0)
    assert waiting.worker is not None


def test_nothing_is_told_of_what_was_served_in_time():
    core = Site(1)
    holder = core.alive(keeps_cpus=True)
    task = core.task()
    core.submit(task)
    core.kill(holder)
    core.start(core.exited(holder.worker.id))
    assert task.worker is not None
    assert told(core) == []


def test_actor_that_is_to_leave_is_no_holder():
    core = Site(1)
    holder = core.alive(keeps_cpus=True)
    core.submit(core.task())
    core.release(holder, now=STARVED_SECONDS - 0.001)
    assert told(core, STARVED_SECONDS) == []


def test_actor_without_cpus_starves_nobody():
    core = Site(1)
    core.alive()
    task = core.task()
    core.run(task)
    core.submit(core.task(environment="other"))
    assert told(core) == []


def test_child_that_needs_what_its_parent_keeps_is_told():
    """A task that waits gives back its CPUs only."""
    core = Site(1, GPU=1)
    parent = core.task(demand=ONE_GPU)
    core.run(parent)
    child = core.task(demand=GPU, parent=parent)
    core.submit(child)
    assert told(core) == []  # it might end on its own
    core(WorkerBlocked(parent.worker.id, parent.seq), 2_000.0)
    expected = ReportStarved(((child, 1),), (Holding(parent, GPU),))
    assert [command for _, command in told(core)] == [expected]


def test_child_waits_in_silence_while_another_task_can_go_on():
    core = Site(1, GPU=1)
    parent = core.task(demand=ONE_GPU)
    core.run(parent)
    core(WorkerBlocked(parent.worker.id, parent.seq))
    core.run(core.task())
    core.submit(core.task(demand=GPU, parent=parent))
    assert told(core) == []


def test_child_waits_in_silence_for_a_backoff():
    core = Site(1, GPU=1)
    parent, other = core.task(demand=ONE_GPU), core.task()
    core.run(parent)
    core(WorkerBlocked(parent.worker.id, parent.seq))
    core.run(other)
    core.start(core.exited(other.worker.id))
    core.submit(core.task(demand=GPU, parent=parent))
    assert told(core, STARVED_SECONDS) == []


def test_second_class_is_told_in_its_own_time():
    core = Site(1, GPU=1)
    core.alive(demand=ONE_GPU, keeps_cpus=True)
    core.submit(core.task())
    core.submit(core.task(demand=GPU), now=LATER)
    assert [at for at, _ in told(core)] == [STARVED_SECONDS, LATER + STARVED_SECONDS]


def test_no_timer_is_set_where_nothing_is_held_for_life():
    core = Site(1)
    core.run(core.task())
    core.submit(core.task(environment="other"))
    assert core.deadline is None


def test_looks_are_far_apart_however_much_happens():
    core = Site(2)
    core.alive(keeps_cpus=True)
    core.run(core.task())
    core.submit(core.task(demand=TWO_CPUS))
    looks = set()
    for at in range(100):
        core.submit(core.task(environment="other"), now=float(at))
        if core.deadline is not None and core.deadline <= at:
            core(TimerFired(), float(at))
            looks.add(at)
    assert len(looks) <= 100 / STARVED_SECONDS + 1
