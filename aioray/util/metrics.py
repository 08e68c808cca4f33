"""Counters, gauges and histograms of your own, in the driver, in tasks and in actors.

Room: api, also used in workers. The classes are those of `ray.util.metrics`. Workers send what
they measure to the driver, at the latest half a second later and before the answer of the task that
has measured it; there `collect()` reads it all. With the extra `aioray[metrics]`, `export()` shows
it to Prometheus together with what the engine counts about itself, see
`aioray.state.write.metering`. aioray opens no port: serve `prometheus_client.make_asgi_app()` where
your service is.

Counters and histograms add up over all processes. A gauge belongs to the process that has set it: a
worker's has the tag WorkerId, as in Ray, and goes when the worker ends. Metrics outlive a session.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from aioray.client.current import execution_context
from aioray.client.protocol import registry
from aioray.shared.meters import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    Distribution,
    Meter,
    Reading,
    board,
    sorted_tags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from prometheus_client.registry import CollectorRegistry

__all__ = ["Counter", "Distribution", "Gauge", "Histogram", "Reading", "collect", "export"]

_VALID_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class Metric:
    """What the three have in common. Source: Ray API reference, ray.util.metrics."""

    _kind: str

    def __init__(
        self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None
    ) -> None:
        """Make a metric; of those with equal names, wherever they are made, the values are shared.

        name: letters, digits, underscores; others are refused with a warning, and nothing is
        counted. tag_keys: names of tags, all of which each value needs.
        Raises ValueError for an empty name, TypeError for tag_keys that are no tuple of str.
        """
        self._name = name
        self._description = description
        self._tag_keys = tag_keys or ()
        self._default_tags: Mapping[str, str] = {}
        self._meter: Meter | None = None  # None: its name is not valid
        is_valid = _is_valid(name)
        if not isinstance(self._tag_keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(self._tag_keys)}")
        for key in self._tag_keys:
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        if ":" in name:
            warnings.warn(
                f"Metric name {name} contains a : character, which is no longer allowed. Please "
                f"migrate to the new metric name format. This will be an error in the future.",
                FutureWarning,
                stacklevel=3,
            )
        if is_valid:
            self._meter = board.meter(name, self._kind, description, self._boundaries())

    def _boundaries(self) -> Sequence[float]:
        return ()

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Self:
        """Give tags that need not be repeated with each value; returns the metric itself.

        Raises ValueError for a key that is not in tag_keys, TypeError for a value that is no str.
        """
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            _check_tag(value)
        self._default_tags = default_tags
        return self

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag_keys and default_tags; of a histogram also boundaries."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _record(self, value: float, tags: Mapping[str, str] | None) -> None:
        """Check and take in a value. Raises TypeError, ValueError if a tag is missing."""
        _check_value(value)
        if self._meter is None:
            return
        given = self._default_tags
        if tags:
            for text in tags.values():
                _check_tag(text)
            given = {**given, **tags}
        missing = [key for key in self._tag_keys if key not in given]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        if registry.measure is not None:
            registry.measure()
        # Others than tag_keys are ignored, as in Ray.
        board.record(self._meter, sorted_tags({key: given[key] for key in self._tag_keys}), value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self._description, self._tag_keys)


class Counter(Metric):
    """A number that only grows: what has happened so far."""

    _kind = COUNTER

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Add `value`. tags: on top of the default ones.

        Raises ValueError for a value that is not above 0 and for a missing tag; TypeError.
        """
        _check_value(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record(value, tags)


class Gauge(Metric):
    """A number that goes up and down; the last one counts."""

    _kind = GAUGE

    def set(self, value: float | None, tags: Mapping[str, str] | None = None) -> None:
        """Set the gauge to `value`; None does nothing. tags: on top of the default ones.

        Raises ValueError for a missing tag; TypeError.
        """
        if value is not None:
            self._record(value, tags)


class Histogram(Metric):
    """How values are distributed over buckets."""

    _kind = HISTOGRAM

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        """Make a histogram. boundaries: the upper ends of the buckets, above 0; else ValueError."""
        if boundaries is None or len(boundaries) == 0:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. e.g., "
                'Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, boundary in enumerate(boundaries):
            if boundary <= 0:
                raise ValueError(
                    f"Invalid `boundaries` argument at index {index}, {boundaries}. Use positive "
                    f"values for the arguments."
                )
        self.boundaries = boundaries
        super().__init__(name, description, tag_keys)

    def _boundaries(self) -> Sequence[float]:
        return self.boundaries

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Count `value` in its bucket. tags: on top of the default ones.

        Raises ValueError for a missing tag; TypeError.
        """
        self._record(value, tags)

    @property
    def info(self) -> dict[str, Any]:
        """What `Metric.info` tells, and the boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self._description, self.boundaries, self._tag_keys)


def collect() -> list[Reading]:
    """Read all metrics that have values, of the driver and of its workers, by their plain names.

    What a task has measured is there when its value is. Needs no Prometheus. Beyond Ray.
    Raises RuntimeError in a worker.
    """
    if execution_context.job:
        raise RuntimeError("Metrics are gathered in the driver: call collect() there.")
    return board.read()


def export(registry: CollectorRegistry | None = None) -> None:
    """Show all metrics, and those of the engine, to Prometheus from now on. Idempotent.

    registry: of prometheus_client; None: its default one. Metrics of your own are called
    `ray_<name>` there, as in Ray; the engine's `aioray_...`, and count from the first call on:
    call this before the session starts. Beyond Ray.
    Raises ImportError, with the command that helps, if prometheus_client is not installed;
    RuntimeError in a worker.
    """
    if execution_context.job:
        raise RuntimeError("Metrics are gathered in the driver: call export() there.")
    try:
        import prometheus_client
    except ImportError:
        raise ImportError(
            "export() needs the package prometheus-client: pip install 'aioray[metrics]'"
        ) from None
    from aioray.util._prometheus import register

    register(prometheus_client.REGISTRY if registry is None else registry)


def _is_valid(name: str) -> bool:
    if len(name) == 0:
        raise ValueError("Empty name is not allowed. Please provide a metric name.")
    if _VALID_NAME.fullmatch(name):
        return True
    warnings.warn(
        f"Invalid metric name: {name}. Metric will be discarded and data will not be collected or "
        f"published. Metric names can only contain letters, numbers, _, and :. Metric names cannot "
        f"start with numbers.",
        UserWarning,
        stacklevel=4,
    )
    return False


def _check_value(value: object) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"value must be int or float, got {type(value)}.")


def _check_tag(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"Tag values must be str, got {type(value)}.")
