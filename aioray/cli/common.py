"""What commands share that look at a session: their options, and what errors come to.

Room: cli. A command that wears `session_options` gets a `Target`, and opens what it wants to see
with `target.view()`. Errors end it with a line that says what to do: with 2 where the command line
is wrong, as click does, and with 1 where a session cannot be looked at.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aioray.shared.printable import printable
from aioray.state.read.filters import FilterFormatError, QueryError
from aioray.state.read.sessions import SessionError, find_session, sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.shell_completion import CompletionItem

    from aioray.state.read.sessions import Session
    from aioray.state.read.view import View

__all__ = ["DEFAULT_TIMEOUT", "Target", "answering", "session_options"]

DEFAULT_TIMEOUT = 30.0  # seconds

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Target:
    """Which session a command is about."""

    name: str | None  # or the pid of its driver; None: see `find_session`
    temp_dir: str | None  # what the program gave to init as `_temp_dir`; None: the usual place
    timeout: float  # seconds that the session may take to answer

    def session(self) -> Session:
        """Find the session. Raises click.ClickException if there is none.

        Says on stderr which one it is where somebody may have meant another.
        """
        with answering():
            chosen = find_session(self.name, self.temp_dir)
        if chosen.others:
            count = chosen.others
            others = "another session runs" if count == 1 else f"{count} other sessions run"
            click.echo(
                f"This is about {printable(chosen.name)}, the newest; {others}. --session names "
                f"one, `aioray sessions` lists them.",
                err=True,
            )
        return chosen

    @contextlib.contextmanager
    def view(self, *want: str) -> Iterator[View]:
        """Open a view of the session. want: of a living one, more than its tasks: "objects".

        Errors of the session and of questions become click's while the view is open.
        """
        with answering(), self.session().view(want, self.timeout) as view:
            yield view


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Let errors of sessions and questions end the command as click's errors do."""
    try:
        yield
    except (SessionError, FilterFormatError) as error:
        raise click.ClickException(str(error)) from error
    except QueryError as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error


def _complete_session(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    try:
        found = sessions(ctx.params.get("temp_dir"))
    except SessionError:  # whoever wants to see it will be told
        return []
    return [
        CompletionItem(one.name, help="alive" if one.alive else "ended")
        for one in found
        if one.name.startswith(incomplete)
    ]


def session_options(command: F) -> F:
    """Give a command the options that say which session it is about, as `target`."""

    @click.option(
        "--session",
        metavar="NAME",
        help="The session, by name or by the pid of its driver: see `aioray sessions`. "
        "By default that of the program that has started this command, else the newest that runs, "
        "else the newest.",
        shell_complete=_complete_session,
    )
    @click.option(
        "--temp-dir",
        metavar="DIR",
        is_eager=True,  # the completion of --session needs it
        help="Where to look for sessions: what the program gave to init as _temp_dir.",
    )
    @click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=DEFAULT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long a session may take to answer.",
    )
    @click.option(
        "--address",
        metavar="NAME",
        help="As --session; `auto` and `local` mean the default. Ray's name for it.",
        shell_complete=_complete_session,
    )
    @functools.wraps(command)
    def with_target(
        *args: Any,
        session: str | None,
        temp_dir: str | None,
        timeout: float,
        address: str | None,
        **options: Any,
    ) -> Any:
        if session is not None and address is not None:
            raise click.UsageError("--session and --address are two names for one thing: give one.")
        target = Target(session if address is None else address, temp_dir, timeout)
        return command(*args, target=target, **options)

    return with_target  # type: ignore[return-value]  # click reads the options from it
