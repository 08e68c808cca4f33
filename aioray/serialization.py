"""Values to bytes and back: pickle 5 first, cloudpickle where pickle would not do.

Room: shared by driver and worker; knows refs only as things that announce themselves while being
pickled (`note_ref`). A value is either a plain pickle (it begins with 0x80) or, if it has
out-of-band buffers or contains refs, a container (it begins with 0x01) in which the buffers lie
aligned and can be used in place: arrays loaded from it share its memory and are read-only.

pickle "succeeds" on what lives in `__main__` by writing a name that no worker can resolve, so the
bytes are searched for that name and cloudpickle, which takes definitions along, does it again. The
same goes for modules registered with `cloudpickle.register_pickle_by_value`.
"""

from __future__ import annotations

import pickle
import struct
import threading
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ArgumentSlot", "contained_ids", "dump", "dump_function", "load", "note_ref"]

_HEADER = struct.Struct("<B3xIIQ")  # mark, buffers, contained ids, length of the pickle
_MARK = 1
_PLAIN = 0x80  # first byte of every pickle of protocol 2 and later
_ID_SIZE = 28
_ALIGN = 64  # bytes; what vector instructions like
_by_value = cloudpickle.list_registry_pickle_by_value


class _Collector(threading.local):
    """The refs met by the pickling that runs in this thread; None outside of any."""

    refs: list[Any] | None = None


_collector = _Collector()


class ArgumentSlot:
    """Stands in pickled arguments where a top-level ref was: `index` into the attempt's values."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[ArgumentSlot], tuple[int]]:
        return ArgumentSlot, (self.index,)


def note_ref(ref: Any) -> bool:
    """Called by a ref that is being pickled: True if whoever pickles will keep it alive."""
    refs = _collector.refs
    if refs is None:
        return False
    refs.append(ref)
    return True


def dump(value: Any) -> tuple[bytes, Sequence[Any]]:
    """Serialize a value: its bytes, and the refs it contains.

    Raises whatever pickling raises, usually TypeError or pickle.PicklingError.
    """
    outer = _collector.refs
    refs: list[Any] = []
    _collector.refs = refs
    try:
        buffers: list[pickle.PickleBuffer] = []
        try:
            data = pickle.dumps(value, 5, buffer_callback=buffers.append)
            plain = b"_main__" not in data and not _by_value()
        except Exception:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
            plain = False
        if not plain:
            buffers.clear()
            refs.clear()
            data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    finally:
        _collector.refs = outer
    if buffers or refs:
        data = _pack(data, buffers, refs)
    return data, refs


def dump_function(function: Any) -> tuple[bytes, Sequence[Any]]:
    """Serialize a function with what it closes over: its bytes, and the refs it captured."""
    outer = _collector.refs
    refs: list[Any] = []
    _collector.refs = refs
    try:
        return cloudpickle.dumps(function, protocol=5), refs
    finally:
        _collector.refs = outer


def _pack(data: bytes, buffers: list[pickle.PickleBuffer], refs: list[Any]) -> bytes:
    views = [buffer.raw() for buffer in buffers]
    ids = [ref.binary() for ref in refs]
    parts: list[bytes | memoryview] = [
        _HEADER.pack(_MARK, len(views), len(ids), len(data)),
        struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views)),
        *ids,
        data,
    ]
    position = _HEADER.size + 8 * len(views) + _ID_SIZE * len(ids) + len(data)
    for view in views:
        parts.append(bytes(-position % _ALIGN))
        parts.append(view)
        position += -position % _ALIGN + view.nbytes
    return b"".join(parts)


def contained_ids(data: bytes) -> list[bytes]:
    """The ids of the refs inside a serialized value, without loading it."""
    if not data or data[0] != _MARK:
        return []
    _, buffers, ids, _ = _HEADER.unpack_from(data)
    start = _HEADER.size + 8 * buffers
    return [data[at : at + _ID_SIZE] for at in range(start, start + ids * _ID_SIZE, _ID_SIZE)]


def load(data: bytes | memoryview) -> Any:
    """The value again; arrays in it share the memory of `data` and are read-only."""
    if data[0] == _PLAIN:
        return pickle.loads(data)
    _, buffers, ids, length = _HEADER.unpack_from(data)
    view = memoryview(data).toreadonly()
    sizes = struct.unpack_from(f"<{buffers}Q", data, _HEADER.size)
    position = _HEADER.size + 8 * buffers + _ID_SIZE * ids
    inband = view[position : position + length]
    position += length
    outband = []
    for size in sizes:
        position += -position % _ALIGN
        outband.append(view[position : position + size])
        position += size
    return pickle.loads(inband, buffers=outband)
