"""The clients of the service, the SIGTERM in the middle, and the judge of what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from .app import REPORT

GENEROUS = 60.0  # seconds after which a request counts as one that hangs
PATIENCE = 0.05  # seconds after which a client leaves that leaves
MARGIN = 0.25  # seconds before the SIGTERM: what was sent earlier was surely accepted
LAG_AIM = 0.020  # seconds, of the ticker's 99th percentile

# What a client asks for, how often out of 100, and the status that is right.
MIX = {"steady": (70, 200), "fragile": (10, 200), "broken": (4, 502), "endless": (6, 504)}
LEAVES = "patient"  # the other 10: the client closes its socket


@dataclass
class Ledger:
    """What has become of all requests."""

    right: Counter[str] = field(default_factory=Counter)
    left: int = 0  # by the client, as planned
    refused: int = 0  # after the SIGTERM, before they were accepted
    faults: list[str] = field(default_factory=list)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


class Load:
    """So many clients, who ask one service until it is told to end."""

    def __init__(self, port: int, clients: int, seconds: float, seed: int) -> None:
        self.port = port
        self.clients = clients
        self.seconds = seconds
        self.seed = seed
        self.ledger = Ledger()
        self.terminated_at: float | None = None

    async def run(self, terminate: signal.Signals, process: subprocess.Popen[bytes]) -> None:
        """Ask for half the time, send the signal, and see to the end of what is under way."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._client(random.Random(self.seed * 10_000 + number)))
            await asyncio.sleep(self.seconds)
            self.terminated_at = time.monotonic()
            process.send_signal(terminate)

    async def _client(self, chance: random.Random) -> None:
        while self.terminated_at is None:
            name = chance.choices([*MIX, LEAVES], [share for share, _ in MIX.values()] + [10])[0]
            await self._request(name, chance.randrange(1_000_000))

    async def _request(self, name: str, n: int) -> None:
        ledger, begun = self.ledger, time.monotonic()
        try:
            async with asyncio.timeout(GENEROUS):
                answer = await self.ask(name, n)
        except TimeoutError:
            ledger.faults.append(f"{name}/{n} was not answered for {GENEROUS:.0f} s")
            return
        except OSError as error:
            if self.terminated_at is not None and begun > self.terminated_at - MARGIN:
                ledger.refused += 1
            else:
                ledger.faults.append(f"{name}/{n} was dropped: {error!r}")
            return
        if answer is None:
            ledger.left += 1
            return
        ledger.seconds[name].append(time.monotonic() - begun)
        status, body = answer
        if status == MIX[name][1] and (status != 200 or body == {"n": n, "square": n * n}):
            ledger.right[name] += 1
        else:
            ledger.faults.append(f"{name}/{n} was answered {status} {body}")

    async def ask(self, name: str, n: int) -> tuple[int, object] | None:
        """Return the status and the body; None: the client has left. Raises OSError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                f"GET /{name}/{n} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
            )
            await writer.drain()
            if name == LEAVES:
                await asyncio.sleep(PATIENCE)
                return None
            whole = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        head, _, body = whole.partition(b"\r\n\r\n")
        if not head:
            raise ConnectionResetError("closed without an answer")
        return int(head.split()[1]), json.loads(body)


def descendants(pid: int) -> set[int]:
    """Return the pids of all that this process has started, and they."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children[int(fields[1])].append(int(entry))
    found, ahead = set[int](), [pid]
    while ahead:
        for child in children[ahead.pop()]:
            found.add(child)
            ahead.append(child)
    return found


def prove(clients: int, seconds: float, seed: int) -> tuple[Ledger, dict[str, float]]:
    """Serve, ask, terminate; return what came of it, and how late the service's loop was."""
    with tempfile.TemporaryDirectory(prefix="aioray-service-") as folder:
        report, log = Path(folder, "report.json"), Path(folder, "server.log")
        with (
            socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
            log.open("wb") as out,
        ):
            port = listener.getsockname()[1]
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "benchmarks.service.app:app"),
                    *("--fd", str(listener.fileno()), "--log-level", "warning"),
                ],
                pass_fds=[listener.fileno()],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, REPORT: str(report)},
            )
        try:
            load = Load(port, clients, seconds, seed)
            started = set[int]()

            async def everything() -> None:
                await load.ask("steady", 1)  # it has started when it answers
                watch = asyncio.create_task(note_descendants())
                await load.run(signal.SIGTERM, server)
                watch.cancel()

            async def note_descendants() -> None:
                while True:
                    started.update(await asyncio.to_thread(descendants, server.pid))
                    await asyncio.sleep(0.2)

            asyncio.run(everything())
            server.wait(GENEROUS)
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
        left = {pid for pid in started if _is_alive(pid)}
        if left:
            load.ledger.faults.append(f"processes remain: {sorted(left)}")
        if not report.exists():
            last = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:])
            load.ledger.faults.append(f"the service ended before its lifespan had:\n{last}")
            return load.ledger, {}
        return load.ledger, json.loads(report.read_text())


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def describe(ledger: Ledger, lag: dict[str, float]) -> str:
    """Return the ledger as it is printed."""
    lines = ["asked for   answered rightly   p50 ms   p99 ms"]
    for name, seconds in sorted(ledger.seconds.items()):
        seconds.sort()
        p50, p99 = statistics.median(seconds), seconds[int(len(seconds) * 0.99)]
        lines.append(f"{name:9} {ledger.right[name]:>18} {p50 * 1000:>8.0f} {p99 * 1000:>8.0f}")
    lines.append(
        f"left by their clients: {ledger.left}; refused after the SIGTERM: {ledger.refused}"
    )
    if lag:
        lines.append(
            f"a ticker of 1 ms on the service's loop was late by {lag['p50'] * 1000:.1f} ms (p50), "
            f"{lag['p99'] * 1000:.1f} ms (p99), {lag['max'] * 1000:.1f} ms (at most); "
            f"the aim is {LAG_AIM * 1000:.0f} ms (p99)"
        )
    lines.append(f"faults: {len(ledger.faults) or 'none'}")
    return "\n".join([*lines, *ledger.faults[:20]])
