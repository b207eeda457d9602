"""`plan` and `deploy` make the checks where something new is to run, and leave failing hosts out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doctor_fleet import Answers, plan_for
from doctor_values import h100

from flagprov.models.plan import Plan
from flagprov.models.release import Variant

NETWORKS = {"networks": {"addresses": {"eth0": "192.0.2.1"}, "routes": []}}
BETWEEN = {"flagprov_cluster_interface": "eth0"}
CONFIG = {"kind": "tree", "name": "config", "stage": "config", "action": "create", "reason": "it is new"}
Draw = Callable[..., Plan]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Draw:
    """The plan for hosts that answer so."""

    def run(force: tuple[str, ...] = (), **hosts: Answers) -> Plan:
        return plan_for(monkeypatch, tmp_path, hosts, force=force)

    return run


def ill() -> dict[str, Any]:
    facts = h100()
    facts["nvidia"]["report"]["gpus"][3]["fabric_state"] = "In Progress"
    return facts


def test_a_failing_host_is_left_out_and_the_others_go_on(draw: Draw) -> None:
    plan = draw(a=Answers(ill()), b=Answers(h100()))
    (left,) = plan.left_out
    assert (left.host, left.problem.step) == ("a", "fabric")
    assert left.problem.message == "GPU 3: In Progress, Success"
    assert left.problem.remedy.endswith("--force fabric")
    assert [host.host for host in plan.hosts()] == ["b"]


def test_force_names_what_to_overrule(draw: Draw) -> None:
    plan = draw(("fabric",), a=Answers(ill()))
    assert plan.left_out == ()
    assert "warnings of checks: fabric on 1 host; `flagprov doctor` says more" in plan.notes
    assert draw(("mig",), a=Answers(ill())).left_out


def test_hosts_that_do_not_pull_do_not_ask_the_registry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone, fed = Answers(h100()), Answers(h100())
    plan_for(monkeypatch, tmp_path, {"a": alone})
    plan_for(monkeypatch, tmp_path, {"a": fed}, flagprov_images="fan-out")
    assert ("brought" in alone.wanted["image"], fed.wanted["image"]["brought"]) == (False, True)


def test_a_pass_that_changes_nothing_asks_for_no_facts(draw: Draw) -> None:
    for changes in ((), (CONFIG,)):
        answers = Answers(ill(), changes)
        assert draw(a=answers).left_out == ()
        assert answers.asked == ["survey", "look"]


def test_a_host_without_a_driver_is_provisioned_first(draw: Draw) -> None:
    facts = {**h100(nvidia={"loaded": None, "on_disk": None, "report": None}), "devices": {"cpuinfo": []}}
    bare = Answers(facts, docker_version=None, provisioned=None)
    plan = draw(a=bare)
    assert plan.left_out == ()
    assert [step.action for host in plan.hosts() for step in host.steps] == ["provision"]
    assert bare.asked == ["survey", "facts"]


def test_what_provisioning_cannot_mend_leaves_a_host_out_before_it(draw: Draw) -> None:
    facts = h100(paths=[])
    facts["system"]["arch"] = "aarch64"
    bare = Answers({**facts, "devices": {"cpuinfo": []}}, docker_version=None, provisioned=None)
    (left,) = draw(a=bare).left_out
    assert left.problem.message == "the machine is aarch64, chip nvidia-h100 is x86_64"


def test_without_a_driver_and_already_provisioned_it_is_left_out(draw: Draw) -> None:
    (left,) = draw(a=Answers({**h100(), "devices": {"nvidia-smi": []}})).left_out
    assert left.problem.step == "placement"


def test_only_replicas_over_several_hosts_ask_for_the_network_between_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone, one, other = (Answers(h100(), facts=NETWORKS) for _ in range(3))
    plan_for(monkeypatch, tmp_path, {"a": alone})
    assert "rdma" not in alone.surveyed
    assert "spanning" not in alone.wanted

    def spread(variant: Variant) -> Variant:
        return variant.model_copy(update={"nodes": 2})

    plan = plan_for(monkeypatch, tmp_path, {"a": one, "b": other}, change=spread, **BETWEEN)
    assert one.surveyed["rdma"] is other.surveyed["rdma"] is True
    assert one.wanted["spanning"] is True
    assert [left.problem.step for left in plan.left_out] == []
