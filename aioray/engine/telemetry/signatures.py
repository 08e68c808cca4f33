"""Tells the history once what the attempts of many tasks have in common, and numbers that.

Room: engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...client.environments import WorkerEnvironment
from ...core.devices import UNIT
from ...shared import ids
from . import redaction

if TYPE_CHECKING:
    from ...core.model import Task
    from ...state.write.writer import HistoryWriter
    from ..tasks.actors import ActorRecord
    from .sites import Sites

__all__ = ["Signatures", "amounts", "fields"]

SIGNATURES_KEPT = 5_000  # functions with their options that are known by a number; then anew


class Signatures:
    """The signatures of tasks of one session, by number."""

    def __init__(
        self, writer: HistoryWriter, job: bytes, sites: Sites, *, redacts: bool = False
    ) -> None:
        """Know none yet. redacts: see `redaction`."""
        self._writer = writer
        self._redacts = redacts
        self._job = job
        self._sites = sites
        # By function, name, scheduling class, what the actor calls itself, and the call site.
        self._numbers: dict[tuple[int, str, int, str, str | None], int] = {}
        self._last = 0
        self._old = 0  # no task gets this one, or one before it, any more

    def identity(self, task: Task) -> tuple[int, int | bytes, bytes | None]:
        """Return a task's signature, its task_key as `schema` has it, and the id of its parent."""
        task_key, parent = task.task_key, task.parent_key
        return (
            self.number(task),
            task_key[0] if isinstance(task_key, tuple) else task_key,
            None if parent is None else ids.task_id(self._job, parent),
        )

    def number(self, task: Task) -> int:
        """Return the number of what the attempts of this task have in common with others."""
        cls = task.scheduling_class
        shown = "" if cls.actor is None or self._redacts else cls.actor.payload.repr_name
        site = self._sites.stack(task) if self._sites.known else None
        key = (task.function.key, task.name, cls.number, shown, site)
        found = self._numbers.get(key)
        if found is None:
            if (
                len(self._numbers) >= SIGNATURES_KEPT
            ):  # actors come and go, and names may be made up
                self._writer.forget_signatures(self._old)
                self._old = self._last
                self._numbers.clear()
            attributes = self._attributes(task, shown)
            if self._redacts:
                attributes = redaction.attributes(attributes)
            self._last = found = self._numbers[key] = self._last + 1
            self._writer.add_signature(found, attributes)
        return found

    def attributes(self, number: int) -> dict[str, Any]:
        """Return what the attempts of this signature have in common."""
        found: dict[str, Any] = self._writer.signatures[number]
        return found

    def _attributes(self, task: Task, shown: str) -> dict[str, Any]:
        cls = task.scheduling_class
        actor = task.actor or cls.actor
        known: ActorRecord | None = None if actor is None else actor.payload
        kind, name, function = "NORMAL_TASK", task.name, task.function.name
        if task.actor is not None:
            kind, function = "ACTOR_CREATION_TASK", f"{known.description.class_name}.__init__"  # type: ignore[union-attr]
        elif actor is not None:
            kind = "ACTOR_TASK"
            if shown and name == function:
                name = f"{shown}.{name.rpartition('.')[2]}"
        return {
            "name": name,
            "type": kind,
            "func_or_class_name": function,
            "actor_id": None if known is None else known.description.actor_id,
            "creation": known.task_key.hex() if known is not None and task.actor is None else None,
            "required_resources": amounts(cls.demand),
            "placement_group_id": None if cls.group is None else cls.group.key,
            "runtime_env": fields(cls.environment),
            "label_selector": None,
            "call_site": self._sites.stack(task),
        }


def amounts(demand: Any) -> dict[str, float]:
    """Return what is demanded, by name of the resource."""
    return {name: amount / UNIT for name, amount in demand}


def fields(environment: Any) -> dict[str, Any] | None:
    """Return the fields of a runtime environment; None if it has none."""
    if not isinstance(environment, WorkerEnvironment):
        return None
    return environment.fields() or None
