"""A session's history: what is written is read, what is too much goes, damage is not the end."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioray.state.schema import ATTEMPT_COLUMNS
from aioray.state.write import history as module
from aioray.state.write.history import FILE, Batch, History, open_file

from .memory import database

ROOT = Path(__file__).parents[2]
OFFSET = 1_000.0


def attempt(task_key, *, started=3.0, seconds=0.5):
    """One that has its value: signature, task_key, attempt, parent, worker, seq and the times."""
    return (1, task_key, 0, None, 7, task_key, 1.0, 1.5, 2.0, started, seconds)


def failure(task_key, text="why"):
    return (1, task_key, 0, b"p" * 24, None, None, 1.0, None, None, None, 4.0, "WORKER_DIED", text)


def read(path, table="attempts"):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()
    finally:
        connection.close()


@pytest.fixture
def make(tmp_path):
    """Makes histories, with their file in a folder of the test."""
    made = []

    def start(folder=str(tmp_path), kept=100_000):
        made.append(History(folder, attempts_kept=kept, unix_offset=OFFSET))
        return made[-1]

    yield start
    for history in made:
        history.close()


def test_file_is_made_without_waiting_for_the_disk(make, monkeypatch):
    """No transaction waits for a sync, and not the one either that puts it into WAL mode."""
    said = []

    class Told(sqlite3.Connection):
        def execute(self, statement, *given):
            said.append(statement)
            return super().execute(statement, *given)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Told))
    make()
    assert said[0] == "PRAGMA synchronous = OFF"
    assert "PRAGMA journal_mode = WAL" in said


def test_attempts_are_read_as_they_were_written_in_unix_seconds(make, tmp_path):
    make().write(Batch(done=[attempt(5)], failed=[failure(6)]))
    done, failed = (dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in read(tmp_path / FILE))
    assert done["task_key"] == done["seq"] == 5
    times = [done[name] for name in ("created", "ready", "sent", "started", "ended")]
    assert times == [1001.0, 1001.5, 1002.0, 1003.0, 1003.5]
    assert done["error_type"] is done["error_message"] is None
    assert failed["parent"] == b"p" * 24
    assert [failed[name] for name in ("created", "ready", "started", "ended")] == [
        1001.0,
        None,
        None,
        1004.0,
    ]
    assert (failed["error_type"], failed["error_message"]) == ("WORKER_DIED", "why")


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 40)), min_size=1, max_size=4))
def test_batches_of_any_size_are_written_whole(sizes):
    history = History(None, attempts_kept=100_000, unix_offset=0.0)
    labels, number = [], 0
    for done, failed in sizes:
        rows = [attempt(number + index) for index in range(done)]
        errors = [failure(number + done + index) for index in range(failed)]
        number += done + failed
        labels.extend(row[1] for row in (*rows, *errors))
        history.write(Batch(done=rows, failed=errors))
    assert history.unpack() is False
    copy = database(history.image())
    assert [
        row[0] for row in copy.execute("SELECT task_key FROM attempts ORDER BY task_key")
    ] == labels
    assert copy.execute("SELECT count(*) FROM packed").fetchone() == (0,)
    history.close()


def test_only_the_newest_attempts_are_kept(make, tmp_path):
    history = make(kept=100)
    for start in range(0, 350, 70):
        history.write(Batch(done=[attempt(task_key) for task_key in range(start, start + 70)]))
    assert [row[1] for row in read(tmp_path / FILE)] == list(range(250, 350))


def test_things_are_replaced_and_the_ended_ones_forgotten_first(make, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ENTITIES_KEPT", 5)
    history = make()
    history.write(Batch(entities=[("actor", "old", {"ended": None})]))
    for number in range(20):
        for ended in (None, 1.0):
            history.write(Batch(entities=[("worker", str(number), {"ended": ended})]))
    names = [name for _, name, _ in read(tmp_path / FILE, "entities")]
    assert names[0] == "old"
    assert names[-1] == "19"
    assert len(names) < 8


def test_output_beyond_the_bound_goes_the_oldest_first_and_that_is_said(
    make, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "OUTPUT_BYTES", 10_000)
    history = make()
    for number in range(30):
        history.write(Batch(output=[(1, number, 1, 0.0, b"x" * 10)] * 100))
    rows = read(tmp_path / FILE, "output")
    assert sum(len(row[-1]) for row in rows) <= 10_000
    assert rows[-1][1] == 29
    assert ("output_dropped", "true") in read(tmp_path / FILE, "meta")


def test_attempts_that_come_too_fast_are_packed_and_become_rows_in_time(make, tmp_path):
    history = make(kept=5_000)
    history.write(Batch(done=[attempt(task_key) for task_key in range(3_500)]))
    history.write(Batch(done=[attempt(3_500)]))  # what follows waits behind them
    assert read(tmp_path / FILE) == []
    assert [count for count, *_ in read(tmp_path / FILE, "packed")] == [1_000] * 3 + [500, 1]
    assert history.unpack(all_of_it=False) is True
    assert [row[1] for row in read(tmp_path / FILE)] == list(range(1_000))
    assert history.unpack() is False
    labels = [row[1] for row in read(tmp_path / FILE)]
    assert labels == list(range(3_501))
    history.write(Batch(done=[attempt(9_000)]))
    assert [row[1] for row in read(tmp_path / FILE)] == [*labels, 9_000]
    first, *_ = read(tmp_path / FILE)
    assert first[6:11] == (1001.0, 1001.5, 1002.0, 1003.0, 1003.5)


def test_what_is_packed_counts_among_what_is_kept(make, tmp_path):
    history = make(kept=2_500)
    history.write(Batch(done=[attempt(task_key) for task_key in range(900)]))
    for start in range(10_000, 20_000, 2_000):
        history.write(Batch(done=[attempt(start + index) for index in range(2_000)]))
    assert sum(count for count, *_ in read(tmp_path / FILE, "packed")) == 3_000
    assert history.unpack() is False
    assert [row[1] for row in read(tmp_path / FILE)] == list(range(17_500, 20_000))


def test_file_of_a_killed_session_is_unpacked_by_who_reads_it_and_damage_is_found(make, tmp_path):
    make().write(Batch(done=[attempt(task_key) for task_key in range(2_000)]))
    for _ in range(2):
        reader = open_file(str(tmp_path / FILE), ended=True)
        assert reader.execute("SELECT count(*), max(task_key) FROM attempts").fetchone() == (
            2_000,
            1_999,
        )
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM attempts")
        reader.close()
    writer = sqlite3.connect(tmp_path / FILE)
    writer.execute("INSERT INTO packed VALUES (1, 0.0, 12345, x'00')")
    writer.commit()
    writer.close()
    with pytest.raises(sqlite3.DatabaseError, match="has changed"):
        open_file(str(tmp_path / FILE), ended=True)


def test_file_is_for_its_user_alone(make, tmp_path):
    make().write(Batch(done=[attempt(1)]))
    for name in os.listdir(tmp_path):
        assert os.stat(tmp_path / name).st_mode & 0o777 == 0o600


def test_without_a_folder_all_is_in_memory(make, tmp_path):
    history = make(folder=None)
    history.write(Batch(meta={"job": "01"}))
    assert history.path is None
    assert os.listdir(tmp_path) == []
    copy = database(history.image())
    assert copy.execute("SELECT * FROM meta").fetchall() == [("job", '"01"')]


def test_file_that_cannot_be_made_is_told_of_once_and_memory_serves(make, tmp_path, caplog):
    history = make(folder=str(tmp_path / "missing"))
    history.write(Batch(done=[attempt(1)]))
    assert history.path is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(tmp_path / "missing" / FILE) in caplog.text


def test_damaged_file_is_set_aside_with_a_warning_and_history_goes_on(make, tmp_path, caplog):
    history = make()
    history.write(
        Batch(
            done=[attempt(task_key) for task_key in range(3_000)],
            meta={"job": "01"},
            signatures=[(1, {})],
        )
    )
    history.unpack()
    history._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(tmp_path / FILE, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(100_000))
    history._connection.execute("PRAGMA cache_size = 0")
    history._connection.execute("PRAGMA shrink_memory")
    for task_key in range(5_000, 5_003):
        history.write(Batch(done=[attempt(task_key)], entities=[("worker", str(task_key), {})]))
    history.write(Batch(done=[attempt(6_000)]))
    assert history.path is None
    assert (tmp_path / f"{FILE}.damaged").exists()
    assert len(caplog.records) == 1
    assert "set aside" in caplog.text
    copy = database(history.image())
    assert copy.execute("SELECT max(task_key) FROM attempts").fetchone() == (6_000,)


def test_packed_part_that_is_damaged_goes_and_the_others_become_rows(make, caplog):
    history = make()
    history.write(Batch(done=[attempt(task_key) for task_key in range(3_000)]))
    history._connection.execute("UPDATE packed SET data = x'00' WHERE rowid = 2")
    assert history.unpack() is True  # the file is set aside, with all that is sound
    assert history.path is None
    assert "has changed" in caplog.text
    assert history.unpack() is False
    copy = database(history.image())
    labels = [
        task_key for (task_key,) in copy.execute("SELECT task_key FROM attempts ORDER BY rowid")
    ]
    assert labels == [*range(1_000), *range(2_000, 3_000)]


def test_output_is_bounded_also_after_the_file_was_set_aside(make, monkeypatch):
    monkeypatch.setattr(module, "OUTPUT_BYTES", 10_000)
    history = make()
    history.write(Batch(output=[(1, 0, 1, 0.0, b"x" * 10)] * 900))
    history._connection.execute("PRAGMA max_page_count = 20")
    history.write(Batch(failed=[failure(task_key, "x" * 1_000) for task_key in range(500)]))
    assert history.path is None
    for number in range(30):
        history.write(Batch(output=[(1, number, 1, 0.0, b"x" * 10)] * 100))
    copy = database(history.image())
    (size,) = copy.execute("SELECT sum(length(data)) FROM output").fetchone()
    assert 0 < size <= 10_000


def test_full_disk_is_told_of_once_and_memory_serves(make, tmp_path, caplog):
    history = make()
    history.write(Batch(meta={"job": "01"}))
    history._connection.execute("PRAGMA max_page_count = 20")  # what a full disk says
    rows = [attempt(task_key) for task_key in range(10_000)]
    history.write(Batch(done=rows))
    assert history.path is None
    assert "full" in caplog.text
    assert len(caplog.records) == 1
    copy = database(history.image())
    assert copy.execute("SELECT sum(count) FROM packed").fetchone() == (10_000,)
    assert copy.execute("SELECT value FROM meta WHERE key = 'job'").fetchone() == ('"01"',)


def test_what_was_written_survives_kill_9(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from aioray.state.write.history import Batch, History
history = History({str(tmp_path)!r}, attempts_kept=1000, unix_offset=0.0)
for task_key in range(20):
    history.write(Batch(done=[(1, task_key, 0, None, 7, task_key, 1.0, 1.5, 2.0, 3.0, 0.5)]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [row[1] for row in read(tmp_path / FILE)] == list(range(20))


def test_kinds_that_no_attempt_speaks_of_go_when_they_are_old(make, tmp_path):
    history = make(kept=10)
    history.write(Batch(signatures=[(number, {}) for number in range(1, 6)]))
    rows = [(signature, *attempt(1)[1:]) for signature in (2, 4, 5)]
    history.write(Batch(done=rows, old_signatures=4))
    assert [number for number, _ in read(tmp_path / FILE, "signatures")] == [2, 4, 5]
    history.write(
        Batch(done=[(5, *attempt(task_key)[1:]) for task_key in range(20)], old_signatures=4)
    )
    assert [number for number, _ in read(tmp_path / FILE, "signatures")] == [2, 4, 5]
    history.write(Batch(old_signatures=5))
    assert [number for number, _ in read(tmp_path / FILE, "signatures")] == [5]


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path, caplog):
    (tmp_path / "precious").write_bytes(b"")
    (tmp_path / FILE).symlink_to("precious")
    history = History(str(tmp_path), attempts_kept=10, unix_offset=OFFSET)
    history.write(Batch(meta={"kept": "in memory"}))
    history.close()
    assert history.path is None
    assert "it is no plain file" in caplog.text
    assert (tmp_path / "precious").read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "precious"]
