"""The chips, against captured names of devices and the facts that containers need."""

from __future__ import annotations

import re

import pytest

from flagprov.chips import chip_names, load_chips
from flagprov.models.release import Container

CHIPS = load_chips()


def test_names() -> None:
    assert chip_names() == ("ascend-a2", "ascend-a3", "cpu-x86", "graviton4", "nvidia-h100")
    assert {name: chip.name for name, chip in CHIPS.items()} == {name: name for name in chip_names()}


@pytest.mark.parametrize(
    ("tool", "name", "arch", "phy_id", "chip"),
    [
        ("nvidia-smi", "NVIDIA H100 80GB HBM3", "x86_64", None, "nvidia-h100"),
        ("nvidia-smi", "NVIDIA H100 PCIe", "x86_64", None, "nvidia-h100"),
        ("nvidia-smi", "NVIDIA H100 NVL", "x86_64", None, "nvidia-h100"),
        ("nvidia-smi", "NVIDIA H200", "x86_64", None, None),
        ("nvidia-smi", "NVIDIA H1000", "x86_64", None, None),
        ("nvidia-smi", "NVIDIA A100-SXM4-80GB", "x86_64", None, None),
        ("nvidia-smi", "NVIDIA GH200 480GB", "aarch64", None, None),
        ("npu-smi", "910B3", "aarch64", False, "ascend-a2"),
        ("npu-smi", "910B2C", "x86_64", False, "ascend-a2"),
        ("npu-smi", "910B4-1", "aarch64", False, "ascend-a2"),
        ("npu-smi", "Ascend910", "aarch64", True, "ascend-a3"),
        ("npu-smi", "Ascend910", "aarch64", False, None),
        ("npu-smi", "910A", "aarch64", False, None),
        ("npu-smi", "310P3", "aarch64", False, None),
        ("cpuinfo", "Neoverse-V2", "aarch64", None, "graviton4"),
        ("cpuinfo", "implementer 0x41 part 0xd4f", "aarch64", None, "graviton4"),
        ("cpuinfo", "implementer 0x41 part 0xd40", "aarch64", None, None),
        ("cpuinfo", "AMD EPYC 9654 96-Core Processor", "x86_64", None, "cpu-x86"),
    ],
)
def test_detection(tool: str, name: str, arch: str, phy_id: bool | None, chip: str | None) -> None:
    found = [
        each.name
        for each in CHIPS.values()
        if each.detection.tool == tool
        and arch in each.detection.arch
        and any(re.search(pattern, name) for pattern in each.detection.name_patterns)
        and each.detection.phy_id_header in (None, phy_id)
    ]
    assert found == ([chip] if chip else [])


@pytest.mark.parametrize(
    ("chip", "visible", "resource", "counts", "memory"),
    [
        ("nvidia-h100", "CUDA_VISIBLE_DEVICES", "gpu", 8, 80),
        ("ascend-a2", "ASCEND_RT_VISIBLE_DEVICES", "NPU", 8, 64),
        ("ascend-a3", "ASCEND_RT_VISIBLE_DEVICES", "NPU", 16, 64),
        ("graviton4", None, "cpu", None, None),
        ("cpu-x86", None, "cpu", None, None),
    ],
)
def test_devices(
    chip: str, visible: str | None, resource: str, counts: int | None, memory: int | None
) -> None:
    facts = CHIPS[chip]
    assert (facts.visible_devices, facts.resource_type) == (visible, resource)
    assert counts in facts.device_counts if counts else not facts.device_counts
    assert memory in facts.device_memory_gib if memory else not facts.device_memory_gib


def test_ascend() -> None:
    for chip in (CHIPS["ascend-a2"], CHIPS["ascend-a3"]):
        assert chip.device_nodes == (
            "/dev/davinci{index}",
            "/dev/davinci_manager",
            "/dev/devmm_svm",
            "/dev/hisi_hdc",
        )
        needed = [mount for mount in chip.mounts if not (mount.optional or mount.several_nodes)]
        assert {mount.source for mount in needed} == {
            "/usr/local/Ascend/driver",
            "/usr/local/dcmi",
            "/etc/ascend_install.info",
        }
        assert chip.source[0] == "/usr/local/Ascend/ascend-toolkit/set_env.sh"
        assert chip.source[-1] == "/usr/local/Ascend/nnal/atb/set_env.sh"
        assert {"HCCL_IF_IP", "HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"} <= set(chip.collective_env)
    assert CHIPS["ascend-a3"].detection.devices_per_card == 2


def test_only_h100_takes_gpus() -> None:
    assert {name for name, chip in CHIPS.items() if chip.gpus_flag} == {"nvidia-h100"}
    assert {name for name, chip in CHIPS.items() if "gpus" not in chip.forbidden_options} == {"nvidia-h100"}


def test_forbidden_options_are_options() -> None:
    for chip in CHIPS.values():
        assert set(chip.forbidden_options) <= set(Container.model_fields)


def test_collective_variables_hold_only_known_placeholders() -> None:
    for chip in CHIPS.values():
        for value in chip.collective_env.values():
            value.format(interface="eth0", address="10.0.0.1")
        for node in chip.device_nodes:
            assert node.format(index=0).startswith("/dev/")


def test_lab_chip() -> None:
    assert [name for name, chip in CHIPS.items() if chip.emulated_only] == ["cpu-x86"]
    assert [name for name, chip in CHIPS.items() if chip.native_only] == ["cpu-x86"]
