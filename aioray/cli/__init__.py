"""The command `aioray`.

Room: cli; nobody imports it but `python -m aioray`. Here click reads the command line; what the
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
from aioray.compat.alias import RAY_VERSION
from aioray.shared.printable import LINES, printable

__all__ = ["COMPLETE", "main", "ray_main"]

COMPLETE = "_AIORAY_COMPLETE"  # set by a shell that wants to complete something

# Where commands are that not every call needs: `run` has to be quick.
_ELSEWHERE = {
    "alias": "aioray.cli.alias",
    "completion": "aioray.cli.completion",
    "get": "aioray.cli.getting",
    "guide": "aioray.cli.guide",
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
            found = super().get_command(ctx, cmd_name)
            if found is None:
                from aioray.cli.cluster import command_of

                return command_of(cmd_name)
            return found
        command: click.Command = importlib.import_module(module).command
        return command


def _print_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        if ctx.info_name == "ray":  # what set-up scripts read, as Ray writes it
            click.echo(f"ray, version {RAY_VERSION}")
        else:
            click.echo(f"aioray {__version__}")
        ctx.exit()


@click.group(name="aioray", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def aioray() -> None:
    """Run Ray programs on this machine, without Ray."""


class _Run(click.Command):
    """A command of which everything behind `-c CODE` is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-c"):
            behind = 2 if args[0] == "-c" else 1
            args = [*args[:behind], "--", *args[behind:]]
        return super().parse_args(ctx, args)


@aioray.command(cls=_Run, context_settings={"allow_interspersed_args": False})
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module.")
@click.option("-c", "code", metavar="CODE", help="Run CODE, in place of a script.")
@click.argument("script", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(*, as_module: bool, code: str | None, script: str | None, args: tuple[str, ...]) -> Launch:
    """Run SCRIPT with ARGS like python does, with `import ray` meaning aioray.

    SCRIPT may be `-`: the program is read from the standard input.

    Python processes that the program starts find the same `ray`, unless the environment variable
    AIORAY_INHERIT_ALIAS is 0.
    """
    if code is not None:
        if as_module:
            raise click.UsageError("-m takes the name of a module, and -c a program: give one.")
        given = () if script is None else (script, *args)
        return Launch(target=code, arguments=given, as_code=True)
    if script is None:
        raise click.UsageError("Missing argument 'SCRIPT'.")
    return Launch(target=script, arguments=args, as_module=as_module)


def ray_main() -> None:
    """Do the same as `main`, under the name `ray`: see `aioray.cli.alias`."""
    main("ray")


def main(name: str | None = None) -> None:
    """Run the command that sys.argv asks for. The entry point of the console script.

    name: what the command is called in messages; None: as it was started.

    Exits with 2 for a wrong command line or a script that cannot be opened, with 1 for a module
    that cannot be found, and otherwise as the script does: its exit status, 1 after a traceback,
    death by SIGINT after a KeyboardInterrupt.
    """
    closed = [stream for stream in ("stdin", "stdout", "stderr") if getattr(sys, stream) is None]
    for stream in closed:  # commands need not mind
        setattr(sys, stream, open(os.devnull, "r" if stream == "stdin" else "w"))  # noqa: SIM115
    if COMPLETE in os.environ:
        from aioray.cli.completion import install

        install()
    try:
        outcome = aioray(prog_name=name, standalone_mode=False, complete_var=COMPLETE)
    except click.ClickException as error:
        error.message = printable(error.message, LINES)  # type: ignore[misc]  # here it is shown
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Aborted!", err=True)
        sys.exit(1)
    if not isinstance(outcome, Launch):  # --help and --version answer with an exit status
        sys.exit(outcome)
    for stream in closed:  # scripts may, as they find it with `python`
        setattr(sys, stream, None)
    try:
        outcome.start()
    except CannotStartError as error:
        click.echo(f"{name or 'aioray'} run: {printable(str(error), LINES)}", err=True)
        sys.exit(error.status)
