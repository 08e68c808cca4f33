"""The names of `aioray.testing`: each is what it says, whatever was imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aioray.testing


@pytest.mark.parametrize("first", aioray.testing.__all__)
def test_no_module_takes_the_place_of_a_name(first: str) -> None:
    program = (
        f"from aioray.testing import {first}\n"
        "import types\n"
        "import aioray.testing as testing\n"
        "taken = [n for n in testing.__all__ if type(getattr(testing, n)) is types.ModuleType]\n"
        "assert not taken, taken\n"
        "assert set(testing.__all__) == set(dir(testing))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fault'"):
        _ = aioray.testing.fault
