"""Readings of memory, from folders that look like the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aioray.engine.processes.readings import (
    MachineMemory,
    MemoryUse,
    family_of,
    own_memory,
    shares_of_own_memory,
)

if TYPE_CHECKING:
    from pathlib import Path

KB = 1024
MB = 1024 * KB
STATUS = """Name:\tpython
VmHWM:\t  900000 kB
VmRSS:\t  500000 kB
RssAnon:\t  300000 kB
RssFile:\t  100000 kB
RssShmem:\t  100000 kB
VmSwap:\t   20000 kB
"""
ROLLUP = """55d5f48ef000-7fff7ee78000 ---p 00000000 00:00 0      [rollup]
Rss:              500000 kB
Pss:              250000 kB
Pss_Anon:         150000 kB
Pss_File:          50000 kB
Pss_Shmem:         50000 kB
Swap:              20000 kB
SwapPss:           10000 kB
"""
MEMINFO = """MemTotal:        1000000 kB
MemFree:           10000 kB
MemAvailable:     600000 kB
Buffers:            1000 kB
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ---------------------------------------------------------------- processes


def test_files_and_what_is_shared_are_not_a_process_s_own(tmp_path: Path) -> None:
    write(tmp_path / "7/status", STATUS)
    assert own_memory(7, str(tmp_path)) == 320_000 * KB


def test_pages_of_a_fork_are_shared_out(tmp_path: Path) -> None:
    write(tmp_path / "7/smaps_rollup", ROLLUP)
    write(tmp_path / "8/smaps_rollup", ROLLUP)
    assert shares_of_own_memory([7, 8], str(tmp_path)) == 2 * 160_000 * KB


def test_the_family_has_all_below_a_process_by_any_of_its_threads(tmp_path: Path) -> None:
    write(tmp_path / "7/task/7/children", "8 9 ")
    write(tmp_path / "7/task/77/children", "10 ")
    write(tmp_path / "9/task/9/children", "11 ")
    write(tmp_path / "10/task/10/children", "")
    assert sorted(family_of(7, str(tmp_path))) == [7, 8, 9, 10, 11]


def test_who_is_gone_has_nothing(tmp_path: Path) -> None:
    assert own_memory(7, str(tmp_path)) == 0
    assert shares_of_own_memory([7], str(tmp_path)) == 0
    assert family_of(7, str(tmp_path)) == [7]


def test_the_kernel_s_own_files_are_read() -> None:
    before = own_memory(os.getpid())
    held = b"x" * (64 * MB)
    assert own_memory(os.getpid()) - before > 32 * MB
    assert 0 < shares_of_own_memory([os.getpid()]) <= own_memory(os.getpid()) + MB
    del held
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        assert child.pid in family_of(os.getpid())
    assert child.pid not in family_of(os.getpid())


# ---------------------------------------------------------------- the machine


def test_what_the_kernel_can_give_back_is_not_in_use(tmp_path: Path) -> None:
    write(tmp_path / "meminfo", MEMINFO)
    machine = MachineMemory(str(tmp_path), str(tmp_path / "none"))
    assert machine.look() == [MemoryUse(400_000 * KB, 1_000_000 * KB)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_limit_counts_and_its_file_cache_does_not(
    tmp_path: Path, version: int
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "meminfo", MEMINFO)
    if version == 2:
        write(proc / "self/cgroup", "0::/box/inner\n")
        box, inner = root / "box", root / "box/inner"
        limit, current, prefix = "memory.max", "memory.current", ""
        write(inner / limit, "max\n")
    else:
        write(proc / "self/cgroup", "5:devices:/x\n4:memory:/box/inner\n0::/\n")
        box, inner = root / "memory/box", root / "memory/box/inner"
        limit, current, prefix = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        write(inner / limit, "9223372036854771712\n")
    write(inner / current, f"{90 * MB}\n")
    write(box / limit, f"{500 * MB}\n")
    write(box / current, f"{400 * MB}\n")
    files = f"{prefix}inactive_file {100 * MB}\n{prefix}active_file {50 * MB}\n"
    write(box / "memory.stat", f"anon {250 * MB}\n{files}")
    machine = MachineMemory(str(proc), str(root))
    assert machine.look() == [
        MemoryUse(400_000 * KB, 1_000_000 * KB),
        MemoryUse(250 * MB, 500 * MB),
    ]


def test_a_container_that_sees_itself_at_the_root_is_found(tmp_path: Path) -> None:
    write(tmp_path / "self/cgroup", "0::/not/mounted/here\n")
    write(tmp_path / "cgroup/memory.max", f"{500 * MB}\n")
    write(tmp_path / "cgroup/memory.current", f"{400 * MB}\n")
    machine = MachineMemory(str(tmp_path), str(tmp_path / "cgroup"))
    assert machine.look() == [MemoryUse(400 * MB, 500 * MB)]


def test_nothing_is_known_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert MachineMemory(str(tmp_path), str(tmp_path)).look() == []


def test_this_machine_has_memory() -> None:
    use, *_ = MachineMemory().look()
    assert 0 < use.used < use.total


@pytest.mark.parametrize(
    ("threshold", "min_free", "allowed"),
    [(0.95, -1, 950), (0.95, 10, 990), (0.95, 100, 950), (0.0, -1, 0), (1.0, 0, 1000)],
)
def test_what_may_be_in_use_is_as_in_ray(threshold: float, min_free: int, allowed: int) -> None:
    assert MemoryUse(0, 1000).allowed(threshold, min_free) == allowed
