"""Makes a worker of a forked process: connects what it consists of, and has it work.

Room: worker. Called once, by the template, in the child.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from ..client.current import execution_context
from ..client.protocol import registry
from ..shared.wire import PAGE_SIZE, Status
from . import ending, orphans, output
from .loop import THREADS, WorkerLoop
from .replacements import Replacements

if TYPE_CHECKING:
    from ..client.protocol import Client
    from ..shared.wire import WorkerFds

__all__ = ["main", "prepare"]

functions = Replacements()


def prepare() -> None:
    """Do in the template what is the same for every worker, after user code had its turn."""
    output.wrap(functions)
    orphans.wrap(functions)


def connect(server: WorkerLoop) -> Client:
    """Make the client that tasks use to call others."""
    from .client import Connection  # few tasks do, and it needs more modules than they

    return Connection(server.channel, server.objects)


def measure(server: WorkerLoop) -> None:
    """Tell the driver from now on what user code measures here."""
    from .metering import MeterSender  # few tasks do

    MeterSender(server.channel).begin()


def main(
    fds: WorkerFds, settings: dict[str, Any], worker_id: str, env: dict[str, Any], hook: bytes
) -> NoReturn:
    """Be a worker until the driver wants no more, then end as `ending` says.

    env, hook: its runtime environment, see `setup`.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(fds.stdout, 1)
    os.dup2(fds.stderr, 2)
    os.close(fds.stdout)
    os.close(fds.stderr)
    os.lseek(fds.page, PAGE_SIZE, os.SEEK_SET)
    faulthandler.enable(fds.page)
    page = mmap.mmap(fds.page, PAGE_SIZE)
    output.install()
    orphans.install()
    functions.install()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:  # preloaded: its state was copied by the fork
        numpy_random.seed()
    execution_context.job = bytes.fromhex(settings["job"])
    execution_context.node_id = settings["node_id"]
    execution_context.session = settings["session"]
    execution_context.folder = settings["folder"]
    execution_context.namespace = settings["namespace"]
    execution_context.worker_id = worker_id
    execution_context.env, execution_context.hook = env, hook
    server = WorkerLoop(fds, page)
    os.register_at_fork(after_in_child=server.after_fork_in_child)
    server.interrupts.install()
    server.tell_stacks(fds.stacks)
    server.show("IDLE")
    if settings["sets_threads"] and THREADS not in env.get("env_vars", {}):
        server.threads = os.environ[THREADS]
    server.enter(env, hook, settings.get("tracing_startup_hook"))
    server.answers.answer(0, Status.RETURNED, pickle.dumps(os.getpid()), 0.0, 0.0, server.use)
    server.channel.ring()
    if "forward_logging" in settings:
        from .forwarding import forward  # the same

        forward(server.channel, settings["forward_logging"])
    elif "logging" in settings:
        from ..client import logging_config  # here, as few sessions have one

        logging_config.apply(*settings["logging"])
    if settings["max_worker_rss"] is not None:
        from .scales import Scales  # few sessions have a limit

        server.scales = Scales(settings["max_worker_rss"], server.channel)
    registry.connect = lambda: connect(server)
    registry.measure = lambda: measure(server)
    reason: SystemExit | None = None
    try:
        server.run()
        if server.host is not None:
            server.host.run()
    except SystemExit as error:
        reason = error.with_traceback(None)  # its frames hold the actor
    if server.instance is not None:
        from .actor import instance

        instance.end(server)
    ending.end(server, reason or SystemExit(0))
