"""The folders of sessions: private, locked while they live, found newest first, swept."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time

import pytest

from aioray.state import folders as module
from aioray.state.folders import (
    OBJECTS,
    SOCKET,
    SessionFolder,
    found_sessions,
    new_name,
    root_folder,
    sweep,
)
from aioray.state.write.history import FILE

GONE = 99_999_999  # beyond any pid


@pytest.fixture
def make(tmp_path):
    made = []

    def start(name=None):
        made.append(SessionFolder(str(tmp_path / "root"), name or new_name()))
        made[-1].make()
        return made[-1]

    yield start
    for folder in made:
        folder.close()


def leave(root, name, size=0, *, objects=False):
    """What a session leaves behind that was killed."""
    (root / name).mkdir(parents=True)
    (root / name / "lock").touch()
    if size:
        (root / name / FILE).write_bytes(b"x" * size)
    if objects:
        (root / name / OBJECTS).mkdir()
        (root / name / OBJECTS / "1").write_bytes(b"x")
        (root / name / SOCKET).touch()
    return root / name


def test_nobody_else_may_write_to_what_is_made_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        module.make_folder(str(tmp_path / "not" / "there" / "yet"))
        module.make_folder(str(tmp_path / "not" / "there" / "yet"))  # it is there now
    finally:
        os.umask(before)
    made = [tmp_path / "not", tmp_path / "not/there", tmp_path / "not/there/yet"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o755, 0o755, 0o700]


def test_root_is_where_the_user_says(monkeypatch):
    uid = f"aioray-{os.getuid()}"
    assert root_folder("/somewhere", {"RAY_TMPDIR": "/else"}) == f"/somewhere/{uid}"
    assert root_folder(None, {"RAY_TMPDIR": "/else"}) == f"/else/{uid}"
    monkeypatch.setattr(tempfile, "tempdir", "/t")
    assert root_folder(None, {}) == f"/t/{uid}"


def test_names_are_new_each_time_and_end_with_the_pid():
    one = new_name()
    while (two := new_name()) == one:
        pass
    assert one < two
    assert one.endswith(f"_{os.getpid()}")


def test_only_its_user_may_look_into_a_folder(make):
    folder = make()
    for path in (folder.root, folder.path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_folder_that_others_can_write_to_is_refused(tmp_path):
    (tmp_path / "root").mkdir(mode=0o777)
    (tmp_path / "root").chmod(0o777)
    with pytest.raises(PermissionError, match="somebody else could write there"):
        SessionFolder(str(tmp_path / "root"), new_name()).make()


def test_history_stays_and_all_else_goes_with_the_session(make):
    folder = make()
    for name in (FILE, SOCKET):
        open(os.path.join(folder.path, name), "w").close()
    os.mkdir(os.path.join(folder.path, OBJECTS))
    folder.close()
    assert sorted(os.listdir(folder.path)) == [FILE, "lock"]


def test_session_without_a_history_leaves_nothing(make, tmp_path):
    make().close()
    assert os.listdir(tmp_path) == []


def test_sessions_are_found_newest_first_with_what_lives(make, tmp_path):
    root = tmp_path / "root"
    old = leave(root, f"session_2020-01-01_00-00-00_000000_{GONE}", 1).name
    older = leave(root, f"session_2019-01-01_00-00-00_000000_{GONE}", 1).name
    (root / "something else").mkdir()
    new = make()
    found = found_sessions(str(root))
    assert [session.name for session in found] == [os.path.basename(new.path), old, older]
    assert [session.alive for session in found] == [True, False, False]
    assert found[0].pid == os.getpid()
    assert found_sessions(str(tmp_path / "nowhere")) == []


def test_sweep_keeps_histories_within_bounds_and_clears_what_was_killed(
    make, tmp_path, monkeypatch
):
    root = tmp_path / "root"
    monkeypatch.setattr(module, "KEPT_BYTES", 250)
    monkeypatch.setattr(module, "KEPT_SESSIONS", 3)
    kept = [leave(root, f"session_2025-01-0{day}_x_{GONE}", 100, objects=True) for day in (9, 8)]
    too_large = leave(root, f"session_2025-01-07_x_{GONE}", 100)
    empty = leave(root, f"session_2025-01-06_x_{GONE}", objects=True)
    alive = make("session_2024-01-01_x_1")
    sweep(str(root))
    assert sorted(os.listdir(root)) == sorted(
        [*(path.name for path in kept), os.path.basename(alive.path)]
    )
    assert not too_large.exists()
    assert not empty.exists()
    for path in kept:
        assert sorted(os.listdir(path)) == [FILE, "lock"]


def test_sweep_leaves_alone_what_may_just_be_beginning(tmp_path):
    root = tmp_path / "root"
    begun = leave(root, f"session_2025-01-09_x_{os.getpid()}")
    ended = leave(root, f"session_2025-01-08_x_{os.getpid()}")
    long_ago = time.time() - 10 * module.NEW_SECONDS
    os.utime(ended, (long_ago, long_ago))
    sweep(str(root))
    assert begun.exists()
    assert not ended.exists()


def test_link_that_leads_to_itself_keeps_no_session_from_being_swept(tmp_path):
    path = leave(tmp_path / "root", "session_2025-01-09_x_99999999", 10)
    (path / "odd").symlink_to("odd")
    (path / OBJECTS).mkdir()
    sweep(str(tmp_path / "root"))
    assert OBJECTS not in os.listdir(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/", path)])
def test_what_is_no_folder_of_values_is_removed_without_a_look_into_it(tmp_path, make):
    path = leave(tmp_path / "root", "session_x_1")
    make(path / OBJECTS)
    module.clear(str(path))
    assert not path.exists()  # nothing was left


def test_threads_that_make_it_together_take_one_lock(tmp_path):
    folder = SessionFolder(str(tmp_path / "root"), new_name())
    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=folder.make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    folder.close()
    with pytest.raises(RuntimeError, match="shut down"):
        folder.make()
