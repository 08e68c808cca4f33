"""Strikes the driver, the two processes beside it and its workers, and keeps account of it.

Works in a process that is not theirs, so that it can stop each of them. What lasts is taken back
when its time is over, at the latest by `relent`.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import plan
from .driver import spilled
from .garbage import GARBAGE, pipes

if TYPE_CHECKING:
    from collections.abc import Callable

GENTLE = 0.3  # seconds at most that take a descriptor from who has to start something
FILE_LIMIT = 4_000_000  # bytes: less than a value has
SPARE_DESCRIPTORS = 3  # at most, that are left to who may open no more
ROOM = 1_000_000  # bytes that are left on a disk that is full


@dataclass(frozen=True, slots=True)
class Strike:
    """A blow that was struck."""

    number: int
    kind: str
    at: float  # Unix seconds
    until: float  # the same; of what lasts
    pid: int = 0  # whom; 0: nobody alone
    detail: str = ""
    ended: tuple[str, ...] = ()  # as what a death by it may be reported; none: it is not deadly
    others: tuple[int, ...] = ()  # who dies with it


@dataclass
class Family:
    """The processes of one driver."""

    driver: int

    def guardian(self) -> int | None:
        found = children(self.driver)
        return found[-1] if found else None  # while one ends, there may be its successor

    def template(self) -> int | None:
        guardian = self.guardian()
        found = children(guardian) if guardian else []
        return found[0] if found else None

    def workers(self) -> list[int]:
        template = self.template()
        return children(template) if template else []


def children(pid: int) -> list[int]:
    """Its children that live, in the order of their numbers."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
    return sorted(child for child in found if state(child) not in {"", "Z", "X"})


def state(pid: int) -> str:
    """The letter of a process's state; empty: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@dataclass
class Saboteur:
    """Deals blows in the order of the plan."""

    seed: int
    family: Family
    spill: str
    is_disk_own: bool  # the folder of spill files is a disk of its own, which may be filled
    kinds: dict[str, int] = field(default_factory=lambda: dict(plan.BLOWS))
    struck: list[Strike] = field(default_factory=list)
    missed: int = 0  # blows for which there was nobody
    _number: int = 0
    _undo: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _undone: int = 0
    _limited: set[tuple[int, int]] = field(default_factory=set)  # processes, and in what

    def strike_for(self, seconds: float, is_over: Callable[[float], bool]) -> None:
        """Strike so long. is_over: waits so many seconds, and says whether to end sooner."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            blow = plan.blow(self.seed, self._number, self.kinds)
            self._number += 1
            due = time.monotonic() + blow.pause
            while (now := time.monotonic()) < due:
                self._take_back(now)
                soonest = min([due, *(at for at, _, _ in self._undo[:1])])
                if is_over(max(0.0, soonest - now)):
                    return
            self._deal(blow)

    def relent(self) -> None:
        """Take back all that lasts."""
        self._take_back(float("inf"))

    def _take_back(self, now: float) -> None:
        while self._undo and self._undo[0][0] <= now:
            _, _, undo = heapq.heappop(self._undo)
            with contextlib.suppress(OSError, ValueError):
                undo()

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undone += 1
        heapq.heappush(self._undo, (time.monotonic() + seconds, self._undone, undo))

    def _deal(self, blow: plan.Blow) -> None:
        method = getattr(self, "_" + blow.kind.replace(" ", "_").replace("'", ""))
        before = len(self.struck)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it was faster
            method(blow)
        self.missed += len(self.struck) == before

    def _note(
        self,
        blow: plan.Blow,
        pid: int = 0,
        detail: str = "",
        ended: tuple[str, ...] = (),
        *,
        lasts: float = 0.0,
        others: tuple[int, ...] = (),
    ) -> None:
        now = time.time()
        self.struck.append(
            Strike(blow.number, blow.kind, now, now + lasts, pid, detail, ended, others)
        )

    def _worker(self, blow: plan.Blow) -> int:
        pid = blow.pick(self.family.workers())
        if pid is None:
            raise ProcessLookupError
        return int(pid)

    # -- signals

    def _signal_it(self, blow: plan.Blow, name: str) -> None:
        pid = self._worker(blow)
        self._note(blow, pid, name, (name,))
        os.kill(pid, getattr(signal, name))

    def _kill_a_worker(self, blow: plan.Blow) -> None:
        self._signal_it(blow, "SIGKILL")

    def _signal_a_worker(self, blow: plan.Blow) -> None:
        self._signal_it(blow, blow.chance.choice(plan.DEADLY))

    def _interrupt_a_worker(self, blow: plan.Blow) -> None:
        pid = self._worker(blow)
        self._note(blow, pid, "SIGINT")
        os.kill(pid, signal.SIGINT)

    def _stop(self, blow: plan.Blow, pid: int | None) -> None:
        if pid is None:
            return
        self._note(blow, pid, f"{blow.seconds} s", lasts=blow.seconds)
        pidfd = os.pidfd_open(pid)

        def go_on() -> None:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            finally:
                os.close(pidfd)

        self._later(blow.seconds, go_on)
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)

    def _stop_a_worker(self, blow: plan.Blow) -> None:
        self._stop(blow, self._worker(blow))

    def _stop_and_kill_a_worker(self, blow: plan.Blow) -> None:
        pid = self._worker(blow)
        self._note(blow, pid, "", ("SIGKILL",))
        pidfd = os.pidfd_open(pid)

        def kill() -> None:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

        self._later(blow.seconds, kill)
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)

    def _kill_above(self, blow: plan.Blow, pid: int | None) -> None:
        if pid is not None:
            others = tuple(self.family.workers())
            self._note(blow, pid, "SIGKILL", ("SIGKILL", "worker died"), others=others)
            os.kill(pid, signal.SIGKILL)

    def _kill_the_template(self, blow: plan.Blow) -> None:
        self._kill_above(blow, self.family.template())

    def _kill_the_guardian(self, blow: plan.Blow) -> None:
        self._kill_above(blow, self.family.guardian())

    def _stop_the_template(self, blow: plan.Blow) -> None:
        self._stop(blow, self.family.template())

    def _stop_the_guardian(self, blow: plan.Blow) -> None:
        self._stop(blow, self.family.guardian())

    def _stop_the_driver(self, blow: plan.Blow) -> None:
        self._stop(blow, self.family.driver)

    def _burn_the_CPUs(self, blow: plan.Blow) -> None:  # noqa: N802 - named as its kind
        code = "while True: pass"
        burners = [
            subprocess.Popen([sys.executable, "-S", "-E", "-c", code], env={})
            for _ in range(2 * len(os.sched_getaffinity(0)))
        ]
        self._note(blow, detail=f"{blow.seconds} s", lasts=blow.seconds)

        def end() -> None:
            for burner in burners:
                burner.kill()
                burner.wait()

        self._later(blow.seconds, end)

    # -- files

    def _spoil_a_spill_file(self, blow: plan.Blow) -> None:
        path = blow.pick(sorted(spilled(self.spill)))
        if path is None:
            return
        how = blow.chance.choice(("removed", "emptied", "cut in half"))
        self._note(blow, detail=f"{how}: {os.path.basename(path)}")
        if how == "removed":
            os.unlink(path)
        else:
            os.truncate(path, os.stat(path).st_size // 2 if how == "cut in half" else 0)

    def _fill_the_disk(self, blow: plan.Blow) -> None:
        if not self.is_disk_own:
            self._limit_files(blow)
            return
        ballast = os.path.join(self.spill, "ballast")
        disk = os.statvfs(self.spill)
        size = disk.f_bavail * disk.f_frsize - ROOM
        if os.path.exists(ballast) or size <= 0:
            return
        self._note(blow, detail=f"{blow.seconds} s", lasts=blow.seconds)
        descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
        self._later(blow.seconds, lambda: os.unlink(ballast))
        try:
            with contextlib.suppress(OSError):  # somebody was faster, and has less room still
                os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)

    # -- limits

    def _limit(self, blow: plan.Blow, pids: list[int], name: int, limit: int, text: str) -> None:
        seconds = min(blow.seconds, GENTLE)
        self._note(blow, pids[0] if len(pids) == 1 else 0, text, lasts=seconds)
        for pid in pids:
            if (pid, name) in self._limited:
                continue
            soft, hard = resource.prlimit(pid, name)
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, name, (limit, hard))
            self._limited.add((pid, name))

            def lift(pid: int = pid, soft: int = soft, hard: int = hard) -> None:
                self._limited.discard((pid, name))
                resource.prlimit(pid, name, (soft, hard))

            self._later(seconds, lift)

    def _limit_files(self, blow: plan.Blow) -> None:
        pids = [self.family.driver, *self.family.workers()]
        self._limit(blow, pids, resource.RLIMIT_FSIZE, FILE_LIMIT, f"{FILE_LIMIT} bytes")

    def _take_descriptors(self, blow: plan.Blow, pid: int | None) -> None:
        if pid is None:
            return
        spare = blow.chance.randint(0, SPARE_DESCRIPTORS)
        limit = max([int(name) for name in os.listdir(f"/proc/{pid}/fd")] or [0]) + 1 + spare
        self._limit(blow, [pid], resource.RLIMIT_NOFILE, limit, f"{limit} may be open")

    def _take_the_drivers_descriptors(self, blow: plan.Blow) -> None:
        self._take_descriptors(blow, self.family.driver)

    def _take_a_workers_descriptors(self, blow: plan.Blow) -> None:
        self._take_descriptors(blow, self._worker(blow))

    def _take_the_templates_descriptors(self, blow: plan.Blow) -> None:
        self._take_descriptors(blow, self.family.template())

    # -- messages

    def _write(self, blow: plan.Blow, flags: int, ended: tuple[str, ...]) -> None:
        """Write into one of the pipes that a worker has open in this way."""
        pid = self._worker(blow)
        path = blow.pick(pipes(pid, flags))
        if path is None:
            return
        kind = blow.chance.choice(list(GARBAGE))
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            self._note(blow, pid, f"{kind} into {path}", ended)
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(descriptor, GARBAGE[kind])
        finally:
            os.close(descriptor)

    def _write_to_the_driver_as_a_worker(self, blow: plan.Blow) -> None:
        self._write(blow, os.O_WRONLY, ("answers pipe", "worker died", "worker exited"))

    def _write_to_a_worker_as_the_driver(self, blow: plan.Blow) -> None:
        self._write(blow, os.O_RDONLY, ("worker died", "worker exited", "answers pipe"))
