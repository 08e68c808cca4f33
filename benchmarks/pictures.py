"""The pictures of a run: curves, drawn by matplotlib as SVG, the same bytes for the same figures.

Text stays text, so files are small, and nothing in them tells when they were drawn.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .report import short

if TYPE_CHECKING:
    from .report import Curve, Table


@dataclass(frozen=True, slots=True)
class Picture:
    """Which curves stand in it, and how."""

    title: str
    questions: tuple[str, ...]
    x_scale: str = "log"
    y_scale: str = "log"
    swapped: bool = False  # the quantity upwards: a distribution


PICTURES = {
    "depth": Picture("Throughput over queue depth", ("depth",)),
    "latency": Picture(
        "Latency of one call after another", ("round_trip",), y_scale="linear", swapped=True
    ),
    "payload": Picture("Cost of a task over the size of its argument", ("payload",)),
    "workers": Picture("Throughput over the number of workers", ("workers",), y_scale="linear"),
    "efficiency": Picture(
        "Share of the ideal over the length of tasks", ("efficiency",), y_scale="linear"
    ),
}
"""By the name of the file."""

COLOURS = {
    "aioray": "#c0392b",
    "aioray sync": "#e67e22",
    "aioray gather(refs)": "#d98880",
    "aioray std loop": "#f0b27a",
    "ray": "#2471a3",
    "ProcessPoolExecutor": "#1e8449",
    "multiprocessing.Pool": "#7dcea0",
    "pebble": "#7d3c98",
    "loky": "#b7950b",
    "joblib": "#d4ac0d",
    "mpire": "#85929e",
    "aiomultiprocess": "#17a589",
    "anyio": "#34495e",
    "floor": "#aaaaaa",
    "floor, two processors": "#cccccc",
}
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aioray",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "path.simplify_threshold": 0.5,
}
MOST_BYTES = 60_000  # of one file: they come with the package
WIDTH, HEIGHT = 7.2, 3.8  # inches, of one panel


def draw(table: Table, folder: str) -> list[str]:
    """Write a file for each picture that has curves; the names of these. Raises ImportError."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    os.makedirs(folder, exist_ok=True)
    drawn = []
    for name, picture in PICTURES.items():
        bundles = [b for b in table.bundles() if b[0].question in picture.questions]
        if not bundles:
            continue
        with mpl.rc_context(SETTINGS):
            figure, panels = plt.subplots(
                len(bundles), 1, figsize=(WIDTH, HEIGHT * len(bundles)), squeeze=False
            )
            for panel, curves in zip(panels[:, 0], bundles, strict=True):
                _panel(panel, curves, picture)
            figure.suptitle(picture.title)
            figure.tight_layout()
            figure.savefig(
                os.path.join(folder, f"{name}.svg"), format="svg", metadata={"Date": None}
            )
            plt.close(figure)
        drawn.append(name)
    return drawn


def _panel(panel: Any, curves: list[Curve], picture: Picture) -> None:
    from matplotlib.ticker import FuncFormatter

    for curve in curves:
        xs, ys = zip(*curve.medians().items(), strict=True)
        own = curve.contestant.startswith("aioray")
        panel.plot(
            *((ys, xs) if picture.swapped else (xs, ys)),
            label=curve.contestant,
            color=COLOURS.get(curve.contestant, "#000000"),
            linestyle=":" if curve.contestant.startswith("floor") else "-",
            linewidth=2.2 if own else 1.2,
            marker="" if picture.swapped else "o" if own else ".",
            markersize=4,
            zorder=3 if own else 2,
        )
    first = curves[0]
    names = (first.along, f"{first.measure}, {first.unit}")
    panel.set_xlabel(names[picture.swapped])
    panel.set_ylabel(names[not picture.swapped])
    has_zero = any(x <= 0 for curve in curves for x, _ in curve.points)
    if picture.x_scale == "log" and has_zero and not picture.swapped:
        panel.set_xscale("symlog", linthresh=100)  # bytes: nothing is as good as a few
    else:
        panel.set_xscale(picture.x_scale)
    panel.set_yscale(picture.y_scale)
    if not picture.swapped:
        panel.set_xticks(sorted({x for curve in curves for x, _ in curve.points}))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panel.minorticks_off()
    if picture.y_scale == "linear":
        panel.set_ylim(bottom=0)
    panel.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
