"""Options that limit a task: what they may be, who decides, and what is carried of them."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

import aioray
from aioray.api.checks import check_seconds
from aioray.core.limits import TaskLimits
from aioray.exceptions import RetryTask
from aioray.options.actor import parse_actor_options, parse_method_options
from aioray.options.task import parse_task_options
from aioray.shared.options import LIMITS, MethodOptions, limits_of, resolve_call, resolve_method

SECONDS = ["timeout", "deadline", "stall_timeout"]


def of_function(base: Any = None, **given: Any) -> Any:
    return parse_task_options(given, base=base, is_generator=False)


def of_class(base: Any = None, **given: Any) -> Any:
    return parse_actor_options(given, base=base, asynchronous=False, saves=False)


def of_method(**given: Any) -> MethodOptions:
    return parse_method_options(given, where="method", is_generator=False)


def of_call(**given: Any) -> MethodOptions:
    return parse_method_options(given, where="call", is_generator=False)


PARSERS = [of_function, of_class, of_method, of_call]


def test_the_options_are_the_fields_of_the_record() -> None:
    assert [field.name for field in fields(TaskLimits)] == [*LIMITS]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("option", SECONDS)
@pytest.mark.parametrize("value", [1, 0.25, 1e9])
def test_a_limit_is_kept_as_seconds(parse: Any, option: str, value: Any) -> None:
    kept = getattr(parse(**{option: value}), option)
    assert (kept, type(kept)) == (value, float)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("option", SECONDS)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        (1j, TypeError),
        ([1], TypeError),
        (-1, ValueError),
        (-1e-9, ValueError),
        (math.inf, ValueError),
        (math.nan, ValueError),
        (10**400, ValueError),
    ],
)
def test_what_is_no_number_of_seconds_is_refused(
    parse: Any, option: str, value: Any, error: Any
) -> None:
    expected = f"{option} must be a finite number of seconds >=? 0, or None for no limit, got"
    with pytest.raises(error, match=expected):
        parse(**{option: value})


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(("value", "kept"), [(1, 1), (1.5e9, 1_500_000_000), (2**40, 2**40)])
def test_a_memory_limit_is_kept_in_bytes(parse: Any, value: float, kept: int) -> None:
    found = parse(memory_limit=value).memory_limit
    assert (found, type(found)) == (kept, int)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("1GB", TypeError),
        (True, TypeError),
        ([1], TypeError),
        (0, ValueError),
        (0.5, ValueError),
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
    ],
)
def test_what_is_no_number_of_bytes_is_refused(parse: Any, value: Any, error: Any) -> None:
    expected = "memory_limit must be a number of bytes >= 1, or None for no limit, got"
    with pytest.raises(error, match=expected):
        parse(memory_limit=value)


def test_a_memory_limit_is_set_and_lifted_as_the_others_are() -> None:
    assert limits_of(of_function(memory_limit=5)) == TaskLimits(memory_limit=5)
    assert limits_of(of_function(of_function(memory_limit=5), memory_limit=None)) is None
    method = resolve_method(of_method(memory_limit=5), of_class(memory_limit=9), is_generator=False)
    assert limits_of(method) == TaskLimits(memory_limit=5)
    assert limits_of(resolve_call(of_call(memory_limit=None), method)) is None


@pytest.mark.parametrize("parse", PARSERS)
def test_a_deadline_may_be_over_and_an_attempt_must_have_some_time(parse: Any) -> None:
    assert parse(deadline=0).deadline == 0.0
    for option in ("timeout", "stall_timeout"):
        with pytest.raises(ValueError, match=f"{option} must be a finite number of seconds > 0"):
            parse(**{option: 0})


def test_tasks_and_actors_without_limits_have_no_record() -> None:
    assert limits_of(of_function()) is None
    assert limits_of(of_class()) is None
    assert limits_of(of_function(timeout=None, deadline=None, stall_timeout=None)) is None
    assert limits_of(resolve_method(MethodOptions(), of_class(timeout=5), is_generator=False)) is (
        None
    )


@pytest.mark.parametrize("parse", [of_function, of_class])
def test_options_replace_the_limits_of_the_decorator_one_by_one(parse: Any) -> None:
    decorated = parse(timeout=5, deadline=60)
    assert limits_of(decorated) == TaskLimits(timeout=5.0, deadline=60.0)
    assert limits_of(parse(decorated, timeout=1)) == TaskLimits(timeout=1.0, deadline=60.0)
    assert limits_of(parse(decorated, deadline=None)) == TaskLimits(timeout=5.0)
    assert limits_of(parse(decorated, timeout=None, deadline=None)) is None


def test_a_call_replaces_the_limits_of_its_method_one_by_one() -> None:
    given = of_method(timeout=5, stall_timeout=1)
    method = resolve_method(given, of_class(), is_generator=False)
    assert limits_of(method) == TaskLimits(timeout=5.0, stall_timeout=1.0)
    call = resolve_call(of_call(timeout=2), method)
    assert limits_of(call) == TaskLimits(timeout=2.0, stall_timeout=1.0)
    assert limits_of(resolve_call(of_call(), method)) == limits_of(method)


def test_none_given_to_a_call_lifts_the_limit_of_its_method() -> None:
    method = resolve_method(of_method(timeout=5, deadline=9), of_class(), is_generator=False)
    assert limits_of(resolve_call(of_call(timeout=None), method)) == TaskLimits(deadline=9.0)
    assert limits_of(resolve_call(of_call(timeout=None, deadline=None), method)) is None


BEYOND = 10**400  # an int that no float is


@pytest.mark.parametrize(
    "make",
    [
        lambda: aioray.Limiter("api", rate=1, per=BEYOND),
        lambda: aioray.CrashBreaker(period=BEYOND),
        lambda: aioray.CrashBreaker(rest=BEYOND),
        lambda: aioray.RestartPolicy(intensity=1, period=BEYOND),
        lambda: aioray.RestartPolicy(patience=BEYOND),
        lambda: aioray.RetryPolicy(initial_delay=BEYOND),
        lambda: RetryTask(BEYOND),
        lambda: check_seconds("timeout", -BEYOND),
    ],
)
def test_number_beyond_all_floats_is_refused_as_others_are(make):
    with pytest.raises(ValueError, match=r"(per|period|rest|patience|delay|timeout)\b"):
        make()


def test_time_beyond_all_floats_is_no_limit():
    assert check_seconds("timeout", BEYOND) == float("inf")
