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
        "stopiter": "what Python takes for no error is a plain RayTaskError",
        "remote_async": "an async function can be a task",
        "remote_builtin": "any callable can be a task",
        "remote_partial": "any callable can be a task",
        "large_bytearray": "a bytearray stays one; Ray makes bytes of it",
        "large_memoryview": "a memoryview stays one, and is not copied; Ray makes bytes of it",
        "init{'address': 'auto'}": "it starts a session; Ray joins one, and fails if none runs",
        "init{'local_mode': True}": "tasks run in the driver; Ray has no such mode any more",
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
        "coroutine": "an async function can be a task",
        "coroutine_in_task": "an async function can be a task",
        "async_generator": "asynchronous generators are tasks; Ray lets them fail",
    },
    "actors.py": {
        "decorate{'max_restarts': None}": "None means the default, as for all options",
        "create_none_restarts": "None means the default, as for all options",
        "decorate{'concurrency_groups': [{'name': 'io', 'max_concurrency': 2, 'methods': []}]}": (
            "a list is refused at once; Ray fails when the actor is made"
        ),
        "options{'concurrency_groups': 1}": "ValueError, as for all concurrency_groups there",
        "decorate{'namespace': ''}": "an empty namespace is refused at once",
        "options{'namespace': ''}": "an empty namespace is refused at once",
        "method{'num_returns': 'many'}": "what is wrong with an option of @method is said at once",
        "method_create{'num_returns': 'many'}": "the same",
        "method{'max_task_retries': 'a'}": "the same",
        "method_create{'max_task_retries': 'a'}": "the same",
        "method{'retry_exceptions': <class 'ValueError'>}": "the same",
        "method_create{'retry_exceptions': <class 'ValueError'>}": "the same",
        "method{'retry_exceptions': [1]}": "the same",
        "method_create{'retry_exceptions': [1]}": "the same",
        "call{'retry_exceptions': <class 'ValueError'>}": "TypeError instead of AssertionError",
        "call{'retry_exceptions': [1]}": "a list of what is no exception is refused",
        "class_name": "an actor class has the name of its class",
        "class_doc": "an actor class has the docstring of its class",
        "class_repr": "no address",
        "class_method_call": "Ray wraps the methods of the class",
        "class_method": "Ray wraps the methods of the class",
        "class_bases": "an actor class is no class",
        "class_of_builtin": "the same",
        "derived_is": "it is an instance of the class itself; Ray derives another",
        "inherit_actor_class": "the message names aioray",
        "init_restart_sys_none": "calls wait for the next incarnation",
        "init_restart_sys_3": "calls wait for the next incarnation",
        "restart_calls": "calls wait for the next incarnation",
        "restart_init_fails": "the running call is told before the next incarnation fails",
        "groups_undeclared_call": "ValueError at the call; Ray lets the actor die",
        "groups_none_declared_call": "ValueError at the call; Ray lets the actor die",
        "name_missing": "the message differs",
        "name_taken_is": "the message names aioray",
        "name_of_exited": "the name of a dead actor is free",
        "name_of_crashed": "the name of a dead actor is free",
        "name_of_failed_init": "the name of a dead actor is free",
        "name_if_exists_wrong_arguments": "arguments are checked all the same",
        "leave_text('exit_actor',)": "the message names sys.exit(0) too",
        "leave_text('sys',)": "the message has the exit code in other words",
        "leave_text('sys', 3)": "the message has the exit code in other words",
        "exit_actor_caught": "who catches what exit_actor() raises stays",
        "threads_beside('exit_actor',)": "it ends at once, with all its calls",
        "async_beside('exit_actor',)": "the same",
        "threads_beside('sys', 0)": "the same",
        "threads_beside('sys', 3)": "a crash ends all calls",
        "cancel_async_swallowed": "a coroutine that refuses has its value",
        "cancel_force_finished": "force=True is refused for any call of an actor",
        "cancel_finished": "cancel returns something that can be awaited",
        "cancel_of_dead": "cancel returns something that can be awaited",
        "error_generator_exit": "what Python takes for no error is a plain RayTaskError",
        "error_stop": "the same",
        "gen_streaming_plain": "the message differs",
        "gen_streaming_returned": "the message differs",
        "actor_of_dead_actor": "it lives as long as anybody has a handle",
        "dropped_but_named": "a handle of get_actor() counts",
        "put_of_dead": "an object outlives the process that has put it",
        "context_task_reconstructed": "AssertionError instead of AttributeError",
        "last_session": "a call by an old handle raises what kill() raises",
    },
}
"""What differs on purpose, and why. Everything else has to be equal."""


QUESTIONS = [(program, question) for program in RECORDED for question in RECORDED[program]]


@functools.cache
def run(program: str) -> dict[str, Any] | str:
    """The answers to all questions of a program; or, as that is kept too, why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "aioray.json"
        command = [sys.executable, "-m", "aioray", "run", str(HERE / program), str(output)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=500)
        except subprocess.TimeoutExpired as late:
            said = (late.stderr or b"").decode(errors="replace")
            return f"{program} has not come to its end in {late.timeout} s:\n{said}"
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            return f"{program} has ended with status {done.returncode}:\n{said}"
        result: dict[str, Any] = json.loads(output.read_text())
    return result


def answers(program: str) -> dict[str, Any]:
    found = run(program)
    assert not isinstance(found, str), found
    return found


@pytest.mark.timeout(600)  # the first question to a program waits for all its answers
@pytest.mark.parametrize(("program", "question"), QUESTIONS)
def test_aioray_answers_as_ray_does(program: str, question: str) -> None:
    ours, theirs = answers(program)[question], RECORDED[program][question]
    if question in DIFFERENCES[program]:
        assert ours != theirs, "no longer a difference: take it off the list"
    else:
        assert ours == theirs


def test_program_that_fails_is_not_run_for_each_of_its_questions(monkeypatch) -> None:
    """Bug: each question waited anew for a program that had not come to its end."""
    runs: list[Any] = []

    def too_slow(command: Any, **options: Any) -> None:
        runs.append(command)
        raise subprocess.TimeoutExpired(command, options["timeout"], stderr=b"where it is")

    monkeypatch.setattr(subprocess, "run", too_slow)
    for _ in range(2):
        with pytest.raises(AssertionError, match="where it is"):
            answers("none.py")
    assert len(runs) == 1


def test_every_difference_is_a_question() -> None:
    for program, differences in DIFFERENCES.items():
        assert set(differences) <= set(RECORDED[program])
