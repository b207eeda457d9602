"""benchmarks/out/distribution.json as a picture beside it."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

OUT = Path(__file__).parents[1] / "out"


def main() -> None:
    rows = [row for row in json.loads((OUT / "distribution.json").read_text()) if row["work"] != "again"]
    rows.sort(key=lambda row: (row["hosts"], row["over_limit"]))
    figure, axes = pyplot.subplots(figsize=(9, 0.4 * len(rows) + 1.5))
    names = [f"{row['tool']}, {row['work']}, {row['hosts']} hosts" for row in rows]
    bars = axes.barh(names, [row["over_limit"] for row in rows])
    for bar, row in zip(bars, rows, strict=True):
        bar.set_color("tab:green" if row["tool"] == "flagprov" else "tab:gray")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("time until the last host is done, over size / bandwidth of one link")
    figure.tight_layout()
    figure.savefig(OUT / "distribution.png", dpi=120)


if __name__ == "__main__":
    main()
