"""`init(local_mode=True)`: the whole API without a process, in the order of the calls."""

from __future__ import annotations

import asyncio
import contextvars
import io
import os
import pdb  # noqa: T100
import sys
import threading
import time
from typing import Any, get_args
from unittest import mock

import numpy as np
import pytest

import aioray as ray
from aioray._private.worker import LOCAL_MODE, global_worker
from aioray.client.protocol import registry
from aioray.core.commands import Command, ReportMemoryShort
from aioray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    ObjectReconstructionFailedError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from aioray.experimental import tqdm_ray
from aioray.util import ActorPool, Executor, placement_group
from aioray.util.metrics import Counter
from aioray.util.multiprocessing import Pool
from aioray.util.queue import Empty, Queue
from aioray.util.state import list_actors, list_tasks


@pytest.fixture(autouse=True)
def session() -> Any:
    before = set(threading.enumerate())
    ray.init(local_mode=True, num_cpus=2)
    yield
    ray.shutdown()
    assert set(threading.enumerate()) <= before


variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


def helper(x: int) -> str:
    return str(x)


@ray.remote
def helped(x: int) -> str:
    return helper(x)


@ray.remote
def double(x: int) -> int:
    return 2 * x


def noting(folder: Any) -> Any:
    """A remote function that counts in a file how often it ran."""

    def count() -> int:
        with open(folder / "runs", "a+") as file:
            file.write("x")
            file.seek(0)
            return len(file.read())

    return count


def test_a_task_has_run_when_remote_returns(capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    def say(word: str) -> int:
        print(word)
        return os.getpid()

    first = say.remote("one")
    assert capsys.readouterr().out == "one\n"
    second = say.remote("two")
    assert capsys.readouterr().out == "two\n"
    assert ray.get([first, second]) == [os.getpid()] * 2
    assert ray.wait([first, second], num_returns=2, timeout=0)[1] == []


def test_errors_are_those_of_the_engine_and_reach_dependents() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("lost")

    failed = fail.remote()
    for ref in (failed, double.remote(failed), double.remote(double.remote(failed))):
        with pytest.raises(KeyError, match="lost") as caught:
            ray.get(ref)
        assert isinstance(caught.value, RayTaskError)
        assert "in fail" in str(caught.value)
        assert os.path.basename(__file__) in str(caught.value)


def test_values_are_copies_and_large_arrays_read_only() -> None:
    @ray.remote
    def grow(items: list[int]) -> list[int]:
        items.append(1)
        return items

    mine: list[int] = []
    assert ray.get(grow.remote(mine)) == [1]
    assert mine == []
    ref = ray.put(mine)
    assert ray.get(ref) is not ray.get(ref)

    @ray.remote
    def is_writeable(array: Any) -> bool:
        return bool(array.flags.writeable)

    assert ray.get(is_writeable.remote(np.zeros(100))) is False
    assert ray.get(is_writeable.remote(ray.put(np.zeros(1_000_000)))) is False


def test_what_cannot_be_pickled_is_refused_as_by_the_engine() -> None:
    with pytest.raises(TypeError, match="Could not serialize the arguments of double"):
        double.remote(threading.Lock())

    @ray.remote
    def give() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError):
        ray.get(give.remote())


def test_functions_run_themselves_so_that_mocks_reach_them(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake = mock.Mock(return_value="fake")
    monkeypatch.setitem(globals(), "helper", fake)
    assert ray.get(helped.remote(1)) == "fake"
    fake.assert_called_once_with(1)
    seen: list[int] = []
    lock = threading.Lock()

    @ray.remote
    def see() -> None:
        with lock:
            seen.append(1)

    ray.get(see.remote())
    assert seen == [1]
    assert "in no worker process. Could not serialize the function" in caplog.text


def test_retries_wait_for_no_backoff_but_keep_its_budget(tmp_path: Any) -> None:
    policy = ray.RetryPolicy(initial_delay=60.0, factor=1.0, jitter=False)
    count = noting(tmp_path)

    @ray.remote(retry_exceptions=[ValueError], retry=policy, max_retries=5)
    def flaky() -> Any:
        if count() < 4:
            raise ValueError("again")
        return ray.get_runtime_context().get_attempt_number()

    begin = time.monotonic()
    assert ray.get(flaky.remote()) == 3
    assert time.monotonic() - begin < 60.0
    short = ray.RetryPolicy(initial_delay=60.0, factor=1.0, jitter=False, time_budget=130.0)

    @ray.remote(retry_exceptions=True, retry=short, max_retries=-1)
    def never() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError) as caught:
        ray.get(never.remote())
    assert [attempt.number for attempt in caught.value.attempts] == [0, 1, 2]


def test_leaving_the_process_is_a_crash_that_is_retried() -> None:
    @ray.remote(max_retries=2)
    def leave() -> None:
        sys.exit(7)

    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(leave.remote())
    assert caught.value.exit_code == 7
    assert len(caught.value.attempts) == 3


def test_nested_tasks_run_where_they_are_submitted_and_wait_for_no_cpu() -> None:
    @ray.remote
    def fibonacci(n: int) -> int:
        if n < 2:
            return n
        return sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))

    assert ray.get(fibonacci.remote(9)) == 34


def test_generators_and_several_results() -> None:
    @ray.remote
    def count(n: int) -> Any:
        yield from range(n)
        raise ValueError("over")

    refs = list(count.remote(2))
    assert ray.get(refs[:2]) == [0, 1]
    with pytest.raises(ValueError, match="over"):
        ray.get(refs[2])

    @ray.remote(num_returns=2)
    def pair() -> Any:
        return np.zeros(100_000), 2

    first, second = pair.remote()
    assert ray.get(first).shape == (100_000,)
    assert ray.get(second) == 2

    @ray.remote(num_returns=3)
    def too_few() -> Any:
        return 1, 2

    with pytest.raises(ValueError, match="num_returns=3"):
        ray.get(too_few.remote()[0])


def test_actors_have_names_state_and_an_end() -> None:
    @ray.remote(max_restarts=1)
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

        def crash(self) -> None:
            os_exit = sys.exit
            os_exit(1)

        def leave(self) -> None:
            ray.exit_actor()

        def restarted(self) -> bool:
            return ray.get_runtime_context().was_current_actor_reconstructed

    counter = Counter.options(name="counter").remote()
    assert [ray.get(counter.add.remote()) for _ in range(3)] == [1, 2, 3]
    assert ray.get(ray.get_actor("counter").add.remote()) == 4
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(counter.crash.remote())
    assert ray.get(counter.add.remote()) == 1
    assert ray.get(counter.restarted.remote())
    with pytest.raises(ActorDiedError):
        ray.get(counter.leave.remote())
    with pytest.raises(ActorDiedError):
        ray.get(counter.add.remote())
    with pytest.raises(ValueError, match="Failed to look up actor"):
        ray.get_actor("counter")

    other = Counter.remote()
    ray.kill(other)
    with pytest.raises(ActorDiedError, match=r"ray\.kill|kill"):
        ray.get(other.add.remote())


def test_an_actor_ends_with_its_last_handle(capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    class Shop:
        def __ray_shutdown__(self) -> None:
            print("closed")

    @ray.remote
    class Bar:
        async def __ray_shutdown__(self) -> None:
            await asyncio.sleep(0)
            print("closed too")

        async def serve(self) -> None:
            pass

    shop = Shop.remote()
    assert ray.get(shop.__ray_ready__.remote())
    assert capsys.readouterr().out == ""
    del shop
    assert capsys.readouterr().out == "closed\n"
    bar = Bar.remote()
    ray.get(bar.serve.remote())
    del bar
    said = ""
    while not said:  # its thread ends beside this one
        said = capsys.readouterr().out
    assert said == "closed too\n"


def test_calls_of_asynchronous_actors_wait_for_each_other() -> None:
    @ray.remote
    class Gate:
        def __init__(self) -> None:
            self.open = asyncio.Event()

        async def passing(self) -> str:
            await self.open.wait()
            return "through"

        async def let(self) -> None:
            self.open.set()

        async def ping(self) -> None:
            pass

    gate = Gate.remote()
    passing = gate.passing.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(passing, timeout=0)
    gate.let.remote()
    assert ray.get(passing, timeout=60) == "through"

    stuck = Gate.remote()
    ref = stuck.passing.remote()
    ray.get(stuck.ping.remote())
    assert ray.cancel(ref).result(60) is ray.CancelOutcome.INTERRUPTED
    with pytest.raises(TaskCancelledError):
        ray.get(ref)


async def test_refs_can_be_awaited_and_tasks_run_loops_of_their_own() -> None:
    @ray.remote
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @ray.remote
    def own_loop(x: int) -> int:
        async def main() -> int:
            return x + 2

        return asyncio.run(main())

    assert await later.remote(1) == 2
    assert await asyncio.gather(own_loop.remote(1), double.remote(4)) == [3, 8]
    assert asyncio.current_task() is not None
    assert ray.get(double.remote(5)) == 10  # it blocks nobody
    done, _ = await asyncio.wait([asyncio.ensure_future(double.remote(1).as_future())])
    assert done.pop().result() == 2


def test_cancel_tells_what_it_finds() -> None:
    done = double.remote(1)
    assert ray.cancel(done).result() is ray.CancelOutcome.FINISHED_FIRST
    assert ray.cancel(done, force=True).result() is ray.CancelOutcome.FINISHED_FIRST

    @ray.remote
    class Slow:
        async def never(self) -> None:
            await asyncio.Event().wait()

    slow = Slow.remote()
    waiting = double.remote(slow.never.remote())
    assert ray.cancel(waiting).result() is ray.CancelOutcome.NOT_STARTED
    with pytest.raises(TaskCancelledError):
        ray.get(waiting)


def test_an_actor_that_is_killed_while_it_works_stops_at_its_next_call(tmp_path: Any) -> None:
    @ray.remote
    class Suicidal:
        def work(self, path: str) -> None:
            ray.kill(ray.get_runtime_context().current_actor)
            with open(path, "w"):
                pass

    actor = Suicidal.remote()
    with pytest.raises(ActorDiedError):
        ray.get(actor.work.remote(str(tmp_path / "went on")))
    assert not (tmp_path / "went on").exists()


def test_ctrl_c_in_a_task_stops_the_program() -> None:
    @ray.remote
    def impatient() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        impatient.remote()
    assert ray.get(double.remote(2)) == 4


def test_runtime_context_knows_task_and_actor() -> None:
    @ray.remote(num_cpus=2, name="who")
    def who() -> tuple[Any, ...]:
        here = ray.get_runtime_context()
        return here.get_task_name(), here.get_assigned_resources(), here.get_actor_id()

    assert ray.get(who.remote()) == ("who", {"CPU": 2.0}, None)
    assert ray.get_runtime_context().get_task_name() is None

    @ray.remote
    class Me:
        def __init__(self) -> None:
            self.made_as = ray.get_runtime_context().get_actor_id()

        def ask(self) -> Any:
            here = ray.get_runtime_context()
            return here.get_actor_id() == self.made_as, here.current_actor

    me = Me.remote()
    same, handle = ray.get(me.ask.remote())
    assert same
    assert handle == me


def test_context_variables_stay_where_they_were_set() -> None:
    token = variable.set(1)
    try:

        @ray.remote
        def set_it(to: int) -> int:
            before = variable.get()
            variable.set(to)
            return before

        assert ray.get([set_it.remote(2), set_it.remote(3)]) == [0, 0]
        assert variable.get() == 1
    finally:
        variable.reset(token)


def test_pools_queues_executors_groups_and_progress() -> None:
    queue: Queue[int] = Queue()
    queue.put(1)
    assert queue.get() == 1
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    queue.shutdown()

    @ray.remote
    class Worker:
        def work(self, x: int) -> int:
            return x * x

    pool = ActorPool([Worker.remote(), Worker.remote()])
    assert list(pool.map(lambda actor, x: actor.work.remote(x), range(4))) == [0, 1, 4, 9]
    with Pool(2) as processes:
        assert processes.map(abs, [-1, 2]) == [1, 2]
    with Executor() as executor:
        assert list(executor.map(abs, [-3, 4])) == [3, 4]
    group = placement_group([{"CPU": 1}])
    assert ray.get(group.ready()) is not None
    from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    inside = double.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    assert ray.get(inside.remote(3)) == 6


def test_state_api_lists_what_ran() -> None:
    ray.get(double.remote(1))

    @ray.remote
    class Thing:
        pass

    thing = Thing.remote()
    assert [(task.name, task.state) for task in list_tasks() if task.name == "double"] == [
        ("double", "FINISHED")
    ]
    (actor,) = list_actors()
    assert (actor.class_name, actor.state) == ("Thing", "ALIVE")
    del thing


def test_lost_values_are_computed_again(tmp_path: Any) -> None:
    count = noting(tmp_path)

    @ray.remote
    def large() -> Any:
        return np.full(100_000, count())

    ref = large.remote()
    assert ray.get(ref)[0] == 1
    ray.testing.lose(ref)
    assert ray.get(ref)[0] == 2
    put = ray.put(np.zeros(100_000))
    ray.testing.lose(put)
    with pytest.raises(ObjectReconstructionFailedError):
        ray.get(put)


def test_a_breakpoint_in_a_task_stops_in_the_terminal(monkeypatch: Any) -> None:
    said = io.StringIO()

    def stop() -> None:
        debugger = pdb.Pdb(stdin=io.StringIO("p x * 100\ncontinue\n"), stdout=said)
        debugger.set_trace(sys._getframe().f_back)

    monkeypatch.setattr(sys, "breakpointhook", stop)

    @ray.remote
    def stopping(x: int) -> int:
        breakpoint()  # noqa: T100
        return x

    before = sys.gettrace()
    try:
        assert ray.get(stopping.remote(7)) == 7
    finally:
        sys.settrace(before)
    assert "700" in said.getvalue()


def test_threads_of_the_driver_may_call_too() -> None:
    found: list[int] = []

    def work(n: int) -> None:
        found.extend(ray.get([double.remote(n * 100 + i) for i in range(50)]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(2 * (n * 100 + i) for n in range(4) for i in range(50))


def test_sessions_follow_each_other_and_leave_nothing() -> None:
    ref = double.remote(1)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        ray.shutdown()
        assert not ray.is_initialized()
        ray.init(local_mode=True)
        assert ray.get(double.remote(1)) == 2
    assert len(os.listdir("/proc/self/fd")) == descriptors
    del ref


def test_what_is_infeasible_waits_as_in_the_engine() -> None:
    ref = double.options(num_cpus=100).remote(1)
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.01)


async def test_an_engine_of_ones_own_has_processes() -> None:
    with pytest.raises(ValueError, match="use init"):
        ray.Engine(local_mode=True)
    with pytest.raises(ValueError, match="choose one"):
        ray.testing.VirtualEngine(local_mode=True)


def test_what_would_wait_for_ever_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="could finish double"):
        ray.get(double.options(num_cpus=100).remote(1))

    @ray.remote
    class Circular:
        def wait(self) -> int:
            return ray.get(ray.get_runtime_context().current_actor.one.remote())

        def one(self) -> int:
            return 1

    circular = Circular.remote()
    with pytest.raises(ray.exceptions.RayActorError, match="can never begin"):
        ray.get(circular.wait.remote())
    assert ray.get(circular.one.remote()) == 1


def test_every_command_of_the_core_is_carried_out() -> None:
    """But what tells of memory, at which nobody looks here."""
    client: Any = registry.current()
    assert set(get_args(Command)) - {ReportMemoryShort} <= set(client.orders)


def test_helpers_of_tasks_know_that_they_are_in_no_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @ray.remote
    def work() -> int:
        counter = Counter("local_work")
        counter.inc(2)
        for _ in tqdm_ray.tqdm(range(3)):
            pass
        tqdm_ray.safe_print("printed")
        return int(global_worker.mode == LOCAL_MODE)

    assert ray.get(work.remote()) == 1
    assert "printed" in capsys.readouterr().out
    assert global_worker.mode == LOCAL_MODE
