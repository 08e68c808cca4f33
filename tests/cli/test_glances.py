"""What `status`, `memory`, `top` and `stack` print of a session that never ran."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aioray.cli import figures, memory, stack, status
from aioray.cli.top import Frame, Process
from aioray.shared import ids
from aioray.state.read.view import View
from aioray.state.schema import ATTEMPT_COLUMNS, SCHEMA
from tests.state.memory import database

NOW = 1_000_000.0  # Unix seconds
JOB = ids.job_id(1)
CREATION = ids.actor_task_id(ids.driver_task_id(JOB), 1)
ACTOR = ids.actor_of(CREATION).hex()
MIB = 2**20
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def in_greenwich(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def signature(name, actor=None):
    return {"name": name, "actor_id": actor, "creation": actor and CREATION.hex()}


def ended(number, signature, attempt=0, error=None):
    """An attempt of worker 1 that took a second."""
    when = NOW - 50
    return (
        signature,
        number,
        attempt,
        None,
        1,
        number,
        when,
        when,
        when,
        when,
        when + 1,
        error,
        error,
    )


def unfinished(number, signature, state, worker=None):
    when = NOW - 30
    sent = None if worker is None else when
    started = when if state == "RUNNING" else None
    return [signature, number, 0, None, worker, number, when, when, sent, started, state]


def worker(number, pid, **more):
    attributes = {"number": number, "worker_id": f"{number:02x}" * 28, "pid": pid, "is_alive": True}
    attributes |= {"worker_type": "WORKER" if number else "DRIVER", "exit_type": None, **more}
    return "worker", str(number), json.dumps(attributes)


def actor(number, state, **more):
    attributes = {
        "actor_id": ACTOR if number == 1 else f"{number:02x}" * 16,
        "class_name": "Player",
    }
    attributes |= {"state": state, "name": "", "pid": 12, "num_restarts": 0, **more}
    return "actor", attributes["actor_id"], json.dumps(attributes)


LIVE: dict[str, Any] = {
    "now": NOW,
    "tasks": [
        unfinished(11, 1, "RUNNING", 1),
        unfinished(12, 1, "SUBMITTED_TO_WORKER", 1),
        unfinished(13, 1, "PENDING_NODE_ASSIGNMENT"),
        unfinished(14, 3, "RUNNING", 2),
        unfinished(15, 3, "RUNNING", 2),
        unfinished(16, 3, "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"),
    ],
    "running": {"1": 11},
    "resources": {
        "total": {"CPU": 4.0, "memory": 2048 * MIB, "node:127.0.0.1": 1.0, "disk": 1.0},
        "available": {"CPU": 2.5, "memory": 2048 * MIB, "node:127.0.0.1": 1.0, "disk": 1.0},
    },
    "store": {"used": 3 * MIB, "capacity": 100 * MIB},
    "demands": [[{"GPU": 1.0, "CPU": 2.0}, 3], [{"CPU": 8.0}, 1]],
    "limiters": [
        {
            "name": "api",
            "running": 2,
            "concurrency": 4,
            "started": 5,
            "rate": 10,
            "per": 60.0,
            "waiting": 7,
        },
        {
            "name": "disk",
            "running": 1,
            "concurrency": 1,
            "started": 0,
            "rate": None,
            "per": 1.0,
            "waiting": 0,
        },
    ],
}
ATTEMPTS = [
    *(ended(number, 1) for number in range(1, 5)),
    ended(5, 1, 0, "WORKER_DIED"),
    ended(5, 1, 1),
    ended(6, 2, 0, "TASK_EXECUTION_EXCEPTION"),
]
EVENTS = [
    (NOW - 40.0, "INFO", "engine", "All is well."),
    *((NOW - 30.0 + at, "ERROR", "worker", f"Worker {at}: gone.\nmore of it") for at in range(12)),
]


def view(*, live=LIVE, events=EVENTS, entities=None, attempts=ATTEMPTS, **meta):
    connection = database()
    connection.executescript(SCHEMA)
    meta = {
        "session": "session_x",
        "job": JOB.hex(),
        "node_id": "ab" * 28,
        "pid": 10,
        "started_at": NOW - 3725.0,
        "entrypoint": "python train.py --fast",
        "total": LIVE["resources"]["total"],
        **meta,
    }
    if entities is None:
        entities = [
            worker(0, 10),
            worker(1, 11),
            worker(2, 12),
            worker(3, 13),
            worker(4, 14, is_alive=False, exit_type="SYSTEM_ERROR"),
            actor(1, "ALIVE", num_restarts=2, name="joe"),
            actor(2, "DEAD"),
        ]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [*_as_json(meta)])
    signatures = {1: signature("load"), 2: signature("train"), 3: signature("Player.play", ACTOR)}
    connection.executemany("INSERT INTO signatures VALUES (?, ?)", [*_as_json(signatures)])
    marks = ", ".join("?" * len(ATTEMPT_COLUMNS))
    connection.executemany(f"INSERT INTO attempts VALUES ({marks})", attempts)
    connection.executemany("INSERT INTO entities VALUES (?, ?, ?)", entities)
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", events)
    return View(None, connection, live)


def _as_json(mapping):
    return ((key, json.dumps(value)) for key, value in mapping.items())


def test_status_lists_breakers_where_there_are_any():
    breakers = [["poison", "OPEN", 3], ["decoder", "CLOSED", 0]]
    text = status.render(view(live={**LIVE, "breakers": breakers}), NOW)
    assert text.endswith(
        " decoder: CLOSED, 0 deaths of workers counted\n poison: OPEN, 3 deaths of workers counted"
    )
    assert "Breakers" not in status.render(view(), NOW)


# ---------------------------------------------------------------- all attempts


def counted(records):
    return Counter((record.signature, record.state, record.attempt > 0) for record in records)


def counted_by_glance(seen, after=0):
    glance = seen.glance(after)
    found = counted(glance.unfinished)
    for (signature, failed, again), count in glance.ended.items():
        found[signature, "FAILED" if failed else "FINISHED", again] += count
    return found


@pytest.mark.parametrize("live", [LIVE, {}])
def test_glance_counts_what_records_tells(live):
    """One attempt has ended while the session answered, another was running when it was killed."""
    seen = view(live=live, attempts=[*ATTEMPTS, ended(11, 1)])
    marks = ", ".join("?" * len(ATTEMPT_COLUMNS))
    row = (3, 14, 0, None, 2, 14, 1.0, 1.0, 1.0, 1.0, None, None, None)
    seen.connection.executemany(f"INSERT INTO running VALUES ({marks})", [row, ended(11, 1)])
    seen.connection.commit()
    expected = counted(seen.records())
    assert counted_by_glance(seen) == expected
    assert expected[1, "RUNNING", False] == 0
    assert expected[3, "FAILED", False] == (0 if live else 1)


def test_later_glance_counts_only_what_has_ended_since():
    seen = view()
    mark = seen.glance().mark
    assert seen.glance(mark).ended == {}
    assert seen.glance(mark - 1).ended == {(2, True, False): 1}


# ---------------------------------------------------------------- status


def test_status_of_a_session_that_lives():
    assert (
        status.render(view(events=EVENTS[:3]), NOW)
        == """\
======== Status: 1970-01-12 13:46:40 ========
Session: session_x, for 1:02:05, driver pid 10
Program: python train.py --fast

Node status
---------------------------------------------------------------
Active:
 1 node_abababababababababababababababababababababababababababab
Pending:
 (no pending nodes)
Recent failures:
 1970-01-12 13:46:10 ERROR Worker 0: gone.
 1970-01-12 13:46:11 ERROR Worker 1: gone.

Resources
---------------------------------------------------------------
Total Usage:
 1.5/4.0 CPU
 0.0/1.0 disk
 0B/2.00GiB memory

Pending Demands:
 {'CPU': 2.0, 'GPU': 1.0}: 3+ pending tasks/actors
 {'CPU': 8.0}: 1+ pending tasks/actors

Limiters:
 api: 2/4 running, 5/10 started in 60 s, 7 waiting
 disk: 1/1 running, 0 waiting

Tasks
---------------------------------------------------------------
 1 FAILED
 5 FINISHED
 1 PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY
 1 PENDING_NODE_ASSIGNMENT
 3 RUNNING
 1 SUBMITTED_TO_WORKER
 1 retried after a failure

Actors
---------------------------------------------------------------
 1 ALIVE
 1 DEAD
 2 restarts

Workers
---------------------------------------------------------------
 3 alive, 2 of them busy
 1 ended: SYSTEM_ERROR"""
    )


def test_status_of_a_session_that_has_ended_and_did_nothing():
    text = status.render(view(live={}, events=[], entities=[], attempts=[], ended_at=NOW - 60), NOW)
    assert (
        text
        == """\
======== Status: 1970-01-12 13:46:40 ========
Session: session_x, ended 1970-01-12 13:45:40 after 1:01:05
Program: python train.py --fast

Node status
---------------------------------------------------------------
Active:
 (no active nodes)
Pending:
 (no pending nodes)
Recent failures:
 (no failures)

Resources
---------------------------------------------------------------
Total:
 4.0 CPU
 1.0 disk
 2.00GiB memory

Tasks
---------------------------------------------------------------
 (none)

Actors
---------------------------------------------------------------
 (none)

Workers
---------------------------------------------------------------
 (none alive)"""
    )


def test_status_shows_the_latest_failures_and_all_if_asked():
    few = status.render(view(), NOW)
    assert " (2 earlier ones; --verbose shows them)\n" in few
    assert few.count("ERROR") == status.FAILURES + few.count("SYSTEM_ERROR")
    assert "Worker 1: gone" not in few
    assert "Worker 2: gone" in few
    all_of_them = status.render(view(), NOW, verbose=True)
    assert all_of_them.count(": gone.\n   more of it\n") == 12


# ---------------------------------------------------------------- memory


def row(number, size, signature="LOCAL_REFERENCE", **more):
    return {
        "object_id": f"{number:04x}",
        "object_size": size,
        "task_status": "FINISHED",
        "attempt_number": 1,
        "reference_type": signature,
        "call_site": "disabled",
        "type": "DRIVER",
        "pid": 10,
        "ip": "127.0.0.1",
        "location": "inline",
        "count": 1,
        **more,
    }


OBJECTS = [
    row(1, 3_000_000, location="memory"),
    row(1, 3_000_000, "PINNED_IN_MEMORY", type="WORKER", pid=12, task_status="NIL", count=0,
        location="memory", call_site="elsewhere"),
    row(2, -1, "ACTOR_HANDLE", task_status="NIL", location=""),
    row(3, 500),
]  # fmt: skip


def table(**options):
    return memory.render(view(live={**LIVE, "objects": OBJECTS}), NOW, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("memory", {}),
        (
            "memory-groups",
            {
                "group_by": "STACK_TRACE",
                "sort_by": "PID",
                "units": "MB",
                "no_format": True,
                "num_entries": 1,
            },
        ),
    ],
)
def test_memory(name, options):
    assert table(**options) == (GOLDEN / f"{name}.txt").read_text()


def test_memory_shows_the_largest_if_only_some_are_wanted():
    lines = table(num_entries=2).splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("127.")] == ["0001", "0001"]
    assert not [line for line in table(num_entries=0).splitlines() if line.startswith("127.")]


def test_memory_stats_only():
    assert (
        table(stats_only=True)
        == """\
======== Object references status: 1970-01-12 13:46:40 ========
--- Aggregate object store stats across all nodes ---
Object store usage 3.00MiB of 100.00MiB, 1 objects, 3.00% full
"""
    )


# ---------------------------------------------------------------- top


class Processes:
    """Plays /proc: all but one live, and use what `cpu` says."""

    def __init__(self):
        self.cpu = {10: 1.0, 11: 50.0, 12: 5.0}

    def __call__(self, pid):
        seconds = self.cpu.get(pid)
        return None if seconds is None else Process(seconds, 100.0, pid * MIB)


def drawn(frame, seen, now, rows=None):
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(frame.draw(seen, now, rows=rows))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_first_frame_of_top():
    assert drawn(Frame(Processes()), view(), 0.0) == [
        "session_x  up 1:02:05  driver pid 10",
        "Resources: 1.5/4 CPU, 0/1 disk; 4 requests wait",
        "Object store: 3.00MiB/100.00MiB",
        "",
        "PID  CPU %       RSS  FOR  RUNS",
        " 11     50  11.00MiB  30s  load",
        " 12      5  12.00MiB  30s  Player.play x2",
        " 10      1  10.00MiB       (driver)",
        "",
        "WAITING  RUNNING  FINISHED  FAILED  RETRIED  PER S  FUNCTION",
        "      1        2         0       0        0         Player.play",
        "      2        1         5       0        1         load",
        "      0        0         0       1        0         train",
        "",
        "PID  PENDING  RESTARTS  STATE  ACTOR",
        f" 12        3         2  ALIVE  Player joe {ACTOR}",
    ]


def test_later_frames_of_top_show_rates():
    processes = Processes()
    frame = Frame(processes)
    drawn(frame, view(), 10.0)
    processes.cpu[11] += 1.0
    processes.cpu[13] = 4.0  # not seen before
    lines = drawn(frame, view(attempts=[*ATTEMPTS, *(ended(20 + n, 1) for n in range(5))]), 12.0)
    shares = {line.split()[0]: line.split()[1] for line in lines[5:9]}
    assert shares == {"11": "50", "12": "0", "13": "4", "10": "0"}
    rates = {line.split()[-1]: line.split()[-2] for line in lines[11:14]}
    assert rates == {"load": "2.5", "Player.play": "0.0", "train": "0.0"}


def test_top_leaves_out_what_the_screen_has_no_room_for():
    lines = drawn(Frame(Processes()), view(), 0.0, rows=20)
    assert [line.strip() for line in lines if "more)" in line] == []
    lines = drawn(
        Frame(lambda pid: Process(0.0, 1.0, MIB)),
        view(entities=[worker(number, number) for number in range(1, 40)]),
        0.0,
        rows=24,
    )
    assert len(lines) == 23  # the last line is for the cursor
    told = sum(" 1.00MiB " in line for line in lines)
    assert any(f"({39 - told} more)" in line for line in lines)


# ---------------------------------------------------------------- stack


def test_stack(tmp_path):
    source = tmp_path / "job.py"
    source.write_text("def work():\n    compute(\n")
    frames = [[str(source), 2, "work"], ["<gone>", 7, "main"]]
    thread = {
        "name": "MainThread",
        "frames": frames,
        "all_frames": [*frames, ["/own.py", 1, "own"]],
    }
    idle = {"name": None, "frames": [], "all_frames": [["/own.py", 1, "own"]]}
    task = {"name": "work", "task_id": "0a" * 24, "attempt_number": 2, "seq": 5, "since": NOW - 75}
    rest = {"worker_type": "WORKER", "running": [], "threads": [], "calls": [], "problem": None}
    rows = [
        {**rest, "pid": 12, "number": 2, "worker_id": "bb", "threads": [idle]},
        {
            **rest,
            "pid": 11,
            "number": 1,
            "worker_id": "aa",
            "running": [task],
            "threads": [idle, thread],
            "calls": [{"seq": 5, "frames": frames[:1], "all_frames": frames}],
        },
        {**rest, "pid": 13, "number": 3, "worker_id": "cc", "problem": "It does not answer."},
        {**rest, "worker_type": "DRIVER", "pid": 10, "threads": [idle]},
    ]
    assert (
        stack.render(rows, NOW)
        == f"""\
Driver: pid 10
  idle

Worker: pid 11, worker aa
  runs work for 1:15 (task {"0a" * 24}, attempt 2)
  thread MainThread:
    File "{source}", line 2, in work
      compute(
    File "<gone>", line 7, in main
  work waits:
    File "{source}", line 2, in work
      compute(

Worker: pid 12, worker bb
  idle

Worker: pid 13, worker cc
  It does not answer."""
    )
    assert stack.render(rows, NOW, full=True).count("/own.py") == 4


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00KiB"),
        (11.44 * MIB, "11.44MiB"),
        (3 * 2**30, "3.00GiB"),
        (2**50, "1024.00TiB"),
    ],
)
def test_size(count, text):
    assert figures.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.34, "0.3s"),
        (42.9, "42s"),
        (307, "5:07"),
        (3600, "1:00:00"),
        (176_461, "2d 1:01:01"),
    ],
)
def test_span(seconds, text):
    assert figures.span(seconds) == text
