"""Tables, yaml and json against recordings of real Ray's command line, byte for byte.

The recordings hold rows as `ray list --format json` told them, and what `ray list` printed of the
same session; for summaries, what Python got. So they compare layout, not where values come from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aioray.cli import render, summary
from aioray.state.read.columns import RESOURCES

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "ray-2.60.0-cli.json").read_text(encoding="utf-8")
)
LISTS = [name for name in RECORDED if name.startswith("list ")]
SUMMARIES = [name for name in RECORDED if name.startswith("summary ")]


@pytest.mark.parametrize("name", LISTS)
def test_rows_look_as_in_ray(name: str, monkeypatch, capsys) -> None:
    recorded = RECORDED[name]
    resource = RESOURCES[recorded["resource"]]
    monkeypatch.setattr(render, "now", lambda: recorded["now"])
    monkeypatch.setattr(resource.schema, "humanify", staticmethod(dict))  # Ray's json has been
    render.print_rows(resource, recorded["value"], form=recorded["form"], detail=recorded["detail"])
    assert capsys.readouterr().out == recorded["printed"]


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_looks_as_in_ray(name: str, monkeypatch, capsys) -> None:
    recorded = RECORDED[name]
    monkeypatch.setattr(render, "now", lambda: recorded["now"])
    layout = summary.LAYOUTS[name.removeprefix("summary ")]
    render.print_summary(recorded["value"], layout)
    assert capsys.readouterr().out == recorded["printed"]


@pytest.mark.parametrize("cell", ["", "x", "12a", "1.5", "None"])
def test_column_of_other_than_whole_numbers_stands_left(cell: str) -> None:
    header, first, second = render.plain_table(["count"], [["7"], [cell]]).split("\n")
    assert header.index("COUNT") == (6 if cell == "" else 4)
    assert first == (" 0        7" if cell == "" else " 0  7")
    assert second == f" 1  {cell}".rstrip()


def test_cell_of_several_lines_takes_several_lines() -> None:
    table = render.plain_table(["a", "b"], [["1\n2", "x"], ["3", "y\nz"]])
    assert table.split("\n") == [
        "    A    B",
        " 0  1    x",
        "    2",
        " 1  3    y",
        "         z",
    ]
