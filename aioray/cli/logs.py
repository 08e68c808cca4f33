"""`aioray logs`: what tasks, actors and workers have printed, while a program runs and afterwards.

Room: cli. Output goes out byte by byte as it was written; what the command itself has to say
goes to stderr, but for the titles that separate the attempts of a task and the processes of an
actor. What is no command is the name of a log, or a pattern for some, as in Ray.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aioray.cli.common import answering, session_options
from aioray.shared.printable import printable
from aioray.state.read import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioray.cli.common import Target
    from aioray.state.read.logs import Part
    from aioray.state.read.view import View

__all__ = ["command"]

DEFAULT_TAIL = 1000  # lines; Ray's

F = TypeVar("F", bound="Callable[..., Any]")


class _Logs(click.Group):
    """A group that takes what is none of its commands for the pattern of `cluster`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["cluster", *args]
        return super().parse_args(ctx, args)


def _reading_options(command: F) -> F:
    """Add the options that say how much is read."""
    follow = click.option("--follow", "-f", is_flag=True, help="Go on as long as more may come.")
    tail = click.option(
        "--tail",
        type=int,
        default=DEFAULT_TAIL,
        show_default=True,
        metavar="N",
        help="Only the last N lines, of each attempt or process. -1: all.",
    )
    interval = click.option("--interval", type=float, default=logs.POLL_SECONDS, hidden=True)
    return follow(tail(interval(command)))


def _stream_options(command: F) -> F:
    """Add the options that say which stream is read, as `streams`."""

    @click.option("--err", is_flag=True, help="What went to stderr; by default that to stdout.")
    @click.option("--both", is_flag=True, help="What went to either, in the order of arrival.")
    @functools.wraps(command)
    def with_streams(*args: Any, err: bool, both: bool, **options: Any) -> Any:
        streams = logs.BOTH if both else logs.STREAMS["err" if err else "out"]
        return command(*args, streams=streams, **options)

    return with_streams  # type: ignore[return-value]  # click reads the options from it


@click.group(name="logs", cls=_Logs)
def command() -> None:
    """Show what tasks, actors and workers have printed.

    \b
    aioray logs task ID                  each attempt of a task
    aioray logs actor ID|NAME            each process of an actor
    aioray logs worker PID               whatever ran in a worker
    aioray logs [cluster] [PATTERN]      the logs there are; the log itself if there is one only
    """  # noqa: D301 - click wants the character


@command.command(name="task")
@click.argument("task", required=False)
@click.option("--id", "by_id", metavar="ID", help="The same as TASK.")
@click.option(
    "--attempt-number",
    "-a",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only this attempt, counted from 0. All by default.",
)
@_stream_options
@_reading_options
@session_options
def task(
    *, task: str | None, by_id: str | None, attempt_number: int | None, **options: Any
) -> None:
    """Show what the attempts of a task have printed."""
    task_id = _one_of(task, by_id, "the id of a task", "TASK", "--id")
    _print(lambda view: logs.of_task(view, task_id, attempt_number), **options)


@command.command(name="actor")
@click.argument("actor", required=False)
@click.option("--id", "-a", "by_id", metavar="ID", help="The same as ACTOR.")
@click.option("--pid", "-pid", type=int, help="Of a process that the actor is or was.")
@_stream_options
@_reading_options
@session_options
def actor(*, actor: str | None, by_id: str | None, pid: int | None, **options: Any) -> None:
    """Show what the processes of an actor have printed. ACTOR is its id or its name."""
    if pid is not None and actor is None and by_id is None:
        _print(lambda view: logs.of_actor(view, pid=pid), **options)
        return
    name = _one_of(actor, by_id, "the id or the name of an actor", "ACTOR", "--id")
    if pid is not None:
        raise click.UsageError("ACTOR and --pid are two ways to say it: give one.")
    _print(lambda view: logs.of_actor(view, name), **options)


@command.command(name="worker")
@click.argument("worker", required=False)
@click.option("--pid", "-pid", metavar="PID", help="The same as WORKER.")
@_stream_options
@_reading_options
@session_options
def worker(*, worker: str | None, pid: str | None, **options: Any) -> None:
    """Show what a worker has printed. WORKER is its pid or its id."""
    name = _one_of(worker, pid, "the pid or the id of a worker", "WORKER", "--pid")
    _print(lambda view: logs.of_worker(view, name), **options)


@command.command(name="cluster")
@click.argument("pattern", default="*")
@_reading_options
@session_options
def cluster(*, pattern: str, target: Target, **options: Any) -> None:
    """List the logs whose names match PATTERN; show the log itself if there is only one.

    aioray keeps no log files. The names are those that Ray's would have.
    """
    with target.view() as view:
        groups = logs.files(view, pattern)
    names = [name for group in groups.values() for name in group]
    if len(names) == 1:
        streams = logs.STREAMS[names[0].rpartition(".")[2]]
        _print(lambda view: logs.of_file(view, names[0]), target, streams, **options)
        return
    if not names:
        click.echo(f"There is no log that matches {pattern!r}.", err=True)
    for group, found in groups.items():
        click.echo(f"{group}:")
        for name in found:
            click.echo(f"- {printable(name)}")


def _one_of(first: str | None, second: str | None, what: str, *names: str) -> str:
    if first is not None and second is not None:
        raise click.UsageError(f"{' and '.join(names)} are two ways to say it: give one.")
    given = first if second is None else second
    if not given:
        raise click.UsageError(f"Say {what}: {' or '.join(names)}.")
    return given


def _print(
    select: Callable[[View], list[Part]],
    target: Target,
    streams: tuple[int, ...],
    *,
    tail: int,
    follow: bool,
    interval: float,
) -> None:
    """Write what has been printed to stdout."""
    session = target.session()  # once: while it is followed, another may become the newest
    out = sys.stdout.buffer
    current: Part | None = None
    ends_line, found = True, False
    try:
        with answering():
            for chunk in logs.chunks(
                lambda: session.view(timeout=target.timeout),
                select,
                streams,
                tail=tail,
                follow=follow,
                interval=interval,
            ):
                part = chunk.part
                if chunk.of_several and (
                    current is None or (part.worker, part.seq) != (current.worker, current.seq)
                ):
                    out.write(b"" if ends_line else b"\n")
                    out.write(f"==> {printable(part.title)} <==\n".encode())
                    ends_line = True
                current = part
                if not chunk.stream:
                    out.flush()
                    if tail:
                        _remark(chunk, tail)
                    continue
                found = True
                ends_line = chunk.data.endswith(b"\n")
                out.write(chunk.data)
                out.flush()
            if not found and tail:
                with session.view(timeout=target.timeout) as view:
                    _explain_silence(view, select, streams)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end complains
        raise click.exceptions.Exit(1) from None
    except KeyboardInterrupt:
        if not follow:
            raise
        raise click.exceptions.Exit(130) from None  # as a shell says that it was interrupted


def _remark(chunk: logs.LogChunk, tail: int) -> None:
    """Say what is missing from a part."""
    if chunk.is_cut:
        click.echo(f"--- The last {tail} lines; --tail -1 shows all. ---", err=True)
    elif chunk.is_incomplete:
        click.echo(
            "--- The beginning may be missing: a session keeps a limited amount of output. ---",
            err=True,
        )


def _explain_silence(
    view: View, select: Callable[[View], list[Part]], streams: tuple[int, ...]
) -> None:
    """Say why there is nothing to be seen."""
    parts = select(view)
    if all(part.worker is None for part in parts):
        for part in parts:
            click.echo(f"--- No process has run this: {printable(part.title)}. ---", err=True)
    elif view.meta.get("redacted"):
        click.echo("--- This session keeps no output, as redact_history says. ---", err=True)
    elif len(streams) == 1:
        (other,) = set(logs.BOTH) - set(streams)
        if any(logs.has_output(view, part, other) for part in parts):
            text = {1: "stdout, only to stderr: --err", 2: "stderr, only to stdout: without --err"}
            click.echo(f"--- Nothing went to {text[streams[0]]}. ---", err=True)
