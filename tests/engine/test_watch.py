"""Measures of one attempt: when the next look is due."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from aioray.engine.processes.watch import PERIOD, SHORTEST, Measure

MB = 1024 * 1024


def measure(limit: int = 100 * MB) -> Measure:
    return Measure(cast("Any", None), 1, limit, 0, 1000.0, lasts=False)


def test_the_first_looks_come_soon_and_then_ever_later() -> None:
    found = measure()
    assert found.due == 1000.0 + SHORTEST
    pauses = []
    for _ in range(20):
        now = found.due
        found.note(0, now)
        pauses.append(found.due - now)
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(SHORTEST)
    assert pauses[-1] == PERIOD


def test_what_grows_fast_is_looked_at_before_it_could_reach_its_limit() -> None:
    found = measure()
    found.note(0, 1010.0)
    found.note(50 * MB, 1010.1)  # the rest would take another 0.1 s
    assert found.due == pytest.approx(1010.1 + 0.05)
    found.note(99 * MB, 1010.15)
    assert found.due == pytest.approx(1010.15 + SHORTEST)


def test_what_shrinks_is_looked_at_as_usual() -> None:
    found = measure()
    found.note(90 * MB, 1010.0)
    found.note(10 * MB, 1010.1)
    assert found.due == pytest.approx(1010.1 + PERIOD)
    assert found.peak == 90 * MB


def test_what_has_exceeded_its_limit_is_looked_at_no_more() -> None:
    found = measure()
    found.note(101 * MB, 1000.1)
    assert found.due == math.inf
    assert found.peak == 101 * MB
