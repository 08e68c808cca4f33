"""What is said of memory."""

from __future__ import annotations

import pytest

from aioray.core.outcomes import Excess, Shortage
from aioray.engine.telemetry.memory_texts import advice_on, killed_text, nobody_text, size_text

MB = 1024 * 1024
GB = 1024 * MB
OWN = Excess(1, 300 * MB, 150 * MB)
SHORT = Excess(1, 12 * GB, None, Shortage(31 * GB, 32 * GB, 30 * GB))


@pytest.mark.parametrize(
    ("count", "text"),
    [(512 * 1024, "512 kB"), (1.5 * MB, "1.5 MB"), (1.25 * GB, "1.2 GB"), (3000 * GB, "3000.0 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


def test_who_is_killed_for_its_own_limit() -> None:
    assert killed_text(OWN, 42, ["f"], 0.95) == (
        "The worker with pid 42, which runs f, is killed: it used 300.0 MB of memory, more than "
        "its memory_limit of 150.0 MB."
    )
    assert "memory_limit" in advice_on(OWN)


def test_who_is_killed_for_everybody_s_memory() -> None:
    assert killed_text(SHORT, 42, ["f"], 0.95) == (
        "The worker with pid 42, which runs f, is killed: memory ran short (31.0 GB of 32.0 GB in "
        "use, more than 30.0 GB), and it had 12.0 GB, the most beyond what was asked for. "
        "RAY_memory_usage_threshold (0.95) sets how much may be in use; "
        "RAY_memory_monitor_refresh_ms=0 turns this off."
    )
    assert "num_cpus=" in advice_on(SHORT)


def test_many_calls_and_none() -> None:
    assert "which runs a, b, c, …, is killed" in killed_text(SHORT, 42, list("abcd"), 0.95)
    assert "which runs nothing, is killed" in killed_text(SHORT, 42, [], 0.95)


def test_that_nobody_is_to_blame() -> None:
    assert SHORT.shortage is not None
    text = nobody_text(SHORT.shortage, 0.95)
    assert text.startswith(
        "Memory ran short (31.0 GB of 32.0 GB in use, more than 30.0 GB), and no"
    )
    assert "Nothing is killed." in text
