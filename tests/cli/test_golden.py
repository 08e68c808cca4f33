"""What every command prints in every format, byte for byte, against files in `golden/commands`."""

from __future__ import annotations

import pytest

from tests.cli.cases import AFTER, CASES, GOLDEN, printed


@pytest.mark.parametrize("name", [*CASES, *AFTER])
def test_command_prints_what_it_printed_before(name: str) -> None:
    assert printed(name) == (GOLDEN / f"{name}.txt").read_text()


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {*CASES, *AFTER}
