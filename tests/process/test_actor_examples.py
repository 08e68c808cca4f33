"""Programs with actors as users of Ray write them, start to end.

They hold on Ray as well: replace `aioray` by `ray` in this file, and `session` by a fixture that
calls `ray.init(num_cpus=4)`. Nothing here is aioray's own, and nothing is asserted that the two do
differently, such as the texts of errors.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import threading
from pathlib import Path

import numpy as np
import pytest

import aioray as ray
from aioray.actor import exit_actor
from aioray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError
from aioray.util.actor_pool import ActorPool
from aioray.util.queue import Queue

GUARD = 100.0  # seconds

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    def get(self):
        return self.value


# ---------------------------------------------------------------- state


def test_counter():
    counter = Counter.remote(10)
    assert ray.get([counter.increment.remote() for _ in range(5)]) == [11, 12, 13, 14, 15]
    counter.increment.remote(by=5)
    assert ray.get(counter.get.remote()) == 20


def test_actors_have_state_of_their_own():
    counters = [Counter.remote(start) for start in (0, 100)]
    for counter in counters:
        counter.increment.remote()
    assert ray.get([counter.get.remote() for counter in counters]) == [1, 101]


def test_tasks_share_an_actor():
    @ray.remote
    def work(counter, times):
        return [ray.get(counter.increment.remote()) for _ in range(times)]

    counter = Counter.remote()
    seen = ray.get([work.remote(counter, 5) for _ in range(4)])
    assert sorted(number for part in seen for number in part) == list(range(1, 21))
    assert all(part == sorted(part) for part in seen)


def test_handles_inside_lists_and_dicts():
    @ray.remote
    def add_up(counters, by):
        refs = [counters[name].increment.remote(by) for name in sorted(counters)]
        return sum(ray.get(refs)), [counters["b"]]

    counters = {"a": Counter.remote(1), "b": Counter.remote(2)}
    total, (same,) = ray.get(add_up.remote(counters, 10))
    assert total == 23
    assert same == counters["b"]
    assert ray.get(same.get.remote()) == 12


# ---------------------------------------------------------------- numbers


@ray.remote
class ParameterServer:
    def __init__(self, size, rate):
        self.weights = np.zeros(size)
        self.rate = rate

    def apply(self, *gradients):
        self.weights = self.weights - self.rate * np.mean(gradients, axis=0)
        return self.weights

    def get(self):
        return self.weights


@ray.remote
class Trainer:
    """Fits a line through its own share of the data."""

    def __init__(self, seed, truth):
        generator = np.random.default_rng(seed)
        self.inputs = generator.normal(size=(200, len(truth)))
        self.outputs = self.inputs @ truth

    def gradient(self, weights):
        return 2 * self.inputs.T @ (self.inputs @ weights - self.outputs) / len(self.inputs)


def train_in_step(server, trainers):
    """The weights after 40 steps, for each of which all trainers are waited for."""
    weights = server.get.remote()
    for _ in range(40):
        gradients = [trainer.gradient.remote(weights) for trainer in trainers]
        weights = server.apply.remote(*gradients)
    return ray.get(weights)


def test_synchronous_parameter_server():
    truth = np.array([1.0, -2.0, 3.0])
    server = ParameterServer.remote(len(truth), 0.2)
    trainers = [Trainer.remote(seed, truth) for seed in range(3)]
    np.testing.assert_allclose(train_in_step(server, trainers), truth, atol=1e-3)


def test_asynchronous_parameter_server():
    truth = np.array([0.5, 4.0])
    server = ParameterServer.remote(len(truth), 0.1)
    trainers = [Trainer.remote(seed, truth) for seed in range(3)]
    trainer_of = {trainer.gradient.remote(server.get.remote()): trainer for trainer in trainers}
    for _ in range(120):
        (ready,), _ = ray.wait(list(trainer_of))
        trainer = trainer_of.pop(ready)
        trainer_of[trainer.gradient.remote(server.apply.remote(ready))] = trainer
    # A gradient may have been late, and far off: how far depends on how busy the machine is.
    assert not np.array_equal(ray.get(server.get.remote()), np.zeros(2))
    np.testing.assert_allclose(train_in_step(server, trainers), truth, atol=1e-2)


@ray.remote
class Progress:
    def __init__(self, total):
        self.total = total
        self.done_by_task = {}

    def report(self, task, done):
        self.done_by_task[task] = done

    def fraction(self):
        return sum(self.done_by_task.values()) / self.total


def test_monte_carlo_pi_with_a_progress_actor():
    tasks, samples, steps = 4, 20_000, 5

    @ray.remote
    def sample(task, progress):
        generator = random.Random(task)
        inside = 0
        for step in range(steps):
            for _ in range(samples // steps):
                inside += generator.random() ** 2 + generator.random() ** 2 <= 1
            progress.report.remote(task, (step + 1) * samples // steps)
        ray.get(progress.fraction.remote())  # comes after the reports, so they are in
        return inside

    progress = Progress.remote(tasks * samples)
    left = [sample.remote(task, progress) for task in range(tasks)]
    fractions, inside = [], 0
    while left:
        (done,), left = ray.wait(left)
        inside += ray.get(done)
        fractions.append(ray.get(progress.fraction.remote()))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert abs(4 * inside / (tasks * samples) - 3.14159) < 0.05


# ---------------------------------------------------------------- several actors


def test_actor_tree():
    @ray.remote
    class Leaf:
        def __init__(self, number):
            self.number = number

        def compute(self, value):
            return self.number * value

    @ray.remote
    class Supervisor:
        def __init__(self, count):
            self.leaves = [Leaf.remote(number) for number in range(count)]

        def compute(self, value):
            return sum(ray.get([leaf.compute.remote(value) for leaf in self.leaves]))

        def leaf(self, number):
            return self.leaves[number]

    supervisors = [Supervisor.remote(count) for count in (2, 3)]
    assert ray.get([supervisor.compute.remote(10) for supervisor in supervisors]) == [10, 30]
    leaf = ray.get(supervisors[1].leaf.remote(2))
    assert ray.get(leaf.compute.remote(5)) == 10


def test_supervisor_replaces_dead_workers():
    @ray.remote
    class Worker:
        def run(self, job):
            if job == "deadly":
                os._exit(1)
            return job.upper()

    @ray.remote
    class Supervisor:
        def __init__(self):
            self.worker = Worker.remote()
            self.deaths = 0

        def run(self, job):
            try:
                return ray.get(self.worker.run.remote(job))
            except ActorDiedError:
                self.deaths += 1
                self.worker = Worker.remote()
                return None

        def count(self):
            return self.deaths

    supervisor = Supervisor.remote()
    jobs = ["a", "deadly", "b", "deadly", "c"]
    results = ray.get([supervisor.run.remote(job) for job in jobs])
    assert results == ["A", None, "B", None, "C"]
    assert ray.get(supervisor.count.remote()) == 2


def test_pipeline_passes_refs():
    @ray.remote
    class Stage:
        def __init__(self, name):
            self.name = name
            self.seen = 0

        def process(self, item):
            self.seen += 1
            return [*item, f"{self.name}{self.seen}"]

    stages = [Stage.remote(name) for name in "abc"]
    results = []
    for number in range(4):
        item = ray.put([number])
        for stage in stages:
            item = stage.process.remote(item)
        results.append(item)
    assert ray.get(results) == [[n, f"a{n + 1}", f"b{n + 1}", f"c{n + 1}"] for n in range(4)]


def test_large_arrays_travel_between_actors():
    @ray.remote
    class Holder:
        def make(self, size):
            return np.arange(size)

        def total(self, array):
            return int(array.sum())

    one, other = Holder.remote(), Holder.remote()
    assert ray.get(other.total.remote(one.make.remote(500_000))) == sum(range(500_000))


# ---------------------------------------------------------------- concurrency


def test_async_actor_serves_many_calls():
    """No call returns before all have come, so all must run at once."""

    @ray.remote
    class Barrier:
        def __init__(self, count):
            self.missing = count
            self.complete = asyncio.Event()

        async def arrive(self, who):
            self.missing -= 1
            if not self.missing:
                self.complete.set()
            await self.complete.wait()
            return who

    async def main():
        barrier = Barrier.remote(50)
        calls = [barrier.arrive.remote(who) for who in range(50)]
        return await asyncio.wait_for(asyncio.gather(*calls), GUARD)

    assert asyncio.run(main()) == list(range(50))


def test_async_actor_awaits_tasks():
    @ray.remote
    def square(value):
        return value * value

    @ray.remote
    class Gatherer:
        async def squares(self, count):
            return await asyncio.gather(*(square.remote(value) for value in range(count)))

    assert ray.get(Gatherer.remote().squares.remote(5)) == [0, 1, 4, 9, 16]


def test_threaded_actor():
    @ray.remote(max_concurrency=2)
    class Meeting:
        def __init__(self):
            self.barrier = threading.Barrier(2)

        def meet(self):
            self.barrier.wait(GUARD)
            return threading.get_ident()

    meeting = Meeting.remote()
    first, second = ray.get([meeting.meet.remote(), meeting.meet.remote()])
    assert first != second


def test_concurrency_groups():
    """A group whose only slot is taken does not hold up the others."""

    @ray.remote(concurrency_groups={"io": 1, "compute": 1})
    class Service:
        @ray.method(concurrency_group="io")
        async def fetch(self):
            return "fetched"

        @ray.method(concurrency_group="compute")
        async def compute(self, value):
            return value + 1

        async def other(self):
            return "other"

    @ray.remote(concurrency_groups={"waiting": 1})
    class Threaded:
        def __init__(self):
            self.released = threading.Event()

        @ray.method(concurrency_group="waiting")
        def wait(self):
            return self.released.wait(GUARD)

        def release(self):
            self.released.set()

    service = Service.remote()
    assert ray.get([service.fetch.remote(), service.compute.remote(1), service.other.remote()]) == [
        "fetched",
        2,
        "other",
    ]
    assert ray.get(service.compute.options(concurrency_group="io").remote(2)) == 3
    threaded = Threaded.remote()
    waiting = threaded.wait.remote()
    ray.get(threaded.release.remote())
    assert ray.get(waiting) is True


# ---------------------------------------------------------------- names


def test_tasks_find_a_named_actor():
    @ray.remote
    def work(times):
        counter = ray.get_actor("counter")
        return ray.get([counter.increment.remote() for _ in range(times)])[-1]

    counter = Counter.options(name="counter").remote()
    ray.get(counter.__ray_ready__.remote())
    assert max(ray.get([work.remote(5) for _ in range(4)])) == 20
    assert ray.get(counter.get.remote()) == 20


def test_get_or_create():
    first = Counter.options(name="shared", get_if_exists=True).remote(5)
    second = Counter.options(name="shared", get_if_exists=True).remote(1000)
    assert first == second
    assert ray.get(second.increment.remote()) == 6


def test_a_name_is_free_after_the_death():
    counter = Counter.options(name="short-lived").remote()
    ray.get(counter.__ray_ready__.remote())
    with pytest.raises(ValueError, match="short-lived"):
        Counter.options(name="short-lived").remote()
    ray.kill(counter)
    with pytest.raises(ActorDiedError):
        ray.get(counter.get.remote())
    with pytest.raises(ValueError, match="Failed to look up actor"):
        ray.get_actor("short-lived")


def test_detached_actor_outlives_its_handles():
    @ray.remote
    def create():
        counter = Counter.options(name="detached", lifetime="detached").remote(7)
        return ray.get(counter.increment.remote())

    assert ray.get(create.remote()) == 8
    counter = ray.get_actor("detached")
    assert ray.get(counter.increment.remote()) == 9
    ray.kill(counter)


# ---------------------------------------------------------------- ActorPool and Queue


def test_actor_pool():
    @ray.remote
    class Squarer:
        def square(self, value):
            return value * value

    pool = ActorPool([Squarer.remote() for _ in range(2)])
    assert list(pool.map(lambda actor, value: actor.square.remote(value), range(6))) == [
        0,
        1,
        4,
        9,
        16,
        25,
    ]
    found = pool.map_unordered(lambda actor, value: actor.square.remote(value), range(4))
    assert sorted(found) == [0, 1, 4, 9]


def test_queue_between_tasks_and_driver():
    @ray.remote
    def produce(queue, name):
        for number in range(3):
            queue.put((name, number))
        queue.put(None)

    queue = Queue(maxsize=2)
    producers = [produce.remote(queue, name) for name in "ab"]
    found, ended = [], 0
    while ended < len(producers):
        item = queue.get(timeout=GUARD)
        if item is None:
            ended += 1
        else:
            found.append(item)
    assert sorted(found) == [(name, number) for name in "ab" for number in range(3)]
    ray.get(producers)
    queue.shutdown()


# ---------------------------------------------------------------- generators


def test_streaming_method():
    @ray.remote
    class Source:
        def __init__(self):
            self.rows = 0

        def read(self, count):
            for number in range(count):
                self.rows += 1
                yield {"row": number, "array": np.full(3, number)}

        def count(self):
            return self.rows

    source = Source.remote()
    rows = [ray.get(ref) for ref in source.read.remote(4)]
    assert [row["row"] for row in rows] == [0, 1, 2, 3]
    assert [int(row["array"].sum()) for row in rows] == [0, 3, 6, 9]
    assert ray.get(source.count.remote()) == 4


def test_streaming_method_of_an_async_actor():
    @ray.remote
    class Source:
        async def read(self, count):
            for number in range(count):
                await asyncio.sleep(0)
                yield number

    async def main():
        source = Source.remote()
        return [await ref async for ref in source.read.remote(4)]

    assert asyncio.run(main()) == [0, 1, 2, 3]


def test_streaming_method_that_fails():
    @ray.remote
    class Source:
        def read(self):
            yield 1
            raise ValueError("no more rows")

    stream = Source.remote().read.remote()
    assert ray.get(next(stream)) == 1
    with pytest.raises(ValueError, match="no more rows"):
        ray.get(next(stream))
    with pytest.raises(StopIteration):
        next(stream)


# ---------------------------------------------------------------- failures


def test_an_error_in_a_method_leaves_the_actor_alive():
    @ray.remote
    class Account:
        def __init__(self):
            self.balance = 10

        def withdraw(self, amount):
            if amount > self.balance:
                raise ValueError(f"only {self.balance} left")
            self.balance -= amount
            return self.balance

    account = Account.remote()
    with pytest.raises(ValueError, match="only 10 left") as info:
        ray.get(account.withdraw.remote(11))
    assert isinstance(info.value, RayTaskError)
    assert str(info.value.cause) == "only 10 left"
    assert ray.get(account.withdraw.remote(4)) == 6


@ray.remote
class Fragile:
    """Dies once, in the first call that tells it to; a file remembers that it has."""

    def __init__(self, marker):
        self.marker = Path(marker)
        self.calls = 0

    def work(self, die=False):
        self.calls += 1
        if die and not self.marker.exists():
            self.marker.touch()
            os._exit(1)
        return self.calls


def test_restart_and_retry(tmp_path):
    fragile = Fragile.options(max_restarts=1, max_task_retries=1).remote(str(tmp_path / "died"))
    assert ray.get(fragile.work.remote()) == 1
    assert ray.get(fragile.work.remote(die=True)) == 1  # its state is new
    assert ray.get(fragile.work.remote()) == 2


def test_restart_without_retry(tmp_path):
    fragile = Fragile.options(max_restarts=1).remote(str(tmp_path / "died"))
    assert ray.get(fragile.work.remote()) == 1
    with pytest.raises(RayActorError) as info:
        ray.get(fragile.work.remote(die=True))
    assert isinstance(info.value, ActorUnavailableError)
    ray.get(fragile.__ray_ready__.remote())
    assert ray.get(fragile.work.remote()) == 1


def test_no_restart(tmp_path):
    fragile = Fragile.remote(str(tmp_path / "died"))
    with pytest.raises(ActorDiedError, match="Fragile"):
        ray.get(fragile.work.remote(die=True))
    with pytest.raises(ActorDiedError):
        ray.get(fragile.work.remote())


def test_kill():
    counter = Counter.remote()
    ray.get(counter.increment.remote())
    ray.kill(counter)
    with pytest.raises(ActorDiedError, match=r"ray\.kill"):
        ray.get(counter.increment.remote())
    ray.kill(counter)


def test_kill_and_restart():
    counter = Counter.options(max_restarts=1, max_task_retries=-1).remote(5)
    assert ray.get(counter.increment.remote()) == 6
    pid = ray.get(counter.__ray_call__.remote(lambda _self: os.getpid()))
    process = os.pidfd_open(pid)
    try:
        ray.kill(counter, no_restart=False)
        assert select.select([process], [], [], GUARD)[0]
    finally:
        os.close(process)
    assert ray.get(counter.increment.remote()) == 6


def test_exit_actor():
    @ray.remote
    class Leaver:
        def leave(self):
            exit_actor()

        def stay(self):
            return "here"

    leaver = Leaver.remote()
    assert ray.get(leaver.stay.remote()) == "here"
    with pytest.raises(ActorDiedError):
        ray.get(leaver.leave.remote())
    with pytest.raises(ActorDiedError):
        ray.get(leaver.stay.remote())


def test_init_that_fails():
    @ray.remote
    class Broken:
        def __init__(self):
            raise RuntimeError("no licence")

        def work(self):
            return 1

    broken = Broken.remote()
    with pytest.raises(ActorDiedError, match="no licence"):
        ray.get(broken.work.remote())


# ---------------------------------------------------------------- methods


def test_several_results():
    @ray.remote
    class Splitter:
        @ray.method(num_returns=2)
        def split(self, items):
            return items[::2], items[1::2]

        def three(self):
            return 1, 2, 3

    splitter = Splitter.remote()
    even, odd = splitter.split.remote([0, 1, 2, 3, 4])
    assert ray.get([odd, even]) == [[1, 3], [0, 2, 4]]
    assert ray.get(splitter.three.options(num_returns=3).remote()) == [1, 2, 3]


def test_methods_that_every_actor_has():
    counter = Counter.remote(3)
    assert ray.get(counter.__ray_ready__.remote()) is True
    doubled = counter.__ray_call__.remote(lambda self, factor: self.value * factor, 2)
    assert ray.get(doubled) == 6
    with pytest.raises(ActorDiedError):
        ray.get(counter.__ray_terminate__.remote())


def test_an_actor_may_know_itself():
    @ray.remote
    class Server:
        def me(self):
            return ray.get_runtime_context().current_actor

        def name(self):
            return "server"

    server = Server.remote()
    assert ray.get(server.me.remote()) == server
    assert ray.get(ray.get(server.me.remote()).name.remote()) == "server"


def test_inheritance_before_decorating():
    class Base:
        def who(self):
            return type(self).__name__

    @ray.remote
    class Derived(Base):
        def both(self):
            return self.who(), super().who()

    assert ray.get(Derived.remote().both.remote()) == ("Derived", "Derived")


def test_calls_of_one_caller_come_in_order():
    @ray.remote
    class Log:
        def __init__(self):
            self.lines = []

        def add(self, line):
            self.lines.append(line)

        def all(self):
            return self.lines

    @ray.remote
    def late(value):
        return value

    log = Log.remote()
    for number in range(20):
        log.add.remote(late.remote(number) if number % 5 == 0 else number)
    assert ray.get(log.all.remote()) == list(range(20))
