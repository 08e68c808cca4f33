"""Parts for web services: the session's life with the app's, and ends for what nobody waits for.

Room: services. For Starlette, FastAPI and all else that speaks ASGI; Starlette is imported only to
answer with its own exception. The engine lives on the server's event loop and takes no signals: a
server that is told to end, by SIGTERM, finishes the requests in flight, and then the app's
lifespan, where the session is drained.

A client that hangs up is known by what `receive` tells, so somebody has to read that, while the app
may read the request's body from the same place. `_Inlet` is the one reader: it keeps a little of
what the app has not read yet, and goes on when the app does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import typing
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, overload

import anyio

from .api.cluster import health
from .api.session import init, is_initialized, shutdown
from .client.refs import binding
from .client.stopping import checked_grace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
    from contextlib import AbstractAsyncContextManager
    from typing import Unpack

    from starlette.requests import HTTPConnection

    from .options.types import InitSettings

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
    Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

__all__ = ["CancelOnDisconnect", "cancel_on_disconnect", "lifespan"]

EndpointT = TypeVar("EndpointT", bound="Callable[..., Any]")

READ_AHEAD = 1 << 20  # bytes of a request's body that are kept for an app that does not read them
CLIENT_CLOSED_REQUEST = 499  # nginx's; nobody is there to get it, but logs show it
_REQUEST = "aioray_request"  # the argument by which FastAPI gives us the request


# --- the session's life ---------------------------------------------------------------------------


def lifespan(
    inner: Lifespan | None = None, /, *, drain: float = 10.0, **settings: Unpack[InitSettings]
) -> Lifespan:
    """Make a lifespan that starts a session with the app, and ends it with the app.

        app = FastAPI(lifespan=aioray.asgi.lifespan(num_cpus=4))

    inner: the app's own lifespan, for which the session is there already, and still. drain: seconds
    that tasks have to finish when the app ends, see `aioray.shutdown`; by then the server has
    answered the requests in flight. settings: those of `aioray.init`. A session that is there
    before the app starts is used, and stays.
    Raises what `init` raises, when the app starts.
    """
    if inner is not None and not callable(inner):
        raise TypeError(f"lifespan() takes the app's own lifespan, a function of it, not {inner!r}")

    @contextlib.asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:
        ours = not is_initialized()
        if ours:
            init(**{"loop": "running", **settings})  # type: ignore[arg-type]
            health()  # has the first worker come up
        try:
            if inner is None:
                yield None
            else:
                async with inner(app) as state:
                    yield state
        finally:
            if ours:
                await shutdown(drain=drain)

    return run


# --- clients that hang up -------------------------------------------------------------------------


class _Inlet:
    """Reads what a client sends, for the app and for who watches whether the client is there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._size = 0  # of what is kept, in bytes
        self._news = asyncio.Event()  # something was kept, or it is watched no more
        self._room = asyncio.Event()  # something was taken
        self._watched = False
        self._gone = False

    async def watch(self) -> None:
        """Return when the client has hung up."""
        self._watched = True
        try:
            while not self._gone:
                while self._size > READ_AHEAD:
                    self._room.clear()
                    await self._room.wait()
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._gone = True
                else:
                    self._kept.append(message)
                    self._size += len(message.get("body", b""))
                self._news.set()
        finally:
            self._watched = False
            self._news.set()

    async def receive(self) -> Message:
        """Give the app the next message."""
        while not self._kept:
            if self._gone:
                return {"type": "http.disconnect"}
            if not self._watched:
                return await self._receive()
            self._news.clear()
            await self._news.wait()
        message = self._kept.popleft()
        self._size -= len(message.get("body", b""))
        self._room.set()
        return message


@contextlib.asynccontextmanager
async def _cancelled_when_gone(inlet: _Inlet, grace: float) -> AsyncIterator[anyio.CancelScope]:
    """Cancel the block when the client hangs up, and bind to it the refs that it awaits."""

    async def watch() -> None:
        try:
            await inlet.watch()
        except Exception:  # noqa: BLE001 - what the server raises the app meets when it reads
            return
        scope.cancel()

    token = binding.set(grace)
    try:
        with anyio.CancelScope() as scope:
            watching = asyncio.create_task(watch(), name="aioray-disconnect")
            try:
                yield scope
            finally:
                watching.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([watching])
    finally:
        binding.reset(token)


@contextlib.asynccontextmanager
async def _of_request(request: HTTPConnection, grace: float) -> AsyncIterator[None]:
    """Cancel the block when the client of a request hangs up, and raise an HTTPException then."""
    inlet = _Inlet(request._receive)  # type: ignore[attr-defined]
    request._receive = inlet.receive  # type: ignore[attr-defined]
    async with _cancelled_when_gone(inlet, grace) as scope:
        yield
    if scope.cancelled_caught:
        from starlette.exceptions import HTTPException

        raise HTTPException(CLIENT_CLOSED_REQUEST, "The client has closed the connection.")


class _BoundStream:
    """The body of a streamed answer, which binds the refs that it awaits to who sends it."""

    def __init__(self, body: Any, grace: float) -> None:
        self._body = body
        self._grace = grace

    def __aiter__(self) -> _BoundStream:
        return self

    async def __anext__(self) -> Any:
        token = binding.set(self._grace)
        try:
            return await anext(self._body)
        finally:
            binding.reset(token)


@overload
def cancel_on_disconnect(target: EndpointT, /, *, grace: float | None = None) -> EndpointT: ...
@overload
def cancel_on_disconnect(
    target: HTTPConnection, /, *, grace: float | None = None
) -> AbstractAsyncContextManager[None]: ...
@overload
def cancel_on_disconnect(*, grace: float | None = None) -> Callable[[EndpointT], EndpointT]: ...


def cancel_on_disconnect(target: Any = None, /, *, grace: float | None = None) -> Any:
    """Cancel an endpoint, and the tasks that it awaits, when its client hangs up.

        @app.get("/work")
        @aioray.asgi.cancel_on_disconnect
        async def work(n: int) -> int:
            return await heavy.remote(n)

    The endpoint is cancelled at its `await`, and so is the task of every ref that is awaited there,
    as by `ref.bound()`: interrupted, killed `grace` seconds later (5 by default), with all that it
    has submitted. Awaiting means `await ref`, `aioray.gather` and `as_completed`, and what asyncio
    tasks that the endpoint starts await; `await ref.as_future()` leaves a task alone that other
    requests wait for too. A streamed answer is covered as long as the server's ASGI version is
    below 2.4, as uvicorn's; `CancelOnDisconnect` covers all.

    For endpoints of FastAPI and of Starlette, functions and methods; or for a part of one:
    `async with aioray.asgi.cancel_on_disconnect(request):`. The body can be read as ever. Who hangs
    up is answered 499, in logs. Raises TypeError for an endpoint that is no coroutine function,
    since nothing can cancel what runs in a thread.
    """
    seconds = checked_grace(grace)
    if target is None:
        return functools.partial(cancel_on_disconnect, grace=grace)
    if hasattr(target, "scope") and hasattr(target, "_receive"):
        return _of_request(target, seconds)
    if not inspect.iscoroutinefunction(target):
        raise TypeError(
            f"cancel_on_disconnect takes an endpoint that is a coroutine function (async def), or "
            f"a request, not {target!r}. For whole apps there is CancelOnDisconnect."
        )
    return _endpoint(target, seconds)


def _endpoint(function: Callable[..., Any], grace: float) -> Callable[..., Any]:
    """Wrap an endpoint."""

    @functools.wraps(function)
    async def endpoint(*args: Any, **kwargs: Any) -> Any:
        request = kwargs.pop(_REQUEST, None) or _request_in([*args, *kwargs.values()])
        if request is None:
            raise TypeError(
                f"cancel_on_disconnect has found no request for {function.__qualname__}: give it "
                f"an argument `request: Request`, and put the decorator below that of the route."
            )
        async with _of_request(request, grace):
            response = await function(*args, **kwargs)
            body = getattr(response, "body_iterator", None)
            if body is not None:
                response.body_iterator = _BoundStream(body, grace)
        return response

    signature = inspect.signature(function)
    if not _takes_request(function, signature):  # FastAPI then gives it to this one
        from starlette.requests import Request

        parameters = list(signature.parameters.values())
        at = len(parameters) - any(p.kind is p.VAR_KEYWORD for p in parameters)
        ours = inspect.Parameter(_REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        parameters.insert(at, ours)
        described: Any = endpoint
        described.__signature__ = signature.replace(parameters=parameters)
    return endpoint


def _request_in(values: list[Any]) -> Any:
    from starlette.requests import Request

    return next((value for value in values if isinstance(value, Request)), None)


def _takes_request(function: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Tell whether an endpoint says that it takes a request, as FastAPI would understand it."""
    from starlette.requests import Request

    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - names of types that are not there at run time
        hints = {name: each.annotation for name, each in signature.parameters.items()}
    return any(
        (isinstance(hint, type) and issubclass(hint, Request))
        or (isinstance(hint, str) and hint.rpartition(".")[2] == "Request")
        for name, hint in hints.items()
        if name != "return"
    )


class CancelOnDisconnect:
    """A middleware that does for all requests of an app what `cancel_on_disconnect` does for one.

        app.add_middleware(aioray.asgi.CancelOnDisconnect)

    It is plain ASGI, and covers endpoints, dependencies and streamed answers, on any server. What
    is not HTTP passes through.
    """

    def __init__(self, app: AsgiApp, grace: float | None = None) -> None:
        """Wrap an app. grace: seconds between interrupt and kill, 5 by default."""
        self.app = app
        self._grace = checked_grace(grace)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        inlet = _Inlet(receive)
        async with _cancelled_when_gone(inlet, self._grace):
            await self.app(scope, inlet.receive, send)
