"""Checks of drivers and devices: each ill host is a healthy one with one thing changed."""

from __future__ import annotations

from typing import Any

import pytest
from doctor_values import ALL, answer, ascend, case, check, h100, state, subject

GPU, A2, A3 = "nvidia-h100", "ascend-a2", "ascend-a3"


def gpu(**changes: Any) -> dict[str, Any]:
    """A host whose GPU 3 differs."""
    facts = h100()
    facts["nvidia"]["report"]["gpus"][3].update(changes)
    return facts


@pytest.mark.parametrize(
    ("nvidia", "words", "way"),
    [
        (
            {"loaded": {"version": "535.183.06", "open": False}},
            "loaded 535.183.06, on disk 550.54.15",
            "reboot",
        ),
        ({"loaded": None}, "loaded none", "modprobe nvidia"),
        ({"on_disk": None}, "on disk none", "the module is gone"),
        (
            {"report": None, "errors": {"report": "Driver/library version mismatch"}},
            "reported by nvidia-smi none",
            "Driver/library version mismatch",
        ),
    ],
)
def test_a_driver_that_is_not_one_version(nvidia: dict[str, Any], words: str, way: str) -> None:
    found = check("driver", subject(h100(nvidia=nvidia), GPU))
    assert found.state == "failed"
    assert words in found.message
    assert way in found.remedy


def old(version: str) -> dict[str, Any]:
    report = {**h100()["nvidia"]["report"], "driver": version}
    return h100(nvidia={"loaded": {"version": version, "open": False}, "on_disk": version, "report": report})


def test_a_driver_too_old() -> None:
    found = check("driver", subject(old("525.147.05"), GPU))
    assert found.message == "driver 525.147.05 is older than 535.183.06 of chip nvidia-h100"
    assert state("driver", subject(old("535.183.06"), GPU, "robobrain2-7b-fp8")) == "ok"
    assert state("driver", subject(ascend("a3-idle"), A3, "qwen3-4b")) == "ok"
    before = ascend(
        "a3-idle", ascend={"driver": "24.1.rc3", "table": {**case("npu_smi/a3-idle"), "version": "24.1.rc3"}}
    )
    assert "older than 25.0.rc1 of chip ascend-a3" in check("driver", subject(before, A3, "qwen3-4b")).message


def test_no_driver_at_all() -> None:
    assert check("driver", subject(answer(), GPU)).message == "there is no NVIDIA driver"
    assert check("driver", subject(answer(), A2)).message == "there is no Ascend driver"
    assert ALL["driver"](subject(answer(), "cpu-x86")) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"driver": None}, "half installed"),
        ({"table": None}, "there is no npu-smi"),
        ({"table": None, "errors": {"table": "dcmi module initialize failed. ret is -8005"}}, "-8005"),
        ({"install": {"Driver_Install_Status": "running"}}, "installation is running"),
        ({"driver": "25.2.0"}, "on disk 25.2.0, npu-smi says 25.3.rc1.b061"),
    ],
)
def test_a_half_installed_ascend_driver(said: dict[str, Any], words: str) -> None:
    found = check("driver", subject(ascend("a2-idle", ascend=said), A2))
    assert found.state == "failed"
    assert words in found.message


def test_a_device_that_the_bus_has_and_the_tool_does_not() -> None:
    facts = h100()
    facts["devices"]["nvidia-smi"].pop()
    found = check("devices", subject(facts, GPU))
    assert (found.state, found.message) == ("failed", "8 on the PCI bus, nvidia-smi names 7")
    facts["bus"] = None
    assert check("devices", subject(facts, GPU)).message == "7 devices; a host of this chip has 1, 2, 4, 8"


def test_a_lost_gpu() -> None:
    facts = h100(device_errors={"nvidia-smi": "GPU 0000:3B:00.0: GPU is lost."})
    facts["devices"]["nvidia-smi"][3].update(name="unknown", memory_mib=None, health="lost")
    found = check("devices", subject(facts, GPU))
    assert found.message == "GPU 0000:3B:00.0: GPU is lost.; device 3 does not answer"


def test_odd_memory() -> None:
    facts = h100()
    facts["devices"]["nvidia-smi"][0]["memory_mib"] = 10240
    assert "10 GiB of memory" in check("devices", subject(facts, GPU)).message
    facts["devices"]["nvidia-smi"][0]["memory_mib"] = None
    assert state("devices", subject(facts, GPU)) == "unknown"


def test_a_card_of_which_one_die_is_gone() -> None:
    facts = ascend("a3-subset-wide-26")
    assert "card 4 shows only a part" in check("devices", subject(facts, A3)).message


@pytest.mark.parametrize(
    ("fabric", "expected"),
    [
        (("Completed", "Success"), "ok"),
        (("In Progress", None), "failed"),
        (("Not Started", None), "failed"),
        (("Completed", "Insufficient Resources"), "failed"),
        ((None, None), "unknown"),
    ],
)
def test_fabric(fabric: tuple[str | None, str | None], expected: str) -> None:
    assert state("fabric", subject(gpu(fabric_state=fabric[0], fabric_status=fabric[1]), GPU)) == expected


def test_the_fabric_manager_has_the_drivers_version() -> None:
    manager = {"version": "550.90.07", "active": "active"}
    found = check("fabric", subject(h100(nvidia={"fabric_manager": manager}), GPU))
    assert found.message == "Fabric Manager 550.90.07 beside driver 550.54.15"


def test_a_pcie_card_has_no_fabric() -> None:
    facts = h100(bus={"nvidia": 8, "nvswitch": 0, "ascend": 0})
    for each in facts["nvidia"]["report"]["gpus"]:
        each.update(name="NVIDIA H100 PCIe", fabric_state=None, fabric_status=None)
    facts["nvidia"]["links"] = case("nvlink/none")
    assert ALL["fabric"](subject(facts, GPU)) is None
    assert state("nvlink", subject(facts, GPU)) == "ok"


def test_nvlinks() -> None:
    down = check("nvlink", subject(h100(nvidia={"links": case("nvlink/two-down")}), GPU))
    assert (down.state, down.message) == ("failed", "GPU 0: 16 of 18 NVLinks up")
    some = h100(nvidia={"links": case("nvlink/all-up")})
    assert check("nvlink", subject(some, GPU)).message == "GPU 2-7 names no links"
    unread = h100(nvidia={"links": None, "errors": {"links": "something new"}})
    assert (state("nvlink", subject(unread, GPU)), check("nvlink", subject(unread, GPU)).message) == (
        "unknown",
        "something new",
    )


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("mig", {"mig": "Enabled"}, "failed"),
        ("mig", {"mig": None}, "ok"),
        ("compute-mode", {"compute_mode": "Exclusive_Process"}, "failed"),
        ("persistence", {"persistence": "Disabled"}, "warning"),
        ("ecc", {"ecc": "Disabled"}, "warning"),
        ("ecc", {"ecc_uncorrected": 2}, "failed"),
        ("ecc", {"rows_pending": True}, "warning"),
        ("ecc", {"rows_failed": True}, "failed"),
        ("ecc", {"recovery": "Reset"}, "failed"),
        ("ecc", {"recovery": "Drain and Reset"}, "failed"),
        ("ecc", {"reset_required": True}, "failed"),
    ],
)
def test_one_gpu_of_eight(name: str, changes: dict[str, Any], expected: str) -> None:
    found = check(name, subject(gpu(**changes), GPU))
    assert found.state == expected
    assert expected == "ok" or "GPU 3" in found.message


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mig", {"mig": "Enabled"}),
        ("compute-mode", {"compute_mode": "Prohibited"}),
        ("ecc", {"rows_failed": True}),
        ("ecc", {"recovery": "Reset"}),
        ("ecc", {"ecc_uncorrected": 2}),
        ("fabric", {"fabric_state": "In Progress"}),
    ],
)
def test_an_ill_gpu_that_is_not_needed_is_a_warning(name: str, changes: dict[str, Any]) -> None:
    assert state(name, subject(gpu(**changes), GPU, "qwq-32b", devices=2)) == "warning"
    assert state(name, subject(gpu(**changes), GPU, "qwq-32b", devices=4)) == "failed"


def test_an_xid_of_a_gpu_that_is_not_needed() -> None:
    facts = gpu(bus="00000000:3B:00.0")
    facts["nvidia"]["xids"] = [{"bus": "0000:3b:00", "xid": 79, "text": "", "count": 1}]
    assert state("xid", subject(facts, GPU, "qwq-32b", devices=2)) == "warning"
    found = check("xid", subject(facts, GPU, "qwq-32b", devices=4))
    assert found.state == "failed"
    assert "until a reboot" in found.remedy


def test_a_device_that_is_missing_and_not_needed() -> None:
    facts = h100(device_errors={"nvidia-smi": "GPU 0000:3B:00.0: GPU is lost."})
    facts["devices"]["nvidia-smi"].pop()
    assert state("devices", subject(facts, GPU)) == "failed"
    assert state("devices", subject(facts, GPU, "qwq-32b", devices=4)) == "warning"
    assert state("devices", subject(facts, GPU, "qwq-32b", devices=8)) == "failed"


def test_memory_that_nobody_has() -> None:
    facts = h100()
    facts["devices"]["nvidia-smi"][2]["used_mib"] = 61240
    found = check("devices", subject(facts, GPU))
    assert (found.state, found.message) == ("warning", "device 2: 60 GiB in use, and no process is named")
    facts["devices"]["nvidia-smi"][2]["processes"] = ["python3 (pid 7)"]
    assert state("devices", subject(facts, GPU)) == "ok"


def test_a_report_that_is_understood_in_part() -> None:
    report = {**h100()["nvidia"]["report"], "unread": ["GPU 0, minor_number: a number was expected: x"]}
    found = check("devices", subject(h100(nvidia={"report": report}), GPU))
    assert (found.state, found.message) == ("unknown", report["unread"][0])


def test_gpus_of_branch_580() -> None:
    report = case("nvidia_xml/two-h100-580")
    found = check("ecc", subject(h100(nvidia={"report": report}), GPU))
    assert (found.state, found.message) == ("failed", "GPU 1: it wants recovery: Drain and Reset")


def test_no_fabric_is_expected_where_the_bus_has_no_switch() -> None:
    facts = gpu(fabric_state=None, fabric_status=None)
    facts["bus"]["nvswitch"] = 0
    assert ALL["fabric"](subject(facts, GPU)) is None


def test_what_nvidia_smi_does_not_say_is_unknown() -> None:
    facts = h100(nvidia={"report": None, "errors": {"report": "it does not answer"}})
    assert {state(name, subject(facts, GPU)) for name in ("mig", "ecc", "fabric", "compute-mode")} == {
        "unknown"
    }


def test_xids() -> None:
    found = check("xid", subject(h100(nvidia={"xids": case("xid/several")}), GPU))
    assert found.state == "failed"
    assert "Xid 79 on 0000:18:00" in found.message
    assert "Xid 31" not in found.message
    programs = [each for each in case("xid/several") if each["xid"] == 31]
    fine = check("xid", subject(h100(nvidia={"xids": programs}), GPU))
    assert (fine.state, fine.message) == ("ok", "none that matters since boot, 1 of programs")
    new = [{"bus": "0000:18:00", "xid": 999, "text": "", "count": 2}]
    assert check("xid", subject(h100(nvidia={"xids": new}), GPU)).message == "Xid 999 on 0000:18:00, 2 times"
    unread = h100(nvidia={"xids": None, "errors": {"xids": "dmesg: not permitted"}})
    assert state("xid", subject(unread, GPU)) == "unknown"


def test_one_dead_npu_of_eight() -> None:
    facts = ascend("a2-one-alarm")
    whole = check("npu-health", subject(facts, A2))
    assert (whole.state, whole.message) == ("failed", "NPU 5: alarm")
    one = check("npu-health", subject(facts, A2, "qwen3-4b"))  # on NPU 0
    assert (one.state, one.message) == ("warning", "NPU 2: warning; NPU 5: alarm")
    assert "npu-smi info -t health -i 5" in one.remedy


def test_npu_numbers() -> None:
    gap = check("npu-numbers", subject(ascend("a2-gap"), A2))
    said = "devices 0-2, 4-7 have the logical numbers 0, 1, 2, 3, 4, 5, 6, which engines are given"
    assert (gap.state, gap.message) == ("ok", said)
    unread = ascend("a2-idle", ascend={"mapping": None, "errors": {"mapping": "npu-smi info -m: ?"}})
    assert state("npu-numbers", subject(unread, A2)) == "unknown"


def test_npu_network() -> None:
    facts = ascend("a2-idle")
    facts["ascend"]["network"][2]["link"] = "DOWN"
    assert check("npu-network", subject(facts, A2, "qwen3-4b")).message == "NPU 2: no link"
    assert state("npu-network", subject(facts, A2, "qwen3-4b")) == "warning"
    assert state("npu-network", subject(facts, A2, "qwen3-4b", nodes=2)) == "failed"
    assert state("npu-network", subject(ascend("a2-idle", ascend={"network": None}), A2)) == "unknown"


def trial(index: int, error: str | None = None, tried: bool = True, why: str = "") -> dict[str, Any]:
    return {"tool": "nvidia-smi", "index": index, "tried": tried, "error": error, "why": why}


def test_usable() -> None:
    down = "cuInit: error 802 the fabric is not up"
    found = check("usable", subject(h100(use=[trial(i, down) for i in range(8)]), GPU))
    assert found.state == "failed"
    assert "device 0: cuInit: error 802" in found.message
    busy = [trial(0), trial(1), trial(2, tried=False, why="in use")]
    fine = check("usable", subject(h100(use=busy), GPU))
    assert (fine.state, fine.message) == ("ok", "computed on device 0-1; device 2: in use")
    npu = [trial(0, tried=False, why="only an image with torch_npu can do that")]
    assert state("usable", subject(ascend("a2-idle", use=npu), A2)) == "unknown"
    assert ALL["usable"](subject(h100(), GPU)) is None
