"""A service for servers that tests start: it tells its pids and answers when it is let to."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import aioray
from aioray.asgi import lifespan

from . import jobs


async def hold(request):
    """Answer what the test says, through a task."""
    started, gate = os.environ["STARTED"], os.environ["GATE"]
    return PlainTextResponse(await aioray.remote(jobs.hold).remote(started, gate))


async def pids(request):
    """Tell who belongs to the service here."""
    worker = await aioray.remote(jobs.pid).remote()
    return JSONResponse([os.getpid(), worker])


async def health(request):
    """Tell how the engine is."""
    told = aioray.health()
    return JSONResponse(told, 200 if told["ready"] else 503)


app = Starlette(
    routes=[Route("/hold", hold), Route("/pids", pids), Route("/health", health)],
    lifespan=lifespan(num_cpus=2, drain=60.0),
)
