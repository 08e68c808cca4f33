"""The scheduler against fake workers in virtual time: any interleaving keeps its promises.

`World` (in `world`) is the shell, the workers and the witness; here is what may happen, and when.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioray.core import pool as pool_module
from aioray.core.functions import CallTraits
from aioray.core.intensity import RestartPolicy
from aioray.core.limits import TaskLimits
from aioray.core.outcomes import (
    LOST_CANCELLED,
    LOST_MAX_ATTEMPTS,
    LOST_RETRIES_DISABLED,
    CancelOutcome,
    DeathCause,
    Ended,
)
from aioray.core.retries import RetryPolicy
from aioray.core.states import ActorStatus, GroupStatus
from aioray.shared.crash_breaker import CrashBreaker

from .world import CPU, GONE, MAX_WORKERS, FakeWorker, Making, Order, World, replay

if TYPE_CHECKING:
    from aioray.core.groups import Group

DEMANDS = (
    (("CPU", CPU),),
    (("CPU", CPU // 2),),
    (("CPU", 2 * CPU),),
    (("CPU", CPU), ("GPU", CPU)),
    (("GPU", 2 * CPU),),
    (("GPU", 6 * CPU // 10),),
    (("CPU", CPU // 2), ("GPU", 3 * CPU // 10)),
    (),
    (("CPU", 4 * CPU),),  # more than there is
)
DEMAND_WEIGHTS = (20, 4, 2, 2, 1, 2, 2, 2, 1)
BUNDLES = (
    (("CPU", CPU),),
    (("CPU", CPU // 2),),
    (("CPU", 2 * CPU),),
    (("CPU", CPU // 2), ("GPU", CPU // 2)),
    (("CPU", CPU), ("GPU", CPU)),
    (("GPU", 6 * CPU // 10),),
)
ENVIRONMENTS = ((), (("NAME", "value"),))
POLICIES = (
    None,
    None,
    RetryPolicy(0.05),
    RetryPolicy(0.02, jitter=False, time_budget=0.3),
)
LOSSES = {  # what comes of lost values in long walks, or they show nothing
    "revived",
    "argument",
    GONE,
    LOST_CANCELLED,
    LOST_MAX_ATTEMPTS,
    LOST_RETRIES_DISABLED,
}
RESTARTS = (None, None, RestartPolicy(0, 2.0), RestartPolicy(1, 1.0, 0.3, 2.0, 0.5))
ENDS = {each.name for each in (*ActorStatus, *DeathCause)}  # of actors, likewise
REMOVALS = {"placed", "failed", "killed"}  # of placement groups
CANCELS = {each.name for each in CancelOutcome}
CANCELS |= {f"{name} before" for name in CANCELS}  # of what was done already
LIMITED = (
    *[TaskLimits(timeout=0.05)] * 3,
    *[TaskLimits(stall_timeout=0.1)] * 3,
    TaskLimits(deadline=0.2),
    TaskLimits(timeout=0.3, deadline=0.5),
    *[TaskLimits(breaker=CrashBreaker(1, 5.0, 0.5, "b"))] * 3,
)
LIMITS = (*[None] * 6, *LIMITED)
# The steps that hardly a walk takes, as a worker must die in between, have tests of their own.
OVERRUNS = {"deadline", "timeout", "stall_timeout", "retried", "refused", "OPEN"}
TIMES = (0.001, 0.006, 0.06, 0.3, 1.1, 5.1)  # seconds; one for each of the scheduler's periods


def an_order(chance: random.Random, known: int, groups: list[int]) -> Order:
    count = chance.choice((0, 0, 0, 1, 2)) if known else 0
    back = chance.choice((6, 60))
    function = chance.choice((1, 1, 2, 3))
    return Order(
        demand=chance.choices(DEMANDS, DEMAND_WEIGHTS)[0],
        environment=chance.choice((*ENVIRONMENTS, ())),
        function=function,
        dependencies=tuple(max(1, known - chance.randrange(back)) for _ in range(count)),
        max_retries=chance.choice((0, 1, 3, -1)),
        max_calls=3 if function == 3 else 0,
        policy=chance.choice(POLICIES),
        priority=chance.choice((0, 0, 0, 0, 1, -1, 0.01)),
        group=chance.choice(groups) if groups and chance.random() < 0.5 else None,
        bundle=chance.choice((None, None, 0, 1)),
        limits=chance.choice(LIMITS),
    )


def of_actors(limits: TaskLimits | None) -> TaskLimits | None:
    """What of these limits actors and their calls may have: no breaker."""
    return None if limits is None or limits.breaker is not None else limits


def some_orders(chance: random.Random, world: World, count: int) -> list[Order]:
    """Alike in half of the cases, as tasks mostly are."""
    known = len(world.tasks)
    groups = [index for index, group in enumerate(world.groups) if is_wanted(group)]
    if world.groups and chance.random() < 0.1:
        groups.append(chance.randrange(len(world.groups)))  # it may be removed
    if chance.random() < 0.5:
        return [an_order(chance, known, groups)] * count
    return [an_order(chance, known, groups) for _ in range(count)]


def make_actor(chance: random.Random, world: World) -> None:
    """Ask for an actor of any kind."""
    groups = [index for index, group in enumerate(world.groups) if is_wanted(group)]
    known = len(world.tasks) if chance.random() < 0.3 else 0
    order = an_order(chance, known, groups if chance.random() < 0.3 else [])
    if chance.random() < 0.5:
        demand: tuple[tuple[str, int], ...] = (("CPU", CPU),)
        keeps = False
    else:
        demand, keeps = order.demand, True
    concurrency_groups = chance.choice(((1,), (1,), (1,), (3,), (2, 1)))
    asynchronous = chance.random() < 0.3
    ahead = concurrency_groups == (1,) and not asynchronous
    making = Making(
        concurrency_groups=concurrency_groups,
        ordered=ahead and chance.random() < 0.8,
        asynchronous=asynchronous,
        keeps_cpus=keeps,
        max_restarts=chance.choice((0, 1, 3, -1)),
        policy=chance.choice(RESTARTS),
    )
    made = replace(
        order,
        demand=demand,
        makes=making,
        max_retries=0,
        max_calls=0,
        policy=None,
        limits=of_actors(order.limits),
    )
    world.submit([replace(made, priority=chance.choice((0, 100, 100)))])  # most live soon


def some_calls(chance: random.Random, world: World, count: int) -> list[Order]:
    """Calls of one actor, or of several; most of one caller."""
    known, actors = len(world.tasks), world.callable_actors()
    orders = []
    callers = (0, 0, 0, -1)
    alike = chance.choice(actors), an_order(chance, known, []), chance.choice(callers)
    same = chance.random() < 0.7
    for _ in range(count):
        fresh = chance.choice(actors), an_order(chance, known, []), chance.choice(callers)
        actor, order, caller = alike if same else fresh
        traits = CallTraits(
            interruptible=actor.ahead and chance.random() < 0.2,
            retries_errors=order.max_retries != 0 and chance.random() < 0.3,
        )
        call = Order(
            calls=actor.key,
            concurrency_group=chance.randrange(
                sum(g.base is None for g in actor.concurrency_groups)
            ),
            traits=traits,
            caller=caller,
            function=order.function,
            dependencies=order.dependencies if chance.random() < 0.5 else (),
            max_retries=order.max_retries,
            policy=order.policy,
            limits=of_actors(order.limits),
        )
        orders.append(call)
    return orders


def is_wanted(group: Group) -> bool:
    return group.state is not GroupStatus.REMOVED


def request_group(chance: random.Random, world: World) -> None:
    """Ask for a placement group of up to three bundles; now and then for an impossible one."""
    bundles = tuple(chance.choice(BUNDLES) for _ in range(chance.choice((1, 1, 2, 3))))
    world.request_group(bundles, 2 if chance.random() < 0.1 else 1)


@pytest.fixture(autouse=True)
def few_workers(monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_WORKERS", MAX_WORKERS)


# Which workers a thing can happen to.
def starting(worker: FakeWorker) -> bool:
    return not worker.up


def can_claim(worker: FakeWorker) -> bool:
    idle = worker.running is None and not worker.dead and not worker.exiting
    return bool(worker.claims) and idle


def busy(worker: FakeWorker) -> bool:
    return bool(worker.runs())


def alone(worker: FakeWorker) -> bool:
    return worker.running is not None


def blocked(worker: FakeWorker) -> bool:
    return worker.blocked


def beat(worker: FakeWorker, world: World) -> None:
    """What it runs says that it gets on, or waits for who reads what it yields."""
    worker.beat = world.chance.choice((world.now, world.now, math.inf))


def has_answers(worker: FakeWorker) -> bool:
    return bool(worker.answers)


def alive(worker: FakeWorker) -> bool:
    return worker.up and not worker.dead


def dead(worker: FakeWorker) -> bool:
    return worker.dead


def told_to_end(worker: FakeWorker) -> bool:
    return worker.kill_ordered or worker.stop_ordered


def some(which):
    """A precondition: there is such a worker."""
    return precondition(lambda self: any(map(which, self.world.workers.values())))


PICKS = st.integers(0, 4)
SEEDS = st.integers(0, 2**16)


class Interleavings(RuleBasedStateMachine):
    """Every rule is one thing that may happen in the world; hypothesis chooses which."""

    @initialize(seed=SEEDS, meddling=st.sampled_from((0.0, 0.3, 0.6)))
    def begin(self, seed, meddling):
        self.world = World(seed, meddling=meddling)

    def pick(self, pick, which) -> FakeWorker:
        workers = [worker for worker in self.world.workers.values() if which(worker)]
        return workers[pick % len(workers)]

    @rule(seed=SEEDS, count=st.sampled_from((1, 1, 2, 5, 40)))
    def submit(self, seed, count):
        self.world.submit(some_orders(random.Random(seed), self.world, count))

    @precondition(lambda self: len(self.world.groups) < 6)
    @rule(seed=SEEDS)
    def request_group(self, seed):
        request_group(random.Random(seed), self.world)

    @precondition(lambda self: self.world.groups)
    @rule(pick=PICKS)
    def remove_group(self, pick):
        self.world.remove_group(self.world.groups[pick % len(self.world.groups)])

    @precondition(lambda self: len(self.world.callable_actors()) < 4)
    @rule(seed=SEEDS)
    def make_actor(self, seed):
        make_actor(random.Random(seed), self.world)

    @precondition(lambda self: self.world.callable_actors())
    @rule(seed=SEEDS, count=st.sampled_from((1, 2, 5, 40)))
    def call(self, seed, count):
        self.world.submit(some_calls(random.Random(seed), self.world, count))

    @precondition(lambda self: self.world.callable_actors())
    @rule(pick=PICKS)
    def let_go(self, pick):
        actors = self.world.callable_actors()
        self.world.let_go(actors[pick % len(actors)])

    @precondition(lambda self: self.world.callable_actors())
    @rule(pick=PICKS, no_restart=st.booleans())
    def kill(self, pick, no_restart):
        actors = self.world.callable_actors()
        self.world.kill(actors[pick % len(actors)], no_restart=no_restart)

    @some(starting)
    @rule(pick=PICKS)
    def start(self, pick):
        self.world.come_up(self.pick(pick, starting))

    @some(starting)
    @rule(pick=PICKS)
    def fail_start(self, pick):
        self.world.fail_start(self.pick(pick, starting))

    @some(starting)
    @rule(pick=PICKS, noticed=st.booleans())
    def fail_set_up(self, pick, noticed):
        self.world.fail_set_up(self.pick(pick, starting), noticed=noticed)

    @some(can_claim)
    @rule(pick=PICKS)
    def claim(self, pick):
        self.world.claim(self.pick(pick, can_claim))

    @some(busy)
    @rule(pick=PICKS, ended=st.sampled_from((None, *Ended)))
    def end(self, pick, ended):
        self.world.end(self.pick(pick, busy), ended)

    @some(alone)
    @rule(pick=PICKS, seed=SEEDS, count=st.sampled_from((1, 2, 5)), waits=st.booleans())
    def spawn(self, pick, seed, count, waits):
        worker = self.pick(pick, alone)
        orders = some_orders(random.Random(seed), self.world, count)
        self.world.spawn(worker, orders)
        if waits:
            self.world.block(worker)

    @some(blocked)
    @rule(pick=PICKS)
    def unblock(self, pick):
        self.world.unblock(self.pick(pick, blocked))

    @some(has_answers)
    @rule(pick=PICKS)
    def read(self, pick):
        self.world.read(self.pick(pick, has_answers))

    @some(lambda worker: can_claim(worker) or busy(worker))
    @rule(pick=PICKS, count=st.integers(1, 40))
    def work(self, pick, count):
        worker = self.pick(pick, lambda worker: can_claim(worker) or busy(worker))
        for _ in range(count):
            self.world.claim(worker)
            self.world.end(worker, Ended.RETURNED)
        self.world.read(worker)

    @some(alive)
    @rule(pick=PICKS)
    def die(self, pick):
        self.world.die(self.pick(pick, alive))

    @some(dead)
    @rule(pick=PICKS)
    def notice(self, pick):
        self.world.notice(self.pick(pick, dead))

    @some(dead)
    @rule(pick=PICKS)
    def reap(self, pick):
        self.world.reap(self.pick(pick, dead))

    @some(told_to_end)
    @rule(pick=PICKS)
    def obey(self, pick):
        self.world.obey(self.pick(pick, told_to_end))

    @precondition(lambda self: self.world.tasks)
    @rule(
        back=st.integers(0, 45),
        force=st.booleans(),
        grace=st.sampled_from((None, None, 0.0, 0.02)),
        recursive=st.booleans(),
    )
    def cancel(self, back, force, grace, recursive):
        tasks = self.world.tasks
        task = tasks[max(1, len(tasks) - back)]
        self.world.cancel(task, force=force, grace=grace, recursive=recursive)

    @precondition(lambda self: self.world.claimed())
    @rule(
        pick=PICKS,
        force=st.booleans(),
        grace=st.sampled_from((None, None, 0.0, 0.02)),
        recursive=st.booleans(),
    )
    def cancel_claimed(self, pick, force, grace, recursive):
        tasks = self.world.claimed()
        task = tasks[pick % len(tasks)]
        self.world.cancel(task, force=force, grace=grace, recursive=recursive)

    @precondition(lambda self: self.world.values)
    @rule(wanted=st.booleans())
    def lose(self, wanted):
        task = self.world.one_of(self.world.values)
        self.world.lose(task)
        if wanted:
            self.world.want(task)

    @precondition(lambda self: self.world.tasks)
    @rule(back=st.integers(0, 45))
    def want(self, back):
        tasks = self.world.tasks
        self.world.want(tasks[max(1, len(tasks) - back)])

    @precondition(lambda self: self.world.revivals)
    @rule()
    def revive(self):
        self.world.revive()

    @precondition(lambda self: self.world.locations)
    @rule()
    def locate(self):
        self.world.locate()

    @some(busy)
    @rule(pick=PICKS)
    def beat(self, pick):
        beat(self.pick(pick, busy), self.world)

    @rule(seconds=st.sampled_from(TIMES))
    def advance(self, seconds):
        self.world.advance(seconds)

    @precondition(lambda self: len(self.world.tasks) > 3)
    @rule(drain=st.sampled_from((0.0, 0.1, 5.0)), rarely=st.integers(0, 2))
    def shut_down(self, drain, rarely):
        if not rarely:
            self.world.shut_down(drain)

    @invariant()
    def nothing_feasible_waits_for_nothing(self):
        """With nobody busy, nobody on the way and no timer, no event would come any more."""
        world = self.world
        if (
            world.scheduler.next_deadline() is None
            and not world.revivals
            and not any(
                starting(w) or w.claims or busy(w) or w.answers or w.dead or told_to_end(w)
                for w in world.workers.values()
            )
        ):
            assert world.waits_for_nothing()

    def teardown(self):
        self.world.finish()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=120,
    stateful_step_count=60,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def walk(world: World, events: int) -> None:
    """Let anything happen, by the world's own chance, until it has seen so many events."""
    chance = world.chance
    eager = chance.choice((1, 1, 6))  # for actors
    # What may happen, how likely, to which workers.
    steps = (
        (20, starting, world.come_up),
        (1, starting, world.fail_start),
        (1, starting, partial(world.fail_set_up, noticed=True)),
        (30, can_claim, world.claim),
        (30, busy, world.end),
        (5, alone, world.block),
        (2, busy, partial(beat, world=world)),
        (5, blocked, world.unblock),
        (10, has_answers, world.read),
        (1, alive, world.die),
        (5, dead, world.notice),
        (10, dead, world.reap),
        (10, told_to_end, world.obey),
    )
    while len(world.history) < events:
        unfinished = world.unfinished()
        things = [
            (weight, partial(step, chance.choice(workers)))
            for weight, which, step in steps
            if (workers := [worker for worker in world.workers.values() if which(worker)])
        ]
        things.append((6, partial(world.advance, chance.choice(TIMES))))
        if len(unfinished) < 60:
            count = chance.choice((1, 1, 2, 5, 80))
            orders = some_orders(chance, world, count)
            things.append((20, partial(world.submit, orders)))
            actors = world.callable_actors()
            if actors:
                calls = some_calls(chance, world, chance.choice((1, 2, 5, 40)))
                things.append((15 * eager, partial(world.submit, calls)))
            parents = [worker for worker in world.workers.values() if alone(worker)]
            if parents:
                few = some_orders(chance, world, chance.choice((1, 2, 5)))
                if actors and chance.random() < 0.2 * (eager + 1):
                    few = some_calls(chance, world, len(few))
                things.append((15, partial(world.spawn, chance.choice(parents), few)))
        groups = list(filter(is_wanted, world.groups))
        if len(groups) < 3:
            things.append((4, partial(request_group, chance, world)))
        if groups:
            in_use = [group for group in groups if group.leases]
            things.append((2, partial(world.remove_group, chance.choice(in_use or groups))))
        actors = world.callable_actors()
        if len(actors) < 3:
            things.append((5 * eager, partial(make_actor, chance, world)))
        if actors:
            useless = [actor for actor in actors if actor.state is ActorStatus.DEAD]
            things.append(
                (2 if useless else 0.3, partial(world.let_go, chance.choice(useless or actors)))
            )
            kill = partial(world.kill, chance.choice(actors), no_restart=chance.random() < 0.4)
            things.append((0.5, kill))
        if world.revivals:
            things.append((10, world.revive))
        if world.locations:
            things.append((20, world.locate))
        if world.values:
            things.append((8, partial(world.lose, world.one_of(world.values))))
        if world.gone:
            things.append((4, partial(world.want, world.one_of(world.gone))))
        recent = list(world.tasks.values())[-200:]
        done = [task for task in recent[-40:] if task.number in world.outcomes]
        stopped = [task for task in recent if world.was_stopped(task)]
        for weight, tasks in (
            (2, unfinished),
            (5, world.claimed()),
            (0.5, done),
            (2, stopped),
        ):
            if tasks:
                force, grace = chance.random() < 0.3, chance.choice((None, 0.0, 0.03))
                recursive = chance.random() < 0.5
                task = chance.choice(tasks)
                cancel = partial(world.cancel, task, force=force, grace=grace, recursive=recursive)
                things.append((weight, cancel))
        weights = [weight for weight, _ in things]
        chance.choices(things, weights)[0][1]()


@pytest.mark.parametrize("seed", range(80))
def test_short_walk_into_a_shutdown_leaves_nothing_behind(seed):
    world = World(seed, meddling=0.3)
    walk(world, world.chance.randrange(20, 200))
    world.shut_down(drain=world.chance.choice((0.0, 0.1, 1.0, 30.0)))
    walk(world, len(world.history) + world.chance.randrange(100))
    world.finish()


@pytest.mark.parametrize("seed", range(10))
def test_long_walk_keeps_every_promise_and_replays_to_the_same_commands(seed):
    world = World(seed, meddling=0.3)
    walk(world, 2_000)
    world.finish()
    assert replay(world, seed) == world.log


def test_walks_come_upon_everything():
    missing = [set(LOSSES), set(ENDS), set(REMOVALS), set(CANCELS), set(OVERRUNS)]
    for seed in range(100, 130):
        world = World(seed, meddling=0.3)
        walk(world, 1_000)
        world.finish()
        seen = (
            world.losses,
            world.actor_events,
            world.group_events,
            world.cancel_events,
            world.overruns,
        )
        for names, here in zip(missing, seen, strict=True):
            names.difference_update(here)
        if not any(missing):
            break
    assert not any(missing)
