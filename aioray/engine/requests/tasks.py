"""Takes in the tasks that tasks submit, and the functions that these call.

Room: engine. What is submitted one after the other goes to the scheduler together.
"""

from __future__ import annotations

import math
import os
import pickle
from typing import TYPE_CHECKING, Any

from ...client.refs import ObjectEntry, ObjectRef
from ...core.events import (
    CancelRequested,
    TasksSubmitted,
)
from ...exceptions import RaySystemError
from ...shared.failures import capture
from ...shared.serialization import dumps, load
from ..telemetry.reports import NODE_IP
from .session import Guest, SessionRequests

if TYPE_CHECKING:
    import functools
    from collections.abc import Callable, Sequence

    from ...client.definitions import Definition
    from ...core.events import Event
    from ...core.model import Task
    from ..tasks.submission import Submission, Trace

__all__ = ["TaskRequests"]

BINDINGS_KEPT = 1_000  # of each worker; others are made again


class TaskRequests(SessionRequests):
    """Tasks of tasks."""

    _submission: Submission
    _feed: Callable[[Event | functools.partial[None]], None]
    _running: Callable[[int, int], Task | None]
    _submitter: Callable[[int, int], Task | None]
    _new: list[Task]

    def _submit(
        self,
        guest: Guest,
        seq: int,
        _request: int,
        key: int,
        packed: bytes,
        label: bytes,
        max_retries: int,
        payload: bytes,
        arguments: list[bytes],
        trace: Trace = (),
        site: Any = None,
    ) -> None:
        parent = self._submitter(guest.handle.id, seq)
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        binding = guest.bindings.get((key, packed, depth))
        if binding is None:
            definition: Definition = pickle.loads(packed)
            function = guest.functions[key]
            try:
                binding = self._submission.binding(*function, definition, depth)
            except ValueError as error:  # its group is known no more: that was asked before
                binding = self._submission.binding(*function, definition, depth, str(error))
            guest.bindings[key, packed, depth] = binding
            if len(guest.bindings) > BINDINGS_KEPT:
                guest.bindings.popitem(last=False)
        value = guest.handle.loans.result(payload)
        task, entries = self._submission.adopt(
            binding,
            parent=parent,
            label=label,
            max_retries=max_retries,
            payload=value,
            entries=[self._entry(guest, found) for found in arguments] or None,
            held=self._contained(value),
            trace=trace,
        )
        if site:
            self._submission.sites.note(task, site)
        self._take_in(guest, task, entries, label)

    def _take_in(self, guest: Guest, task: Task, entries: list[ObjectEntry], label: bytes) -> None:
        """Submit what a task has called; its worker holds the refs."""
        for entry in entries:
            self._engine.export(entry)
            guest.hold(entry.binary(), entry)
        if task.stream is not None and not task.stream.dynamic:
            guest.streams.add(label)
        self._new.append(task)

    def _submit_new(self) -> None:
        if self._new:
            new, self._new = self._new, []
            self._feed(TasksSubmitted(new))

    def _function(
        self,
        guest: Guest,
        _seq: int,
        _request: int,
        key: int,
        name: str,
        code: bytes,
        captured: list[bytes],
    ) -> None:
        refs: list[ObjectRef[Any]] = [ObjectRef(self._engine.adopt(found)) for found in captured]
        guest.functions[key] = self._submission.function(name, code), refs

    def _unload(self, guest: Guest, _seq: int, _request: int, key: int) -> None:
        guest.functions.pop(key, None)
        for known in [known for known in guest.bindings if known[0] == key]:
            del guest.bindings[known]

    def _cancel(
        self,
        guest: Guest,
        _seq: int,
        request: int,
        identifier: bytes,
        force: bool,
        recursive: bool,
        grace: float | None,
    ) -> None:
        if grace is not None and not 0 <= grace < math.inf:
            raise ValueError(f"a cancel with a grace of {grace} seconds")
        entry = self._entry(guest, identifier)
        asked = self._engine.cancel(entry, force=force, recursive=recursive, grace=grace)
        asked.when_known(lambda outcome: self._reply(guest, request, outcome.name))

    def cancel_orphans(self, tasks: Sequence[Task]) -> None:
        """The attempt that submitted these died: cancel those whose values nobody can get."""
        for task in tasks:
            returns = task.returns
            if type(returns) is tuple and all(ref() is None for ref in returns):
                self._feed(CancelRequested(task, 0, force=True, recursive=True))

    def not_sent(self, worker_id: int, seq: int, error: OSError) -> bytes:
        """The error of an attempt that could not be sent, as that of a function is told."""
        task = self._running(worker_id, seq)
        name = "" if task is None else task.name
        problem = RaySystemError(
            f"Task {name} could not be sent to its worker, as the system has no room for what goes "
            f"with it: {error}. Look at the limits of this process (ulimit -a) for open files, the "
            f"size of files and memory, or put large arguments into the object store, by put()."
        )
        return capture(
            problem,
            function_name=name,
            proctitle=f"ray::{name}",
            pid=os.getpid(),
            ip=NODE_IP,
            dumps=dumps,
            loads=load,
        )
