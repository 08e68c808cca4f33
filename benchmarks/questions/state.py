"""How long does a command wait for what a session with many tasks can tell?

Fixed: the history of a session that has ended, of 100,000 attempts of 20 functions by 8 workers,
every tenth of which has failed; the commands in processes of their own, from start to end, so the
start of an interpreter is in it. The floor is a command that asks for nothing of the kind. Byte
code is written, and the file is in the page cache, by a round before the first.
Unit: milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from aioray.state.folders import root_folder
from aioray.state.schema import ATTEMPT_COLUMNS, SCHEMA, VERSION
from aioray.state.write.history import FILE
from benchmarks.report import at_most, median_of
from benchmarks.runner import ROOT, environment

if TYPE_CHECKING:
    from benchmarks.bench import Bench

NAME = "state"
COMMANDS = {
    "floor": ["completion", "bash"],
    "list tasks": ["list", "tasks"],
    "list tasks -f state=FAILED": ["list", "tasks", "-f", "state=FAILED"],
    "list tasks --limit 10000": ["list", "tasks", "--limit", "10000"],
    "get tasks ID": ["get", "tasks", "ab" * 24],
    "summary tasks": ["summary", "tasks"],
}
FUNCTIONS, WORKERS, FAILED_SHARE = 20, 8, 10
SECONDS = 60


def run(bench: Bench) -> None:
    count = bench.scale.queued
    with tempfile.TemporaryDirectory(prefix="aioray-benchmark-") as directory:
        _make_session(directory, count)
        samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for number in range(bench.scale.rounds + 1):
            for name, arguments in COMMANDS.items():
                taken = _ask(directory, arguments)
                if number:
                    samples[name].append(taken)
    aims = {
        "list tasks": [at_most(median_of(samples, "list tasks"), 2000)],
    }
    bench.table.add(NAME, f"a session of {count:,} attempts", "ms", samples, aims)


def _ask(directory: str, arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "aioray", *arguments],
        check=True,
        cwd=ROOT,
        env={**environment(), "RAY_TMPDIR": directory},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=SECONDS,
    )
    return 1000 * (time.perf_counter() - start)


def _make_session(directory: str, count: int) -> None:
    root = root_folder(directory)
    folder = os.path.join(root, "session_2026-01-01_00-00-00_000000_1")
    os.makedirs(folder, mode=0o700)
    os.chmod(root, 0o700)
    with open(os.path.join(folder, "lock"), "w", encoding="utf-8"):
        pass  # nobody holds it: the session has ended
    with contextlib.closing(sqlite3.connect(os.path.join(folder, FILE))) as file:
        file.executescript(SCHEMA)
        meta = {"job": "01000000", "node_id": "0e" * 28, "started_at": 0.0, "ended_at": 1.0}
        file.executemany(
            "INSERT INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in meta.items()]
        )
        file.executemany(
            "INSERT INTO signatures VALUES (?, ?)",
            [(number, json.dumps(_kind(number))) for number in range(FUNCTIONS)],
        )
        file.executemany(
            "INSERT INTO entities VALUES ('worker', ?, ?)",
            [(str(number), json.dumps(_worker(number))) for number in range(WORKERS + 1)],
        )
        marks = ", ".join("?" * len(ATTEMPT_COLUMNS))
        file.executemany(
            f"INSERT INTO attempts VALUES ({marks})",
            (
                (n % FUNCTIONS, n + 1, 0, None, 1 + n % WORKERS, n, *[n / count] * 5)
                + (("WORKER_DIED", "") if n % FAILED_SHARE == 0 else (None, None))
                for n in range(count)
            ),
        )
        file.execute(f"PRAGMA user_version = {VERSION}")
        file.commit()


def _kind(number: int) -> dict[str, object]:
    return {
        "name": f"f{number}",
        "type": "NORMAL_TASK",
        "func_or_class_name": f"f{number}",
        "actor_id": None,
        "creation": None,
        "required_resources": {"CPU": 1.0},
        "placement_group_id": None,
        "runtime_env": None,
        "label_selector": {},
    }


def _worker(number: int) -> dict[str, object]:
    return {
        "number": number,
        "worker_id": f"{number:02x}" * 28,
        "pid": 1000 + number,
        "is_alive": False,
        "worker_type": "WORKER" if number else "DRIVER",
        "exit_type": "INTENDED_USER_EXIT",
        "actor_id": None,
    }
