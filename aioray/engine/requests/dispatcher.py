"""What tasks ask of the engine: calls of remote functions, values, waiting, cancelling.

Room: engine. The driver's side of `aioray.worker.client`; everything here happens on the engine's
thread, in the order in which a worker has said it, and in order with its answers. Who answers a
question depends on its subject: tasks, objects, streams, actors, groups, waits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...core.events import CancelRequested
from ...exceptions import RaySystemError
from ...shared import asks
from ...shared.failures import capture
from ...shared.serialization import dumps, load
from ..processes.inbound import ChunkNews, RefsChanged, Saved, Yielded
from ..telemetry.reports import NODE_IP
from .actors import ActorRequests
from .groups import GroupRequests
from .logs import take_log_record
from .objects import ObjectRequests
from .session import WorkerSession
from .streams import StreamRequests
from .tasks import NewTasks, TaskRequests
from .waits import WaitRequests

if TYPE_CHECKING:
    import functools
    from collections.abc import Callable, Sequence

    from ...core.events import Event
    from ...core.model import Task
    from ...shared.asks import Ask, Info
    from ..client import DriverClient
    from ..objects.objects import ObjectTable
    from ..processes.handle import WorkerHandle
    from ..processes.inbound import Asked, Item
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission

__all__ = ["Requests"]

_SUBMITTING = (asks.Submit, asks.Put, asks.CallActor, asks.CreateActor)
_TOLD = frozenset(  # what Info tells
    (
        "available_resources",
        "cluster_resources",
        "named_actors",
        "nodes",
        "placement_group_table",
    )
)


class Requests:
    """Hands on what the workers of one engine ask, to whoever answers it."""

    def __init__(
        self,
        client: DriverClient,
        submission: Submission,
        objects: ObjectTable,
        actors: Actors,
        feed: Callable[[Event | functools.partial[None]], None],
        running: Callable[[int, int], Task | None],
        submitter: Callable[[int, int], Task | None],
        expects: Callable[[int, int], bool],
    ) -> None:
        """Begin with no workers. feed: takes what the scheduler is to know, or what to do next.

        running: the task whose attempt, by worker id and seq, is in flight. submitter: the one
        that has submitted what is asked for so. expects: whether there may be an answer of that.
        """
        self.expects = expects
        self._client = client
        self._feed = feed
        self._running = running
        self.wait_for_socket: Callable[[WorkerHandle], None] = lambda _handle: None
        self._sessions: dict[int, WorkerSession] = {}
        self._new = NewTasks(client, feed)
        of_waits = WaitRequests(submission, actors, feed)
        self._streams = of_streams = StreamRequests(client, of_waits, running)
        self._objects = of_objects = ObjectRequests(client, submission, objects, actors)
        of_tasks = TaskRequests(client, submission, self._new, submitter)
        self._actors = of_actors = ActorRequests(
            client, submission, actors, self._new, running, submitter
        )
        of_groups = GroupRequests(client, submission, feed, submitter)
        self._answer: dict[type[Ask], Callable[[WorkerSession, Any, Asked], None]] = {
            asks.Submit: of_tasks.submit,
            asks.DefineFunction: of_tasks.define_function,
            asks.UnloadFunction: of_tasks.unload_function,
            asks.Cancel: of_tasks.cancel,
            asks.TellOfMap: of_tasks.tell_of_map,
            asks.Stop: of_tasks.stop,
            asks.Log: take_log_record,
            asks.Info: self._info,
            asks.UseKeyValues: self._key_values,
            asks.Allocate: of_objects.allocate,
            asks.Put: of_objects.put,
            asks.Pin: of_objects.pin,
            asks.Lose: of_objects.lose,
            asks.Get: of_waits.get,
            asks.Wait: of_waits.wait,
            asks.AnswerNow: of_waits.answer_now,
            asks.Forget: of_waits.forget,
            asks.MayYield: of_streams.may_yield,
            asks.ItemsRead: of_streams.items_read,
            asks.AbandonStream: of_streams.abandon,
            asks.CheckPlacement: of_groups.check_placement,
            asks.AddGroup: of_groups.add,
            asks.RemoveGroup: of_groups.remove,
            asks.GroupReady: of_groups.ready,
            asks.CreateActor: of_actors.create,
            asks.CallActor: of_actors.call,
            asks.KillActor: of_actors.kill,
            asks.GetActor: of_actors.find,
            asks.PendingCalls: of_actors.pending_calls,
        }

    def session(self, handle: WorkerHandle) -> WorkerSession:
        """Return what is known of a worker as a client; it becomes one now at the latest."""
        session = self._sessions.get(handle.id)
        if session is None:
            session = self._sessions[handle.id] = WorkerSession(
                handle, self._client, self.wait_for_socket
            )
        return session

    def handle(self, handle: WorkerHandle, items: Sequence[Item]) -> None:
        """Do what a worker has asked, in order.

        Raises ValueError, or whatever else comes of it, for what no worker asks: end that one.
        """
        session = self.session(handle)
        try:
            for item in items:
                if isinstance(item, RefsChanged):
                    self._objects.change_refs(session, item.changes)
                    continue
                if isinstance(item, Yielded):
                    self._streams.yielded(session, item)
                    continue
                if isinstance(item, ChunkNews):
                    self._streams.told(session, item)
                    continue
                if isinstance(item, Saved):
                    self._actors.saved(session, item)
                    continue
                ask = item.ask
                kind = type(ask)
                if kind not in _SUBMITTING:
                    self._new.submit()
                self._answer[kind](session, ask, item)
        finally:
            self._new.submit()

    def last_news(self, handle: WorkerHandle, seq: int, news: Sequence[Any]) -> None:
        """Take in what a worker that is dead had no time to tell of the items of its chunk."""
        self._streams.told_last(self.session(handle), seq, news)

    def gone(self, worker_id: int) -> None:
        """Forget a worker that is dead, and what it held."""
        session = self._sessions.pop(worker_id, None)
        if session is not None:
            for question in session.open.values():
                question.stop()
            session.open.clear()
            for task in session.streams:
                self._client.abandon(task)
            session.refs.clear()

    def close(self) -> None:
        """Forget all workers."""
        for worker_id in tuple(self._sessions):
            self.gone(worker_id)

    def let_yield(self, handle: WorkerHandle, seq: int) -> None:
        """Let a generator go on that waits to be read: it is to find that it is cancelled."""
        session = self._sessions.get(handle.id)
        if session is not None:
            self._streams.let_yield(session, seq)

    def cancel_orphans(self, tasks: Sequence[Task]) -> None:
        """Cancel those of these tasks whose values nobody can get: who submitted them has died."""
        for task in tasks:
            returns = task.returns
            if type(returns) is tuple and all(ref() is None for ref in returns):
                self._feed(CancelRequested(task, 0, force=True, recursive=True))

    def not_sent(self, worker_id: int, seq: int, error: OSError) -> bytes:
        """Return the error of an attempt that could not be sent, as that of a function is told."""
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

    def _info(self, session: WorkerSession, ask: Info, asked: Asked) -> None:
        if ask.what not in _TOLD:
            raise ValueError(f"a question about {ask.what}")
        session.reply(asked.request, getattr(self._client, ask.what)())

    def _key_values(self, session: WorkerSession, ask: asks.UseKeyValues, asked: Asked) -> None:
        session.reply(asked.request, self._client.key_values(*ask))
