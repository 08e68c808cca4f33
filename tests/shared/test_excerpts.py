"""What is written of a part of something larger: what it shows, and no less than before."""

from __future__ import annotations

import copyreg
import sys
import types
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aioray.shared.serialization import Pieces, dump, dump_function, dumps, load

ROWS = 3000
TEXTS = [f"text number {number}, too long to lie in a view" for number in range(ROWS)]
NUMBERS = pa.array(np.arange(ROWS))
HALVES = pa.array([number % 2 for number in range(ROWS)], pa.int8())


class Celsius(pa.ExtensionType):
    """A type that Arrow does not know by its name."""

    def __init__(self):
        super().__init__(pa.int64(), "tests.celsius")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


def dense_union():
    positions = pa.array([number // 2 for number in range(ROWS)], pa.int32())
    members = [pa.array(np.arange(ROWS // 2)), pa.array(TEXTS[: ROWS // 2])]
    return pa.UnionArray.from_dense(HALVES, positions, members)


def dictionary_of_a_slice():
    indices = pa.array([number % 5 for number in range(ROWS)], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(TEXTS).slice(100, 5), ordered=True)


VIEWS = pa.array(TEXTS, pa.string_view())
PAIRS = [[number, number + 1] for number in range(ROWS)]
ARRAYS = {
    "int64": NUMBERS,
    "int64 with nulls": pa.array([None if number % 3 else number for number in range(ROWS)]),
    "bool": pa.array([(True, False, None)[number % 3] for number in range(30_000)]),
    "timestamp": NUMBERS.cast(pa.timestamp("ns", "UTC")),
    "decimal128": NUMBERS.cast(pa.decimal128(30, 2)),
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "binary": pa.array([text.encode() for text in TEXTS]),
    "fixed_size_binary": pa.array([b"12345678"] * ROWS, pa.binary(8)),
    "string_view": VIEWS,
    "binary_view": pa.array([text.encode() for text in TEXTS], pa.binary_view()),
    "list": pa.array([None, *PAIRS[1:]]),
    "large_list": pa.array(PAIRS, pa.large_list(pa.int64())),
    "fixed_size_list": pa.array(PAIRS, pa.list_(pa.int64(), 2)),
    "list_view": pa.array(PAIRS, pa.list_view(pa.int64())),
    "large_list_view": pa.array(PAIRS, pa.large_list_view(pa.int64())),
    "struct": pa.array([{"a": number, "b": text} for number, text in enumerate(TEXTS)]),
    "map": pa.array([[(text, 1)] for text in TEXTS], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(TEXTS[:5] * (ROWS // 5)).dictionary_encode(),
    "dictionary of a slice": dictionary_of_a_slice(),
    "sparse union": pa.UnionArray.from_sparse(HALVES, [NUMBERS, pa.array(TEXTS)]),
    "dense union": dense_union(),
    "run-end encoded": pa.RunEndEncodedArray.from_arrays(
        pa.array(range(2, 2 * ROWS + 2, 2), pa.int32()), NUMBERS
    ),
    "extension": pa.ExtensionArray.from_storage(Celsius(), NUMBERS),
    "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(ROWS * 4).reshape(ROWS, 2, 2)),
    "null": pa.nulls(ROWS),
    "list of views": pa.array([[text] for text in TEXTS], pa.list_(pa.string_view())),
    "list view of views": pa.ListViewArray.from_arrays(
        pa.array(range(ROWS), pa.int32()), pa.array([1] * ROWS, pa.int32()), VIEWS
    ),
    "fixed-size list of views": pa.FixedSizeListArray.from_arrays(VIEWS, 2),
    "map of dictionaries": pa.MapArray.from_arrays(
        pa.array(range(ROWS + 1), pa.int32()), pa.array(TEXTS), dictionary_of_a_slice()
    ),
    "runs of views": pa.RunEndEncodedArray.from_arrays(
        pa.array(range(2, 2 * ROWS + 2, 2), pa.int32()), VIEWS
    ),
    "struct of unions": pa.StructArray.from_arrays(
        [dense_union(), dictionary_of_a_slice()], names=["union", "dictionary"]
    ),
    "sparse union of views": pa.UnionArray.from_sparse(HALVES, [NUMBERS, VIEWS]),
}


@pytest.mark.parametrize("bounds", [(0, 10), (1, 10), (1113, 10), (5, 0), (-7, 7)])
@pytest.mark.parametrize("kind", ARRAYS)
def test_slices_of_arrow_arrays_are_written_without_the_rest(kind, bounds):
    array = ARRAYS[kind]
    start, count = bounds
    part = array.slice(start % len(array), count)
    written = dumps(part)
    again = load(written)
    again.validate(full=True)
    assert again.equals(part)
    assert again.type == part.type
    assert type(again) is type(part)
    assert len(written) < 3000


@pytest.mark.parametrize("kind", ARRAYS)
def test_whole_arrow_arrays_are_not_copied(kind):
    array = ARRAYS[kind]
    if kind == "dictionary of a slice":
        array = pa.concat_arrays([array.dictionary]).take(array.indices).dictionary_encode()
    largest = max((buffer.size for buffer in array.buffers() if buffer is not None), default=0)
    data, _ = dump([array, bytes(200_000)])
    assert isinstance(data, Pieces)
    assert load(data.join())[0].equals(array)
    if "dictionar" in kind or "dense" in kind or "unions" in kind or not largest:
        return  # members of these may be parts
    addresses = {buffer.address for buffer in array.buffers() if buffer is not None}
    written = {pa.py_buffer(piece).address for piece in data.buffers}
    assert addresses <= written


def test_ten_rows_of_a_table_are_ten_rows_wherever_they_lie():
    fields = [pa.field("n", pa.int64(), metadata={"unit": "m"}), pa.field("t", pa.string())]
    schema = pa.schema(fields, metadata={"source": "tests"})
    table = pa.Table.from_arrays([NUMBERS, pa.array(TEXTS)], schema=schema)
    rows = table.slice(1000, 10)
    value = {"table": rows, "others": [rows.to_batches()[0], rows["t"], rows["n"].chunk(0)]}
    written = dumps(value)
    again = load(written)
    assert again["table"].equals(rows, check_metadata=True)
    assert again["table"].schema.equals(schema, check_metadata=True)
    assert again["others"][0].equals(rows.to_batches()[0], check_metadata=True)
    assert again["others"][1:] == value["others"][1:]
    assert len(written) < 5000


def test_a_slice_of_several_chunks_keeps_its_chunks():
    chunks = pa.chunked_array([NUMBERS, NUMBERS, NUMBERS]).slice(ROWS - 5, ROWS + 10)
    written = dumps(chunks)
    assert load(written).num_chunks == 3
    assert load(written).equals(chunks)
    assert NUMBERS.nbytes < len(written) < NUMBERS.nbytes + 2000


def test_functions_and_what_cloudpickle_writes_take_ten_rows_along():
    rows = pa.table({"n": NUMBERS}).slice(1000, 10)
    written, _ = dump_function(lambda: rows)
    assert len(written) < 3000
    assert load(written)().equals(rows)
    assert len(dumps([rows, lambda: rows])) < 5000


def test_a_reducer_that_the_user_has_registered_for_arrow_is_asked(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, type(NUMBERS), lambda array: (len, (b"four",)))
    assert load(dumps([NUMBERS.slice(1, 10), pa.array(TEXTS)]))[0] == 4


def test_what_arrow_cannot_copy_is_written_as_before(monkeypatch):
    def fail(arrays):
        raise pa.ArrowNotImplementedError("concatenation of this type")

    part = NUMBERS.slice(10, 10)
    monkeypatch.setattr(pa, "concat_arrays", fail)
    assert load(dumps(part)).equals(part)


@pytest.mark.parametrize(
    "part",
    [
        np.arange(100_000)[7:17],
        np.arange(100_000)[::10_000],
        np.arange(100_000).reshape(100, 1000)[:, 3],
        np.asfortranarray(np.arange(100_000).reshape(1000, 100))[3:5],
        np.ma.array(np.arange(100_000))[7:17],
        memoryview(bytes(100_000))[7:17],
        memoryview(bytes(100_000))[::10_000],
    ],
    ids=lambda part: type(part).__name__,
)
def test_views_of_memory_are_written_without_the_rest(part):
    written = dumps(part)
    assert len(written) < 2500
    assert np.array_equal(np.asarray(memoryview(load(written))), np.asarray(part))


class Tensor:
    """As much of a torch.Tensor as matters here: numbers, some of which it shows."""

    __slots__ = ("__dict__", "shown", "storage")

    layout = "strided"
    device = types.SimpleNamespace(type="cpu")
    requires_grad = False

    def __init__(self, storage, start=0, stop=None):
        self.storage = storage
        self.shown = slice(start, len(storage) if stop is None else stop)

    def numel(self):
        return len(self.storage[self.shown])

    def element_size(self):
        return 1

    def untyped_storage(self):
        return types.SimpleNamespace(nbytes=lambda: len(self.storage))

    def detach(self):
        return self

    def clone(self):
        return Tensor(self.storage[self.shown])

    def requires_grad_(self, wanted):
        self.requires_grad = wanted

    def __reduce_ex__(self, protocol):
        return Tensor, (self.storage, self.shown.start, self.shown.stop), self.__dict__


@pytest.fixture
def torch(monkeypatch):
    stand_in = types.SimpleNamespace(Tensor=Tensor, strided="strided")
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    return stand_in


def shown(tensor):
    return tensor.storage[tensor.shown]


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"a": [value]}])
def test_a_view_of_a_tensor_is_written_without_the_rest(torch, wrap):
    part: Any = Tensor(bytes(range(200)) * 1000, 7, 17)
    part.label = "kept"
    written = dumps(wrap(part))
    again = load(written)
    again = again if isinstance(again, Tensor) else again["a"][0]
    assert shown(again) == shown(part)
    assert again.label == "kept"
    assert len(written) < 1000


def test_tensors_on_other_devices_are_written_as_they_are(torch):
    part = Tensor(bytes(100_000), 7, 17)
    part.device = types.SimpleNamespace(type="cuda")
    assert len(dumps(part)) > 100_000


def test_one_tensor_twice_in_a_value_is_one_tensor_again(torch):
    part = Tensor(bytes(100_000), 7, 17)
    first, second = load(dumps([part, part]))
    assert first is second


def test_values_are_written_while_torch_is_being_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert load(dumps({"a": 1})) == {"a": 1}
