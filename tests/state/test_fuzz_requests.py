"""Callers that say anything in pieces, many at once: others are served, and none is kept."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.state.folders import SOCKET
from aioray.state.write.server import CALLERS
from tests.shared.fuzzing import changed, fuzzed, jsonable

from .test_keeper import GUARD, engine, reached, start, talk  # noqa: F401 - fixtures

GOOD = b'{"want": ["tasks"], "patience": 5}\n'
requests = st.one_of(
    st.just(GOOD),
    changed(GOOD),
    changed(GOOD + GOOD),
    st.binary(max_size=50),
    jsonable.map(lambda value: json.dumps({"want": value}).encode() + b"\n"),
    st.integers(1, 5).map(lambda size: b"x" * size * 32 * 1024),  # some are too long
    st.integers(1, 5).map(lambda size: b'{"want": ' + b"[" * size * 1_000),
)


@pytest.fixture
def served(start):  # noqa: F811
    """A session and the server of its socket."""
    keeper, session = start()
    reached(session)
    return keeper, session


@fuzzed(20)
@given(
    st.lists(requests, min_size=1, max_size=CALLERS - 1),
    st.lists(st.integers(0, 2**16), max_size=40),
    st.booleans(),
)
def test_any_callers_at_once_leave_it_serving(served, said, turns, answers_are_read):
    keeper, session = served
    with contextlib.ExitStack() as stack:
        callers = []
        for data in said:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(GUARD)
            connection.connect(os.path.join(session.folder, SOCKET))
            callers.append([connection, data])
        for turn in turns:  # in pieces, one after the other
            caller = callers[turn % len(callers)]
            size = turn % (1 + len(caller[1]))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                caller[0].sendall(caller[1][:size])
            caller[1] = caller[1][size:]
        answer = json.loads(talk(session, GOOD))
        assert answer["now"] == 1.0
        if answers_are_read:
            for connection, data in callers:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(data + b"\n")
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
    assert json.loads(talk(session, GOOD))["now"] == 1.0
    deadline = time.monotonic() + GUARD
    while keeper._server._callers:  # they have all gone
        assert time.monotonic() < deadline
        talk(session, GOOD)
