"""The asking side: contestants as processes, started when first needed, and rounds of turns."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import processes
from .contestants import OTHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

ROOT = Path(__file__).parent.parent
OWN = ("aioray", "aioray gather(refs)", "aioray sync", "aioray std loop")
ANSWER_SECONDS = 180.0  # longer means that it hangs
CLOSE_SECONDS = 15.0
SETTLE_SECONDS = 20.0  # that the daemons of Ray get to calm down after their start
SETTLED_SHARE = 0.12  # of one processor; twice what they use when nothing happens


class ContestantError(Exception):
    """It raised, died or hung. Says which, with the end of what it printed."""


class ContestantMissingError(Exception):
    """Its library cannot be imported here."""


def environment() -> dict[str, str]:
    """For child processes: this checkout first, byte code kept, and nothing sent to anybody."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    own = {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    # Without byte code each import is a compilation, for what is not installed but lies here.
    kept = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **own}


class Runner:
    """One contestant in its process."""

    def __init__(self, name: str, workers: int, python: str) -> None:
        """Start it and wait until it is warm. Raises ContestantMissingError, ContestantError."""
        self.name = name
        self.workers = workers
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in kill()
        self._directory = tempfile.TemporaryDirectory(prefix="aioray-benchmark-")
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.child", name, str(workers), self._directory.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        try:
            first = self._answer()
        except BaseException:
            self.kill()
            raise
        if "missing" in first:
            self.kill()
            raise ContestantMissingError(first["missing"])
        self.version: str = first["version"]

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Have an operation done. Raises ContestantError."""
        assert self.process.stdin is not None
        request = {"operation": operation, "arguments": arguments}
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise ContestantError(f"{operation}: {answer['error']}")
        return answer["result"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_SECONDS)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            what = "died" if ready else f"said nothing for {ANSWER_SECONDS:.0f} s"
            raise ContestantError(f"{self.name} {what}. {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Let it end in order; kill what is left."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self.process.poll() is None:
            processes.kill_tree(self.process.pid)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._directory.cleanup()

    def settle(self) -> None:
        """Wait until it has finished what it does in the background after its start."""
        deadline = time.monotonic() + SETTLE_SECONDS
        busy = 1.0
        while busy > SETTLED_SHARE and time.monotonic() < deadline:
            before = processes.cpu_seconds(*processes.tree(self.pid))
            self.ask("idle", seconds=1.0)
            busy = processes.cpu_seconds(*processes.tree(self.pid)) - before


class Runners:
    """Starts the contestants of a run, in fresh processes for each measurement."""

    def __init__(
        self, ray_python: str | None, note: Callable[[str], None], peers: Collection[str] = ()
    ) -> None:
        """peers: the only other libraries that are to take part; none named: all there are."""
        self._ray_python = ray_python
        self._peers = peers
        self.note = note
        self._out: set[str] = set()
        self.versions: dict[str, str] = {}
        self.failures: list[str] = []

    def python(self, name: str) -> str:
        """The interpreter that has this contestant."""
        return self._ray_python if name == "ray" and self._ray_python else sys.executable

    def fresh(self, name: str, workers: int = 2) -> Runner | None:
        """A new one, which the caller closes; None if it cannot be had."""
        unwanted = self._peers and name not in self._peers and name in OTHERS
        if name in self._out or unwanted:
            return None
        try:
            runner = Runner(name, workers, self.python(name))
        except ContestantMissingError as missing:
            self._out.add(name)
            self.note(f"{name} left out: {missing}")
            return None
        except ContestantError as failed:
            self._out.add(name)
            self.failed(name, str(failed))
            return None
        self.versions[name] = runner.version
        return runner

    def failed(self, name: str, why: str) -> None:
        """Note a failure, which is ours to answer for if it is aioray's."""
        self.note(f"{name} failed: {why}")
        self.failures.append(name)

    def rounds(
        self,
        count: int,
        turns: Mapping[str, Callable[[Runner], Any]],
        *,
        workers: int = 2,
        fewer: Mapping[str, int] | None = None,
    ) -> dict[str, list[Any]]:
        """Let the contestants take turns; what each turn returned, by contestant.

        Each has a process of its own, which is fresh at the first round. fewer: rounds of
        contestants for which `count` would take too long. One that fails is noted and takes part no
        more.
        """
        limits = {name: min(count, (fewer or {}).get(name, count)) for name in turns}
        samples: dict[str, list[Any]] = {}
        playing: dict[str, Runner] = {}
        try:
            for name in turns:
                if limits[name] > 0 and (runner := self.fresh(name, workers)) is not None:
                    playing[name] = runner
                    samples[name] = []
                    if name == "ray":
                        runner.settle()
            for number in range(count):
                for name, runner in tuple(playing.items()):
                    if number >= limits[name]:
                        continue
                    try:
                        samples[name].append(turns[name](runner))
                    except ContestantError as failed:
                        self.failed(name, str(failed))
                        playing.pop(name).close()
        finally:
            for runner in playing.values():
                runner.close()
        return {name: taken for name, taken in samples.items() if taken}


def same_turn(
    names: Iterable[str], turn: Callable[[Runner], Any]
) -> dict[str, Callable[[Runner], Any]]:
    """The same turn for several contestants."""
    return dict.fromkeys(names, turn)
