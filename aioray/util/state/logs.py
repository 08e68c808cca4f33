"""The functions of the state API that read what workers have printed.

Room: api; `aioray.state.read.logs` does the reading. For `address` and `timeout` see `api`.
Source: Ray API reference, ray.util.state. Unlike Ray's, the output of a task is exact also in a
concurrent actor, and of tasks that run in one process after the other.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from typing import TYPE_CHECKING, Any

from aioray.client.protocol import refuse_to_block, registry
from aioray.state.read import logs
from aioray.state.read.sessions import SessionError
from aioray.util.state.api import open_session
from aioray.util.state.exception import RayStateApiException, ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from aioray.state.read.logs import Part
    from aioray.state.read.view import View

__all__ = ["get_log", "list_logs"]

CHUNK_SIZE = 64 * 1024  # bytes that are handed out together, unless a log is followed
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_BEGUN_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?\Z")
_LOCAL = ("localhost", "127.0.0.1")


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: float = 30,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Generator[Any, None, None]:
    """Yield what a task, an actor or a worker has printed, in pieces.

    actor_id, task_id, filename, pid: whose, the first of these that is given; an actor's name will
    do too, and filename is one of those that `list_logs` tells. attempt_number: of the task, from
    0. suffix: "out" is stdout, "err" stderr; a file name has its own. tail: lines from the end,
    of each process of an actor; below 0, all. follow: go on for as long as more may come.
    encoding: None yields bytes. errors: what is done with bytes that are no text, see
    `codecs.decode`. filter_ansi_code: leave out what colours a terminal. node_id, node_ip: there is
    one. submission_id: there are no submitted jobs.
    Raises, when the first piece is asked for: RayStateApiException if there is no such thing,
    ServerUnavailable if there is no session, ValueError if nothing is asked for or for an unknown
    suffix, LookupError for an unknown encoding, UnicodeDecodeError for bytes that are no text.
    """
    if suffix not in logs.STREAMS:
        raise ValueError(f"Invalid suffix: {suffix}. Must be one of 'out' or 'err'.")
    if submission_id is not None:
        raise RayStateApiException(
            f"There is no submitted job {submission_id}: aioray runs programs, and takes no jobs."
        )
    select: Callable[[View], list[Part]]
    if actor_id is not None:
        select = lambda view: logs.of_actor(view, actor_id)  # noqa: E731
    elif task_id is not None:
        select = lambda view: logs.of_task(view, task_id, attempt_number)  # noqa: E731
    elif filename is not None:
        select = lambda view: logs.of_file(view, filename)  # noqa: E731
        suffix = filename.rpartition(".")[2]
    elif pid is not None:
        select = lambda view: logs.of_worker(view, str(pid))  # noqa: E731
    else:
        raise ValueError("Say whose log it is: filename, actor_id, task_id or pid.")

    def select_on_node(view: View) -> list[Part]:
        _check_node(view, node_id, node_ip)
        return select(view)

    session = open_session(address)
    if follow:
        for client in registry.by_job.values():
            if client.own_session().name == session.name:
                refuse_to_block(client, "get_log(follow=True)", "get_log() without follow")
    with _answering():
        found = logs.chunks(
            lambda: session.view(timeout=timeout),
            select_on_node,
            logs.STREAMS.get(suffix, ()),
            tail=tail,
            follow=follow,
            interval=logs.POLL_SECONDS if _interval is None else _interval,
        )
        pieces: Iterator[bytes] = (chunk.data for chunk in found if chunk.data)
        if not follow:
            pieces = _joined(pieces)
        if encoding is None:
            yield from pieces
        else:
            texts = _decoded(pieces, encoding, errors or "strict")
            yield from _without_ansi(texts) if filter_ansi_code else texts


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: float = 30,
) -> dict[str, list[str]]:
    """List the logs there are: {"worker_out": [names], "worker_err": [names]}.

    aioray keeps no log files; the names are those that Ray's would have, and `get_log` knows them.
    glob_filter: a shell pattern that names must match. node_id, node_ip: there is one.
    Raises RayStateApiException for another node, ServerUnavailable if there is no session.
    """
    session = open_session(address)
    with _answering(), session.view(timeout=timeout) as view:
        _check_node(view, node_id, node_ip)
        return logs.files(view, glob_filter or "*")


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Raise the errors of the state under Ray's names."""
    try:
        yield
    except logs.NoSuchLogError as error:
        raise RayStateApiException(str(error)) from error
    except SessionError as error:
        raise ServerUnavailable(str(error)) from error


def _check_node(view: View, node_id: str | None, node_ip: str | None) -> None:
    own_id, own_ip = view.meta["node_id"], view.meta["ip"]
    if node_id not in (None, own_id):
        raise RayStateApiException(f"There is no node {node_id}; the only one is {own_id}.")
    if node_ip not in (None, own_ip, *_LOCAL):
        raise RayStateApiException(f"There is no node at {node_ip}; the only one is {own_ip}.")


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    some: list[bytes] = []
    size = 0
    for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= CHUNK_SIZE:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


def _decoded(pieces: Iterator[bytes], encoding: str, errors: str) -> Iterator[str]:
    """Decode the pieces; a character may begin in one and end in the next."""
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    for piece in pieces:
        text = decoder.decode(piece)
        if text:
            yield text
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest


def _without_ansi(texts: Iterator[str]) -> Iterator[str]:
    begun = ""
    for piece in texts:
        text = _ANSI.sub("", begun + piece)
        found = _BEGUN_ANSI.search(text)
        end = len(text) if found is None else found.start()
        text, begun = text[:end], text[end:]
        if text:
            yield text
    if begun:
        yield begun
