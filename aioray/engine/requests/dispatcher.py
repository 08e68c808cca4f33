"""What tasks ask of the engine: calls of remote functions, values, waiting, cancelling.

Room: engine. The driver's side of `aioray.worker.client`; everything here happens on the engine's
thread, in the order in which a worker has said it, and in order with its answers. A `Guest` is what
one worker has asked for and not been told yet, and the refs that it holds: while it does, their
objects live. It ends with its worker.

While a task waits for others its worker counts as blocked: the scheduler is told when the first of
its questions has to wait, and when the last of those is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...shared.wire import Ask
from ..processes.inbound import RefsChanged, Saved, Yielded
from .actors import ActorRequests
from .groups import GroupRequests
from .objects import ObjectRequests
from .session import Guest, stop_waiting
from .streams import StreamRequests

if TYPE_CHECKING:
    import functools
    from collections.abc import Callable, Sequence

    from ...core.events import Event
    from ...core.model import Task
    from ..engine import Engine
    from ..objects.objects import Objects
    from ..processes.handle import WorkerHandle
    from ..processes.inbound import Item
    from ..tasks.actors import Actors
    from ..tasks.submission import Submission

__all__ = ["Requests"]

_SUBMITTING = (Ask.SUBMIT, Ask.PUT, Ask.CALL_ACTOR, Ask.CREATE_ACTOR)


_CALLED = (bytes, list, (tuple, list, type(None)), tuple)  # payload, arguments, trace, site
# Of what types the arguments of each question are. The last ones of some may be missing.
_SHAPES: dict[int, tuple[Any, ...]] = {
    Ask.ROOM: (int, int),
    Ask.SUBMIT: (int, bytes, bytes, int, *_CALLED),
    Ask.PUT: (bytes, bytes, tuple),
    Ask.GET: (list, bool, bool),
    Ask.WAIT: (list, int, bool, bool),
    Ask.LOOK: (int,),
    Ask.FORGET: (int,),
    Ask.CANCEL: (bytes, bool, bool, (int, float, type(None))),
    Ask.PIN: (bytes,),
    Ask.LOSE: (bytes,),
    Ask.INFO: (str,),
    Ask.FUNCTION: (int, str, bytes, list),
    Ask.UNLOAD: (int,),
    Ask.MORE: (int,),
    Ask.CONSUMED: (bytes, int),
    Ask.ABANDON: (bytes,),
    Ask.PLACE: (bytes,),
    Ask.ADD_GROUP: (bytes, list, str, str, bytes),
    Ask.REMOVE_GROUP: (bytes,),
    Ask.GROUP_READY: (bytes,),
    Ask.CREATE_ACTOR: (int, bytes, bytes, *_CALLED),
    Ask.CALL_ACTOR: (bytes, bytes, bytes, *_CALLED),
    Ask.KILL_ACTOR: (bytes, bool),
    Ask.GET_ACTOR: (str, (str, type(None))),
    Ask.PENDING_CALLS: (bytes,),
}
_TOLD = frozenset(  # what INFO tells
    (
        "available_resources",
        "cluster_resources",
        "named_actors",
        "nodes",
        "placement_group_table",
    )
)


class Requests(StreamRequests, ObjectRequests, ActorRequests, GroupRequests):
    """All guests of one engine."""

    def __init__(
        self,
        engine: Engine,
        submission: Submission,
        objects: Objects,
        actors: Actors,
        feed: Callable[[Event | functools.partial[None]], None],
        running: Callable[[int, int], Task | None],
        submitter: Callable[[int, int], Task | None],
        expects: Callable[[int, int], bool],
    ) -> None:
        """feed: takes what the scheduler is to know, or what is to be done after that.

        running: the task whose attempt, by worker id and seq, is in flight. submitter: the one
        that has submitted what is asked for so. expects: whether there may be an answer of that.
        """
        self.expects = expects
        self._engine = engine
        self._submission = submission
        self._objects = objects
        self._actors = actors
        self._feed = feed
        self._running = running
        self._submitter = submitter
        self.wait_for_socket: Callable[[WorkerHandle], None] = lambda _handle: None
        self._guests: dict[int, Guest] = {}
        self._new: list[Task] = []  # to be submitted together
        self._do: dict[int, Callable[..., None]] = {
            Ask.ROOM: self._room,
            Ask.SUBMIT: self._submit,
            Ask.PUT: self._put,
            Ask.GET: self._get,
            Ask.WAIT: self._wait,
            Ask.LOOK: self._look,
            Ask.FORGET: self._forget,
            Ask.CANCEL: self._cancel,
            Ask.PIN: self._pin,
            Ask.LOSE: self._lose,
            Ask.INFO: self._info,
            Ask.FUNCTION: self._function,
            Ask.UNLOAD: self._unload,
            Ask.MORE: self._more,
            Ask.CONSUMED: self._consumed,
            Ask.ABANDON: self._abandon,
            Ask.PLACE: self._place,
            Ask.ADD_GROUP: self._add_group,
            Ask.REMOVE_GROUP: self._remove_group,
            Ask.GROUP_READY: self._group_ready,
            Ask.CREATE_ACTOR: self._create_actor,
            Ask.CALL_ACTOR: self._call_actor,
            Ask.KILL_ACTOR: self._kill_actor,
            Ask.GET_ACTOR: self._get_actor,
            Ask.PENDING_CALLS: self._pending_calls,
        }

    def guest(self, handle: WorkerHandle) -> Guest:
        """This worker, as somebody who asks."""
        guest = self._guests.get(handle.id)
        if guest is None:
            guest = self._guests[handle.id] = Guest(handle)
        return guest

    def handle(self, handle: WorkerHandle, items: Sequence[Item]) -> None:
        """Do what a worker has asked, in order.

        Raises ValueError, or whatever else comes of it, for what no worker asks: end that one.
        """
        guest = self.guest(handle)
        try:
            for item in items:
                if isinstance(item, RefsChanged):
                    self._change_refs(guest, item.changes)
                    continue
                if isinstance(item, Yielded):
                    self._yielded(guest, item)
                    continue
                if isinstance(item, Saved):
                    self._saved(guest, item)
                    continue
                if self._new and item.verb not in _SUBMITTING:
                    self._submit_new()
                arguments = item.arguments
                if not all(map(isinstance, arguments, _SHAPES[item.verb])):
                    raise ValueError(f"{item.verb} of {arguments!r:.200}")
                self._do[item.verb](guest, item.seq, item.request, *arguments)
        finally:
            self._submit_new()

    def gone(self, worker_id: int) -> None:
        """A worker is dead."""
        guest = self._guests.pop(worker_id, None)
        if guest is not None:
            for wait in guest.waits.values():
                stop_waiting(wait)
            guest.waits.clear()
            for task in guest.streams:
                self._engine.abandon(task)
            guest.refs.clear()

    def close(self) -> None:
        """All of them are."""
        for worker_id in tuple(self._guests):
            self.gone(worker_id)

    def _info(self, guest: Guest, _seq: int, request: int, what: str) -> None:
        if what not in _TOLD:
            raise ValueError(f"a question about {what}")
        self._reply(guest, request, getattr(self._engine, what)())

    # ------------------------------------------------------------ waiting
