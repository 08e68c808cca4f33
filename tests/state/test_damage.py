"""Histories that are damaged, or somebody else's: commands say so, or show what is whole."""

from __future__ import annotations

import functools
import json
import os
import random
import sqlite3
import stat
import zlib
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioray.cli import aioray
from aioray.state import folders, packing
from aioray.state.folders import OBJECTS, SOCKET, check_ours, clear, found_sessions, sweep
from aioray.state.read.columns import RESOURCES
from aioray.state.read.sessions import Session, SessionError, find_session, meta_of, sessions
from aioray.state.schema import ATTEMPT_COLUMNS, VERSION
from aioray.state.write.history import FILE, Batch, History, open_file
from aioray.state.write.server import connect
from aioray.util import state as api
from aioray.util.state.exception import RayStateApiException
from tests.cli.invoking import invoke
from tests.state.history import History as MadeHistory
from tests.state.history import a_session, actor_id, creation

NAME = "session_2026-11-18_11-06-40_000000_99999999"
TABLES = ("meta", "signatures", "attempts", "packed", "running", "entities", "events", "output")
TASK = creation(1).hex()

COMMANDS = [
    *(["list", resource.command, "--detail"] for resource in RESOURCES.values()),
    ["list", "tasks", "--format", "table"],
    ["list", "tasks", "--format", "json", "-f", "state=FAILED"],
    ["get", "tasks", TASK],
    ["get", "actors", actor_id(2)],
    *(["summary", name] for name in ("tasks", "actors", "objects")),
    ["timeline", "-o", "-"],
    ["status", "-v"],
    ["memory"],
    ["stack"],
    ["top", "--once"],
    ["logs"],
    ["logs", "task", TASK],
    ["logs", "actor", actor_id(2)],
    ["logs", "worker", "1001", "--both"],
    ["sessions"],
]
FUNCTIONS = [
    *(getattr(api, f"list_{name}") for name in RESOURCES),
    *(functools.partial(getattr(api, f"list_{name}"), detail=True) for name in RESOURCES),
    api.summarize_tasks,
    api.summarize_actors,
    api.summarize_objects,
    functools.partial(api.get_task, TASK),
    functools.partial(api.get_actor, actor_id(2)),
    functools.partial(api.get_worker, "a1" * 28),
    api.list_logs,
    lambda: list(api.get_log(task_id=TASK, encoding=None)),
    lambda: list(api.get_log(actor_id=actor_id(2), encoding=None)),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the only session, which was killed, with a history of something of all."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    path = tmp_path / f"aioray-{os.getuid()}" / NAME
    path.mkdir(parents=True, mode=0o700)
    (path / "lock").touch()
    (path / FILE).write_bytes(IMAGE)
    return path


def _image():
    made = MadeHistory()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        a_session().connection.backup(copy)
        made.connection.close()
        copy.execute(f"PRAGMA user_version = {VERSION}")
        values = [1, 90, 0, None, 1, 9, 1.0, 1.0, 1.0, 1.0, None, None, None]
        copy.execute(f"INSERT INTO running VALUES ({','.join('?' * len(values))})", values)
        return copy.serialize()


IMAGE = _image()


def everything_ends_well(*, fails=None):
    """Run every command and function; None of them may end in a traceback.

    fails: whether those fail that have to read the history; None: either way is right.
    """
    for arguments in COMMANDS:
        result = invoke(aioray, arguments, prog_name="aioray")
        said = (arguments, result.stdout, result.stderr)
        assert result.exception is None or isinstance(result.exception, SystemExit), said
        assert result.exit_code in (0, 1), said
        assert result.exit_code == 0 or "Error: " in result.stderr, said
        if fails is not None and arguments[0] in ("list", "status"):
            assert bool(result.exit_code) == fails, said
    for function in FUNCTIONS:
        try:
            function()
        except RayStateApiException as error:
            assert str(error)  # noqa: PT017 - some may raise, and some may not
            assert fails is not False
        else:
            assert fails is not True


def test_history_that_is_whole_is_shown_without_a_warning(caplog):
    everything_ends_well()
    assert caplog.messages == []


def _directory(path):
    path.unlink()
    path.mkdir()


def _fifo(path):
    path.unlink()
    os.mkfifo(path)


def _link(path):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _socket(path):
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _other_version(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


FATAL = {
    "empty": lambda path: path.write_bytes(b""),
    "no database": lambda path: path.write_bytes(b"not a database at all" * 500),
    "half": lambda path: path.write_bytes(IMAGE[: len(IMAGE) // 2]),
    "header alone": lambda path: path.write_bytes(IMAGE[:100]),
    "directory": _directory,
    "fifo": _fifo,
    "socket": _socket,
    "link": _link,
    "fifo as its log": lambda path: os.mkfifo(f"{path}-wal"),
    "link as its log": lambda path: os.symlink("/dev/zero", f"{path}-wal"),
    "others may write": lambda path: path.chmod(0o666),
    "other version": _other_version,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", FATAL.values(), ids=FATAL)
def test_history_that_cannot_be_read_is_told_of(folder, damage):
    damage(folder / FILE)
    everything_ends_well(fails=True)


def test_history_without_its_job_is_told_of(folder):
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta")
    with pytest.raises(SessionError, match="does not say whose"), find_session().view() as view:
        view.job  # noqa: B018
    everything_ends_well()


@pytest.mark.parametrize("what", ["table", "column"])
@pytest.mark.parametrize("table", TABLES)
def test_table_or_column_that_is_missing_ends_no_command_in_a_traceback(folder, table, what):
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        if what == "table":
            connection.execute(f"DROP TABLE {table}")
        else:
            connection.execute("DROP INDEX IF EXISTS output_of")
            first, *_ = connection.execute(f"PRAGMA table_info({table})").fetchall()
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {first[1]} TO another")
    everything_ends_well()


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 160, 170, 201])
def test_bytes_that_were_changed_end_no_command_in_a_traceback(folder, seed):
    chance = random.Random(seed)
    data = bytearray(IMAGE)
    begin = chance.choice((0, 100, 4096))  # the header often ends it at once
    for _ in range(chance.choice((1, 10, 100, 1_000))):
        data[chance.randrange(begin, len(data))] = chance.randrange(256)
    (folder / FILE).write_bytes(data)
    everything_ends_well()


VALUES = [
    "text",
    "",
    "\x1b[2J",
    b"bytes",
    b"",
    None,
    -1,
    2**63 - 1,
    -(2**63),
    1e300,
    float("inf"),
    0.5,
    "[" * 10_000,
    "9" * 5_000,
    "NaN",
    "{}",
    "[]",
    '{"number": "x", "worker_id": 5, "name": [], "actor_id": {}, "attributes": NaN}',
]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(TABLES),
    st.data(),
)
def test_values_of_any_type_in_any_column_end_no_command_in_a_traceback(folder, table, data):
    (folder / FILE).write_bytes(IMAGE)
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = data.draw(st.sampled_from(columns))
        value = data.draw(st.sampled_from(VALUES) | st.text() | st.binary() | st.floats())
        some = data.draw(st.sampled_from(["", "WHERE rowid % 2"]))
        connection.execute("PRAGMA ignore_check_constraints = ON")
        try:
            text = value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ? {some}", (text,))
        except sqlite3.Error:
            return  # an id that is no number
    everything_ends_well()


def attributes_of(sort):
    view = a_session().view()
    return {
        "meta": view.meta,
        "signature": view.signatures[1],
        "worker": view.workers[4],
        "actor": view.actors[1],
        "placement_group": view.placement_groups[0],
    }[sort]


@pytest.mark.parametrize("value", [None, 5, "x", [1], {"a": [float("nan")]}, True, -1e300, 2**70])
def test_facts_of_any_type_end_no_command_in_a_traceback(folder, value):
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        for sort in ("worker", "actor", "placement_group"):
            for number, name in enumerate(attributes_of(sort)):
                bad = json.dumps({"number": 50 + number, **attributes_of(sort), name: value})
                connection.execute("INSERT INTO entities VALUES (?, ?, ?)", (sort, name, bad))
        for number, name in enumerate(attributes_of("signature"), 100):
            bad = json.dumps({**attributes_of("signature"), name: value})
            connection.execute("INSERT INTO signatures VALUES (?, ?)", (number, bad))
            connection.execute(
                "INSERT INTO attempts SELECT ?, task_key, attempt, parent, worker, seq, created, "
                "ready, sent, started, ended, error_type, error_message FROM attempts LIMIT 1",
                (number,),
            )
        for name in attributes_of("meta").keys() - {"job"}:
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(value), name))
    everything_ends_well(fails=False)


def test_what_is_whole_is_shown_with_one_warning(folder, caplog):
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE attempts SET started = 'noon' WHERE task_key = 3 AND attempt = 1"
        )
        connection.execute("UPDATE attempts SET parent = 5 WHERE task_key = 5")
        connection.execute(
            "UPDATE entities SET attributes = '{' WHERE kind = 'worker' AND id = '3'"
        )
    session = find_session()
    for _ in range(2):
        with session.view() as view:
            shown = {(record.task_key, record.attempt) for record in view.records()}
            assert {1, 2, 4, 0} - {0} <= {
                task_key for task_key, _ in shown if isinstance(task_key, int)
            }
            assert (3, 0) in shown
            assert (3, 1) not in shown
            assert 5 not in {task_key for task_key, _ in shown}
            assert 3 not in view.workers
    (message,) = caplog.messages
    assert "is damaged and is left out" in message


# ------------------------------------------------------------ packed parts


def rows(count=3):
    return [(1, n, 0, None, 7, n, 1.0, 1.5, 2.0, 3.0, 0.5) for n in range(1, count + 1)]


mixed = st.tuples(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1) | st.binary(min_size=24, max_size=24),
    st.integers(0, 9),
    st.none() | st.binary(min_size=24, max_size=24),
    st.none() | st.integers(0, 9),
    *[st.none() | st.floats(allow_nan=False, allow_infinity=False)] * 6,
)


@given(st.lists(mixed, min_size=1, max_size=20))
def test_rows_are_unpacked_as_they_were_packed(some):
    assert packing.load(packing.dump(some), 11) == some


@given(st.binary() | st.binary().map(lambda data: packing.dump(rows()) + data))
def test_any_bytes_are_rows_or_an_error(data):
    try:
        found = packing.load(data, 11)
    except ValueError:
        return
    assert found == rows()


@given(st.data())
def test_packed_rows_with_changed_bytes_are_rows_or_an_error(data):
    changed = bytearray(packing.dump(rows()))
    for at in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=4)):
        changed[at] = data.draw(st.integers(0, 255))
    try:
        found = packing.load(bytes(changed), 11)
    except ValueError:
        return
    assert len(found) == 3
    assert {len(row) for row in found} == {11}


def test_length_that_is_a_lie_takes_no_memory():
    for lie in (b"\xff\xff\xff\xff", b"\xe8\x03\x00\x00"):
        with pytest.raises(ValueError, match=r"rows|cut off"):
            packing.load(lie + b"q" + lie, 11)


def packed(data, **other):
    values = {
        "count": 3,
        "unix_offset": 0.0,
        "checksum": zlib.crc32(data if isinstance(data, bytes) else b""),
        "data": data,
        **other,
    }
    return tuple(values.values())


MALFORMED = {
    "junk": packed(b"junk" * 100),
    "empty": packed(b""),
    "null": packed(None),
    "text": packed("text"),
    "other checksum": packed(packing.dump(rows()), checksum=5),
    "checksum that is text": packed(packing.dump(rows()), checksum="x"),
    "other count": packed(packing.dump(rows()), count=2),
    "huge count": packed(packing.dump(rows()), count=2**62),
    "count that is endless": packed(packing.dump(rows()), count=float("inf")),
    "offset that is SQL": packed(packing.dump(rows()), unix_offset="0); DROP TABLE attempts; --"),
    "offset that is missing": packed(packing.dump(rows()), unix_offset=None),
    "a list of marshal": packed(b"[\xff\xff\xff\x7f"),
    "longer than any": packed(bytes(packing.SIZE + 1)),
}


@pytest.mark.parametrize("row", MALFORMED.values(), ids=MALFORMED)
def test_packed_part_that_is_malformed_is_told_of(folder, row):
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute("INSERT INTO packed VALUES (?, ?, ?, ?)", row)
        connection.execute("INSERT INTO packed VALUES (?, ?, ?, ?)", row)
    with pytest.raises(sqlite3.DatabaseError, match="has changed"):
        open_file(str(folder / FILE), ended=True)
    with pytest.raises(SessionError, match="has changed"), find_session().view():
        pass
    result = invoke(aioray, ["list", "tasks"])
    assert result.exit_code == 1
    assert "Remove the file if it is damaged" in result.stderr


def test_sound_part_of_a_killed_session_becomes_rows(folder):
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        (before,) = connection.execute("SELECT count(*) FROM attempts").fetchone()
        connection.execute(
            "INSERT INTO packed VALUES (?, ?, ?, ?)", packed(packing.dump(rows()), unix_offset=5.0)
        )
    with closing(open_file(str(folder / FILE), ended=True)) as connection:
        found = connection.execute("SELECT * FROM attempts ORDER BY rowid").fetchall()
    assert len(found) == before + 3
    assert dict(zip(ATTEMPT_COLUMNS, found[-1], strict=True))["created"] == 6.0


# ------------------------------------------------------------ whose it is


@pytest.fixture
def somebody_else(monkeypatch, folder, tmp_path):
    """The user is another one, and finds a folder of his name that this one has made."""
    uid = os.getuid() + 1
    folder.parent.rename(tmp_path / f"aioray-{uid}")
    monkeypatch.setattr(os, "getuid", lambda: uid)
    return tmp_path / f"aioray-{uid}"


def test_folder_of_somebody_else_is_not_read(somebody_else, monkeypatch):
    def guarded(look, path="."):
        assert not str(path).startswith(str(somebody_else)), "it was looked into"
        return look(path)

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, functools.partial(guarded, getattr(os, name)))
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(SessionError, match="belongs to somebody else"):
        sessions()
    everything_ends_well(fails=True)
    result = invoke(aioray, ["sessions"])
    assert result.exit_code == 1
    assert "belongs to somebody else" in result.stderr


def test_nothing_of_somebody_else_is_removed_opened_or_asked(somebody_else):
    folder = somebody_else / NAME
    (folder / OBJECTS).mkdir()
    (folder / OBJECTS / "1").touch()
    os.mknod(folder / SOCKET, stat.S_IFSOCK | 0o600)
    before = sorted(os.listdir(folder))
    clear(str(folder))
    with pytest.raises(PermissionError):
        sweep(str(somebody_else))
    with pytest.raises(PermissionError):
        found_sessions(str(somebody_else))
    with pytest.raises(PermissionError):
        folders.make_folder(str(folder))
    with pytest.raises(PermissionError):
        connect(str(folder), {"want": []}, 1.0)
    session = Session(NAME, str(folder), alive=False, pid=1)
    with pytest.raises(SessionError, match="belongs to somebody else"), session.view():
        pass
    assert meta_of(session) == {}
    assert folders.is_alive(str(folder)) is None
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("sort", [stat.S_IFDIR, stat.S_IFREG, stat.S_IFSOCK])
def test_what_is_ours_alone_is_told_from_all_else(tmp_path, sort):
    paths = {kind: tmp_path / str(kind) for kind in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFSOCK)}
    paths[stat.S_IFDIR].mkdir(mode=0o700)
    paths[stat.S_IFREG].touch()
    os.mknod(paths[stat.S_IFSOCK], stat.S_IFSOCK | 0o600)
    assert check_ours(str(paths[sort]), sort).st_uid == os.getuid()
    for kind in paths.keys() - {sort}:
        with pytest.raises(PermissionError, match="it is no"):
            check_ours(str(paths[kind]), sort)
    (tmp_path / "link").symlink_to(paths[sort])
    with pytest.raises(PermissionError, match="it is no"):
        check_ours(str(tmp_path / "link"), sort)
    for mode in (0o720, 0o702, 0o777):
        paths[sort].chmod(mode)
        with pytest.raises(PermissionError, match="somebody else could write"):
            check_ours(str(paths[sort]), sort)
    with pytest.raises(FileNotFoundError):
        check_ours(str(tmp_path / "nothing"), sort)


@pytest.mark.parametrize(
    "name", ["session_²", "session_", "session_\x1b[2J_1", "session_٣", "x_" + "9" * 400, "a\n_1"]
)
def test_names_that_are_no_sessions_are_passed_over(folder, name):
    try:
        other = folder.parent / name
        other.mkdir(mode=0o700)
        (other / "lock").touch()
    except OSError:  # longer than names may be
        return
    assert [session.name for session in sessions()] == [NAME]
    sweep(str(folder.parent))
    assert other.exists()


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)]
)
def test_lock_that_is_something_else_holds_nobody_up(folder, make):
    (folder / "lock").unlink()
    make(folder / "lock")
    assert sessions() == []
    sweep(str(folder.parent))
    everything_ends_well(fails=True)


def test_sizes_that_no_json_can_have_do_not_break_the_writer(tmp_path):
    """A name or a text with half of a surrogate pair takes nothing else along."""
    (tmp_path / "w").mkdir(mode=0o700)
    history = History(str(tmp_path / "w"), attempts_kept=10, unix_offset=0.0)
    row = (1, 1, 0, None, None, None, 1.0, None, None, None, 4.0, "X", "text \ud800 \x00 end")
    history.write(
        Batch(
            failed=[row],
            events=[(1.0, "ERROR", "TASK", "\udfff")],
            signatures=[(1, {"name": "\ud800"})],
            meta={"job": "01000000"},
        )
    )
    history.finish()
    with Session("x", str(tmp_path / "w"), alive=False, pid=1).view() as view:
        assert [record.error_message for record in view.records()] == ["text \\ud800 \x00 end"]
        assert view.signatures[1]["name"] == "\ud800"
        assert view.events[0][3] == "\\udfff"
