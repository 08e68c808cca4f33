"""Where the tasks, actors and values of one engine were made, as far as that was asked for.

Room: engine. `Sites` remembers what drivers and workers have told, see `aioray.client.call_sites`,
for as long as there is what it tells of. `watch` has the driver's own calls told: it takes the
place of three methods, so that nothing is asked of each call where nobody wants to know.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...client.call_sites import Site
    from ...client.entry import ObjectEntry
    from ...client.protocol import Call
    from ...client.refs import ObjectRef
    from ...core.model import Task
    from ..client import DriverClient
    from ..tasks.submission import Submission

__all__ = ["Sites", "watch"]

DISABLED = "disabled"
UNKNOWN = "<unknown>"


class Sites:
    """What is known of where things were made. Calls may come from any thread."""

    def __init__(self) -> None:
        self.known = False  # some are
        self._has_places = False
        self._of_tasks: weakref.WeakKeyDictionary[Task, Site] = weakref.WeakKeyDictionary()
        self._of_values: weakref.WeakKeyDictionary[ObjectEntry, str] = weakref.WeakKeyDictionary()

    def note(self, task: Task, site: Site) -> None:
        """Note where the task was asked for."""
        self.known = True
        self._of_tasks[task] = site
        self._has_places = self._has_places or bool(site[1])

    def note_put(self, entry: ObjectEntry, site: Site) -> None:
        """Note where the value was put."""
        if site[1]:
            self._has_places = True
            self._of_values[entry] = site[1]

    def note_actor(self, creation: Task, entry: ObjectEntry, site: Site) -> None:
        """Note where the actor with this creation and this ref was asked for."""
        self.note(creation, site)
        self.note_put(entry, site)

    def note_again(self, task: Task, other: Task) -> None:
        """Note that this other record is of the same task."""
        site = self._of_tasks.get(task) if self.known else None
        if site is not None:
            self._of_tasks[other] = site

    def stack(self, task: Task) -> str | None:
        """Return the stack of the call of a task; None: not known."""
        return self._of_tasks.get(task, ("", ""))[0] or None

    def call_site(self, entry: ObjectEntry) -> str:
        """Return where the value was put, or the call that gives it; an actor's ref: the actor."""
        if not self._has_places:
            return DISABLED
        found = self._of_values.get(entry)
        if found is None and entry.task is not None:
            found = self._of_tasks.get(entry.task, ("", ""))[1]
        return found or UNKNOWN


def watch(
    client: DriverClient, submission: Submission, sites: Sites, site: Callable[[str], Site]
) -> None:
    """Note the sites of the driver's own calls. site: see `call_sites.recorder`."""
    make, put = submission.create_task_for_driver, client.put
    make_actor = submission.create_actor_for_driver

    def make_noted(
        call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Task, Any]:
        task, returned = make(call, args, kwargs)
        sites.note(task, site("task call" if call.actor is None else "actor call"))
        return task, returned

    def make_actor_noted(
        call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], namespace: str
    ) -> tuple[Task, ObjectRef[Any]]:
        creation, ref = make_actor(call, args, kwargs, namespace)
        sites.note_actor(creation, ref.entry, site("actor call"))
        return creation, ref

    def put_noted(value: Any) -> ObjectRef[Any]:
        ref = put(value)
        sites.note_put(ref.entry, site("put object"))
        return ref

    submission.create_task_for_driver = make_noted  # type: ignore[method-assign]
    submission.create_actor_for_driver = make_actor_noted  # type: ignore[method-assign]
    client.put = put_noted
