"""The questions, by name and in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    actors,
    cancel,
    chain,
    crash,
    data,
    depth,
    efficiency,
    grid_search,
    history,
    map,  # noqa: A004 - the name of the question
    memory,
    microbenchmark,
    nested,
    objects_get,
    objects_many,
    objects_put,
    objects_put_once,
    objects_recovery,
    objects_results,
    payload,
    round_trip,
    service,
    start_up,
    state,
    throughput,
    wait,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

QUESTIONS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput.run,
    "depth": depth.run,
    "workers": workers.run,
    "payload": payload.run,
    "round_trip": round_trip.run,
    "efficiency": efficiency.run,
    "service": service.run,
    "map": map.run,
    "grid_search": grid_search.run,
    "data": data.run,
    "wait": wait.run,
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
    "history": history.run,
    "state": state.run,
    "microbenchmark": microbenchmark.run,
}
