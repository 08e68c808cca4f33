"""`aioray guide`: the chapters of the guide, read and searched in a terminal.

Room: cli. The chapters are Markdown files in `aioray/guide`. On a terminal one is drawn by rich,
and paged where it is longer than the screen; elsewhere it is printed as it is written, but for the
comments that tell the tests what a snippet is. `--grep` counts the lines of that text.
"""

from __future__ import annotations

import difflib
import io
import re
import warnings
from importlib.resources import files
from typing import TYPE_CHECKING

import click

from aioray.cli.render import on_terminal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from rich.console import Console

__all__ = ["CHAPTERS", "command", "summary_of", "text_of"]

CHAPTERS = (
    "tasks",
    "errors-and-retries",
    "cancelling",
    "time-limits",
    "memory-limits",
    "asyncio-and-services",
    "structured-services",
    "risky-work",
    "flow-control",
    "large-values",
    "nested-tasks-and-streams",
    "maps",
    "actors",
    "actors-that-restart",
    "environments-and-resources",
    "tools",
    "types",
    "notebooks",
    "testing",
    "seeing-what-goes-on",
    "metrics-and-tracing",
    "when-the-program-ends",
    "security",
    "ray-and-aioray",
    "how-it-works",
    "state-machines",
    "performance",
    "proof",
    "changes",
)
"""In the order in which they are read; each is the name of a file."""

_WIDEST = 100  # columns: longer lines are hard to read
_COMMENT = re.compile(r"^<!-- .* -->\n", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([a-z-]+)\.md\)")
_HINT = "\n`aioray guide CHAPTER` shows one, `aioray guide --grep PATTERN` searches all."


def text_of(chapter: str) -> str:
    """Return the Markdown of a chapter, without the comments that are for tests."""
    path = files("aioray") / "guide" / f"{chapter}.md"
    return _COMMENT.sub("", path.read_text(encoding="utf-8"))


def summary_of(chapter: str) -> str:
    """Return the line below a chapter's title, which says what it is about."""
    return text_of(chapter).split("\n", 3)[2]


def _complete(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(name, help=summary_of(name))
        for name in CHAPTERS
        if name.startswith(incomplete)
    ]


def _compiled(
    _ctx: click.Context, _param: click.Parameter, pattern: str | None
) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at what may mean something else one day
            return re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise click.BadParameter(
            f"{pattern!r} is no regular expression: {error}. Put a \\ before signs that are meant "
            f"as they are."
        ) from error


@click.command(name="guide")
@click.argument("chapter", required=False, shell_complete=_complete)
@click.option(
    "--grep",
    "pattern",
    metavar="PATTERN",
    callback=_compiled,
    help="Print the lines that match a regular expression, in capitals or not, each behind the "
    "name of its chapter and its number there.",
)
def command(*, chapter: str | None, pattern: re.Pattern[str] | None) -> None:
    """Show a CHAPTER of the guide, or list them all.

    CHAPTER is a name from that list, or its beginning. On a terminal it is drawn and paged;
    elsewhere it is printed as it is written, in Markdown.
    """
    if chapter is not None:
        chapter = _find(chapter.lower().replace(" ", "-"))
    if pattern is not None:
        _search(pattern, CHAPTERS if chapter is None else (chapter,))
    elif chapter is None:
        _list()
    else:
        _show(text_of(chapter))


def _find(asked: str) -> str:
    """Return the chapter of that name, or the one whose name begins like that."""
    if asked in CHAPTERS:
        return asked
    near = [name for name in CHAPTERS if name.startswith(asked)]
    if len(near) == 1:
        return near[0]
    if not near:
        words = [(word, name) for name in CHAPTERS for word in (name, *name.split("-"))]
        alike = difflib.get_close_matches(asked, [word for word, _ in words], n=1, cutoff=0.65)
        near = [name for word, name in words if word in alike or asked in word]
    meant = " or ".join(dict.fromkeys(near))
    raise click.ClickException(
        f"The guide has no chapter {asked!r}. "
        + (f"Did you mean {meant}?" if meant else "`aioray guide` lists them all.")
    )


def _list() -> None:
    width = max(map(len, CHAPTERS))
    rows = [(name, " " * (width - len(name) + 2), summary_of(name)) for name in CHAPTERS]
    if not on_terminal():
        click.echo("\n".join(map("".join, rows)))
        return
    from rich.text import Text

    console = _console()
    for name, gap, line in rows:
        console.print(Text.assemble((name, "bold cyan"), gap, line), soft_wrap=True)
    console.print(_HINT, highlight=False, style="dim")


def _show(text: str) -> None:
    if not on_terminal():
        click.echo(text, nl=False)
        return
    from rich.markdown import Markdown

    text = _LINK.sub(r"\1 (`aioray guide \2`)", text)
    console = _console(io.StringIO())
    console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    if drawn.count("\n") < console.height:
        click.echo(drawn, nl=False, color=True)
    else:
        click.echo_via_pager(drawn, color=True)


def _search(pattern: re.Pattern[str], chapters: tuple[str, ...]) -> None:
    found = [
        (chapter, number, line)
        for chapter in chapters
        for number, line in enumerate(text_of(chapter).splitlines(), 1)
        if pattern.search(line)
    ]
    if not found:
        raise click.ClickException(f"The guide has no line that matches {pattern.pattern!r}.")
    if not on_terminal():
        for chapter, number, line in found:
            click.echo(f"{chapter}:{number}: {line}")
        return
    from rich.text import Text

    console = _console()
    for chapter, number, line in found:
        text = Text(line)
        text.highlight_regex(pattern, "bold red")
        console.print(Text.assemble((f"{chapter}:{number}: ", "cyan"), text), soft_wrap=True)


def _console(file: io.StringIO | None = None) -> Console:
    """Make a console that draws for the terminal, to a text where one is given."""
    from rich.console import Console
    from rich.theme import Theme

    theme = Theme({"markdown.code": "bold cyan"})  # not on black, as rich has it, on white screens
    width = None if file is None else min(Console().width, _WIDEST)
    return Console(file=file, width=width, theme=theme, force_terminal=True)
