"""The keeper's thread: it writes what it is given, and answers callers, whatever they do."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from aioray.state.folders import SOCKET, SessionFolder
from aioray.state.read.sessions import BlockedSessionError, NoSessionError, Session, SessionError
from aioray.state.write import server as server_module
from aioray.state.write import writer as keeper_module
from aioray.state.write.history import FILE
from aioray.state.write.server import connect
from aioray.state.write.writer import HistoryWriter

from .test_history import attempt, failure

GUARD = 100.0


class Engine:
    """What a keeper asks, with a loop that is a thread of its own or stands still."""

    def __init__(self):
        self.requests = []
        self.answer = {"tasks": [], "now": 1.0}
        self.blocked = False
        self.waiting = []

    def ask(self, request, done):
        if request["want"] == ["running"]:
            done({"running": []})
            return
        self.requests.append(request)
        if self.blocked:
            self.waiting.append(done)
        else:
            threading.Thread(target=done, args=(dict(self.answer),)).start()


class Listener:
    def __init__(self, count):
        self.left = count
        self.rows = []
        self.retried = []
        self.changed = []
        self.told = []
        self.enough = threading.Event()

    def attempts(self, signatures, rows, retried):
        self.signatures = dict(signatures)
        self.rows += rows
        self.retried += retried
        if len(self.rows) + len(self.retried) >= self.left:
            self.enough.set()

    def entities(self, rows):
        self.changed += rows
        self.enough.set()

    def events(self, rows):
        self.told += rows


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def start(tmp_path, engine):
    """Starts keepers with a folder of their own."""
    started = []

    def begin(kept=1_000, root=tmp_path, on_disk=True):
        folder = SessionFolder(str(root), "session_x_1")
        if on_disk:
            folder.make()
        keeper = HistoryWriter(
            folder if on_disk else None, engine.ask, attempts_kept=kept, unix_offset=0.0
        )
        keeper.meta = {"job": "01000000", "ended_at": None}
        keeper.add_signature(1, {"name": "f", "creation": None})
        keeper.start()
        started.append((keeper, folder))
        return keeper, Session("session_x_1", folder.path, alive=True, pid=os.getpid())

    yield begin
    for keeper, folder in started:
        keeper.close()
        folder.close()


def reached(session, timeout=GUARD):
    """Ask until the socket is there."""
    deadline = time.monotonic() + timeout
    while True:
        with session.view() as view:
            if session.alive:
                return [record.task_key for record in view.records()], view.meta
        session.alive = True
        assert time.monotonic() < deadline


def test_what_a_caller_reads_is_up_to_date(start):
    keeper, session = start()
    reached(session)
    keeper.done.append(attempt(1))  # without waking it
    keeper.failed.append(failure(2))
    assert reached(session)[0] == [1, 2]


def test_listener_is_told_of_retries_apart_and_of_things(start):
    keeper, _ = start()
    listener = Listener(3)  # more than will come: what has changed is told of after attempts
    keeper.listeners.append(listener)
    keeper.retried.append(failure(1))
    keeper.failed.append(failure(2))
    keeper.entities.append(("actor", "aa", {"state": "ALIVE"}))
    keeper.wake()
    assert listener.enough.wait(GUARD)
    assert [row[1] for row in listener.rows] == [2]
    assert [row[1] for row in listener.retried] == [1]
    assert listener.changed == [("actor", "aa", {"state": "ALIVE"})]


def test_one_whose_end_is_near_begins_at_once_and_listens_to_nobody(start, monkeypatch):
    monkeypatch.setattr(keeper_module, "BEGIN_SECONDS", 1_000.0)
    keeper, session = start()
    listener = Listener(1)
    keeper.listeners.append(listener)
    keeper.entities.append(("actor", "aa", {"state": "ALIVE"}))
    keeper.hurry()
    assert listener.enough.wait(GUARD)  # it was written, and nothing has ended
    keeper.close()
    assert os.path.exists(os.path.join(session.folder, FILE))
    assert not os.path.exists(os.path.join(session.folder, SOCKET))


def test_what_it_is_given_is_written_without_being_asked_for(start):
    keeper, session = start()
    listener = Listener(3)
    keeper.listeners.append(listener)
    keeper.done.extend([attempt(1), attempt(2)])
    keeper.failed.append(failure(3))
    keeper.wake()
    assert listener.enough.wait(GUARD)
    assert [row[1] for row in listener.rows] == [1, 2, 3]
    assert [row[10] for row in listener.rows] == [3.5, 3.5, 4.0]
    assert listener.signatures[1]["name"] == "f"
    session.alive = False
    with session.view() as view:
        assert [record.state for record in view.records()] == ["FINISHED", "FINISHED", "FAILED"]


def test_texts_of_errors_are_made_in_its_thread(start):
    keeper, session = start()
    made = []

    def finish(row):
        made.append(threading.current_thread().name)
        return (*row[:-1], row[-1]())

    keeper.finish_row = finish
    keeper.failed.append(failure(1, lambda: "the text"))
    reached(session)
    with session.view() as view:
        assert [record.error_message for record in view.records()] == ["the text"]
    assert made == ["aioray-state"]


def test_end_writes_what_is_left(start):
    keeper, session = start()
    keeper.done.extend(attempt(task_key) for task_key in range(500))
    keeper.meta = {**keeper.meta, "ended_at": 5.0}
    keeper.close()
    session.alive = False
    with session.view() as view:
        assert sum(1 for _ in view.records()) == 500
        assert view.meta["ended_at"] == 5.0
    assert not os.path.exists(os.path.join(session.folder, SOCKET))


def test_more_than_is_kept_is_dropped_before_it_is_written(start):
    keeper, session = start(kept=100)
    keeper.done.extend(attempt(task_key) for task_key in range(1_000))
    assert reached(session)[0] == list(range(900, 1_000))


def test_output_that_the_disk_does_not_keep_up_with_is_dropped_and_that_is_said(start, monkeypatch):
    monkeypatch.setattr(keeper_module, "OUTPUT_WAITING", 1_000)
    keeper, session = start()
    for number in range(20):
        keeper.keep_output((1, number, 1, 0.0, b"x" * 100))
    _, meta = reached(session)
    assert meta["output_dropped"] is True
    keeper.keep_output((1, 99, 1, 0.0, b"x" * 100))
    with session.view() as view:
        rows = [seq for (seq,) in view.connection.execute("SELECT seq FROM output")]
    assert rows[0] == 0
    assert rows[-1] == 99
    assert len(rows) < 21


def test_history_in_memory_goes_with_the_answer(start, engine):
    keeper, session = start(on_disk=False)
    keeper.done.append(attempt(1))
    answers = []
    given = threading.Event()

    def take(answer):
        answers.append(answer)
        given.set()

    keeper.complete({}, take)
    assert given.wait(GUARD)
    session = Session("x", "nowhere", alive=True, pid=1, ask=lambda _request, _timeout: answers[0])
    with session.view() as view:
        assert [record.task_key for record in view.records()] == [1]


def test_blocked_engine_is_told_of_with_the_place_where_it_is(start, engine):
    _, session = start()
    reached(session)
    engine.blocked = True
    with (
        pytest.raises(BlockedSessionError, match="is blocked") as raised,
        session.view(timeout=0.0),
    ):
        pass
    frames = {each["name"]: each["frames"] for each in raised.value.threads}
    functions = [function for _, _, function in frames["MainThread"]]
    assert "test_blocked_engine_is_told_of_with_the_place_where_it_is" in functions
    engine.blocked = False
    engine.waiting.pop()({"tasks": []})  # too late: nobody listens any more
    assert reached(session)[0] == []


def talk(session, data, *, close=False):
    """Send bytes as they are, and return what comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(GUARD)
        connection.connect(os.path.join(session.folder, SOCKET))
        connection.sendall(data)
        if close:
            return b""
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
        return b"".join(chunks)


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"3\n",
        b"\xff\xfe\n",
        b'{"patience": "x"}\n',
        b"[" * 60_000 + b"\n",
    ],
)
def test_nonsense_gets_an_error_and_harms_nobody(start, data):
    _, session = start()
    reached(session)
    (error,) = json.loads(talk(session, data)).values()
    assert error.startswith("not a request: ")
    assert reached(session)[0] == []


def test_callers_that_say_too_much_or_go_away_are_dropped(start):
    _, session = start()
    reached(session)
    assert talk(session, b"x" * 70_000) == b""
    talk(session, b'{"want"', close=True)
    talk(session, b'{"want": []}\n', close=True)
    assert reached(session)[0] == []


def test_caller_that_says_nothing_is_dropped_in_time(start, monkeypatch):
    monkeypatch.setattr(server_module, "CALLER_SECONDS", 0.0)
    _, session = start()
    while not os.path.exists(os.path.join(session.folder, SOCKET)):
        pass
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(GUARD)
        connection.connect(os.path.join(session.folder, SOCKET))
        assert connection.recv(1) == b""


def test_answer_of_any_size_arrives_whole(start, engine):
    engine.answer["tasks"] = ["x" * 1_000] * 5_000
    _, session = start()
    reached_folder = session.folder
    while not os.path.exists(os.path.join(reached_folder, SOCKET)):
        pass
    answer = connect(reached_folder, {"want": ["objects"]}, GUARD)
    assert answer["tasks"] == engine.answer["tasks"]
    assert engine.requests[-1]["want"] == ["objects"]


def test_socket_is_for_its_user_alone_and_a_long_path_is_no_hindrance(start, tmp_path):
    _, session = start(root=tmp_path / ("long" * 40))
    reached(session)
    assert os.stat(os.path.join(session.folder, SOCKET)).st_mode & 0o777 == 0o600


def test_session_that_has_gone_is_read_from_its_file(start):
    keeper, session = start()
    keeper.done.append(attempt(1))
    keeper.close()
    with session.view() as view:  # it was alive when it was found
        assert [record.task_key for record in view.records()] == [1]
    assert not session.alive


def test_session_without_history_says_so(tmp_path):
    session = Session("session_x_1", str(tmp_path), alive=False, pid=1)
    with pytest.raises(NoSessionError, match="history=0"), session.view():
        pass


def test_damaged_file_says_so(tmp_path):
    (tmp_path / "history.db").write_bytes(b"not a database at all" * 500)
    session = Session("session_x_1", str(tmp_path), alive=False, pid=1)
    with pytest.raises(SessionError, match="cannot be read"), session.view():
        pass


def test_listener_knows_every_kind_that_it_is_told_of_and_old_ones_go_then(start):
    keeper, _ = start()
    listener = Listener(1)
    keeper.listeners.append(listener)
    keeper.add_signature(2, {"name": "g", "creation": None})
    keeper.done.append((1, *attempt(1)[1:]))
    keeper.forget_signatures(1)
    keeper.wake()
    assert listener.enough.wait(GUARD)
    assert set(listener.signatures) == {1, 2}
    keeper.close()
    assert set(keeper.signatures) == {2}
