"""Rows and curves of figures, their ratios to aioray, and aims; as text, Markdown and JSON."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

REFERENCE = "aioray"


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure that should be reached, and whether it was."""

    text: str
    reached: bool

    def __str__(self) -> str:
        return f"{self.text}: {'reached' if self.reached else 'NOT reached'}"


def at_least(value: float, aim: float, text: str | None = None) -> Aim:
    """An aim for which more is better."""
    return Aim(text or f">= {number(aim)}", value >= aim)


def at_most(value: float, aim: float, text: str | None = None) -> Aim:
    """An aim for which less is better."""
    return Aim(text or f"<= {number(aim)}", value <= aim)


def aims_for(
    samples: Mapping[str, Sequence[float]],
    aims: Mapping[str, float],
    kind: Callable[[float, float], Aim],
) -> dict[str, list[Aim]]:
    """The same kind of aim for the medians of several contestants; those that took part."""
    return {
        name: [kind(median_of(samples, name), aim)] for name, aim in aims.items() if name in samples
    }


def times_the_best(
    samples: Mapping[str, Sequence[float]],
    name: str,
    others: Iterable[str],
    aim: float,
    *,
    more_is_better: bool,
) -> list[Aim]:
    """The aim to be so many times as good as the best of the others; none without them."""
    present = [other for other in others if other in samples]
    if name not in samples or not present:
        return []
    best = (max if more_is_better else min)(present, key=lambda other: median_of(samples, other))
    ratio = paired_ratio(samples[name], samples[best])
    if ratio is None:
        return []
    times = ratio if more_is_better else 1 / ratio
    return [at_least(times, aim, f">= {aim:g} x {best}, is {times:.2f} x")]


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's answer to one part of a question."""

    question: str
    measure: str
    contestant: str
    unit: str
    samples: tuple[float, ...]  # one a round
    ratio: float | None  # median over the rounds of: its value / the reference's in that round
    reference: str
    more_is_better: bool
    aims: tuple[Aim, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True, slots=True)
class Curve:
    """One contestant's answers along a quantity that was varied."""

    question: str
    measure: str
    contestant: str
    along: str  # the quantity, with its unit
    unit: str
    points: tuple[tuple[float, tuple[float, ...]], ...]  # quantity, samples

    def medians(self) -> dict[float, float]:
        return {x: statistics.median(samples) for x, samples in self.points}


def paired_ratio(samples: Sequence[float], others: Sequence[float]) -> float | None:
    """The median of the ratios within the rounds that both took part in."""
    ratios = [mine / other for mine, other in zip(samples, others, strict=False) if other]
    return statistics.median(ratios) if ratios else None


def median_of(samples: Mapping[str, Sequence[float]], name: str) -> float:
    """The median; of one that took no part, not a number, which reaches no aim."""
    taken = samples.get(name)
    return statistics.median(taken) if taken else math.nan


class Table:
    """All rows and curves of a run, in order."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.curves: list[Curve] = []

    def add(
        self,
        question: str,
        measure: str,
        unit: str,
        samples: Mapping[str, Sequence[float]],
        aims: Mapping[str, Sequence[Aim]] | None = None,
        *,
        reference: str = REFERENCE,
        more_is_better: bool | None = None,
    ) -> None:
        """Add a row for each contestant. aims: by contestant; one without samples has none.

        more_is_better: None means that of rates, and of nothing else.
        """
        theirs = samples.get(reference, ())
        more = unit.endswith("/s") if more_is_better is None else more_is_better
        for name, taken in samples.items():
            ratio = None if name == reference else paired_ratio(taken, theirs)
            marks = tuple((aims or {}).get(name, ()))
            self.rows.append(
                Row(question, measure, name, unit, tuple(taken), ratio, reference, more, marks)
            )

    def add_curves(
        self,
        question: str,
        measure: str,
        along: str,
        unit: str,
        samples: Mapping[str, Mapping[float, Sequence[float]]],
    ) -> None:
        """Add a curve for each contestant that has a point."""
        for name, points in samples.items():
            taken = tuple((x, tuple(ys)) for x, ys in points.items() if ys)
            if taken:
                self.curves.append(Curve(question, measure, name, along, unit, taken))

    # ------------------------------------------------------------ as text

    def text(self) -> str:
        """Plain text, one block per measure."""
        head = ("", "median", "min - max", "unit", "ratio", "aim")
        body: list[tuple[str, ...]] = []
        for rows in self.measures():
            body.append((f"{rows[0].question}: {rows[0].measure}",))
            body += [(f"  {row.contestant}", *_cells(row)) for row in rows]
        cells = [head, *(line for line in body if len(line) > 1)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        lines = [_aligned(head, widths)]
        lines += [line[0] if len(line) == 1 else _aligned(line, widths) for line in body]
        for curves in self.bundles():
            first = curves[0]
            lines.append(f"{first.question}: {first.measure}, {first.unit} by {first.along}")
            grid = _grid(curves)
            columns = [max(map(len, column)) for column in zip(*grid, strict=True)]
            for name, *figures in grid:
                padded = [each.rjust(columns[i]) for i, each in enumerate(figures, 1)]
                lines.append("  ".join([f"  {name.ljust(columns[0])}", *padded]))
        aims = [aim for row in self.rows for aim in row.aims]
        lines.append(f"aims reached: {sum(aim.reached for aim in aims)} of {len(aims)}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """A section for each question, with a table for each measure."""
        lines: list[str] = []
        question = ""
        for block in (*self.measures(), *self.bundles()):
            if block[0].question != question:
                question = block[0].question
                lines += [f"## {question}", ""]
            first = block[0]
            if isinstance(first, Row):
                lines += [f"### {first.measure}", "", *markdown_table(_sheet(block))]
            else:
                what = f"### {first.measure}, {first.unit} by {first.along}"
                lines += [what, "", *markdown_table(_grid(block))]
            lines.append("")
        return "\n".join(lines)

    # ------------------------------------------------------------ as data

    def raw(self) -> dict[str, list[dict[str, Any]]]:
        """The rows and curves as plain data."""
        return {
            "rows": [{**asdict(row), "median": row.median} for row in self.rows],
            "curves": [asdict(curve) for curve in self.curves],
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Table:
        """What `raw` gave, after a way through JSON."""
        table = cls()
        for row in raw["rows"]:
            fields = {name: value for name, value in row.items() if name != "median"}
            fields["samples"] = tuple(fields["samples"])
            fields["aims"] = tuple(Aim(**aim) for aim in fields["aims"])
            table.rows.append(Row(**fields))
        for curve in raw["curves"]:
            points = tuple((x, tuple(samples)) for x, samples in curve["points"])
            table.curves.append(Curve(**{**curve, "points": points}))
        return table

    def measures(self) -> Iterator[list[Row]]:
        """The rows of each measure."""
        return _together(self.rows)

    def bundles(self) -> Iterator[list[Curve]]:
        """The curves of each measure."""
        return _together(self.curves)


def _together(items: Sequence[Any]) -> Iterator[list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for item in items:
        found.setdefault((item.question, item.measure), []).append(item)
    return iter(found.values())


def _cells(row: Row) -> tuple[str, ...]:
    return (
        number(row.median),
        f"{number(min(row.samples))} - {number(max(row.samples))}",
        row.unit,
        "" if row.ratio is None else f"{number(row.ratio)} x {row.reference}",
        "; ".join(map(str, row.aims)),
    )


def _sheet(rows: Sequence[Row]) -> list[list[str]]:
    return [
        ["", "median", "min - max", "unit", "ratio", "aim"],
        *([row.contestant, *_cells(row)] for row in rows),
    ]


def _grid(curves: Sequence[Curve]) -> list[list[str]]:
    """Contestants downwards, the quantity to the right; empty where one was not asked."""
    xs = sorted({x for curve in curves for x, _ in curve.points})
    grid = [["", *(short(x) for x in xs)]]
    for curve in curves:
        medians = curve.medians()
        grid.append([curve.contestant, *(number(medians[x]) if x in medians else "" for x in xs)])
    return grid


def markdown_table(grid: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, whose first line is its head."""
    head, *body = ("|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in grid)
    return [head, f"|{' --- |' * len(grid[0])}", *body]


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    name, *figures, aim = line
    parts = [name.ljust(widths[0])]
    for column, figure in enumerate(figures, 1):
        is_unit = column == 3
        parts.append(figure.ljust(widths[column]) if is_unit else figure.rjust(widths[column]))
    return "  ".join([*parts, aim]).rstrip()


def number(value: float) -> str:
    """Three significant digits; thousands with commas."""
    size = abs(value)
    if size >= 10_000:
        return f"{float(f'{value:.3g}'):,.0f}"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.095 or size == 0 else f"{value:.2g}"


def short(value: float) -> str:
    """A quantity in a few characters: 10k, 1M, 0.5."""
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{mark}"
    return f"{value:g}"
