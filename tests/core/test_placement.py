"""GPUs and placement groups in the scheduler: who gets what, who waits, and for how long."""

from __future__ import annotations

import pytest

from aioray.core.commands import (
    KillWorker,
    ReportCancel,
    ReportInfeasible,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
    StartWorker,
)
from aioray.core.devices import UNIT
from aioray.core.events import GroupRemoved, WorkerBlocked, WorkerExited, WorkerUnblocked
from aioray.core.groups import Group
from aioray.core.outcomes import CancelOutcome, Failure, FailureKind
from aioray.core.states import GroupStatus, TaskStatus

from .support import ONE_CPU, Core, answer, record, task_of

REMOVED = Failure(FailureKind.GROUP_REMOVED)
CPU = ("CPU", UNIT)


def gpus(amount, cpus=0):
    return tuple(
        (name, int(number * UNIT)) for name, number in (("CPU", cpus), ("GPU", amount)) if number
    )


class Site(Core):
    """A scheduler whose workers come up at once, with GPUs and groups."""

    def start(self, commands, now=0.0):
        """Let the workers come up that these commands order: all commands."""
        commands = list(commands)
        for command in commands:
            if isinstance(command, StartWorker):
                commands += self.ready(command.worker_id, now=now)
        return commands

    def run(self, *tasks, now=0.0):
        """Submit tasks, and let workers come up for them."""
        return self.start(self.submit(*tasks, now=now), now)

    def end(self, task, now=0.0):
        """A task gives its value; workers come up for what follows."""
        return self.start(self.answer(task.worker.id, answer(task), now=now), now)

    def request(self, *bundles, now=0.0, nodes_wanted=1):
        """A placement group, and the commands that follow."""
        self.count += 1
        group = Group(f"g{self.count}", bundles, nodes_wanted)
        task = task_of(
            self.count,
            "group",
            self.function("group"),
            self.scheduler.reservation_class(group),
            payload=group,
        )
        return group, self.run(task, now=now)

    def inside(self, group, demand=ONE_CPU, bundle=None, **options):
        """A task that draws on a group."""
        task = self.task(demand=demand, **options)
        task.scheduling_class = self.scheduler.scheduling_class(
            demand, (), group=group, bundle=bundle
        )
        return task

    def free(self, name="CPU"):
        return self.scheduler.available[name] / UNIT


def is_placed(group, commands):
    """Whether the commands say so."""
    values = [each for c in commands if isinstance(c, ResolveValues) for each in c.results]
    assert (group.state is GroupStatus.CREATED) == any(value is group for _, value in values)
    return group.state is GroupStatus.CREATED


# ---------------------------------------------------------------- GPUs


def test_tasks_get_devices_and_give_them_back():
    core = Site(4, GPU=3)
    one, two, none = core.task(demand=gpus(1)), core.task(demand=gpus(2, 1)), core.task()
    core.run(one, two, none)
    assert one.worker.devices == ("0",)
    assert two.worker.devices == ("1", "2")
    assert none.worker.devices == ()
    worker = two.worker
    core.end(two)
    assert (worker.devices, worker.shares, core.free("GPU")) == ((), (), 2.0)
    again = core.task(demand=gpus(0.5))
    core.run(again)
    assert again.worker.devices == ("1",)


def test_fraction_waits_for_a_device_although_enough_is_free_in_total():
    core = Site(4, GPU=2)
    first, second = (core.task(demand=gpus(0.6)) for _ in range(2))
    third, small = core.task(demand=gpus(0.6)), core.task(demand=gpus(0.4))
    core.run(first, second, third, small)
    assert core.free("GPU") == pytest.approx(0.4)
    assert (third.state, small.state) == (
        TaskStatus.PENDING_NODE_ASSIGNMENT,
        TaskStatus.SUBMITTED_TO_WORKER,
    )
    assert small.worker.devices == ("0",)
    core.end(second)
    assert third.worker.devices == ("1",)


def test_devices_of_a_dead_worker_are_free_again():
    core = Site(1, GPU=1)
    task = core.task(demand=gpus(1), max_retries=0)
    core.run(task)
    core.exited(1)
    assert core.free("GPU") == 1.0
    other = core.task(demand=gpus(1))
    core.run(other)
    assert other.worker.devices == ("0",)


@pytest.mark.parametrize("amount", [1, 0.9])
def test_whole_device_is_not_withheld_for_ever_by_a_stream_of_fractions(amount):
    """Two devices, never both with room at once; then one is set aside until it has drained."""
    core = Site(8, GPU=2)
    running = [core.task(demand=gpus(0.5)) for _ in range(4)]
    core.run(*running)
    wanted = core.task(demand=gpus(amount))
    core.run(wanted, now=1.0)
    now = 1.0
    while wanted.worker is None:
        now += 0.5
        assert now < 6.0
        running.append(core.task(demand=gpus(0.5)))
        core.run(running[-1], now=now)
        ending = next(task for task in running if task.worker is not None)
        running.remove(ending)
        core.end(ending, now=now)
    assert len(wanted.worker.devices) == 1
    assert now >= 2.0, "others may go ahead for a while"


def test_group_of_gpus_is_placed_at_last_although_others_overtake_it():
    core = Site(8, GPU=2)
    running = [core.task(demand=gpus(0.5)) for _ in range(4)]
    core.run(*running)
    group, _ = core.request(gpus(1), gpus(0.5), now=1.0)
    now = 1.0
    while group.state is GroupStatus.PENDING:
        now += 0.5
        assert now < 8.0
        running.append(core.task(demand=gpus(0.5)))
        core.run(running[-1], now=now)
        ending = next(task for task in running if task.worker is not None)
        running.remove(ending)
        core.end(ending, now=now)
    assert [len(share) for share in group.shares] == [1, 1]


def test_more_gpus_than_there_are_is_reported():
    core = Site(4, GPU=1)
    task = core.task(demand=gpus(2))
    assert core.submit(task) == [ReportInfeasible(task)]


# ---------------------------------------------------------------- placement groups


def test_group_that_fits_is_placed_at_once_without_a_worker():
    core = Site(3)
    group, commands = core.request((CPU,), (CPU,))
    assert [type(command) for command in commands] == [ResolveValues]
    assert is_placed(group, commands)
    assert core.free() == 1.0


def test_group_is_placed_whole_or_not_at_all():
    core = Site(3)
    running = core.running()
    other = core.running()
    group, commands = core.request((CPU,), (CPU,))
    assert not is_placed(group, commands)
    assert core.free() == 1.0
    assert is_placed(group, core.end(running))
    core.end(other)
    assert core.free() == 1.0


@pytest.mark.parametrize("older", [True, False])
def test_group_waits_in_line_with_the_tasks(older):
    core = Site(1)
    running = core.running()
    task = core.task(environment=(("A", "1"),))
    if not older:
        core.submit(task, now=1.0)
    group, _ = core.request((CPU,), now=2.0)
    if older:
        core.submit(task, now=3.0)
    commands = core.submit() + core.answer(1, answer(running))  # its worker has to be started
    assert is_placed(group, commands) is older
    if not older:
        (start,) = [command for command in commands if isinstance(command, StartWorker)]
        core.ready(start.worker_id)
        assert task.worker is not None
        assert is_placed(group, core.end(task))


def test_task_may_depend_on_the_reservation():
    core = Site(2)
    running = core.running()
    group, _ = core.request((CPU,), (CPU,))
    reservation = group.classes[0].queue[0]
    dependent = core.task(reservation, demand=())
    core.submit(dependent)
    assert dependent.state is TaskStatus.PENDING_ARGS_AVAIL
    core.end(running)
    assert dependent.state is TaskStatus.SUBMITTED_TO_WORKER


def test_tasks_wait_for_their_group_and_draw_on_nothing_else():
    core = Site(2)
    running = core.running()
    group, _ = core.request((CPU,), (CPU,))
    task, idle = core.inside(group), core.inside(group, ())
    assert core.run(task, idle) == []
    core.end(running)
    assert task.state is idle.state is TaskStatus.SUBMITTED_TO_WORKER
    assert core.free() == 0.0
    core.end(task)
    assert core.free() == 0.0


def test_bundles_are_given_out_one_by_one():
    core = Site(4)
    group, _ = core.request((("CPU", 2 * UNIT),), (CPU,))
    second = [core.inside(group, bundle=1) for _ in range(2)]
    core.run(*second)
    assert [task.worker is None for task in second] == [False, True]
    wide = core.inside(group, (("CPU", 2 * UNIT),))
    core.run(wide)
    assert wide.worker is not None
    anywhere = core.inside(group)
    core.run(anywhere)
    assert anywhere.worker is None
    core.end(wide)
    assert anywhere.worker is not None


def test_demand_fits_a_bundle_and_not_their_sum():
    group = Group("key", ((CPU,), (CPU, ("GPU", UNIT))))
    first = (("CPU_group_0_key", UNIT), ("bundle_group_0_key", 10))
    second = (("CPU_group_1_key", UNIT), ("bundle_group_1_key", 10))
    assert group.demands((CPU,), None) == (first, second)
    assert group.demands((CPU,), 1) == (second,)
    assert group.demands((("CPU", 2 * UNIT),), None) == ()
    assert group.demands(gpus(1), 0) == ()
    assert len(group.demands(gpus(0.3, 0.5), None)) == 1
    assert group.demand == (("CPU", 2 * UNIT), ("GPU", UNIT))


def test_gpus_of_a_group_serve_its_tasks_only():
    core = Site(4, GPU=3)
    group, _ = core.request(gpus(1), gpus(0.5), gpus(0.5))
    assert group.shares == [(("0", UNIT),), (("1", UNIT // 2),), (("1", UNIT // 2),)]
    outside = core.task(demand=gpus(1))
    whole, half = core.inside(group, gpus(1)), core.inside(group, gpus(0.5), 2)
    anywhere = core.inside(group, gpus(0.5))
    core.run(outside, whole, half, anywhere)
    workers = [task.worker.devices for task in (outside, whole, half, anywhere)]
    assert workers == [("2",), ("0",), ("1",), ("1",)]
    more = core.inside(group, gpus(0.1))
    core.run(more)
    assert more.worker is None


def test_removed_group_fails_what_waits_and_kills_what_runs():
    core = Site(2)
    group, _ = core.request((CPU,))
    running = core.inside(group, max_retries=-1)
    core.run(running)
    worker = running.worker.id
    waiting, blocked = core.inside(group), core.task(running)
    core.run(waiting, blocked)
    commands = core(GroupRemoved(group), 1.0)
    assert commands == [ResolveFailure(waiting, REMOVED), KillWorker(worker)]
    assert core.free() == 1.0, "not before its last process is gone"
    failure = Failure(
        FailureKind.GROUP_REMOVED,
        attempts=(record(0, worker, FailureKind.GROUP_REMOVED, "died", duration=2.0),),
    )
    commands = core.exited(worker, now=2.0)
    assert ResolveFailure(running, failure) in commands
    assert not any(isinstance(command, ReportRetry) for command in commands)
    assert blocked.state is TaskStatus.FAILED
    assert core.free() == 2.0
    assert core.scheduler.total == {"CPU": 2 * UNIT}
    late = core.inside(group)
    assert core.submit(late, now=3.0) == [ResolveFailure(late, REMOVED)]
    assert core(GroupRemoved(group), 4.0) == []


def test_value_that_was_written_before_the_kill_stands():
    core = Site(1)
    group, _ = core.request((CPU,))
    task = core.inside(group)
    core.run(task)
    core(GroupRemoved(group))
    commands = core.answer(task.worker.id, answer(task))
    assert ResolveValues([(task, "value")]) in commands
    assert core.free() == 1.0


def test_attempts_that_a_killed_worker_had_not_claimed_fail_too():
    core = Site(1)
    core.function("f", 1e-6)
    group, _ = core.request((CPU,))
    first, second = tasks = [core.inside(group) for _ in range(2)]
    core.run(core.inside(group))
    running = next(iter(core.scheduler.pool.workers.values()))
    warm = next(iter(running.in_flight.values()))
    core.answer(running.id, answer(warm, duration=1e-6))
    commands = core.run(*tasks)
    assert SendAttempts(running.id, tasks) in commands
    core(GroupRemoved(group))
    core.reclaimed(running.id, second)
    assert second.state is TaskStatus.FAILED
    core(WorkerExited(running.id, "died"))
    assert first.state is TaskStatus.FAILED


def test_task_that_waits_for_its_retry_fails_with_its_group():
    core = Site(1)
    group, _ = core.request((CPU,))
    task = core.inside(group, max_retries=3)
    core.run(task)
    for _ in range(2):
        core.start(core.exited(task.worker.id))
    assert task.state is TaskStatus.BACKOFF
    core(GroupRemoved(group))
    assert task.state is TaskStatus.FAILED
    assert core.free() == 1.0


def test_group_that_waits_can_be_removed():
    core = Site(1)
    core.running()
    group, _ = core.request((CPU,))
    reservation = group.classes[0].queue[0]
    inside = core.inside(group)
    core.submit(inside)
    assert core(GroupRemoved(group)) == [
        ResolveFailure(reservation, REMOVED),
        ResolveFailure(inside, REMOVED),
    ]


def test_cancelling_a_reservation_does_nothing():
    core = Site(1)
    running = core.running()
    group, _ = core.request((CPU,))
    reservation = group.classes[0].queue[0]
    assert core.cancel(reservation) == [ReportCancel(1, CancelOutcome.FINISHED_FIRST)]
    assert is_placed(group, core.end(running))


@pytest.mark.parametrize(
    ("bundles", "nodes_wanted"),
    [
        (((CPU,), (CPU,)), 2),
        (((CPU,), (("CPU", 2 * UNIT),)), 1),
        (((("slot", 1),),), 1),
        ((gpus(0.6), gpus(0.6), gpus(0.6)), 1),
    ],
)
def test_group_that_can_never_be_placed_is_reported_and_holds_up_nobody(bundles, nodes_wanted):
    core = Site(2, GPU=2)
    group, commands = core.request(*bundles, nodes_wanted=nodes_wanted)
    reservation = group.classes[0].queue[0]
    assert commands == [ReportInfeasible(reservation)]
    inside = core.inside(group, ())
    assert core.submit(inside) == []
    task = core.task()
    core.run(task, now=10.0)
    assert task.worker is not None


def test_resources_are_saved_up_for_a_group_that_others_overtake():
    core = Site(2)
    running = [core.running(), core.running()]
    group, _ = core.request((CPU,), (CPU,), now=1.0)
    core.end(running.pop(), now=1.5)
    core.run(*(core.task() for _ in range(9)), now=1.6)
    core.end(running.pop(), now=3.0)
    assert core.free() == 1.0
    busy = [w for w in core.scheduler.pool.workers.values() if w.in_flight]
    (task,) = busy[0].in_flight.values()
    assert is_placed(group, core.end(task, now=3.1))


def test_nothing_is_saved_up_for_what_does_not_fit_beside_the_groups():
    core = Site(2)
    group, _ = core.request((CPU,))
    wide = core.task(demand=(("CPU", 2 * UNIT),))
    core.run(wide, now=1.0)
    other, _ = core.request((CPU,), (CPU,), now=1.0)
    task = core.task()
    core.run(task, now=10.0)
    assert task.worker is not None
    core.end(task, now=11.0)
    core.start(core(GroupRemoved(group), 12.0), 12.0)
    assert wide.worker is not None
    assert is_placed(other, core.end(wide, now=13.0))


def test_task_with_nowhere_to_run_fails_instead_of_waiting():
    core = Site(1)
    cls = core.scheduler.scheduling_class(ONE_CPU, (), refusal="no such node")
    assert core.scheduler.scheduling_class(ONE_CPU, (), refusal="no such node") is cls
    assert core.scheduler.scheduling_class(ONE_CPU, ()) is not cls
    task = core.task()
    task.scheduling_class = cls
    failure = Failure(FailureKind.UNSCHEDULABLE, "no such node")
    assert core.submit(task) == [ResolveFailure(task, failure)]


# ---------------------------------------------------------------- tasks that submit tasks


def family(core, *bundles):
    """A group, a task that runs in it, and a child of that, which waits in it."""
    group, _ = core.request(*bundles)
    parent = core.inside(group)
    core.run(parent)
    child = core.inside(group, parent=parent)
    core.run(child)
    assert child.worker is None
    return group, parent, child


def test_task_that_waits_gives_the_cpu_of_its_bundle_to_its_child():
    core = Site(2)
    group, parent, child = family(core, ONE_CPU)
    outside = core.task()
    core.run(outside)
    waiting = core.task()
    core.run(waiting)
    core.start(core(WorkerBlocked(parent.worker.id, parent.seq)))
    assert child.worker is not None
    assert waiting.worker is None
    name = f"CPU_group_0_{group.key}"
    core(WorkerUnblocked(parent.worker.id, parent.seq))
    assert (core.scheduler.available[name], core.scheduler.oversubscribed[name]) == (0, UNIT)
    core.end(child)
    assert (core.scheduler.available[name], core.scheduler.oversubscribed[name]) == (0, 0)
    core.end(parent)
    assert core.scheduler.available[name] == UNIT


@pytest.mark.parametrize("goes_on", [False, True])
def test_group_removed_while_a_task_in_it_waits_leaves_the_books_right(goes_on):
    core = Site(1)
    group, parent, child = family(core, ONE_CPU)
    workers = [parent.worker.id]
    core.start(core(WorkerBlocked(parent.worker.id, parent.seq)))
    workers.append(child.worker.id)
    if goes_on:
        core(WorkerUnblocked(parent.worker.id, parent.seq))
    core(GroupRemoved(group))
    if not goes_on:
        core(WorkerUnblocked(parent.worker.id, parent.seq))  # it had been said before
    for worker in workers:
        assert core.free() == 0
        core.exited(worker)
    assert core.scheduler.total == core.scheduler.available == {"CPU": UNIT}
    assert core.scheduler.oversubscribed == {"CPU": 0}


def test_cpu_that_a_removed_group_gives_back_pays_what_is_owed():
    core = Site(1)
    parent = core.task()
    core.run(parent)
    core(WorkerBlocked(parent.worker.id, parent.seq))
    group, _ = core.request(ONE_CPU)
    core(WorkerUnblocked(parent.worker.id, parent.seq))
    assert core.scheduler.oversubscribed["CPU"] == UNIT
    core(GroupRemoved(group))
    assert core.scheduler.oversubscribed == core.scheduler.available == {"CPU": 0}


def test_gpu_of_a_task_that_waits_stays_with_it():
    core = Site(2, GPU=1)
    parent, other = core.task(demand=gpus(1, 1)), core.task(demand=gpus(1))
    core.run(parent, other)
    core(WorkerBlocked(parent.worker.id, parent.seq))
    assert (core.free("CPU"), core.free("GPU"), other.worker) == (2, 0, None)
    assert parent.worker.devices == ("0",)


@pytest.mark.parametrize("name", ["CPUs", "cpu", "my_CPU_group_0", "CPU_grouped", "bundle_group_0"])
def test_only_cpus_are_given_back_by_those_that_wait(name):
    core = Site(1, **{name: 1})
    parent = core.task(demand=((name, UNIT),))
    core.run(parent)
    core(WorkerBlocked(parent.worker.id, parent.seq))
    assert core.free(name) == 0
