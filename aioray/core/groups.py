"""Placement groups: bundles of resources that are reserved together, for tasks that name them.

Room: core. Data, and what a bundle is called inside the scheduler. A group that is placed has taken
its bundles' resources from the machine; in their stead there are as many under names of their own,
such as "CPU_group_0_<key>" for the CPUs of its first bundle. A task of the group asks for these, so
that nothing else in the scheduler has to know. One that may run in any bundle has one demand for
each bundle that is large enough, and draws on one of them.

Each bundle also has a "bundle_group_0_<key>", of which a task holds a little. So a task that asks
for nothing at all still waits until the group is placed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .devices import UNIT
from .states import GroupStatus, Tracked

if TYPE_CHECKING:
    from .devices import Demand, Shares

__all__ = ["Group"]

MARK = "bundle"  # of this each bundle has
MARKS = 1_000 * UNIT  # so much
MARKS_HELD = UNIT // 1_000  # and each of its workers holds so much


class Group(Tracked):
    """One placement group, from the request on."""

    __slots__ = ("bundles", "classes", "key", "leases", "nodes_wanted", "shares", "state")

    def __init__(self, key: str, bundles: tuple[Demand, ...], nodes_wanted: int = 1) -> None:
        """Describe what is wanted.

        key: what it is called in names of resources; no two groups may have the same.
        nodes_wanted: machines that it has to be spread over. There is one.
        """
        self.key = key
        self.bundles = bundles
        self.nodes_wanted = nodes_wanted
        self.state = GroupStatus.PENDING
        self.shares: list[Shares] = []  # while it holds them: the devices of each bundle
        self.classes: list[Any] = []  # `SchedulingClass`: of its reservation, and users
        self.leases = 0  # workers that hold some of it

    @property
    def demand(self) -> Demand:
        """What all bundles need together."""
        total: dict[str, int] = {}
        for bundle in self.bundles:
            for name, amount in bundle:
                total[name] = total.get(name, 0) + amount
        return tuple(sorted(total.items()))

    @property
    def devices_wanted(self) -> list[int]:
        """How much of the GPUs each bundle needs."""
        return [dict(bundle).get("GPU", 0) for bundle in self.bundles]

    @property
    def identity(self) -> str:
        """What the group is called in a story."""
        return f"placement group {self.key}"

    def supply(self) -> dict[str, int]:
        """Return what there is for tasks while the group is placed, by name."""
        return {
            self._name(name, index): amount
            for index, bundle in enumerate(self.bundles)
            for name, amount in (*bundle, (MARK, MARKS))
        }

    def devices_name(self, index: int) -> str:
        """Return what the GPUs of a bundle are called."""
        return self._name("GPU", index)

    def demands(self, demand: Demand, index: int | None) -> tuple[Demand, ...]:
        """Return what a task may draw on instead of `demand`, for each bundle that is large enough.

        index: of the bundle that it has to be; None: any.
        """
        found: list[Demand] = []
        for number, bundle in enumerate(self.bundles):
            has = dict(bundle)
            if index in (None, number) and all(
                amount <= has.get(name, 0) for name, amount in demand
            ):
                renamed = [(self._name(name, number), amount) for name, amount in demand]
                found.append(tuple(sorted([*renamed, (self._name(MARK, number), MARKS_HELD)])))
        return tuple(found)

    def plain(self, held: Demand) -> Demand:
        """Return what a worker that draws on the group holds, by the names outside."""
        marks = [self._name(MARK, index) for index in range(len(self.bundles))]
        return tuple(
            (name[: name.rindex("_group_")], amount) for name, amount in held if name not in marks
        )

    def _name(self, name: str, index: int) -> str:
        return f"{name}_group_{index}_{self.key}"

    def __repr__(self) -> str:
        return f"<Group {self.key} {self.state.name}>"
