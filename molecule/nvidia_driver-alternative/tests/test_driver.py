"""A host with dnf that had a 535 which could not be unloaded, after nvidia_driver brought the next branch."""

from __future__ import annotations

from typing import Any

VERSION = "580.126.20"


def test_one_version_everywhere(host: Any) -> None:
    assert f"  {VERSION}  " in host.file("/proc/driver/nvidia/version").content_string
    versions = host.check_output("nvidia-smi --query-gpu=driver_version --format=csv,noheader").splitlines()
    assert versions == [VERSION] * 4
    installed = host.check_output("rpm -qa --qf '%{NAME} %{VERSION}\\n' '*nvidia*'").splitlines()
    assert {line.split()[1] for line in installed} == {VERSION}
    assert f"nvidia-fabricmanager {VERSION}" in installed


def test_the_proprietary_module(host: Any) -> None:
    assert host.check_output("modinfo -F license nvidia") == "NVIDIA"
    assert "Open" not in host.file("/proc/driver/nvidia/version").content_string


def test_it_was_rebooted_for_that_and_services_run(host: Any) -> None:
    for name in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert host.service(name).is_running, name
        assert host.service(name).is_enabled, name
    assert host.check_output("nvidia-smi -q -x").count("<state>Completed<") == 4


def test_the_sites_exclusion_stays_and_ours_comes(host: Any) -> None:
    lines = host.file("/etc/dnf/dnf.conf").content_string.splitlines()
    excluded = [line for line in lines if line.startswith("excludepkgs")]
    assert len(excluded) == 1
    assert {"site-tool", "kernel", "nvidia-driver*", "kmod-nvidia*"} <= set(excluded[0].split("=")[1].split())
