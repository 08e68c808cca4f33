"""Messages of any size over a SOCK_SEQPACKET socket, with descriptors attached.

Room: shared; stdlib only. One packet is one marshalled message,
which is no list. A message that is too large for a packet lies in a memory file, which travels with
the packet as its last descriptor; the packet is then a list: where in the file the message begins,
and a number that tells what it was about should the file get lost. Long byte strings of a message
can lie in that file too, so that they are copied once (`Enclosure.enclose`).

What is received is whole, or `Cut` is raised: a message is never taken for a shorter one.
"""

from __future__ import annotations

import array
import contextlib
import marshal
import mmap
import os
import socket
from typing import Any

__all__ = ["MAX_PACKET", "Cut", "Enclosure", "pack", "receive", "send"]

MAX_PACKET = 64 * 1024  # bytes of a packet; above, a memory file is the faster way too
LONG = 4 * 1024  # bytes from which a byte string is worth a place of its own
ALIGN = 64  # bytes, of what has one

_FD = array.array("i").itemsize
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)  # not the enum, whose operators take a microsecond
_CUT, _FDS_CUT = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)


class Cut(OSError):  # noqa: N818  # the name says what happened
    """Not all of a packet has arrived: there was no room for its bytes or its descriptors.

    message: the message if its bytes are there, else the number that was sent in its place.
    """

    def __init__(self, text: str, message: Any = None) -> None:
        super().__init__(text)
        self.message = message


class Enclosure:
    """The memory file that goes with one packet. It is not made before it is needed."""

    __slots__ = ("_fd", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[tuple[int, bytes]] = []
        self._size = 0
        self._fd = -1

    def lay(self, data: bytes) -> int:
        """Let these bytes be in the file, and return where they begin."""
        start = self._size + -self._size % ALIGN
        self._parts.append((start, data))
        self._size = start + len(data)
        return start

    def enclose(self, data: Any) -> Any:
        """Lay a long byte string, and return its start and length; return others as they are."""
        if type(data) is not bytes or len(data) < LONG:
            return data
        return self.lay(data), len(data)

    def open(self) -> int:
        """Return the descriptor, which is this object's; OSError if the file cannot be made."""
        if self._fd < 0:
            fd = os.memfd_create("aioray-message")
            try:
                for start, data in self._parts:
                    _write(fd, data, start)
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd
        return self._fd

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        position += written
        view = view[written:]


def pack(
    message: Any, enclosure: Enclosure | None = None, number: int = 0
) -> tuple[bytes, Enclosure | None]:
    """Return the packet for a message, and the file that goes with it if one has to.

    enclosure: where parts of the message lie already. number: see `Cut`.
    """
    packet = marshal.dumps(message)
    if len(packet) > MAX_PACKET:
        enclosure = enclosure or Enclosure()
        packet = marshal.dumps([enclosure.lay(packet), number])
    return packet, enclosure


def send(
    sock: socket.socket, packet: bytes, enclosure: Enclosure | None, fds: tuple[int, ...] = ()
) -> None:
    """Send what `pack` has returned. Raises OSError; then it can be tried again."""
    if enclosure is None and not fds:
        sock.send(packet)
        return
    if enclosure is not None:
        fds = (*fds, enclosure.open())
    socket.send_fds(sock, [packet], fds)
    if enclosure is not None:
        enclosure.close()


def receive(
    sock: socket.socket, fds: int, flags: int = 0
) -> tuple[Any, list[int], memoryview | None]:
    """Receive a message, its descriptors, and its memory file, mapped. None: the sender is gone.

    fds: how many descriptors a message has, besides that file, if it has any.
    Raises Cut, having closed what has arrived; OSError if the socket, or the file, cannot be read;
    what marshal raises for what is no message.
    """
    data, ancillary, told, _ = sock.recvmsg(
        2 * MAX_PACKET, socket.CMSG_SPACE((fds + 1) * _FD), _CLOEXEC | flags
    )
    if not ancillary and not told & (_CUT | _FDS_CUT):
        return (marshal.loads(data) if data else None), [], None
    found = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % _FD])
    received = list(found)
    try:
        if told & _CUT:
            raise Cut(f"a packet of more than {len(data):,} bytes was cut")
        message = marshal.loads(data)
        if told & _FDS_CUT:
            if type(message) is list:
                message = message[1]
            raise Cut("descriptors that were sent along could not be received", message)
        area = None
        if type(message) is list or len(received) > fds:
            area = _mapped(received.pop())
            if type(message) is list:
                message = marshal.loads(area[message[0] :])
    except BaseException:
        for fd in received:
            with contextlib.suppress(OSError):
                os.close(fd)
        raise
    return message, received, area


def _mapped(fd: int) -> memoryview:
    """Map a memory file for reading, and close its descriptor."""
    try:
        return memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
    finally:
        os.close(fd)
