"""Whole texts against tests/cases/report/*.txt; FLAGPROV_WRITE_CASES=1 writes them anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import report_values as values

from flagprov.models.outcome import RankStatus
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.report.outcome import next_lines, outcome_lines
from flagprov.report.plan import has_changes, plan_lines
from flagprov.report.status import is_well, status_lines
from flagprov.report.text import Line, render

CASES = Path(__file__).parents[2] / "cases" / "report"
MANY_FAILED = (
    *(values.host(n, seconds={"serve": 41.0}) for n in range(1, 197)),
    values.failed(197),
    values.failed(198),
    values.failed(199, "port 8000 is taken by nginx (pid 812)"),
    values.host(200, "unreachable", message="no answer within 10 s", remedy="Check that it is up."),
)
LEFT_OUT = (values.left_out("lab3"), values.left_out("lab4", unreachable=False))
DEGRADED = values.ready(
    0, hosts=("lab1", "lab2"), state="degraded", detail="one rank is away",
    ranks=(RankStatus("lab1", 0, "ready"), RankStatus("lab2", 1, "unreachable")),
)  # fmt: skip
AWAY = values.host(2, "unreachable", message="no route to it", remedy="Check that it is up.")
HOSTILE = values.failed(2, "\x1b[2J[red]gone[/red]\x07\nsecond line")


def _next(lines: Callable[..., list[Line]], **more: object) -> Callable[[int | None], list[Line]]:
    found = values.outcome(**more)  # type: ignore[arg-type]
    return lambda width: [*lines(found, width=width), *next_lines(found, "inventory/lab.ini")]


def _two_nodes() -> Plan:
    hosts = tuple(
        HostPlan(f"lab{n}", values.first_steps("qwen3-tiny-0")[:2], "d", "image facts") for n in (1, 2)
    )
    return Plan("deploy", "qwen3-tiny", (Batch((ReplicaPlan("qwen3-tiny-0", hosts, "re-provision"),)),))


TEXTS: dict[str, Callable[[int | None], list[Line]]] = {
    "plan-first": lambda width: plan_lines(values.plan(left_out=LEFT_OUT), width=width),
    "plan-no-change": lambda width: plan_lines(values.plan(changes=False), width=width),
    "plan-two-nodes": lambda width: plan_lines(_two_nodes(), width=width),
    "plan-200-hosts": lambda width: plan_lines(values.plan(200), width=width),
    "deploy-done": _next(outcome_lines),
    "deploy-no-change": _next(
        outcome_lines, hosts=(values.host(1, "unchanged"), values.host(2, "unchanged"))
    ),
    "deploy-failed": _next(
        outcome_lines, hosts=(values.host(1), values.failed(2)), replicas=(values.ready(0),)
    ),
    "deploy-hostile": _next(outcome_lines, hosts=(HOSTILE,), replicas=(), completions=()),
    "deploy-200-hosts": _next(
        outcome_lines, hosts=MANY_FAILED, replicas=tuple(values.ready(n) for n in range(196))
    ),
    "stop": _next(outcome_lines, verb="stop", replicas=(), completions=(), notes=("lab9 has no replica",)),
    "status": lambda width: status_lines(values.outcome(), width=width),
    "status-none": lambda width: status_lines(
        values.outcome((values.host(1, "unchanged"),), ()), width=width
    ),
    "status-degraded": lambda width: status_lines(
        values.outcome((values.host(1), AWAY), (DEGRADED,)), width=width
    ),
}
NARROW = ("plan-first", "deploy-failed", "status", "status-degraded")


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str) -> None:
    _compare(f"{name}.txt", render(TEXTS[name](None)))


@pytest.mark.parametrize("name", NARROW)
def test_narrow_terminal(name: str) -> None:
    shown = render(TEXTS[name](50), width=50)
    _compare(f"{name}-narrow.txt", shown)


def _compare(file: str, shown: str) -> None:
    path = CASES / file
    if os.environ.get("FLAGPROV_WRITE_CASES"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


def test_colour_changes_no_letter() -> None:
    lines = TEXTS["deploy-failed"](None)
    coloured = render(lines, colour=True)
    for code in ("1", "2", "31", "32", "33", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == render(lines)


def test_two_hundred_hosts_stay_readable() -> None:
    assert len(TEXTS["deploy-200-hosts"](None)) < 60
    assert len(TEXTS["plan-200-hosts"](None)) < 15


def test_a_host_without_a_replica_has_its_place_in_a_plan() -> None:
    alone = ReplicaPlan("", (HostPlan("lab1", values.first_steps("x")[:1], "d"),), "re-provision")
    many = tuple(ReplicaPlan("", (HostPlan(f"lab{n}", alone.hosts[0].steps, "d"),), "") for n in range(20))
    assert "lab1: re-provision" in render(plan_lines(Plan("deploy", "r", (Batch((alone,)),))))
    assert "20 equal ones; the steps of lab0" in render(plan_lines(Plan("deploy", "r", (Batch(many),))))


def test_a_pending_plan_is_not_no_change() -> None:
    pending = values.replica_plan(0, (), "the image was never probed")
    found = Plan("deploy", "r", (Batch((pending,)),))
    assert has_changes(found)
    assert "no change" not in render(plan_lines(found))
    assert not has_changes(values.plan(changes=False))


def test_several_batches_have_numbers() -> None:
    found = Plan(
        "deploy", "r", (Batch((values.replica_plan(0),)), Batch((values.replica_plan(1),))), notes=("a",)
    )
    text = render(plan_lines(found))
    assert "batch 2 of 2" in text
    assert "note: a" in text


@pytest.mark.parametrize(
    ("state", "well"),
    [("ready", True), ("starting", True), ("stopped", True), ("hung", False), ("absent", False)],
)
def test_status_says_whether_somebody_must_look(state: str, well: bool) -> None:
    assert is_well(values.outcome(replicas=(values.ready(0, state=state),))) is well
    assert not is_well(values.outcome((AWAY,)))
