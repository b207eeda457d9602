"""Images that come from host to host: no host asks a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, Lab

RELEASE = "qwen3-tiny-standin"


@pytest.fixture
def fanned(clean_hosts: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab with hosts that cannot reach its registry, and have none of its images."""
    lab = clean_hosts
    inventory = lab.inventory.with_name("lab-fan.ini")
    inventory.write_text(lab.inventory.read_text() + "flagprov_images=fan-out\n")
    monkeypatch.setattr(Lab, "inventory", inventory)
    for host in lab.hosts:
        lab.on(host, "docker ps -aq | xargs -r docker rm -f; docker images -q | xargs -r docker rmi -f")
        lab.on(host, "iptables -I OUTPUT -p tcp --dport 5000 -j REJECT")
    yield lab
    for host in lab.hosts:
        lab.on(host, "iptables -D OUTPUT -p tcp --dport 5000 -j REJECT")
    lab.teardown()
    inventory.unlink()


def test_an_image_comes_to_every_host_without_its_registry(fanned: Lab) -> None:
    plan = fanned.flagprov("plan", fanned.inventory, RELEASE)
    assert "comes from host to host" in plan.out, plan
    report = fanned.deploy(RELEASE)
    assert fanned.states(RELEASE) == dict.fromkeys(fanned.hosts, "ready")
    assert all(host["state"] == "changed" for host in report["hosts"])
    for host in fanned.hosts:
        assert "127.0.0.1" not in fanned.on(host, "docker images --digests")
        assert fanned.on(host, "ls /var/lib/flagprov/oci") == ""
    assert fanned.deploy(RELEASE)["changes"] == 0


def test_a_bundle_is_all_that_a_deploy_needs(fanned: Lab, tmp_path: Path) -> None:
    file = tmp_path / "standin.tar"
    weights = ROOT / "build" / "lab" / "model" / "Qwen3-Tiny"
    words = ("--inventory", fanned.inventory, "--weights", weights, "--output", file)
    packed = fanned.flagprov("bundle", RELEASE, *words)
    assert packed.code == 0, packed
    for host in fanned.hosts:
        fanned.on(host, "mv /srv/models/Qwen3-Tiny /srv/models/away")
    try:
        result = fanned.flagprov("deploy", fanned.inventory, "--bundle", file, "--yes", "--output", "json")
        assert result.code == 0, result
        assert fanned.states(RELEASE) == dict.fromkeys(fanned.hosts, "ready")
        assert fanned.flagprov("plan", fanned.inventory, file).code == 0
    finally:
        for host in fanned.hosts:
            fanned.on(host, "rm -rf /srv/models/Qwen3-Tiny; mv /srv/models/away /srv/models/Qwen3-Tiny")
