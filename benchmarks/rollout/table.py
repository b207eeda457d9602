"""The figures for people: each beside the floor's, and how they grow with the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]


def table(rows: Rows) -> str:
    return "\n".join([*_figures(rows), "", *_growth(rows)])


def _figures(rows: Rows) -> Iterator[str]:
    """Wall time of each tool and work, and how many times the floor that is."""
    floor = {(row["work"], row["n"]): row["wall_s_median"] for row in rows if row["tool"] == "floor"}
    yield f"{'work':18} {'tool':16} {'hosts':>5} {'wall s':>8} {'x floor':>8} {'CPU s':>8} {'MiB':>7}"
    for row in sorted(rows, key=lambda row: (row["work"], row["n"], row["wall_s_median"])):
        least = floor.get((row["work"], row["n"]))
        ratio = f"{row['wall_s_median'] / least:8.2f}" if least else f"{'-':>8}"
        yield (
            f"{row['work']:18} {row['tool']:16} {row['n']:5} {row['wall_s_median']:8.2f} {ratio}"
            f" {row['controller_cpu_s']:8.2f} {row['controller_rss_mib']:7.0f}"
        )


def _growth(rows: Rows) -> Iterator[str]:
    """From one host to the most: the additional seconds, and how many times the floor's those are."""
    for work in dict.fromkeys(row["work"] for row in rows):
        mine = [row for row in rows if row["work"] == work]
        least, most = min(row["n"] for row in mine), max(row["n"] for row in mine)
        if least == most:
            continue
        wall = {(row["tool"], row["n"]): row["wall_s_median"] for row in mine}
        grown = {tool: wall[tool, most] - at for (tool, n), at in wall.items() if n == least}
        floor = grown.get("floor")
        for tool, seconds in grown.items():
            times = f", {seconds / floor:.2f} x the floor's growth" if floor and tool != "floor" else ""
            yield f"{work}, {least} to {most} hosts: {tool} {seconds:+.2f} s{times}"
