"""What users may say about functions that kill their workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from aioray.shared.crash_breaker import CrashBreaker


def test_a_breaker_without_a_name_is_called_after_where_it_is_made() -> None:
    made = CrashBreaker()
    module, _, line = made.name.rpartition(":")
    assert module == __name__
    assert line.isdigit()
    assert pickle.loads(pickle.dumps(made)) == made
    assert CrashBreaker() != made


def test_the_first_breaker_of_a_program_is_called_so_too() -> None:
    """Bug: it was called after aioray.core.records, which makes the `__init__` at the first use."""
    code = "import aioray; print(aioray.CrashBreaker().name, aioray.CrashBreaker().name)"
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.split() == ["__main__:1", "__main__:1"]


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"crashes": 0}, ValueError, "crashes must be an int >= 1, got 0"),
        ({"crashes": True}, TypeError, "crashes must be an int >= 1, got True of type bool"),
        ({"crashes": 1.5}, TypeError, "crashes must be an int >= 1"),
        ({"period": 0}, ValueError, "period must be a finite number of seconds above 0, got 0"),
        ({"period": float("inf")}, ValueError, "period must be a finite number"),
        ({"rest": -1}, ValueError, "rest must be a finite number of seconds above 0, got -1"),
        ({"rest": "1"}, TypeError, "rest must be a finite number of seconds above 0, got '1'"),
        ({"period": True}, TypeError, "period must be a finite number"),
        ({"name": 5}, TypeError, "name must be a str, got 5 of type int"),
    ],
)
def test_what_makes_no_sense_is_refused(given: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        CrashBreaker(**given)
