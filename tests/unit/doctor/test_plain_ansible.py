"""Plain Ansible makes the checks that `deploy` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doctor_values import CHIPS, h100

from flagprov import plain
from flagprov.catalog import load_release
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.preparation import Job, Request
from flagprov.site import Site

RELEASE, CHIP = "qwq-32b", "nvidia-h100"


@pytest.mark.parametrize("force", [(), ("fabric",)])
def test_a_failing_host_is_refused_unless_that_is_overruled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, force: tuple[str, ...]
) -> None:
    facts = h100()
    facts["nvidia"]["report"]["gpus"][3]["fabric_state"] = "In Progress"
    survey: dict[str, Any] = {
        "arch": "x86_64", "os": "Ubuntu", "kernel": "5", "cpus": 8, "memory_mib": 1 << 20,
        "docker_version": "24.0.7", "provisioned": "print", "devices": facts["devices"],
        "running": [], "records": {}, "facts": {},
    }  # fmt: skip
    release = load_release(RELEASE)
    fleet = Fleet(tmp_path / "hosts.ini", (Host("a", Connection("a"), chip=CHIP),))
    variants = {"a": release.variants[CHIP]}
    job = Job(
        fleet, Site(tmp_path), release, CHIPS, variants, None, (), {"a": frozenset[str]()}, force
    )  # fmt: skip
    monkeypatch.setattr(plain, "prepare", lambda request: job)
    answer = {**facts, "time": 100.0, "answered": 100.0}
    state = plain.desired_state(
        Request(fleet.inventory, RELEASE), {"a": survey}, {"a": answer}, {}, lambda _: None
    )
    host = state["hosts"]["a"]
    assert not host["ask"]
    if force:
        assert host["resources"]
    else:
        assert host["problem"] == "fabric: GPU 3: In Progress, Success"
        assert "--force fabric" in host["remedy"]
