"""Values to bytes and back: pickle 5 first, cloudpickle where pickle would not do.

Room: shared; knows refs only as things that announce themselves while being
pickled (`note_ref`). A value is a plain pickle (it begins with 0x80); or, if it has out-of-band
buffers or contains refs, a container (it begins with 0x01) in which the buffers lie aligned and can
be used in place: arrays loaded from it share its memory and are read-only; or large `bytes` as they
are (it begins with 0x02).

What is larger than `INLINE_LIMIT` comes as `Pieces`, which still lie where the value has them, to
be copied once into the place where they will stay.

pickle "succeeds" on what lives in `__main__` by writing a name that no worker can resolve, so the
bytes are searched for that name and cloudpickle, which takes definitions along, does it again. The
same goes for modules registered with `cloudpickle.register_pickle_by_value`, and if any class has a
serializer of its own (`aioray.util.register_serializer`).

What is written is what the value shows: where a class would write the whole that a value is a part
of, such as the table behind ten rows, `excerpts` says what to write instead.
"""

from __future__ import annotations

import copyreg
import ctypes
import io
import pickle
import struct
import sys
import threading
from collections import ChainMap
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from .functools_reducers import REDUCERS, is_dispatcher, reduce_dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "HEAD_SIZE",
    "INLINE_LIMIT",
    "SHARED_BY_NOBODY",
    "ArgumentSlot",
    "Pieces",
    "Private",
    "contained_ids",
    "custom_reducers",
    "dump",
    "dump_function",
    "dumps",
    "load",
    "note_ref",
    "private",
    "span_of_ids",
    "split_ids",
]

INLINE_LIMIT = 100 * 1024
"""Bytes up to which a serialized value is part of messages and lives with the driver; as in Ray."""

_HEADER = struct.Struct("<B3xIIQ")  # mark, buffers, contained ids, length of the pickle
_MARK = 1
_RAW = 2  # followed by padding up to _ALIGN, and the bytes
_PLAIN = 0x80  # first byte of every pickle of protocol 2 and later
_ID_SIZE = 28
_ALIGN = 64  # bytes; what vector instructions like
_CASTABLE = frozenset("bBhHiIlLqQnNfd?c")  # formats that a memoryview can be cast to
_by_value = cloudpickle.list_registry_pickle_by_value
_modules = sys.modules


custom_reducers: dict[type, Callable[[Any], tuple[Any, ...]]] = {}
"""What `__reduce__` would return, for classes that were registered."""


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
    """Note a ref that is being pickled; return whether whoever pickles will keep it alive."""
    refs = _collector.refs
    if refs is None:
        return False
    refs.append(ref)
    return True


class Pieces:
    """A large serialized value: buffers that are to stand one after the other."""

    __slots__ = ("buffers", "size")

    def __init__(self, buffers: Sequence[bytes | memoryview], size: int) -> None:
        self.buffers = buffers
        self.size = size  # bytes, of all together

    def join(self) -> bytes:
        """Join the buffers into one."""
        return b"".join(self.buffers)


class Private:
    """Pickles as its value, whose arrays are then the reader's own, and can be written to.

    They are copied when they are read, as between the processes of the standard library, where the
    arrays of other values share the memory of what was sent. What is read-only stays so.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (pickle.PickleBuffer(_in_band(self.value)),)


SHARED_BY_NOBODY: Final = frozenset((type(None), bool, bytes, float, int, str))
"""Types whose values need not be made the reader's own."""


def private(value: Any) -> Any:
    """Return what travels for a value that is to be the reader's own: itself, or a `Private`."""
    return value if type(value) in SHARED_BY_NOBODY else Private(value)


def _in_band(value: Any) -> bytes:
    """Pickle a value with all its buffers; refs are noted for whoever pickles around it."""
    if not (custom_reducers or _by_value() or "torch" in _modules or "pyarrow" in _modules):
        collected = len(_collector.refs or ())
        try:
            data = pickle.dumps(value, 5)
            if b"_main__" not in data:
                return data
        except Exception:  # noqa: BLE001, S110 - whatever a foreign __reduce__ may raise
            pass
        if _collector.refs:
            del _collector.refs[collected:]
    return _by_cloudpickle(value, None)


def dump(value: Any) -> tuple[bytes | Pieces, Sequence[Any]]:
    """Serialize a value: its bytes, or if they are many its pieces, and the refs it contains.

    Raises whatever pickling raises, usually TypeError or pickle.PicklingError.
    """
    if type(value) is bytes and len(value) > INLINE_LIMIT:
        head = bytes((_RAW,)).ljust(_ALIGN, b"\0")
        return Pieces((head, value), _ALIGN + len(value)), ()
    outer = _collector.refs
    refs: list[Any] = []
    _collector.refs = refs
    try:
        buffers: list[pickle.PickleBuffer] = []
        try:
            if "torch" in _modules:
                data = _by_pickle_with_tensors(value, buffers)
            else:
                data = pickle.dumps(value, 5, buffer_callback=buffers.append)
            if buffers and "pyarrow" in _modules and any(map(_is_of_arrow, buffers)):
                buffers.clear()
                refs.clear()
                data = _by_pickler_with(_REDUCERS, value, buffers)
            plain = b"_main__" not in data and not _by_value() and not custom_reducers
        except Exception:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
            plain = False
        if not plain:
            buffers.clear()
            refs.clear()
            data = _by_cloudpickle(value, buffers.append)
    finally:
        _collector.refs = outer
    if buffers or refs:
        return _container(data, buffers, refs), refs
    if len(data) > INLINE_LIMIT:
        return Pieces((data,), len(data)), refs
    return data, refs


class _Excerpts(dict[type, "Callable[[Any], Any]"]):
    """A table for picklers: the classes of what may be a part of something larger."""

    def __missing__(self, cls: type) -> Callable[[Any], Any]:
        if "pyarrow" in _modules or "torch" in _modules:
            from .excerpts import reducer_for

            reducer = reducer_for(cls)
            if reducer is not None:
                self[cls] = reducer
                return reducer
        raise KeyError(cls)


_excerpts = _Excerpts()


_REDUCERS: Final = ChainMap(copyreg.dispatch_table, _excerpts)


def _by_pickle_with_tensors(value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    """Pickle a value, tensors as excerpts at once: a first try would write all their storage."""
    tensor = getattr(_modules["torch"], "Tensor", None)
    if tensor is None:  # it is being imported
        return pickle.dumps(value, 5, buffer_callback=buffers.append)
    return _by_pickler_with({**copyreg.dispatch_table, tensor: _excerpts[tensor]}, value, buffers)


def _by_pickler_with(table: Any, value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    with io.BytesIO() as file:
        pickler = pickle.Pickler(file, 5, buffer_callback=buffers.append)
        pickler.dispatch_table = table
        pickler.dump(value)
        return file.getvalue()


def _is_of_arrow(buffer: pickle.PickleBuffer) -> bool:
    return type(buffer.raw().obj).__module__ == "pyarrow.lib"


def dumps(value: Any) -> bytes:
    """Serialize a value to bytes, however many. Raises what `dump` raises."""
    data = dump(value)[0]
    return data.join() if isinstance(data, Pieces) else data


def dump_function(function: Any) -> tuple[bytes, Sequence[Any]]:
    """Serialize a function with what it closes over: its bytes, and the refs it captured."""
    outer = _collector.refs
    refs: list[Any] = []
    _collector.refs = refs
    try:
        return _by_cloudpickle(function, None), refs
    finally:
        _collector.refs = outer


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    shape = view.shape if view.ndim > 1 else None
    lacks = 0 in (shape or ()) or view.ndim == 0  # something that a cast cannot give back
    if lacks or not view.c_contiguous or view.format not in _CASTABLE:
        return bytes, (view.tobytes(),)
    return _memoryview, (pickle.PickleBuffer(view), view.format, shape)


def _memoryview(buffer: Any, kind: str, shape: tuple[int, ...] | None) -> Any:
    view: Any = memoryview(buffer).cast("B")
    if shape is not None:
        return view.cast(kind, shape)
    return view if kind == "B" else view.cast(kind)


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Reduce code with its file, which tracebacks need and cloudpickle leaves out since 3.1.3."""
    make, arguments = _reduce_code_without_file(code)
    return _code_of_file, (code.co_filename, make, arguments)


def _code_of_file(filename: str, make: Callable[..., CodeType], arguments: Any) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


_reduce_code_without_file = cloudpickle.Pickler.dispatch_table[CodeType]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: Final = ChainMap(
        custom_reducers,
        {memoryview: _reduce_memoryview, CodeType: _reduce_code, **REDUCERS},
        cloudpickle.Pickler.dispatch_table,
        _excerpts,
    )

    def reducer_override(self, value: Any) -> Any:
        """Reduce a dispatcher, else as cloudpickle, which asks here for functions and classes."""
        if type(value) is FunctionType and is_dispatcher(value):
            return reduce_dispatcher(value)
        return super().reducer_override(value)


def _by_cloudpickle(value: Any, buffer_callback: Callable[[Any], Any] | None) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def _container(data: bytes, buffers: list[pickle.PickleBuffer], refs: list[Any]) -> bytes | Pieces:
    views = [buffer.raw() for buffer in buffers]
    ids = [ref.binary() for ref in refs]
    pieces: list[bytes | memoryview] = [
        _HEADER.pack(_MARK, len(views), len(ids), len(data)),
        struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views)),
        *ids,
        data,
    ]
    position = _HEADER.size + 8 * len(views) + _ID_SIZE * len(ids) + len(data)
    for view in views:
        pieces.append(bytes(-position % _ALIGN))
        pieces.append(view)
        position += -position % _ALIGN + view.nbytes
    if position > INLINE_LIMIT:
        return Pieces(pieces, position)
    return b"".join(pieces)


HEAD_SIZE: Final = _HEADER.size
"""Bytes at the beginning of a serialized value that tell where the ids of its refs are."""


def span_of_ids(head: bytes) -> tuple[int, int]:
    """Return where in a serialized value the ids of its refs begin, and their length in bytes.

    head: its first HEAD_SIZE bytes. Raises struct.error if they are fewer, and it may have refs.
    """
    if not head or head[0] != _MARK:
        return 0, 0
    _, buffers, ids, _ = _HEADER.unpack_from(head)
    return _HEADER.size + 8 * buffers, _ID_SIZE * ids


def split_ids(data: bytes) -> list[bytes]:
    """Split bytes into the ids that stand there one after the other."""
    return [data[at : at + _ID_SIZE] for at in range(0, len(data), _ID_SIZE)]


def contained_ids(data: bytes) -> list[bytes]:
    """Return the ids of the refs inside a serialized value, without loading it.

    Raises ValueError or struct.error for what is no such value.
    """
    start, size = span_of_ids(data)
    if not start:
        return []
    if start + size > len(data):
        raise ValueError("a value that was cut off")
    return split_ids(data[start : start + size])


def _aligned(data: bytes) -> memoryview:
    """Copy bytes to where vector instructions like them to begin; `bytes` begin anywhere."""
    area = bytearray(len(data) + _ALIGN)
    start = -ctypes.addressof((ctypes.c_char * 0).from_buffer(area)) % _ALIGN
    copy = memoryview(area)[start : start + len(data)]
    copy[:] = data
    return copy.toreadonly()


def load(data: bytes | memoryview) -> Any:
    """Load a value; arrays in it share the memory of `data`, or of a copy, and are read-only.

    Their buffers begin at multiples of 64 bytes.
    """
    if data[0] == _PLAIN:
        return pickle.loads(data)
    if data[0] == _RAW:
        return bytes(data[_ALIGN:])
    _, buffers, ids, length = _HEADER.unpack_from(data)
    view = _aligned(data) if buffers and type(data) is bytes else memoryview(data).toreadonly()
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
