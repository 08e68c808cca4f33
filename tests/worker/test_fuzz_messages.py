"""A worker to which something comes that the driver never says ends itself, and says why."""

from __future__ import annotations

import marshal
import mmap
import os
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.shared.wire import PAGE_SIZE, WorkerFds
from aioray.worker import arrivals
from aioray.worker import channel as module
from aioray.worker.channel import Channel
from aioray.worker.interrupts import Interrupts
from tests.shared.fuzzing import changed, fuzzed

ATTEMPT = (1, 1, 1, 0, (), "f", 1, 0, False, (), "", False, None, None, b"", [])
GOOD = (([], [ATTEMPT]), ([(1, b"code")], [ATTEMPT]), (7, [b"x"]), ([5],), (3,))
values = st.recursive(
    st.none() | st.integers(-9, 9) | st.binary(max_size=4) | st.text(max_size=3) | st.just(ATTEMPT),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)
messages = st.one_of(
    values.map(marshal.dumps),
    st.tuples(values, values).map(marshal.dumps),
    st.sampled_from(GOOD).map(marshal.dumps),
    st.sampled_from(GOOD).flatmap(lambda message: changed(marshal.dumps(message))),
    st.binary(min_size=1, max_size=20),
).filter(lambda data: data and not huge(data))


def huge(data):
    """Whether marshal would make room for very many: a tuple of that length, which nobody sends."""
    return any(
        data[at] & 0x7F in b"(<>[i" and int.from_bytes(data[at + 1 : at + 5], "little") > 10_000
        for at in range(len(data))
    )


class EndedError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def ends(monkeypatch):
    """The channel, and the driver's end of its socket."""

    def die(why):
        raise EndedError(why)

    monkeypatch.setattr(arrivals, "die", die)
    monkeypatch.setattr(module, "os", SimpleNamespace(**{**vars(os), "_exit": die}))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    with mmap.mmap(-1, PAGE_SIZE) as page:
        fds = WorkerFds(theirs.detach(), -1, writer, -1, -1, -1, -1, -1, -1, -1)
        channel = Channel(fds, Interrupts(page))
        yield channel, ours
        ours.close()
        channel.bundles.close()
    for fd in (reader, writer):
        os.close(fd)


@fuzzed(200)
@given(st.lists(messages, min_size=1, max_size=3), st.booleans())
def test_any_message_is_taken_in_or_ends_the_worker(ends, written, with_file):
    channel, driver = ends
    for data in written:
        if with_file:
            file = os.memfd_create("message")
            os.write(file, data)
            socket.send_fds(driver, [data], [file])
            os.close(file)
        else:
            driver.send(data)
        try:
            channel.read_if_free()
        except EndedError as error:
            assert error.args == (0,) or "is lost" in str(error)  # noqa: PT017 - it may also be taken in
    assert {type(attempt).__name__ for attempt in channel.queue} <= {"Attempt"}
    channel.queue.clear()


@fuzzed(100)
@given(messages)
def test_any_single_is_an_attempt_or_ends_the_worker(ends, data):
    try:
        _, attempt = arrivals.unpack_single(data)
    except EndedError as error:
        assert "an attempt is lost" in str(error)  # noqa: PT017 - the same
    else:
        assert type(attempt).__name__ == "Attempt"
