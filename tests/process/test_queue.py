"""Queue, as Ray's documentation and Ray itself (2.60.0) describe it, and where it goes beyond.

A test that would not hold on Ray says so.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
import queue as standard
import threading

import pytest

import aioray
from aioray.exceptions import ActorDiedError, RayError
from aioray.util.queue import Empty, Full, Queue

from .support import GUARD, everywhere


@aioray.remote
def produce(queue, items):
    for item in items:
        queue.put(item)


@aioray.remote
def consume(queue, count):
    return [queue.get() for _ in range(count)]


class _Relay:
    """Takes from one queue and puts into another until it gets None."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink

    def run(self):
        count = 0
        while (item := self.source.get()) is not None:
            self.sink.put(item + 1)
            count += 1
        return count


Relay = aioray.remote(_Relay)


@pytest.mark.usefixtures("session")
class TestOneProcess:
    def test_first_in_first_out(self):
        queue = Queue()
        for item in ("a", {"b": 1}, None):
            queue.put(item)
        assert (len(queue), queue.size(), queue.qsize(), queue.empty()) == (3, 3, 3, False)
        assert [queue.get() for _ in range(3)] == ["a", {"b": 1}, None]
        assert (len(queue), queue.empty()) == (0, True)

    def test_full(self):
        queue = Queue(maxsize=2)
        assert queue.maxsize == 2
        queue.put(1)
        assert not queue.full()
        queue.put_nowait(2)
        assert queue.full()
        for put in (queue.put_nowait, lambda item: queue.put(item, block=False)):
            with pytest.raises(Full):
                put(3)
        with pytest.raises(Full):
            queue.put(3, timeout=0.01)
        assert [queue.get_nowait(), queue.get(block=False)] == [1, 2]

    @pytest.mark.parametrize("maxsize", [0, -1])
    def test_no_limit(self, maxsize):
        queue = Queue(maxsize)
        queue.put_nowait_batch(range(100))
        assert not queue.full()
        assert queue.size() == 100

    def test_empty(self):
        queue = Queue()
        for get in (queue.get_nowait, lambda: queue.get(block=False, timeout=-1)):
            with pytest.raises(Empty):
                get()
        for timeout in (0, 0.01):
            with pytest.raises(Empty):
                queue.get(timeout=timeout)

    def test_timeout_0_takes_and_puts_what_it_can(self):
        """On Ray it raises in any case."""
        queue = Queue(maxsize=1)
        queue.put(1, timeout=0)
        with pytest.raises(Full):
            queue.put(2, timeout=0)
        assert queue.get(timeout=0) == 1

    def test_errors_are_those_of_the_standard_library_too(self):
        assert issubclass(Empty, standard.Empty)
        assert issubclass(Full, standard.Full)

    def test_errors_have_no_traceback_of_the_actor(self):
        """On Ray those of waiting and of batches are RayTaskError as well."""
        queue = Queue(maxsize=1)
        for call, text in (
            (lambda: queue.get(timeout=0), ""),
            (lambda: queue.get_nowait_batch(2), "Cannot get 2 items from queue of size 0."),
            (
                lambda: queue.put_nowait_batch("ab"),
                "Cannot add 2 items to queue of size 0 and maxsize 1.",
            ),
        ):
            with pytest.raises((Empty, Full)) as info:
                call()
            assert str(info.value) == text
            assert not isinstance(info.value, RayError)
            assert info.value.__suppress_context__

    def test_batches_are_all_or_nothing(self):
        queue = Queue(maxsize=3)
        queue.put_nowait_batch([1, 2])
        with pytest.raises(Full):
            queue.put_nowait_batch([3, 4])
        assert queue.size() == 2
        with pytest.raises(Empty):
            queue.get_nowait_batch(3)
        assert queue.size() == 2
        assert queue.get_nowait_batch(0) == []
        assert queue.get_nowait_batch(2) == [1, 2]

    def test_a_batch_may_be_a_generator(self):
        """On Ray it would have to be serializable."""
        queue = Queue()
        queue.put_nowait_batch(item for item in (1, 2))
        assert queue.get_nowait_batch(2) == [1, 2]

    def test_wrong_arguments_are_refused_at_the_call(self):
        queue = Queue(maxsize=1)
        for refused in (
            lambda: queue.get(timeout=-1),
            lambda: queue.put(1, timeout=-1),
            lambda: queue.get_nowait_batch(-1),
            lambda: Queue(actor_options={"nonsense": 1}),
        ):
            with pytest.raises(ValueError, match=r"must be|nonsense"):
                refused()
        for refused in (
            lambda: queue.get_nowait_batch("1"),
            lambda: queue.put_nowait_batch(1),
        ):
            with pytest.raises(TypeError, match="must be an"):
                refused()
        assert queue.empty()

    def test_the_maximum_is_an_int(self):
        """Ray takes anything, and fails later or not at all."""
        with pytest.raises(TypeError, match="maxsize must be an int, got '3'"):
            Queue("3")

    def test_refs_are_put_as_values_and_inside_values_as_refs(self):
        queue = Queue()
        queue.put(aioray.put(5))
        assert queue.get() == 5
        queue.put([aioray.put(6)])
        (ref,) = queue.get()
        assert aioray.get(ref) == 6

    def test_actor_options(self):
        queue = Queue(actor_options={"name": "the queue"})
        queue.put(1)
        assert aioray.get_actor("the queue") == queue.actor
        assert aioray.get(aioray.get_actor("the queue").qsize.remote()) == 1

    def test_the_actor_has_methods_for_those_who_want_refs(self):
        """On Ray, get_nowait there raises asyncio's QueueEmpty."""
        queue = Queue()
        waiting = queue.actor.get.remote()
        queue.put(1)
        assert aioray.get(waiting) == 1
        with pytest.raises(Empty):
            aioray.get(queue.actor.get_nowait.remote())

    def test_a_copy_is_the_same_queue(self):
        queue = Queue(maxsize=2)
        copy = pickle.loads(pickle.dumps(queue))
        copy.put(1)
        assert copy.maxsize == 2
        assert queue.get() == 1

    @pytest.mark.parametrize("force", [False, True])
    def test_after_shutdown_there_is_nothing(self, force):
        """On Ray: AttributeError, for NoneType."""
        queue = Queue()
        copy = pickle.loads(pickle.dumps(queue))
        queue.put(1)
        queue.shutdown(force=force)
        queue.shutdown(force=force)
        for each in (queue, copy):
            for call in (each.size, each.get, each.get_nowait, lambda: each.put(1)):  # noqa: B023
                with pytest.raises(ActorDiedError):
                    call()

    @pytest.mark.parametrize("force", [False, True])
    def test_shutdown_wakes_who_waits(self, force):
        """On Ray they wait for ever, unless it is forced."""
        queue = Queue()
        waiting = queue.actor.get.remote()
        queue.put(1)
        assert aioray.get(waiting) == 1
        waiting = queue.actor.get.remote()
        assert queue.size() == 0  # asked after it, so it waits in the actor
        queue.shutdown(force=force, grace_period_s=1)
        with pytest.raises(ActorDiedError):
            aioray.get(waiting)

    def test_a_thread_waits_while_another_one_puts(self):
        queue = Queue()
        found = []
        thread = threading.Thread(target=lambda: found.append(queue.get(timeout=GUARD)))
        thread.start()
        queue.put("for the other")
        thread.join(GUARD)
        assert found == ["for the other"]

    def test_the_old_name(self):
        with pytest.warns(DeprecationWarning, match=r"moved to ray\.util\.queue"):
            old = importlib.import_module("aioray.experimental.queue")
        assert (old.Queue, old.Empty, old.Full) == (Queue, Empty, Full)


@pytest.mark.usefixtures("session")
class TestManyProcesses:
    def test_tasks_produce_for_the_driver(self):
        queue = Queue(maxsize=2)  # so the producers have to wait
        producers = [produce.remote(queue, list(range(at, at + 10))) for at in (0, 10)]
        found = [queue.get(timeout=GUARD) for _ in range(20)]
        aioray.get(producers)
        assert sorted(found) == list(range(20))
        for at in (0, 10):  # each producer's items are in its order
            assert [item for item in found if at <= item < at + 10] == list(range(at, at + 10))

    def test_the_driver_produces_for_tasks(self):
        queue = Queue(maxsize=2)
        consumers = [consume.remote(queue, 10) for _ in range(2)]
        for item in range(20):
            queue.put(item, timeout=GUARD)
        shares = aioray.get(consumers)
        assert [len(share) for share in shares] == [10, 10]
        assert sorted(shares[0] + shares[1]) == list(range(20))

    def test_actors_relay_from_queue_to_queue(self):
        queues = [Queue(), Queue(maxsize=1), Queue()]
        relays = [Relay.options(num_cpus=0).remote(*queues[at : at + 2]) for at in (0, 1)]
        runs = [relay.run.remote() for relay in relays]
        for item in range(5):
            queues[0].put(item)
        assert [queues[2].get(timeout=GUARD) for _ in range(5)] == [2, 3, 4, 5, 6]
        for at in (0, 1):
            queues[at].put(None)
        assert aioray.get(runs) == [5, 5]

    def test_a_queue_inside_a_value(self):
        queue = Queue()
        work = {"queue": queue, "items": [1, 2]}

        @aioray.remote
        def fill(work):
            work["queue"].put_nowait_batch(work["items"])
            return work["queue"]

        same = aioray.get(fill.remote(work))
        assert same.get_nowait_batch(2) == [1, 2]
        assert queue.empty()


@everywhere
async def test_async_puts_and_gets():
    queue = Queue(maxsize=1)
    await queue.put_async("a")
    with pytest.raises(Full):
        await queue.put_async("b", block=False)
    with pytest.raises(Full):
        await queue.put_async("b", timeout=0.01)
    with pytest.raises(ValueError, match="timeout"):
        await queue.put_async("b", timeout=-1)
    assert await queue.get_async() == "a"
    with pytest.raises(Empty):
        await queue.get_async(block=False)
    with pytest.raises(Empty):
        await queue.get_async(timeout=0.01)
    with pytest.raises(ValueError, match="timeout"):
        await queue.get_async(timeout=-1)


@everywhere
async def test_async_producer_and_consumer():
    queue = Queue(maxsize=2)

    async def take_all():
        found = []
        while (item := await queue.get_async()) is not None:
            found.append(item)
        return found

    async def put_all():
        for item in [*range(10), None]:
            await queue.put_async(item)

    async with asyncio.timeout(GUARD):
        found, _ = await asyncio.gather(take_all(), put_all())
    assert found == list(range(10))


@everywhere
async def test_async_producer_for_a_task():
    queue = Queue()
    consumer = consume.remote(queue, 3)
    for item in range(3):
        await queue.put_async(item)
    assert await consumer == [0, 1, 2]


@everywhere
async def test_get_async_that_was_cancelled_takes_nothing():
    """On Ray it takes the next item, which is lost."""
    queue = Queue()
    first = asyncio.ensure_future(queue.get_async())
    await queue.put_async("first")
    assert await first == "first"
    second = asyncio.ensure_future(queue.get_async())
    assert await queue.actor.qsize.remote() == 0  # asked after it, so it waits in the actor
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await queue.put_async("second")
    async with asyncio.timeout(GUARD):
        assert await queue.get_async() == "second"
