"""The command `aioray`.

Room: facade; nobody imports it but `python -m aioray`. Here click reads the command line; what the
commands do stands in modules beside this one.

click only parses. It must be off the stack before a user's script runs, because it turns
KeyboardInterrupt into "Aborted!" and swallows broken pipes. So `run` returns a Launch, and `main`
starts it when click is done. Everything after SCRIPT belongs to the script, whatever it looks like.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from aioray import __version__
from aioray.cli.launch import CannotStartError, Launch
from aioray.printable import LINES, printable

__all__ = ["COMPLETE", "main"]

COMPLETE = "_AIORAY_COMPLETE"  # set by a shell that wants to complete something

# Where commands are that not every call needs: `run` has to be quick.
_ELSEWHERE = {
    "completion": "aioray.cli.completion",
    "get": "aioray.cli.getting",
    "list": "aioray.cli.listing",
    "logs": "aioray.cli.logs",
    "memory": "aioray.cli.memory",
    "sessions": "aioray.cli.sessions",
    "stack": "aioray.cli.stack",
    "status": "aioray.cli.status",
    "summary": "aioray.cli.summary",
    "timeline": "aioray.cli.timeline",
    "top": "aioray.cli.top",
}


class _Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _ELSEWHERE.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(module).command
        return command


@click.group(name="aioray", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aioray", message="%(prog)s %(version)s")
def aioray() -> None:
    """Run Ray programs on this machine, without Ray."""


@aioray.command(context_settings={"allow_interspersed_args": False})
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module.")
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(*, as_module: bool, script: str, args: tuple[str, ...]) -> Launch:
    """Run SCRIPT with ARGS like python does, with `import ray` meaning aioray."""
    return Launch(target=script, arguments=args, as_module=as_module)


def main() -> None:
    """Run the command that sys.argv asks for. The entry point of the console script.

    Exits with 2 for a wrong command line or a script that cannot be opened, with 1 for a module
    that cannot be found, and otherwise as the script does: its exit status, 1 after a traceback,
    death by SIGINT after a KeyboardInterrupt.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:  # commands need not mind
        setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    if COMPLETE in os.environ:
        from aioray.cli.completion import install

        install()
    try:
        outcome = aioray(standalone_mode=False, complete_var=COMPLETE)
    except click.ClickException as error:
        error.message = printable(error.message, LINES)  # type: ignore[misc]  # here it is shown
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Aborted!", err=True)
        sys.exit(1)
    if not isinstance(outcome, Launch):  # --help and --version answer with an exit status
        sys.exit(outcome)
    for name in closed:  # scripts may, as they find it with `python`
        setattr(sys, name, None)
    try:
        outcome.start()
    except CannotStartError as error:
        click.echo(f"aioray run: {printable(str(error), LINES)}", err=True)
        sys.exit(error.status)
