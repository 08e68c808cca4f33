"""`heartbeat`, by which a function says that it gets on. Also reached as `aioray.heartbeat`.

Room: api. Loads nothing that a worker has not.
"""

from __future__ import annotations

from ..client.current import execution_context

__all__ = ["heartbeat"]


def heartbeat() -> None:
    """Say that the running task, or method, gets on: its `stall_timeout` counts from now again.

    It belongs to the task, or the call of an actor, that the calling code belongs to, also in
    threads that a task has started. In an actor whose calls run side by side, a thread that has not
    got the context of a call (`asyncio.to_thread` hands it on, `threading.Thread` does not) speaks
    for all calls that run. What a generator yields counts as a heartbeat.

    It costs less than a microsecond, so it may stand in an inner loop. It does nothing where there
    is no such limit, in the driver, and where no task runs.
    """
    beat = execution_context.beat
    if beat is not None:
        beat(None)
