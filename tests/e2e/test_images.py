"""Images that come from host to host: no host asks a registry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Lab

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
