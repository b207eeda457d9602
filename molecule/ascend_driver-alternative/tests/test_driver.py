"""An A2 host with an old driver, after ascend_driver brought a new one from a mirror and rebooted it."""

from __future__ import annotations

from typing import Any


def test_the_new_driver_is_loaded(host: Any) -> None:
    assert "Version=25.2.0\n" in host.file("/usr/local/Ascend/driver/version.info").content_string
    assert "Version=7.7.0.6.236\n" in host.file("/usr/local/Ascend/firmware/version.info").content_string
    assert "Version: 25.2.0" in host.check_output("npu-smi info")
    assert not host.file("/run/flagprov-ascend-reboot").exists


def test_the_tool_moved_with_the_driver(host: Any) -> None:
    assert host.file("/usr/local/bin/npu-smi").is_file
    assert not host.file("/usr/local/sbin/npu-smi").exists


def test_a_dead_npu_is_seen(host: Any) -> None:
    said = host.check_output("npu-smi info")
    assert (said.count("| Alarm "), said.count("| OK ")) == (1, 7)
    assert "Alarm" in host.check_output("npu-smi info -t health -i 3")


def test_the_firmware_came_before_the_driver(host: Any) -> None:
    log = host.file("/var/log/ascend_seclog/ascend_install.log").content_string
    assert log.index("Firmware package upgraded") < log.index("Driver package upgraded")


def test_devices_are_there_after_the_reboot(host: Any) -> None:
    assert host.file("/dev/davinci7").exists
    assert not host.file("/dev/davinci8").exists
    assert "HwHiAiUser" in host.user("deployer").groups
