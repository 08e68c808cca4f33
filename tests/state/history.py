"""Makes the view of a session that never ran: the same ids, times and pids every time.

It covers what the state API tells apart: attempts that finished, failed, were retried, wait and
run; actors that live, died and never started; workers that ended in each way.
"""

from __future__ import annotations

import json
from typing import Any

from aioray.shared import ids
from aioray.state.read.view import View
from aioray.state.schema import ATTEMPT_COLUMNS, SCHEMA

from .memory import database

JOB = ids.job_id(1)
NODE = "0e" * 28
T0 = 1_795_000_000.0  # seconds; 2026-11-18 11:06:40 UTC
TOTAL = {"CPU": 2.0, "memory": 16.0 * 2**30, "object_store_memory": 4.5 * 2**30}


def worker_id(number: int) -> str:
    return f"{0xA0 + number:02x}" * 28


def creation(number: int) -> bytes:
    return ids.actor_task_id(ids.driver_task_id(JOB), number)


def actor_id(number: int) -> str:
    found = ids.actor_of(creation(number))
    assert found is not None
    return found.hex()


def group_id(number: int) -> str:
    return f"{0xB0 + number:02x}" * 14 + JOB.hex()


class History:
    """Collects what a session would have written, and gives a view of it."""

    def __init__(self) -> None:
        self.connection = database()
        self.connection.executescript(SCHEMA)
        self.signatures = 0
        self.alive = True
        self.live: dict[str, Any] = {"tasks": []}
        self.meta(
            version="0.1.0",
            session="session_2026-11-18_11-06-40_000000_1000",
            job=JOB.hex(),
            node_id=NODE,
            namespace="default",
            pid=1000,
            hostname="host",
            ip="127.0.0.1",
            entrypoint="python program.py",
            python="3.11.9",
            started_at=T0,
            ended_at=None,
            total=TOTAL,
            labels={"zone": "a"},
        )

    def meta(self, **values: Any) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            [(key, json.dumps(value)) for key, value in values.items()],
        )

    def signature(self, name: str, **attributes: Any) -> int:
        self.signatures += 1
        whole = {
            "name": name,
            "type": "NORMAL_TASK",
            "func_or_class_name": name,
            "actor_id": None,
            "creation": None,
            "required_resources": {"CPU": 1.0},
            "placement_group_id": None,
            "runtime_env": None,
            "label_selector": {},
            **attributes,
        }
        self.connection.execute(
            "INSERT INTO signatures VALUES (?, ?)", (self.signatures, json.dumps(whole))
        )
        return self.signatures

    def attempt(
        self,
        signature: int,
        task_key: int | bytes,
        attempt: int = 0,
        state: str | None = None,
        **attributes: Any,
    ) -> None:
        """One that has ended, or, with `state`, one that is in it. Times count from T0."""
        for key in ("created", "ready", "sent", "started", "ended"):
            attributes[key] = T0 + attributes[key] if key in attributes else None
        row = {"signature": signature, "task_key": task_key, "attempt": attempt, **attributes}
        values = [row.get(column) for column in ATTEMPT_COLUMNS]
        if state is None:
            marks = ", ".join("?" * len(values))
            self.connection.execute(f"INSERT INTO attempts VALUES ({marks})", values)
            return
        del values[-3:]  # ended, error_type, error_message
        plain = [value.hex() if isinstance(value, bytes) else value for value in values]
        self.live["tasks"].append([*plain, state])

    def entity(self, kind: str, identifier: str, **attributes: Any) -> None:
        self.connection.execute(
            "INSERT INTO entities VALUES (?, ?, ?)", (kind, identifier, json.dumps(attributes))
        )

    def worker(self, number: int, **attributes: Any) -> None:
        for key in ("launched", "forked", "ready", "ended"):
            attributes[key] = T0 + attributes[key] if key in attributes else None
        whole = {
            "number": number,
            "worker_id": worker_id(number),
            "pid": 1000 + number,
            "is_alive": attributes["ended"] is None,
            "worker_type": "WORKER",
            "exit_type": None,
            "exit_detail": None,
            "actor_id": None,
            **attributes,
        }
        self.entity("worker", str(number), **whole)

    def actor(self, number: int, class_name: str, state: str, **attributes: Any) -> None:
        whole = {
            "actor_id": actor_id(number),
            "class_name": class_name,
            "state": state,
            "job_id": JOB.hex(),
            "name": "",
            "node_id": NODE,
            "pid": None,
            "ray_namespace": "default",
            "serialized_runtime_env": None,
            "required_resources": {},
            "death_cause": None,
            "is_detached": False,
            "placement_group_id": None,
            "repr_name": "",
            "num_restarts": 0,
            "num_restarts_due_to_lineage_reconstruction": 0,
            "num_restarts_due_to_node_preemption": 0,
            "call_site": None,
            "label_selector": {},
            "fallback_strategy": [],
            "worker": None,
            "created": T0,
            "ended": None,
            **attributes,
        }
        self.entity("actor", actor_id(number), **whole)

    def event(self, at: float, severity: str, source: str, message: str) -> None:
        self.connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?)", (T0 + at, severity, source, message)
        )

    def output(self, worker: int, seq: int, stream: int, data: bytes) -> None:
        self.connection.execute(
            "INSERT INTO output VALUES (?, ?, ?, ?, ?)", (worker, seq, stream, T0, data)
        )

    def end(self, at: float) -> None:
        """The session ends in order."""
        self.meta(ended_at=T0 + at)
        self.alive = False

    def view(self) -> View:
        return View(None, self.connection, dict(self.live) if self.alive else {})


def a_session() -> History:
    """A session with something of everything."""
    made = History()
    made.worker(0, worker_type="DRIVER", pid=1000, launched=0.0, forked=0.0, ready=0.0)
    made.worker(1, launched=0.1, forked=0.15, ready=0.2)
    made.worker(
        2,
        launched=0.1,
        forked=0.15,
        ready=0.25,
        ended=2.5,
        exit_type="SYSTEM_ERROR",
        exit_detail="Worker exited with status 1.",
    )
    made.worker(3, launched=2.6, forked=2.65, ready=2.7, actor_id=actor_id(1))
    made.worker(
        4,
        launched=2.6,
        forked=2.7,
        ready=2.75,
        ended=4.0,
        exit_type="INTENDED_USER_EXIT",
        exit_detail="Worker exits by an user request. exit_actor() is called.",
        actor_id=actor_id(2),
    )
    failing = made.signature("f")
    taking = made.signature("g")
    retried = made.signature("potentially_fail")
    environment = made.signature("setup", runtime_env={"env_vars": {"FOO": "bar"}})
    waiting = made.signature(
        "wait", required_resources={"CPU": 4.0}, placement_group_id=group_id(1)
    )
    counter = {"actor_id": actor_id(1), "required_resources": {}}
    makes = made.signature(
        "steps:Counter.__init__",
        type="ACTOR_CREATION_TASK",
        func_or_class_name="Counter.__init__",
        **counter,
    )
    calls = made.signature(
        "Counter.add",
        type="ACTOR_TASK",
        func_or_class_name="Counter.add",
        creation=creation(1).hex(),
        **counter,
    )
    real = "User exception:\nray::f() (pid=1001, ip=127.0.0.1)\nException: the real error"
    made.attempt(
        failing,
        1,
        worker=1,
        seq=1,
        created=1.0,
        ready=1.0,
        sent=1.001,
        started=1.002,
        ended=1.25,
        error_type="TASK_EXECUTION_EXCEPTION",
        error_message=real,
    )
    made.output(1, 0, 1, b"hello\n")
    made.output(1, 1, 1, b"from f\n")
    made.attempt(
        taking,
        2,
        worker=1,
        seq=2,
        created=1.0,
        ready=1.25,
        sent=1.26,
        ended=1.27,
        error_type="TASK_EXECUTION_EXCEPTION",
        error_message="User exception:\nray::g() (pid=1001, ip=127.0.0.1)",
    )
    made.attempt(
        retried,
        3,
        worker=2,
        seq=1,
        created=2.0,
        ready=2.0,
        sent=2.01,
        started=2.02,
        ended=2.5,
        error_type="WORKER_DIED",
        error_message="",
    )
    made.attempt(
        retried, 3, 1, worker=1, seq=3, created=2.5, ready=2.5, sent=2.6, started=2.61, ended=2.9
    )
    made.attempt(
        environment, 4, worker=1, seq=4, created=3.0, ready=3.0, sent=3.0, started=3.0, ended=3.5
    )
    made.attempt(
        makes,
        creation(1),
        worker=3,
        seq=1,
        created=2.6,
        ready=2.6,
        sent=2.71,
        started=2.72,
        ended=2.8,
    )
    made.attempt(
        calls, 5, worker=3, seq=2, created=3.0, ready=3.0, sent=3.1, started=3.2, ended=3.4
    )
    child = ids.child_task_id(ids.task_id(JOB, 4), 1)
    made.attempt(
        failing,
        child,
        parent=ids.task_id(JOB, 4),
        worker=1,
        seq=5,
        created=3.1,
        ready=3.1,
        sent=3.2,
        started=3.25,
        state="RUNNING",
    )
    made.attempt(waiting, 6, created=3.6, ready=3.6, state="PENDING_NODE_ASSIGNMENT")
    made.attempt(waiting, 7, created=3.7, state="PENDING_ARGS_AVAIL")
    made.actor(1, "Counter", "ALIVE", name="steps", pid=1003, worker=3, repr_name="Counter(3)")
    made.actor(
        2,
        "Broken",
        "DEAD",
        pid=1004,
        worker=4,
        num_restarts=1,
        death_cause={"reason": "INTENDED_USER_EXIT", "error_message": "It called exit_actor()."},
        serialized_runtime_env={"env_vars": {"FOO": "bar"}},
    )
    made.actor(3, "Later", "PENDING_CREATION", node_id=None, pid=0)
    made.entity(
        "placement_group",
        group_id(1),
        placement_group_id=group_id(1),
        name="mine",
        creator_job_id=JOB.hex(),
        state="PENDING",
        bundles=[{"bundle_id": {"bundle_index": 0}, "unit_resources": {"CPU": 4.0}}],
        is_detached=False,
        stats={"scheduling_state": "INFEASIBLE"},
        topology_strategy={},
        topology_assignments={},
    )
    made.event(2.5, "WARNING", "WORKER", "Worker 1002 died.")
    made.event(4.0, "ERROR", "ACTOR", "Broken called exit_actor().\nIt is gone.")
    referenced = {"call_site": "disabled", "type": "DRIVER", "pid": 1000, "ip": "127.0.0.1"}
    made.live["objects"] = [
        {
            "object_id": ids.object_id(ids.task_id(JOB, number), 1).hex(),
            "object_size": size,
            "task_status": status,
            "attempt_number": 1,
            "reference_type": "LOCAL_REFERENCE",
            **referenced,
        }
        for number, size, status in (
            (4, 8_000_266, "FINISHED"),
            (3, 266, "FINISHED"),
            (6, -1, "PENDING_NODE_ASSIGNMENT"),
        )
    ]
    return made
