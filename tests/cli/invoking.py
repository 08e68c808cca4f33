"""Runs commands in this process, and keeps apart what they write to stdout and to stderr."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click
    from click.testing import Result

# Before click 8.2 a runner mixes the two unless it is told not to.
_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def invoke(command: click.Command, arguments: Sequence[str], **options: Any) -> Result:
    """Run a command line; its `stdout` and `stderr` are each what has been written there."""
    runner: Any = CliRunner
    return runner(**_APART).invoke(command, arguments, **options)
