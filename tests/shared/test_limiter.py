"""What a Limiter may be."""

from __future__ import annotations

import pickle

import pytest

from aioray import Limiter


@pytest.mark.parametrize(
    ("figures", "error", "text"),
    [
        ({"name": 1, "concurrency": 1}, TypeError, "name must be a str"),
        ({"name": "", "concurrency": 1}, ValueError, "name must not be empty"),
        ({"concurrency": 0}, ValueError, "concurrency must be an int >= 1"),
        ({"concurrency": True}, TypeError, "concurrency must be an int >= 1"),
        ({"rate": 0.5}, TypeError, "make `per` longer"),
        ({"rate": 1, "per": 0}, ValueError, "per must be a finite number"),
        ({"rate": 1, "per": "1"}, TypeError, "per must be a finite number"),
        ({"rate": 1, "per": float("inf")}, ValueError, "per must be a finite number"),
        ({}, ValueError, "give a concurrency, a rate, or both"),
    ],
)
def test_wrong_figures_are_refused_at_once(figures, error, text):
    with pytest.raises(error, match=text):
        Limiter(**{"name": "a", **figures})


def test_limiters_are_data():
    limiter = Limiter("a", rate=2, per=60)
    assert pickle.loads(pickle.dumps(limiter)) == limiter
    assert hash(limiter) == hash(Limiter("a", rate=2, per=60.0))
