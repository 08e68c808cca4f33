"""The questions, by name and in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import cancel, chain, crash, efficiency, memory, round_trip, start_up, throughput

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

QUESTIONS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput.run,
    "round_trip": round_trip.run,
    "efficiency": efficiency.run,
    "chain": chain.run,
    "crash": crash.run,
    "cancel": cancel.run,
    "start_up": start_up.run,
    "memory": memory.run,
}
