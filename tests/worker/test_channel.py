"""A worker's channel, with its descriptors but without a process at either end."""

from __future__ import annotations

import marshal
import mmap
import os
import socket
import threading

import pytest

from aioray.shared import packets
from aioray.shared.asks import Info
from aioray.shared.wire import NOTE_REFS, PAGE_SIZE, WorkerFds
from aioray.worker.channel import Channel
from aioray.worker.interrupts import Interrupts


@pytest.fixture
def ends():
    """The channel, and the driver's ends of its socket and of its pipe."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    bell = os.eventfd(0)
    with mmap.mmap(-1, PAGE_SIZE) as page:
        fds = WorkerFds(theirs.detach(), -1, writer, bell, -1, -1, -1, -1, -1, -1)
        channel = Channel(fds, Interrupts(page))
        yield channel, ours, reader
        ours.close()
        channel.bundles.close()
    for fd in (reader, writer, bell):
        os.close(fd)


def test_idle_worker_does_not_block_where_another_thread_has_read_the_packet(ends):
    channel, driver, _ = ends
    channel.read_if_free()  # there is nothing
    attempt = (1, 1, 1, 0, (), "f", 1, 0, False, (), "", False, None, None, b"", [])
    driver.send(marshal.dumps(([], [attempt])))
    channel.read_if_free()
    assert [each.seq for each in channel.queue] == [1]
    channel.read_if_free()


def test_reply_in_a_memory_file_arrives_whole(ends):
    channel, driver, _ = ends
    channel._replies[7] = None
    packets.send(driver, *packets.pack((7, [b"x" * 200_000])))
    channel.read_if_free()
    assert channel._replies == {7: [b"x" * 200_000]}


def test_reply_to_what_was_forgotten_is_dropped(ends):
    channel, driver, _ = ends
    driver.send(marshal.dumps((9, "late")))
    channel.read_if_free()
    assert channel._replies == {}


def test_what_a_watcher_is_just_told_is_not_forgotten(ends):
    """1. The reply comes. 2. While its watcher is told, its awaiter gives up. 3. The driver does
    not hear of that: it would take back what the watcher has got."""
    channel, driver, reader = ends
    channel._watchers[3] = lambda request, _body: channel.forget(1, request)
    driver.send(marshal.dumps((3, "body")))
    channel.read_if_free()
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    channel._watchers[4] = lambda _request, _body: None
    channel.forget(1, 4)
    assert os.read(reader, 10_000)


def test_functions_that_are_unloaded_are_forgotten(ends):
    channel, driver, _ = ends
    channel.code[5] = b"code"
    gone = []
    channel.unload = gone.append
    driver.send(marshal.dumps(([5, 6],)))
    channel.read_if_free()
    assert (channel.code, gone) == ({}, [5, 6])


def test_news_of_refs_go_before_the_next_frame_and_in_order(ends):
    channel, _, reader = ends
    channel.hold(b"+" + b"a" * 28)
    channel._writing.acquire()  # somebody else writes: it is said later
    channel.let_go(b"-" + b"a" * 28)
    channel._writing.release()
    channel.note(99, b"frame")
    data = os.read(reader, 10_000)
    assert data.index(b"+aaa") < data.index(b"-aaa") < data.index(b"frame")


def test_copy_in_a_forked_process_is_silent_and_says_why_it_cannot_ask(ends):
    channel, _, reader = ends
    channel.after_fork_in_child()
    channel.let_go(b"-" + b"a" * 28)
    channel.release(1)
    with pytest.raises(RuntimeError, match="has forked cannot use aioray"):
        channel.note(99, b"frame")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)


def test_other_threads_wait_for_the_one_that_reads_for_all(ends):
    channel, driver, _ = ends
    channel.read_for_all()
    requests = [channel.begin(1, Info("what")) for _ in range(2)]
    found = [None, None]

    def wait(at):
        found[at] = channel.finish(1, requests[at])

    threads = [threading.Thread(target=wait, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for at in (1, 0):
        driver.send(marshal.dumps((requests[at], f"reply {at}")))
        assert channel.read_if_free()  # nobody else has taken it
        threads[at].join()
    assert found == ["reply 0", "reply 1"]


def test_nobody_else_watches_where_one_reads_for_all(ends):
    channel, driver, _ = ends
    channel.read_for_all()
    told = []
    request = channel.begin(1, Info("what"), watcher=lambda _request, body: told.append(body))
    assert "aioray-replies" not in [thread.name for thread in threading.enumerate()]
    driver.send(marshal.dumps((request, "reply")))
    channel.read_if_free()
    assert told == ["reply"]


def test_cancelled_calls_are_known_as_soon_as_somebody_asks(ends):
    channel, driver, _ = ends
    assert not channel.has_cancelled(4)
    driver.send(marshal.dumps(([1],)))
    driver.send(marshal.dumps((4,)))
    assert channel.has_cancelled(4)
    assert not channel.has_cancelled(5)


# ---------------------------------------------------------------- singles


def attempt(seq, function=1):
    """An attempt as it travels."""
    return (seq, function, seq, 0, (), "f", 1, 0, False, (), "", False, None, None, b"", [])


@pytest.fixture
def lone():
    """The channel, and the driver's ends of socket, singles and doorbell."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    singles, sender = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    reader, writer = os.pipe()
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    with mmap.mmap(-1, PAGE_SIZE) as page:
        fds = WorkerFds(theirs.detach(), -1, writer, bell, -1, -1, -1, -1, -1, singles)
        channel = Channel(fds, Interrupts(page))
        yield channel, ours, sender, bell
        ours.close()
        channel.bundles.close()
    for fd in (singles, sender, reader, writer, bell):
        os.close(fd)


def is_rung(bell):
    try:
        return os.eventfd_read(bell) > 0
    except BlockingIOError:
        return False


def test_single_that_the_driver_has_taken_back_is_none(lone):
    channel, _, sender, _ = lone
    assert channel.take_single() is None
    os.write(sender, marshal.dumps(([], attempt(1))))
    os.read(channel.singles, 4096)  # the driver has this end too
    assert channel.take_single() is None
    assert not channel.is_watched


def test_nobody_rings_from_a_single_until_something_else_is_claimed(lone):
    channel, driver, sender, bell = lone
    channel.note(NOTE_REFS, b"")
    channel.ring()
    assert is_rung(bell)
    os.write(sender, marshal.dumps(([], attempt(1))))
    assert channel.take_single().seq == 1
    channel.note(NOTE_REFS, b"")
    channel.ring()
    assert not is_rung(bell)
    driver.send(marshal.dumps(([], [attempt(2)])))
    assert channel.take_attempt(2).seq == 2
    assert channel.unrung_bytes  # what came in between counts, as nobody may have looked
    channel.ring()
    assert is_rung(bell)


def test_single_finds_the_code_that_came_with_attempts_that_were_taken_back(lone):
    channel, driver, sender, _ = lone
    driver.send(marshal.dumps(([(7, b"code")], [attempt(1, 7)])))
    os.write(sender, marshal.dumps(([], attempt(2, 7))))
    assert channel.take_single().seq == 2
    assert channel.code == {7: b"code"}


def test_single_brings_its_code(lone):
    channel, _, sender, _ = lone
    channel.known.add(8)
    os.write(sender, marshal.dumps(([(7, b"code"), (8, b"known")], attempt(2, 7))))
    assert channel.take_single().seq == 2
    assert channel.code == {7: b"code"}
