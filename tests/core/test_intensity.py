"""How many failed starts are tolerated, and how long the next try waits."""

from __future__ import annotations

import pytest

from aioray.core.intensity import RestartIntensity, RestartPolicy


def test_delay_doubles_with_each_failure_in_the_period():
    intensity = RestartIntensity(4, 10.0)
    assert [intensity.failed(float(n)) for n in range(4)] == [0.02, 0.04, 0.08, 0.16]


def test_delay_has_a_longest():
    intensity = RestartIntensity(20, 10.0)
    assert [intensity.failed(0.0) for _ in range(20)][5:] == [0.64] + [1.0] * 14


def test_delay_has_a_longest_for_any_number_of_failures():
    intensity = RestartIntensity(5_000, 10.0)
    assert [intensity.failed(0.0) for _ in range(2_000)][-1] == 1.0


@pytest.mark.parametrize("tolerated", [0, 1, 3])
def test_one_more_than_tolerated_is_too_many(tolerated):
    intensity = RestartIntensity(tolerated, 10.0)
    assert None not in [intensity.failed(0.0) for _ in range(tolerated)]
    assert intensity.failed(0.0) is None


@pytest.mark.parametrize(("now", "delay"), [(9.9, None), (10.0, 0.04)])
def test_failures_count_for_one_period(now, delay):
    """Three failures at 0.0, 5.0 and 5.0: the first is forgotten at 10.0 exactly."""
    intensity = RestartIntensity(2, 10.0)
    intensity.failed(0.0)
    intensity.failed(5.0)
    if now == 10.0:
        assert intensity.failed(now) == delay
    else:
        assert intensity.failed(now) is delay


def test_count_starts_afresh_after_too_many():
    intensity = RestartIntensity(1, 10.0)
    assert [intensity.failed(0.0) for _ in range(4)] == [0.02, None, 0.02, None]


def test_success_forgets_the_failures():
    intensity = RestartIntensity(1, 10.0)
    assert intensity.failed(0.0) == 0.02
    intensity.succeeded()
    assert intensity.failed(0.0) == 0.02


def test_a_policy_lets_the_first_restart_in_a_period_go_at_once():
    intensity = RestartIntensity.of(RestartPolicy(3, 10.0, 0.5, 3.0, 2.0))
    assert [intensity.failed(0.0) for _ in range(4)] == [0.0, 0.5, 1.5, None]
    assert intensity.failed(20.0) == 0.0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"intensity": True},
            TypeError,
            "intensity must be an int >= 0, or None for no limit",
        ),
        ({"intensity": 1.0}, TypeError, "got 1.0 of type float"),
        ({"intensity": -1}, ValueError, "or None for no limit, got -1"),
        (
            {"period": True},
            TypeError,
            "period must be a finite number of seconds above 0",
        ),
        ({"period": "1"}, TypeError, "got '1' of type str"),
        ({"period": 0}, ValueError, "above 0, got 0"),
        ({"period": float("inf")}, ValueError, "above 0, got inf"),
        ({"patience": 0}, ValueError, "patience must be a finite number of seconds above 0"),
        ({"patience": "1"}, TypeError, "got '1' of type str"),
        ({"factor": 0.5}, ValueError, "RestartPolicy: factor must be"),
        ({"initial_delay": "1"}, TypeError, "RestartPolicy: initial_delay must be"),
    ],
)
def test_a_policy_checks_its_numbers(options, error, text):
    with pytest.raises(error, match=text):
        RestartPolicy(**options)
