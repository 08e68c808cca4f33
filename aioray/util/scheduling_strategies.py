"""The objects that `scheduling_strategy=` takes, under the names they have in Ray.

Room: api. Plain data, checked when it is made. With one node a strategy either changes nothing
or makes it impossible to run the task: then its ref raises TaskUnschedulableError. What they mean
is decided by the engine, which knows them by name. Picklable.
Source: Ray API reference, ray.util.scheduling_strategies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .placement_group import PlacementGroup

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
]


class PlacementGroupSchedulingStrategy:
    """Run in a placement group: wait until that is there, and draw on the resources of a bundle.

    placement_group: a handle; None, as `get_current_placement_group()` may say: run anywhere.
    placement_group_bundle_index: of the bundle; -1: any that has room. A request that fits into no
    bundle is a ValueError of `.remote()`. placement_group_capture_child_tasks: whether tasks that
    the task submits run in the group too.
    """

    def __init__(
        self,
        placement_group: PlacementGroup | None,
        placement_group_bundle_index: Any = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        """Raise ValueError for what is no placement group, or no index."""
        has_id = hasattr(getattr(placement_group, "id", None), "binary")
        if placement_group is not None and not has_id:
            raise ValueError(
                "placement_group needs to be an instance of PlacementGroup, as placement_group() "
                f"returns it, got {placement_group!r}"
            )
        index = placement_group_bundle_index
        if isinstance(index, bool) or not isinstance(index, int) or index < -1:
            raise ValueError(
                f"placement_group_bundle_index must be the index of a bundle, or -1 for any, got "
                f"{index!r}"
            )
        self.placement_group = placement_group
        self.placement_group_bundle_index = index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeAffinitySchedulingStrategy:
    """Run on the node of this id, in hexadecimal, as `nodes()` and the runtime context tell it.

    soft: if there is no such node, run anywhere; else the task fails with TaskUnschedulableError.
    The two private options of Ray are about nodes that are busy: they are checked, and change
    nothing.
    """

    def __init__(
        self,
        node_id: str | Any,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        """Raise ValueError for what is no node id, and for options that contradict each other."""
        if _spill_on_unavailable and not soft:
            raise ValueError(
                "_spill_on_unavailable cannot be set when soft is False. Please set soft to True "
                "to use _spill_on_unavailable."
            )
        if _fail_on_unavailable and soft:
            raise ValueError(
                "_fail_on_unavailable cannot be set when soft is True. Please set soft to False to "
                "use _fail_on_unavailable."
            )
        shown = node_id.hex() if hasattr(node_id, "hex") else node_id
        try:
            valid = len(bytes.fromhex(shown)) == 28
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(
                f"Invalid node_id {node_id!r}. Node ID must be a valid hex string. To get a list "
                f"of all nodes and their IDs, use aioray.nodes()."
            )
        self.node_id: str = shown
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable


class _Condition:
    """Something that a label of a node may fulfil or not."""

    def holds_for(self, label: str | None) -> bool:
        """Tell whether a label fulfils the condition; None: the node has no label of this name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        values = getattr(self, "values", ())
        return f"{type(self).__name__}({', '.join(map(repr, values))})"


class _ListedValues(_Condition):
    def __init__(self, *values: Any) -> None:
        name = type(self).__name__
        if not values:
            raise ValueError(
                f"The variadic parameter of the {name} operator must be a non-empty tuple: e.g. "
                f'{name}("value1", "value2").'
            )
        for position, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(
                    f"Type of value in position {position} for the {name} operator must be str "
                    f'(e.g. {name}("value1", "value2")) but got {value!r} of type {type(value)}.'
                )
        self.values: list[str] = list(values)


class In(_ListedValues):
    """The label has one of these values."""

    def holds_for(self, label: str | None) -> bool:
        """Tell whether the label is one of the values."""
        return label in self.values


class NotIn(_ListedValues):
    """The label has none of these values, or there is none."""

    def holds_for(self, label: str | None) -> bool:
        """Tell whether the label is none of the values."""
        return label not in self.values


class Exists(_Condition):
    """There is such a label."""

    def holds_for(self, label: str | None) -> bool:
        """Tell whether the node has the label."""
        return label is not None


class DoesNotExist(_Condition):
    """There is no such label."""

    def holds_for(self, label: str | None) -> bool:
        """Tell whether the node lacks the label."""
        return label is None


class NodeLabelSchedulingStrategy:
    """Run on a node whose labels, as given to `init(labels=...)`, fulfil the hard conditions.

    If they do not, the task fails with TaskUnschedulableError; Ray would wait for a node to come,
    and here none can. Soft conditions choose between nodes, so they change nothing.
    """

    def __init__(
        self,
        hard: Mapping[str, _Condition] | None,
        *,
        soft: Mapping[str, _Condition] | None = None,
    ) -> None:
        """Raise ValueError for what is no map of conditions, and if there is no condition."""
        self.hard = _checked("hard", hard)
        self.soft = _checked("soft", soft)
        if not (self.hard or self.soft):
            raise ValueError(
                "The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be "
                "empty."
            )


def _checked(parameter: str, given: Any) -> dict[str, _Condition]:
    if given is None:
        return {}
    example = '{"key1": In("value1")}'
    if not isinstance(given, dict):
        raise ValueError(
            f"The {parameter} parameter must be a map (e.g. {example}) but got type {type(given)}."
        )
    for key, condition in given.items():
        if not isinstance(key, str):
            raise ValueError(
                f"The map key of the {parameter} parameter must be of type str (e.g. {example}) "
                f"but got {key!r} of type {type(key)}."
            )
        if not isinstance(condition, _Condition):
            raise ValueError(
                f"The map value for key {key} of the {parameter} parameter must be one of the "
                f"`In`, `NotIn`, `Exists` or `DoesNotExist` operator (e.g. {example}) but got "
                f"{condition!r} of type {type(condition)}."
            )
    return dict(given)
