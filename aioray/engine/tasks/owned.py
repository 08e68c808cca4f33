"""The record of a call that the driver makes for one value: the task and its entry in one object.

Room: engine. Most calls are such, and may wait in their hundred thousands: the fewer objects each
has, the less the garbage collector has to visit, which it does again and again while they wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...client.entry import ObjectEntry
from ...core.model import Task

if TYPE_CHECKING:
    from ...client.protocol import Client

__all__ = ["OwnedTask"]

_COPIED = tuple(name for name in Task.__slots__ if name != "__weakref__")


class OwnedTask(Task, ObjectEntry):
    """A task that is the entry of its value as well, until that could get lost: see `part`."""

    __slots__ = ("client", "contains", "identifier", "missing", "outcome", "recipe", "waiters")

    index = 1

    def expect(self, client: Client) -> None:
        """Be the entry that gets the value."""
        self.outcome = self.waiters = self.contains = self.identifier = None
        self.missing = False
        self.recipe: Task | None = None
        self.returns = self
        self.client = client  # last: now it is found among all entries

    @property
    def task(self) -> Task:
        """The task whose value it is."""
        return self.recipe or self

    def part(self) -> Task:
        """Return the finished task apart from its value, of which this is only the entry then.

        What is made of the value may need the task for longer than anybody has the value.
        """
        recipe = Task.__new__(Task)
        for name in _COPIED:
            setattr(recipe, name, getattr(self, name))
        self.recipe = recipe
        self.returns = None
        self.drop_arguments()
        return recipe
