"""A session's history that is made up, and can be looked at like a real one."""

from __future__ import annotations

import contextlib
import json

from aioray.shared import ids
from aioray.state.read import logs
from aioray.state.read.view import View
from aioray.state.schema import ATTEMPT_COLUMNS, SCHEMA

from .memory import database

JOB = ids.job_id(1)
NODE = "0a" * ids.NODE_ID_SIZE
PIDS = {1: 101, 2: 102, 3: 103}
ACTOR = ids.actor_task_id(ids.driver_task_id(JOB), 1)
ACTOR_ID = ACTOR[8:].hex()


def worker_id(number):
    return f"{number:02x}" * ids.NODE_ID_SIZE


def task_id(number):
    return ids.task_id(JOB, number).hex()


class History:
    """A history that is written as the test goes on, and can be looked at."""

    def __init__(self):
        self.connection = database()
        self.connection.executescript(SCHEMA)
        self.tasks = []  # unfinished
        self.is_alive = False
        self.looks = 0
        self.sleeps = []
        self.news = []  # what happens between two looks
        self.meta(job=JOB.hex(), node_id=NODE, ip="127.0.0.1")
        self.signature(1, "work", "NORMAL_TASK")
        for number in PIDS:
            self.worker(number)

    def meta(self, **values):
        for key, value in values.items():
            self.connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value))
            )

    def signature(self, number, name, kind, actor_id=None, creation=None):
        attributes = {"name": name, "type": kind, "actor_id": actor_id, "creation": creation}
        self.connection.execute(
            "INSERT INTO signatures VALUES (?, ?)", (number, json.dumps(attributes))
        )

    def entity(self, kind, name, attributes):
        self.connection.execute(
            "INSERT OR REPLACE INTO entities VALUES (?, ?, ?)", (kind, name, json.dumps(attributes))
        )

    def worker(self, number, **attributes):
        known = {
            "number": number,
            "worker_id": worker_id(number),
            "pid": PIDS.get(number),
            "is_alive": True,
            "actor_id": None,
            "launched": 1.0,
            "forked": 2.0,
        }
        self.entity("worker", str(number), {**known, **attributes})

    def actor(self, actor_id, **attributes):
        known = {"actor_id": actor_id, "class_name": "A", "state": "ALIVE", "name": ""}
        self.entity("actor", actor_id, {**known, **attributes})

    def attempt(self, label, *, attempt=0, signature=1, worker=1, seq=1, started=10.0, error=None):
        row = (
            signature,
            label,
            attempt,
            None,
            worker,
            seq,
            1.0,
            1.0,
            1.0,
            started,
            20.0,
            error,
            None,
        )
        marks = ",".join("?" * len(ATTEMPT_COLUMNS))
        self.connection.execute(f"INSERT INTO attempts VALUES ({marks})", row)

    def running(self, label, state="RUNNING", *, attempt=0, signature=1, worker=1, seq=1):
        self.tasks.append(
            (signature, label, attempt, None, worker, seq, 1.0, 1.0, 1.0, 10.0, state)
        )

    def output(self, data, *, worker=1, seq=1, stream=1, at=11.0):
        self.connection.execute(
            "INSERT INTO output VALUES (?, ?, ?, ?, ?)", (worker, seq, stream, at, data)
        )

    @contextlib.contextmanager
    def look(self):
        self.looks += 1
        live = {"tasks": self.tasks, "now": 1.0} if self.is_alive else {}
        yield View(None, self.connection, live)

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        if self.news:
            self.news.pop(0)()

    def chunks(self, select, streams=(1,), **options):
        return list(logs.chunks(self.look, select, streams, sleep=self.sleep, **options))

    def text(self, select, streams=(1,), **options):
        return b"".join(chunk.data for chunk in self.chunks(select, streams, **options))


def make_actor(history, *, state="ALIVE"):
    """An actor that has had workers 1, where a task ran before, and 3."""
    history.signature(2, "A.__init__", "ACTOR_CREATION_TASK", ACTOR_ID)
    history.signature(3, "B.__init__", "ACTOR_CREATION_TASK", "0b" * 16)
    history.actor(ACTOR_ID, name="nn", state=state)
    history.worker(1, actor_id=ACTOR_ID, is_alive=False)
    history.worker(3, actor_id=ACTOR_ID)
    history.attempt(1, worker=1, seq=1)
    history.attempt(ACTOR, signature=2, worker=1, seq=2)
    history.attempt(ACTOR, signature=2, worker=3, seq=1, attempt=1)
    history.output(b"task ", worker=1, seq=1)
    history.output(b"made ", worker=1, seq=2)
    history.output(b"call ", worker=1, seq=3)
    history.output(b"other ", worker=2, seq=2)
    history.output(b"thread ", worker=1, seq=0)
    history.output(b"made again ", worker=3, seq=1)
    history.output(b"error ", worker=3, seq=1, stream=2)
