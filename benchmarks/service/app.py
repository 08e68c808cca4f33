"""The service: endpoints whose work is heavy, crashes, or hangs. Run by uvicorn, see `load`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException

import aioray
from aioray import asgi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPORT = "AIORAY_SERVICE_REPORT"  # the file that says, at the end, what the loop felt
TICK = 0.001  # seconds


def square(n: int, seconds: float) -> int:
    """Compute for a while."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return n * n


@aioray.remote(timeout=10)
def steady(n: int) -> int:
    return square(n, 0.002)


@aioray.remote(timeout=10, max_retries=3)
def fragile(n: int) -> int:
    if aioray.get_runtime_context().get_attempt_number() == 0:
        os._exit(1)
    return square(n, 0.002)


@aioray.remote(timeout=10, max_retries=1)
def broken(_n: int) -> int:
    os._exit(1)


@aioray.remote(timeout=0.3)
def endless(n: int) -> int:
    time.sleep(3600)
    return n


@aioray.remote
def patient(n: int) -> int:
    time.sleep(3600)
    return n


@contextlib.asynccontextmanager
async def felt(_app: FastAPI) -> AsyncIterator[None]:
    """Measure how late a ticker of 1 ms is on the service's loop, and report it at the end."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            late.append(time.perf_counter() - due)

    ticker = asyncio.create_task(tick())
    yield
    ticker.cancel()
    late.sort()
    found = {f"p{share}": late[int(len(late) * share / 100)] for share in (50, 90, 99)}
    report = {"ticks": len(late), "max": late[-1], **found}
    await asyncio.to_thread(write, os.environ[REPORT], json.dumps(report))


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


# A worker that starts finds imported what this module imports.
app = FastAPI(lifespan=asgi.lifespan(felt, num_cpus=2, preload=["fastapi"]))
FUNCTIONS = {each.__name__: each for each in (steady, fragile, broken, endless, patient)}


@app.get("/{name}/{n}")
@asgi.cancel_on_disconnect
async def call(name: str, n: int) -> dict[str, int]:
    try:
        return {"n": n, "square": await FUNCTIONS[name].remote(n)}
    except aioray.exceptions.TaskTimeoutError as error:
        raise HTTPException(504, str(error)) from error
    except aioray.exceptions.WorkerCrashedError as error:
        raise HTTPException(502, str(error)) from error
