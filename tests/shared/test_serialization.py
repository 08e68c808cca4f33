"""Values to bytes and back: what comes out is what went in, wherever it lies."""

from __future__ import annotations

import ctypes
import decimal
import functools
import io
import mmap
import pickle
import struct
import sys
import threading
import types
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aioray.shared.serialization import (
    INLINE_LIMIT,
    ArgumentSlot,
    Pieces,
    contained_ids,
    custom_reducers,
    dump,
    dump_function,
    dumps,
    load,
    note_ref,
)

ALIGN = 64


class Ref:
    """Announces itself while it is pickled, like an ObjectRef."""

    def __init__(self, number):
        self.number = number
        self.noted = []

    def binary(self):
        return bytes([self.number]) * 28

    def __reduce__(self):
        self.noted.append(note_ref(self))
        return Ref, (self.number,)


class MyBytes(bytes):
    """Bytes of a type of their own."""


class Holder:
    """Something importable."""

    def __init__(self, value):
        self.value = value


class Nested:
    """Serializes something else while it is serialized."""

    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        return loaded, (dumps(self.inner),)


def loaded(data):
    return load(data)


def joined(value):
    """As bytes, however it was serialized; checks what holds of all that is serialized."""
    data, refs = dump(value)
    if isinstance(data, Pieces):
        assert data.size > INLINE_LIMIT
        assert data.size == sum(len(piece) for piece in data.buffers)
        data = data.join()
        assert len(data) > INLINE_LIMIT
    else:
        assert type(data) is bytes
        assert len(data) <= INLINE_LIMIT
    assert contained_ids(data) == [ref.binary() for ref in refs]
    return data


def aligned(data):
    """The same in memory that begins at a multiple of the page size."""
    memory = memoryview(mmap.mmap(-1, len(data)))
    memory[:] = data
    return memory


def assert_same(got, given):
    """Equal, of the same types, all the way down; arrays bit by bit.

    But for the order of bytes, which numpy's own pickles do not always keep.
    """
    assert type(got) is type(given)
    if isinstance(given, np.ndarray):
        assert got.dtype.newbyteorder("=") == given.dtype.newbyteorder("=")
        assert got.shape == given.shape
        assert got.astype(given.dtype).tobytes() == given.tobytes()
    elif isinstance(given, dict):
        assert list(got) == list(given)
        for key, value in given.items():
            assert_same(got[key], value)
    elif isinstance(given, list | tuple):
        assert len(got) == len(given)
        for one, other in zip(got, given, strict=True):
            assert_same(one, other)
    else:
        assert got == given


# ---------------------------------------------------------------- any value


def arrays():
    kinds = st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(endianness="?"),
        npst.unsigned_integer_dtypes(endianness="?"),
        npst.floating_dtypes(endianness="?"),
        npst.complex_number_dtypes(),
        npst.datetime64_dtypes(),
        npst.timedelta64_dtypes(),
        npst.byte_string_dtypes(max_len=5),
        npst.unicode_string_dtypes(max_len=5),
    )
    shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
    layouts = st.sampled_from(
        [
            lambda array: array,
            lambda array: array.T,
            np.asfortranarray,
            lambda array: array[::-1] if array.ndim else array,
            lambda array: array[..., ::2] if array.ndim else array,
        ]
    )
    made = kinds.flatmap(lambda dtype: npst.arrays(dtype, shapes))
    return st.builds(lambda layout, array: layout(array), layouts, made)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(max_size=200),
    st.binary(max_size=200).map(bytearray),
    st.sets(st.integers()),
    arrays(),
    st.sampled_from([INLINE_LIMIT - 5, INLINE_LIMIT + 1]).map(bytes),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(VALUES)
def test_every_value_comes_back(value):
    data = joined(value)
    assert_same(load(data), value)
    assert_same(load(memoryview(aligned(data)).toreadonly()), value)
    assert dumps(value) == data


@pytest.mark.parametrize(
    "value",
    [
        {1: [2, (3, frozenset({4}))]},
        decimal.Decimal("1.50"),
        range(5),
        ValueError("bad", 3),
        Holder,
        joined,
        np.float32(1.5),
        np.array([None, "x", [1]], dtype=object).tolist(),
        np.dtype([("a", "i4"), ("b", "f8")]),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value),
)
def test_other_importable_things_come_back(value):
    got = load(joined(value))
    assert type(got) is type(value)
    assert repr(got) == repr(value)


def test_identity_inside_a_value_is_kept():
    array = np.arange(50.0)
    shared = [1]
    got = load(joined([shared, shared, array, array]))
    assert got[0] is got[1]
    assert got[2] is got[3]


def test_structured_and_masked_arrays_come_back():
    records = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    assert_same(load(joined(records)), records)
    masked = np.ma.array([1, 2, 3], mask=[False, True, False])
    got = load(joined(masked))
    assert got.tolist() == [1, None, 3]


# ---------------------------------------------------------------- inline or in pieces


@pytest.mark.parametrize("make", [lambda n: "x" * n, bytearray, lambda n: [b"y" * n]])
def test_pickles_up_to_the_limit_are_bytes_and_beyond_it_pieces(make):
    around = len(dumps(make(INLINE_LIMIT - 1000))) + 1000  # the pickle of so many bytes
    last = INLINE_LIMIT - (around - INLINE_LIMIT)
    data, _ = dump(make(last))
    assert type(data) is bytes
    assert len(data) == INLINE_LIMIT
    pieces, _ = dump(make(last + 1))
    assert isinstance(pieces, Pieces)
    assert pieces.size == len(pieces.join()) == INLINE_LIMIT + 1
    assert_same(load(data), make(last))
    assert_same(load(pieces.join()), make(last + 1))


def test_containers_up_to_the_limit_are_bytes_and_beyond_it_pieces():
    head = len(dumps(np.zeros(INLINE_LIMIT - 2000, "u1"))) - (INLINE_LIMIT - 2000)
    last = np.zeros(INLINE_LIMIT - head, "u1")
    data, _ = dump(last)
    assert type(data) is bytes
    assert len(data) == INLINE_LIMIT
    pieces, _ = dump(np.zeros(INLINE_LIMIT - head + 1, "u1"))
    assert isinstance(pieces, Pieces)
    assert pieces.size == len(pieces.join()) == INLINE_LIMIT + 1


def test_pieces_of_an_array_are_its_own_memory():
    array = np.arange(50_000.0)
    pieces, _ = dump({"x": array})
    assert any(np.shares_memory(np.frombuffer(piece, "u1"), array) for piece in pieces.buffers)
    assert max(len(p) for p in pieces.buffers if type(p) is bytes) < 1000


def test_large_bytes_are_taken_as_they_are():
    value = bytes(range(256)) * 401  # a little more than the limit
    pieces, refs = dump(value)
    assert isinstance(pieces, Pieces)
    assert pieces.buffers[1] is value
    assert pieces.size == ALIGN + len(value)
    assert list(refs) == []
    data = pieces.join()
    assert data[0] == 2
    assert data[ALIGN:] == value
    assert_same(load(data), value)
    got = load(memoryview(data))
    assert_same(got, value)
    assert contained_ids(data) == []


def test_only_bytes_longer_than_the_limit_are_taken_as_they_are():
    assert dumps(bytes(INLINE_LIMIT))[0] == 0x80
    assert dumps(bytes(INLINE_LIMIT + 1))[0] == 2
    assert dumps([bytes(INLINE_LIMIT + 1)])[0] == 0x80


@pytest.mark.parametrize("make", [MyBytes, bytearray])
def test_other_kinds_of_large_bytes_keep_their_type(make):
    value = make(b"z" * (INLINE_LIMIT + 1))
    assert_same(load(joined(value)), value)


def test_dumps_joins_what_dump_leaves_in_pieces():
    value = np.arange(100_000)
    pieces, _ = dump(value)
    assert isinstance(pieces, Pieces)
    assert dumps(value) == pieces.join()
    assert dumps(1) == dump(1)[0]


# ---------------------------------------------------------------- buffers in place


@pytest.mark.parametrize("large", [False, True])
def test_buffers_lie_at_multiples_of_64_bytes(large):
    sizes = [1, 63, 64, 65, 127, 129, 1000] + [INLINE_LIMIT + 3] * large
    given_ones = [np.full(size, size % 251, "u1") for size in sizes]
    for more in range(0, ALIGN, 3 if large else 1):  # the pickle before them has any length
        memory = aligned(joined([*given_ones, "x" * more]))
        got = load(memory)
        for one, other in zip(got, given_ones, strict=False):
            assert np.array_equal(one, other)
            assert one.ctypes.data % ALIGN == 0


def test_buffers_of_values_that_were_sent_in_messages_are_aligned_too():
    for count in range(0, 10_000, 97):
        data = joined([np.arange(count), np.arange(3), bytearray(b"abc")])
        numbers, few, own = load(data)
        assert np.array_equal(numbers, np.arange(count))
        assert not numbers.flags.writeable
        assert {array.ctypes.data % ALIGN for array in (numbers, few) if array.size} <= {0}
        assert own == b"abc"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("count", [10, 50_000])
def test_arrays_share_the_memory_and_cannot_change_it(order, count):
    array = np.asarray(np.arange(2.0 * count).reshape(2, count), order=order)
    memory = aligned(joined({"x": array}))
    for data in (memory, memory.toreadonly()):
        got = load(data)["x"]
        assert np.array_equal(got, array)
        assert got.flags[f"{order}_CONTIGUOUS"]
        assert np.shares_memory(got, np.frombuffer(memory, "u1"))
        assert not got.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            got[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            got.flags.writeable = True


def test_bytearrays_are_private_and_can_be_changed():
    memory = aligned(joined([bytearray(b"abc"), np.arange(3)]))
    before = bytes(memory)
    got = load(memory)[0]
    got[0] = 0
    assert bytes(memory) == before


def test_containers_can_be_taken_apart_as_documented():
    ref = Ref(7)
    array = np.arange(5, dtype="u1")
    data = joined([array, ref, array[:0]])
    mark, buffers, ids, length = struct.unpack_from("<B3xIIQ", data)
    assert (mark, buffers, ids) == (1, 2, 1)
    assert struct.unpack_from("<2Q", data, 20) == (5, 0)
    assert data[36:64] == ref.binary()
    assert data[64] == 0x80
    assert data[64 + length - 1 : 64 + length] == pickle.STOP
    start = -(-(64 + length) // ALIGN) * ALIGN
    assert data[start : start + 5] == array.tobytes()


# ---------------------------------------------------------------- memoryviews


VIEWS = {
    "bytes": memoryview(b"abcdef"),
    "of nothing": memoryview(b""),
    "characters": memoryview(b"abc").cast("c"),
    "signed": memoryview(b"\xff\x01").cast("b"),
    "booleans": memoryview(np.array([True, False])),
    "integers": memoryview(np.arange(6, dtype="i4")),
    "of no integers": memoryview(np.arange(0, dtype="i4")),
    "long integers": memoryview(np.arange(6, dtype="u8")),
    "floats": memoryview(np.arange(6, dtype="f4")),
    "doubles, two dimensions": memoryview(np.arange(6.0).reshape(2, 3)),
    "three dimensions": memoryview(np.arange(24, dtype="i2").reshape(2, 3, 4)),
    "bytes, two dimensions": memoryview(b"abcdef").cast("B", (3, 2)),
    "a slice": memoryview(bytes(range(100)))[10:90],
    "writeable": memoryview(bytearray(b"abc")),
    "many": memoryview(np.arange(100_000, dtype="i4")),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("inside", [False, True])
def test_contiguous_memoryviews_keep_format_and_shape(view, inside):
    got = load(joined([view, lambda: None]))[0] if inside else load(joined(view))
    assert type(got) is memoryview
    assert (got.format, got.shape, got.tolist()) == (view.format, view.shape, view.tolist())
    assert got.readonly


def test_large_memoryviews_are_not_copied():
    view = memoryview(np.arange(100_000, dtype="i4"))
    pieces, _ = dump(view)
    assert any(np.shares_memory(np.frombuffer(p, "u1"), np.asarray(view)) for p in pieces.buffers)


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        memoryview(np.arange(12).reshape(3, 4)[:, 1:3]),
        memoryview(np.array(5)),
    ],
    ids=["every second", "backwards", "part of a matrix", "no dimension"],
)
def test_other_memoryviews_come_as_bytes(view):
    assert_same(load(joined(view)), view.tobytes())


ODD_VIEWS = {
    "columns first": memoryview(np.asfortranarray(np.arange(6).reshape(2, 3))),
    "empty, two dimensions": memoryview(np.empty((0, 3))),
    "of a ctypes array": memoryview((ctypes.c_int * 3)(1, 2, 3)),
    "big-endian": memoryview(np.arange(3, dtype=">i4")),
    "complex": memoryview(np.arange(3, dtype="c16")),
    "half": memoryview(np.arange(3, dtype="f2")),
    "records": memoryview(np.zeros(3, dtype=[("a", "i4")])),
}


@pytest.mark.parametrize("view", ODD_VIEWS.values(), ids=ODD_VIEWS)
def test_memoryviews_that_cannot_be_made_again_come_as_bytes(view):
    got = load(joined(view))
    if isinstance(got, memoryview):  # or as they were
        assert (got.format, got.shape) == (view.format, view.shape)
    assert (got if isinstance(got, bytes) else got.tobytes()) == view.tobytes()


# ---------------------------------------------------------------- refs inside


def test_refs_are_collected_and_their_ids_stand_in_the_bytes():
    refs = [Ref(1), Ref(2)]
    for value in ({"a": refs}, [refs, np.arange(50_000)], [refs, lambda: 1]):
        data, found = dump(value)
        assert list(found) == refs
        data = data.join() if isinstance(data, Pieces) else data
        assert data[0] == 1
        assert contained_ids(data) == [b"\1" * 28, b"\2" * 28]
        assert contained_ids(memoryview(data)) == contained_ids(data)
    assert all(noted for ref in refs for noted in ref.noted)


def test_value_with_refs_comes_back():
    array = np.arange(100)
    got = load(joined([Ref(1), array, Ref(2)]))
    assert [got[0].number, got[2].number] == [1, 2]
    assert np.array_equal(got[1], array)


@pytest.mark.parametrize("data", [b"", dumps(1), dumps("\1" * 100), dumps(bytes(200_000))])
def test_values_without_refs_contain_no_ids(data):
    assert contained_ids(data) == []
    assert contained_ids(memoryview(data)) == []


def test_nobody_keeps_a_ref_that_is_pickled_by_hand():
    ref = Ref(1)
    pickle.dumps(ref)
    assert ref.noted == [False]
    dumps(ref)
    pickle.dumps(ref)
    assert ref.noted == [False, True, False]


def test_second_attempt_at_a_value_counts_refs_and_buffers_once():
    ref, array = Ref(3), np.arange(10)
    data, refs = dump([ref, array, lambda: 5])  # plain pickle meets both before it fails
    assert list(refs) == [ref]
    assert ref.noted == [True, True]
    assert struct.unpack_from("<B3xII", data) == (1, 1, 1)
    got = load(data)
    assert np.array_equal(got[1], array)
    assert got[2]() == 5


def test_serializing_inside_of_serializing_has_refs_of_its_own():
    outer, inner, last = Ref(1), Ref(2), Ref(3)
    _, refs = dump([outer, Nested(inner), last])
    assert list(refs) == [outer, last]


def test_failure_leaves_nothing_behind():
    class Refuses:
        def __reduce__(self):
            raise ValueError("never")

    ref = Ref(1)
    with pytest.raises(ValueError, match="never"):
        dump([ref, Refuses()])
    with pytest.raises(TypeError, match="lock"):
        dump([ref, threading.Lock()])
    with pytest.raises(TypeError, match="lock"):
        dump_function(functools.partial(print, ref, threading.Lock()))
    assert note_ref(ref) is False
    assert list(dump(1)[1]) == []


def test_threads_collect_their_own_refs():
    together = threading.Barrier(2)

    class Meets(Ref):
        def __reduce__(self):
            together.wait(100)
            result = super().__reduce__()
            together.wait(100)
            return result

    refs = [Meets(1), Meets(2)]
    found = {}

    def serialize(ref):
        found[ref.number] = list(dump(ref)[1])

    threads = [threading.Thread(target=serialize, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert found == {1: [refs[0]], 2: [refs[1]]}


# ---------------------------------------------------------------- pickle and cloudpickle


def test_plain_pickle_is_tried_first():
    assert dumps(Holder(1)) == pickle.dumps(Holder(1), 5)
    assert b"cloudpickle" not in dumps({"f": joined})


def test_values_of_main_take_their_definitions_along(monkeypatch):
    main = sys.modules["__main__"]
    namespace = {"__name__": "__main__"}
    exec(
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "    def double(self): return helper(self.x)\n"
        "def helper(x): return 2 * x\n",
        namespace,
    )
    monkeypatch.setattr(main, "Point", namespace["Point"], raising=False)
    monkeypatch.setattr(main, "helper", namespace["helper"], raising=False)
    by_name = pickle.dumps(main.Point(4))
    data = dumps([main.Point(4), np.arange(10)])
    function = dumps(main.helper)
    monkeypatch.undo()
    with pytest.raises(AttributeError):
        pickle.loads(by_name)
    got, array = load(data)
    assert got.double() == 8
    assert np.array_equal(array, np.arange(10))
    assert load(function)(3) == 6


def test_a_function_keeps_its_file_for_tracebacks():
    def outer():
        return lambda: 1

    got = load(dumps(outer))
    assert got.__code__.co_filename == __file__
    assert got().__code__.co_filename == __file__
    assert got.__code__ == outer.__code__


def test_modules_registered_by_value_are_taken_along(monkeypatch):
    module = types.ModuleType("aioray_test_of_the_day")
    exec("def treble(x): return 3 * x", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    by_name = dumps(module.treble)
    cloudpickle.register_pickle_by_value(module)
    try:
        data = dumps(module.treble)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert dumps(module.treble) == by_name
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(ModuleNotFoundError):
        load(by_name)
    assert load(data)(5) == 15


def test_lambdas_local_classes_and_closures_come_back():
    class Local:
        def __init__(self, value):
            self.value = value

    bias = 10
    function, instance = load(joined((lambda x: x + bias, Local(3))))
    assert function(1) == 11
    assert instance.value == 3


@pytest.mark.parametrize("value", [threading.Lock(), io.FileIO(0, closefd=False), sys._getframe()])
def test_what_cannot_be_serialized_is_an_error(value):
    with pytest.raises((TypeError, pickle.PicklingError)):
        dump([value])


def test_functions_come_with_what_they_close_over():
    ref, array = Ref(9), np.arange(5)

    def function(x):
        return ref.number, array + x

    data, refs = dump_function(function)
    assert list(refs) == [ref]
    number, total = pickle.loads(data)(1)
    assert number == 9
    assert total.tolist() == [1, 2, 3, 4, 5]


def test_functions_of_modules_are_known_by_name():
    assert pickle.loads(dump_function(joined)[0]) is joined


def test_argument_slots_keep_their_index():
    args, kwargs = load(joined(((ArgumentSlot(0), 1), {"x": ArgumentSlot(3)})))
    assert (args[0].index, kwargs["x"].index) == (0, 3)
    assert isinstance(args[0], ArgumentSlot)


def test_custom_reducers_are_asked_while_they_are_there(monkeypatch):
    monkeypatch.setitem(custom_reducers, Holder, lambda holder: (list, ([holder.value, "again"],)))
    value = {"x": [Holder(1)], "y": np.arange(5), "z": Ref(1)}
    got = load(joined(value))
    assert got["x"] == [[1, "again"]]
    assert not got["y"].flags.writeable
    assert got["z"].number == 1
    assert load(joined(memoryview(b"ab"))) == b"ab"
    function, _ = dump_function(functools.partial(repr, Holder(2)))
    assert pickle.loads(function)() == "[2, 'again']"
    monkeypatch.undo()
    assert type(load(joined(Holder(1)))) is Holder


SCRIPT = """
import functools

@functools.lru_cache(maxsize=7, typed=True)
def table(n):
    return list(range(n))

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def doubled(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)
    return wrapper

outside = doubled(functools.cache(lambda x: x))
inside = functools.cache(doubled(lambda x: x))

@functools.singledispatch
def kind(value):
    return "object"

@kind.register
def _(value: int):
    return "int"

@kind.register(list)
def _(value):
    return [kind(each) for each in value]

class Model:
    n = 5

    @functools.cached_property
    def large(self):
        return self.n * 2

    @functools.lru_cache
    def add(self, x):
        return self.n + x

    @staticmethod
    @functools.cache
    def same(x):
        return x

    @classmethod
    @functools.cache
    def name(cls, x):
        return cls.__name__ + x

    first = functools.partialmethod(lambda self, a, b: (a, b, self.n), 1)

    @functools.singledispatchmethod
    def kind(self, x):
        return "object"

    @kind.register
    def _(self, x: int):
        return "int"
"""


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("table(3)", [0, 1, 2]),
        ("table.cache_parameters()", {"maxsize": 7, "typed": True}),
        ("table.__wrapped__(2)", [0, 1]),
        ("fib(30)", 832040),
        ("outside(2)", 4),
        ("inside(2)", 4),
        ("kind(1), kind('')", ("int", "object")),
        ("kind([1, ''])", ["int", "object"]),
        ("Model().large", 10),
        ("Model().add(1)", 6),
        ("Model.same(2)", 2),
        ("Model.name('s')", "Models"),
        ("Model().first(2)", (1, 2, 5)),
        ("Model().kind(1), Model().kind('')", ("int", "object")),
    ],
)
def test_what_functools_makes_of_functions_of_a_script_comes_back(expression, answer):
    space = {"__name__": "__main__"}
    exec(SCRIPT, space)
    function = eval(f"lambda: ({expression})", space)
    assert load(dumps(function))() == answer
    for name in ("table", "fib", "kind", "Model"):  # as values, too
        load(dumps(space[name]))
    assert function() == answer


def test_a_cache_comes_empty_and_is_one_with_what_it_calls_itself():
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, space)
    space["fib"].note = "mine"
    space["fib"](10)
    fib = load(dumps(space["fib"]))
    assert fib.cache_info().currsize == 0
    assert fib(10) == 55
    assert fib.cache_info().currsize == 11
    assert fib.note == "mine"


@functools.cache
def cached(x):
    return x


@functools.singledispatch
def dispatched(x):
    return x


@pytest.mark.parametrize("function", [cached, dispatched])
def test_what_functools_makes_of_functions_of_a_module_is_known_by_name(function):
    assert load(dumps(function)) is function
    assert load(dumps(lambda: function))() is function
    assert pickle.loads(dump_function(function)[0]) is function
