"""Checks of the machine itself, its engine, mounts, ports, clock and network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from doctor_values import ALL, answer, ascend, check, h100, path, state, subject, without_chip

from flagprov.doctor.examine import CHECKS, examine
from flagprov.doctor.read import read_facts

CPU = "cpu-x86"


def test_a_healthy_host_is_well() -> None:
    for of in (
        subject(answer(), CPU),
        subject(h100(), "nvidia-h100", "qwq-32b"),
        subject(ascend("a2-idle"), "ascend-a2", "qwen3-4b"),
        subject(ascend("a3-idle"), "ascend-a3", "qwen3-4b"),
    ):
        unwell = [f for f in examine(of) if f.state not in ("ok", "unknown")]
        assert [(f.check, f.message) for f in unwell if f.check != "driver-hint"] == []


def test_arch() -> None:
    assert state("arch", subject(answer(), CPU)) == "ok"
    wrong = check("arch", subject(answer(), "graviton4"))
    assert (wrong.state, wrong.message) == ("failed", "the machine is x86_64, chip graviton4 is aarch64")


def test_the_inventory_says_another_chip() -> None:
    a2 = check("chip", subject(ascend("a2-idle"), "ascend-a3"))
    assert a2.message == ("the inventory says ascend-a3, but npu-smi says 910B3; it looks like ascend-a2")
    a3 = check("chip", subject(ascend("a3-idle"), "ascend-a2"))
    assert a3.message.endswith("npu-smi says Ascend910; it looks like ascend-a3")
    assert check("chip", without_chip(subject(answer(), CPU))).remedy.startswith("set it to one of ascend-a2")


def test_no_device_with_the_tools_words() -> None:
    facts = h100(devices={"nvidia-smi": []}, device_errors={"nvidia-smi": "Driver/library version mismatch"})
    assert "Driver/library version mismatch" in check("chip", subject(facts, "nvidia-h100")).message
    assert ALL["chip"](subject(facts, "nvidia-h100", before_provisioning=True)) is None


def test_features_of_the_processor() -> None:
    arm = answer()
    arm["processor"]["features"] = ["bf16", "i8mm", "sve2", "asimd"]
    assert state("processor", subject(arm, "graviton4")) == "ok"
    arm["processor"]["features"] = ["asimd", "bf16"]
    assert check("processor", subject(arm, "graviton4")).message == "the processor has no i8mm, sve2"


@pytest.mark.parametrize(("version", "expected"), [("24.0.7", "ok"), ("20.10.8", "ok"), ("19.3.1", "failed")])
def test_docker_is_at_least_the_cards(version: str, expected: str) -> None:
    facts = ascend("a2-idle")
    facts["docker"]["version"] = version
    assert state("docker", subject(facts, "ascend-a2", "qwen3-4b")) == expected


def test_no_engine() -> None:
    facts = answer(docker=None, unknown={"docker": "dockerd does not answer"})
    assert "dockerd does not answer" in check("docker", subject(facts, CPU)).message


@pytest.mark.parametrize(
    ("clock", "ahead", "expected"),
    [
        ({"tool": "chronyc", "synchronized": True, "offset_s": 0.0001}, 0.1, "ok"),
        ({"tool": "chronyc", "synchronized": True, "offset_s": -2.1}, 0.1, "warning"),
        ({"tool": "timedatectl", "synchronized": False, "offset_s": None}, 0.1, "warning"),
        ({"tool": "timedatectl", "synchronized": True, "offset_s": None}, -3.0, "warning"),
        ({"tool": "timedatectl", "synchronized": True, "offset_s": None}, 400.0, "failed"),
        (None, 0.1, "unknown"),
        (None, 400.0, "failed"),
    ],
)
def test_clock(clock: Any, ahead: float, expected: str) -> None:
    facts = answer(clock=clock, clock_offset_s=ahead, unknown={"clock": "no tool"} if clock is None else {})
    assert state("clock", subject(facts, CPU)) == expected


LOCAL = {"point": "/", "source": "/dev/sda1", "type": "ext4", "network": False}
NOT_PLANNED = {"planned_point": None, "planned_source": None}


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, "ok", "filer.example:/models (nfs4)"),
        (LOCAL, "failed", "/nfs is not mounted; /etc/fstab has filer.example:/models there"),
        ({**LOCAL, **NOT_PLANNED, "empty": True}, "failed", "an empty directory of the root file system"),
        ({**LOCAL, **NOT_PLANNED}, "ok", "/nfs on the root file system"),
        ({**LOCAL, **NOT_PLANNED, "exists": False}, "failed", "/nfs is not there"),
        ({"exists": False, "answers": False}, "failed", "filer.example:/models does not answer"),
    ],
)
def test_mounts(changes: dict[str, Any], expected: str, words: str) -> None:
    facts = h100(paths=[path("/nfs", **changes)])
    found = check("mounts", subject(facts, "nvidia-h100", "qwq-32b"))
    assert found.state == expected
    assert words in found.message


@pytest.mark.parametrize("changes", [{"empty": True}, {"exists": False}])
def test_the_sites_own_directory_for_weights_may_be_new(changes: dict[str, Any]) -> None:
    facts = h100(
        paths=[path("/nfs", **LOCAL, **NOT_PLANNED), path("/srv/w", **LOCAL, **NOT_PLANNED, **changes)]
    )
    of = subject(facts, "nvidia-h100")
    assert state("mounts", of) == "failed"
    of = replace(of, host=replace(of.host, weights_root="/srv/w/"))
    assert state("mounts", of) == "warning"
    other = read_facts("h2", answer(paths=[path("/srv/w")]))
    assert "no network mount here" in check("mounts", replace(of, peers={"h2": other})).message
    facts["paths"][1].update(planned_point="/srv/w", planned_source="filer.example:/w")
    planned = replace(of, facts=read_facts("h1", facts))
    assert "/srv/w is not mounted" in check("mounts", planned).message


@pytest.mark.parametrize(
    ("chip", "there", "words"),
    [
        ("ascend-a2", {"19e5:d803": 16}, "the PCI bus has 19e5:d803; it looks like ascend-a3"),
        ("nvidia-h100", {"10de:2335": 8}, "the PCI bus has 10de:2335"),
        ("nvidia-h100", {}, "the PCI bus has no accelerator"),
        ("nvidia-h100", {"10de:2330": 8}, None),
        ("nvidia-h100", None, None),
        ("cpu-x86", {}, None),
    ],
)
def test_a_bare_host_of_another_chip(chip: str, there: Any, words: str | None) -> None:
    of = subject(answer(devices={}, pci_ids=there), chip, before_provisioning=True)
    found = ALL["chip"](of)
    assert (found and found.state) == ("failed" if words else None)
    assert words is None or (found and words in found.message)
    later = check("chip", subject(answer(devices={}, pci_ids=there), chip))
    assert later.state == "failed"
    assert (words or "device: ") in later.message


def test_a_directory_of_the_system_may_be_empty() -> None:
    facts = h100(paths=[path("/usr/local/sbin", **LOCAL, **NOT_PLANNED, empty=True)])
    looked_at = subject(facts, "nvidia-h100", "qwq-32b")
    assert looked_at.serving
    mounted = replace(looked_at.serving, sources=("/nfs", "/usr/local/sbin"))
    assert state("mounts", replace(looked_at, serving=mounted)) == "ok"


def test_a_mount_that_the_other_hosts_have() -> None:
    other = read_facts("h2", answer())
    local = h100(paths=[path("/nfs", **LOCAL, **NOT_PLANNED)])
    found = check("mounts", subject(local, "nvidia-h100", "qwq-32b", peers={"h2": other}))
    assert found.message == "/nfs is no network mount here, on h2 it is filer.example:/models"
    another = h100(paths=[path("/nfs", source="old.example:/x")])
    assert state("mounts", subject(another, "nvidia-h100", "qwq-32b", peers={"h2": other})) == "warning"


def test_space() -> None:
    said = {"where": "registry", "arches": ["amd64"], "env": {}, "download_mib": 20_000, "why": ""}
    facts = h100(image=said)
    assert state("space", subject(facts, "nvidia-h100", "qwq-32b")) == "ok"
    facts["docker"]["free_mib"] = 50_000
    full = check("space", subject(facts, "nvidia-h100", "qwq-32b"))
    assert (full.state, full.message) == (
        "failed",
        "49 GiB free in /var/lib/docker, the image needs about 59 GiB",
    )
    assert (
        state("space", subject({**facts, "image": {**said, "where": "host"}}, "nvidia-h100", "qwq-32b"))
        == "warning"
    )


def test_ports() -> None:
    facts = answer(ports=[{"port": 9010, "holder": "nginx (pid 7)"}])
    assert check("ports", subject(facts, CPU)).message == "port 9010 is taken by nginx (pid 7)"
    assert state("ports", subject(answer(ports=[{"port": 9010, "holder": None}]), CPU)) == "ok"


def test_network() -> None:
    jumbo = answer()
    jumbo["interfaces"][0]["mtu"] = 9000
    found = check("network", subject(answer(), CPU, peers={"h2": read_facts("h2", jumbo)}))
    assert (found.state, found.message) == ("warning", "MTU 1500 in 192.0.2.0/24, on h2 9000")
    both = answer()
    both["interfaces"].append(
        {"name": "ib0", "state": "up", "mtu": 4092, "speed_mbps": None, "addresses": ["198.51.100.5/24"]}
    )
    of = subject(both, CPU, peers={"h2": read_facts("h2", jumbo)})
    assert "in 192.0.2.0/24" in check("network", of).message  # whatever the other network has
    jumbo["interfaces"][0]["addresses"] = ["203.0.113.5/24"]
    assert state("network", subject(answer(), CPU, peers={"h2": read_facts("h2", jumbo)})) == "ok"
    assert state("network", subject(answer(interfaces=[]), CPU)) == "failed"
    unknown = answer(interfaces=None, unknown={"interfaces": "/sys is not there"})
    assert check("network", subject(unknown, CPU)).message == "/sys is not there"


def test_what_roles_bring_is_not_asked_before_they_ran() -> None:
    facts = answer(docker=None)
    names = {f.check for f in examine(subject(facts, CPU, before_provisioning=True))}
    assert names.isdisjoint({check.name for check in CHECKS if check.brought})
    assert "arch" in names
