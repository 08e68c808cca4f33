"""The guide: what holds for all its chapters, and how `aioray guide` shows and searches them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.shell_completion import ShellComplete

import aioray
from aioray.cli import COMPLETE, guide
from aioray.cli import aioray as commands
from aioray.cli.guide import CHAPTERS, summary_of, text_of
from tests.cli.invoking import invoke

from .test_structure import ROOMS

if TYPE_CHECKING:
    from click.testing import Result

ROOT = Path(aioray.__file__).parent.parent
FOLDER = ROOT / "aioray" / "guide"
PICTURES = FOLDER / "pictures"  # of the chapter on performance, see the tests of the benchmarks
README = (ROOT / "README.md").read_text(encoding="utf-8")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
FRAME = " ┏━┓┃┗┛"  # older versions of rich draw one around a title
COLOUR = re.compile(r"\x1b\[[0-9;]*[349][0-7][;m]")


def called(*arguments: str, **environment: str) -> Result:
    return invoke(commands, ["guide", *arguments], env=environment)


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets the command believe in a terminal of 80 columns; what the pager is given comes here."""
    pages: list[str] = []
    monkeypatch.setattr(guide, "on_terminal", lambda: True)
    monkeypatch.setattr(click, "echo_via_pager", lambda text, **_: pages.append(text))
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return pages


# ------------------------------------------------------------ chapters


def test_every_file_is_a_chapter() -> None:
    files = sorted(path.name for path in FOLDER.iterdir() if path != PICTURES)
    assert files == sorted(f"{n}.md" for n in CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_the_title_of_its_name_a_summary_and_at_most_250_lines(chapter) -> None:
    lines = (FOLDER / f"{chapter}.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[0][2:].lower().replace(" ", "-") == chapter
    assert lines[1] == lines[3] == ""
    assert lines[2] == summary_of(chapter)
    assert len(lines) <= 250


def test_readme_has_at_most_400_lines_and_leads_to_every_chapter_in_order() -> None:
    assert README.count("\n") <= 400
    listed = re.findall(r"^- \[(.+)\]\(aioray/guide/(.+)\.md\): (.+)$", README, re.MULTILINE)
    titles = [text_of(chapter).partition("\n")[0][2:] for chapter in CHAPTERS]
    assert listed == list(zip(titles, CHAPTERS, map(summary_of, CHAPTERS), strict=True))


@pytest.mark.parametrize(
    "path",
    [*FOLDER.glob("*.md"), ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md"],
    ids=str,
)
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_diagrams_of_state_machines_are_those_of_the_tables() -> None:
    command = [sys.executable, "-m", "aioray.core.states"]
    drawn = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, text=True).stdout
    written = (FOLDER / "state-machines.md").read_text(encoding="utf-8")
    shown = written.partition("<!-- states -->\n")[2]
    assert shown.strip() == drawn.strip(), "put there what the command prints"


def test_rooms_are_listed_from_top_to_bottom() -> None:
    table = (FOLDER / "how-it-works.md").read_text(encoding="utf-8").partition("<!-- rooms -->")[2]
    listed = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)
    order = [room for room in reversed(ROOMS) if room not in ("engine", "worker", "api")]
    assert [room for room in listed if room not in ("engine", "worker", "api")] == order
    assert set(listed) == set(ROOMS)


# ------------------------------------------------------------ the command


def test_without_a_chapter_all_are_listed_in_lines_of_80_columns() -> None:
    result = called()
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.split("  ")[0] for line in lines] == list(CHAPTERS)
    assert [line.rpartition("  ")[2] for line in lines] == [summary_of(name) for name in CHAPTERS]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_is_printed_as_it_is_written_where_nobody_reads_it(chapter: str) -> None:
    result = called(chapter)
    written = (FOLDER / f"{chapter}.md").read_text(encoding="utf-8")
    assert result.exit_code == 0
    assert result.stdout == re.sub(r"^<!-- .* -->\n", "", written, flags=re.MULTILINE)
    assert "<!--" not in result.stdout


@pytest.mark.parametrize(
    ("asked", "chapter"),
    [
        ("Tasks", "tasks"),
        ("err", "errors-and-retries"),
        ("How it works", "how-it-works"),
        ("actors", "actors"),
        ("actors-", "actors-that-restart"),
    ],
)
def test_chapter_is_found_by_its_title_and_by_the_beginning_of_its_name(asked, chapter) -> None:
    assert called(asked).stdout == text_of(chapter)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("taks", "Did you mean tasks or nested-tasks-and-streams?"),
        ("retires", "Did you mean errors-and-retries?"),
        ("metrix", "Did you mean metrics-and-tracing?"),
        ("tracing", "Did you mean metrics-and-tracing?"),
        ("n", "Did you mean nested-tasks-and-streams or notebooks?"),
        ("xyz", "`aioray guide` lists them all."),
    ],
)
def test_unknown_chapter_is_an_error_that_names_those_that_are_near(asked: str, said: str) -> None:
    result = called(asked)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"Error: The guide has no chapter {asked!r}. {said}\n"


def test_grep_prints_chapter_line_and_text_of_what_matches_in_capitals_or_not() -> None:
    found = called("--grep", "backoff|KEYBOARDinterrupt").stdout.splitlines()
    expected = [
        f"{chapter}:{number}: {line}"
        for chapter in CHAPTERS
        for number, line in enumerate(called(chapter).stdout.splitlines(), 1)
        if "backoff" in line.lower() or "keyboardinterrupt" in line.lower()
    ]
    assert found == expected
    assert len({line.partition(":")[0] for line in found}) > 2


def test_grep_of_a_chapter_searches_that_one_alone() -> None:
    found = called("cancelling", "--grep", "cancel").stdout.splitlines()
    assert found
    assert {line.partition(":")[0] for line in found} == {"cancelling"}


def test_grep_without_a_match_and_with_a_wrong_pattern_are_errors() -> None:
    result = called("--grep", "no such words")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The guide has no line that matches 'no such words'.\n"
    result = called("--grep", "(")
    assert result.exit_code == 2
    assert "'(' is no regular expression" in result.stderr
    assert called("--grep", "[[ab]").stderr == ""  # of which Python would warn


def test_shells_complete_names_with_what_they_are() -> None:
    shell = ShellComplete(commands, {}, "aioray", COMPLETE)
    offered = [(item.value, item.help) for item in shell.get_completions(["guide"], "actors")]
    assert offered == [(name, summary_of(name)) for name in ("actors", "actors-that-restart")]


# ------------------------------------------------------------ terminals


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_is_drawn_for_the_width_of_the_terminal(chapter: str, paged: list[str]) -> None:
    result = called(chapter)
    drawn = "".join(paged) or result.stdout
    lines = ESCAPE.sub("", drawn).splitlines()
    assert max(map(len, lines)) <= 80
    assert COLOUR.search(drawn)
    title = text_of(chapter).partition("\n")[0][2:]
    assert title in [line.strip(FRAME) for line in lines[:2]]
    assert "](" not in drawn
    assert "```" not in drawn


def test_long_chapter_is_paged_and_one_that_fits_the_screen_is_not(paged, monkeypatch) -> None:
    assert called("errors").stdout == ""
    assert len(paged) == 1
    monkeypatch.setenv("LINES", "5000")
    assert "Errors and retries" in called("errors").stdout
    assert len(paged) == 1


def test_links_between_chapters_are_told_as_commands(paged: list[str]) -> None:
    called("cancelling")
    text = " ".join(ESCAPE.sub("", paged[0]).split())
    assert "see tasks (aioray guide tasks)" in text


@pytest.mark.parametrize("arguments", [("errors",), (), ("--grep", "retries")])
def test_no_color_is_respected(arguments, paged, monkeypatch) -> None:
    shown = called(*arguments).stdout + "".join(paged)
    assert COLOUR.search(shown)
    paged.clear()
    monkeypatch.setenv("NO_COLOR", "1")
    shown = called(*arguments).stdout + "".join(paged)
    assert shown
    assert not COLOUR.search(shown)


def test_list_and_matches_on_a_terminal_say_what_they_say_elsewhere(paged, monkeypatch) -> None:
    listed, found = called().stdout, called("--grep", "retries").stdout
    monkeypatch.setattr(guide, "on_terminal", lambda: False)
    assert ESCAPE.sub("", listed).startswith(called().stdout)
    assert "--grep PATTERN" in listed
    assert ESCAPE.sub("", found) == called("--grep", "retries").stdout
