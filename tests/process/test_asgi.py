"""Web services: the session lives with the app, and what a client has left for ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import fastapi
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import aioray
from aioray.asgi import CancelOnDisconnect, cancel_on_disconnect, lifespan

from . import jobs
from .support import GUARD, on_both_loops

if TYPE_CHECKING:
    from starlette.requests import Request

same = aioray.remote(jobs.same)
clean_up = aioray.remote(jobs.clean_up)

JSON = "Content-Type: application/json\r\n"


@contextlib.asynccontextmanager
async def serving(app, **config):
    """The port of a server on this loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = {"log_level": "error", "lifespan": "on", "ws": "none", **config}
    server = uvicorn.Server(uvicorn.Config(app, **config))
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def ask(port, path, body=b"", method="GET"):
    """What is answered: head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.0\r\n{JSON}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode().partition("\r\n\r\n")[::2]


async def ask_and_hang_up(port, path, started, body=b"", method="GET", length=None):
    """Close the socket as soon as a task runs."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    length = len(body) if length is None else length
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: {length}\r\n\r\n"
    writer.write(head.encode() + body)
    await started.heard()
    writer.close()
    await writer.wait_closed()


def fastapi_app(started, notes):
    app = fastapi.FastAPI(lifespan=lifespan(num_cpus=2))

    @app.get("/plain")
    @cancel_on_disconnect
    async def plain():
        await clean_up.remote(started, notes)

    @app.get("/with/{n}")
    @cancel_on_disconnect(grace=GUARD)
    async def with_request(n: int, request: fastapi.Request):
        assert request.url.path == f"/with/{n}"
        await clean_up.remote(started, notes).bound()

    @app.post("/body")
    @cancel_on_disconnect
    async def with_body(value: dict[str, int]):
        assert value == {"a": 1}
        await aioray.gather(clean_up.remote(started, notes))

    @app.get("/scope")
    @cancel_on_disconnect
    async def in_scope():
        async with aioray.scope() as scope:
            scope.submit(clean_up, started, notes)
            await scope.join()

    @app.get("/block")
    async def block(request: fastapi.Request):
        async with cancel_on_disconnect(request):
            async for ref in aioray.as_completed([clean_up.remote(started, notes)]):
                await ref

    @app.get("/stream")
    @cancel_on_disconnect
    async def stream():
        async def lines():
            yield "first\n"
            await clean_up.remote(started, notes)

        return StreamingResponse(lines())

    @app.post("/echo")
    @cancel_on_disconnect
    async def echo(value: dict[str, int]):
        return await same.remote(value)

    @app.get("/missing")
    @cancel_on_disconnect
    async def missing(n: int = 0):
        raise fastapi.HTTPException(404, f"no {n}")

    return app


def starlette_app(started, notes):
    @cancel_on_disconnect
    async def plain(request):
        await clean_up.remote(started, notes)

    @cancel_on_disconnect
    async def with_body(request):
        assert await request.json() == {"a": 1}
        await clean_up.remote(started, notes)

    @cancel_on_disconnect
    async def echo(request: Request) -> PlainTextResponse:
        chunks = [chunk async for chunk in request.stream()]
        return PlainTextResponse(str(await same.remote(sum(map(len, chunks)))))

    @cancel_on_disconnect
    async def ignored(request):
        await clean_up.remote(started, notes)

    class Scope(HTTPEndpoint):
        @cancel_on_disconnect
        async def get(self, request):
            await clean_up.remote(started, notes)

    routes = [
        Route("/plain", plain),
        Route("/body", with_body, methods=["POST"]),
        Route("/echo", echo, methods=["POST"]),
        Route("/ignored", ignored, methods=["POST"]),
        Route("/scope", Scope),
    ]
    return Starlette(routes=routes, lifespan=lifespan(num_cpus=2))


def wrapped_app(started, notes):
    async def work(request):
        await clean_up.remote(started, notes)

    async def with_body(request):
        assert await request.json() == {"a": 1}
        await clean_up.remote(started, notes)

    async def stream(request):
        async def lines():
            yield "first\n"
            await clean_up.remote(started, notes)

        return StreamingResponse(lines())

    async def echo(request):
        return PlainTextResponse(str(await same.remote(len(await request.body()))))

    routes = [
        Route("/plain", work),
        Route("/body", with_body, methods=["POST"]),
        Route("/stream", stream),
        Route("/echo", echo, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan(num_cpus=2))
    app.add_middleware(CancelOnDisconnect)
    return app


BODY = b'{"a": 1}'
ENDPOINTS = [
    (fastapi_app, "/plain"),
    (fastapi_app, "/with/5"),
    (fastapi_app, "/body"),
    (fastapi_app, "/scope"),
    (fastapi_app, "/block"),
    (fastapi_app, "/stream"),
    (starlette_app, "/plain"),
    (starlette_app, "/body"),
    (starlette_app, "/ignored"),
    (starlette_app, "/scope"),
    (wrapped_app, "/plain"),
    (wrapped_app, "/body"),
    (wrapped_app, "/stream"),
]


@pytest.mark.parametrize(("make", "path"), ENDPOINTS)
@on_both_loops
async def test_client_that_hangs_up_has_its_task_interrupted(make, path, started, pipes):
    notes = pipes()
    post = path in ("/body", "/ignored")
    async with serving(make(started.path, notes.path)) as port:
        method, body = ("POST", BODY) if post else ("GET", b"")
        await ask_and_hang_up(port, path, started, body, method)
        assert await notes.heard() == "cleaned up"


@on_both_loops
async def test_client_that_hangs_up_before_its_body_was_read_is_noticed(started, pipes):
    notes = pipes()
    async with serving(starlette_app(started.path, notes.path)) as port:
        await ask_and_hang_up(port, "/ignored", started, b"x" * 1000, "POST", length=2_000)
        assert await notes.heard() == "cleaned up"


@pytest.mark.parametrize("make", [fastapi_app, starlette_app, wrapped_app])
@on_both_loops
async def test_whoever_stays_is_answered(make, started, pipes):
    notes = pipes()
    body = BODY if make is fastapi_app else b"x" * 5_000_000
    async with serving(make(started.path, notes.path)) as port:
        answers = await asyncio.gather(*[ask(port, "/echo", body, "POST") for _ in range(10)])
    for head, answer in answers:
        assert " 200 " in head.splitlines()[0]
        assert answer == ('{"a":1}' if make is fastapi_app else "5000000")


@on_both_loops
async def test_errors_of_endpoints_are_answered_as_ever(started, pipes):
    notes = pipes()
    async with serving(fastapi_app(started.path, notes.path)) as port:
        head, answer = await ask(port, "/missing?n=7")
        assert " 404 " in head.splitlines()[0]
        assert "no 7" in answer
        head, _ = await ask(port, "/openapi.json")
        assert " 200 " in head.splitlines()[0]


@on_both_loops
async def test_session_lives_as_long_as_the_app_and_its_own_lifespan():
    seen = []

    @contextlib.asynccontextmanager
    async def own(app):
        seen.append(await same.remote("before"))
        yield {"key": "value"}
        seen.append(await same.remote("after"))

    async def state(request):
        return PlainTextResponse(request.state.key)

    app = Starlette(routes=[Route("/", state)], lifespan=lifespan(own, num_cpus=1))
    assert not aioray.is_initialized()
    async with serving(app) as port:
        assert (await ask(port, "/"))[1] == "value"
        assert aioray.is_initialized()
    assert seen == ["before", "after"]
    assert not aioray.is_initialized()


@on_both_loops
async def test_session_that_was_there_before_stays():
    async with aioray.Engine(num_cpus=1) as engine:
        async with serving(Starlette(lifespan=lifespan(num_cpus=1))):
            pass
        assert not engine.closed
        assert await same.remote(1) == 1


@on_both_loops
async def test_app_that_ends_lets_tasks_finish(started, gate):
    refs = []

    @contextlib.asynccontextmanager
    async def own(app):
        refs.append(aioray.remote(jobs.hold).remote(started.path, gate.path))
        await started.heard()
        yield

    async with serving(Starlette(lifespan=lifespan(own, num_cpus=1, drain=GUARD))):
        gate.tell("finished")
    assert await refs[0] == "finished"


def test_what_cannot_be_cancelled_is_refused():
    with pytest.raises(TypeError, match="async def"):
        cancel_on_disconnect(len)
    with pytest.raises(TypeError, match="lifespan"):
        lifespan("app")
    with pytest.raises(ValueError, match="grace"):
        cancel_on_disconnect(grace=-1)
