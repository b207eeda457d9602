"""benchmarks/out/rollout.json as a picture beside it."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

OUT = Path(__file__).parents[1] / "out"


def main() -> None:
    rows = json.loads((OUT / "rollout.json").read_text())
    works = list(dict.fromkeys(row["work"] for row in rows))
    figure, all_axes = pyplot.subplots(1, len(works), figsize=(4 * len(works), 3.5), squeeze=False)
    for axes, work in zip(all_axes[0], works, strict=True):
        found = sorted((row for row in rows if row["work"] == work), key=lambda row: -row["wall_s_median"])
        bars = axes.barh([row["tool"] for row in found], [row["wall_s_median"] for row in found])
        for bar, row in zip(bars, found, strict=True):
            bar.set_color({"flagprov": "tab:green", "floor": "tab:blue"}.get(row["tool"], "tab:gray"))
        axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.set_xscale("log")
        axes.set_title(f"{work}, {found[0]['n']} hosts, seconds")
    figure.tight_layout()
    figure.savefig(OUT / "rollout.png", dpi=120)


if __name__ == "__main__":
    main()
