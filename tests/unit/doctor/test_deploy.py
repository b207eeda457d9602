"""`plan` and `deploy` make the checks where something new is to run, and leave failing hosts out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doctor_values import CHIPS, h100

from flagprov import pipeline
from flagprov.apply import provision
from flagprov.catalog import load_release
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.plan import Plan
from flagprov.preparation import Job, Request
from flagprov.site import Site

RELEASE, CHIP = "qwq-32b", "nvidia-h100"
PULL = {"kind": "image", "name": "image", "stage": "image", "action": "pull", "reason": "it is not here"}
CONFIG = {"kind": "tree", "name": "config", "stage": "config", "action": "create", "reason": "it is new"}


class Answers:
    """What one host says; `asked` are the operations."""

    def __init__(
        self, facts: dict[str, Any], changes: Sequence[dict[str, Any]] = (PULL,), **survey: Any
    ) -> None:
        self.facts = facts
        self.changes = changes
        self.survey = survey
        self.asked: list[str] = []

    def say(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(payload["op"])
        if payload["op"] == "facts":
            return {**self.facts, "time": time.time()}
        if payload["op"] == "look":
            return {"digest": "d", "changes": list(self.changes), "problems": [], "notes": {}}
        assert payload["op"] == "survey"
        usual = {
            "arch": "x86_64", "os": "Ubuntu", "kernel": "5", "cpus": 8, "memory_mib": 1 << 20,
            "docker_version": "24.0.7", "provisioned": "print", "devices": self.facts["devices"],
            "running": [], "records": {}, "facts": {},
        }  # fmt: skip
        return {**usual, **self.survey}


class FakeSession:
    def __init__(self, host: Host, answers: Answers) -> None:
        self.host, self.answers = host, answers

    def ask(self, payload: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        return self.answers.say(payload)


Draw = Callable[..., Plan]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Draw:
    """The plan for hosts that answer so."""
    monkeypatch.setattr(provision, "fingerprint", lambda host: "print")

    def run(force: tuple[str, ...] = (), **hosts: Answers) -> Plan:
        class FakeConnections:
            def __init__(self, fleet: Fleet) -> None:
                pass

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def each(self, some: Sequence[Host], function: Callable[[Any], Any]) -> dict[str, Any]:
                return {host.name: function(FakeSession(host, hosts[host.name])) for host in some}

        fleet = Fleet(tmp_path / "hosts.ini", tuple(Host(n, Connection(n), chip=CHIP) for n in hosts))
        release = load_release(RELEASE)
        variants = dict.fromkeys(hosts, release.variants[CHIP])
        keys = {name: frozenset[str]() for name in hosts}
        job = Job(fleet, Site(tmp_path), release, CHIPS, variants, None, (), keys, force)
        monkeypatch.setattr(pipeline, "prepare", lambda request: job)
        monkeypatch.setattr(pipeline, "Connections", FakeConnections)
        return pipeline.plan(Request(fleet.inventory, RELEASE))

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
