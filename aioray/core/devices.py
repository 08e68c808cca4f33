"""Which device serves whom: the GPUs of the machine, or those that one bundle has reserved.

Room: core. Amounts are in 1/10,000 of a device, as everywhere in the core. A request for whole
devices takes free ones for itself; a request for less than one shares a device with others. So what
is free in total may not fit: two halves that are free on two devices are no whole one. Only
`count` and `fits` know; whoever asks them first can always `take`.

A share goes to the fullest device that has room for it, which keeps whole devices whole. For a
request that others overtake, devices are held back: nothing new starts there, so what is free on
them only grows until it fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["UNIT", "Demand", "Devices", "Shares"]

UNIT = 10_000  # resource amounts per whole unit

Demand = tuple[tuple[str, int], ...]
"""Resources by name, sorted, in 1/10,000 of a unit; zero amounts are left out."""

Shares = tuple[tuple[str, int], ...]
"""What one holder has: devices by name, and how much of each."""


class Devices:
    """Devices by name, in the order in which they are given out, and what is free of each."""

    def __init__(self, free: Mapping[str, int]) -> None:
        """Begin with this much of each device; the names are the caller's and mean nothing here."""
        self.free: dict[str, int] = dict(free)
        self._size: dict[str, int] = dict(free)
        self._held_back: frozenset[str] = frozenset()

    def count(self, amount: int) -> int:
        """Count how many more holders of this amount have room now, off what is held back."""
        free = [left for name, left in self.free.items() if name not in self._held_back]
        if amount >= UNIT:
            return free.count(UNIT) // (amount // UNIT)
        return sum(left // amount for left in free)

    def fits(self, *amounts: int) -> bool:
        """Tell whether there is room for all of these amounts, also on what is held back."""
        return Devices(self.free).allocate_all(amounts) is not None

    def next(self, amount: int) -> Shares:
        """Return what `take` would give out. There must be room: see `count`."""
        shares = self._find(amount)
        assert shares is not None, (amount, self.free)
        return shares

    def allocate(self, amount: int) -> Shares:
        """Give out this amount. There must be room: see `count`."""
        shares = self.next(amount)
        self._deduct(shares)
        return shares

    def allocate_all(self, amounts: Sequence[int]) -> list[Shares] | None:
        """Give out all of these amounts, or nothing and None if they do not fit together.

        The largest are placed first. A few mixtures of fractions would fit in another order only,
        and are refused.
        """
        found: dict[int, Shares] = {}
        for index in sorted(range(len(amounts)), key=lambda index: -amounts[index]):
            shares = self._find(amounts[index]) if amounts[index] else ()
            if shares is None:
                for given in found.values():
                    self.give_back(given)
                return None
            self._deduct(shares)
            found[index] = shares
        return [found[index] for index in range(len(amounts))]

    def give_back(self, shares: Shares) -> None:
        """Take back what was given out."""
        for name, amount in shares:
            self.free[name] += amount

    def emptied(self, kept: Iterable[Shares] = ()) -> Devices:
        """Return a copy from which only `kept` is given out; what is emptiest now comes first."""
        order = sorted(self.free, key=lambda name: -self.free[name])
        copy = Devices({name: self._size[name] for name in order})
        for shares in kept:
            copy._deduct(shares)
        return copy

    def hold_back(self, names: Iterable[str]) -> None:
        """Let `count` and `take` pass over these devices too."""
        self._held_back = self._held_back.union(names)

    def let_go(self) -> None:
        """Undo every `hold_back`."""
        self._held_back = frozenset()

    def _find(self, amount: int) -> Shares | None:
        free = {n: left for n, left in self.free.items() if n not in self._held_back}
        if amount >= UNIT:
            wanted = amount // UNIT
            whole = [name for name, left in free.items() if left == UNIT][:wanted]
            return tuple((name, UNIT) for name in whole) if len(whole) == wanted else None
        roomy = [name for name, left in free.items() if left >= amount]
        if not roomy:
            return None
        return ((min(roomy, key=free.__getitem__), amount),)

    def _deduct(self, shares: Shares) -> None:
        for name, amount in shares:
            self.free[name] -= amount
