"""Whatever lies in the folders of sessions, readers and commands say what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.cli import aioray
from aioray.state.folders import OBJECTS, SOCKET, clear, found_sessions, sweep
from aioray.state.read.sessions import SessionError, find_session, sessions
from aioray.state.write.history import FILE
from aioray.util.state.exception import RayStateApiException
from tests.cli.invoking import invoke
from tests.shared.fuzzing import changed, fuzzed, jsonable, odd_text

from .test_damage import COMMANDS, FUNCTIONS, IMAGE, NAME, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hypothesis.strategies import DataObject


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all sessions."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path / f"aioray-{os.getuid()}"


def make(root: Path) -> Path:
    """Make the only session anew, which was killed, and remove what was there before."""
    for path in (root, *root.parent.glob("elsewhere*")):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            path.chmod(0o700)
            shutil.rmtree(path)
    folder = root / NAME
    folder.mkdir(parents=True, mode=0o700)
    (folder / "lock").touch()
    (folder / FILE).write_bytes(IMAGE)
    return folder


def one_ends_well(data: DataObject) -> None:
    """Run a command and a function: none may end in a traceback."""
    arguments = data.draw(st.sampled_from(COMMANDS))
    result = invoke(aioray, arguments, prog_name="aioray")
    said = (arguments, result.stdout, result.stderr)
    assert result.exception is None or isinstance(result.exception, SystemExit), said
    assert result.exit_code in (0, 1), said
    assert result.exit_code == 0 or "Error: " in result.stderr, said
    with contextlib.suppress(RayStateApiException):
        data.draw(st.sampled_from(FUNCTIONS))()


PAGE = 4096


@fuzzed(40)
@given(st.data())
def test_any_bytes_of_a_history_end_no_command_in_a_traceback(root: Path, data: DataObject) -> None:
    folder = make(root)
    page = data.draw(st.integers(0, len(IMAGE) // PAGE - 1)) * PAGE
    part = data.draw(changed(IMAGE[page : page + PAGE]))
    (folder / FILE).write_bytes(IMAGE[:page] + part + IMAGE[page + PAGE :])
    one_ends_well(data)


@fuzzed(20)
@given(st.data())
def test_any_leftovers_beside_a_history_end_no_command_in_a_traceback(
    root: Path, data: DataObject
) -> None:
    folder = make(root)
    for name in data.draw(st.lists(st.sampled_from(("-wal", "-shm", "-journal")), max_size=3)):
        # A log, or a journal, of this very history, which was left by a writer that was killed.
        mode = "delete" if name == "-journal" else "wal"
        beside = folder.parent.parent / "elsewhere.db"
        beside.write_bytes(IMAGE)
        with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN")
            connection.execute("UPDATE entities SET attributes = '{}'")
            connection.execute("INSERT INTO events VALUES (1.0, 'x', 'y', zeroblob(100000))")
            if mode == "wal":
                connection.execute("COMMIT")
            left = beside.with_name(beside.name + name)
            content = left.read_bytes() if left.exists() else b""
        (folder / f"{FILE}{name}").write_bytes(data.draw(changed(content[:40_000])))
    one_ends_well(data)


@fuzzed(40)
@given(st.data())
def test_any_rows_of_a_history_end_no_command_in_a_traceback(root: Path, data: DataObject) -> None:
    folder = make(root)
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        for _ in range(data.draw(st.integers(1, 4))):
            table = data.draw(st.sampled_from(TABLES))
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = data.draw(
                st.lists(values_of_rows, min_size=len(columns), max_size=len(columns))
            )
            with contextlib.suppress(sqlite3.Error, OverflowError):
                if data.draw(st.booleans()):
                    marks = ", ".join("?" * len(columns))
                    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
                else:
                    column = data.draw(st.sampled_from(columns))
                    connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", values[:1])
    one_ends_well(data)


values_of_rows = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((0, 1, 2, 3, 1.0, 1e10)),
    st.floats(),
    st.binary(max_size=24),
    odd_text.map(lambda text: text.encode("utf-8", "replace").decode()),
    st.sampled_from(("worker", "actor", "placement_group", "map", "job", "output_dropped")),
    jsonable.map(json.dumps),
)


# ------------------------------------------------------------ folders


def _listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)


KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "empty": lambda path: path.touch(),
    "bytes": lambda path: path.write_bytes(b"\0\xff" * 100),
    "folder": lambda path: path.mkdir(),
    "folder with a file": lambda path: (path.mkdir(), (path / "x\x1b[2J").touch()),
    "fifo": os.mkfifo,
    "socket": _listening,
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path: path.symlink_to(".."),
}
PLACES = ("lock", FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal", SOCKET, OBJECTS, "other")
MODES = (0o000, 0o200, 0o400, 0o644, 0o666, 0o700, 0o777, 0o4755)


def put(path: Path, kind: str) -> None:
    """Put something else where something may be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)


@fuzzed(40)
@given(st.data())
def test_anything_in_a_folder_of_sessions_ends_no_command_in_a_traceback(
    root: Path, data: DataObject
) -> None:
    folder = make(root)
    outside = root.parent / "elsewhere"
    outside.write_text("kept")
    for _ in range(data.draw(st.integers(0, 3))):
        put(folder / data.draw(st.sampled_from(PLACES)), data.draw(st.sampled_from(sorted(KINDS))))
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from(("session_1", "x_1", "_0", "a_9999999999", "é_1", "\n_5")))
        put(root / name, data.draw(st.sampled_from(sorted(KINDS))))
    for _ in range(data.draw(st.integers(0, 2))):
        path = data.draw(st.sampled_from((root, folder, folder / FILE, folder / "lock")))
        if path.exists() and not path.is_symlink():
            path.chmod(data.draw(st.sampled_from(MODES)))
    one_ends_well(data)
    with contextlib.suppress(SessionError):
        for session in sessions():
            assert session.name == os.path.basename(session.folder)
    with contextlib.suppress(SessionError):
        find_session(data.draw(odd_text))
    for remove in (lambda: clear(str(folder)), lambda: sweep(str(root))):
        with contextlib.suppress(PermissionError):
            remove()
    with contextlib.suppress(PermissionError):
        found_sessions(str(root))
    assert outside.read_text() == "kept"
