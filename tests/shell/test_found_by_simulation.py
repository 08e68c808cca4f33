"""What simulated sessions have found, each by itself: see `tests.simulate`."""

from __future__ import annotations

from typing import Any

import pytest

import aioray
from aioray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    ObjectReconstructionFailedError,
    TaskPlacementGroupRemoved,
)
from aioray.testing import VirtualEngine, lose
from aioray.util import placement_group, remove_placement_group
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from aioray.util.state import list_tasks

LARGE = 200_000  # bytes


@aioray.remote(max_retries=0)
def large() -> bytes:
    return b"x" * LARGE


@aioray.remote
def one() -> int:
    return 1


class Holder:
    def __init__(self, value: int) -> None:
        self.value = value

    def get(self) -> int:
        return self.value


async def test_attempt_whose_value_is_lost_later_is_told_once_and_has_finished() -> None:
    async with VirtualEngine():
        ref = large.remote()
        await ref
        lose(ref)
        with pytest.raises(ObjectReconstructionFailedError):
            await ref
        assert [(each.attempt_number, each.state) for each in list_tasks()] == [(0, "FINISHED")]


async def test_actor_whose_argument_lacks_its_group_is_not_said_to_lack_one() -> None:
    async with VirtualEngine():
        group = placement_group([{"CPU": 1}])
        await group.ready()
        remove_placement_group(group)
        argument = one.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()
        with pytest.raises(TaskPlacementGroupRemoved):
            await argument
        made: Any = aioray.remote(Holder)
        call = made.remote(argument).get.remote()
        with pytest.raises(ActorDiedError) as caught:
            await call
        assert not isinstance(caught.value, ActorUnschedulableError)
