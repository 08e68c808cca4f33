"""Completion as shells ask for it: by the environment, and in bash itself by its script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aioray
from aioray.cli import aioray as commands
from tests.cli.invoking import invoke

ROOT = Path(aioray.__file__).parent.parent
CALL = "import sys; sys.argv[0] = 'aioray'; from aioray.cli import main; main()"
GUARD_SECONDS = 250


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Finds a command `aioray` of the checkout, and no sessions."""
    program = tmp_path / "aioray"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{CALL}" "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(tmp_path),
    }


def in_bash(environment: dict[str, str], words: list[str]) -> list[str]:
    """What bash would offer in the place of the last of `words`, which are split as it does."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
eval "$(aioray completion bash)"
compopt() {{ :; }}
COMP_WORDS=(aioray {quoted}); COMP_CWORD={len(words)}; COMPREPLY=()
_aioray_completion aioray
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        check=True,
        env=environment,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["li"], ["list"]),
        (["list", "pl"], ["placement-groups"]),
        (["summary", "t"], ["tasks"]),
        (["list", "tasks", "--fo"], ["--format"]),
        (["list", "tasks", "-f", "stat"], ["state="]),
        (["list", "tasks", "-f", "state", "="], None),
        (["list", "tasks", "-f", "state", "=", "FA"], ["FAILED"]),
        (["list", "tasks", "-f", "state!", "=", "run"], ["RUNNING", "RUNNING_IN_RAY_GET",
                                                        "RUNNING_IN_RAY_WAIT"]),
        (["list", "workers", "-f", "is_alive", "="], ["true", "false"]),
        (["list", "tasks", "-f", "state", "=", "FAILED", "-f", "lang"], ["language="]),
        (["list", "tasks", "-f", "events"], []),
        (["get", "job"], []),
        (["guide", "actors"], ["actors", "actors-that-restart"]),
    ],
)  # fmt: skip
def test_bash_offers(words: list[str], offered: list[str] | None, environment) -> None:
    found = in_bash(environment, words)
    if offered is None:
        assert {"FINISHED", "FAILED", "RUNNING"} <= set(found)
    else:
        assert found == offered


def test_other_shells_are_answered_by_click(environment) -> None:
    asked = {"_AIORAY_COMPLETE": "zsh_complete", "COMP_WORDS": "aioray list ta", "COMP_CWORD": "2"}
    done = subprocess.run(
        ["aioray"],
        capture_output=True,
        check=False,
        env=environment | asked,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert done.stdout.split("\n")[:2] == ["plain", "tasks"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_for_the_shell(shell: str) -> None:
    result = invoke(commands, ["completion", shell])
    assert result.exit_code == 0
    assert f"_AIORAY_COMPLETE={shell}_complete" in result.stdout
