"""Steps that are alike are one line."""

from __future__ import annotations

from flagprov.models.observed import Change
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.report.plan import plan_lines
from flagprov.report.text import render


def step(kind: str, name: str, reason: str = "it is missing") -> Change:
    return Change(kind, name, "config", "create", reason)


def test_directories_side_by_side_are_counted() -> None:
    steps = (
        step("directory", "/a"),
        step("directory", "/b"),
        step("file", "/b/c"),
        step("directory", "/d"),
        step("directory", "/e", "mode 0700 -> 0755"),
    )
    host = HostPlan("h1", steps, "")
    text = render(plan_lines(Plan("deploy", "m", (Batch((ReplicaPlan("m-0", (host,), ""),)),))))
    shown = [line.split(maxsplit=2)[2] for line in text.splitlines() if "create" in line]
    assert shown == [
        "2 directories: it is missing",
        "file /b/c: it is missing",
        "directory /d: it is missing",
        "directory /e: mode 0700 -> 0755",
    ]
