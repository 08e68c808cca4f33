"""On a terminal nothing is cut: every value is on the screen in one piece."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from aioray.cli import render
from aioray.cli.render import print_rows, print_summary
from aioray.cli.summary import LAYOUTS
from aioray.state.read.columns import RESOURCES
from aioray.state.read.queries import list_rows, summarize
from tests.state.history import History, a_session

WIDTHS = (40, 80, 200, 600)


@pytest.fixture
def screen(monkeypatch):
    """Lets `render` believe in a terminal of a width; the function returns what it would show."""

    def drawn(width: int, *, colours: bool, draw: Any) -> str:
        file = io.StringIO()

        def console(wanted: int | None = None) -> Console:
            return Console(
                file=file,
                width=wanted or width,
                force_terminal=colours,
                color_system="standard" if colours else None,
                no_color=not colours,
            )

        monkeypatch.setattr(render, "on_terminal", lambda: True)
        monkeypatch.setattr(render, "_console", console)
        draw()
        return file.getvalue()

    return drawn


def values_of(rows: list[dict], schema: Any, columns: list[str]) -> set[str]:
    found: set[str] = set()
    for row in rows:
        shown = schema.humanify(row)
        for name in columns:
            found.update(render._cell(name, shown[name]).split("\n"))
    return found - {""}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("detail", [False, True])
@pytest.mark.parametrize("resource", RESOURCES)
def test_every_value_is_shown_in_one_piece(resource, detail: bool, width: int, screen) -> None:
    kind = RESOURCES[resource]
    rows = list_rows(a_session().view(), resource, detail=detail).rows
    text = screen(
        width, colours=False, draw=lambda: print_rows(kind, rows, form="table", detail=detail)
    )
    columns = kind.schema.list_columns(detail=detail)
    missing = {v for v in values_of(rows, kind.schema, columns) if v not in text}
    assert not missing
    assert "…" not in text
    assert f"Total: {len(rows)}" in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal_unless_one_value_is(width: int, screen) -> None:
    rows = list_rows(a_session().view(), "tasks").rows
    draw = lambda: print_rows(RESOURCES["tasks"], rows, form="table", detail=False)  # noqa: E731
    lines = screen(width, colours=False, draw=draw).splitlines()
    assert max(map(len, lines)) <= width


def test_what_all_rows_share_is_told_once_where_it_is_narrow(screen) -> None:
    rows = list_rows(a_session().view(), "actors").rows
    draw = lambda: print_rows(RESOURCES["actors"], rows, form="table", detail=False)  # noqa: E731
    wide, narrow = (screen(width, colours=False, draw=draw) for width in (400, 80))
    assert wide.count("01000000\n") == 0
    assert len(re.findall(r"JOB_ID  01000000", narrow)) == 1
    assert narrow.count("RAY_NAMESPACE") == 1
    assert "The same in all rows:" not in wide


def test_states_have_colours(screen) -> None:
    rows = list_rows(a_session().view(), "tasks").rows
    draw = lambda: print_rows(RESOURCES["tasks"], rows, form="table", detail=False)  # noqa: E731
    for width in (80, 600):
        text = screen(width, colours=True, draw=draw)
        assert re.search(r"\x1b\[1;31mFAILED", text)
        assert re.search(r"\x1b\[32mFINISHED", text)
        assert re.search(r"\x1b\[31mWORKER_DIED", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("resource", LAYOUTS)
def test_summary_is_whole(resource: str, width: int, screen) -> None:
    summary = summarize(a_session().view(), resource)
    text = screen(width, colours=False, draw=lambda: print_summary(summary, LAYOUTS[resource]))
    for name, group in summary["summary"].items():
        assert name in text
        for state, count in group.get("state_counts", {}).items():
            assert f"{state}: {count}" in text


def test_names_are_no_markup(screen) -> None:
    history = a_session()
    kind = history.signature("[red]f[/red]")
    history.attempt(kind, 40, created=1.0, ended=2.0)
    rows = list_rows(history.view(), "tasks").rows
    draw = lambda: print_rows(RESOURCES["tasks"], rows, form="table", detail=False)  # noqa: E731
    for width in (80, 600):
        assert "[red]f[/red]" in screen(width, colours=False, draw=draw)


def test_what_would_steer_the_terminal_is_written_out(screen) -> None:
    history = a_session()
    history.attempt(history.signature("a\x1b[2Jb\tc"), 41, created=1.0, ended=2.0)
    rows = list_rows(history.view(), "tasks").rows
    draw = lambda: print_rows(RESOURCES["tasks"], rows, form="table", detail=False)  # noqa: E731
    for width in (80, 600):
        text = screen(width, colours=False, draw=draw)
        assert "\x1b" not in text
        assert r"a\x1b[2Jb\tc" in text
    summary = summarize(history.view(), "tasks")
    text = screen(80, colours=False, draw=lambda: print_summary(summary, LAYOUTS["tasks"]))
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        (["abc", "b"], [["1", "2"], ["xxxxx", "y\nzzz"]]),
        (["a"], [["q"]]),
        (["a", "b", "c"], [["日本", "", ""]] * 12),
    ],
)
def test_width_of_a_table_is_known_before_it_is_made(columns, cells) -> None:
    console = Console(file=io.StringIO(), width=1000)
    drawn = console.measure(render._rich_table(columns, cells)).maximum
    assert render._width(columns, cells) == drawn


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("resource", LAYOUTS)
def test_summary_of_nothing_is_an_empty_table(
    resource, terminal, screen, monkeypatch, capsys
) -> None:
    summary = summarize(History().view(), resource)
    draw = lambda: print_summary(summary, LAYOUTS[resource])  # noqa: E731
    if terminal:
        text = screen(80, colours=False, draw=draw)
    else:
        draw()
        text = capsys.readouterr().out
    assert LAYOUTS[resource].heading in text
