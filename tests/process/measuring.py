"""Tasks and actors that measure something, or make spans. Runs in workers."""

from __future__ import annotations

import os

from aioray.util.metrics import Counter, Gauge, Histogram, collect

from .jobs import hold


def count(kind, times=1):
    for _ in range(times):
        Counter("jobs", "Jobs done.", tag_keys=("kind",)).inc(tags={"kind": kind})
    Histogram("size", "Sizes.", boundaries=[1, 10], tag_keys=()).observe(times)
    return times


def show_depth(value):
    Gauge("depth").set(value)
    return os.getpid()


def count_and_wait(started, gate):
    """Measure, and wait for the test without saying anything to the driver."""
    Counter("waiting").inc()
    return hold(started, gate)


def count_and_die():
    Counter("deaths").inc(3)
    os._exit(42)


def put_and_die():
    """What is sent goes with whatever is said next, here a put."""
    import aioray

    Counter("deaths").inc(3)
    aioray.put(1)
    os._exit(42)


def collect_here():
    return collect()


class Till:
    def __init__(self):
        self.sales = Counter("sales", tag_keys=("till",))
        self.sales.set_default_tags({"till": "one"})

    def sell(self, value):
        self.sales.inc(value)
        return value


class AsyncTill(Till):
    async def sell(self, value):
        return super().sell(value)
