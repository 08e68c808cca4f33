"""What waits for permits of limiters, and who gets those that come back.

Room: core. A scheduling class whose limiter has no permit left is *parked*: it stands in no queue
that anybody looks at, so it holds nothing and holds up nobody. With each permit that comes back the
class, or the concurrency group of an actor, goes on whose head comes first by rank, see `queues`.
Permits come back by what other parts do, and are counted when there is a dispatch; only the room of
a window comes by itself, and has a timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts import PermitsDue
from .queues import rank

if TYPE_CHECKING:
    from .backlog import Backlog
    from .call_queues import CallQueues
    from .limiters import StartLimiter
    from .model import SchedulingClass
    from .turn import Turn

__all__ = ["Permits"]


class Permits:
    """The classes that wait for permits."""

    __slots__ = ("_backlog", "_call_queues", "_turn")

    def __init__(self, turn: Turn, backlog: Backlog, call_queues: CallQueues) -> None:
        """Begin with nobody waiting."""
        self._turn = turn
        self._backlog = backlog
        self._call_queues = call_queues

    def park(self, cls: SchedulingClass, limiter: StartLimiter) -> None:
        """Let a class wait that has tasks, but no permit for one."""
        limiter.parked[cls] = None
        self._backlog.waiting.pop(cls, None)
        self._backlog.limited[limiter] = None
        self._set_alarm(limiter)

    def _set_alarm(self, limiter: StartLimiter) -> None:
        due = limiter.due()
        if due is not None and limiter.parked and not limiter.alarm:
            limiter.alarm = True
            self._turn.timers.set(due, PermitsDue(limiter))

    def ring(self, fact: PermitsDue) -> None:
        """Look who may begin: a window has room."""
        fact.limiter.alarm = False
        self._turn.dirty = True

    def wake(self, now: float) -> bool:
        """Let as many classes go on as there are permits; tell whether there were any."""
        woken = False
        for limiter in tuple(self._backlog.limited):
            parked = limiter.parked
            for cls in [cls for cls in parked if not cls.queue]:
                del parked[cls]  # what had waited was cancelled
            room = limiter.room(now) if parked else 0
            if room <= 0:
                self._set_alarm(limiter)
            else:
                woken = True
                for cls in sorted(parked, key=lambda each: rank(each.queue[0]))[:room]:
                    del parked[cls]
                    if cls.actor is None:
                        self._backlog.waiting[cls] = None
                    else:
                        self._call_queues.calling[cls.actor] = None
            if not parked:
                del self._backlog.limited[limiter]
        return woken
