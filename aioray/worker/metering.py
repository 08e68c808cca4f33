"""Sends what user code in this worker measures to the driver.

Room: worker; loaded by the first metric that user code makes. What was measured goes with whatever
is said to the driver next, before it: an answer is preceded by what its task has measured, so that
whoever has the value can see that too. For attempts that say nothing for long there is a thread,
which lives as long as something is measured. What is left is sent when the interpreter ends.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from ..client.protocol import registry
from ..shared.meters import Board, board
from ..shared.wire import NOTE_MEASURED, note_frame
from .interrupts import protected

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["MeterSender"]

PERIOD = 0.5  # seconds that something measured waits at most

protected(Board.record)


class MeterSender:
    """What connects this process's board with the driver."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sleep = threading.Event()  # never set; a wait that user code cannot shorten
        self._keeps_on = False  # the thread is there, and will look again
        self._changed = False  # since it looked

    def begin(self) -> None:
        """Send what user code measures from now on."""
        registry.measure = None
        board.on_change = self._on_change
        atexit.register(self._channel.tell_soon)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Send nothing, in a copy of this in a process that a task has forked."""
        board.on_change = None
        atexit.unregister(self._channel.tell_soon)

    def _on_change(self) -> None:
        with self._channel.uninterrupted():
            self._channel.note_later(self._frame)
            self._changed = True
            if not self._keeps_on:
                self._keeps_on = True
                threading.Thread(target=self._keep_on, name="aioray-metrics", daemon=True).start()

    def _frame(self) -> bytes:
        data = board.drain()
        if data is None:
            self._channel.note_later(self._frame)
            return b""
        return note_frame(NOTE_MEASURED, data, 0)

    def _keep_on(self) -> None:
        while self._changed:
            self._changed = False
            self._sleep.wait(PERIOD)
            self._channel.tell_soon()
        self._keeps_on = False
        if self._changed:  # just now, by somebody who saw that the thread was there
            self._on_change()
