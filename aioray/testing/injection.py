"""`faults`: workers that crash, hang, do not start, and values that get lost, as a test orders.

Room: api. Steps between an engine's core and what carries out its orders, as long as the block
lasts; outside of one nothing of this is there. An attempt takes its fault along, see
`aioray.worker.faults`, so that it is the same on real workers and on virtual ones. By probability,
what happens to an attempt follows from the seed, the function's name, the number of the task and
of the attempt, and from nothing else: the same program with the same seed has the same faults.
"""

from __future__ import annotations

import logging
import random
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from ..client.entry import ObjectEntry
from ..client.protocol import registry
from ..core.commands import ResolveValues, SendAttempts, StartWorker
from ..core.events import WorkerStartFailed
from ..core.records import NamedTuple
from ..engine.client import DriverClient
from ..engine.telemetry.reports import StartReport
from ..shared.wire import FAULT
from ..worker.faults import CRASH_AFTER, CRASH_BEFORE, HANG

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..core.model import Task

__all__ = ["FaultPoint", "Faults", "When", "faults"]

logger = logging.getLogger("aioray")

HIGHEST_SEED = 2**32
SHOWN = 20  # faults in the note of a failed test


class FaultPoint(NamedTuple):
    """Where a fault may happen."""

    function: str  # the name of the task, "Class.method" of a call; empty: of a worker's start
    nth: int  # how many such points there were for this name, this one included
    task: int  # the number of the task, in the order of submission; of a start: of the worker
    attempt: int  # of the task, from 0


Occasion = int | float | Collection[int] | Callable[[FaultPoint], bool]
When = Occasion | Mapping[str, Occasion] | None
"""When a fault happens: at the n-th point of all, from 1; at several; at each with a probability (a
float); where a function says so; or one of these by the name of the function. None: never."""


class Faults:
    """Faults for the engines of this process, in a `with` block. Made by `faults`."""

    def __init__(
        self,
        *,
        crash_at: When,
        crash: str,
        hang: When,
        lose: When,
        refuse_start: When,
        seed: int | None,
    ) -> None:
        """See `faults`."""
        self.seed = random.SystemRandom().randrange(HIGHEST_SEED) if seed is None else seed
        self.happened: list[tuple[str, FaultPoint]] = []  # what, and where
        self._crash = {"before": CRASH_BEFORE, "after": CRASH_AFTER}[crash]
        self._when: dict[str, When] = {
            "crash_at": crash_at,
            "hang": hang,
            "lose": lose,
            "refuse_start": refuse_start,
        }
        for name, when in self._when.items():
            _check(name, when)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._decided: dict[tuple[str, int, int], bool] = {}
        self._orders: list[tuple[dict[type[Any], Any], type[Any], Any]] = []  # as they were
        self._marked: weakref.WeakSet[Task] = weakref.WeakSet()

    # ------------------------------------------------------------ the block

    def __enter__(self) -> Self:
        for client in tuple(registry.by_job.values()):
            self._inject(client)
        registry.opened.append(self._inject)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        registry.opened.remove(self._inject)
        for orders, command, carry_out in reversed(self._orders):
            orders[command] = carry_out
        self._orders.clear()
        for task in tuple(self._marked):
            task.spec = _without(task.spec)
        self._marked.clear()
        if error is not None:
            error.add_note(self.describe())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def describe(self) -> str:
        """Say what has happened, and how to have it again."""
        lines = [f"aioray.testing.faults: the same faults again with seed={self.seed}"]
        for what, point in self.happened[:SHOWN]:
            where = f"{point.function} (task {point.task}, attempt {point.attempt})"
            lines.append(f"  {what}: {where if point.function else f'worker {point.task}'}")
        if len(self.happened) > SHOWN:
            lines.append(f"  and {len(self.happened) - SHOWN} more")
        if not self.happened:
            lines.append("  none has happened")
        return "\n".join(lines)

    # ------------------------------------------------------------ between the core and its orders

    def _inject(self, client: Any) -> None:
        """Step between the core of an engine and what carries out its orders."""
        if not isinstance(client, DriverClient):
            return
        if client.runs_inline and self._when["hang"] is not None:
            raise ValueError(
                "faults(hang=...) would hang the program itself in local mode. Use a "
                "VirtualEngine, or real workers."
            )
        orders = client.orders

        def step_between(command: type[Any], make: Callable[[Any], Callable[[Any], None]]) -> None:
            self._orders.append((orders, command, orders[command]))
            orders[command] = make(orders[command])

        def sending(send: Callable[[SendAttempts], None]) -> Callable[[SendAttempts], None]:
            def marked(command: SendAttempts) -> None:
                for task in command.tasks:
                    self._mark(task)
                send(command)

            return marked

        def starting(start: Callable[[StartWorker], None]) -> Callable[[StartWorker], None]:
            def refused(command: StartWorker) -> None:
                if self._happens("refuse_start", "", command.worker_id, 0):
                    report = StartReport("aioray.testing.faults has refused it")
                    client.feed(WorkerStartFailed(command.worker_id, report))
                else:
                    start(command)

            return refused

        def resolving(resolve: Callable[[ResolveValues], None]) -> Callable[[ResolveValues], None]:
            def lost(command: ResolveValues) -> None:
                owned = [(task, _entries(task)) for task, _ in command.results]
                resolve(command)
                for task, entries in owned:
                    for entry in entries:
                        if _is_stored(entry) and self._happens(
                            "lose", task.name, task.number, task.attempt
                        ):
                            client.lose_now(entry)

            return lost

        if self._when["crash_at"] is not None or self._when["hang"] is not None:
            step_between(SendAttempts, sending)
        if self._when["refuse_start"] is not None:
            step_between(StartWorker, starting)
        if self._when["lose"] is not None:
            step_between(ResolveValues, resolving)

    def _mark(self, task: Task) -> None:
        """Give an attempt its fault to take along, if it has one."""
        spec = _without(task.spec)
        where = task.name, task.number, task.attempt
        fault = None
        if self._happens("crash_at", *where):
            fault = self._crash
        elif self._happens("hang", *where):
            fault = HANG
        if fault is not None:
            spec = spec._replace(trace=[*(spec.trace or ()), (FAULT, fault)])
            self._marked.add(task)
        task.spec = spec

    def _happens(self, what: str, function: str, task: int, attempt: int) -> bool:
        """Decide, once for each point, whether a fault happens there."""
        when = self._when[what]
        if when is None:
            return False
        key = what, task, attempt
        if key in self._decided:  # an attempt may be taken back, and sent again
            return self._decided[key]
        name = ""
        if isinstance(when, Mapping):
            if function not in when:
                return False
            when, name = when[function], function
        self._counts[what, name] += 1
        point = FaultPoint(function, self._counts[what, name], task, attempt)
        if callable(when):
            found = bool(when(point))
        elif isinstance(when, float):
            place = f"{self.seed}/{what}/{function}/{task}/{attempt}"
            found = random.Random(place).random() < when
        else:
            found = point.nth in ((when,) if isinstance(when, int) else when)
        self._decided[key] = found
        if found:
            self.happened.append((what, point))
        return found


def faults(
    *,
    crash_at: When = None,
    crash: Literal["before", "after"] = "before",
    hang: When = None,
    lose: When = None,
    refuse_start: When = None,
    seed: int | None = None,
) -> Faults:
    """Have workers fail in a `with` block as a test wants it.

        with faults(crash_at={"load": 2}, seed=1):
            ...  # the second attempt at `load` loses its worker

    For real workers, virtual ones, and in local mode (but for hang). crash_at: attempts whose
    worker is killed by SIGKILL, before the function is entered, or after it has done its work:
    crash. hang: those that answer no more; only a kill ends them. lose: stored results, those of
    more than 100 KB, that are thrown away. refuse_start: workers that do not come up.
    Each is a number, of the attempts in the order in which they are sent, from 1; several numbers;
    a float, the probability; a function that is given a `FaultPoint`; or a dict of these by the
    name of the function, "Class.method" for calls of actors. seed: of what is left to chance; None:
    a new one, which a test that fails has in a note of its error.
    Raises TypeError and ValueError for what is none of that.
    """
    if crash not in {"before", "after"}:
        raise ValueError(f'crash must be "before" or "after", got {crash!r}')
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed must be an int or None, got {seed!r}")
    return Faults(
        crash_at=crash_at,
        crash=crash,
        hang=hang,
        lose=lose,
        refuse_start=refuse_start,
        seed=seed,
    )


def _check(name: str, when: Any) -> None:
    """Raise TypeError or ValueError for what says not when a fault happens."""
    if isinstance(when, Mapping) and name != "refuse_start":
        for function, each in when.items():
            if not isinstance(function, str) or isinstance(each, Mapping) or each is None:
                raise TypeError(f"{name} by function is a dict of names and occasions: {when!r}")
            _check(name, each)
        return
    if when is None or callable(when):
        return
    if isinstance(when, float):
        if not 0.0 <= when <= 1.0:
            raise ValueError(f"{name}={when!r} is no probability: give a float from 0.0 to 1.0")
        return
    numbers = (when,) if isinstance(when, int) else when
    if isinstance(numbers, str | bytes | Mapping) or not isinstance(numbers, Collection):
        raise TypeError(
            f"{name} takes a number, several, a probability as a float, or a function, got {when!r}"
        )
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} counts in whole numbers, got {number!r}")
        if number < 1:
            raise ValueError(f"{name} counts from 1, got {number!r}")


def _without(spec: Any) -> Any:
    """Return what is said to a worker, without a fault."""
    if not spec.trace or all(name != FAULT for name, _ in spec.trace):
        return spec
    rest = [pair for pair in spec.trace if pair[0] != FAULT]
    return spec._replace(trace=rest or None)


def _entries(task: Task) -> list[ObjectEntry]:
    """Return the entries of a task that is about to get its values."""
    returns = task.returns
    if isinstance(returns, ObjectEntry):
        return [returns]
    if not isinstance(returns, list | tuple):
        return []
    found = [each if isinstance(each, ObjectEntry) else each() for each in returns]
    return [entry for entry in found if entry is not None]


def _is_stored(entry: ObjectEntry) -> bool:
    return entry.outcome is not None and hasattr(entry.outcome, "view")
