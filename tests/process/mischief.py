"""Functions that run in workers and misuse their descriptors, or need messages of great size."""

from __future__ import annotations

import fcntl
import marshal
import os
import resource
import struct

import aioray
from aioray.client.current import execution_context
from aioray.shared import asks
from aioray.shared.wire import (
    ANSWER,
    CLAIM,
    LOCATION_MARK,
    NOTE_ASKED,
    NOTE_KEPT,
    NOTE_MEASURED,
    NOTE_REFS,
    NOTE_SAVED,
    NOTE_UNUSED,
    NOTE_YIELDED,
    PACKED_LOCATION,
)

from . import jobs


def _find(kind, flags):
    """The descriptors above 2 of this kind that are open in this way."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            mode = fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            continue
        if int(name) > 2 and target.startswith(kind) and mode == flags:
            found.append(int(name))
    return found


def answers():
    (fd,) = _find("pipe:", os.O_WRONLY)
    return fd


def claims():
    fd, _ = sorted(_find("pipe:", os.O_RDONLY))
    return fd


def singles():
    _, fd = sorted(_find("pipe:", os.O_RDONLY))
    return fd


def frame(status, payload=b"", *, seq=None, length=None, times=(0.0, 0.0, 0.0)):
    seq = execution_context.attempt.seq if seq is None else seq
    return ANSWER.pack(len(payload) if length is None else length, seq, status, *times) + payload


def question(kind, *arguments, request=1):
    verb = asks.ASKS.index(kind) if kind in asks.ASKS else kind
    return frame(NOTE_ASKED, marshal.dumps((request, verb, arguments)))


def asked(ask):
    return frame(NOTE_ASKED, asks.pack(1, ask))


GARBAGE = {
    "one byte": lambda: b"x",
    "a line": lambda: b"hello, world\n",
    "zeros": lambda: bytes(ANSWER.size),
    "a header's worth": lambda: b"x" * ANSWER.size,
    "kilobytes": lambda: b"garbage " * 10_000,
    "random bytes": lambda: os.urandom(10_000),
    "unknown status": lambda: frame(12),
    "unknown note": lambda: frame(99, b"payload"),
    "huge length": lambda: frame(0, b"\x80", length=1 << 62),
    "length of terabytes": lambda: frame(0, b"\x80", length=1 << 40),
    "long answer of nobody": lambda: frame(0, b"\x80", seq=1 << 40, length=1_000_000),
    "long note with times": lambda: frame(NOTE_REFS, length=1_000_000, times=(1.0, 0.0, 0.0)),
    "answer of nobody": lambda: frame(0, b"\x80", seq=1 << 40),
    "second greeting": lambda: frame(0, b"\x80", seq=0),
    "value that is none": lambda: frame(0, b"garbage"),
    "place never granted": lambda: frame(0, PACKED_LOCATION.pack(LOCATION_MARK, 0, 4096, 1000)),
    "file never granted": lambda: frame(0, PACKED_LOCATION.pack(LOCATION_MARK, 1, 1, 1000)),
    "truncated list": lambda: frame(0, marshal.dumps([b"\x80", b"\x80"])[:-3]),
    "list of numbers": lambda: frame(0, marshal.dumps([1, 2])),
    "truncated question": lambda: frame(NOTE_ASKED, marshal.dumps((1, 3, ([], True)))[:-2]),
    "question of another form": lambda: frame(NOTE_ASKED, marshal.dumps(("a", "b"))),
    "unknown verb": lambda: question(1000),
    "verb below all": lambda: question(-1, b"id"),
    "too few arguments": lambda: question(asks.Get),
    "too many arguments": lambda: question(asks.Get, [], True, False, 1),
    "arguments of other types": lambda: question(asks.Wait, 1, "a", None, False),
    "ids that are none": lambda: asked(asks.Get([b"short", 5], at_once=False)),  # type: ignore[list-item]
    "negative room": lambda: asked(asks.Allocate(-100_000, 0)),
    "room for less than nothing": lambda: asked(asks.Allocate(200_000, -5)),
    "no definition": lambda: asked(asks.Submit(1, b"garbage", b"label", 3, b"", [])),
    "retries that are no number": lambda: asked(asks.Submit(1, b"garbage", b"label", "3", b"", [])),
    "grace that is no number": lambda: asked(asks.Cancel(bytes(28), False, False, "soon")),
    "grace that is nan": lambda: asked(asks.Cancel(bytes(28), False, False, float("nan"))),
    "question about anything": lambda: asked(asks.Info("abort")),
    "bundles that are none": lambda: asked(
        asks.AddGroup(bytes(18), [[("CPU", "x")]], "PACK", "", b"")
    ),
    "half a ref": lambda: frame(NOTE_REFS, b"+" + bytes(10)),
    "ref neither held nor let go": lambda: frame(NOTE_REFS, b"?" + bytes(28)),
    "room never granted": lambda: frame(NOTE_UNUSED, struct.pack("<QQ", 0, 4096)),
    "half a room": lambda: frame(NOTE_UNUSED, b"12345"),
    "view of nothing": lambda: frame(NOTE_KEPT, struct.pack("<QQ", 4096, 1)),
    "state of nobody": lambda: frame(NOTE_SAVED, b"\x80", seq=1 << 40),
    "answer that took nan seconds": lambda: frame(0, b"\x80", times=(1.0, float("nan"), 0.0)),
    "answer that took endless seconds": lambda: frame(0, b"\x80", times=(1.0, float("inf"), 0.0)),
    "retry after nan seconds": lambda: frame(3, b"\x80", times=(1.0, 0.5, float("nan"))),
    "object with a short id": lambda: asked(asks.Put(b"short", b"\x80\x05N.")),
    "counts that are none": lambda: asked(asks.TellOfMap(bytes(24), "RUNNING", ["x"] * 5, [])),  # type: ignore[list-item]
    "item of nobody": lambda: frame(NOTE_YIELDED, bytes(8) + b"\x80\x05N.", seq=1 << 40),
    "item without a number": lambda: frame(NOTE_YIELDED, b"123"),
    "measures that are none": lambda: frame(NOTE_MEASURED, b"garbage"),
}


def write_garbage(kind, started=None, gate=None):
    """Write it into the own answers pipe."""
    os.write(answers(), GARBAGE[kind]())
    if started is not None:
        jobs.say(started)
        jobs.listen(gate)
    return kind


def write_garbage_without_end():
    """Write it until the pipe is full, and then wait for a reader."""
    while True:
        os.write(answers(), b"garbage " * 10_000)


def write_claim(data):
    """Write into the own claims pipe, which one can by its other name."""
    fd = os.open(f"/proc/self/fd/{claims()}", os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def send_single(data):
    """Write into the own pipe of singles, likewise."""
    fd = os.open(f"/proc/self/fd/{singles()}", os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def claim_nothing():
    write_claim(CLAIM.pack(1 << 40))


def claim_in_part():
    write_claim(b"123")


def ring_for_nothing():
    for fd in _find("anon_inode:[eventfd]", os.O_RDWR):
        os.eventfd_write(fd, 1000)


def spoil_page():
    """Write into the page, and try to cut it off."""
    fd = _find("/memfd:aioray-page", os.O_RDWR)[0]  # faulthandler has it, and the mapping
    with_errors = []
    for size in (0, 10, 1 << 20):
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            with_errors.append(error.errno)
    os.pwrite(fd, b"\xff" * 4096, 0)
    return len(with_errors)


def write_to_driver():
    """Write into the socket that only the driver writes to."""
    (fd,) = _find("socket:", os.O_RDWR)
    try:
        while True:
            os.write(fd, b"x" * 10_000)
    except OSError as error:
        return type(error).__name__


class Vandal:
    """An actor that does such things."""

    def write_garbage(self, kind):
        return write_garbage(kind)

    def same(self, value):
        return value


class AsyncVandal:
    async def write_garbage(self, kind):
        return write_garbage(kind)

    async def same(self, value):
        return value


def yield_garbage(kind):
    yield 1
    yield write_garbage(kind)


def forge(payload):
    """Answer for oneself; the real answer follows."""
    os.write(answers(), frame(0, payload))


# ---------------------------------------------------------------- messages of great size


def count_arguments(*args, **kwargs):
    return len(args), len(kwargs)


def lengths(*args, **kwargs):
    return [len(value) for value in (*args, *kwargs.values())]


class Counter:
    def __init__(self, *args):
        self.count = len(args)

    def arguments(self, *args, **kwargs):
        return len(args), len(kwargs)

    def given(self):
        return self.count


def numbers_up_to(count):
    return list(range(count))


def many_from_within(many, long_name):
    refs = [aioray.put(number) for number in range(many)]
    count = aioray.remote(count_arguments).options(name=long_name)
    called = aioray.get(count.remote(*refs))
    named = aioray.get(count.remote(**{f"name{at}": ref for at, ref in enumerate(refs)}))
    several = aioray.remote(num_returns=many)(numbers_up_to).remote(many)
    ready, _ = aioray.wait(several, num_returns=many)
    return [called, named, len(ready), len(aioray.get(several)), len(aioray.get(refs))]


def environment(*names):
    return [os.environ[name] for name in names]


def parent():
    return os.getppid()


def get_many(refs):
    return sum(len(value) for value in aioray.get(refs))


def use_up_descriptors(refs):
    """Get a reply that needs one when there is none left."""
    get_many(refs[:1])  # what that needs is imported then
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fd = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, hard))
    try:
        return get_many(refs)
    finally:
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Deaf:
    def close_bundles(self, started, gate):
        """Close the socket on which attempts come, and stay."""
        for fd in _find("socket:", os.O_RDWR):
            os.close(fd)
        jobs.say(started)
        jobs.listen(gate)

    def same(self, value):
        return value
