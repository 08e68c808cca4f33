"""The driver's client: what the API, refs and handles stand on in the process of the engine.

Room: engine. `DriverClient` is the `aioray.client.protocol.Client` of one engine: entries, calls
and handles know it, and `registry` finds it. It takes tasks, actors and groups itself, and leaves
to parts what concerns objects (`objects.entries`), waiting and cancelling (`waiting`) and questions
about what goes on (`telemetry.questions`): their methods are its own. Everything may be called from
any thread; what has to happen on the engine's goes through the mailbox.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from ..client.call_sites import recorder
from ..client.context_vars import Carrier, keys_of
from ..core.events import GroupRemoved
from ..core.states import GroupStatus
from ..shared import ids
from ..state.folders import new_name
from .key_values import KeyValues
from .objects.entries import Entries
from .processes.output import FLUSH_SECONDS
from .stopping import Stops
from .tasks.actors import Actors
from .tasks.groups import Groups
from .tasks.limiters import StartLimiters
from .tasks.submission import Submission
from .telemetry.questions import Questions
from .telemetry.sites import watch
from .waiting import CancelRequests, ObjectWaits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from ..client.admission import Gate
    from ..client.entry import ObjectEntry
    from ..client.protocol import Call
    from ..client.refs import ObjectRef
    from ..client.rest import CompletionQueue
    from ..core.devices import Demand
    from ..core.events import Event
    from ..core.model import SchedulingClass, Task
    from ..core.scheduler import Scheduler
    from ..options.task import InitOptions
    from .mailbox import Mailbox
    from .objects.objects import ObjectTable
    from .processes.pool import WorkerProcesses
    from .telemetry.recorder import Recorder
    from .telemetry.reports import WorkerName
    from .waiting import PendingCancel

__all__ = ["DriverClient"]


class DriverClient:
    """An engine, as seen by refs and the API in its own process."""

    def __init__(
        self,
        settings: InitOptions,
        core: Scheduler,
        mailbox: Mailbox,
        totals: Mapping[str, int],
        after_fork_in_child: Callable[[], None],
    ) -> None:
        """Take nothing yet: the engine is not started.

        totals: of resources, see `Scheduler`. after_fork_in_child: see
        `aioray.client.protocol.Client`. Raises what `Submission` raises.
        """
        self.namespace = settings.namespace or str(uuid.uuid4())
        self.node_id = ids.random_id().hex()
        self.key_values = KeyValues()
        self.session = new_name()
        self.job = b""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.unix_offset = time.time() - time.monotonic()  # makes Unix seconds of monotonic ones
        self.after_fork_in_child = after_fork_in_child
        self.processes: WorkerProcesses | None = None  # as soon as the engine is started
        self.recorder: Recorder | None = None  # then too, if there is a history
        self.runs_inline = settings.local_mode
        self._core = core
        self._mailbox = mailbox
        self._post = mailbox.post
        self.limiters = StartLimiters()
        self.gate: Gate | None = None
        if settings.max_pending is not None:
            from ..client.admission import Gate, PendingCount  # rare

            self.gate = Gate(PendingCount(), settings.max_pending, "The session has max_pending")
        self.groups = Groups(core, self.node_id, settings.labels or {}, self.limiters)
        self.submission = Submission(self, settings.runtime_env, self.groups.class_for)
        self.runtime_env = self.submission.environment.fields()
        if settings.context:
            self.submission.carrier = Carrier(keys_of(settings.context))
        self.actors = Actors(self, mailbox.feed, mailbox.post, self.name_of)
        self.submission.actors = self.actors
        self.submission.limiters = self.limiters
        self.call_back = mailbox.call_back
        self.in_own_thread, self.between_runs = mailbox.in_own_thread, mailbox.between_runs
        self.entries: Entries = Entries(self, mailbox, self.submission.streams)
        entries = self.entries
        self.put, self.fetch, self.lose = entries.put, entries.fetch, entries.lose
        self.export_entry, self.export_new = entries.export_entry, entries.export_new
        self.pin, self.new_entry = entries.pin, entries.new_entry
        self.entry_of, self.check_ready = entries.entry_of, entries.has_signal
        self.consume, self.abandon, self.store = entries.consume, entries.abandon, entries.store
        waits = ObjectWaits(self, mailbox, entries.has_signal)
        self.get, self.wait = waits.get, waits.wait
        self.completions: Callable[[Sequence[ObjectRef[Any]]], CompletionQueue] = waits.completions
        self.when_ready, self.forget = waits.when_ready, waits.forget
        self.cancels = CancelRequests(self, mailbox)
        self.stop = Stops(self, mailbox).stop
        self.questions = questions = Questions(self, mailbox, core, settings, totals)
        self.own_session, self.listen = questions.own_session, questions.listen
        self.ask_state, self.ask_figures = questions.ask_state, questions.ask_figures
        self.health = questions.health
        self.cluster_resources, self.nodes = questions.cluster_resources, questions.nodes
        self.available_resources = questions.available_resources
        site = recorder(os.environ)
        if site is not None:
            watch(self, self.submission, self.submission.sites, site)

    def begin(self, loop: asyncio.AbstractEventLoop, job: bytes, objects: ObjectTable) -> None:
        """Take what comes: the engine is being started, on this loop."""
        self.loop = loop
        self.job = self.groups.job = job
        self.submission.objects = self.entries.objects = self.questions.objects = objects

    @property
    def closed(self) -> bool:
        """Whether the engine can do nothing more: shut down, its loop closed, or forked."""
        return self._mailbox.closed

    def trace(self) -> None:
        """Make a span of each task from now on. See `aioray.util.tracing`."""
        if self.submission.tracer is None:
            from .telemetry.tracing import Tracer

            self.submission.tracer = Tracer(self.job, self.unix_offset, self.name_of)

    @property
    def orders(self) -> dict[type[Any], Callable[[Any], None]]:
        """What carries out the commands of the core, by their type; faults step between."""
        return self._mailbox.orders

    def feed(self, event: Event) -> None:
        """Let the core know of an event, on the engine's thread."""
        self._mailbox.feed(event)

    def unfinished(self) -> dict[int, str]:
        """Return the names of the tasks that have no outcome yet, by number; for tests."""

        def read() -> dict[int, str]:
            unfinished = self._core.unfinished_tasks()
            return {task.number: task.name for task in unfinished if not task.actor}

        mailbox = self._mailbox
        if mailbox.closed or mailbox.loop is None or not mailbox.loop.is_running():
            return read()
        found: dict[int, str] = mailbox.do_now(read)  # after what was submitted just now
        return found

    def lose_now(self, entry: ObjectEntry) -> None:
        """Throw away a stored value, on the engine's thread."""
        assert self.entries.objects is not None
        self.entries.objects.throw_away(entry)

    def silence(self) -> None:
        """Print no more of what workers print, for the rest of the session."""
        if self.processes is not None:
            self.processes.silence()

    def flush_output(self) -> None:
        """Return when all is printed that workers have printed until now, or it takes too long."""
        done = threading.Event()

        def flush() -> None:
            if self.processes is None or self._mailbox.ended:
                done.set()
            else:
                self.processes.flush_output(done.set)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._mailbox.on_thread(flush)
            done.wait(FLUSH_SECONDS)

    # ------------------------------------------------------------ tasks

    def begun(self, entries: Sequence[ObjectEntry]) -> list[bool]:
        """Tell which of these have tasks that run. See `aioray.client.protocol.Client`."""

        def look() -> list[bool]:
            tasks = [entry.task for entry in entries]
            return [
                task is not None
                and task.worker is not None
                and next(iter(task.worker.in_flight.values())) is task
                for task in tasks
            ]

        found: list[bool] = [False] * len(entries) if self.closed else self._mailbox.do_now(look)
        return found

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Take a task. See `aioray.client.protocol.Client`."""
        if self._mailbox.ended:
            self._mailbox.refuse_ended()
        task, returned = self.submission.create_task_for_driver(call, args, kwargs)
        self._post(task)
        return returned

    def tell_of_map(
        self, task: bytes, state: str, counts: Sequence[int], error: Sequence[str]
    ) -> None:
        """Let the history know how far a map has come. See `aioray.client.protocol.Client`."""

        def tell() -> None:
            if self.recorder is not None:
                stream = self.submission.streams.get(task)
                first = None if stream is None else stream.task
                self.recorder.map_changed(task, first, state, counts, error)

        with contextlib.suppress(RuntimeError):  # the engine ends just now
            self._mailbox.on_thread(tell)

    def cancel(
        self, entry: ObjectEntry, *, force: bool, recursive: bool, grace: float | None
    ) -> PendingCancel:
        """Interrupt the task of an entry, or kill its worker. See `aioray.api.objects.cancel`."""
        if force:
            return self.cancels.force_kill(entry, recursive=recursive, grace=grace)
        return self.cancels.interrupt(entry, recursive=recursive, grace=grace)

    # ------------------------------------------------------------ actors

    def create_actor(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Take an actor. See `aioray.client.protocol.Client`."""
        self._mailbox.refuse_ended()
        creation, ref = self.submission.create_actor_for_driver(call, args, kwargs, self.namespace)
        self._post(creation)
        return ref

    def get_actor(self, name: str, namespace: str | None) -> tuple[ObjectRef[Any], bytes] | None:
        """Return the ref and the meta of the living actor of this name, if there is one."""
        return self.actors.named(name, namespace or self.namespace)

    def kill_actor(self, actor: ObjectRef[Any], *, no_restart: bool) -> None:
        """End an actor at once."""
        self.actors.kill(actor.binary(), no_restart=no_restart)

    def named_actors(self) -> list[tuple[str, str]]:
        """Return namespace and name of every living actor that has a name."""
        return self.actors.names()

    def pending_calls(self, actor: ObjectRef[Any]) -> int:
        """Count the calls of an actor that the driver has made and that have not ended."""
        return self.actors.pending_calls(actor.binary(), 0)

    def name_of(self, worker_id: int) -> WorkerName | None:
        """Return what a worker of the scheduler is called outside, if it is still known."""
        return None if self.processes is None else self.processes.names.get(worker_id)

    # ------------------------------------------------------------ placement groups

    def create_placement_group(
        self, identifier: bytes, bundles: Sequence[Demand], strategy: str, name: str, value: bytes
    ) -> None:
        """Take a placement group. See `aioray.client.protocol.Client`."""
        self._mailbox.refuse_ended()
        title = f"placement_group {name}" if name else "placement_group"
        tasks: list[Task] = []

        def reserve(scheduling_class: SchedulingClass) -> ObjectRef[Any]:
            task, ref = self.submission.create_reservation(scheduling_class, title, value)
            tasks.append(task)
            return ref

        self.groups.add(identifier, bundles, strategy, name, reserve)
        for task in tasks:  # now that the group is known
            self._post(task)
        self._post(lambda: self._group_changed(identifier))

    def _reserve(
        self, scheduling_class: SchedulingClass, name: str, value: bytes
    ) -> ObjectRef[Any]:
        """Submit the task that stands for a placement group, and return the ref to it."""
        task, ref = self.submission.create_reservation(scheduling_class, name, value)
        self._post(task)
        return ref

    def remove_placement_group(self, identifier: bytes) -> None:
        """Remove a placement group, and return when that has begun."""
        group = self.groups.find(identifier)

        def remove() -> None:
            self._mailbox.feed(GroupRemoved(group))
            self._group_changed(identifier)
            self._mailbox.feed(functools.partial(self.groups.forget_old))

        if not self.closed:
            self._mailbox.do_now(remove)

    def _group_changed(self, identifier: bytes) -> None:
        """Let the history know what has become of a group."""
        if self.recorder is not None:
            self.recorder.group_changed(self.groups.find(identifier))

    def placement_group_ready(self, identifier: bytes) -> ObjectRef[Any]:
        """Return the ref that is ready when the group is placed, and fails if that was removed."""
        group = self.groups.find(identifier)
        if group.state is GroupStatus.REMOVED:  # its ref may have got the value before
            return self._reserve(group.classes[0], "placement_group", b"")
        return self.groups.ready(identifier)

    def placement_group_table(self) -> dict[str, dict[str, Any]]:
        """Return the placement groups by id, as Ray describes them."""
        return self.groups.table()
