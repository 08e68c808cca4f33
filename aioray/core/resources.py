"""The ledger of resources: who holds what, what is free, and what is saved for whom.

Room: core. `Resources` counts in 1/10,000 of a unit. It knows the machine's resources and those of
the bundles of placed groups (see `groups`), gives them to workers as leases, and gets them back. It
decides nothing about whose turn it is.

A worker whose task waits for others lends its CPUs (`lend_cpus`), and has them again the moment it
goes on: if they are in use by then, they are *oversubscribed*, and the next ones to be freed pay
for that. So `available` is never negative, and what runs can exceed the total for a while, as in
Ray.

GPUs are handed out one by one, see `devices`. If there are some, workers are kept `apart` by those
that they were shown. A removed group gives back what it has with the last of its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .devices import UNIT, Devices
from .states import GroupStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .devices import Demand, Shares
    from .groups import Group
    from .model import SchedulingClass, Worker

__all__ = ["MAX_ROOM", "Resources", "kept_by"]

MAX_ROOM = 1_000  # more workers than this are never wanted at once


class Resources:
    """What there is on this machine, and who has it."""

    __slots__ = (
        "apart",
        "available",
        "blocked_workers",
        "devices",
        "groups",
        "oversubscribed",
        "reserved",
        "total",
    )

    def __init__(self, resources: Mapping[str, int], devices: Sequence[str] | None = None) -> None:
        """Begin with everything free.

        resources: totals. devices: names of the GPUs, as many as there are of "GPU"; None: their
        numbers from 0.
        """
        self.total: dict[str, int] = dict(resources)
        self.available: dict[str, int] = dict(resources)
        self.oversubscribed: dict[str, int] = dict.fromkeys(resources, 0)  # in use beyond the total
        if devices is None:
            devices = [str(number) for number in range(self.total.get("GPU", 0) // UNIT)]
        self.devices: dict[str, Devices] = {"GPU": Devices(dict.fromkeys(devices, UNIT))}
        self.apart = bool(devices)  # workers are kept apart by the devices that they were shown
        self.groups: dict[str, Group] = {}  # those that hold their resources, by key
        self.blocked_workers = 0  # those whose tasks wait for others
        self.reserved: dict[str, int] = {}  # during one dispatch: saved for a class that waits

    # ------------------------------------------------------------ what fits

    def free_leases(self, cls: SchedulingClass) -> int:
        """Count how many more workers could hold what this class takes now."""
        if len(cls.demands) == 1:
            return self._room_for(cls.demands[0])
        return min(MAX_ROOM, sum(map(self._room_for, cls.demands)))  # each of another bundle

    def _room_for(self, demand: Demand) -> int:
        """Count how often this demand fits into what is free and not saved for others."""
        free = MAX_ROOM
        for name, amount in demand:
            devices = self.devices.get(name)
            if devices is None:
                left = self.available.get(name, 0) - self.reserved.get(name, 0)
                free = min(free, left // amount)
            else:
                free = min(free, devices.count(amount))
        return max(0, free)

    def _next_demand(self, cls: SchedulingClass) -> Demand:
        """Return what the next lease of a class takes. There must be room: see `free_leases`."""
        if len(cls.demands) == 1:
            return cls.demands[0]
        return next(each for each in cls.demands if self._room_for(each))

    def shown_next(self, cls: SchedulingClass) -> tuple[str, ...]:
        """Return the devices that the next lease of a class will see. There must be room."""
        shown: tuple[str, ...] = ()
        for name, amount in self._next_demand(cls):
            devices = self.devices.get(name)
            if devices is not None:
                shown = tuple(device for device, _ in devices.next(amount))
        return shown

    def suits(self, worker: Worker, cls: SchedulingClass) -> bool:
        """Tell whether what a worker was shown may, at some time, be what this class is to see."""
        shown = worker.shown
        if not shown or len(shown) != cls.devices_wanted:
            return shown is None or len(shown) == cls.devices_wanted
        return any(
            self.devices[name].free.keys() >= set(shown)
            for demand in cls.demands
            for name, _ in demand
            if name in self.devices
        )

    def shortage(self, cls: SchedulingClass) -> set[str]:
        """Name the resources that are too scarce for this class, whoever they may be saved for."""
        lacking: set[str] = set()
        for demand in cls.demands:
            short = [name for name, amount in demand if not self._is_free(name, amount, cls)]
            if not short:
                return set()
            lacking.update(short)
        return lacking

    def _is_free(self, name: str, amount: int, cls: SchedulingClass) -> bool:
        devices = self.devices.get(name)
        if devices is None:
            return self.available.get(name, 0) >= amount
        return devices.fits(*_parts(cls, amount))

    def never_fits(self, cls: SchedulingClass) -> bool:
        """Tell whether a class asks for more than there is, or its group is not placed yet."""
        group = cls.reserves
        if group is not None and group.nodes_wanted > 1:
            return True
        return not any(self._would_fit(cls, demand, self.total, {}) for demand in cls.demands)

    def _would_fit(
        self,
        cls: SchedulingClass,
        demand: Demand,
        total: Mapping[str, int],
        kept: Mapping[str, Sequence[Shares]],
    ) -> bool:
        """Tell whether there is room in `total` if no more than `kept` of the GPUs is given out."""
        for name, amount in demand:
            if amount > total.get(name, 0):
                return False
            devices = self.devices.get(name)
            if devices is not None:
                free = devices.emptied(kept.get(name, ()))
                if not free.fits(*_parts(cls, amount)):
                    return False
        return True

    def _left_beside(
        self, groups: Iterable[Group], workers: Iterable[Worker]
    ) -> tuple[dict[str, int], dict[str, list[Shares]]]:
        """Return what there is beside what these keep, and the GPUs that they keep.

        A blocked worker has given its CPUs away, maybe to some that need what is left.
        """
        total = dict(self.total)
        kept: dict[str, list[Shares]] = {"GPU": []}
        for group in groups:
            kept["GPU"] += group.shares
            for name, amount in group.demand:
                total[name] -= amount
        for worker in workers:
            for name, amount in kept_by(worker):
                total[name] -= amount
                kept.setdefault(name, []).append(worker.shares)
        return total, kept

    def short_beside(
        self, cls: SchedulingClass, groups: Iterable[Group], workers: Iterable[Worker]
    ) -> set[str]:
        """Name the resources that would not suffice for a class if only these had anything."""
        total, kept = self._left_beside(groups, workers)
        if any(self._would_fit(cls, demand, total, kept) for demand in cls.demands):
            return set()
        return {
            name
            for demand in cls.demands
            for name, amount in demand
            if not self._would_fit(cls, ((name, amount),), total, kept)
        }

    # ------------------------------------------------------------ saving

    def reserve_for(self, cls: SchedulingClass, workers: Iterable[Worker]) -> None:
        """Save up what a class needs, for this dispatch, if it will ever be free.

        A group keeps what it has, and so does an actor. So does a task that waits for others, but
        for its CPUs: maybe for some that need what would be saved. workers: all, or those at least.
        """
        total, kept = self._left_beside(
            self.groups.values(), [each for each in workers if each.blocked or each.settled]
        )
        for demand in cls.demands:
            if self._would_fit(cls, demand, total, kept):
                break
        else:
            return
        for name, amount in demand:
            devices = self.devices.get(name)
            if devices is None:
                self.reserved[name] = self.reserved.get(name, 0) + amount
            else:
                free = devices.emptied(kept.get(name, ()))
                shares = free.allocate_all(_parts(cls, amount)) or []
                devices.hold_back(device for share in shares for device, _ in share)

    def stop_reserving(self) -> None:
        """Undo every `reserve_for`: the dispatch is over."""
        self.reserved.clear()
        for devices in self.devices.values():
            devices.let_go()

    # ------------------------------------------------------------ leases

    def acquire(self, worker: Worker, cls: SchedulingClass) -> None:
        """Give a worker what the class takes."""
        demand = self._next_demand(cls)
        worker.lease, worker.held = cls, demand
        cls.leases += 1
        cls.passed_over_since = None
        for name, amount in demand:
            self.available[name] -= amount
            devices = self.devices.get(name)
            if devices is not None:
                worker.shares = devices.allocate(amount)
                worker.devices = tuple(device for device, _ in worker.shares)
        if self.apart:
            worker.shown = worker.devices
        if cls.group is not None:
            cls.group.leases += 1

    def release(self, worker: Worker) -> None:
        """Take back what a worker has, if it has something."""
        cls, worker.lease = worker.lease, None
        if cls is None:
            return
        if worker.settled:
            worker.settled = False
        else:
            cls.leases -= 1
        blocked = worker.blocked
        if blocked:
            worker.blocked = False
            self.blocked_workers -= 1
        for name, amount in worker.held:
            if not (blocked and _is_cpu(name)):
                self._give_back(name, amount)
            devices = self.devices.get(name)
            if devices is not None:
                devices.give_back(worker.shares)
                worker.shares = worker.devices = ()
        worker.held = ()
        if cls.group is not None:
            cls.group.leases -= 1
            self.dissolve(cls.group)

    def keep_only(self, worker: Worker, *, cpus: bool) -> None:
        """Let a worker keep what it has as long as its actor lives: no lease that comes and goes.

        cpus: it keeps these too.
        """
        kept = tuple(item for item in worker.held if cpus or not _is_cpu(item[0]))
        if not kept:
            self.release(worker)
            return
        for name, amount in worker.held:
            if (name, amount) not in kept:
                self._give_back(name, amount)
        worker.held = kept
        worker.settled = True
        worker.lease.leases -= 1  # type: ignore[union-attr]  # it has one

    def _give_back(self, name: str, amount: int) -> None:
        """Free some of a resource; what is oversubscribed of it is paid first."""
        oversubscribed = self.oversubscribed[name]
        if oversubscribed:
            paid = min(oversubscribed, amount)
            self.oversubscribed[name] = oversubscribed - paid
            amount -= paid
        self.available[name] += amount

    def lend_cpus(self, worker: Worker) -> None:
        """Free the CPUs of a worker whose task waits for others."""
        worker.blocked = True
        self.blocked_workers += 1
        for name, amount in worker.held:
            if _is_cpu(name):
                self._give_back(name, amount)

    def take_cpus_back(self, worker: Worker) -> None:
        """Give a worker its CPUs again, whether they are free or not."""
        worker.blocked = False
        self.blocked_workers -= 1
        for name, amount in worker.held:
            if _is_cpu(name):
                taken = min(self.available[name], amount)
                self.available[name] -= taken
                self.oversubscribed[name] += amount - taken

    # ------------------------------------------------------------ groups

    def take_for(
        self, cls: SchedulingClass, group: Group, older: Sequence[SchedulingClass]
    ) -> bool:
        """Give a group what it needs, if there is room for all of it, and its bundles to its tasks.

        A group may keep it for long. So it does not take what an older task could have that lacks
        nothing but a worker, which may be on its way. older: those, whatever they lack.
        """
        if group.nodes_wanted > 1 or any(
            amount > self.available.get(name, 0) - self.reserved.get(name, 0)
            for name, amount in cls.demand
        ):
            return False
        devices = self.devices["GPU"]
        ready = [other for other in older if not self.shortage(other)]
        shares = devices.allocate_all(group.devices_wanted)
        if shares is None:
            return False
        for name, amount in cls.demand:
            self.available[name] -= amount
        if any(map(self.shortage, ready)):
            for name, amount in cls.demand:
                self.available[name] += amount
            for share in shares:
                devices.give_back(share)
            return False
        supply = group.supply()
        self.total |= supply
        self.available |= supply
        self.oversubscribed |= dict.fromkeys(supply, 0)
        for index, share in enumerate(shares):
            if share:
                self.devices[group.devices_name(index)] = Devices(dict(share))
        group.shares = shares
        self.groups[group.key] = group
        return True

    def dissolve(self, group: Group) -> None:
        """Give the machine back what a removed group has reserved, once nobody uses it."""
        if group.state is not GroupStatus.REMOVED or group.leases or group.key not in self.groups:
            return
        del self.groups[group.key]
        for name in group.supply():
            del self.total[name], self.available[name], self.oversubscribed[name]
            self.devices.pop(name, None)
        for name, amount in group.demand:
            self._give_back(name, amount)
        for share in group.shares:
            self.devices["GPU"].give_back(share)
        group.shares = []


def kept_by(worker: Worker) -> Demand:
    """Return what a worker keeps while its task waits for others, or its actor lives."""
    if not worker.blocked:
        return worker.held
    return tuple(item for item in worker.held if not _is_cpu(item[0]))


def _is_cpu(name: str) -> bool:
    """Tell whether a worker whose task waits for others gives this resource back."""
    return name == "CPU" or name.startswith("CPU_group_")  # those of a bundle, see `groups`


def _parts(cls: SchedulingClass, amount: int) -> Sequence[int]:
    """Return the pieces in which a class takes its GPUs: a group has some for each bundle."""
    return (amount,) if cls.reserves is None else cls.reserves.devices_wanted
