"""What the looks of the Ascend roles say, on a file system and tools that stand in."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.apply.assets import ansible_root

INFO = "Driver_Install_Type=full\nDriver_Install_Path_Param=%s\nDriver_Install_Status=complete\n"
SYSTEMCTL = """
case $1 in
    list-units) echo 'flagprov@m-0.service loaded active running flagprov replica m-0' ;;
esac
"""
NPU_SMI = "printf '| npu-smi 25.2.0   Version: 25.2.0   |\\n'"


class Look:
    """A role's look, and a host of its own for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("usr/local/Ascend/driver/version.info", "Version=25.2.0\n")
        self.write("etc/ascend_install.info", INFO % f"{root}/usr/local/Ascend")
        self.tool("systemctl", SYSTEMCTL)
        self.tool("docker", "")
        self.tool("uname", "case $1 in -r) echo 5.10.0 ;; *) echo aarch64 ;; esac")
        self.tool("npu-smi", NPU_SMI)

    def write(self, path: str, text: str = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def tool(self, name: str, text: str) -> None:
        self.write(f"usr/local/bin/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)

    def __call__(self, role: str, *arguments: str) -> Any:
        script = (ansible_root() / "roles" / role / "files" / "look.sh").read_text()
        for folder in ("/usr/local/", "/etc/ascend", "/etc/docker", "/etc/hccn", "/boot/", "/lib/modules/"):
            script = script.replace(folder, f"{self.root}{folder}")
        script = script.replace(
            "/proc/[", f"{self.root}/proc/["
        )  # emulated devices of other tests are held, too
        path = {"PATH": f"{self.root}/usr/local/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", script, "look", *arguments], env=path, capture_output=True, text=True, check=True
        )
        return yaml.safe_load(done.stdout)

    def driver(self, least: str = "25.0.rc1", pinned: str = "25.2.0") -> Any:
        lock = str(self.root / "lock")
        return self("ascend_driver", least, pinned, "root", "root", "", lock)

    def container(self, least: str = "7.1.RC1") -> Any:
        program = f"{self.root}/usr/local/Ascend/Ascend-Docker-Runtime/ascend-docker-runtime"
        return self("ascend_container", "/nowhere", "", program, least, str(self.root / "lock"))


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(tmp_path)


def test_a_driver_as_it_should_be(look: Look) -> None:
    found = look.driver()
    assert (found["driver"], found["loaded"], found["half"], found["elsewhere"]) == (
        "25.2.0",
        "25.2.0",
        "",
        "",
    )
    assert (found["good"], found["newer"], found["busy"], found["new"]) == (True, False, False, True)


@pytest.mark.parametrize(
    ("driver", "good", "newer"),
    [
        ("25.2.0", True, False),
        ("25.5.0.b061", True, True),
        ("25.0.rc1", True, False),
        ("24.1.0", False, False),
    ],
)
def test_versions(look: Look, driver: str, good: bool, newer: bool) -> None:
    look.write("usr/local/Ascend/driver/version.info", f"Version={driver}\n")
    found = look.driver()
    assert (found["good"], found["newer"]) == (good, newer)
    assert look.driver(pinned="")["newer"] is False


def test_a_driver_that_was_there_when_the_host_started(look: Look) -> None:
    """Its age is not changed by what touches /proc/1."""
    look.tool("stat", 'case $3 in */version.info) echo 1000 ;; *) exec /usr/bin/stat "$@" ;; esac')
    assert look.driver()["new"] is False


def test_a_driver_in_another_place(look: Look) -> None:
    look.write("etc/ascend_install.info", INFO % "/opt/Ascend")
    assert look.driver()["elsewhere"] == "/opt/Ascend"


@pytest.mark.parametrize("role", ["driver", "container"])
def test_an_installer_at_work(look: Look, role: str) -> None:
    with look.write("lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert getattr(look, role)()["busy"] is True
    assert getattr(look, role)()["busy"] is False


def test_kernels_without_headers(look: Look) -> None:
    assert look.driver()["headerless"] == ["5.10.0"]
    look.write("lib/modules/5.10.0/build/Makefile")
    assert look.driver()["headerless"] == []
    look.write("boot/vmlinuz-5.10.10")
    look.write("lib/modules/5.10.10/modules.dep")
    assert look.driver()["headerless"] == ["5.10.10"]


def test_replicas_of_ours_are_no_foreign_users(look: Look) -> None:
    look.tool("docker", 'case "$*" in *--filter*) echo 1234567890abcdef ;; esac')
    found = look.driver()
    assert (found["replicas"], found["processes"], found["containers"]) == (["flagprov@m-0.service"], [], [])


@pytest.mark.parametrize(
    ("noted", "version", "good"),
    [
        ("v7.1.RC1", "7.1.RC1", True),
        ("v7.3.0", "7.3.0", True),
        ("v7.0.0", "7.0.0", False),
        (None, None, False),
    ],
)
def test_the_runtimes_version(look: Look, noted: str | None, version: str | None, good: bool) -> None:
    if noted:
        file = "usr/local/Ascend/Ascend-Docker-Runtime/ascend_docker_runtime_install.info"
        look.write(file, f"version={noted}\narch=aarch64\nos=linux\n")
    found = look.container()
    assert (found["runtime"] or None, found["runtime_good"]) == (version, good)
    assert look.container(least="")["runtime_good"] is True
