"""An A3 host that had no driver, after ascend_driver with packages of the controller."""

from __future__ import annotations

from typing import Any


def test_the_driver_is_the_pinned_one_and_answers(host: Any) -> None:
    assert "Version=25.2.0\n" in host.file("/usr/local/Ascend/driver/version.info").content_string
    assert "Version=7.7.0.6.236\n" in host.file("/usr/local/Ascend/firmware/version.info").content_string
    said = host.check_output("npu-smi info")
    assert "Version: 25.2.0" in said
    assert said.count("Ascend910 ") == 16


def test_device_nodes(host: Any) -> None:
    for name in ("davinci0", "davinci15", "davinci_manager", "devmm_svm", "hisi_hdc"):
        said = host.check_output("stat -c '%%F, %%U, %%G, %%a' /dev/%s", name)
        assert said == "character special file, HwHiAiUser, HwHiAiUser, 660"


def test_the_installers_were_told_what_they_have_to_know(host: Any) -> None:
    told = host.file("/etc/ascend_install.info").content_string.splitlines()
    for line in (
        "UserName=HwHiAiUser",
        "Driver_Install_Type=full",
        "Driver_Install_For_All=yes",
        "Driver_Install_Status=complete",
        "Firmware_Install_Type=full",
    ):
        assert line in told
    assert host.user("HwHiAiUser").group == "HwHiAiUser"


def test_the_driver_came_before_the_firmware(host: Any) -> None:
    log = host.file("/var/log/ascend_seclog/ascend_install.log").content_string
    assert log.index("Driver package installed") < log.index("Firmware package installed")


def test_nothing_is_left_behind(host: Any) -> None:
    assert not host.file("/var/cache/flagprov-ascend").exists
    assert not host.file("/run/flagprov-ascend-reboot").exists
