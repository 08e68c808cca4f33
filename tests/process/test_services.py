"""A web service whose endpoints await tasks of tasks and stream what tasks yield."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import fastapi
import uvicorn
from fastapi.responses import StreamingResponse

import aioray

from . import jobs, nested, yielding
from .support import GUARD, on_both_loops


def service(started, notes):
    app = fastapi.FastAPI()

    @app.get("/sum/{n}")
    async def total(n: int):
        return await aioray.remote(nested.add_up).remote(n)

    @app.get("/numbers/{n}")
    async def numbers(n: int):
        async def lines():
            async with aioray.remote(yielding.count_async).remote(n) as items:
                async for ref in items:
                    yield f"{await ref}\n"

        return StreamingResponse(lines())

    @app.get("/endless")
    async def endless():
        produce = aioray.remote(_generator_backpressure_num_objects=2)(yielding.pause_and_clean_up)

        async def lines():
            async with produce.remote(started, notes) as items:
                async for ref in items:
                    yield f"{await ref}\n"

        return StreamingResponse(lines())

    return app


@contextlib.asynccontextmanager
async def serving(app):
    """The port of a server on this loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def asking(port, path):
    """Reads what is answered; at the end of the block the client hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())  # 1.0: the body is not cut in chunks
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def body(port, path):
    async with asking(port, path) as reader:
        return (await reader.read()).decode()


@on_both_loops
async def test_endpoints_await_tasks_of_tasks_and_stream_what_tasks_yield(started, notes):
    async with aioray.Engine(num_cpus=2), serving(service(started.path, notes)) as port:
        assert await asyncio.gather(*[body(port, "/sum/10") for _ in range(5)]) == ["45"] * 5
        assert await body(port, "/numbers/3") == "0\n1\n2\n"


@on_both_loops
async def test_client_that_leaves_in_mid_stream_ends_the_task(started, notes):
    async with aioray.Engine(num_cpus=2), serving(service(started.path, notes)) as port:
        async with asyncio.timeout(GUARD), asking(port, "/endless") as reader:
            assert await reader.readuntil(b"3\n") == b"0\n1\n2\n3\n"
        assert await started.heard() == "over"
        assert jobs.notes(notes)[-1] == "cleaned up"
