"""What a question is given: contestants, a table to fill, and how much time there is."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from .contestants import BATCHING, PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .report import Table
    from .runner import Runner, Runners


SHORTEST = 100  # of what is proportional: fewer tell more of the start than of themselves


@dataclass(frozen=True, slots=True)
class Scale:
    """How often and how much."""

    rounds: int
    peer_rounds: int  # of those questions that take peers a second or more a turn
    slow_rounds: int  # for Ray, whose turns take ten times as long
    tasks: int  # no-op tasks at once
    deepest: int  # queued tasks, at the end of the curve
    curve_seconds: int  # that one point of a curve may take; longer ones are left out
    payloads: int
    largest: int  # bytes of one argument, at the end of the curve
    most_workers: int  # at the end of the curve
    round_trips: int  # in one round
    starts: int  # fresh processes of each kind
    burn_seconds: float  # of work, shared by two, for each length of tasks
    clients: int  # of a service
    service_seconds: float
    items: int  # of a map
    singles: int  # items of a map with chunks of one
    search: int  # rows of the data of a grid search
    frame: int  # rows of a table of pandas
    chain: int
    leaves: int  # tasks that one task submits, and items of a stream
    waits: int  # refs that are waited for one by one
    micro_seconds: float  # for each row of Ray's microbenchmark
    micro_size: int  # calls at once there
    incidents: int  # crashes, cancels
    queued: int  # tasks whose memory is measured
    slow_queued: int
    idle_seconds: float
    megabytes: int  # of a large array
    arrays: int  # large ones, in one turn
    blocks: int  # arrays of 200 kB, in one turn
    gets: int  # of a small value in one turn; of a large one a tenth of them
    lost_chain: int  # lost results that need each other
    fillings: int  # of the whole shared memory

    def changed(self, settings: Iterable[str]) -> Scale:
        """The same with other sizes, each written as NAME=VALUE. Raises ValueError."""
        types = {field.name: float if "float" in str(field.type) else int for field in fields(self)}
        changes = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in types:
                raise ValueError(f"{setting!r}: the sizes are {', '.join(types)}")
            changes[name] = types[name](value)
        return replace(self, **changes)


FULL = Scale(
    rounds=5,
    peer_rounds=3,
    slow_rounds=2,
    tasks=10_000,
    deepest=1_000_000,
    curve_seconds=60,
    payloads=5_000,
    largest=1_000_000_000,
    most_workers=16,
    round_trips=300,
    starts=7,
    burn_seconds=1.0,
    clients=100,
    service_seconds=3.0,
    items=1_000_000,
    singles=20_000,
    search=20_000,
    frame=200_000,
    chain=500,
    leaves=1_000,
    waits=10_000,
    micro_seconds=0.5,
    micro_size=1_000,
    incidents=15,
    queued=100_000,
    slow_queued=10_000,
    idle_seconds=2.0,
    megabytes=100,
    arrays=10,
    blocks=5_000,
    gets=5_000,
    lost_chain=100,
    fillings=10,
)

QUICK = Scale(
    rounds=2,
    peer_rounds=2,
    slow_rounds=1,
    tasks=2_000,
    deepest=10_000,
    curve_seconds=3,
    payloads=500,
    largest=10_000_000,
    most_workers=4,
    round_trips=100,
    starts=2,
    burn_seconds=0.2,
    clients=20,
    service_seconds=0.3,
    items=100_000,
    singles=1_000,
    search=2_000,
    frame=10_000,
    chain=100,
    leaves=100,
    waits=500,
    micro_seconds=0.05,
    micro_size=100,
    incidents=3,
    queued=10_000,
    slow_queued=2_000,
    idle_seconds=0.5,
    megabytes=10,
    arrays=10,
    blocks=500,
    gets=500,
    lost_chain=20,
    fillings=1,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """One run."""

    scale: Scale
    runners: Runners
    table: Table

    @property
    def fewer(self) -> dict[str, int]:
        """Rounds of the others, where a turn takes them long."""
        return {
            **dict.fromkeys((*PEERS, BATCHING), self.scale.peer_rounds),
            "ray": self.scale.slow_rounds,
        }

    def along(
        self,
        names: Iterable[str],
        quantities: Sequence[int],
        measure: Callable[[Runner, int], float],
        *,
        is_proportional: bool = False,
    ) -> dict[str, dict[float, list[float]]]:
        """What was measured at each quantity, by contestant; a turn is the whole way up.

        A contestant stops where the next point would take it too long: longer than the last one,
        or, where the time is proportional to the quantity, as many times longer.
        """

        def turn(runner: Runner) -> dict[int, float]:
            found: dict[int, float] = {}
            for here, there in pairwise((*quantities, 0)):
                start = time.monotonic()
                found[here] = measure(runner, here)
                times = there / here if is_proportional and here >= SHORTEST else 1
                if times * (time.monotonic() - start) > self.scale.curve_seconds:
                    break
            return found

        taken = self.runners.rounds(
            self.scale.peer_rounds, dict.fromkeys(names, turn), fewer=self.fewer
        )
        return {
            name: {x: [way[x] for way in ways if x in way] for x in quantities}
            for name, ways in taken.items()
        }

    def iterations(self, milliseconds: float) -> int:
        """How much work takes this long now, on a processor that does nothing else."""
        floor = self.runners.fresh("floor")
        assert floor is not None, "it needs the standard library only"
        try:
            found: int = floor.ask("calibrate", milliseconds=milliseconds)
        finally:
            floor.close()
        return found
