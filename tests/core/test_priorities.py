"""In which order waiting tasks go: by priority, by age, and never so that one starves."""

from __future__ import annotations

import itertools
import math
import random
from collections import deque

import pytest

from aioray.core.commands import ReportCancel, SendAttempts
from aioray.core.outcomes import CancelOutcome, Ended
from aioray.core.queues import AGEING_SECONDS, RankedQueue

from .support import HALF_CPU, ONE_CPU, SHORT, Core, answer


def sent(commands):
    """The tasks that these commands send, in order."""
    return [task for c in commands if isinstance(c, SendAttempts) for task in c.tasks]


def run_all(core, running, now=0.0):
    """Let the one worker answer what it runs until nothing is left: the order of the rest."""
    order = []
    while True:
        commands = core.answer(1, *map(answer, running), now=now)
        running = sent(commands)
        if not running:
            return order
        order += running


def test_higher_priority_goes_first_and_equals_in_the_order_submitted():
    core = Core()
    running = core.running()
    tasks = [core.task(priority=priority) for priority in (0, 5, -1, 5.5, 0, 5, -1)]
    core.submit(*tasks)
    order = sorted(range(7), key=lambda index: (-tasks[index].priority, index))
    assert run_all(core, [running]) == [tasks[index] for index in order]


@pytest.mark.parametrize("demand", [ONE_CPU, HALF_CPU])
def test_priority_counts_within_a_class_and_between_classes(demand):
    core = Core()
    running = core.running()
    low = core.task(demand=demand)
    high = core.task(priority=1)
    core.submit(low)
    core.submit(high)
    assert run_all(core, [running]) == [high, low]


@pytest.mark.parametrize(("lead", "urgent_first"), [(-0.1, True), (0.1, False)])
@pytest.mark.parametrize("demand", [ONE_CPU, HALF_CPU])
@pytest.mark.parametrize("priority", [1, 2.5])
def test_one_unit_of_priority_is_worth_ten_seconds_of_waiting(priority, demand, lead, urgent_first):
    core = Core()
    running = core.running()
    assert AGEING_SECONDS == 10.0
    old, urgent = core.task(demand=demand), core.task(priority=priority)
    core.submit(old, now=3.0)
    core.submit(urgent, now=3.0 + 10.0 * priority + lead)
    order = [urgent, old] if urgent_first else [old, urgent]
    assert run_all(core, [running], now=100.0) == order


@pytest.mark.parametrize("priority", [1, 30, 1000])
def test_stream_of_urgent_tasks_starves_nobody(priority):
    core = Core()
    running = [core.running()]
    low = core.task(priority=0)
    core.submit(low)
    for now in itertools.count():
        core.submit(core.task(priority=priority), now=float(now))
        running = sent(core.answer(1, *map(answer, running), now=float(now)))
        if running == [low]:
            break
        assert now < 10 * priority + 1
    assert now >= 10 * priority - 1


def test_urgent_task_overtakes_what_was_not_sent_yet():
    core = Core()
    core.function("f", SHORT)
    first = core.running()
    core.answer(1, answer(first, duration=SHORT))
    many = core.tasks(600)
    bundles = sent(core.submit(*many))
    urgent = core.task(priority=1)
    assert sent(core.submit(urgent)) == []
    answers = [answer(task, duration=SHORT) for task in bundles]
    assert sent(core.answer(1, *answers))[0] is urgent


def test_busy_worker_is_not_topped_up_while_something_more_urgent_lacks_what_it_holds():
    core = Core()
    core.function("f", SHORT)
    first = core.running()
    core.answer(1, answer(first, duration=SHORT))
    many = core.tasks(600)
    bundle = sent(core.submit(*many))
    core.submit(core.task(demand=HALF_CPU, priority=1, function="g"))
    half = [answer(task, duration=SHORT) for task in bundle[:200]]
    assert sent(core.answer(1, *half)) == []


def test_first_retry_keeps_its_place_and_a_second_goes_behind_those_as_urgent():
    core = Core()
    failing = core.running(priority=2, max_retries=3)
    low = core.task()
    other = core.task(priority=2)
    core.submit(low, other, now=1.0)
    again = Ended.RAISED_RETRYABLE
    assert sent(core.answer(1, answer(failing, again), now=2.0)) == [failing]
    assert sent(core.answer(1, answer(failing, again), now=3.0)) == [other]
    assert sent(core.answer(1, answer(other), now=4.0)) == [failing]
    assert sent(core.answer(1, answer(failing), now=5.0)) == [low]


def test_reclaimed_attempts_go_back_to_their_places():
    core = Core()
    first = core.running()
    low, high, middle = tasks = [core.task(priority=priority) for priority in (1, 3, 2)]
    core.submit(*tasks)
    assert sent(core.answer(1, answer(first, duration=SHORT))) == [high, middle, low]
    core.reclaimed(1, middle, low, now=1.0)
    assert run_all(core, [high], now=2.0) == [middle, low]


def test_urgent_task_that_waits_can_be_cancelled():
    core = Core()
    running = core.running()
    tasks = [core.task(priority=priority) for priority in (1, 3, 2)]
    core.submit(*tasks)
    assert core.cancel(tasks[1])[-1] == ReportCancel(1, CancelOutcome.NOT_STARTED)
    assert run_all(core, [running]) == [tasks[2], tasks[0]]


def test_queue_becomes_a_plain_one_again_when_it_is_empty():
    core = Core()
    running = core.running()
    cls = running.scheduling_class
    assert type(cls.queue) is deque
    core.submit(core.task(priority=1))
    assert type(cls.queue) is RankedQueue
    run_all(core, [running])
    assert type(cls.queue) is deque


@pytest.mark.parametrize("priority", [1e308, -1e308])
def test_extreme_priority_is_no_more_than_first_or_last(priority):
    core = Core()
    running = core.running()
    plain, extreme = core.task(), core.task(priority=priority)
    core.submit(plain, extreme, now=1.0)
    order = [extreme, plain] if priority > 0 else [plain, extreme]
    assert run_all(core, [running], now=2.0) == order
    assert math.isinf(priority * AGEING_SECONDS)


def test_ranked_queue_gives_out_in_order_whatever_was_put_in_and_taken_out():
    core, chance = Core(), random.Random(1)
    queue, inside = RankedQueue([]), []
    for step in range(500):
        if chance.random() < 0.6 or not inside:
            task = core.task(priority=chance.choice((0, 1, 2.5)))
            task.queued_at = float(step)
            chance.choice((queue.append, queue.appendleft))(task)
            inside.append(task)
        elif chance.random() < 0.3:
            task = inside.pop(chance.randrange(len(inside)))
            queue.remove(task)
        else:
            first = min(inside, key=lambda task: (task.queued_at - 10 * task.priority, task.number))
            assert queue[0] is first
            assert queue.popleft() is first
            inside.remove(first)
        assert len(queue) == len(inside)
        assert set(queue) == set(inside)
    assert list(queue) == sorted(inside, key=lambda t: (t.queued_at - 10 * t.priority, t.number))
