"""Placement groups: resources that are reserved together, and given to the tasks that name them.

Room: api. Checks and translates; the client does the rest. On one machine a group is a share of
its resources that others cannot take: it waits until there is room for all bundles at once, and
keeps that until it is removed.

The name of this module is also that of its main function, as in Ray, and importing a module binds
its name in the package. So the module can be called: `aioray.util.placement_group(...)` works
whoever has imported what.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aioray.shared import ids
from aioray.shared.id_classes import JobID, PlacementGroupID

if TYPE_CHECKING:
    from aioray.client.protocol import Client
    from aioray.client.refs import ObjectRef

__all__ = [
    "PlacementGroup",
    "PlacementGroupID",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
EXAMPLE = '`[{"CPU": 1.0}, {"GPU": 1.0}]`'


class PlacementGroup:
    """A handle to a placement group. Made by `placement_group`; can be passed to tasks.

    Source: Ray API reference, PlacementGroup.
    """

    def __init__(
        self,
        id: PlacementGroupID,  # noqa: A002  Ray's name
        bundle_cache: list[dict[str, float]] | None = None,
    ) -> None:
        """Make a handle from an id; the bundles are looked up when they are asked for."""
        self.id = id
        self._bundles = bundle_cache

    @staticmethod
    def empty() -> PlacementGroup:
        """Return the handle that stands for no group."""
        return PlacementGroup(PlacementGroupID.nil(), [])

    @property
    def is_empty(self) -> bool:
        """Whether the handle stands for no group."""
        return self.id.is_nil()

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """What each bundle reserves. Raises ValueError if the group is not known here."""
        if self._bundles is None:
            row = placement_group_table(self)
            if not row:
                raise ValueError(f"The placement group {self.id.hex()} is not known here.")
            self._bundles = list(row["bundles"].values())
        return [dict(bundle) for bundle in self._bundles]

    @property
    def bundle_count(self) -> int:
        """The number of bundles."""
        return len(self.bundle_specs)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a ref to this group, ready as soon as everything is reserved: `get` or `await` it.

        It raises TaskPlacementGroupRemoved if the group was removed. Cancelling it changes nothing:
        to give up on a group, remove it. Raises ValueError if the group is not known here.
        """
        return _client_of(self).placement_group_ready(self.id.binary())

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until everything is reserved; False if that takes longer than `timeout_seconds`.

        Raises TaskPlacementGroupRemoved if the group is removed, RuntimeError on the engine's own
        event loop: there `await` what `ready` returns.
        """
        from aioray.api.objects import get, wait

        ref = self.ready()
        ready, _ = wait([ref], timeout=max(0, timeout_seconds))
        if not ready:
            return False
        get(ref)  # raises if it was removed
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<PlacementGroup {self.id.hex()}>"


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str = "PACK",
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
) -> PlacementGroup:
    """Reserve resources together, and return a handle at once.

    bundles: dicts of resource to amount, such as {"CPU": 1, "GPU": 0.5, "memory": 1e9, "slot": 2}.
    Everything is reserved at once or not at all: until it fits, the group waits in line with the
    tasks. Tasks run in it by `.options(scheduling_strategy=PlacementGroupSchedulingStrategy(...))`.
    strategy: "PACK", "SPREAD" and "STRICT_PACK" are the same on one machine; a "STRICT_SPREAD" over
    several bundles needs several machines, so it stays pending. name: for `get_placement_group`.
    lifetime: None or "detached", which makes no difference: groups end with the session, or when
    they are removed. The last two arguments are about several machines, and are ignored.
    Raises ValueError for bundles that are empty or malformed, an unknown strategy or lifetime, and
    a name that is in use; TypeError for a name that is no str.
    Source: Ray API reference, ray.util.placement_group.
    """
    from aioray.api.session import client_for_call
    from aioray.shared.serialization import dumps

    demands = [_demand_of(bundle, bundles) for bundle in _checked_list(bundles)]
    if strategy not in STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. Supported strategies are: "
            f"{', '.join(STRATEGIES)}."
        )
    if lifetime not in (None, "detached"):
        raise ValueError(
            f"Placement group `lifetime` argument must be either `None` or 'detached'. Got "
            f"{lifetime}."
        )
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {name!r} of type {type(name).__name__}")
    if bundle_label_selector is not None and len(bundle_label_selector) != len(bundles):
        raise ValueError(
            f"Invalid bundle label selector {bundle_label_selector}. The length of "
            f"`bundle_label_selector` should equal the length of `bundles`."
        )
    del _soft_target_node_id
    client = client_for_call()
    identifier = PlacementGroupID.of(JobID(client.job))
    kept = [{key: float(amount) for key, amount in bundle.items()} for bundle in bundles]
    group = PlacementGroup(identifier, kept)
    client.create_placement_group(identifier.binary(), demands, strategy, name, dumps(group))
    return group


def _checked_list(bundles: Any) -> list[Any]:
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    if not bundles:
        raise ValueError(
            f"Bundles must be a non-empty list of resource dictionaries. For example: {EXAMPLE}. "
            f"Got empty list instead."
        )
    return bundles


def _demand_of(bundle: Any, bundles: list[Any]) -> tuple[tuple[str, int], ...]:
    """Translate a bundle to the form of `TaskOptions.demand`."""
    from aioray.exceptions import RaySystemError
    from aioray.options.task import parse_bundle

    if not isinstance(bundle, dict) or not all(
        isinstance(name, str) and isinstance(amount, int | float) for name, amount in bundle.items()
    ):
        raise ValueError(
            f"Bundles must be a non-empty list of resource dictionaries. For example: {EXAMPLE}. "
            f"Got {bundle!r} in the list."
        )
    if "bundle" in bundle:
        raise RaySystemError(
            "System error: bundle is a system reserved resource, which is not allowed to be used "
            "in placement group. Give the resource another name."
        )
    if "" in bundle:
        raise ValueError(f"A resource of a bundle has no name: {bundle!r}.")
    demand = parse_bundle(bundle)
    if not demand:
        raise ValueError(
            f"Bundles cannot be an empty dictionary or resources with only 0 values. Bundles: "
            f"{bundles}"
        )
    return demand


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give back what a group has reserved, or wanted to reserve.

    Tasks that wait in it fail with TaskPlacementGroupRemoved; those that run are killed, and fail
    likewise. The resources are free when their processes are gone, a moment later. Removing a group
    again does nothing. Raises ValueError if it is not known here, TypeError for what is no group.
    Source: Ray API reference, ray.util.remove_placement_group.
    """
    _check_handle(placement_group)
    _client_of(placement_group).remove_placement_group(placement_group.id.binary())


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return a handle to the group of this name. Raises ValueError if there is none.

    Source: Ray API reference, ray.util.get_placement_group.
    """
    from aioray.api.session import client_for_call

    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    for row in client_for_call().placement_group_table().values():
        if row["name"] == placement_group_name and row["state"] != "REMOVED":
            identifier = PlacementGroupID(bytes.fromhex(row["placement_group_id"]))
            return PlacementGroup(identifier, list(row["bundles"].values()))
    raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Tell what is known of a group, or of all groups by their ids in hexadecimal.

    Each has placement_group_id, name, bundles, bundles_to_node_id, strategy, state ("PENDING",
    "CREATED" or "REMOVED") and stats. An empty dict if the group is not known here.
    Source: Ray API reference, ray.util.placement_group_table.
    """
    from aioray.api.session import client_for_call

    if placement_group is None:
        return client_for_call().placement_group_table()
    _check_handle(placement_group)
    table = _client_of(placement_group).placement_group_table()
    row: dict[str, Any] = table.get(placement_group.id.hex(), {})
    return row


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group that this task runs in; None outside of one, and in the driver.

    Source: Ray API reference, ray.util.get_current_placement_group.
    """
    from aioray.client.current import execution_context

    attempt = execution_context.attempt
    if attempt is None or not attempt.group:
        return None
    return PlacementGroup(PlacementGroupID(bytes.fromhex(attempt.group)))


def _check_handle(group: Any) -> None:
    if not isinstance(group, PlacementGroup):
        raise TypeError(
            f"A placement group is what placement_group() returns, got {group!r} of type "
            f"{type(group).__name__}."
        )


def _client_of(group: PlacementGroup) -> Client:
    """Return the client that the group belongs to."""
    from aioray.api.session import client_for_call
    from aioray.client.current import execution_context
    from aioray.client.protocol import registry

    client = registry.by_job.get(group.id.binary()[-ids.JOB_ID_SIZE :]) or registry.current()
    if client is None and not execution_context.job:
        raise ValueError(
            f"The placement group {group.id.hex()} is not known here: its session has ended."
        )
    return client or client_for_call()


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroup:
        return placement_group(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
