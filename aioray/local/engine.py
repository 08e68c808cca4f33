"""The engine of `init(local_mode=True)`: no loop, no process, and no thread but of async actors.

Room: local. Put together of the parts of a `LocalEngine`, with another mailbox, other workers, and
a history that is written when somebody asks for it.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from ..client.protocol import registry
from ..client.results import are_ready, entries_to_get, get_is_over, get_timed_out, has_failed
from ..core.events import ShutdownRequested
from ..engine.completions import EntryCompletions
from ..engine.engine import LocalEngine
from ..engine.telemetry.recording import begin_recording
from .history import InlineWriter
from .inline import InlineWorkers
from .mailbox import InlineMailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from ..client.entry import ObjectEntry
    from ..client.refs import ObjectRef
    from ..core.model import Task
    from ..engine.objects.objects import ObjectTable
    from ..engine.requests.dispatcher import Requests
    from ..options.task import InitOptions

__all__ = ["LocalModeEngine"]


class _NoLoop:
    """Stands where an event loop would be asked to do something later, which nobody needs here."""

    def is_closed(self) -> bool:
        """Return False: there is none to close."""
        return False

    def call_later(self, _delay: float, _callback: Callable[..., Any], *_args: Any) -> _NoLoop:
        """Do nothing."""
        return self

    def cancel(self) -> None:
        """Do nothing."""


class LocalModeEngine(LocalEngine):
    """Runs tasks and actors in the driver, in order, when they are submitted."""

    processes_class: Any = InlineWorkers
    mailbox_class = InlineMailbox
    _mailbox: InlineMailbox

    def __init__(self, settings: InitOptions) -> None:
        """Prepare; nothing is started yet."""
        super().__init__(settings)

    def clock(self) -> float:
        """Return the time by which backoffs are over as soon as they begin."""
        return time.monotonic() + self._mailbox.skipped

    @classmethod
    def begun(cls, settings: InitOptions) -> Self:
        """Make one and start it: calls are taken from now on."""
        engine = cls(settings)
        engine._begin_here()
        return engine

    def _begin_here(self) -> None:
        client, mailbox = self.client, self._mailbox
        loop: Any = _NoLoop()
        mailbox.open()
        self._assemble(loop, None)
        client.loop = None
        workers: Any = self._processes
        workers.mailbox = mailbox
        workers.attach(client, self.clock)
        mailbox.run_ready = workers.run_ready
        waits = _Waits(mailbox, client.entries.has_signal)
        client.get, client.wait, client.completions = waits.get, waits.wait, waits.completions
        client.when_ready, client.forget = waits.when_ready, waits.forget
        registry.open(client)

    def _record(self, objects: ObjectTable, requests: Requests) -> None:
        assert self._processes is not None
        writer = InlineWriter(
            None,
            self.client.ask_state,
            attempts_kept=self.settings.history,
            unix_offset=self.client.unix_offset,
        )
        begin_recording(
            self.client,
            self._mailbox,
            self._core,
            self.settings,
            self._processes,
            objects,
            requests,
            writer,
        )

    def end_here(self, drain: float = 0.0) -> None:
        """End everything. drain: seconds that calls of asynchronous actors may still take."""
        mailbox = self._mailbox
        if mailbox.ended:
            return
        if drain > 0:
            mailbox.wait_until(lambda: not self._core.unfinished_tasks(), drain)
        workers: Any = self._processes
        threads = workers.threads()
        mailbox.feed(ShutdownRequested(0.0))
        self._close()
        for thread in threads:
            thread.join()

    def abort(self) -> None:
        """End everything at once."""
        self.end_here()


class _Waits:
    """The ways to wait for the objects of an engine in local mode."""

    def __init__(self, mailbox: InlineMailbox, has_signal: Callable[[ObjectEntry], bool]) -> None:
        self._mailbox = mailbox
        self._has_signal = has_signal

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, *, in_memory: bool = False
    ) -> None:
        """Block until all refs have an outcome, or one has failed. See `Client`."""
        pending = entries_to_get(refs, in_memory=in_memory)
        if not pending or has_failed(ref.entry for ref in refs):
            return

        over = functools.partial(get_is_over, pending, in_memory=in_memory)
        self._want(pending)
        if not self._mailbox.wait_until(over, timeout, _tasks_of(pending)):
            raise get_timed_out()

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[bool]:
        """Block until `num_returns` refs are ready or the time is over; return which ones are."""
        entries = [ref.entry for ref in refs]
        look = functools.partial(are_ready, entries, self._has_signal)
        self._want([entry for entry in entries if entry.outcome is None])
        tasks = _tasks_of(entries) if num_returns == len(entries) else ()
        self._mailbox.wait_until(lambda: sum(look()) >= num_returns, timeout, tasks)
        return look()

    def completions(self, refs: Sequence[ObjectRef[Any]]) -> EntryCompletions:
        """Return what knows which of these are ready. See `Client`."""
        return EntryCompletions(refs, self._mailbox.on_thread, self._block_for)

    def _block_for(self, completions: EntryCompletions, count: int, timeout: float | None) -> None:
        """Block until so many are ready, or the time is over."""
        left = completions.left() if count > completions.count() else []
        tasks = _tasks_of(left) if count == len(left) else ()
        self._mailbox.wait_until(lambda: completions.count() >= count, timeout, tasks)

    def _want(self, entries: Sequence[ObjectEntry]) -> None:
        """Let values be brought back that are lost, or on disk."""
        with self._mailbox.changed:
            for entry in entries:
                if entry.missing or entry.outcome is not None:
                    entry.owner().fetch(entry)

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call back as soon as an entry has its outcome."""
        self._mailbox.on_thread(lambda: entry.add_waiter(callback))

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Take a callback of `when_ready` back."""
        with self._mailbox.changed:
            entry.drop_waiter(callback)


def _tasks_of(entries: Sequence[ObjectEntry]) -> list[Task]:
    """Return the tasks that are to give these their outcomes."""
    return [entry.task for entry in entries if entry.outcome is None and entry.task is not None]
