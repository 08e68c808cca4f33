"""A worker's output taken apart: which bytes are whose, and what is printed of them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.engine.processes.output import TAIL_LINES, UNFINISHED_SECONDS, LineReader
from aioray.shared.wire import LONGEST_MARK, OUTPUT_MARK, OUTPUT_MARK_BACK, OUTPUT_MARK_END


class Loop:
    """Knows who listens, and what is to be done later."""

    def __init__(self):
        self.listening = set()
        self.timers = []

    def call_later(self, delay, callback, *args):
        handle = TimerHandle(delay, functools.partial(callback, *args))
        self.timers.append(handle)
        return handle

    def pass_time(self):
        """Let every timer that is set now go off."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.callback()

    def add_reader(self, fd, _callback):
        self.listening.add(fd)

    def remove_reader(self, fd):
        self.listening.discard(fd)


class TimerHandle:
    def __init__(self, delay, callback):
        assert delay == UNFINISHED_SECONDS
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class Printer:
    def __init__(self):
        self.prefixes = True
        self.text = ""
        self.bars = []

    def write(self, pid, prefix, lines, *, to_stderr):
        self.text += "".join(f"{prefix}{line}\n" for line in lines)

    def show_progress(self, pid, prefix, state):
        self.bars.append((prefix, state))

    def end_progress(self, pid):
        pass


class Heard(NamedTuple):
    kept: list  # (seq, bytes), what follows each other joined
    printed: str
    bars: list
    tail: list


def hear(pieces, *, to_stderr=False, quiet=False):
    """Everything that a reader makes of these pieces, each read by itself."""
    loop, printer, kept = Loop(), Printer(), []
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def keep(seq, stream, data):
        assert stream == 1 + to_stderr
        assert data
        kept.append((seq, data))

    reader = LineReader(loop, reading, 7, None if quiet else printer, keep, to_stderr=to_stderr)
    try:
        assert loop.listening == {reading}
        for piece in pieces:
            os.write(writing, piece)
            reader.read()
        os.close(writing)
        reader.read()
        assert not loop.listening
        reader.finish()
    finally:
        os.close(reading)
    joined = [
        (seq, b"".join(data for _, data in some))
        for seq, some in itertools.groupby(kept, lambda each: each[0])
    ]
    return Heard(joined, printer.text, printer.bars, reader.tail)


def mark(seq, name=b"f"):
    return OUTPUT_MARK + b"%d;" % seq + name + OUTPUT_MARK_END


def piece(seq, data, name=b"f"):
    return OUTPUT_MARK + b"+%d;" % seq + name + OUTPUT_MARK_END + data + OUTPUT_MARK_BACK


def test_output_belongs_to_the_attempt_of_the_last_mark():
    heard = hear([b"first\n" + mark(3) + b"a\nb" + mark(4, b"g") + b"c\n"])
    assert heard.kept == [(0, b"first\n"), (3, b"a\nb"), (4, b"c\n")]
    assert heard.printed == (
        "(worker pid=7) first\n(f pid=7) a\n(f pid=7) b\n(g pid=7) c\n"  # b's line was not ended
    )


def test_mark_of_the_same_attempt_does_not_end_a_line():
    heard = hear([mark(3) + b"one " + mark(3) + b"line\n"])
    assert heard.kept == [(3, b"one line\n")]
    assert heard.printed == "(f pid=7) one line\n"


def test_after_a_piece_of_another_attempt_the_announced_one_goes_on():
    heard = hear([mark(3) + b"a" + piece(4, b"b", b"g") + piece(4, b"c\n", b"g") + b"d\n"])
    assert heard.kept == [(3, b"a"), (4, b"bc\n"), (3, b"d\n")]
    assert heard.printed == "(f pid=7) a\n(g pid=7) bc\n(f pid=7) d\n"


def test_progress_within_a_line_is_no_output_and_changes_no_attempt():
    bar = OUTPUT_MARK + b'progress;{"n": 1}' + OUTPUT_MARK_END
    heard = hear([mark(3) + b"one " + bar + b"line\n"])
    assert heard.kept == [(3, b"one line\n")]
    assert heard.printed == "(f pid=7) one line\n"
    assert heard.bars == [("(f pid=7) ", b'{"n": 1}')]


@pytest.mark.parametrize(
    "junk",
    [
        OUTPUT_MARK,
        OUTPUT_MARK + OUTPUT_MARK_END,
        OUTPUT_MARK + b"12;f",  # never ended
        OUTPUT_MARK + b"x;f" + OUTPUT_MARK_END,
        OUTPUT_MARK + b"-1;f" + OUTPUT_MARK_END,
        OUTPUT_MARK + b"12" + OUTPUT_MARK_END,
        OUTPUT_MARK + b"12;" + b"f" * LONGEST_MARK + OUTPUT_MARK_END,
        OUTPUT_MARK[:-1],
        b"\x1b",
        b"\x00\xff\xfe\x80",
    ],
)
def test_what_is_no_mark_is_output(junk):
    heard = hear([mark(3) + junk + mark(4) + b"end" + junk])
    assert heard.kept == [(3, junk), (4, b"end" + junk)]


def test_begun_mark_is_not_held_for_longer_than_a_mark_may_be():
    loop, kept = Loop(), []
    reading, writing = os.pipe()
    reader = LineReader(loop, reading, 7, None, lambda *each: kept.append(each), to_stderr=False)
    try:
        os.write(writing, OUTPUT_MARK + b"x" * LONGEST_MARK)
        reader.read()
        assert b"".join(data for _, _, data in kept) == OUTPUT_MARK + b"x" * LONGEST_MARK
    finally:
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def a_reader():
    """Writes to a reader, and gives what it has printed."""
    loop, printer = Loop(), Printer()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reader = LineReader(loop, reading, 7, printer, to_stderr=False)

    def write(data):
        os.write(writing, data)
        reader.read()
        return printer.text

    try:
        yield loop, printer, write
        os.close(writing)
        reader.finish()
        assert not [timer for timer in loop.timers if not timer.cancelled]
    finally:
        os.close(reading)


def test_line_without_an_end_is_printed_after_a_while():
    with a_reader() as (loop, printer, write):
        assert write(mark(3) + b"...") == ""
        assert write(b".") == ""
        loop.pass_time()
        assert printer.text == "(f pid=7) ....\n"
        loop.pass_time()
        assert write(b"done\n") == "(f pid=7) ....\n(f pid=7) done\n"


def test_line_is_not_torn_because_one_before_it_was_slow():
    with a_reader() as (loop, printer, write):
        write(mark(3) + b"slow")
        assert write(b" line\nnext") == "(f pid=7) slow line\n"
        loop.pass_time()
        assert printer.text == "(f pid=7) slow line\n"
        loop.pass_time()
        assert printer.text == "(f pid=7) slow line\n(f pid=7) next\n"


def test_line_that_ends_in_time_is_printed_once():
    with a_reader() as (loop, printer, write):
        write(mark(3) + b"one ")
        write(b"line\n")
        loop.pass_time()
        assert printer.text == "(f pid=7) one line\n"
        assert not loop.timers


@pytest.mark.parametrize("to_stderr", [False, True])
def test_output_is_kept_where_nothing_is_printed(to_stderr):
    heard = hear([mark(3) + b"a\nb"], to_stderr=to_stderr, quiet=True)
    assert heard.kept == [(3, b"a\nb")]
    assert heard.tail == (["a", "b"] if to_stderr else [])  # stderr's explains a death


def test_only_the_last_lines_are_at_hand_to_explain_a_death():
    heard = hear([b"%d\n" % number for number in range(100)], to_stderr=True)
    assert heard.tail == [str(number) for number in range(100 - TAIL_LINES, 100)]


OUTPUTS = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.one_of(
            st.binary(max_size=20),
            st.text("ab\n", max_size=10).map(str.encode),
            st.sampled_from([OUTPUT_MARK, OUTPUT_MARK[:4], OUTPUT_MARK_END, b"\x1b", b"12;f"]),
            st.just(OUTPUT_MARK + b"progress;{}" + OUTPUT_MARK_END),
            st.just(piece(9, b"x")),
        ),
    ),
    max_size=12,
)


@given(OUTPUTS, st.lists(st.integers(0, 400)))
def test_how_the_stream_is_cut_into_reads_changes_nothing(outputs, cuts):
    stream = b"".join(mark(seq) + data for seq, data in outputs)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert hear(pieces) == hear([stream] if stream else [])
    bytewise = [stream[at : at + 1] for at in range(len(stream))]
    assert hear(bytewise, quiet=True).kept == hear(pieces, quiet=True).kept


@given(st.lists(st.tuples(st.integers(1, 5), st.binary(max_size=50)), max_size=12))
def test_every_byte_comes_back_under_its_attempt(outputs):
    heard = hear([mark(seq) + data for seq, data in outputs])
    expected = [
        (seq, b"".join(data for _, data in some))
        for seq, some in itertools.groupby((o for o in outputs if o[1]), lambda each: each[0])
    ]
    assert heard.kept == expected
