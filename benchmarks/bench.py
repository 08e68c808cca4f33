"""What a question is given: contestants, a table to fill, and how much time there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contestants import PEERS

if TYPE_CHECKING:
    from .report import Table
    from .runner import Runners


@dataclass(frozen=True, slots=True)
class Scale:
    """How often and how much."""

    rounds: int
    peer_rounds: int  # of those questions that take peers a second or more a turn
    slow_rounds: int  # for Ray, whose turns take ten times as long
    tasks: int  # no-op tasks at once
    backlog: int  # queued tasks, against `tasks`; 0: that is not asked
    backlog_rounds: int
    payloads: int
    round_trips: int  # in one round
    starts: int  # fresh processes of each kind
    burns: int
    chain: int
    leaves: int  # tasks that one task submits, and items of a stream
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


FULL = Scale(
    rounds=5,
    peer_rounds=3,
    slow_rounds=2,
    tasks=10_000,
    backlog=100_000,
    backlog_rounds=2,
    payloads=5_000,
    round_trips=300,
    starts=7,
    burns=2_000,
    chain=500,
    leaves=1_000,
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
    backlog=0,
    backlog_rounds=0,
    payloads=500,
    round_trips=100,
    starts=2,
    burns=400,
    chain=100,
    leaves=100,
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
        return {**dict.fromkeys(PEERS, self.scale.peer_rounds), "ray": self.scale.slow_rounds}
