"""benchmarks/out/rollout.json as a picture beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

OUT = Path(__file__).parents[1] / "out"
COLOURS = {"flagprov": "tab:green", "floor": "tab:blue"}
Rows = Sequence[dict[str, Any]]


def main() -> None:
    rows = json.loads((OUT / "rollout.json").read_text())
    works = list(dict.fromkeys(row["work"] for row in rows))
    grown = [work for work in works if len({row["n"] for row in rows if row["work"] == work}) > 1]
    count = len(works) + len(grown)
    figure, all_axes = pyplot.subplots(1, count, figsize=(4 * count, 3.5), squeeze=False)
    for axes, work in zip(all_axes[0], works, strict=False):
        most = max(row["n"] for row in rows if row["work"] == work)
        bars_of(axes, [row for row in rows if row["work"] == work and row["n"] == most])
        axes.set_title(f"{work}, {most} hosts, seconds")
    for axes, work in zip(all_axes[0][len(works) :], grown, strict=True):
        lines_of(axes, [row for row in rows if row["work"] == work])
        axes.set_title(f"{work}, seconds by hosts")
    figure.tight_layout()
    figure.savefig(OUT / "rollout.png", dpi=120)


def bars_of(axes: Axes, rows: Rows) -> None:
    found = sorted(rows, key=lambda row: -row["wall_s_median"])
    bars = axes.barh([row["tool"] for row in found], [row["wall_s_median"] for row in found])
    for bar, row in zip(bars, found, strict=True):
        bar.set_color(COLOURS.get(row["tool"], "tab:gray"))
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xscale("log")


def lines_of(axes: Axes, rows: Rows) -> None:
    for tool in dict.fromkeys(row["tool"] for row in rows):
        found = sorted((row["n"], row["wall_s_median"]) for row in rows if row["tool"] == tool)
        axes.plot(*zip(*found, strict=True), marker="o", label=tool, color=COLOURS.get(tool))
    axes.set_yscale("log")
    axes.legend(fontsize="x-small")


if __name__ == "__main__":
    main()
