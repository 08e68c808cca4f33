"""Starts the driver, lets the saboteur have it, and judges what has become of the work.

What the driver could not explain is compared with what the saboteur has done. In the end nothing
may be left of the driver and of all that carries its mark: an environment variable that everything
has that comes from it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .driver import PATIENCE, REPORT
from .saboteur import Family, Saboteur, Strike, state

MARK = "AIORAY_CHAOS"
START = 60.0  # seconds in which a driver is ready
AFTERMATH = 30.0  # seconds after a blow in which a death by it may be told: drivers are stopped too
DISK = 600_000_000  # bytes
FORGIVABLE = {  # words in an error's text: the kinds of blows that it may come of
    "Too many open files": "descriptors",
    "ulimit -n": "descriptors",
    "OutOfDiskError": "disk",
    "ObjectStoreFullError": "disk",
    "is full": "disk",
    "File too large": "disk",
}
ABOVE = ("kill the template", "kill the guardian", "stop the template", "stop the guardian")
TOLERATED = 3  # deaths of templates within some seconds; after one more, what waits fails
UNKNOWN = "nobody knows how"  # a worker has died: its template was not able to say it in time
MUTE = ("stop the template", "take the template's descriptors", "burn the CPUs")
SCARCE = {
    "descriptors": (
        "take the driver's descriptors",
        "take a worker's descriptors",
        "take the template's descriptors",
    ),
    "disk": ("fill the disk", "limit files"),
}


@dataclass
class Verdict:
    """What has become of a run."""

    seed: int
    seconds: float
    begun: int = 0
    ended: int = 0
    ledger: list[tuple[str, str, int]] = field(default_factory=list)  # work, outcome, how often
    strikes: list[Strike] = field(default_factory=list)
    missed: int = 0  # blows that met nobody
    wrong: list[dict[str, Any]] = field(default_factory=list)
    hung: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)  # items that have ended, kB
    log: str = ""  # the last lines of the driver's stderr

    @property
    def lost(self) -> int:
        return self.begun - self.ended - len(self.hung)

    @property
    def is_right(self) -> bool:
        return self.begun > 0 and not (self.lost or self.wrong or self.hung or self.left)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "lost": self.lost, "is_right": self.is_right}


def prove(
    seed: int,
    seconds: float,
    work: tuple[str, ...] = (),
    blows: tuple[str, ...] = (),
) -> Verdict:
    """Run it; work, blows: only of these kinds."""
    verdict = Verdict(seed, seconds)
    with tempfile.TemporaryDirectory(prefix="aioray-chaos-") as name, contextlib.ExitStack() as end:
        folder = Path(name)
        for part in ("notes", "spill", "tmp"):
            (folder / part).mkdir()
        is_disk_own = _mount(folder / "spill")
        if is_disk_own:
            end.callback(subprocess.run, ["umount", "-l", folder / "spill"], check=False)
        _Run(verdict, folder, work, blows, is_disk_own=is_disk_own).go()
        if verdict.is_right is False and os.environ.get("AIORAY_CHAOS_KEEP"):
            shutil.copytree(folder, os.environ["AIORAY_CHAOS_KEEP"], dirs_exist_ok=True)
    return verdict


class _Run:
    """One driver, from its start to what it leaves."""

    def __init__(
        self,
        verdict: Verdict,
        folder: Path,
        work: tuple[str, ...],
        blows: tuple[str, ...],
        *,
        is_disk_own: bool,
    ) -> None:
        self.verdict = verdict
        self.folder = folder
        self.blows = blows
        self.is_disk_own = is_disk_own
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        self.last: dict[str, Any] | None = None
        self.is_ready = False
        self._have = b""
        reader, writer = os.pipe()
        self.report = reader
        settings = {
            "seed": verdict.seed,
            "work": list(work),
            "notes": str(folder / "notes"),
            "spill": str(folder / "spill"),
        }
        parent = os.getpid()

        def before() -> None:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it may be stopped
            if os.getppid() != parent:
                os._exit(1)
            os.dup2(writer, REPORT)

        with (folder / "log").open("wb") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.chaos.driver", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[writer, REPORT] if writer != REPORT else [writer],
                preexec_fn=before,  # noqa: PLW1509 - this process has one thread
                env={
                    **os.environ,
                    MARK: self.mark,
                    "RAY_TMPDIR": str(folder / "tmp"),
                    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of items that were given up halfway
                },
            )
        os.close(writer)

    def go(self) -> None:
        verdict = self.verdict
        try:
            self._wait(START, lambda: self.is_ready)
            saboteur = Saboteur(
                verdict.seed, Family(self.driver.pid), str(self.folder / "spill"), self.is_disk_own
            )
            if self.blows:
                saboteur.kinds = {kind: saboteur.kinds[kind] for kind in self.blows}
            verdict.strikes = saboteur.struck
            try:
                if self.is_ready:
                    saboteur.strike_for(verdict.seconds, self._listen)
            finally:
                saboteur.relent()
                verdict.missed = saboteur.missed
            assert self.driver.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self.driver.stdin.write(b"end\n")
                self.driver.stdin.close()
            self._wait(4 * PATIENCE, lambda: False)
            if self.driver.poll() is None and self.last is None:
                verdict.hung.append({"hung": "the driver", "work": "-", "where": ["see its log"]})
                self.driver.send_signal(signal.SIGUSR1)
                self._wait(1.0, lambda: False)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.driver.wait(PATIENCE)
            if self.driver.poll() is None:
                verdict.left.append("the driver itself: it did not end")
            self._look_around()
        finally:
            self.driver.kill()
            self.driver.wait()
            os.close(self.report)
            verdict.log = _tail(self.folder / "log")
        if self.driver.returncode not in (0, -signal.SIGKILL) or self.last is None:
            verdict.wrong.append(
                {"wrong": "the driver", "work": "-", "found": f"status {self.driver.returncode}"}
            )
        self._judge()

    def _wait(self, seconds: float, is_over: Any) -> None:
        end = time.monotonic() + seconds
        while not is_over() and (left := end - time.monotonic()) > 0:
            if self._listen(left):
                return

    def _listen(self, seconds: float) -> bool:
        """Hear the driver for so long at most, and whether it has closed its end."""
        ready, _, _ = select.select([self.report], [], [], seconds)
        if not ready:
            return False
        data = os.read(self.report, 1 << 20)
        self._have += data
        *lines, self._have = self._have.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "ready" in message:
                self.is_ready = True
            elif "wrong" in message:
                self.verdict.wrong.append(message)
            elif "hung" in message:
                self.verdict.hung.append(message)
            else:
                self.last = message
        return not data

    def _look_around(self) -> None:
        """See what is left of the driver: processes, shared memory, files."""
        left = self.verdict.left
        end = time.monotonic() + PATIENCE
        while (found := _marked(self.mark)) and time.monotonic() < end:
            time.sleep(0.05)
        for pid, command in found.items():
            left.append(f"process {pid}: {command}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        left += [f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if "aioray" in name]
        known = {"lock", "history.db", "history.db-wal", "history.db-shm"}  # what sessions keep
        for part in ("spill", "tmp"):
            for path in (self.folder / part).rglob("*"):
                is_kept = path.is_dir() or (part == "tmp" and path.name in known)
                if not is_kept and not path.name.startswith("history.db"):
                    left.append(f"file {path.relative_to(self.folder)}")

    def _judge(self) -> None:
        verdict, last = self.verdict, self.last
        if last is None:
            return
        verdict.begun, verdict.ended = last["begun"], last["ended"]
        verdict.memory = [(items, kb) for items, kb in last["memory"]]
        verdict.left += last["leftovers"]
        verdict.ledger = [(work, outcome, count) for work, outcome, count in last["ledger"]]
        for claim in last["claims"]:
            if not explained(claim, verdict.strikes):
                verdict.wrong.append(
                    {
                        "wrong": claim["item"],
                        "work": claim["work"],
                        "found": f"no blow explains this: {claim}",
                    }
                )


def explained(claim: dict[str, Any], strikes: list[Strike]) -> bool:
    """Whether the saboteur has done what the driver says was done to it."""
    text = f"{claim['error']} {claim['text']} {' '.join(claim['ended'])}"
    scarce = {what for words, what in FORGIVABLE.items() if words in text}
    if any(
        strike.kind in SCARCE[what] and _is_near(strike, claim["at"])
        for what in scarce
        for strike in strikes
    ):
        return True
    if "WorkerStartupError" in text and "emplate" in text:
        above = [strike for strike in strikes if strike.kind in ABOVE]
        return sum(_is_near(strike, claim["at"]) for strike in above) > TOLERATED
    if claim["work"] == "stored" and "ObjectReconstructionFailedError" in text:
        return any(strike.kind == "spoil a spill file" for strike in strikes)
    if claim["work"] == "dies" and UNKNOWN in text:  # of its own, which nobody could tell
        return any(strike.kind in MUTE and _is_near(strike, claim["at"]) for strike in strikes)
    deaths = list(zip(claim["pids"] or [0], claim["ended"] or [text], strict=True))
    if claim["work"] == "dies":
        deaths = deaths[-1:]  # those before may be its own
    return claim["is_death"] and all(
        any(_kills(strike, pid, ended, claim["at"]) for strike in strikes) for pid, ended in deaths
    )


def _is_near(strike: Strike, at: float) -> bool:
    return strike.at - 1 <= at <= strike.until + AFTERMATH


def _kills(strike: Strike, pid: int, ended: str, at: float) -> bool:
    if strike.ended and UNKNOWN in ended:
        return pid == strike.pid
    if not any(words in ended for words in strike.ended):
        return False
    if pid in (strike.pid, *strike.others):
        return True
    # Whoever was just being forked when its template was killed, or whose number is not known.
    is_unknown = pid == 0 or bool(strike.others) or strike.kind.startswith("kill the")
    return is_unknown and _is_near(strike, at)


def _marked(mark: str) -> dict[int, str]:
    """The processes, but zombies, that have the mark, and their commands."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if not name.isdigit() or wanted not in Path(f"/proc/{name}/environ").read_bytes():
                continue
            if state(int(name)) not in {"", "Z", "X"}:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def _mount(folder: Path) -> bool:
    """Give a folder a small disk of its own, if this process may."""
    if os.geteuid() != 0:
        return False
    options = ["-t", "tmpfs", "-o", f"size={DISK}", "aioray-chaos"]
    done = subprocess.run(["mount", *options, folder], capture_output=True, check=False)
    return done.returncode == 0


def _tail(path: Path, lines: int = 40) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
