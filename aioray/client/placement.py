"""Where a task or an actor is to run, as its options say it: in a placement group, on which node.

Room: client. It looks at the options only; whether there is such a group, and
room for the task in it, is known to the engine, see `engine.groups`. Strategies and handles of
groups are recognised by the name of their class and by what they have, so that nothing of the face
is imported here.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..core.records import NamedTuple

__all__ = ["ANYWHERE", "Placeable", "Where", "where_to_run"]


class Where(NamedTuple):
    """What a task says about its place."""

    group: bytes = b""  # id of the placement group; empty: none
    bundle: int = -1  # index of its bundle; -1: any
    captures: bool = False  # what the task submits runs in the group too, unless that says more
    strategy: Any = None  # a condition on the node, which is an object of the face; or None


ANYWHERE = Where()


class Placeable(Protocol):
    """The options that say where: those of tasks, or of actors."""

    @property
    def scheduling_strategy(self) -> Any:
        """A strategy of Ray's, its name, or None."""
        ...

    @property
    def placement_group(self) -> Any:
        """A handle of a placement group, None, or "default"."""
        ...

    @property
    def placement_group_bundle_index(self) -> int:
        """The index of a bundle of the placement group; -1: any."""
        ...

    @property
    def placement_group_capture_child_tasks(self) -> bool | None:
        """Whether what the task submits runs in its group; None: as in the task that calls."""
        ...


def where_to_run(options: Placeable, group: str, captures: bool) -> Where:
    """Return where a call with these options runs, made by a task that may run in a group itself.

    group: of the caller, in hexadecimal; empty: none. captures: whether it takes along what it
    submits. Raises ValueError for what is no strategy, or no group, and for a bundle without group.
    """
    strategy = options.scheduling_strategy
    index = options.placement_group_bundle_index
    handle = options.placement_group
    own = options.placement_group_capture_child_tasks
    if isinstance(strategy, str) and strategy not in ("DEFAULT", "SPREAD"):
        raise ValueError(
            f'Invalid scheduling_strategy value {strategy}. Valid values are "DEFAULT", "SPREAD", '
            f"and instances of PlacementGroupSchedulingStrategy, NodeAffinitySchedulingStrategy "
            f"and NodeLabelSchedulingStrategy."
        )
    if type(strategy).__name__ == "PlacementGroupSchedulingStrategy":
        handle, index = strategy.placement_group, strategy.placement_group_bundle_index
        own = strategy.placement_group_capture_child_tasks
        strategy = None
    elif isinstance(handle, str) and handle == "default":
        captured = captures if own is None else own
        if group and captured and strategy is None:
            return Where(bytes.fromhex(group), index, captures=True)
        handle = None
    if handle is not None and not hasattr(getattr(handle, "id", None), "binary"):
        raise ValueError(
            f"placement_group must be what aioray.util.placement_group() returns, got {handle!r}."
        )
    if handle is None or handle.is_empty:
        if index != -1:
            raise ValueError("If placement group is not set, the value of bundle index must be -1.")
        return Where(strategy=None if isinstance(strategy, str) else strategy)
    return Where(handle.id.binary(), index, bool(own))
