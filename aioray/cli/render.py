"""Draws what commands have to tell: tables, yaml and json, and tables on a terminal.

Room: cli. Without a terminal a table is plain text, laid out as Ray's command line does, so that
scripts that cut it into columns go on working. On a terminal the same is drawn by rich, with
colours. Where the table is wider than the terminal, what all rows have in common is told once above
it; where that does not help, each row becomes a paragraph, broken between values. No value is ever
cut, folded or shortened: what is on the screen can be copied.

A cell may have several lines: dicts are told as yaml, lists as Python writes them, as in Ray.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from aioray.shared.printable import LINES, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from aioray.state.read.columns import Resource

__all__ = [
    "EMPTY",
    "SummaryLayout",
    "as_json",
    "now",
    "on_terminal",
    "plain_table",
    "print_json",
    "print_rows",
    "print_summary",
    "print_yaml",
    "warn",
]

EMPTY = "No resource in the cluster"
BEYOND_RAY = "map_items"  # a column of ours: shown only where there is something

_GAP = "  "
_PADDING = 2  # a column is at least so much wider than its header: Ray's tables have it
_STYLES = {  # of values that say how it goes
    **dict.fromkeys(("FINISHED", "ALIVE", "CREATED", "SUCCEEDED"), "green"),
    **dict.fromkeys(("FAILED", "ERROR", "SYSTEM_ERROR", "NODE_OUT_OF_MEMORY"), "bold red"),
    **dict.fromkeys(("DEAD", "REMOVED", "STOPPED"), "red"),
    **dict.fromkeys(("RUNNING", "RUNNING_IN_RAY_GET", "RUNNING_IN_RAY_WAIT"), "bold cyan"),
    **dict.fromkeys(("RESTARTING", "RESCHEDULING", "WARNING", "PREPARED"), "yellow"),
}
_EDGES = 3  # blanks that a column adds to a table on a terminal
_PARAGRAPHS_AT_ONCE = 100
_TEXT_COLUMNS = frozenset(
    ("error_message", "exit_detail", "message", "state_message", "error", "call_site")
)
_STATE_COLUMNS = frozenset({"state", "status", "task_status", "severity", "exit_type"})


def now() -> str:
    """Return the local time, as in the headings of tables."""
    return str(dt.datetime.now())  # noqa: DTZ005 - the reader's own clock


def on_terminal() -> bool:
    """Tell whether people read what is printed."""
    return sys.stdout.isatty()


def warn(text: str) -> None:
    """Tell something beside the answer: on stderr."""
    click.echo(f"Warning: {printable(text)}", err=True)


# ------------------------------------------------------------ rows


def print_rows(
    resource: Resource, rows: Sequence[Mapping[str, Any]], *, form: str, detail: bool
) -> None:
    """Print rows of `resource`. form: "table", "yaml" or "json"; detail: with all columns."""
    if not rows:
        click.echo(EMPTY)
        return
    shown = [resource.schema.humanify(row) for row in rows]
    shown = [{name: row[name] for name in row if name != BEYOND_RAY or row[name]} for row in shown]
    if form == "json":
        print_json(shown)
    elif form == "yaml":
        print_yaml(shown)
    else:
        columns = resource.schema.list_columns(detail=detail)
        if not any(BEYOND_RAY in row for row in shown):
            columns = [name for name in columns if name != BEYOND_RAY]
        header = f"======== List: {now()} ========"
        stats = ["Stats:", "-" * 30, f"Total: {len(rows)}"]
        if on_terminal():
            _draw_rows(header, stats, columns, shown)
            return
        table = plain_table(columns, [_cells(row, columns) for row in shown])
        click.echo("\n".join(["", header, *stats, "", "Table:", "-" * 30, table, ""]))


def as_json(value: Any) -> str:
    """Write a value on one line, in printable ASCII alone."""
    return json.dumps(value).replace("\x7f", "\\u007f")  # the one that `dumps` leaves as it is


def print_json(value: Any) -> None:
    """Print a value as JSON, on one line."""
    click.echo(as_json(value))


def print_yaml(value: Any) -> None:
    """Print a value as YAML, in a document of its own."""
    click.echo(_yaml(value, indent=4, explicit_start=True, explicit_end=True, sort_keys=False))


def _yaml(value: Any, **options: Any) -> str:
    import yaml

    text: str = yaml.dump(value, Dumper=_dumper(), allow_unicode=True, **options)
    if not text.replace("\n", "").isprintable():  # of what is not ASCII YAML escapes all or nothing
        text = yaml.dump(value, Dumper=_dumper(), allow_unicode=False, **options)
    return text


def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes values that are used twice twice: an anchor helps no reader."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return Dumper


def _cell(column: str, value: Any) -> str:
    """Write a value for a table, where it may have several lines unless it is a name."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return _yaml(value).rstrip("\n") if value else "{}"
    return printable(str(value), LINES if column in _TEXT_COLUMNS else "")


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [_cell(name, row.get(name)) for name in columns]


# ------------------------------------------------------------ plain tables


def plain_table(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    right: bool = True,
    rule: bool = False,
) -> str:
    """Lay out a table with a leading index, in columns two blanks apart.

    right: columns of whole numbers stand at their right edge. rule: a line of dashes below the
    header.
    """
    table = [[str(number), *row] for number, row in enumerate(cells)]
    headers = ["", *(name.upper() for name in columns)]
    split = [[cell.split("\n") for cell in row] for row in table]
    texts = list(zip(*table, strict=True)) or [()] * len(headers)
    aligns = [right and _are_numbers(texts[at]) for at in range(len(headers))]
    widths = [
        max([len(header) + _PADDING, *(len(line) for row in split for line in row[at])])
        for at, header in enumerate(headers)
    ]
    lines = [_line(headers, widths, aligns)]
    if rule:
        lines.append(_GAP.join("-" * width for width in widths))
    for row in split:
        lines += [_line(part, widths, aligns) for part in zip_longest(*row, fillvalue="")]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], aligns: Sequence[bool]) -> str:
    parts = zip(cells, widths, aligns, strict=True)
    return _GAP.join(
        cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in parts
    ).rstrip()


def _are_numbers(cells: Sequence[str]) -> bool:
    """Tell whether cells are whole numbers; empty cells may be between them."""
    return any(cells) and all(not cell or _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    return cell.removeprefix("-").isdecimal()


# ------------------------------------------------------------ summaries


@dataclass(frozen=True, slots=True)
class SummaryLayout:
    """How a summary is printed."""

    title: str
    heading: str  # of the table
    columns: tuple[str, ...]  # of a group
    table_for_each: bool = False  # a table for each group, below its key; else one of all


def print_summary(summary: Mapping[str, Any], layout: SummaryLayout) -> None:
    """Print what was counted, as the queries give it."""
    stats = {k: v for k, v in summary.items() if k not in ("summary", "summary_by")}
    lines = ["", f"======== {layout.title}: {now()} ========", "Stats:", "-" * 36]
    lines += [_yaml(stats), "", layout.heading, "-" * 36]
    groups, columns = summary["summary"], layout.columns
    if on_terminal():
        _draw_summary(lines, groups, layout)
        return
    click.echo("\n".join(lines))
    if layout.table_for_each:
        tables = [
            f"{printable(key)}\n"
            f"{plain_table(columns, [_counted(group, columns)], right=False, rule=True)}"
            for key, group in groups.items()
        ]
        click.echo("\n\n\n\n".join(tables) + "\n")
    else:
        cells = [_counted(group, columns) for group in groups.values()]
        click.echo(plain_table(columns, cells, right=False) + "\n")


def _counted(group: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [
        f"{group[name]:g}" if isinstance(group[name], float) else _cell(name, group[name])
        for name in columns
    ]


# ------------------------------------------------------------ terminals


def _draw_rows(
    header: str,
    stats: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Draw a table if the terminal is wide enough for one, else a paragraph for each row."""
    console = _console()
    cells = [_cells(row, columns) for row in rows]
    console.print(f"\n{header}", style="bold", highlight=False)
    console.print("\n".join(stats), highlight=False)
    if _width(columns, cells) > console.width and len(rows) > 1:
        kept = [at for at in range(len(columns)) if len({row[at] for row in cells}) > 1]
        same = [(columns[at], cells[0][at]) for at in range(len(columns)) if at not in kept]
        _print_same(console, same)
        columns = [columns[at] for at in kept]
        cells = [[row[at] for at in kept] for row in cells]
    console.print("\nTable:", highlight=False)
    if _width(columns, cells) > console.width:
        for start in range(0, len(cells), _PARAGRAPHS_AT_ONCE):
            _print_paragraphs(console, columns, cells, start)
    else:
        console.print(_rich_table(columns, cells))
    console.print()


def _print_same(console: Console, same: Sequence[tuple[str, str]]) -> None:
    """Print what all rows have in common, so that it need not stand in each."""
    if not same:
        return
    console.print("\nThe same in all rows:", highlight=False)
    for name, cell in same:
        if cell:
            lines = _labelled(f"  {name.upper()}  ", cell.split("\n"), _style(name, cell))
            _print_lines(console, lines)
    empty = [name.upper() for name, cell in same if not cell]
    if empty:
        console.print(f"  empty: {', '.join(empty)}", highlight=False, soft_wrap=True)


def _labelled(label: str, lines: Sequence[str], style: str) -> list[Text]:
    from rich.text import Text

    labels = [label] + [" " * len(label)] * (len(lines) - 1)
    return [
        Text.assemble((label, "dim"), (line, style))
        for label, line in zip(labels, lines, strict=True)
    ]


def _print_lines(console: Console, lines: Sequence[Text]) -> None:
    """Print lines all at once, which is quicker, and let the terminal break them."""
    from rich.text import Text

    if lines:
        console.print(Text("\n").join(lines), soft_wrap=True)


def _print_paragraphs(
    console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]], start: int
) -> None:
    """Print some rows in lines of their own, broken between values and never inside of one."""
    from rich.cells import cell_len

    indent = len(str(len(cells) - 1)) + 2
    lines: list[Text] = []
    for number, row in enumerate(cells[start : start + _PARAGRAPHS_AT_ONCE], start):
        first = f"{number:>{indent - 2}}  "
        parts: list[tuple[str, str]] = []  # of the line that is being filled
        used = indent
        for name, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            label, of_cell, style = f"{name.upper()} ", cell.split("\n"), _style(name, cell)
            width = len(label) + cell_len(cell)
            if parts and (len(of_cell) > 1 or used + width > console.width):
                lines.append(_assembled(first, parts))
                first, parts, used = " " * indent, [], indent
            if len(of_cell) > 1:
                lines += _labelled(first + label, of_cell, style)
                first = " " * indent
            else:
                parts += [("  " if parts else "", ""), (label, "dim"), (cell, style)]
                used += width + 2
        if parts:
            lines.append(_assembled(first, parts))
    _print_lines(console, lines)


def _assembled(first: str, parts: Sequence[tuple[str, str]]) -> Text:
    from rich.text import Text

    return Text.assemble((first, "dim"), *parts)


def _draw_summary(
    lines: Sequence[str], groups: Mapping[str, Mapping[str, Any]], layout: SummaryLayout
) -> None:
    console, columns = _console(), layout.columns
    console.print("\n".join(lines), highlight=False)
    cells = [_counted(group, columns) for group in groups.values()]
    if not layout.table_for_each:
        _print_wide(columns, cells)
        return
    for key, row in zip(groups, cells, strict=True):
        text = f"\n{printable(key)}"
        console.print(text, style="bold", highlight=False, markup=False, soft_wrap=True)
        _print_wide(columns, [row])


def _console(width: int | None = None) -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, width=width)


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    for at, name in enumerate(columns):
        numbers = _are_numbers([row[at] for row in cells])
        table.add_column(name.upper(), justify="right" if numbers else "left", no_wrap=True)
    for number, row in enumerate(cells):
        texts = [
            Text(cell, style=_style(name, cell)) for name, cell in zip(columns, row, strict=True)
        ]
        table.add_row(str(number), *texts)
    return table


def _style(column: str, cell: str) -> str:
    if column in _STATE_COLUMNS:
        return _STYLES.get(cell, "")
    return "red" if column == "error_type" else ""


def _width(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """Measure how wide the table of these cells wants to be, whatever the terminal is."""
    from rich.cells import cell_len

    index = len(str(len(cells) - 1)) if cells else 0
    widths = [
        max([len(name), *(cell_len(line) for row in cells for line in row[at].split("\n"))])
        for at, name in enumerate(columns)
    ]
    return index + sum(_EDGES + width for width in widths)


def _print_wide(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print the table as wide as it is; the terminal breaks lines where it has to."""
    console, width = _console(), _width(columns, cells)
    wide = _console(width) if width > console.width else console
    wide.print(_rich_table(columns, cells))
    wide.print()
