"""A FastAPI service whose workers crash and hang, whose clients leave, and which has to end."""

from __future__ import annotations

import asyncio

from benchmarks.service.load import MIX, prove


async def test_every_request_is_answered_rightly_and_no_process_remains():
    # Each client asks at least once, and of these the seed makes some of each kind.
    ledger, lag = await asyncio.to_thread(prove, clients=40, seconds=2.0, seed=4)
    assert ledger.faults == []
    assert set(ledger.right) == set(MIX)
    assert ledger.left > 0
    assert lag["ticks"] > 0
