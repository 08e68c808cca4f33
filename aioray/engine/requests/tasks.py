"""Takes in the tasks that tasks submit, and the functions that these call.

Room: engine. What is submitted one after the other goes to the scheduler together.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from ...client.refs import ObjectRef
from ...core.events import TasksSubmitted
from ...state.schema import MAP_COUNTS, MAP_STATES
from .session import check_task_key, checked_site

if TYPE_CHECKING:
    import functools
    from collections.abc import Callable

    from ...client.definitions import Definition
    from ...client.entry import ObjectEntry
    from ...core.events import Event
    from ...core.model import Task
    from ...shared.asks import Cancel, DefineFunction, Stop, Submit, TellOfMap, UnloadFunction
    from ..client import DriverClient
    from ..processes.inbound import Asked
    from ..tasks.submission import Submission
    from .session import WorkerSession

__all__ = ["NewTasks", "TaskRequests"]

_COUNTS = 1 << 63  # what is counted is less
BINDINGS_KEPT = 1_000  # of each worker; others are made again


class NewTasks:
    """What workers have submitted, until it goes to the scheduler together."""

    def __init__(
        self, client: DriverClient, feed: Callable[[Event | functools.partial[None]], None]
    ) -> None:
        self._client = client
        self._feed = feed
        self._tasks: list[Task] = []

    def add(self, task: Task) -> None:
        """Add a task to those that are submitted next."""
        self._tasks.append(task)

    def take_in(
        self, session: WorkerSession, task: Task, entries: list[ObjectEntry], task_key: bytes
    ) -> None:
        """Take in a call that a task has made, to be submitted; its worker holds the refs."""
        for entry in entries:
            session.adopt(entry)
        if task.stream is not None and not task.stream.dynamic:
            session.streams.add(task_key)
        self._tasks.append(task)

    def submit(self) -> None:
        """Submit the tasks that have come together."""
        if self._tasks:
            new, self._tasks = self._tasks, []
            self._feed(TasksSubmitted(new))


class TaskRequests:
    """Makes tasks of calls, with the functions that workers have told of."""

    def __init__(
        self,
        client: DriverClient,
        submission: Submission,
        new: NewTasks,
        submitter: Callable[[int, int], Task | None],
    ) -> None:
        self._client = client
        self._submission = submission
        self._new = new
        self._submitter = submitter

    def submit(self, session: WorkerSession, ask: Submit, asked: Asked) -> None:
        """Make a task of a call of a remote function; its worker holds the refs."""
        check_task_key(ask.task_key)
        key, packed = ask.key, ask.definition
        parent = self._submitter(session.handle.id, asked.seq)
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        binding = session.bindings.get((key, packed, depth))
        if binding is None:
            definition: Definition = pickle.loads(packed)
            function = session.functions[key]
            try:
                binding = self._submission.binding(*function, definition, depth)
            except ValueError as error:  # its group is known no more: that was asked before
                binding = self._submission.binding(*function, definition, depth, str(error))
            session.bindings[key, packed, depth] = binding
            if len(session.bindings) > BINDINGS_KEPT:
                session.bindings.popitem(last=False)
        value = session.handle.loans.result(ask.payload)
        task, entries = self._submission.create_task_for_worker(
            binding,
            parent=parent,
            task_key=ask.task_key,
            max_retries=ask.max_retries,
            payload=value,
            entries=[session.entry(found) for found in ask.arguments] or None,
            held=session.contained(value),
            trace=ask.trace,
        )
        if ask.site:
            self._submission.sites.note(task, checked_site(ask.site))
        self._new.take_in(session, task, entries, ask.task_key)

    def define_function(self, session: WorkerSession, ask: DefineFunction, _asked: Asked) -> None:
        """Remember a function, or class, by the key that its worker has given it."""
        refs: list[ObjectRef[Any]] = [
            ObjectRef(self._client.entry_of(found)) for found in ask.captured
        ]
        session.functions[ask.key] = self._submission.function(ask.name, ask.code), refs

    def unload_function(self, session: WorkerSession, ask: UnloadFunction, _asked: Asked) -> None:
        """Forget a function that its worker submits no more."""
        session.functions.pop(ask.key, None)
        for known in [known for known in session.bindings if known[0] == ask.key]:
            del session.bindings[known]

    def tell_of_map(self, _session: WorkerSession, ask: TellOfMap, _asked: Asked) -> None:
        """Let the history know how far a map of a task has come."""
        if ask.state not in MAP_STATES or len(ask.counts) != len(MAP_COUNTS):
            raise ValueError(f"a map that is {ask.state}, with {len(ask.counts)} counts")
        if len(ask.error) not in (0, 2) or not all(type(each) is str for each in ask.error):
            raise ValueError(f"an error of a map that is {len(ask.error)} things")
        if not all(type(count) is int and 0 <= count < _COUNTS for count in ask.counts):
            raise ValueError("counts of a map that are none")
        check_task_key(ask.task)
        self._client.tell_of_map(ask.task, ask.state, ask.counts, ask.error)

    def cancel(self, session: WorkerSession, ask: Cancel, asked: Asked) -> None:
        """Cancel a task, and reply with the outcome when it is known."""
        grace = ask.grace
        if grace is not None and not float(grace) >= 0:
            raise ValueError(f"a cancel with a grace of {grace} seconds")
        cancelling = self._client.cancel(
            session.entry(ask.identifier), force=ask.force, recursive=ask.recursive, grace=grace
        )
        cancelling.when_known(lambda outcome: session.reply(asked.request, outcome.name))

    def stop(self, session: WorkerSession, ask: Stop, asked: Asked) -> None:
        """End a task with what it has submitted, or an actor, and reply when that has happened."""
        if not float(ask.grace) >= 0:
            raise ValueError(f"a stop with a grace of {ask.grace} seconds")
        entry = session.entry(ask.identifier)
        self._client.stop(entry, ask.grace, lambda: session.reply(asked.request, None))
