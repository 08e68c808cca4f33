"""RetryPolicy and crash_delay: the delays they give, and the values they refuse."""

import math
import pickle
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.core.retries import CRASH_BACKOFF, crash_delay
from aioray.retry import RetryPolicy


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(jitter=False), [0.0, 0.0, 0.0]),
        (RetryPolicy(1, 2, 60, jitter=False), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (RetryPolicy(1.5, 3.0, 10.0, jitter=False), [1.5, 4.5, 10.0, 10.0]),
        (RetryPolicy(0.25, factor=1.0, jitter=False), [0.25, 0.25, 0.25]),
        (RetryPolicy(5, maximum_delay=5, jitter=False), [5.0, 5.0]),
    ],
)
def test_delay_grows_by_factor_up_to_maximum(policy: RetryPolicy, delays: list[float]) -> None:
    rng = random.Random(0)
    assert [policy.delay(n, rng) for n in range(1, len(delays) + 1)] == delays


@pytest.mark.parametrize("retry", [10**6, 10**400])
@pytest.mark.parametrize(
    ("policy", "delay"),
    [
        (RetryPolicy(1.0, jitter=False), 60.0),
        (RetryPolicy(1.0, factor=1.0, jitter=False), 1.0),
        (RetryPolicy(0.0, jitter=False), 0.0),
        (RetryPolicy(5e-324, factor=1e308, maximum_delay=7.0, jitter=False), 7.0),
    ],
)
def test_enormous_retry_numbers_do_not_overflow(
    policy: RetryPolicy, delay: float, retry: int
) -> None:
    assert policy.delay(retry, random.Random(0)) == delay


@given(
    initial=st.floats(0, 100),
    factor=st.floats(1, 1e6),
    extra=st.floats(0, 1e6),
    retry=st.integers(1, 10**9),
    seed=st.integers(),
)
def test_jittered_delay_lies_between_zero_and_the_ceiling(
    initial: float, factor: float, extra: float, retry: int, seed: int
) -> None:
    policy = RetryPolicy(initial, factor, initial + extra)
    delay = policy.delay(retry, random.Random(seed))
    assert 0.0 <= delay <= policy.ceiling(retry) <= policy.maximum_delay


def test_jitter_uses_the_whole_range_evenly() -> None:
    rng = random.Random(7)
    policy = RetryPolicy(8.0)
    drawn = [policy.delay(1, rng) for _ in range(4000)]
    quarters = [sum(low <= d < low + 2 for d in drawn) for low in (0, 2, 4, 6)]
    assert min(quarters) > 900


def test_same_seed_gives_the_same_delays() -> None:
    policy = RetryPolicy(1.0)
    first, second = random.Random(3), random.Random(3)
    assert [policy.delay(n, first) for n in range(1, 9)] == [
        policy.delay(n, second) for n in range(1, 9)
    ]


@pytest.mark.parametrize("policy", [RetryPolicy(), RetryPolicy(1.0, jitter=False)])
def test_generator_is_untouched_when_nothing_is_drawn(policy: RetryPolicy) -> None:
    rng = random.Random(1)
    before = rng.getstate()
    policy.delay(3, rng)
    assert rng.getstate() == before


@pytest.mark.parametrize("retry", [0, -1])
def test_retries_are_counted_from_one(retry: int) -> None:
    with pytest.raises(ValueError, match=f"counted from 1, got {retry}"):
        RetryPolicy().delay(retry, random.Random(0))
    with pytest.raises(ValueError, match=f"counted from 1, got {retry}"):
        crash_delay(retry)


NUMBERS = ["initial_delay", "factor", "maximum_delay", "time_budget"]


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        ([1], TypeError),
        (1j, TypeError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (-0.5, ValueError),
        (10**400, ValueError),
    ],
)
def test_bad_numbers_are_refused_by_name(field: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"RetryPolicy: {field} must be a finite number >= ") as info:
        RetryPolicy(**{field: value})
    assert ("None" in str(info.value)) == (field == "time_budget")


@pytest.mark.parametrize("field", NUMBERS[:3])
def test_none_is_refused_where_it_has_no_meaning(field: str) -> None:
    none: dict[str, Any] = {field: None}
    with pytest.raises(TypeError, match=field):
        RetryPolicy(**none)


@pytest.mark.parametrize("jitter", [1, 0, None, "full", 0.5])
def test_jitter_must_be_a_bool(jitter: object) -> None:
    with pytest.raises(TypeError, match="jitter must be True"):
        RetryPolicy(jitter=jitter)


def test_shrinking_factor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"factor must be a finite number >= 1, got 0\.5"):
        RetryPolicy(factor=0.5)


def test_initial_delay_above_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match=r"initial_delay \(61.0\) must not exceed maximum_delay"):
        RetryPolicy(initial_delay=61)


def test_numbers_are_kept_as_floats() -> None:
    policy = RetryPolicy(1, 2, 3, time_budget=4)
    kept = [getattr(policy, field) for field in NUMBERS]
    assert kept == [1.0, 2.0, 3.0, 4.0]
    assert {type(number) for number in kept} == {float}


def test_policy_is_frozen_hashable_and_survives_pickling() -> None:
    policy = RetryPolicy(1.0, time_budget=30.0)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(RetryPolicy(1, time_budget=30))
    with pytest.raises(AttributeError):
        policy.factor = 3.0  # type: ignore[misc]


def test_first_crash_retry_is_immediate_then_doubles_to_five_seconds() -> None:
    delays = [crash_delay(n) for n in range(1, 11)]
    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert crash_delay(10**6) == CRASH_BACKOFF.maximum_delay == 5.0


def test_core_module_does_not_import_random() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"  # a .pth file may import what it likes
        "import aioray.core.retries; sys.exit('random' in set(sys.modules) - before)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
