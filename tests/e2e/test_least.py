"""Serving without privileges, and back to what the card asks for."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Lab

RELEASE = "qwen3-tiny-standin"
LEAST = ("--set", "container_profile=least", "--set", "deadline_s=300")


def inspect(lab: Lab, host: str) -> dict[str, Any]:
    name = lab.on(host, "docker ps --filter label=io.flagprov.replica --format '{{.Names}}'").strip()
    found: dict[str, Any] = json.loads(lab.on(host, f"docker inspect {name}"))[0]
    return found


def test_a_container_with_no_more_than_it_needs(clean_hosts: Lab) -> None:
    lab = clean_hosts
    done = lab.deploy(RELEASE, *LEAST)
    assert [replica["state"] for replica in done["replicas"]] == ["ready", "ready"]
    assert "container_profile least on lab1, lab2" in " ".join(done["notes"])
    found = inspect(lab, "lab1")
    assert found["HostConfig"]["Privileged"] is False
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    own = [mount["Destination"] for mount in found["Mounts"] if mount["RW"]]
    assert sorted(own) == ["/run/flagprov", "/var/lib/flagprov/cache"]
    status = lab.on("lab1", f"cat /proc/{found['State']['Pid']}/status")
    assert "NoNewPrivs:\t1" in status

    plan = lab.flagprov("plan", lab.inventory, RELEASE)
    assert "--set container_profile=least of an earlier run is taken back" in plan.out
    assert lab.flagprov("plan", lab.inventory, RELEASE, *LEAST).code == 0
