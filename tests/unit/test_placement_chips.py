"""Placement knows the chips: wrong ones, ill devices, cards with two devices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flagprov.chips import load_chips
from flagprov.models.desired import Placement
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Device, Running, Survey
from flagprov.models.release import Image, Variant
from flagprov.observe import read_device
from flagprov.placement import Wish, place

CASES = Path(__file__).parents[1] / "cases" / "facts"
CHIPS = load_chips()


def npus(name: str) -> tuple[Device, ...]:
    table = json.loads((CASES / "npu_smi" / f"{name}.json").read_text())
    return tuple(read_device(entry) for entry in table["devices"])


def survey(tool: str, devices: tuple[Device, ...], arch: str = "aarch64", **facts: Any) -> Survey:
    return Survey(
        host="a",
        arch=arch,
        os="openEuler",
        kernel="5",
        cpus=8,
        memory_mib=1 << 20,
        docker_version="20.10.8",
        provisioned=None,
        devices={tool: devices},
        running=(),
        facts=facts,
    )


def run(chip: str, seen: Survey, devices: int = 1, replicas: int | None = None) -> Placement:
    image = Image(reference="registry/image:1")
    variant = Variant(image=image, serve={"port": 9010}, operators="native", devices=devices)
    host = Host("a", Connection("a"), chip=chip)
    return place(Fleet(Path("hosts.ini"), (host,)), "m", [Wish(host, CHIPS[chip], variant, seen, replicas)])


def refusal(placed: Placement) -> str:
    return placed.refusals[0].message


def test_a2_and_a3_are_told_apart() -> None:
    a2, a3 = survey("npu-smi", npus("a2-idle")), survey("npu-smi", npus("a3-idle"))
    assert run("ascend-a2", a2).replicas[0].devices == (0,)
    assert run("ascend-a3", a3).replicas[0].devices == (0,)
    assert refusal(run("ascend-a3", a2)) == "the inventory says ascend-a3, but npu-smi says 910B3"
    assert refusal(run("ascend-a2", a3)) == "the inventory says ascend-a2, but npu-smi says Ascend910"


def test_the_old_910_has_no_column_of_physical_numbers() -> None:
    old = tuple(replace(device, phy_id=None) for device in npus("a3-idle"))
    assert "Ascend910 without a Phy-ID column" in refusal(run("ascend-a3", survey("npu-smi", old)))


def test_an_npu_with_an_alarm_is_passed_over() -> None:
    seen = survey("npu-smi", npus("a2-one-alarm"))
    assert run("ascend-a2", seen, 7).replicas[0].devices == (0, 1, 2, 3, 4, 6, 7)
    assert refusal(run("ascend-a2", seen, 8)) == "8 devices are needed, 7 of 8 are free; device 5: alarm"


def test_devices_keep_their_numbers_where_one_is_missing() -> None:
    seen = survey("npu-smi", npus("a2-gap"))
    assert run("ascend-a2", seen, 4).replicas[0].devices == (0, 1, 2, 4)
    assert refusal(run("ascend-a2", seen, 8)).endswith("; a host of this chip has 1, 2, 4, 8 or 16 devices")


@pytest.mark.parametrize(
    ("busy", "count", "devices"),
    [
        ((), 2, (0, 1)),
        ((0,), 2, (2, 3)),
        ((0,), 1, (1,)),
        ((0,), 3, (1, 2, 3)),
        ((1, 2), 4, (4, 5, 6, 7)),
        ((0, 2, 4, 6, 8, 10, 12, 14), 2, (1, 3)),
        ((0, 2, 4, 6, 8, 10, 12), 4, (1, 3, 14, 15)),
    ],
)
def test_whole_cards_where_they_can_be_had(
    busy: tuple[int, ...], count: int, devices: tuple[int, ...]
) -> None:
    seen = tuple(replace(d, processes=("python (pid 1)",)) if d.index in busy else d for d in npus("a3-idle"))
    assert run("ascend-a3", survey("npu-smi", seen), count).replicas[0].devices == devices


def test_several_single_dies_share_a_card() -> None:
    placed = run("ascend-a3", survey("npu-smi", npus("a3-idle")), 1, replicas=3)
    assert [replica.devices for replica in placed.replicas] == [(0,), (1,), (2,)]


def test_what_runs_stays_on_an_ill_device() -> None:
    there = Running("m-0", "m", "ascend-a2", ("a",), (5,), 9010, "running")
    seen = replace(survey("npu-smi", npus("a2-one-alarm")), running=(there,))
    assert run("ascend-a2", seen).replicas[0].devices == (5,)


def test_grace_is_not_graviton() -> None:
    cpu = (Device(0, "implementer 0x41 part 0xd4f", 1 << 20),)
    assert run("graviton4", survey("cpuinfo", cpu, machine="Amazon EC2 r8g.48xlarge")).replicas
    assert run("graviton4", survey("cpuinfo", cpu, machine="")).replicas
    said = refusal(run("graviton4", survey("cpuinfo", cpu, machine="Quanta Grace Server")))
    assert said == "the inventory says graviton4, but the machine is Quanta Grace Server"


def test_why_the_tool_sees_nothing_is_said() -> None:
    seen = survey("nvidia-smi", (), "x86_64", device_errors={"nvidia-smi": "Driver/library version mismatch"})
    assert refusal(run("nvidia-h100", seen)) == (
        "no nvidia-h100 device is visible to nvidia-smi: Driver/library version mismatch"
    )


def test_a_lost_gpu_is_no_other_chip() -> None:
    good, lost = Device(0, "NVIDIA H100 80GB HBM3", 81559), Device(1, "unknown", None, health="lost")
    seen = survey("nvidia-smi", (good, lost), "x86_64")
    assert run("nvidia-h100", seen).replicas[0].devices == (0,)
    assert "device 1: lost" in refusal(run("nvidia-h100", seen, 2))
