"""Samples the processor time of a process's main thread, and says which step of a task took it.

A timer of the process's own processor time interrupts it a few hundred times a second, and all that
the main thread has used since the last time goes to the innermost function whose module has a step.
The collector is timed apart, by its callbacks, and the other threads by what the process has used
more than this one. What the sampling itself takes is measured and left out. Runs in the driver and,
as tasks, in a worker; the standard library only.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

PERIOD = 0.001  # seconds of processor time; the kernel makes a tick of it where that is longer
OTHER_THREADS, COLLECTOR, UNASSIGNED = "other threads", "garbage collector", "not assigned"

DRIVER = {
    "asyncio": "event loop",
    "selectors": "event loop",
    "benchmarks": "the caller's code",
    "aioray": "the rest of aioray",
    "aioray.actor": "call: options, arguments, ref",
    "aioray.api": "call: options, arguments, ref",
    "aioray.client": "call: options, arguments, ref",
    "aioray.client.awaiting": "waking who waits",
    "aioray.client.entry": "values: entries, results",
    "aioray.client.results": "values: entries, results",
    "aioray.core": "core: what to do next",
    "aioray.engine": "the rest of the engine",
    "aioray.engine.client": "submission to the engine",
    "aioray.engine.mailbox": "inbox: to the core and back",
    "aioray.engine.objects": "values: entries, results",
    "aioray.engine.processes": "workers: sending, listening",
    "aioray.engine.processes.inbound": "receiving: frames to answers",
    "aioray.engine.processes.listening": "receiving: frames to answers",
    "aioray.engine.resolve": "resolving: outcomes of refs",
    "aioray.engine.tasks": "submission to the engine",
    "aioray.engine.telemetry": "history and metrics",
    "aioray.engine.waiting": "waking who waits",
    "aioray.options": "call: options, arguments, ref",
    "aioray.remote_function": "call: options, arguments, ref",
    "aioray.state": "history and metrics",
}
"""The steps of a driver, by the modules whose code takes them: the longest name counts."""

WORKER = {
    "benchmarks": "the user's code",
    "aioray": "the rest of aioray",
    "aioray.client": "loading function and arguments",
    "aioray.client.current": "entering and leaving the user's code",
    "aioray.worker": "the rest of the worker",
    "aioray.worker.answers": "answering: packing and writing",
    "aioray.worker.channel": "channel: receiving and sending",
    "aioray.worker.execution": "entering and leaving the user's code",
    "aioray.worker.interrupts": "entering and leaving the user's code",
    "aioray.worker.loop": "loop: claims, notes, doorbell",
    "aioray.worker.objects": "loading function and arguments",
    "aioray.worker.output": "entering and leaving the user's code",
    "aioray.worker.results": "answering: packing and writing",
}
"""The same of a worker."""

TRANSPARENT = ("aioray.shared", "benchmarks.sampling")
"""Tools that serve several steps: their time is that of whoever calls them."""


class Sampler:
    """Takes samples from `start` to `stop`, in the main thread."""

    def __init__(self, steps: dict[str, str]) -> None:
        self._steps = steps
        self._known: dict[str, str | None] = {}
        self._seconds: Counter[str] = Counter()
        self._pending = self._own = 0.0
        self._is_collecting = False
        self._elsewhere_since = self._collected_elsewhere = 0.0
        self._samples = 0

    def start(self) -> None:
        """Begin, with the first period."""
        self._before = signal.signal(signal.SIGPROF, self._sample)
        gc.callbacks.append(self._note_collection)
        self._began = time.process_time()
        self._last = self._began_here = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)

    def stop(self) -> dict[str, Any]:
        """End; seconds by step, and how many seconds of processor time there were to assign."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        whole = time.process_time() - self._began
        here = time.thread_time() - self._began_here
        signal.signal(signal.SIGPROF, self._before)
        gc.callbacks.remove(self._note_collection)
        steps = {step: seconds for step, seconds in self._seconds.items() if seconds}
        steps[OTHER_THREADS] = whole - here - self._collected_elsewhere
        steps[UNASSIGNED] = steps.get(UNASSIGNED, 0.0) + whole - self._own - sum(steps.values())
        return {"steps": steps, "seconds": whole - self._own, "samples": self._samples}

    # Every stretch of the main thread's time is told off once: to the step where a sample finds it,
    # to the collector between its two notes, or to the sampling itself.

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        self._samples += 1
        step = COLLECTOR if self._is_collecting else self._step(frame)
        spent = self._since_last()  # first: looking at frames may itself have begun a collection
        self._seconds[step] += self._pending + spent
        self._pending = 0.0
        self._own += self._since_last()

    def _note_collection(self, phase: str, _info: dict[str, Any]) -> None:
        if threading.current_thread() is not threading.main_thread():
            now = time.thread_time()
            if phase == "start":
                self._elsewhere_since = now  # whoever collects keeps other collections waiting
            else:
                self._seconds[COLLECTOR] += now - self._elsewhere_since
                self._collected_elsewhere += now - self._elsewhere_since
        elif phase == "start":
            self._pending += self._since_last()
            self._is_collecting = True
        else:
            self._seconds[COLLECTOR] += self._since_last()
            self._is_collecting = False

    def _since_last(self) -> float:
        now = time.thread_time()
        spent = now - self._last
        self._last = now
        return spent

    def _step(self, frame: FrameType | None) -> str:
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module not in self._known:
                self._known[module] = step_of(module, self._steps)
            if (step := self._known[module]) is not None:
                return step
            frame = frame.f_back
        return UNASSIGNED


def step_of(module: str, steps: dict[str, str]) -> str | None:
    """The step of a module's code; None: that of its caller."""
    parts = module.split(".")
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    if any(name in TRANSPARENT for name in names):
        return None
    return next((steps[name] for name in names if name in steps), None)


_sampler: Sampler | None = None


def start_in_worker() -> None:
    """The task after which this worker is sampled."""
    global _sampler
    _sampler = Sampler(WORKER)
    _sampler.start()


def stop_in_worker() -> dict[str, Any]:
    """The task that ends it, and returns what `Sampler.stop` does."""
    assert _sampler is not None, "it was started in another process"
    return _sampler.stop()
