"""Whatever a worker writes to the driver: the driver lives, and nobody else's work is touched."""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import pickle
import signal
import struct
import time
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioray
from aioray.api.session import _session
from aioray.engine.processes import inbound
from aioray.shared import asks
from aioray.shared.wire import (
    ANSWER,
    LOCATION_MARK,
    NOTE_ASKED,
    NOTE_ITEMS,
    NOTE_YIELDED,
    NUMBER,
    PACKED_LOCATION,
    PAIR,
    Status,
)
from tests.shared.fuzzing import ODD_NUMBERS, changed, fuzzed, odd_text

from . import vandals

GUARD = 120.0  # seconds, of which hardly any pass
RIGHT = pickle.dumps("right", 5)
OWN = 0x4F574E
INTEGERS = tuple(number for number in ODD_NUMBERS if isinstance(number, int))
FLOATS = tuple(number for number in ODD_NUMBERS if isinstance(number, float))


@pytest.fixture(scope="module")
def recorded():
    """What tasks ask, as they ask it."""
    found = []

    def unpack(payload):
        found.append(asks.unpack(payload))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbound, "unpack", unpack)
        aioray.init(num_cpus=2)
        aioray.get(aioray.remote(vandals.ask_all).remote())
        aioray.shutdown()
    return sorted((ask for _, ask in found), key=lambda ask: (type(ask).__name__, repr(ask)))


# ------------------------------------------------------------ frames


def of_type(hint, like):
    """Values of a type of an argument; like: what was seen there, and elsewhere."""
    origin = get_origin(hint) or hint
    if origin is UnionType:
        return st.one_of([of_type(each, like) for each in get_args(hint)])
    known = [value for value in like if type(value) is origin]
    kinds = [st.sampled_from(known)] * 3 if known else []
    inner = st.sampled_from(known) if known else st.none()
    return st.one_of(
        *kinds,
        {
            int: st.sampled_from(INTEGERS),
            float: st.sampled_from((*FLOATS, *INTEGERS)),
            bool: st.booleans(),
            str: odd_text.map(lambda text: text.encode("utf-8", "replace").decode()),
            bytes: st.binary(max_size=40) | st.binary(min_size=28, max_size=28),
            list: st.lists(st.binary(min_size=28, max_size=28) | inner, max_size=3),
            tuple: st.tuples(inner, inner),
            dict: st.dictionaries(st.text(), inner, max_size=2),
        }.get(origin, st.none()),
    )


@st.composite
def questions(draw, recorded):
    """One that was asked before, with some of its arguments exchanged; or one of wrong types."""
    kind = draw(st.sampled_from(asks.ASKS))
    seen = [ask for ask in recorded if type(ask) is kind]
    everything = [value for ask in recorded for value in ask]
    hints = list(get_type_hints(kind).values())
    arguments = list(draw(st.sampled_from(seen))) if seen else None
    if arguments is None:
        arguments = [draw(of_type(hint, everything)) for hint in hints]
    for at in draw(st.lists(st.integers(0, len(hints) - 1), max_size=2)) if hints else ():
        arguments[at] = draw(of_type(hints[at], everything))
    if draw(st.integers(0, 9)) == 0:
        arguments.insert(0, draw(st.none() | st.sampled_from(everything)))
    request = draw(st.sampled_from((0, 1, 7, -1, 2**63, 2**64)))
    return marshal.dumps((request, asks.ASKS.index(kind), tuple(arguments)))


payloads = st.one_of(
    st.just(RIGHT),
    st.just(b""),
    st.binary(max_size=60),
    st.lists(st.sampled_from((RIGHT, b"", b"\x80", b"x")), max_size=3).map(marshal.dumps),
    st.tuples(
        st.integers(0, 2), st.sampled_from((0, 4096, 2**63)), st.sampled_from((0, 1, 2**63))
    ).map(lambda each: PACKED_LOCATION.pack(LOCATION_MARK, *each)),
    st.lists(st.sampled_from((0, 1, 4096, 2**64 - 1)), max_size=4).map(
        lambda numbers: b"".join(map(NUMBER.pack, numbers)) + RIGHT
    ),
    st.builds(PAIR.pack, st.sampled_from((0, 2**63)), st.sampled_from((0, 2**63))),
    changed(RIGHT),
)


@st.composite
def frames(draw, recorded):
    """Bytes that a worker may write; OWN stands for what is in flight there."""
    kind = draw(st.sampled_from(("bytes", "question", "question", "note", "note", "answer")))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    seq = draw(st.sampled_from((OWN, OWN, OWN, 0, 1, 2**40, 2**64 - 1)))
    times = [0.0] * 3
    if kind == "question":
        status, payload = NOTE_ASKED, draw(questions(recorded))
    elif kind == "note":
        status = draw(st.integers(NOTE_ASKED, NOTE_ITEMS + 1))
        payload = draw(payloads)
        if status == NOTE_YIELDED and draw(st.booleans()):
            payload = NUMBER.pack(draw(st.sampled_from((0, 1, 2, 2**32, 2**64 - 1)))) + payload
    else:
        status = draw(st.sampled_from([*map(int, Status), len(Status), 255]))
        payload = draw(payloads)
        times = draw(
            st.sampled_from(([1.0, 0.5, 0.0], [0.0, 0.0, 0.0]))
            | st.tuples(*[st.sampled_from((0.0, 1.0, *FLOATS))] * 3)
        )
    frame = ANSWER.pack(len(payload), seq, status, *times) + payload
    if draw(st.integers(0, 5)) == 0:
        frame = draw(changed(frame))
        if len(frame) >= 8:  # the rest of what is too long comes with what the worker writes
            length = min(struct.unpack_from("<Q", frame)[0], len(frame))
            frame = struct.pack("<Q", length) + frame[8:]
    return frame


# ------------------------------------------------------------ workers that write them


class Ground:
    """A session with a task that waits, in whose name something is written."""

    def __init__(self, path):
        self.path = path
        self.lock = str(path / "lock")
        self.started = str(path / "started")
        os.close(os.open(self.lock, os.O_CREAT | os.O_WRONLY, 0o600))
        os.mkfifo(self.started)
        self.reader = os.open(self.started, os.O_RDWR)
        self.holder = os.open(self.lock, os.O_RDONLY)

    def close(self):
        os.close(self.reader)
        os.close(self.holder)

    def __enter__(self):
        fcntl.flock(self.holder, fcntl.LOCK_EX)

    def __exit__(self, *_):
        fcntl.flock(self.holder, fcntl.LOCK_UN)

    def runs(self):
        """Wait for a task that says who it is; the handle of its worker."""
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.reader, 1)
        return next(h for h in _session.engine._processes.handles() if h.pid == int(line))

    def forget(self):
        """Read what attempts have said that nobody has waited for."""
        os.set_blocking(self.reader, False)
        try:
            while os.read(self.reader, 4096):
                pass
        except BlockingIOError:
            os.set_blocking(self.reader, True)


@pytest.fixture
def ground(tmp_path):
    aioray.init(num_cpus=2)
    found = Ground(tmp_path)
    yield found
    found.close()
    aioray.shutdown()


def write(handle, data):
    """Write in the name of a worker, which rings."""
    bell = os.dup(handle.inbound.doorbell)  # the driver may close its own as soon as it has read
    fd = os.open(f"/proc/self/fd/{handle.inbound.answers}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, data)
        os.eventfd_write(bell, 1)
    finally:
        os.close(fd)
        os.close(bell)


def kill(handle):
    """Kill a worker, and wait until the driver knows: what it says late is nobody's then."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(handle.pid, signal.SIGKILL)
    deadline = time.monotonic() + GUARD
    while not handle.closed:
        assert time.monotonic() < deadline
        aioray.available_resources()  # asks the engine, in its turn


def ends(ref):
    """Wait for a ref, whatever comes of it."""
    try:
        aioray.get(ref, timeout=GUARD)
    except aioray.exceptions.GetTimeoutError:
        raise
    except Exception:  # noqa: BLE001 - what was forged may be any
        pass


@fuzzed(15)
@given(st.data())
def test_any_frames_of_a_task_leave_others_alone(ground, recorded, data):
    work = aioray.remote(max_retries=5, num_cpus=0)(vandals.wait_at)  # groups may take all CPUs
    kept = aioray.put("kept")
    with ground:
        innocent = work.remote(ground.lock, ground.started)
        ground.runs()
        victim = work.remote(ground.lock, ground.started)
        handle = ground.runs()
        written = b"".join(data.draw(st.lists(frames(recorded), min_size=1, max_size=4)))
        own = handle.page.running()[0]
        write(handle, written.replace(NUMBER.pack(OWN), NUMBER.pack(own)))
        aioray.available_resources()  # was read
    ends(victim)
    kill(handle)
    assert aioray.get([innocent, kept], timeout=GUARD) == ["right", "kept"]
    assert aioray.get(work.remote(ground.lock, ground.started), timeout=GUARD) == "right"
    ground.forget()
