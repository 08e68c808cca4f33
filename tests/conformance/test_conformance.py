"""The same program on aioray and on Ray: what Ray 2.60.0 answered was recorded, and must be equal.

Record again with: pip install "ray[default]==2.60.0" numpy, then
python tests/conformance/program.py tests/conformance/ray-2.60.0.json
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RECORDED: dict[str, Any] = json.loads((HERE / "ray-2.60.0.json").read_text())

DIFFERENCES = {
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
}
"""What differs on purpose, and why. Everything else has to be equal."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("conformance") / "aioray.json"
    subprocess.run(
        [sys.executable, "-m", "aioray", "run", str(HERE / "program.py"), str(output)],
        check=True,
        capture_output=True,
        timeout=50,
    )
    result: dict[str, Any] = json.loads(output.read_text())
    return result


@pytest.mark.parametrize("question", RECORDED)
def test_aioray_answers_as_ray_does(question: str, seen: dict[str, Any]) -> None:
    ours, theirs = _without_files(seen[question]), _without_files(RECORDED[question])
    if question in DIFFERENCES:
        assert ours != theirs, "no longer a difference: take it off the list"
    else:
        assert ours == theirs


def test_every_difference_is_a_question() -> None:
    assert set(DIFFERENCES) <= set(RECORDED)


def _without_files(answer: Any) -> Any:
    """The answer with every path in a traceback cut down to the file's name."""
    text = json.dumps(answer)
    return json.loads(text.replace(f"{HERE.as_posix()}/", ""))
