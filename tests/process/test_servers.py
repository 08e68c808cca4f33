"""Real servers that are told to end: requests in flight are answered, and no process remains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

import psutil
import pytest

from .support import GUARD, ROOT, Watch

APP = "tests.process.served:app"
SERVERS = {
    "uvicorn": ["uvicorn", APP, "--fd", "{fd}", "--log-level", "warning"],
    "uvicorn --workers": ["uvicorn", APP, "--fd", "{fd}", "--workers", "2"],
    "uvicorn --reload": ["uvicorn", APP, "--fd", "{fd}", "--reload", "--reload-dir", "{reload}"],
    "gunicorn": [
        "gunicorn", APP, "--bind", "fd://{fd}", "--workers", "2", "--graceful-timeout", "60",
        "--worker-class", "uvicorn_worker.UvicornWorker", "--timeout", "0",
    ],
}  # fmt: skip


@contextlib.asynccontextmanager
async def server(name, tmp_path, started, gate):
    """A server as a process, and the port on which it answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(listener.fileno(), True)
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "changed.py").touch()
    facts = {"fd": listener.fileno(), "reload": tmp_path / "watched"}
    command = [word.format_map(facts) for word in SERVERS[name]]
    environment = {**os.environ, "STARTED": started.path, "GATE": gate.path}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        cwd=ROOT,
        env=environment,
        pass_fds=[listener.fileno()],
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    port = listener.getsockname()[1]
    try:
        yield process, port, facts["reload"]
    finally:
        listener.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def ask(port, path):
    """Status and body."""
    async with asyncio.timeout(GUARD):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def until_ready(port):
    """Ask as whoever decides on traffic does."""
    while (await ask(port, "/health"))[0] != 200:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", SERVERS)
async def test_server_that_ends_answers_what_is_in_flight_and_leaves_nobody(
    name, tmp_path, started, gate
):
    async with server(name, tmp_path, started, gate) as (process, port, _):
        await until_ready(port)
        pids = {pid for _ in range(5) for pid in json.loads((await ask(port, "/pids"))[1])}
        waiting = asyncio.create_task(ask(port, "/hold"))
        await started.heard()
        everybody = {each.pid for each in psutil.Process(process.pid).children(recursive=True)}
        watch = Watch({*pids, *everybody, process.pid})
        process.send_signal(signal.SIGTERM)
        gate.tell("answered")
        assert await waiting == (200, "answered")
        async with asyncio.timeout(GUARD):
            await process.wait()
        assert not watch.survivors()
        watch.close()


async def test_reload_answers_what_is_in_flight_and_goes_on_anew(tmp_path, started, gate):
    async with server("uvicorn --reload", tmp_path, started, gate) as (_, port, watched):
        await until_ready(port)
        old = json.loads((await ask(port, "/pids"))[1])
        watch = Watch(old)
        waiting = asyncio.create_task(ask(port, "/hold"))
        await started.heard()
        os.utime(watched / "changed.py", (4e9, 4e9))
        gate.tell("answered")
        assert await waiting == (200, "answered")
        assert not watch.survivors()
        watch.close()
        await until_ready(port)
        assert not {*old} & {*json.loads((await ask(port, "/pids"))[1])}
