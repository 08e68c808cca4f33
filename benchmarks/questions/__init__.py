"""The questions, by name and in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    actors,
    cancel,
    chain,
    crash,
    efficiency,
    history,
    memory,
    nested,
    objects_get,
    objects_many,
    objects_put,
    objects_put_once,
    objects_recovery,
    objects_results,
    round_trip,
    start_up,
    state,
    throughput,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

QUESTIONS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput.run,
    "history": history.run,
    "round_trip": round_trip.run,
    "efficiency": efficiency.run,
    "chain": chain.run,
    "nested": nested.run,
    "actors": actors.run,
    "crash": crash.run,
    "cancel": cancel.run,
    "objects_put_once": objects_put_once.run,
    "objects_results": objects_results.run,
    "objects_many": objects_many.run,
    "objects_get": objects_get.run,
    "objects_put": objects_put.run,
    "objects_recovery": objects_recovery.run,
    "start_up": start_up.run,
    "memory": memory.run,
    "state": state.run,
}
