"""Images that come from host to host: no host asks a registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Lab

RELEASE = "qwen3-tiny-standin"
NEXT = "qwen3-tiny-next"


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


@pytest.fixture
def next_version(tmp_path: Path) -> Iterator[Path]:
    """A release whose image has one more layer on those of the old one."""
    from flagprov.lab.layout import Layout
    from flagprov.lab.oci import Blob, Storage

    storage, name = Storage(Layout(ROOT).blobs), "standin-next"
    repositories = storage.v2 / "repositories"

    def read(digest: str) -> Any:
        return json.loads(storage._data(digest).read_text())

    old = read((repositories / "standin/_manifests/tags/0.8.0/current/link").read_text())
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "next").write_text("another version\n")
    added = storage.layer(tmp_path / "layer")
    layers = [*(Blob(layer["digest"], layer["size"]) for layer in old["layers"]), added]
    image = storage.image(name, "1", layers, read(old["config"]["digest"])["config"])
    release = tmp_path / f"{NEXT}.yaml"
    text = (ROOT / f"flagprov/catalog/releases/{RELEASE}.yaml").read_text()
    release.write_text(
        text.replace("standin:0.8.0", f"{name}:1").replace(f"name: {RELEASE}", f"name: {NEXT}")
    )
    yield release
    shutil.rmtree(repositories / name)
    for digest in (added.digest, image.config, image.manifest):
        shutil.rmtree(storage._data(digest).parent)


def test_another_version_of_an_image_brings_only_its_own_layers(fanned: Lab, next_version: Path) -> None:
    fanned.deploy(RELEASE, "--limit", "lab1")
    fanned.teardown()  # the image stays
    report = fanned.deploy(str(next_version))
    assert fanned.states(NEXT) == dict.fromkeys(fanned.hosts, "ready")
    lines = (Path(report["run_directory"]) / "events.jsonl").read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["step"].startswith("fan out")]
    totals = {(s["host"], s["step"]): s["data"]["total"] for s in steps if "total" in s["data"]}
    came = {host: sum(total for (on, _), total in totals.items() if on == host) for host in fanned.hosts}
    assert came["lab1"] < 1 << 20 < came["lab2"]  # lab2 lacks all of it
    for host in fanned.hosts:
        assert "standin-next:1" in fanned.on(host, "docker images --format '{{.Repository}}:{{.Tag}}'")
        assert fanned.on(host, "ls /var/lib/flagprov/oci") == ""


def test_a_bundle_is_all_that_a_deploy_needs(fanned: Lab, tmp_path: Path) -> None:
    file = tmp_path / "standin.tar"
    weights = ROOT / "build" / "lab" / "model" / "Qwen3-Tiny"
    words = ("--inventory", fanned.inventory, "--weights", weights, "--no-wheels", "--output", file)
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


@pytest.fixture
def without_mirrors(fanned: Lab) -> Iterator[Lab]:
    """A host that lacks its container engine, beside one that has it; neither reaches a mirror."""
    lab = fanned
    lab.on(lab.hosts[0], "systemctl stop docker.socket docker; dpkg --remove --force-depends docker.io")
    for host in lab.hosts:
        lab.on(host, "mkdir /root/sources && mv /etc/apt/sources.list* /root/sources/")
        lab.on(host, "echo 'deb http://192.0.2.1/debian bookworm main' >/etc/apt/sources.list")
        lab.on(host, "iptables -I OUTPUT -d 192.0.2.1 -j REJECT; iptables -Z OUTPUT")
    yield lab
    for host in lab.hosts:
        lab.on(host, "iptables -D OUTPUT -d 192.0.2.1 -j REJECT")
        lab.on(host, "rm /etc/apt/sources.list; mv /root/sources/* /etc/apt/; rmdir /root/sources")
    lab.on(lab.hosts[0], "apt-get -qq update && apt-get -qq -y --no-install-recommends install docker.io")


def test_packages_come_with_the_bundle(without_mirrors: Lab, tmp_path: Path) -> None:
    lab, file = without_mirrors, tmp_path / "standin.tar"
    words = ("--inventory", lab.inventory, "--no-wheels", "--output", file)
    words = (*words, "--weights", ROOT / "build" / "lab" / "model" / "Qwen3-Tiny")
    assert lab.flagprov("bundle", RELEASE, *words).code == 0
    refused = lab.flagprov("deploy", lab.inventory, file, "--yes")
    assert refused.code == 2, refused
    assert f"no docker.io 20.10.5 or later for debian-12-x86_64 ({lab.hosts[0]})" in refused.err
    assert "--platform debian-12-x86_64" in refused.err
    packed = lab.flagprov("bundle", RELEASE, "--platform", "debian-12-x86_64", *words)
    assert packed.code == 0, packed
    assert "docker.io" in lab.flagprov("bundle", "--list", file).out
    result = lab.flagprov("deploy", lab.inventory, file, "--yes", "--output", "json")
    assert result.code == 0, result
    assert lab.states(RELEASE) == dict.fromkeys(lab.hosts, "ready")
    assert "ii" in lab.on(lab.hosts[0], "dpkg --list docker.io | tail -n 1")
    for host in lab.hosts:  # neither registry nor mirror was asked
        refused_packets = lab.on(host, "iptables -nvxL OUTPUT | awk '$3 == \"REJECT\" {print $1}'").split()
        assert set(refused_packets) == {"0"}, refused_packets
    assert lab.flagprov("plan", lab.inventory, file).code == 0
