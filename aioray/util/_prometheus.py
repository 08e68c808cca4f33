"""Shows metrics to Prometheus, in the form of its client library.

Room: api; loaded by `aioray.util.metrics.export()` only, as it needs the extra `aioray[metrics]`.
A scrape reads the user's metrics and what engines have counted, and asks the engines of this
process what is going on: on the loop of an engine directly, elsewhere that is asked to answer.
Opens no port and starts no thread.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from prometheus_client.metrics_core import Metric

from ..client.protocol import registry
from ..shared.meters import COUNTER, HISTOGRAM, Distribution, Reading, board
from ..state.write.metering import Metering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.registry import CollectorRegistry

__all__ = ["Collector", "register"]

_FIGURES = {
    "tasks": ("aioray_tasks", "Tasks that have not ended.", ("function", "state")),
    "actors": ("aioray_actors", "Actors that are not dead.", ("class", "state")),
    "workers": ("aioray_workers", "Worker processes.", ("state",)),
    "resources": ("aioray_resources", "Resources in total, and free.", ("resource", "kind")),
    "object_store_bytes": (
        "aioray_object_store_bytes",
        "Large values: what memory holds, may hold, and what is on disk.",
        ("kind",),
    ),
}


class Collector:
    """A collector of prometheus_client, for any number of its registries."""

    def __init__(self, metering: Metering) -> None:
        self._metering = metering

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what metrics there will be is not known, so names are not checked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics: those of programs, those of engines, and what engines do now."""
        for reading in board.read():
            yield _shown(reading, f"ray_{reading.name}")
        for reading in self._metering.board.read():
            yield _shown(reading, reading.name)
        yield from _going_on()


def register(wanted: CollectorRegistry) -> None:
    """Let a registry show all metrics; once."""
    if wanted not in _registries:
        if _collector not in _listening:
            _listening.append(_collector)
            registry.listeners.append(_metering)
            for engine in _engines():
                engine.listen(_metering)
        wanted.register(_collector)
        _registries.add(wanted)


_metering = Metering()
_collector = Collector(_metering)
_listening: list[Collector] = []
_registries: WeakSet[CollectorRegistry] = WeakSet()


def _engines() -> list[Any]:
    return list(registry.by_job.values())


def _going_on() -> Iterator[Metric]:
    """Yield what engines say of now, added up."""
    sums: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in _FIGURES}
    for engine in _engines():
        figures: Mapping[str, Mapping[tuple[str, ...], float]] = engine.ask_figures()
        for name, values in figures.items():
            found = sums[name]
            for key, value in values.items():
                found[key] = found.get(key, 0.0) + value
    for name, values in sums.items():
        title, description, labels = _FIGURES[name]
        if values:
            metric = Metric(title, description, "gauge")
            for key, value in sorted(values.items()):
                metric.add_sample(title, dict(zip(labels, key, strict=True)), value)
            yield metric


def _shown(reading: Reading, name: str) -> Metric:
    kind = reading.kind
    if kind == COUNTER:
        name = name.removesuffix("_total")
    metric = Metric(name, reading.description, kind)
    for tags, value in sorted(reading.values.items()):
        labels = dict(tags)
        if kind == HISTOGRAM:
            _add_histogram(metric, labels, value)  # type: ignore[arg-type]
        else:
            sample = f"{name}_total" if kind == COUNTER else name
            metric.add_sample(sample, labels, value)  # type: ignore[arg-type]
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], value: Distribution) -> None:
    ends = [*value.boundaries, float("inf")]
    below = itertools.accumulate(value.counts)
    for end, count in zip(ends, below, strict=True):
        le = "+Inf" if end == float("inf") else repr(end)
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": le}, count)
    metric.add_sample(f"{metric.name}_count", labels, value.seen)
    metric.add_sample(f"{metric.name}_sum", labels, value.total)
