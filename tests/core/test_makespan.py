"""How long tasks of many lengths take on a machine in virtual time, by the rules of `prefetch`."""

from __future__ import annotations

import math
import random
import statistics
from typing import TYPE_CHECKING

import pytest

from aioray.core import prefetch

from .machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1e-3


def span_of(cpus: int, lengths: list[float], **options: float) -> tuple[float, Machine]:
    machine = Machine(cpus, statistics.mean(lengths), **options)
    return machine.run((0.0, lengths)), machine


@pytest.mark.parametrize("latency", [0.1 * MS, 0.5 * MS])
@pytest.mark.parametrize("cpus", [2, 4])
@pytest.mark.parametrize("milliseconds", [1, 1.6, 2, 3, 5, 10, 20, 50, 100])
def test_equal_tasks_from_a_millisecond_on_keep_all_workers_busy(milliseconds, cpus, latency):
    count = cpus * 50
    span, machine = span_of(cpus, [milliseconds * MS] * count, latency=latency)
    assert 50 * milliseconds * MS / span >= 0.95
    assert machine.dry <= 2 * cpus


LENGTHS: dict[str, Callable[[random.Random], float]] = {
    "exponential": lambda chance: chance.expovariate(1 / (3 * MS)),
    "exponential, long": lambda chance: chance.expovariate(1 / (50 * MS)),
    "uniform": lambda chance: chance.uniform(0, 10 * MS),
    "few long": lambda chance: chance.choice([MS] * 19 + [50 * MS]),
    "very few very long": lambda chance: chance.choice([MS] * 99 + [1.0]),
    "short and long": lambda chance: chance.choice([0.1 * MS] * 9 + [20 * MS]),
    "lognormal": lambda chance: chance.lognormvariate(-6.5, 1.5),
    "heavy tail": lambda chance: min(2.0, 0.5 * MS * chance.paretovariate(1.1)),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_mixed_lengths_take_no_longer_than_without_the_next_attempt_at_hand(name, monkeypatch):
    """On average: that the order is another one makes single mixes shorter, or longer."""
    chance = random.Random(name)
    mixes = [
        (cpus, [LENGTHS[name](chance) for _ in range(count)])
        for cpus in (2, 4, 12)
        for count in (7, 30, 120)
        for _ in range(3)
    ]
    spans = [span_of(cpus, lengths)[0] for cpus, lengths in mixes]
    monkeypatch.setattr(prefetch, "NEXT_SECONDS", 0.0)
    before = [span_of(cpus, lengths)[0] for cpus, lengths in mixes]
    ratios = [math.log(new / old) for new, old in zip(spans, before, strict=True)]
    assert math.exp(statistics.mean(ratios)) <= 1.01


@pytest.mark.parametrize("name", LENGTHS)
def test_nobody_is_idle_for_long_while_something_waits(name):
    """No task begins later than list scheduling allows, but for what news and a look take."""
    chance = random.Random(name)
    for cpus in (2, 4, 12):
        for count in (7, 30, 120):
            lengths = [LENGTHS[name](chance) for _ in range(count)]
            span, _ = span_of(cpus, lengths)
            bound = sum(lengths) / cpus + max(lengths)
            assert span <= bound + 3 * prefetch.STALL_SECONDS + count * 0.1 * MS
