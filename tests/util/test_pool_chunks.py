"""What the chunks of a pool carry, without a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioray.shared import serialization
from aioray.util.multiprocessing.chunks import Packed

if TYPE_CHECKING:
    import pytest


def test_pickle_that_names_main_is_carried_as_bytes_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serialization, "_by_value", tuple)  # whatever other tests have registered
    monkeypatch.setattr(serialization, "custom_reducers", {})
    monkeypatch.setattr(serialization, "_by_cloudpickle", None)
    data = b"c__main__\nwork\n."
    found = serialization.load(serialization.dumps((1, Packed(data))))
    assert found == (1, data)
    assert type(found[1]) is bytes
