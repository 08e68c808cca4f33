"""Where tasks are to run: the placement groups of one engine, and what scheduling strategies mean.

Room: engine. For the driver's calls `class_for` runs in the caller's thread, before anything
reaches the event loop: what a function may not ask for is an error of its `.remote()`. For a call
in a worker it runs when that asks. There is one node, so a strategy either changes nothing or makes
it impossible to run the task.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ...client.definitions import ActorDefinition
from ...core.devices import UNIT
from ...core.groups import Group
from ...core.records import record
from ...core.states import GroupStatus
from ...shared.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...client.definitions import Definition
    from ...client.refs import ObjectRef
    from ...core.devices import Demand
    from ...core.model import SchedulingClass
    from ...core.scheduler import Scheduler
    from .limiters import StartLimiters

__all__ = ["Groups"]

REMOVED_KEPT = 1_000  # groups that are still shown after they were removed


@record
class _GroupRecord:
    """A group, and what the scheduler does not need to know of it."""

    group: Group
    name: str
    strategy: str
    ready: ObjectRef[Any]


class Groups:
    """The placement groups of one engine, and the scheduling classes of its functions."""

    def __init__(
        self, core: Scheduler, node_id: str, labels: Mapping[str, str], limiters: StartLimiters
    ) -> None:
        """Begin without groups. limiters: which classes may name."""
        self._limiters = limiters
        self._core = core
        self._node_id = node_id
        self._labels = {"ray.io/node-id": node_id, **labels}
        self.job = b""  # the engine's, when it has one
        self._known: dict[bytes, _GroupRecord] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------ groups

    def add(
        self,
        identifier: bytes,
        bundles: Sequence[Demand],
        strategy: str,
        name: str,
        reserve: Callable[[SchedulingClass], ObjectRef[Any]],
    ) -> None:
        """Take a new group. Raises ValueError if there is one of this name.

        reserve: given the class of its reservation, makes that and returns the ref.
        """
        with self._lock:
            if name and self.named(name) is not None:
                raise ValueError(
                    f"There is a placement group with the name {name!r} already. Choose another "
                    f"name, or remove that group first."
                )
            spread = strategy == "STRICT_SPREAD"
            group = Group(identifier.hex(), tuple(bundles), len(bundles) if spread else 1)
            ready = reserve(self._core.reservation_class(group))
            self._known[identifier] = _GroupRecord(group, name, strategy, ready)

    def find(self, identifier: bytes) -> Group:
        """Return the group of this id. Raises ValueError if there is none."""
        return self._find(identifier).group

    def ready(self, identifier: bytes) -> ObjectRef[Any]:
        """Return the ref that was made with the group. Raises ValueError if there is no group."""
        return self._find(identifier).ready

    def _find(self, identifier: bytes) -> _GroupRecord:
        known = self._known.get(identifier)
        if known is None:
            raise ValueError(
                f"The placement group {identifier.hex()} is not known here: it belongs to another "
                f"session, or was removed long ago."
            )
        return known

    def named(self, name: str) -> bytes | None:
        """Return the id of the group of this name that was not removed; None: there is none."""
        for identifier, known in tuple(self._known.items()):
            if known.name == name and known.group.state is not GroupStatus.REMOVED:
                return identifier
        return None

    def forget_old(self) -> None:
        """Forget the oldest of many groups that were removed."""
        removed = [i for i, k in self._known.items() if k.group.state is GroupStatus.REMOVED]
        for identifier in removed[:-REMOVED_KEPT]:
            del self._known[identifier]

    def table(self) -> dict[str, dict[str, Any]]:
        """Return all groups by id, as `placement_group_table` describes them."""
        return {i.hex(): self._row(known) for i, known in tuple(self._known.items())}

    def described(self, group: Group) -> dict[str, Any]:
        """Return the group as Ray's state API describes it."""
        known = self._find(bytes.fromhex(group.key))
        placed = self._node_id if group.state is GroupStatus.CREATED else None
        return {
            "placement_group_id": group.key,
            "name": known.name,
            "creator_job_id": self.job.hex(),
            "state": group.state.name,
            "bundles": [
                {
                    "bundle_id": {"placement_group_id": group.key, "bundle_index": index},
                    "unit_resources": {name: amount / UNIT for name, amount in bundle},
                    "node_id": placed,
                    "label_selector": {},
                }
                for index, bundle in enumerate(group.bundles)
            ],
            "is_detached": False,
            "stats": {"scheduling_state": _scheduling_state(group)},
            "topology_strategy": {},
            "topology_assignments": {},
        }

    def title(self, group: Group) -> str:
        """Return what to call the group in a message."""
        return (
            f"placement group {printable(self._find(bytes.fromhex(group.key)).name or group.key)}"
        )

    def _row(self, known: _GroupRecord) -> dict[str, Any]:
        group = known.group
        node = self._node_id if group.state is GroupStatus.CREATED else ""
        return {
            "placement_group_id": group.key,
            "name": known.name,
            "bundles": {
                index: {name: amount / UNIT for name, amount in bundle}
                for index, bundle in enumerate(group.bundles)
            },
            "bundles_to_node_id": dict.fromkeys(range(len(group.bundles)), node),
            "strategy": known.strategy,
            "state": group.state.name,
            "stats": {"scheduling_state": _scheduling_state(group)},
        }

    # ------------------------------------------------------------ classes

    def class_for(
        self, definition: Definition | ActorDefinition, depth: int, refusal: str | None
    ) -> tuple[SchedulingClass, str]:
        """Return the scheduling class for these options, and the key of its group, or "".

        depth: see `SchedulingClass`. refusal: why it can run nowhere, if that is known already.
        Raises ValueError for a group or bundle that does not exist, for what fits into no bundle,
        and what `StartLimiters.of` raises.
        """
        group, bundle, limiter = None, None, None
        if refusal is None:
            limiter = self._limiters.of(definition.limits)
            refusal = self._refusal(definition)
            group, bundle = self._find_bundle(definition)
        with self._lock:  # one class, whichever thread is first
            found = self._core.scheduling_class(
                definition.demand,
                definition.environment,
                depth,
                group=group,
                bundle=bundle,
                refusal=refusal,
                creates=isinstance(definition, ActorDefinition),
                limiter=limiter,
            )
        return found, "" if group is None else group.key

    def _find_bundle(
        self, definition: Definition | ActorDefinition
    ) -> tuple[Group | None, int | None]:
        """Return the group and the index of the bundle that are asked for; None: any."""
        where, demand = definition.where, definition.demand
        if not where.group:
            return None, None
        group, index = self.find(where.group), where.bundle
        count = len(group.bundles)
        if not -1 <= index < count:
            raise ValueError(
                f"placement group bundle index {index} is invalid. Valid placement group indexes: "
                f"0-{count - 1}, or -1 for any bundle."
            )
        bundle = None if index < 0 else index
        if not group.demands(demand, bundle):
            request = {resource: amount / UNIT for resource, amount in demand}
            bundles = [
                {resource: amount / UNIT for resource, amount in bundle} for bundle in group.bundles
            ]
            place = (
                f"any bundles for the placement group, {bundles}"
                if bundle is None
                else f"bundle {index} of the placement group, {bundles[index]}"
            )
            if isinstance(definition, ActorDefinition):
                title = definition.class_name
            else:
                title = definition.name
            raise ValueError(
                f"Cannot schedule {title} with the placement group because the resource "
                f"request {request} cannot fit into {place}. Ask for less (num_cpus is 1 unless "
                f"you say otherwise), or make the bundle larger."
            )
        return group, bundle

    def _refusal(self, definition: Definition | ActorDefinition) -> str | None:
        """Say why this node is not where the task may run; None if it is."""
        strategy = definition.where.strategy
        kind = type(strategy).__name__
        if kind == "NodeAffinitySchedulingStrategy":
            if strategy.soft:
                return None
            if strategy.node_id != self._node_id:
                return (
                    f"The node {strategy.node_id} specified via NodeAffinitySchedulingStrategy "
                    f"doesn't exist, and soft=False was specified. The only node is "
                    f"{self._node_id}."
                )
            total = self._core.total
            if any(amount > total.get(name, 0) for name, amount in definition.demand):
                request = {name: amount / UNIT for name, amount in definition.demand}
                there = {name: total.get(name, 0) / UNIT for name in request}
                return (
                    f"The node specified via NodeAffinitySchedulingStrategy is infeasible, and "
                    f"soft=False was specified: {request} is asked for, and the node has {there} "
                    f"in total. Ask for less, or give init() more."
                )
            return None
        if kind == "NodeLabelSchedulingStrategy":
            for key, condition in strategy.hard.items():
                if not condition.holds_for(self._labels.get(key)):
                    return (
                        f"The only node has the labels {self._labels}, and the hard condition "
                        f"{key}: {condition!r} of the NodeLabelSchedulingStrategy does not hold "
                        f"for them. Give init() other labels, or make the condition soft."
                    )
        return None


def _scheduling_state(group: Group) -> str:
    """Say how far the placing of a group is, in Ray's words."""
    if group.state is GroupStatus.PENDING:
        return "INFEASIBLE" if group.classes[0].reported_infeasible else "QUEUED"
    return "FINISHED" if group.state is GroupStatus.CREATED else "REMOVED"
