"""A host with GPUs and NVSwitches after nvidia_driver, and after all that it must have refused."""

from __future__ import annotations

from typing import Any

VERSION = "580.126.20"


def test_one_version_everywhere(host: Any) -> None:
    assert f"  {VERSION}  " in host.file("/proc/driver/nvidia/version").content_string
    assert host.check_output("modinfo -F version nvidia") == VERSION
    versions = host.check_output("nvidia-smi --query-gpu=driver_version --format=csv,noheader").splitlines()
    assert versions == [VERSION] * 8
    assert host.check_output("nv-fabricmanager --version").endswith(VERSION)


def test_what_was_left_of_another_branch_is_gone(host: Any) -> None:
    assert not host.package("libnvidia-nscq-535").is_installed


def test_the_open_module(host: Any) -> None:
    assert host.check_output("modinfo -F license nvidia") == "Dual MIT/GPL"


def test_daemons_run_and_come_at_boot(host: Any) -> None:
    for name in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert host.service(name).is_running, name
        assert host.service(name).is_enabled, name
    shown = host.check_output("nvidia-smi -q -x")
    assert shown.count("<persistence_mode>Enabled<") == shown.count("<state>Completed<") == 8


def test_driver_and_kernel_are_held(host: Any) -> None:
    held = host.check_output("apt-mark showhold").split()
    assert {"nvidia-headless-580-open", "nvidia-dkms-580-open", "nvidia-fabricmanager"} <= set(held)
    kernel = host.check_output("uname -r")
    assert {f"linux-image-{kernel}", f"linux-headers-{kernel}"} <= set(held)
    listed = host.check_output("apt-config dump Unattended-Upgrade::Package-Blacklist")
    assert "^(lib)?nvidia-" in listed and "^linux-(" in listed


def test_nouveau_is_off(host: Any) -> None:
    text = host.file("/etc/modprobe.d/flagprov-nvidia.conf").content_string
    assert "blacklist nouveau" in text and "options nouveau modeset=0" in text
