"""Time-outs that are longer than what the system can count are as good as none, also in tasks."""

from __future__ import annotations

import pytest

import aioray

LONG = {"25 days": 2.2e6, "ages": 1e15, "eons": 1e300, "ever": float("inf"), "an int": 10**400}


def wait_long(timeout):
    one = aioray.remote(lambda: 1)
    ref = one.remote()
    found = [aioray.get(ref, timeout=timeout), len(aioray.wait([ref], timeout=timeout)[0])]
    aioray.cancel(one.remote(), grace=timeout)
    return [*found, *map(aioray.get, aioray.as_completed([one.remote()], timeout=timeout))]


@pytest.mark.parametrize("timeout", LONG.values(), ids=LONG)
def test_driver_and_task_wait_as_long_as_anybody_says(session, timeout):
    assert wait_long(timeout) == [1, 1, 1]
    assert aioray.get(aioray.remote(max_retries=0)(wait_long).remote(timeout)) == [1, 1, 1]
