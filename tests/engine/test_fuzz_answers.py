"""What stands in a worker's pipe is taken apart alike in whatever pieces it comes."""

from __future__ import annotations

import os
import pickle

from hypothesis import given
from hypothesis import strategies as st

from aioray.engine.processes.inbound import AnswerReader
from aioray.engine.processes.lending import Loans
from aioray.shared.asks import Get, Info, pack
from aioray.shared.wire import ANSWER, NOTE_ASKED, NOTE_ITEMS, Status, note_frame
from tests.shared.fuzzing import changed, fuzzed

VALUE = pickle.dumps("value", 5)
MINE = (1, 2)  # seqs of what the worker has
GOOD = (
    *(ANSWER.pack(len(VALUE), seq, Status.RETURNED, 1.0, 0.5, 0.0) + VALUE for seq in MINE),
    ANSWER.pack(0, 2, Status.INTERRUPTED, 1.0, 0.5, 0.0),
    note_frame(NOTE_ASKED, pack(1, Info("nodes")), 1),
    note_frame(NOTE_ASKED, pack(2, Get([bytes(28)], at_once=True)), 1),
    *(note_frame(kind, VALUE, 1) for kind in range(NOTE_ASKED, NOTE_ITEMS + 2)),
)
written = st.lists(
    st.one_of(
        st.sampled_from(GOOD),
        st.sampled_from(GOOD).flatmap(changed),
        st.binary(max_size=80),
    ),
    max_size=6,
).map(b"".join)


def read(pieces):
    """What a reader finds in these pieces, and what is wrong with them."""
    answers, writer = os.pipe2(os.O_NONBLOCK)
    reader = AnswerReader(answers, os.eventfd(0, os.EFD_NONBLOCK), Loans(None), "")
    reader.expects = lambda seq: seq in MINE
    found = []
    for piece in pieces:
        os.write(writer, piece)
        found += reader.read()
    os.close(writer)
    fault, kept = reader.fault, (len(reader._yielded), len(reader._saved))
    reader.close()
    return found, bool(fault), kept


@fuzzed(200)
@given(written, st.lists(st.integers(1, 60), max_size=8))
def test_pieces_do_not_matter(data, sizes):
    whole, is_wrong, kept = read([data] if data else [])
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    again, is_wrong_too, _ = read([piece for piece in (*pieces, data) if piece])
    # What is wrong may be told sooner, before the rest has come; what was before it is the same.
    assert is_wrong_too or not is_wrong
    if not is_wrong_too:
        assert [type(news).__name__ for news in again if type(news).__name__ != "ChunkNews"] == [
            type(news).__name__ for news in whole if type(news).__name__ != "ChunkNews"
        ]
    assert max(kept) <= len(MINE)
