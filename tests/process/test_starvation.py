"""Whoever waits for what actors and groups keep is told of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

import aioray
from aioray.core import starvation
from aioray.util import placement_group
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from . import jobs
from .support import GUARD
from .troupe import Player

pid = aioray.remote(jobs.pid)
Holder = aioray.remote(num_cpus=1)(Player)
END = "end an actor that is no longer needed, by kill() or with its last handle"
REMOVE = "remove a placement group with remove_placement_group()"
HELD = "and no task that ends will free that"


class Warnings(logging.Handler):
    """The warnings of the engine on this loop, one by one."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.queue = asyncio.Queue()

    def emit(self, record):
        self.queue.put_nowait(record.getMessage())

    async def next(self):
        async with asyncio.timeout(GUARD):
            return await self.queue.get()


@pytest.fixture
async def warnings(monkeypatch):
    monkeypatch.setattr(starvation, "STARVED_SECONDS", 0.0)
    handler = Warnings()
    logger = logging.getLogger("aioray")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_who_holds_for_life_what_others_wait_for_is_told(warnings):
    async with aioray.Engine(num_cpus=1, resources={"net": 1}):
        holder = Holder.options(name="first").remote()
        await holder.pid.remote()
        second = Holder.remote()
        assert await warnings.next() == (
            f"Actor Player waits for {{'CPU': 1.0}}, {HELD}: actor Player named first holds "
            f"{{'CPU': 1.0}}. What to do: {END}, or give init() more num_cpus."
        )
        group = placement_group([{"net": 1}], name="mine")
        await group.ready()
        refs = [pid.options(num_cpus=0, resources={"net": 1}).remote()]
        assert await warnings.next() == (
            f"Task pid waits for {{'net': 1.0}}, {HELD}: placement group mine holds "
            f"{{'net': 1.0}}. What to do: {REMOVE}, or give init() more resources."
        )
        inside = PlacementGroupSchedulingStrategy(group)
        keeper = Holder.options(
            num_cpus=0, resources={"net": 1}, scheduling_strategy=inside
        ).remote()
        await keeper.pid.remote()
        refs += [pid.options(num_cpus=0, resources={"net": 1}, scheduling_strategy=inside).remote()]
        assert await warnings.next() == (
            f"Task pid waits for {{'net': 1.0}}, {HELD}: actor Player holds {{'net': 1.0}}. "
            f"What to do: {END}, or make the placement group mine with larger bundles."
        )
        aioray.kill(holder)
        assert await second.pid.remote()
        del refs
