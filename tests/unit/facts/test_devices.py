"""Devices as the survey and claims see them, from stand-in tools."""

from __future__ import annotations

from typing import Any

import pytest
from facts_tools import case

from flagprov.host.facts import devices
from flagprov.host.facts.devices import devices as probe
from flagprov.host.resources import claim


def nvidia(name: str) -> dict[str, str]:
    gpus, _, apps = case(name).partition("--- apps\n")
    return {"--query-gpu": gpus, "--query-compute-apps": apps}


@pytest.fixture(autouse=True)
def only_our_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "NPU_SMI", ("npu-smi",))


def test_a_machine_without_accelerators_has_its_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found, errors = probe()
    assert set(found) == {"cpuinfo"}
    assert errors == {}
    assert found["cpuinfo"][0]["index"] == 0


def test_gpus_with_their_processes(tool: Any) -> None:
    tool("nvidia-smi", nvidia("nvidia_csv/two-h100"))
    found, errors = probe()
    first, second = found["nvidia-smi"]
    assert (first["index"], first["processes"], first["used_mib"]) == (0, [], 4)
    assert second["processes"][0] == "/usr/bin/python3, with a comma (pid 4711)"
    assert errors == {}


def test_a_driver_that_does_not_match_its_library_is_said(tool: Any) -> None:
    tool("nvidia-smi", {"--query-gpu": case("nvidia_csv/mismatch")}, code=18)
    found, errors = probe()
    assert found["nvidia-smi"] == []
    assert "Driver/library version mismatch" in errors["nvidia-smi"]


def test_one_lost_gpu_does_not_hide_the_others(tool: Any) -> None:
    tool("nvidia-smi", nvidia("nvidia_csv/one-lost"), code=15)
    found, errors = probe()
    assert [device["index"] for device in found["nvidia-smi"]] == [0]
    assert "0000:3B:00.0: GPU is lost" in errors["nvidia-smi"]


def test_processes_that_cannot_be_read_are_not_none(tool: Any) -> None:
    gpus = case("nvidia_csv/two-h100").partition("--- apps\n")[0]
    tool("nvidia-smi", {"--query-gpu": gpus})
    found, errors = probe()
    assert found["nvidia-smi"] == []
    assert "does not say which processes" in errors["nvidia-smi"]
    claimed = claim._devices({"tool": "nvidia-smi", "devices": [0, 1]}, [])
    assert (claimed["devices"], claimed["silent"]) == ({}, [0, 1])


def test_gpus_that_answer_may_be_ill(tool: Any) -> None:
    said = nvidia("nvidia_csv/two-h100")
    tool("nvidia-smi", {**said, "-q -x": case("nvidia_xml/troubles")})
    health = [device["health"] for device in probe()[0]["nvidia-smi"]]
    assert health == ["partitioned (mig)", "remapping a row has failed"]
    tool("nvidia-smi", {**said, "-q -x": case("nvidia_xml/two-h100-580")})
    health = [device["health"] for device in probe()[0]["nvidia-smi"]]
    assert health == ["ok", "wants recovery: drain and reset"]


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        (
            "nvidia-smi",
            {**nvidia("nvidia_csv/two-h100"), "-q -x": case("nvidia_xml/two-h100-580")},
        ),
        ("npu-smi", {"-m": case("npu_mapping/not-in-row-order"), "info": case("npu_smi/a2-idle")}),
    ],
)
def test_a_tool_is_asked_everything_at_once(tool: Any, tmp_path: Any, name: str, answers: Any) -> None:
    """Each call waits until all have begun, and fails where they never do."""
    tool(name, answers)
    begun = tmp_path / "begun"
    begun.mkdir()
    meet = f"""touch {begun}/$$; n=0
while [ $(ls {begun} | wc -l) -lt {len(answers)} ]; do
  n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.01
done
"""
    script = tmp_path / "bin" / name
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{meet}"))
    found, errors = probe()
    assert errors == {}
    assert len(found[name]) == (2 if name == "nvidia-smi" else 8)


def test_a_lost_gpu_may_be_said_on_the_other_channel(tool: Any, tmp_path: Any) -> None:
    gpus, _, apps = case("nvidia_csv/two-h100").partition("--- apps\n")
    tool("nvidia-smi", {"--query-gpu": gpus, "--query-compute-apps": apps}, code=15)
    script = tmp_path / "bin" / "nvidia-smi"
    said = "Unable to determine the device handle for GPU2: 0000:34:00.0: Unknown Error"
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\necho '{said}' >&2\n"))
    found, errors = probe()
    assert [device["index"] for device in found["nvidia-smi"]] == [0, 1]
    assert errors["nvidia-smi"] == "GPU 2: 0000:34:00.0: Unknown Error"


def test_npus_are_numbered_like_their_device_nodes(tool: Any) -> None:
    tool("npu-smi", {"info": case("npu_smi/a3-glued-and-busy")})
    found, errors = probe()
    npus = found["npu-smi"]
    assert [device["index"] for device in npus] == list(range(16))
    assert [device["card"] for device in npus[:4]] == [0, 0, 1, 1]
    assert npus[0]["processes"] == ["python (pid 111)", "VLLM::EngineCore (pid 112)"]
    assert npus[0]["used_mib"] == 61609
    assert npus[1]["processes"] == []
    assert errors == {}


def test_a_gap_in_the_numbers_stays_a_gap(tool: Any) -> None:
    tool("npu-smi", {"info": case("npu_smi/a2-gap")})
    assert [device["index"] for device in probe()[0]["npu-smi"]] == [0, 1, 2, 4, 5, 6, 7]


def test_npus_have_the_numbers_that_processes_know_them_by(tool: Any) -> None:
    tool("npu-smi", {"-m": case("npu_mapping/not-in-row-order"), "info": case("npu_smi/a2-idle")})
    assert [device["logical"] for device in probe()[0]["npu-smi"][:3]] == [4, 7, None]
    tool("npu-smi", {"-m": case("npu_mapping/error"), "info": case("npu_smi/a2-idle")})
    assert {device["logical"] for device in probe()[0]["npu-smi"]} == {None}


def test_a_table_that_is_not_understood_is_no_device_and_an_error(tool: Any) -> None:
    tool("npu-smi", {"info": case("npu_smi/not-initialized")})
    found, errors = probe()
    assert found["npu-smi"] == []
    assert "-8005" in errors["npu-smi"] or "DrvMng" in errors["npu-smi"]


def test_npu_smi_lies_in_one_of_two_folders(
    tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "npu-smi").mkdir()  # what docker makes of a mount whose source is missing
    tool("npu-smi", {"info": case("npu_smi/a2-idle")})
    monkeypatch.setattr(devices, "NPU_SMI", (str(tmp_path / "npu-smi"), "npu-smi"))
    assert len(probe()[0]["npu-smi"]) == 8
