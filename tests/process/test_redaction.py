"""What a session's folder holds of a program that keeps its texts out of the history."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, sys
import aioray

aioray.init(num_cpus=2, runtime_env={"env_vars": {"TOKEN": "value" + "-of-the-session"}}%s)

@aioray.remote(max_retries=1, retry_exceptions=True)
def fails(argument):
    print("printed" + "-by-a-task")
    secret_line = "source" + "-of-a-task"; raise ValueError("message-of-" + "an-error", argument)

@aioray.remote(max_retries=0)
def crashes():
    print("last" + "-words", file=sys.stderr, flush=True)
    os.abort()

@aioray.remote
class Named:
    def __repr__(self):
        return "name" + "-of-itself"

    def work(self):
        return os.environ["TOKEN"], os.environ["OTHER"]

@aioray.remote
class Unmade:
    def __init__(self):
        raise RuntimeError("message-of-" + "a-constructor")

@aioray.remote
class Dies:
    def end(self):
        os.kill(os.getpid(), 9)

def failure(ref):
    try:
        aioray.get(ref)
    except Exception as error:
        return str(error)

def broken(item):
    raise LookupError("message-of-" + "a-map", item)

other = {"env_vars": {"OTHER": "value" + "-of-an-actor"}}
texts = [
    failure(fails.options(name="shown").remote("argument" + "-given")),
    failure(crashes.remote()),
]
actor = Named.options(runtime_env=other).remote()
print(aioray.get(actor.work.remote()))
unmade = Unmade.remote()
texts += [failure(unmade.__ray_ready__.remote()), failure(Dies.remote().end.remote())]
try:
    list(aioray.map(broken, ["item" + "-of-a-map"]))
except Exception as error:
    texts.append(str(error))
print("\\n".join(texts))
from aioray.util.state import list_actors, list_tasks
assert list_tasks(detail=True) and list_actors(detail=True)
sys.stdout.flush()
if "kill" in sys.argv:
    os.kill(os.getpid(), 9)
"""
SECRETS = {
    "value-of-the-session",
    "value-of-an-actor",
    "printed-by-a-task",
    "secret_line",
    "message-of-an-error",
    "argument-given",
    "last-words",
    "name-of-itself",
    "message-of-a-constructor",
    "message-of-a-map",
    "item-of-a-map",
    "asked-for",
}
KEPT = {"shown", "fails", "ValueError", "TOKEN", "<redacted>", "TASK_EXECUTION_EXCEPTION"}


def left_by(root: Path, *arguments: str, setting: str = "", **variables: str) -> tuple[str, bytes]:
    """Run the program; return what it prints, and all bytes of the folder that it leaves."""
    script = root / "program.py"
    script.write_text(PROGRAM % setting)
    done = subprocess.run(
        [sys.executable, str(script), "asked-for", *arguments],
        env={
            **os.environ,
            "RAY_TMPDIR": str(root / "left"),
            "RAY_record_task_actor_creation_sites": "1",
            "RAY_record_ref_creation_sites": "1",
            "PYTHONPATH": str(ROOT),
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if "kill" in arguments else 0), done.stderr
    files = [path for path in (root / "left").rglob("*") if path.is_file()]
    assert any(path.name == "history.db" for path in files)
    return done.stdout, b"\n".join(path.read_bytes() for path in files)


def aioray_says(root: Path, *arguments: str) -> str:
    """Return what the command prints, on either stream."""
    done = subprocess.run(
        [sys.executable, "-m", "aioray", *arguments],
        env={**os.environ, "RAY_TMPDIR": str(root / "left")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
        check=True,
    )
    return done.stdout


def found_in(data: bytes, texts: set[str]) -> set[str]:
    return {text for text in texts if text.encode() in data}


WAYS = {
    "by init": ((), ", redact_history=True", {}),
    "by the environment": ((), "", {"AIORAY_REDACT_HISTORY": "1"}),
    "of a driver that is killed": (("kill",), ", redact_history=True", {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_byte_of_a_redacted_session_holds_what_the_program_has_written(way, tmp_path):
    arguments, setting, variables = WAYS[way]
    printed, data = left_by(tmp_path, *arguments, setting=setting, **variables)
    assert "value-of-an-actor" in printed  # the program itself is told as ever
    assert "message-of-an-error" in printed
    assert "last-words" in printed
    assert found_in(data, SECRETS) == set()
    assert found_in(data, KEPT) == KEPT


def test_a_session_holds_them_unless_it_is_told_otherwise(tmp_path):
    _, data = left_by(tmp_path, setting=", redact_history=False", AIORAY_REDACT_HISTORY="1")
    assert found_in(data, SECRETS) == SECRETS
    assert found_in(data, KEPT) == KEPT - {"<redacted>"}


def test_what_is_left_of_an_error_are_its_class_and_its_places(tmp_path):
    left_by(tmp_path, setting=", redact_history=True")
    query = "list", "tasks", "--filter", "name=shown", "--detail", "--format=json"
    first, second = json.loads(aioray_says(tmp_path, *query))
    for row in (first, second):
        assert re.fullmatch(
            rf'ValueError: <redacted>\n  File "{tmp_path}/program.py", line \d+, in fails',
            row["error_message"],
        )
        environment = json.loads(row["runtime_env_info"]["serialized_runtime_env"])
        assert environment == {"env_vars": {"TOKEN": "<redacted>"}}
    said = aioray_says(tmp_path, "logs", "task", "--id", first["task_id"])
    assert said.splitlines()[-1] == "--- This session keeps no output, as redact_history says. ---"
