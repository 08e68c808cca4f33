"""Messages over a socket: of any size, with descriptors, whole or not at all."""

from __future__ import annotations

import marshal
import os
import resource
import socket

import pytest

from aioray.shared import packets
from aioray.shared.packets import MAX_PACKET, Cut, Enclosure


@pytest.fixture
def ends():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.fixture
def file(tmp_path):
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    yield fd
    os.close(fd)


MESSAGES = [
    (1, "body"),
    {"fork": 1},
    (["many"] * 5, [(1, b"x" * MAX_PACKET)]),
    tuple(range(100_000)),
    (1, "n" * 300_000),
    (2, [b"small"] * 50_000),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: str(message)[:20])
@pytest.mark.parametrize("count", [0, 3])
def test_message_arrives_as_it_was_whatever_its_size(ends, file, message, count):
    packets.send(ends[0], *packets.pack(message), (file,) * count)
    received, fds, _ = packets.receive(ends[1], count)
    assert received == message
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(file).st_ino] * count
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("size", [MAX_PACKET - 100, MAX_PACKET, MAX_PACKET + 1])
def test_packet_is_never_longer_than_allowed(size):
    packet, _ = packets.pack((1, b"x" * size))
    assert len(packet) <= MAX_PACKET


def test_long_strings_are_found_where_they_were_placed(ends):
    enclosure = Enclosure()
    values = [b"", b"short", bytes(5000), b"x" * 300_000, b"y" * 4096, (0, 1, 2)]
    places = [enclosure.enclose(value) for value in values]
    packets.send(ends[0], *packets.pack(([], places * 3000), enclosure))
    (_, received), fds, area = packets.receive(ends[1], 0)
    assert area is not None
    assert fds == []
    assert received == places * 3000
    found = [
        bytes(area[place[0] : sum(place)]) if type(place) is tuple and len(place) == 2 else place
        for place in received[: len(values)]
    ]
    assert found == values
    assert [type(place) for place in places[:3]] == [bytes, bytes, tuple]


def test_end_of_the_other_end_is_told(ends):
    ends[0].close()
    assert packets.receive(ends[1], 0) == (None, [], None)


def test_packet_that_was_cut_is_no_message(ends):
    ends[0].send(marshal.dumps((1, b"x" * 3 * MAX_PACKET))[: 2 * MAX_PACKET + 1])
    with pytest.raises(Cut, match="was cut"):
        packets.receive(ends[1], 0)


@pytest.mark.parametrize(("message", "known"), [((7, "a"), (7, "a")), ((7, "a" * 100_000), 12)])
def test_lost_descriptors_are_told_with_what_is_known_of_the_message(ends, file, message, known):
    packets.send(ends[0], *packets.pack(message, number=12), (file,) * 5)
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(file)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        with pytest.raises(Cut, match="could not be received") as caught:
            packets.receive(ends[1], 5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.message == known
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_is_made_when_it_is_sent_and_closed_then(ends):
    before = len(os.listdir("/proc/self/fd"))
    packet, enclosure = packets.pack((1, b"x" * 100_000))
    assert len(os.listdir("/proc/self/fd")) == before
    packets.send(ends[0], packet, enclosure)
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_that_cannot_be_made_leaves_nothing_and_can_be_tried_again(ends, monkeypatch):
    packet, enclosure = packets.pack((1, b"x" * 100_000))
    before = len(os.listdir("/proc/self/fd"))

    def full(*_):
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="full"):
            packets.send(ends[0], packet, enclosure)
    assert len(os.listdir("/proc/self/fd")) == before
    packets.send(ends[0], packet, enclosure)
    assert packets.receive(ends[1], 0)[0] == (1, b"x" * 100_000)
