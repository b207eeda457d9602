"""Steps that are alike are one line; replicas that get another order are said to."""

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


def test_the_order_of_a_replica_is_said_with_its_reason() -> None:
    def replica(number: int, *order: str) -> ReplicaPlan:
        host = HostPlan(f"h{number}", (step("file", "/x"),), "")
        return ReplicaPlan(f"m-{number}", (host,), "new container", *order)

    first = replica(0, "start before stop", "device 1, port 9110 of h0")
    text = render(plan_lines(Plan("rollout", "m", (Batch((first, replica(1))),))))
    assert "    start before stop: device 1, port 9110 of h0\n" in text
    assert text.count("before") == 1
    alike = [replica(i, "stop before start", f"no free device on h{i}") for i in range(12)]
    text = render(plan_lines(Plan("rollout", "m", (Batch((first, *alike)),))))
    assert text.count("stop before start: no free device on h0") == 1
    assert "12 equal ones" in text
