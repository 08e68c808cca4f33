"""What fuzzers share: how long they run, and values that nobody expects.

A fuzzer says how many examples it takes in a run of all tests; with `--hypothesis-profile=long` it
takes twenty times as many, and others each time.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["ODD_NUMBERS", "anything", "changed", "fuzzed", "jsonable", "odd_text"]

IN_A_RUN = 100  # examples, by the usual profile


def fuzzed(examples: int) -> Any:
    """Set how many examples a test takes in a run of all tests."""
    scale = settings.default.max_examples / IN_A_RUN
    return settings(
        max_examples=max(1, round(examples * scale)),
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )


ODD_NUMBERS = (
    *(0, -1, 1, 255, 2**31, -(2**31), 2**32, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400),
    *(0.5, -0.5, 1e300, -1e300, 5e-324, float("inf"), float("-inf"), float("nan")),
)
STEERING = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202e",
    "\ud800",
    "\x00",
    "\r",
    "\n",
    "\x7f",
)

odd_text = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        (
            *STEERING,
            *("", " ", "-", "--", "=", "!=", "%s", "{}", "{0.__class__}", "[/]", "[bold]x[/red]"),
            *("../..", "/", "/dev/null", "~", "*", "[", "(", "\\", "a" * 5_000, "9" * 5_000),
            *("nan", "inf", "-1", "0", "1e400", "0x10", "true", "None", "auto"),
            *("\uff11\uff12", "\u0661"),  # digits
        )
    ),
    st.lists(st.sampled_from((*STEERING, "a", "[", "]", "=", "%")), max_size=6).map("".join),
)
"""Text, most of all such that steers a terminal, a pattern or a format."""


class Rude:
    """Answers nothing that it is asked."""

    def _no(self, *_: object, **__: object) -> Any:
        raise ZeroDivisionError("rude")

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = _no
    __str__ = __int__ = __float__ = __index__ = __getitem__ = __contains__ = __call__ = _no
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Rude()"


class Named(str):
    """Is a text, but no plain one."""

    __slots__ = ()


class Counted(int):
    """Is a number, but no plain one."""


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(ODD_NUMBERS),
    odd_text,
    st.binary(max_size=20),
)

jsonable = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), odd_text),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text, inner, max_size=4),
    max_leaves=6,
)
"""What JSON can say, and numbers that it cannot."""

anything = st.recursive(
    st.one_of(
        _scalars,
        st.builds(Rude),
        st.builds(object),
        st.sampled_from((int, len, Exception, ValueError("x"), Ellipsis, NotImplemented, 1j)),
        st.builds(Named, odd_text),
        st.builds(Counted, st.integers()),
        st.builds(bytearray),
        st.builds(lambda: lambda: None),
        st.builds(lambda: iter(())),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(_scalars.filter(lambda key: key == key), inner, max_size=4),
        st.dictionaries(odd_text, inner, max_size=4),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=6,
)
"""Any object of Python."""


@st.composite
def changed(draw: Any, data: bytes) -> bytes:
    """Change bytes: flip, cut, double, exchange or insert some."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(found)))
        end = draw(st.integers(begin, min(len(found), begin + 64)))
        how = draw(st.sampled_from(("flip", "cut", "drop", "double", "insert", "fill")))
        if how == "flip" and begin < len(found):
            found[begin] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del found[begin:]
        elif how == "drop":
            del found[begin:end]
        elif how == "double":
            found[begin:begin] = found[begin:end]
        elif how == "insert":
            found[begin:begin] = draw(st.binary(max_size=16))
        elif how == "fill":
            found[begin:end] = draw(st.sampled_from((b"\0", b"\xff", b"\x7f"))) * (end - begin)
    return bytes(found)
