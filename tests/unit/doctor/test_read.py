"""Facts on the wire become values, or an error that names the place."""

from __future__ import annotations

import pytest
from doctor_values import answer, h100

from flagprov.doctor.read import read_facts
from flagprov.errors import HostError, VersionError


def test_a_whole_answer() -> None:
    found = read_facts("h1", h100())
    assert found.nvidia is not None and found.nvidia.report is not None
    assert found.nvidia.report.gpus[7].index == 7
    assert found.docker is not None and found.docker.runtimes == ("runc",)
    assert found.devices["nvidia-smi"][0].health == "ok"


def test_a_newer_host_program_may_say_more() -> None:
    assert read_facts("h1", answer(weather="fine")).system is not None


def test_what_is_missing_or_odd_is_named() -> None:
    lacking = answer()
    del lacking["docker"]["version"]
    with pytest.raises(HostError, match=r"docker\.version is missing"):
        read_facts("h1", lacking)
    odd = h100()
    odd["nvidia"]["report"]["gpus"][2]["memory_mib"] = "80 GiB"
    with pytest.raises(HostError, match=r"nvidia\.report\.gpus\[2\]\.memory_mib: int was expected"):
        read_facts("h1", odd)


def test_a_newer_schema_is_refused() -> None:
    with pytest.raises(VersionError):
        read_facts("h1", answer(schema_version=99))
