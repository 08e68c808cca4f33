"""What is written of a value that is a part of something larger: what it shows, not the whole.

Room: shared, and loaded by `serialization` only for values that have Arrow
arrays or torch tensors in them. It imports neither library unless the program has.

A slice of an Arrow array has the buffers of the whole, and pickles them; so do the columns of a
slice of a table, a record batch and a chunked array, all of which are pickled as their arrays. A
view of a torch tensor pickles the whole storage. Here such a part is copied first, and what is
whole stays where it is. Views of NumPy arrays and of memory write what they show by themselves.

Wart: values of an Arrow dictionary that no row of a slice refers to are part of what it shows, as
in Arrow's own formats.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reducer_for"]

SLACK = 1024  # bytes that may be written without being shown, and a sixteenth of what is


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """Return a function that reduces instances of this class; None if they are parts of nothing."""
    arrow, torch = sys.modules.get("pyarrow"), sys.modules.get("torch")
    if cls is getattr(torch, "Tensor", None):
        return _reduce_tensor
    if getattr(arrow, "Array", None) in cls.__mro__:
        return _reduce_array
    return None


def _is_wasteful(stored: int, shown: int) -> bool:
    return stored - shown > max(SLACK, shown // 16)


# --- Arrow --------------------------------------------------------------------------------------


def _reduce_array(array: Any) -> Any:
    try:
        excerpt = _excerpt_of_array(array)
    except Exception:  # noqa: BLE001 - whatever this version of Arrow cannot do with this type
        excerpt = array
    return excerpt.__reduce_ex__(5)


def _excerpt_of_array(array: Any) -> Any:
    """Return an equal array that has little more than it shows: the same one, or a copy."""
    stored = array.get_total_buffer_size()
    has_views = _some(array.type, _is_view)  # what these do not refer to counts as shown
    if not has_views and not _is_wasteful(stored, array.nbytes):
        return array
    copy = _copy(array)
    copy.validate()
    same = copy.type == array.type and type(copy) is type(array) and len(copy) == len(array)
    return copy if same and _is_wasteful(stored, copy.get_total_buffer_size()) else array


def _copy(array: Any) -> Any:
    """Copy what an array shows. The copy has its length, order and type."""
    import pyarrow as pa

    kind = array.type
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(_copy(array.storage))
    if types.is_dictionary(kind):
        indices, values = _copy(array.indices), _copy(array.dictionary)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered, safe=False)
    if _is_bytes_view(kind):
        plain = pa.large_string() if "string" in str(kind) else pa.large_binary()
        return array.cast(plain).cast(kind)
    if types.is_union(kind) and kind.mode == "dense":
        return _copy_of_dense_union(array)
    copy = pa.concat_arrays([array])
    if not _some(kind, _is_special):
        return copy
    if types.is_run_end_encoded(kind):
        return pa.RunEndEncodedArray.from_arrays(copy.run_ends, _copy(copy.values), kind)
    if types.is_struct(kind) or types.is_union(kind):
        members = [_copy(copy.field(number)) for number in range(kind.num_fields)]
    else:  # a list of some kind
        members = [_copy(copy.values)]
    own = copy.buffers()[: kind.num_buffers]
    return pa.Array.from_buffers(kind, len(copy), own, copy.null_count, 0, members)


def _copy_of_dense_union(array: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, start, end = array.type, array.offset, array.offset + len(array)
    _, codes, offsets = array.buffers()[:3]  # the attribute `offsets` is wrong for a slice
    codes = pa.Array.from_buffers(pa.int8(), end, [None, codes]).slice(start)
    offsets = pa.Array.from_buffers(pa.int32(), end, [None, offsets]).slice(start)
    members = []
    for number, code in enumerate(kind.type_codes):
        member = array.field(number)
        is_of_member = pc.equal(codes, pa.scalar(code, pa.int8()))
        bounds = pc.min_max(offsets.filter(is_of_member))
        first, last = bounds["min"].as_py(), bounds["max"].as_py()
        if first is None:
            member = member.slice(0, 0)
        else:
            member = member.slice(first, last - first + 1)
            moved = pc.subtract(offsets, pa.scalar(first, pa.int32()))
            offsets = pc.if_else(is_of_member, moved, offsets)
        members.append(_copy(member))
    # Copied, so that they begin where their buffers begin. A union has no nulls of its own.
    own = [None, pa.concat_arrays([codes]).buffers()[1], pa.concat_arrays([offsets]).buffers()[1]]
    return pa.Array.from_buffers(kind, len(array), own, 0, 0, members)


def _some(kind: Any, test: Callable[[Any], bool]) -> bool:
    """Tell whether `test` holds for an Arrow type, or for one inside it."""
    import pyarrow as pa

    if test(kind):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return _some(kind.storage_type, test)
    if pa.types.is_dictionary(kind):
        return _some(kind.value_type, test)
    return any(_some(kind.field(number).type, test) for number in range(kind.num_fields))


def _is_bytes_view(kind: Any) -> bool:
    return str(kind) in ("string_view", "binary_view")


def _is_view(kind: Any) -> bool:
    return _is_bytes_view(kind) or str(kind).startswith(("list_view<", "large_list_view<"))


def _is_special(kind: Any) -> bool:
    """Tell whether `pyarrow.concat_arrays` copies more of an array of this type than it shows."""
    import pyarrow as pa

    return (
        _is_bytes_view(kind)
        or pa.types.is_dictionary(kind)
        or (pa.types.is_union(kind) and kind.mode == "dense")
    )


# --- torch --------------------------------------------------------------------------------------


def _reduce_tensor(tensor: Any) -> Any:
    """Reduce a torch.Tensor by its `__reduce_ex__`, or a copy if it is a view of a large one.

    pickle writes the storage of each tensor by itself, so tensors that share memory do not share it
    after loading, copied here or not.
    """
    try:
        excerpt = _excerpt_of_tensor(tensor)
    except Exception:  # noqa: BLE001 - whatever this version of torch cannot do with this tensor
        excerpt = tensor
    return excerpt.__reduce_ex__(5)


def _excerpt_of_tensor(tensor: Any) -> Any:
    import torch

    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return tensor
    shown = tensor.numel() * tensor.element_size()
    if not _is_wasteful(tensor.untyped_storage().nbytes(), shown):
        return tensor
    copy = tensor.detach().clone()
    copy.requires_grad_(tensor.requires_grad)
    copy.__dict__.update(tensor.__dict__)
    return copy
