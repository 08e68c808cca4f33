"""ActorPool, as Ray's documentation and Ray itself (2.60.0) describe it, and where it goes beyond.

A test that would not hold on Ray says so.
"""

from __future__ import annotations

import os

import pytest

import aioray
from aioray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from aioray.util.actor_pool import ActorPool

from . import jobs
from .support import GUARD

pytestmark = pytest.mark.usefixtures("session")


class _Plain:
    def double(self, value):
        return 2 * value

    def reject(self, bad, value):
        if value == bad:
            raise ValueError(f"{value} is bad")
        return value

    def hold(self, said, heard):
        jobs.say(said)
        return jobs.listen(heard)

    def die(self, _value):
        os._exit(7)

    def ask(self, other):
        return aioray.get(other.double.remote(1))

    @aioray.method(num_returns=2)
    def both(self, value):
        return value, value + 1


Worker = aioray.remote(num_cpus=0)(_Plain)
Restarted = aioray.remote(num_cpus=0, max_restarts=-1)(_Plain)


def double(actor, value):
    return actor.double.remote(value)


def both(actor, value):
    return actor.both.remote(value)


def die(actor, value):
    return actor.die.remote(value)


def reject_1(actor, value):
    return actor.reject.remote(1, value)


def hold(started, gate):
    """A function for a pool, whose calls wait until the test lets them go on."""
    return lambda actor, _value: actor.hold.remote(started.path, gate.path)


@pytest.fixture
def pair():
    return [Worker.remote(), Worker.remote()]


@pytest.fixture
def pool(pair):
    return ActorPool(pair)


def test_map_keeps_the_order(pool):
    assert list(pool.map(double, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert not pool.has_next()
    assert pool.has_free()


def test_map_unordered_yields_what_is_done_first(pool, started, gate):
    slow = hold(started, gate)
    results = pool.map_unordered(
        lambda actor, value: slow(actor, value) if value == 0 else double(actor, value), range(4)
    )
    assert started.hear() == ""
    assert sorted(next(results) for _ in range(3)) == [2, 4, 6]
    gate.tell("late")
    assert list(results) == ["late"]


@pytest.mark.parametrize("method", ["map", "map_unordered"])
def test_calls_start_when_map_is_called_and_not_when_it_is_iterated(pool, started, gate, method):
    results = getattr(pool, method)(hold(started, gate), [0])
    assert started.hear() == ""
    assert pool.has_next()
    gate.tell("on")
    assert list(results) == ["on"]


@pytest.mark.parametrize("method", ["map", "map_unordered"])
def test_map_drops_what_has_not_been_taken(pool, method):
    for value in range(3):
        pool.submit(double, value)
    assert sorted(getattr(pool, method)(double, [10, 11])) == [20, 22]


@pytest.mark.parametrize("method", ["map", "map_unordered"])
def test_map_of_nothing(pool, method):
    assert list(getattr(pool, method)(double, [])) == []


def test_get_next_follows_the_order_of_submit(pool):
    for value in range(5):
        pool.submit(double, value)
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("method", ["get_next", "get_next_unordered"])
def test_stop_iteration_when_nothing_is_under_way(pool, method):
    with pytest.raises(StopIteration, match="No more results to get"):
        getattr(pool, method)()


def test_has_next_and_has_free_change_when_results_are_taken(pool):
    assert (pool.has_next(), pool.has_free()) == (False, True)
    for value in range(3):
        pool.submit(double, value)
    assert (pool.has_next(), pool.has_free()) == (True, False)
    pool.get_next()
    assert (pool.has_next(), pool.has_free()) == (True, False)  # the third one has been sent now
    pool.get_next()
    assert (pool.has_next(), pool.has_free()) == (True, True)
    pool.get_next()
    assert (pool.has_next(), pool.has_free()) == (False, True)


@pytest.mark.parametrize("method", ["get_next", "get_next_unordered"])
def test_timeout_leaves_everything_as_it_was(pool, started, gate, method):
    pool.submit(hold(started, gate), None)
    started.hear()
    with pytest.raises(TimeoutError, match="Timed out waiting for result"):
        getattr(pool, method)(timeout=0)
    gate.tell("in time")
    assert getattr(pool, method)() == "in time"


def test_ignoring_drops_the_result_and_frees_the_actor(started, gate):
    pool = ActorPool([Worker.remote()])
    pool.submit(hold(started, gate), None)
    pool.submit(double, 4)
    started.hear()
    with pytest.raises(TimeoutError, match=r"The task .*ObjectRef\(.* has been ignored"):
        pool.get_next(timeout=0, ignore_if_timedout=True)
    gate.tell("dropped")
    assert pool.get_next() == 8
    assert not pool.has_next()


def test_ignoring_without_order_drops_the_earliest(pool, started, pipes):
    """Ray fails with an UnboundLocalError."""
    first, second = pipes(2)
    for gate in (first, second):
        pool.submit(hold(started, gate), None)
        started.hear()
    with pytest.raises(TimeoutError, match="has been ignored"):
        pool.get_next_unordered(timeout=0, ignore_if_timedout=True)
    assert pool.has_free()
    first.tell("dropped")
    second.tell("kept")
    assert pool.get_next_unordered() == "kept"
    assert not pool.has_next()


def test_get_next_passes_over_what_came_before_an_unordered_result(pool, started, gate):
    pool.submit(hold(started, gate), None)
    started.hear()
    for value in (1, 2):
        pool.submit(double, value)
    assert pool.get_next_unordered() == 2
    assert pool.get_next() == 4
    with pytest.raises(ValueError, match=r"get_next\(\) after get_next_unordered\(\)"):
        pool.get_next()
    gate.tell("first")
    assert pool.get_next_unordered() == "first"


def test_errors_are_raised_at_their_place_and_the_pool_goes_on(pool):
    for value in range(4):
        pool.submit(reject_1, value)
    assert pool.get_next() == 0
    with pytest.raises(ValueError, match="1 is bad"):
        pool.get_next()
    assert [pool.get_next(), pool.get_next()] == [2, 3]


def test_an_actor_that_died_leaves_the_pool():
    pool = ActorPool([Worker.remote()])
    pool.submit(die, None)
    pool.submit(double, 3)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert (pool.has_next(), pool.has_free(), pool.pop_idle()) == (False, False, None)
    with pytest.raises(StopIteration):
        pool.get_next()
    pool.push(Worker.remote())  # takes the value that waited
    assert pool.get_next() == 6


@pytest.mark.parametrize("method", ["get_next", "get_next_unordered"])
def test_an_actor_that_is_restarted_stays(method):
    """On Ray, the next call may meet the restart too, and fail likewise."""
    pool = ActorPool([Restarted.remote()])
    pool.submit(die, None)
    pool.submit(double, 3)
    with pytest.raises(ActorUnavailableError):
        getattr(pool, method)()
    assert getattr(pool, method)() == 6
    assert pool.has_free()


def test_an_actor_that_met_the_death_of_another_one_stays():
    """With Ray the actor is gone."""
    pool = ActorPool([Worker.remote()])
    dead = Worker.remote()
    aioray.kill(dead)
    pool.submit(lambda actor, other: actor.ask.remote(other), dead)
    with pytest.raises(RayTaskError) as info:
        pool.get_next()
    assert isinstance(info.value.cause, ActorDiedError)
    assert pool.has_free()


def test_push_and_pop_idle(pair):
    one, other = pair
    pool = ActorPool([one])
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(one)
    pool.push(other)
    assert {pool.pop_idle(), pool.pop_idle()} == {one, other}
    assert pool.pop_idle() is None
    pool.push(one)
    pool.submit(double, 1)
    assert pool.pop_idle() is None
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(one)
    assert pool.get_next() == 2
    assert pool.pop_idle() == one


def test_values_wait_for_the_first_actor():
    pool = ActorPool([])
    for value in range(3):
        pool.submit(double, value)
    assert not pool.has_next()
    pool.push(Worker.remote())
    assert [pool.get_next() for _ in range(3)] == [0, 2, 4]


def test_the_results_of_one_call_come_together(pool):
    assert list(pool.map(both, [1, 5])) == [[1, 2], [5, 6]]


def test_the_results_of_one_call_come_in_time_and_in_any_order(pool):
    """Ray raises TypeError in its `wait`."""
    pool.submit(both, 1)
    assert pool.get_next(timeout=GUARD) == [1, 2]
    assert sorted(pool.map_unordered(both, [1, 5])) == [[1, 2], [5, 6]]


def test_a_function_that_raises_costs_no_actor():
    """With Ray the actor is gone."""
    pool = ActorPool([Worker.remote()])
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda _actor, value: 1 // value, 0)
    assert pool.has_free()
    assert list(pool.map(double, [1])) == [2]


def test_a_function_that_raises_for_a_value_that_waited_keeps_the_others():
    """With Ray the actor is gone."""
    pool = ActorPool([Worker.remote()])
    for value in (2, 0, 1, 2):
        pool.submit(lambda actor, value: actor.double.remote(2 // value), value)
    with pytest.raises(ZeroDivisionError):
        pool.get_next()
    assert pool.has_next()
    assert [pool.get_next(), pool.get_next()] == [4, 2]
    assert not pool.has_next()


@pytest.mark.parametrize("method", ["get_next", "get_next_unordered"])
def test_negative_timeouts_are_refused(pool, method):
    pool.submit(double, 1)
    with pytest.raises(ValueError, match="timeout"):
        getattr(pool, method)(timeout=-1)
    assert getattr(pool, method)() == 2


def test_actors_come_as_any_iterable(pair):
    pool = ActorPool(iter(pair))
    assert list(pool.map(double, [1, 2])) == [2, 4]
    with pytest.raises(TypeError):
        ActorPool(None)
