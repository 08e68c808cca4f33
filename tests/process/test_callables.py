"""What can be remote beside functions, what calls of it see, and what one leaves to the next."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import multiprocessing
import re

import numpy as np
import pytest

import aioray
from aioray.exceptions import RayTaskError
from aioray.util import Executor
from aioray.util.multiprocessing import Pool

from . import jobs, util_jobs
from .support import GUARD, everywhere

script = pytest.mark.usefixtures("session")
thing = jobs.Callable(2)


@script
@pytest.mark.parametrize(
    ("target", "args", "value", "name"),
    [
        (functools.partial(pow, 2), (3,), 8, "pow"),
        (functools.partial(functools.partial(jobs.add, 1), b=2), (), 3, "add"),
        (thing, (1,), 3, "Callable"),
        (thing.predict, (3,), 6, "predict"),
        (thing.wait, (3,), 5, "wait"),
        (jobs.Callable.static, (3,), -3, "static"),
        (jobs.Callable.of_class, (3,), ("Callable", 3), "of_class"),
        (jobs.CallableCoroutine(), (3,), 3, "CallableCoroutine"),
        (math.sqrt, (16,), 4.0, "sqrt"),
        (max, (1, 2), 2, "max"),
        ([3, 1].count, (1,), 1, "count"),
        (np.add, (1, 2), 3, "add"),
        (functools.lru_cache(lambda x: x + 1), (1,), 2, "<lambda>"),
        (staticmethod(jobs.add), (1, 2), 3, "add"),
    ],
)
def test_any_callable_can_be_remote(target, args, value, name):
    made = aioray.remote(target)
    assert made.name == made.__name__ == name
    assert aioray.get(made.remote(*args), timeout=GUARD) == value
    assert aioray.get(made.options(num_cpus=0).remote(*args), timeout=GUARD) == value
    assert aioray.get(aioray.remote(num_cpus=0)(target).remote(*args), timeout=GUARD) == value


@script
@pytest.mark.parametrize(
    "target",
    [jobs.CallableGenerator(), thing.several, functools.partial(thing.several)],
    ids=["object", "method", "partial"],
)
def test_callables_that_make_generators_give_streams(target):
    stream = aioray.remote(target).remote(3)
    assert [aioray.get(ref, timeout=GUARD) for ref in stream] == [0, 1, 2]


@script
def test_an_object_is_serialized_once_and_its_attributes_are_its_own():
    mine = jobs.Callable(2)
    made = aioray.remote(mine)
    assert aioray.get(made.remote(1), timeout=GUARD) == 3
    mine.by = 50
    assert aioray.get(made.remote(1), timeout=GUARD) == 3
    assert made.function is mine
    with pytest.raises(TypeError, match=r"Callable\.remote\(\): missing"):
        made.remote()


@script
def test_an_error_of_a_partial_is_told_under_the_name_of_its_function():
    with pytest.raises(ValueError) as info:
        aioray.get(aioray.remote(functools.partial(math.sqrt, -1)).remote(), timeout=GUARD)
    assert isinstance(info.value, RayTaskError)
    assert info.value.function_name == "sqrt"


@pytest.mark.parametrize("target", [5, "x", None, [jobs.add]])
def test_what_cannot_be_called_is_refused(target):
    with pytest.raises(AssertionError, match=re.escape(f"it was given ({target!r}).")):
        aioray.remote(target)
    with pytest.raises(TypeError, match="takes a function, a class or another callable"):
        aioray.remote(num_cpus=1)(target)


@pytest.mark.parametrize("given", [(jobs.add, 1), (1, 2), ()])
def test_several_positional_arguments_and_none_are_refused(given):
    with pytest.raises(AssertionError, match="is used bare"):
        aioray.remote(*given)
    with pytest.raises(AssertionError, match="num_cpus=1"):
        aioray.remote(jobs.add, num_cpus=1)


def test_what_is_remote_is_not_made_so_again():
    with pytest.raises(TypeError, match="is remote already"):
        aioray.remote(aioray.remote(jobs.add))


@script
def test_the_signature_of_a_wrapper_counts():
    assert aioray.get(aioray.remote(jobs.in_session).remote(1), timeout=GUARD) == ("session", 1)

    def narrow(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x, 1)

        return wrapper

    narrowed = aioray.remote(narrow(jobs.add))
    assert aioray.get(narrowed.remote(1), timeout=GUARD) == 2
    with pytest.raises(TypeError, match="too many positional arguments"):
        narrowed.remote(1, 2)


def test_a_signature_that_is_stated_counts():
    def loose(*args):
        return args

    loose.__signature__ = inspect.signature(lambda x: x)
    with pytest.raises(TypeError, match="too many positional arguments"):
        aioray.remote(loose).remote(1, 2)


@script
def test_methods_of_actors_can_be_caches():
    actor = aioray.remote(jobs.WithCache).remote()
    assert aioray.get(actor.cached.remote(1), timeout=GUARD) == [1]


# ---------------------------------------------------------------- context variables


@everywhere
@pytest.mark.parametrize(
    "function", [jobs.swap_seen, jobs.swap_seen_in_coroutine], ids=["function", "coroutine"]
)
async def test_context_variables_do_not_leak_into_the_next_task(function):
    swap = aioray.remote(function)
    assert [await swap.remote(number) for number in range(20)] == ["nothing"] * 20


@everywhere
async def test_context_variables_do_not_leak_out_of_generators():
    swap = aioray.remote(jobs.swap_seen_in_generator)
    for number in range(10):
        refs = [ref async for ref in swap.remote(number)]
        assert [await ref for ref in refs] == ["nothing", number]


@everywhere
@pytest.mark.parametrize(
    ("cls", "limit"),
    [(jobs.SetsSeen, 1), (jobs.SetsSeen, 2), (jobs.SetsSeenAsync, 1)],
    ids=["sync", "threads", "async"],
)
async def test_calls_of_an_actor_see_what_its_init_has_set_and_nothing_of_each_other(cls, limit):
    actor = aioray.remote(max_concurrency=limit)(cls).remote()
    assert [await actor.swap.remote(number) for number in range(10)] == ["made"] * 10


# ---------------------------------------------------------------- whose memory it is


@pytest.mark.parametrize("size", [3, 100_000])
@script
def test_what_pools_and_executors_hand_out_can_be_written_to(size):
    ones = np.ones(size)
    with Pool(1) as pool:
        assert pool.map(jobs.writable, [ones, ones]) == [True, True]
        assert pool.starmap(jobs.writable, [[ones]]) == [True]
        assert pool.apply(jobs.writable, (ones,)) is True
        assert pool.apply(functools.partial(jobs.writable, ones)) is True
        for result in (*pool.map(np.zeros, [size]), *pool.imap(np.zeros, [size])):
            result[:] = 1
            assert result.sum() == size
    with Executor() as executor:
        assert executor.submit(jobs.writable, ones).result(GUARD) is True
        assert executor.submit(jobs.writable, array=ones).result(GUARD) is True
        assert executor.submit(functools.partial(jobs.writable, ones)).result(GUARD) is True
        result = executor.submit(np.zeros, size).result(GUARD)
        result += 1
        # It is everybody's where it was put into the store.
        assert executor.submit(jobs.writable, aioray.put(ones)).result(GUARD) is False
    assert not aioray.get(aioray.remote(np.zeros).remote(size), timeout=GUARD).flags.writeable


# ---------------------------------------------------------------- executors and sessions


@script
@pytest.mark.parametrize("make", [lambda: Executor(2), lambda: Executor(max_workers=2)])
def test_executor_takes_max_workers(make):
    with make() as executor:
        assert executor.submit(util_jobs.double, 2).result(GUARD) == 4


def test_executor_starts_a_session_of_as_many_cpus():
    try:
        with Executor(3) as executor:
            assert executor.submit(util_jobs.double, 2).result(GUARD) == 4
            assert aioray.cluster_resources()["CPU"] == 3
    finally:
        aioray.shutdown()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"mp_context": multiprocessing.get_context("fork")}, ValueError, "fork"),
        ({"max_tasks_per_child": 0}, ValueError, "must be >= 1"),
        ({"max_tasks_per_child": 1, "max_calls": 1}, TypeError, "they are the same"),
    ],
)
def test_executor_explains_what_it_does_not_take(options, error, text):
    with pytest.raises(error, match=text):
        Executor(**options)


def test_a_call_after_shutdown_says_that_it_starts_another_session(caplog):
    caplog.set_level(logging.WARNING, "aioray")
    add = aioray.remote(jobs.add)
    try:
        aioray.init(num_cpus=1)
        aioray.shutdown()
        assert "new session" not in caplog.text
        assert aioray.get([add.remote(1), add.remote(2)], timeout=GUARD) == [1, 2]
        assert caplog.text.count("A new session was started") == 1
        aioray.shutdown()
        aioray.init(num_cpus=1)
        add.remote(1)
        assert caplog.text.count("A new session was started") == 1
    finally:
        aioray.shutdown()
