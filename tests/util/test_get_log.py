"""`get_log` and `list_logs` of the state API, for a session that was made up."""

from __future__ import annotations

import inspect

import pytest

from aioray.state.read.sessions import SessionError
from aioray.util import state
from aioray.util.state import logs as api
from aioray.util.state.exception import RayStateApiException, ServerUnavailable
from tests.state.printed import ACTOR_ID, NODE, History, make_actor, task_id, worker_id


@pytest.fixture
def history(monkeypatch):
    history = History()

    class Session:
        def view(self, want=(), timeout=30.0):
            return history.look()

    monkeypatch.setattr(api, "open_session", lambda address: Session())
    yield history
    history.connection.close()


def test_names_and_parameters_are_rays():
    assert list(inspect.signature(state.get_log).parameters) == [
        "address", "node_id", "node_ip", "filename", "actor_id", "task_id", "pid", "follow", "tail",
        "timeout", "suffix", "encoding", "errors", "submission_id", "attempt_number", "_interval",
        "filter_ansi_code",
    ]  # fmt: skip
    assert list(inspect.signature(state.list_logs).parameters) == [
        "address", "node_id", "node_ip", "glob_filter", "timeout",
    ]  # fmt: skip


def test_by_task_actor_file_and_pid(history):
    make_actor(history)
    name = f"worker-{worker_id(3)}-01000000-103.err"
    assert list(api.get_log(task_id=task_id(1))) == ["task "]
    assert list(api.get_log(actor_id=ACTOR_ID)) == ["made call thread made again "]
    assert list(api.get_log(actor_id=ACTOR_ID, task_id=task_id(1), suffix="err")) == ["error "]
    assert list(api.get_log(filename=name, node_id=NODE)) == ["error "]
    assert list(api.get_log(pid=103, node_ip="127.0.0.1")) == ["made again "]


def test_one_attempt_the_first_by_default(history):
    history.attempt(1, attempt=0, seq=1, error="WORKER_DIED")
    history.attempt(1, attempt=1, seq=2)
    history.output(b"first", seq=1)
    history.output(b"second", seq=2)
    assert "".join(api.get_log(task_id=task_id(1))) == "first"
    assert "".join(api.get_log(task_id=task_id(1), attempt_number=1)) == "second"
    with pytest.raises(RayStateApiException, match="no attempt 2"):
        next(api.get_log(task_id=task_id(1), attempt_number=2))


def test_characters_that_are_torn_apart_are_put_together(history):
    history.attempt(1)
    data = "ünïcode ✓".encode()
    for at in range(len(data)):
        history.output(data[at : at + 1])
    assert list(api.get_log(task_id=task_id(1))) == ["ünïcode ✓"]
    assert list(api.get_log(task_id=task_id(1), encoding=None)) == [data]
    assert "".join(api.get_log(task_id=task_id(1), follow=True, _interval=0)) == "ünïcode ✓"


def test_bytes_that_are_no_text(history):
    history.attempt(1)
    history.output(b"a\xffb\xe2")
    with pytest.raises(UnicodeDecodeError):
        list(api.get_log(task_id=task_id(1)))
    assert list(api.get_log(task_id=task_id(1), errors="replace")) == ["a\ufffdb", "\ufffd"]
    with pytest.raises(LookupError, match="nope"):
        list(api.get_log(task_id=task_id(1), encoding="nope"))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_colours_can_be_left_out(history, size):
    history.attempt(1)
    data = b"\x1b[36mblue\x1b[0m plain\x1b]0;title\x07 end\x1b[1"
    for start in range(0, len(data), size):
        history.output(data[start : start + size])
    for follow in (False, True):
        found = api.get_log(task_id=task_id(1), filter_ansi_code=True, follow=follow, _interval=0)
        assert "".join(found) == "blue plain end\x1b[1"
    assert "".join(api.get_log(task_id=task_id(1))) == data.decode()


def test_last_lines(history):
    history.attempt(1)
    history.output(b"1\n2\n3\n")
    assert "".join(api.get_log(task_id=task_id(1), tail=2)) == "2\n3\n"


def test_large_output_comes_in_pieces(history):
    history.attempt(1)
    for _ in range(10):
        history.output(b"x" * 50_000)
    assert [len(piece) for piece in api.get_log(task_id=task_id(1))] == [100_000] * 5


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "filename, actor_id, task_id or pid"),
        ({"pid": 1, "suffix": "x"}, ValueError, "Invalid suffix: x"),
        ({"task_id": "00" * 24}, RayStateApiException, "no task"),
        ({"actor_id": "nobody"}, RayStateApiException, "no actor"),
        ({"pid": 999}, RayStateApiException, "no worker"),
        ({"filename": "raylet.out"}, RayStateApiException, "no log raylet.out"),
        ({"filename": "raylet"}, RayStateApiException, "no log raylet"),
        ({"pid": 101, "node_id": "x"}, RayStateApiException, "no node x"),
        ({"pid": 101, "node_ip": "9.9.9.9"}, RayStateApiException, "no node at 9.9.9.9"),
        ({"submission_id": "raysubmit_x"}, RayStateApiException, "no submitted job raysubmit_x"),
    ],
)
def test_errors_come_with_the_first_piece(history, arguments, error, text):
    found = api.get_log(**arguments)
    with pytest.raises(error, match=text):
        next(found)


def test_session_that_cannot_be_looked_at(history):
    def look():
        raise SessionError("It does not answer.")

    history.look = look
    with pytest.raises(ServerUnavailable, match="does not answer"):
        next(api.get_log(pid=101))
    with pytest.raises(ServerUnavailable, match="does not answer"):
        api.list_logs()


def test_list_logs(history):
    found = api.list_logs(node_id=NODE)
    assert {group: len(names) for group, names in found.items()} == {
        "worker_out": 3,
        "worker_err": 3,
    }
    assert api.list_logs(glob_filter="*-102.err") == {
        "worker_err": [f"worker-{worker_id(2)}-01000000-102.err"]
    }
    assert api.list_logs(glob_filter="*zz*") == {}
    with pytest.raises(RayStateApiException, match="no node x"):
        api.list_logs(node_id="x")
