"""What must hold between two events, part by part. For tests, which call it after every event.

Room: core. Looks at what the parts show, and raises AssertionError; production never runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .call_queues import actor_of, room_in
from .calls import MAX_AHEAD
from .circles import standing
from .devices import UNIT
from .outcomes import FailureKind
from .resources import kept_by
from .states import ActorStatus, GroupStatus, TaskStatus, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .actors import ActorSupervisor
    from .model import SupervisedActor, Task, Worker
    from .pool import WorkerPool
    from .resources import Resources
    from .scheduler import Scheduler
    from .tasks import TaskTable

__all__ = ["check", "check_actors", "check_limits", "check_resources", "queued_calls"]


def check(core: Scheduler) -> None:
    """Check all parts, and that what they say of one another agrees."""
    in_flight: dict[int, Task] = {}
    for worker in core.pool.workers.values():
        used = worker.lease is not None or worker.actor is not None
        assert bool(worker.in_flight) <= used, worker
        assert worker.settled <= (worker.lease is not None and worker.actor is not None), worker
        assert worker.blocked <= (worker.lease is not None), worker
        for seq, task in worker.in_flight.items():
            assert task.seq == seq, task
            assert task.worker is worker, task
            assert task.state is TaskStatus.SUBMITTED_TO_WORKER, task
            in_flight[task.number] = task
    check_resources(core.resources, tuple(core.pool.workers.values()))
    queued = {task.number: task for cls in core.backlog.classes.values() for task in cls.queue}
    assert sum(len(cls.queue) for cls in core.backlog.classes.values()) == len(queued)
    check_actors(core.actors, core.pool, core.table)
    calls = queued_calls(core.table)
    queued |= {task.number: task for task in calls}
    assert len(calls) == len({task.number for task in calls})
    for cls in core.backlog.classes.values():
        parked = cls.limiter is not None and cls in cls.limiter.parked
        waits = cls in core.backlog.waiting
        assert waits == (bool(cls.queue) and not parked and not core.resources.never_fits(cls)) or (
            parked and not cls.queue
        ), cls
    idle = [worker for workers in core.pool.idle.values() for worker in workers]
    assert len(idle) == core.pool.idle_count
    for worker in idle:
        assert worker.state is WorkerStatus.READY, worker
        assert not worker.in_flight, worker
        assert worker.lease is None, worker
        assert core.pool.workers.get(worker.id) is worker, worker
    starting = sum(core.pool.starting.values())
    assert starting == sum(
        worker.state in (WorkerStatus.STARTING, WorkerStatus.DEAD)
        for worker in core.pool.workers.values()
    )
    for task in core.table.unfinished.values():
        state = task.state
        assert state not in (TaskStatus.FINISHED, TaskStatus.FAILED), task
        assert (task.number in queued) == (state is TaskStatus.PENDING_NODE_ASSIGNMENT), task
        assert (task.number in in_flight) == (state is TaskStatus.SUBMITTED_TO_WORKER), task
        if task.actor is None:
            apart = [r for r in task.failures or () if r.kind is FailureKind.OUT_OF_MEMORY]
            assert task.max_retries < 0 or task.attempt - len(apart) <= task.max_retries, task
    assert set(queued) | set(in_flight) <= set(core.table.unfinished)
    check_limits(core.table)
    for task in core.table.unfinished.values():
        if task.parent is not None:
            assert (task.parent.children or {}).get(task.number) is task, task
        for child in (task.children or {}).values():
            assert child.number in core.table.unfinished, child


def check_limits(table: TaskTable) -> None:
    """Check that no deadline is forgotten, and that nothing is to end which does not run."""
    deadlines = {task.number for _, task, seq in table.alarms if not seq}
    for task in table.unfinished.values():
        cancellation, limits = task.cancellation, task.limits
        if cancellation is not None and cancellation.overrun is not None:
            assert task.worker is not None, task
        if cancellation is None and limits is not None and limits.deadline is not None:
            assert task.number in deadlines, task


def check_resources(resources: Resources, workers: Sequence[Worker]) -> None:
    """Check that the books are right."""
    held: dict[str, int] = dict.fromkeys(resources.total, 0)
    for group in resources.groups.values():
        assert group.state is not GroupStatus.PENDING, group
        for name, amount in group.demand:
            held[name] += amount
        users = [w for w in workers if w.lease and w.lease.group is group]
        leases = sum(cls.leases for cls in group.classes) + sum(w.settled for w in users)
        assert group.leases == len(users) == leases, group
        assert users or group.state is GroupStatus.CREATED, group
    for worker in workers:
        for name, amount in kept_by(worker):
            held[name] += amount
        lease = worker.lease
        if lease is None:
            assert not worker.held, worker
            assert not worker.shares, worker
        else:
            assert any(
                worker.held == demand or (worker.settled and set(worker.held) < set(demand))
                for demand in lease.demands
            ), worker
            assert worker.shown == (worker.devices if resources.apart else None), worker
        assert tuple(name for name, _ in worker.shares) == worker.devices, worker
    available, oversubscribed = resources.available, resources.oversubscribed
    for name, total in resources.total.items():
        assert available[name] == total - held[name] + oversubscribed[name], name
        assert min(available[name], oversubscribed[name]) == 0 <= available[name], name
    assert available.keys() == oversubscribed.keys() == resources.total.keys()
    assert not resources.reserved
    assert resources.blocked_workers == sum(worker.blocked for worker in workers)
    _check_devices(resources, workers)


def _check_devices(resources: Resources, workers: Sequence[Worker]) -> None:
    pools = resources.devices
    used: dict[tuple[str, str], int] = {}  # by pool and device
    for worker in workers:
        for name, _ in worker.held:
            if name in pools:
                for device, amount in worker.shares:
                    used[name, device] = used.get((name, device), 0) + amount
    for group in resources.groups.values():
        for index, share in enumerate(group.shares):
            for device, amount in share:
                used["GPU", device] = used.get(("GPU", device), 0) + amount
                held = used.get((group.devices_name(index), device), 0)
                assert pools[group.devices_name(index)].free[device] == amount - held, group
    for name, devices in pools.items():
        assert sum(devices.free.values()) == resources.available.get(name, 0), name
        assert not resources.oversubscribed.get(name), name
        assert all(0 <= left <= UNIT for left in devices.free.values()), name
    for device, left in pools["GPU"].free.items():
        assert left == UNIT - used.get(("GPU", device), 0), device


def check_actors(supervisor: ActorSupervisor, pool: WorkerPool, table: TaskTable) -> None:
    """Check that actors, their workers and their calls know each other."""
    for actor in supervisor.living:
        assert actor.state is not ActorStatus.DEAD, actor
        creation, worker = actor.creation, actor.worker
        unborn = creation.number in table.unfinished
        assert unborn == (actor.state is not ActorStatus.ALIVE), actor
        if worker is not None:
            assert worker.actor is actor, actor
            assert pool.workers.get(worker.id) is worker, actor
            assert unborn == (creation.seq in worker.in_flight), actor
        else:
            assert unborn, actor
    assert pool.housed == sum(worker.actor is not None for worker in pool.workers.values())
    for worker in pool.workers.values():
        inhabitant = worker.actor
        if inhabitant is None:
            continue
        calls = [task for task in worker.in_flight.values() if task.actor is None]
        assert all(actor_of(task) is inhabitant for task in calls), worker
        for group in inhabitant.concurrency_groups:
            count = sum(task.scheduling_class is group for task in calls)
            assert group.leases == count, inhabitant
            assert count <= (MAX_AHEAD if inhabitant.ahead else group.limit), inhabitant
            assert inhabitant.ahead or room_in(group) >= 0, inhabitant
    for actor in _called(table):
        held = [task.number for line in actor.lines.values() for task in line]
        assert len(held) == len(actor.held) == len(actor.held.intersection(held)), actor
        for caller, line in actor.lines.items():
            assert line, actor
            assert line[0].state is not TaskStatus.PENDING_NODE_ASSIGNMENT, actor
            assert [task.caller for task in line] == [caller] * len(line), actor
        if actor.state is ActorStatus.DEAD:
            assert not any(group.queue for group in actor.concurrency_groups), actor
            assert not held, actor


def queued_calls(table: TaskTable) -> list[Task]:
    """Return all calls that stand in a queue or a line."""
    calls = [task for actor in _called(table) for task in standing(actor)]
    return [task for task in calls if task.state is TaskStatus.PENDING_NODE_ASSIGNMENT]


def _called(table: TaskTable) -> set[SupervisedActor]:
    """Return the actors of all unfinished calls."""
    tasks = table.unfinished.values()
    return {actor_of(task) for task in tasks if task.scheduling_class.actor is not None}
