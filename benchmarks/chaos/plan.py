"""What is done, and what is done to it: items of work and blows, from a seed. Pure.

An item and a blow are the same for the same seed and number, whatever the machine does; how many
of them there are depends on how long a run lasts. Each kind comes once before any comes twice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

# Kinds of work, and how often each comes.
WORK = {
    "plain": 12,  # a call whose worker may die any number of times
    "fragile": 6,  # a call that has no retry
    "nested": 5,  # a tree of tasks
    "chain": 5,  # tasks that need each other's values
    "raises": 4,  # its own error
    "flaky": 5,  # errors, then a value
    "dies": 4,  # ends its worker, in its own way, as often as it is tried
    "large": 6,  # 5 MB, made by a task and read by others
    "stored": 5,  # 5 MB, put by the driver
    "stream": 5,  # items one by one
    "map": 3,  # many items
    "endless": 3,  # exceeds its timeout
    "late": 3,  # a queue's worth of calls with a deadline
    "cancelled": 6,  # at some moment, with or without grace
    "limited": 5,  # no more than two at once
    "recycled": 4,  # workers that leave after three calls
    "waits": 3,  # wait and get with timeouts
    "garbage": 2,  # writes something into its pipe that is no answer
    "account": 6,  # an actor whose state outlives its process
    "forgetful": 4,  # an actor that is made again without its state
    "mortal": 4,  # an actor that is not
    "choir": 4,  # an actor of coroutines, or of threads
}

# Kinds of blows, and how often each comes.
BLOWS = {
    "kill a worker": 24,
    "signal a worker": 14,
    "interrupt a worker": 5,
    "stop a worker": 8,
    "stop and kill a worker": 4,
    "kill the template": 3,
    "stop the template": 3,
    "kill the guardian": 2,
    "stop the guardian": 2,
    "stop the driver": 4,
    "burn the CPUs": 3,
    "spoil a spill file": 5,
    "fill the disk": 3,
    "limit files": 2,
    "take the driver's descriptors": 3,
    "take a worker's descriptors": 3,
    "take the template's descriptors": 3,
    "write to the driver as a worker": 4,
    "write to a worker as the driver": 3,
}

DEADLY = ("SIGTERM", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGQUIT", "SIGHUP", "SIGUSR1")
PAUSE = (0.02, 0.5)  # seconds from one blow to the next


@dataclass(frozen=True, slots=True)
class Item:
    """One unit of work."""

    number: int
    kind: str
    chance: random.Random  # for what it does exactly


@dataclass(frozen=True, slots=True)
class Blow:
    """One act of sabotage."""

    number: int
    kind: str
    pause: float  # seconds after the one before
    seconds: float  # that it lasts, if it is taken back
    victim: float  # 0..1: which one of those there are
    chance: random.Random

    def pick(self, candidates: list[Any]) -> Any:
        """Return the victim of these; None if there are none."""
        return candidates[int(self.victim * len(candidates))] if candidates else None


def item(seed: int, number: int, kinds: dict[str, int] = WORK) -> Item:
    """Return the item of this number."""
    chance = random.Random(f"{seed}/item/{number}")
    return Item(number, _kind(seed, number, kinds, chance), chance)


def blow(seed: int, number: int, kinds: dict[str, int] = BLOWS) -> Blow:
    """Return the blow of this number."""
    chance = random.Random(f"{seed}/blow/{number}")
    kind = _kind(seed, number, kinds, chance)
    pause, seconds = chance.uniform(*PAUSE), chance.choice((0.05, 0.3, 1.5))
    return Blow(number, kind, pause, seconds, chance.random(), chance)


def _kind(seed: int, number: int, kinds: dict[str, int], chance: random.Random) -> str:
    if number >= len(kinds):
        return chance.choices(list(kinds), list(kinds.values()))[0]
    first = list(kinds)
    random.Random(f"{seed}/first").shuffle(first)
    return first[number]
