"""Cgroups of workers, in a folder that looks like the kernel's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aioray.engine.processes.cgroups import MemoryCgroups

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024 * 1024


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The cgroup of this process, in which it may make others."""
    folder = tmp_path / "cgroup/user/session"
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (folder / "cgroup.subtree_control").write_text("")
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("4:memory:/v1\n0::/user/session\n")
    return folder


def cgroups(tmp_path: Path) -> MemoryCgroups:
    return MemoryCgroups(10 * MB, str(tmp_path), str(tmp_path / "cgroup"))


def made(own: Path) -> Path:
    return own / f"aioray-{os.getpid()}-7"


def test_a_worker_may_have_its_limit_and_the_store_beyond_what_it_has(
    tmp_path: Path, own: Path
) -> None:
    groups = cgroups(tmp_path)
    groups.hold(7, 4711, 100 * MB)
    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    assert (made(own) / "cgroup.procs").read_text() == "4711"
    assert (made(own) / "memory.max").read_text() == str(110 * MB)
    assert (made(own) / "memory.oom.group").read_text() == "1"
    groups.release(7)
    assert (made(own) / "memory.max").read_text() == "max"
    (made(own) / "memory.current").write_text(f"{50 * MB}\n")
    groups.hold(7, 4711, 100 * MB)
    assert (made(own) / "memory.max").read_text() == str(160 * MB)


def test_it_is_told_whom_the_kernel_has_killed(tmp_path: Path, own: Path) -> None:
    groups = cgroups(tmp_path)
    groups.hold(7, 4711, 100 * MB)
    assert not groups.has_killed(7)
    (made(own) / "memory.events").write_text("max 12\noom 1\noom_kill 1\noom_group_kill 1\n")
    assert groups.has_killed(7)
    assert not groups.has_killed(8)
    groups.hold(7, 4711, 100 * MB)  # that was before
    assert not groups.has_killed(7)


def test_a_cgroup_is_taken_away_with_its_worker(tmp_path: Path, own: Path) -> None:
    groups = cgroups(tmp_path)
    groups.hold(7, 4711, 100 * MB)
    for file in made(own).iterdir():  # the kernel has none that could be in the way
        file.unlink()
    groups.remove(7)
    groups.remove(7)
    assert not made(own).exists()
    assert not groups.has_killed(7)


@pytest.mark.parametrize("missing", ["cgroup.controllers", "cgroup.subtree_control", ""])
def test_there_are_none_where_none_can_be_made(tmp_path: Path, own: Path, missing: str) -> None:
    if missing:
        (own / missing).unlink()
    else:
        (own / "cgroup.controllers").write_text("cpu pids\n")
    groups = cgroups(tmp_path)
    groups.hold(7, 4711, 100 * MB)
    groups.release(7)
    assert not made(own).exists()
    assert not groups.has_killed(7)


def test_a_worker_that_cannot_be_moved_is_left_where_it_is(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(own).write_text("in the way")
    groups = cgroups(tmp_path)
    groups.hold(7, 4711, 100 * MB)
    groups.hold(7, 4711, 100 * MB)
    assert made(own).read_text() == "in the way"


def test_the_cgroup_above_is_used_if_it_belongs_to_the_same_user(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "cgroup.controllers").unlink()
    above = own.parent
    (above / "cgroup.controllers").write_text("memory\n")
    (above / "cgroup.subtree_control").write_text("memory\n")
    user = above.stat().st_uid or 1000
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if above.stat().st_uid != user:
        os.chown(above, user, -1)
    cgroups(tmp_path).hold(7, 4711, 100 * MB)
    assert (made(above) / "memory.max").read_text() == str(110 * MB)


def test_a_kernel_without_cgroups_is_none_of_these(tmp_path: Path) -> None:
    groups = MemoryCgroups(0, str(tmp_path), str(tmp_path))
    groups.hold(7, 4711, 100 * MB)
    assert not groups.has_killed(7)
