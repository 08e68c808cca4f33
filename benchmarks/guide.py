"""Writes the figures of a run into the chapter of the guide, and its pictures beside it.

The chapter has sections between comments, `<!-- benchmarks: NAME -->` and `<!-- /benchmarks -->`. A
section is written anew if the run has asked all that it tells of, and stays as it is otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contestants import BATCHING, PEERS
from .pictures import PICTURES, draw
from .report import markdown_table, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .report import Row, Table

CHAPTER = Path(__file__).parent.parent / "aioray" / "guide" / "performance.md"
FOLDER = "pictures"  # beside the chapter

TABLES = {
    "tasks": ("throughput", "depth", "round_trip", "chain", "nested", "actors"),
    "lengths": ("efficiency",),
    "programs": ("service", "map", "grid_search", "data", "wait"),
    "incidents": ("start_up", "crash", "cancel", "memory", "history", "state"),
    "values": (
        "objects_put_once",
        "objects_results",
        "objects_many",
        "objects_put",
        "objects_get",
        "objects_recovery",
    ),
    "microbenchmark": ("microbenchmark",),
}
"""Sections that are tables of rows: the questions whose rows these are."""

OWN = ("aioray", "aioray sync", "aioray Pool", "aioray joblib")
FLOORS = ("floor", "memcpy", "python alone", "two processes")
_SECTION = re.compile(r"(<!-- benchmarks: (\w+) -->\n)(.*?)(<!-- /benchmarks -->\n)", re.DOTALL)


def write(
    table: Table, run: Mapping[str, Any], parts: Mapping[str, Sequence[str]], chapter: Path
) -> list[str]:
    """Write the sections that there are figures for; the names of these.

    run: what is known of the machine and of the libraries. parts: lines of other sections.
    """
    asked = {row.question for row in table.rows}
    wanted = dict(parts)
    for name, questions in TABLES.items():
        if asked.issuperset(questions):
            rows = [each for each in table.measures() if each[0].question in questions]
            wanted[name] = summary(rows)
    if wanted.keys() >= TABLES.keys():
        wanted["machine"] = _machine(run)
    for name in draw(table, str(chapter.parent / FOLDER)):
        wanted[name] = [f"![{PICTURES[name].title}]({FOLDER}/{name}.svg)"]
    text = chapter.read_text(encoding="utf-8")
    written = []

    def replaced(found: re.Match[str]) -> str:
        begin, name, old, end = found.groups()
        if name not in wanted:
            return begin + old + end
        written.append(name)
        lines = "\n".join(wanted[name])
        return f"{begin}{lines}\n{end}"

    text = _SECTION.sub(replaced, text)
    chapter.write_text(text, encoding="utf-8")
    return written


def summary(measures: Iterable[Sequence[Row]]) -> list[str]:
    """A line for each measure: aioray, what the machine itself takes, the best peer, Ray."""
    grid = [["", "aioray", "floor", "best peer", "Ray"]]
    for rows in measures:
        by_name = {row.contestant.removesuffix(" (by hand)"): row for row in rows}
        own = "; ".join(number(by_name[name].median) for name in OWN if name in by_name)
        if not own:  # a question that only has commands or settings of aioray
            commands = [row for row in rows if row.contestant not in FLOORS]
            own = "; ".join(f"{row.contestant} {number(row.median)}" for row in commands)
        floor = next((number(by_name[name].median) for name in FLOORS if name in by_name), "")
        ray = number(by_name["ray"].median) if "ray" in by_name else ""
        unit = f", {rows[0].unit}" if rows[0].unit else ""
        grid.append([f"{rows[0].measure}{unit}", own, floor, _best(by_name, rows[0]), ray])
    used = [column for column in range(len(grid[0])) if any(line[column] for line in grid[1:])]
    return markdown_table([[line[column] for column in used] for line in grid])


def _best(by_name: Mapping[str, Row], row: Row) -> str:
    peers = [name for name in (*PEERS, BATCHING) if name in by_name]
    if not peers:
        return ""
    best = (max if row.more_is_better else min)(peers, key=lambda name: by_name[name].median)
    by_hand = ", by hand" if by_name[best].contestant.endswith("(by hand)") else ""
    return f"{number(by_name[best].median)} ({best}{by_hand})"


def _machine(run: Mapping[str, Any]) -> list[str]:
    machine = run["machine"]
    others = {
        name: version
        for name, version in run["versions"].items()
        if name in (*PEERS, BATCHING, "ray") and version != machine["python"]
    }
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(others.items()))
    rounds = run["scale"]["rounds"]
    lines = [
        f"{machine['cpus']} processors, Python {machine['python']}, {machine['system']};",
        f"medians of {rounds} rounds, fewer for what takes long.",
    ]
    return [*lines, f"Beside aioray: {libraries}."] if libraries else lines
