"""How the history of one engine's session begins: who writes, who notes, and who answers.

Room: engine. Wires only: a `Recorder` notes what happens, on the engine's thread, the history's
writer takes that to the session's folder, in a thread of its own, and what goes on now is told by a
snapshot.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ...client.protocol import registry
from ...state.write.writer import HistoryWriter
from .recorder import Recorder
from .snapshot import Snapshot

if TYPE_CHECKING:
    from ...core.scheduler import Scheduler
    from ...options.task import InitOptions
    from ...state.folders import SessionFolder
    from ..client import DriverClient
    from ..mailbox import Mailbox
    from ..objects.objects import ObjectTable
    from ..processes.pool import WorkerProcesses
    from ..requests.dispatcher import Requests

__all__ = ["begin_recording"]

logger = logging.getLogger("aioray")


def begin_recording(
    client: DriverClient,
    mailbox: Mailbox,
    core: Scheduler,
    settings: InitOptions,
    processes: WorkerProcesses,
    objects: ObjectTable,
    requests: Requests,
    writer: HistoryWriter | None = None,
) -> None:
    """Begin the history of a session, and to answer what is asked of it.

    writer: who writes it; None: a new one, into the session's folder.
    """
    writer = writer or _writer_into_folder(client, settings)
    assert mailbox.sentinel is not None
    writer.is_intact = mailbox.sentinel.is_intact
    recorder = client.recorder = processes.recorder = Recorder(
        writer,
        job=client.job,
        node_id=client.node_id,
        unix_offset=client.unix_offset,
        row_of_group=client.groups.described,
        sites=client.submission.sites,
        redacts=settings.redact_history,
    )
    recorder.begin(
        {
            "session": client.session,
            "namespace": client.namespace,
            "total": client.cluster_resources(),
            "labels": dict(settings.labels or {}),
        }
    )
    client.questions.snapshot = Snapshot(
        client,
        core,
        processes,
        recorder,
        objects.store,
        requests,
        client.entries.pinned,
        client.submission.sites,
        settings.object_store_memory,
    )
    writer.listeners.extend(registry.listeners)
    writer.start()
    mailbox.after_tasks = writer.wake


def _writer_into_folder(client: DriverClient, settings: InitOptions) -> HistoryWriter:
    folder: SessionFolder | None = client.questions.folder
    try:
        client.questions.folder.make()
    except OSError as error:
        logger.warning(
            "This session's history stays in memory, and nobody can ask for it from outside: "
            "%s. Give init() another _temp_dir, or set RAY_TMPDIR.",
            error,
        )
        folder = None
    return HistoryWriter(
        folder,
        client.ask_state,
        attempts_kept=settings.history,
        unix_offset=client.unix_offset,
    )
