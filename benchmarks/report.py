"""Rows of figures, their ratios to aioray, the aims they are held against; as text and as JSON."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    return Aim(text or f">= {_number(aim)}", value >= aim)


def at_most(value: float, aim: float, text: str | None = None) -> Aim:
    """An aim for which less is better."""
    return Aim(text or f"<= {_number(aim)}", value <= aim)


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's answer to one part of a question."""

    question: str
    measure: str
    contestant: str
    unit: str
    samples: tuple[float, ...]  # one a round
    ratio: float | None  # median over the rounds of: its value / aioray's in that round
    aims: tuple[Aim, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


def paired_ratio(samples: Sequence[float], others: Sequence[float]) -> float | None:
    """The median of the ratios within the rounds that both took part in."""
    ratios = [mine / other for mine, other in zip(samples, others, strict=False) if other]
    return statistics.median(ratios) if ratios else None


def median_of(samples: Mapping[str, Sequence[float]], name: str) -> float:
    """The median; of one that took no part, not a number, which reaches no aim."""
    taken = samples.get(name)
    return statistics.median(taken) if taken else math.nan


class Table:
    """All rows of a run, in order."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(
        self,
        question: str,
        measure: str,
        unit: str,
        samples: Mapping[str, Sequence[float]],
        aims: Mapping[str, Sequence[Aim]] | None = None,
        *,
        reference: str = REFERENCE,
    ) -> None:
        """Add a row for each contestant. aims: by contestant; one without samples has none."""
        theirs = samples.get(reference, ())
        for name, taken in samples.items():
            ratio = None if name == reference else paired_ratio(taken, theirs)
            marks = tuple((aims or {}).get(name, ()))
            self.rows.append(Row(question, measure, name, unit, tuple(taken), ratio, marks))

    def text(self) -> str:
        """Plain text, one block per measure."""
        head = ("", "median", "min - max", "unit", f"x {REFERENCE}", "aim")
        body: list[tuple[str, ...]] = []
        measure: tuple[str, str] | None = None
        for row in self.rows:
            if (row.question, row.measure) != measure:
                measure = (row.question, row.measure)
                body.append((f"{row.question}: {row.measure}",))
            body.append(
                (
                    f"  {row.contestant}",
                    _number(row.median),
                    f"{_number(min(row.samples))} - {_number(max(row.samples))}",
                    row.unit,
                    "" if row.ratio is None else f"{_number(row.ratio)}",
                    "; ".join(map(str, row.aims)),
                )
            )
        cells = [head, *(line for line in body if len(line) > 1)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        lines = [_aligned(head, widths)]
        lines += [line[0] if len(line) == 1 else _aligned(line, widths) for line in body]
        aims = [aim for row in self.rows for aim in row.aims]
        lines.append(f"aims reached: {sum(aim.reached for aim in aims)} of {len(aims)}")
        return "\n".join(lines)

    def raw(self) -> list[dict[str, Any]]:
        """The rows as plain data."""
        return [{**asdict(row), "median": row.median} for row in self.rows]


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    name, *figures, aim = line
    parts = [name.ljust(widths[0])]
    for column, figure in enumerate(figures, 1):
        is_unit = column == 3
        parts.append(figure.ljust(widths[column]) if is_unit else figure.rjust(widths[column]))
    return "  ".join([*parts, aim]).rstrip()


def _number(value: float) -> str:
    """Three significant digits; thousands with commas."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.095 or size == 0 else f"{value:.2g}"
