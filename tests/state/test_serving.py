"""The keeper's thread outlives whatever is thrown at it, and its callers are limited."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioray.state.folders import SOCKET
from aioray.state.write import history as history_module
from aioray.state.write import server as server_module
from aioray.state.write import writer as keeper_module
from aioray.state.write.server import connect

from .test_history import attempt, failure
from .test_keeper import GUARD, Listener, engine, reached, start, talk  # noqa: F401 - fixtures

DIGITS = "9" * 400


def ask(session, request):
    return json.loads(talk(session, json.dumps(request).encode() + b"\n"))


def until(condition):
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


BAD = [
    b"",
    b"\x00",
    b"{",
    b"null",
    b"5",
    b"[]",
    b'"want"',
    b'{"want": 5}',
    b'{"want": null}',
    b'{"want": "objects"}',
    b'{"want": [5]}',
    b'{"want": [null]}',
    b'{"want": [["objects"]]}',
    b'{"want": {"objects": 1}}',
    b'{"want": ["nonsense"]}',
    b'{"want": ["\\ud800"]}',
    b'{"want": ["\xff"]}',
    b'{"\\udfff": 1}',
    b'{"what": ["objects"]}',
    b'{"want": [], "Want": []}',
    b'{"patience": "5"}',
    b'{"patience": true}',
    b'{"patience": null}',
    b'{"patience": [1]}',
    b'{"patience": NaN}',
    b'{"patience": ' + b"9" * 5_000 + b"}",
    b'{"want": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b'{"want": ' * 5_000,
]
GOOD = [
    b"{}",
    b' {"want": []}  ',
    b'{"want": ["objects"]}',
    b'{"want": ["objects", "objects"], "patience": 0.5e1}',
    b'{"patience": %s}' % DIGITS.encode(),
    b'{"patience": 1e400}',
    b'{"patience": Infinity}',
    b'{"want": [], "want": []}',
]


def test_bad_requests_are_the_callers_fault_and_good_ones_are_answered(start, caplog):  # noqa: F811
    _, session = start()
    reached(session)
    for line in BAD:
        (error,) = json.loads(talk(session, line + b"\n")).values()
        assert error.startswith("not a request: "), line
        assert len(error) < 300
    for line in GOOD:
        assert json.loads(talk(session, line + b"\n"))["now"] == 1.0
    assert caplog.messages == []


def test_patience_is_bounded_whatever_number_it_is(start, engine):  # noqa: F811
    _, session = start()
    reached(session)
    engine.blocked = True
    for patience in ("0", "-5", "-" + DIGITS, "-1e400", "0.0"):
        answer = json.loads(talk(session, b'{"patience": %s}\n' % patience.encode()))
        assert answer["error"] == "blocked"
    engine.blocked = False
    while engine.waiting:
        engine.waiting.pop()({"tasks": []})
    reached(session)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["want"]), inner),
    max_leaves=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary().map(lambda data: data.replace(b"\n", b""))
    | anything.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({}, optional={"want": anything, "patience": anything}).map(
        lambda value: json.dumps({**value, "patience": value.get("patience", 5)}).encode()
    ),
    st.booleans(),
)
@pytest.mark.parametrize("_", [0])
def test_any_bytes_and_any_json_leave_it_serving(served, _, data, goes_away):
    talk(served, data + b"\n", close=goes_away)
    assert ask(served, {"want": []})["now"] == 1.0


@pytest.fixture
def served(start):  # noqa: F811
    _, session = start()
    reached(session)
    return session


def wrong(*_, **__):
    raise ZeroDivisionError("a bug")


def exits(*_, **__):
    raise SystemExit(3)


@pytest.mark.parametrize("bug", [wrong, exits])
@pytest.mark.parametrize(
    "place",
    [
        "history.write",
        "history.unpack",
        "history.write_running",
        "listener",
        "finish_row",
        "ask",
        "ask running",
        "sweep",
        "accept",
        "receive",
        "send",
        "time_out",
        "credentials",
        "job",
    ],
)
def test_whatever_goes_wrong_is_told_once_and_the_thread_goes_on(
    start,  # noqa: F811
    engine,  # noqa: F811
    monkeypatch,
    caplog,
    place,
    bug,
):
    monkeypatch.setattr(keeper_module, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(keeper_module, "PAUSE_SECONDS", 0.01)
    keeper, session = start()
    reached(session)
    listener = Listener(10**9)
    honest = engine.ask
    with monkeypatch.context() as patch:
        if place.startswith("history."):
            patch.setattr(keeper._history, place.partition(".")[2], bug)
        elif place == "listener":
            broken = Listener(1)
            broken.attempts = broken.entities = broken.events = bug
            keeper.listeners += [broken, listener]
        elif place == "finish_row":
            patch.setattr(keeper, "finish_row", lambda row: bug() if row[1] == 2 else row)
        elif place.startswith("ask"):
            only = ["running"] if place == "ask running" else []
            patch.setattr(
                keeper,
                "_ask",
                lambda request, done: bug() if request["want"] == only else honest(request, done),
            )
        elif place == "sweep":
            patch.setattr("aioray.state.folders.sweep", bug)
            keeper._is_swept = False
        elif place == "credentials":
            patch.setattr(server_module, "_uid_behind", bug)
        elif place == "job":
            keeper.do(bug)
        else:
            patch.setattr(
                server_module.StateServer, f"_{place}".replace("_time_out", "time_out"), bug
            )
        for number in range(1, 4):
            keeper.failed.append(failure(number))
            keeper.entities.append(("actor", "aa", {"state": "ALIVE", "ended": None}))
            keeper.wake()
            until(lambda: not keeper.failed)
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(0.05)
                connection.connect(os.path.join(session.folder, SOCKET))
                connection.sendall(b'{"want": []}\n')
                connection.recv(10)
    told = len(caplog.messages)
    assert told <= 3
    if place == "listener":
        assert [row[1] for row in listener.rows] == [1, 2, 3]
    keeper.done.append(attempt(50))
    assert 50 in reached(session)[0]
    assert keeper._thread.is_alive()
    if place == "finish_row":
        assert {1, 3} <= set(reached(session)[0])
    assert len(caplog.messages) == told
    assert all("bug in aioray" in text for text in caplog.messages)


def test_poison_in_one_part_of_a_batch_takes_no_other_along(start, caplog):  # noqa: F811
    keeper, session = start()
    reached(session)
    keeper.events.append((1.0, "ERROR", "TASK", object()))  # what no table takes
    keeper.done.append(attempt(1))
    keeper.failed.append(failure(2))
    keeper.meta = {**keeper.meta, "ip": "1.2.3.4"}
    labels, meta = reached(session)
    assert labels == [1, 2]
    assert meta["ip"] == "1.2.3.4"


# ------------------------------------------------------------ descriptors


@contextlib.contextmanager
def no_descriptors():
    """No descriptor can be opened by this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thread_begins_when_there_are_descriptors(start, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr(keeper_module, "BEGIN_SECONDS", 0.0)
    monkeypatch.setattr(keeper_module, "PAUSE_SECONDS", 0.01)
    tries = []
    honest = keeper_module.HistoryWriter._begin

    def begin(keeper):
        with no_descriptors() if len(tries) < 5 else contextlib.nullcontext():
            tries.append(0)
            honest(keeper)

    monkeypatch.setattr(keeper_module.HistoryWriter, "_begin", begin)
    keeper, session = start()
    until(lambda: len(tries) == 6 and keeper._history is not None)
    keeper.done.append(attempt(1))
    assert reached(session)[0] == [1]
    assert keeper._history.path is not None
    (message,) = caplog.messages
    assert "cannot begin yet" in message


def test_late_import_that_fails_is_tried_again(start, monkeypatch):  # noqa: F811
    monkeypatch.setattr(keeper_module, "PAUSE_SECONDS", 0.01)
    tries = []

    def history(*arguments, **options):
        tries.append(0)
        if len(tries) < 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "history.py")
        return honest(*arguments, **options)

    honest = history_module.History
    monkeypatch.setattr(history_module, "History", history)
    keeper, session = start()
    keeper.done.append(attempt(1))
    assert reached(session)[0] == [1]
    assert len(tries) == 4


def test_it_listens_when_there_are_descriptors(start, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr(keeper_module, "PAUSE_SECONDS", 0.01)
    tries = []

    def server(*arguments):
        tries.append(0)
        if len(tries) < 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return honest(*arguments)

    honest = server_module.StateServer
    monkeypatch.setattr(server_module, "StateServer", server)
    _, session = start()
    reached(session)
    assert len(tries) == 4
    assert caplog.messages == []


class _Listener:
    """A listening socket for whom there are no descriptors."""

    def __init__(self, listener):
        self.listener = listener
        self.calls = 0
        self.short = True

    def accept(self):
        self.calls += 1
        if self.short:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self.listener.accept()

    def __getattr__(self, name):
        return getattr(self.listener, name)


def test_shortage_of_descriptors_spins_not_and_those_connected_are_served(start, monkeypatch):  # noqa: F811
    keeper, session = start()
    reached(session)
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        for each in (early, late):
            each.settimeout(GUARD)
        early.connect(os.path.join(session.folder, SOCKET))
        until(lambda: len(keeper._server._callers) == 1)
        listener = keeper._server._listener = _Listener(keeper._server._listener)
        late.connect(os.path.join(session.folder, SOCKET))
        late.sendall(b'{"want": []}\n')
        until(lambda: listener.calls)
        begun = time.monotonic()
        first = listener.calls
        until(lambda: listener.calls > first + 1)
        # Twice again, each after a pause: it may be later under load, but not sooner.
        assert time.monotonic() - begun > server_module.PAUSE_SECONDS
        listener.short = False
        early.sendall(b'{"want": []}\n')
        assert json.loads(early.makefile().read())["now"] == 1.0  # which gives a descriptor back
        assert json.loads(late.makefile().read())["now"] == 1.0


def test_bell_that_the_program_has_closed_neither_spins_nor_deafens(start, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr(keeper_module, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(keeper_module, "IDLE_SECONDS", 0.1)
    keeper, session = start()
    reached(session)
    other = os.open(os.devnull, os.O_RDONLY)
    bell = keeper._doorbell
    keeper._ring()
    os.close(bell)
    try:
        keeper.done.append(attempt(1))
        keeper.wake()
        until(lambda: not keeper.done)
        assert keeper._thread.is_alive()
        assert caplog.messages == []
    finally:
        os.dup2(other, bell)  # so that nothing else takes its number
        os.close(other)


# ------------------------------------------------------------ callers are limited


def test_callers_beyond_the_limit_wait_and_those_who_say_nothing_make_room(start, monkeypatch):  # noqa: F811
    monkeypatch.setattr(server_module, "CALLERS", 4)
    monkeypatch.setattr(server_module, "SILENT_SECONDS", 0.01)
    keeper, session = start()
    reached(session)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(30)]
    try:
        for each in silent:
            each.settimeout(GUARD)
            each.connect(os.path.join(session.folder, SOCKET))
            each.sendall(b'{"want"')
            assert len(keeper._server._callers) <= 4
        assert ask(session, {"want": []})["now"] == 1.0
        until(lambda: len(keeper._server._callers) < 4)
        assert silent[0].recv(1) == b""
    finally:
        for each in silent:
            each.close()


def test_callers_who_have_asked_are_all_answered_however_many_there_are(start, engine, monkeypatch):  # noqa: F811
    monkeypatch.setattr(server_module, "CALLERS", 4)
    monkeypatch.setattr(server_module, "ANSWERED_AT_ONCE", 2)
    most = []
    honest = engine.ask

    def counted(request, done):
        if request["want"] != ["running"]:
            most.append(keeper._server._asked)
        honest(request, done)

    keeper, session = start()
    keeper._ask = counted
    reached(session)
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(connect(session.folder, {"want": []}, GUARD))
        )
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert [answer["now"] for answer in answers] == [1.0] * 40
    assert max(most) <= 2


def test_nobody_is_answered_while_too_much_has_not_been_taken(start, engine, monkeypatch):  # noqa: F811
    monkeypatch.setattr(server_module, "UNTAKEN_BYTES", 1_000)
    engine.answer["tasks"] = ["x" * 1_000] * 3_000  # more than the kernel keeps
    keeper, session = start()
    until(lambda: os.path.exists(os.path.join(session.folder, SOCKET)))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(GUARD)
        slow.connect(os.path.join(session.folder, SOCKET))
        slow.sendall(b'{"want": []}\n')
        until(lambda: any(caller.unsent for caller in keeper._server._callers))
        before = len(engine.requests)
        refused = ask(session, {"want": [], "patience": 0.1})
        assert refused == {"error": "too many others ask and do not take their answers"}
        assert len(engine.requests) == before
        threading.Timer(0.05, lambda: slow.makefile("rb").read()).start()
        assert len(ask(session, {"want": [], "patience": GUARD})["tasks"]) == 3_000


def test_caller_that_takes_its_answer_too_slowly_is_dropped(start, engine, monkeypatch):  # noqa: F811
    monkeypatch.setattr(server_module, "CALLER_SECONDS", 1.0)  # also to ask in
    monkeypatch.setattr(server_module, "BYTES_PER_SECOND", 1e9)
    engine.answer["tasks"] = ["x" * 1_000] * 3_000
    keeper, session = start()
    until(lambda: os.path.exists(os.path.join(session.folder, SOCKET)))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(GUARD)
        slow.connect(os.path.join(session.folder, SOCKET))
        slow.sendall(b'{"want": []}\n')
        until(lambda: any(caller.unsent for caller in keeper._server._callers))
        taken = 0
        while keeper._server._callers:  # a little at a time, without an end
            taken += len(slow.recv(1))
        assert taken < 3_000_000


def test_caller_that_sends_a_little_at_a_time_has_no_longer(start, monkeypatch):  # noqa: F811
    monkeypatch.setattr(server_module, "CALLER_SECONDS", 0.2)
    _, session = start()
    until(lambda: os.path.exists(os.path.join(session.folder, SOCKET)))
    with socket.socket(socket.AF_UNIX) as slow, contextlib.suppress(BrokenPipeError):
        slow.settimeout(GUARD)
        slow.connect(os.path.join(session.folder, SOCKET))
        deadline = time.monotonic() + GUARD
        while time.monotonic() < deadline:
            slow.sendall(b" ")
        pytest.fail("it was heard for ever")


def test_answer_of_somebody_else_is_not_taken(start, monkeypatch):  # noqa: F811
    _, session = start()
    reached(session)
    honest = server_module._uid_behind
    monkeypatch.setattr(
        server_module,
        "_uid_behind",
        lambda connection: (
            honest(connection) + (threading.current_thread() is threading.main_thread())
        ),
    )
    with pytest.raises(PermissionError, match="somebody else answers"):
        connect(session.folder, {"want": []}, GUARD)


def test_caller_of_somebody_else_is_not_answered(start, monkeypatch):  # noqa: F811
    _, session = start()
    reached(session)
    monkeypatch.setattr(server_module, "_uid_behind", lambda _: os.getuid() + 1)
    with contextlib.suppress(ConnectionError):
        assert talk(session, b'{"want": []}\n') == b""
