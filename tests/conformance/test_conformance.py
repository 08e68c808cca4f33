"""The same programs on aioray and on Ray: what Ray 2.60.0 answered was recorded, and must be equal.

Record again with: pip install "ray[default]==2.60.0" numpy, then
python tests/conformance/program.py tests/conformance/ray-2.60.0.json
python tests/conformance/nested.py tests/conformance/ray-2.60.0-nested.json
python tests/conformance/actors.py tests/conformance/ray-2.60.0-actors.json
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RECORDINGS = {
    "program.py": "ray-2.60.0.json",
    "nested.py": "ray-2.60.0-nested.json",
    "actors.py": "ray-2.60.0-actors.json",
}
RECORDED: dict[str, dict[str, Any]] = {
    program: json.loads((HERE / file).read_text()) for program, file in RECORDINGS.items()
}

DIFFERENCES = {
    "program.py": {
        "missing": "the message also names the function",
        "toomany": "the message also names the function",
        "unexpected": "the message also names the function",
        "two3": "the message also says what to do",
        "myerr": "an exception that cannot be unpickled arrives as RayTaskError all the same",
        "chained": "Ray drops a frame of the user's from the traceback",
        "remote_async": "an async function can be a task",
        "ctx": "the module of a function of the script is __main__",
        "large_bytearray": "a bytearray stays one; Ray makes bytes of it",
        "large_memoryview": "a memoryview stays one, and is not copied; Ray makes bytes of it",
        "init{'address': 'local', 'num_cpus': 'x'}": "TypeError instead of AssertionError",
        "init{'resources': {'CPU': 1}}": "ValueError instead of AssertionError",
    },
    "nested.py": {
        "context_put": "the id of what a task puts begins with the task's own",
        "returned_error": "an error that a task returns is a value; Ray raises it",
        "put_error": "an error that is put is a value; Ray raises it",
        "error_as_argument": "an error as an argument is a value; Ray does not run the task",
        "gen_aclose": "it cancels the task; Ray has no way to close a generator",
        "yield_refs": "`yield from` takes a generator of refs; Ray fails at `send`",
        "dynamic_twice": "a DynamicObjectRefGenerator can be iterated again, as its len suggests",
        "dynamic_raise": "the error is raised by get(); Ray adds a ref that raises it",
        "coroutine": "an async function can be a task",
        "coroutine_in_task": "an async function can be a task",
        "async_generator": "asynchronous generators are tasks; Ray lets them fail",
    },
    "actors.py": {},
}
"""What differs on purpose, and why. Everything else has to be equal."""


QUESTIONS = [(program, question) for program in RECORDED for question in RECORDED[program]]


@functools.cache
def answers(program: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "aioray.json"
        subprocess.run(
            [sys.executable, "-m", "aioray", "run", str(HERE / program), str(output)],
            check=True,
            capture_output=True,
            timeout=100,
        )
        result: dict[str, Any] = json.loads(output.read_text())
    return result


@pytest.mark.timeout(120)  # the first question to a program waits for all its answers
@pytest.mark.parametrize(("program", "question"), QUESTIONS)
def test_aioray_answers_as_ray_does(program: str, question: str) -> None:
    ours, theirs = answers(program)[question], RECORDED[program][question]
    if question in DIFFERENCES[program]:
        assert ours != theirs, "no longer a difference: take it off the list"
    else:
        assert ours == theirs


def test_every_difference_is_a_question() -> None:
    for program, differences in DIFFERENCES.items():
        assert set(differences) <= set(RECORDED[program])
