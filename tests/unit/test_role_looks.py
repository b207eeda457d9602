"""What roles see of a host: their scripts with tools played by functions of the shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from flagprov.apply.assets import ansible_root

ROLES = ansible_root() / "roles"
# In none of these may awk have a variable, and only some awks say so.
AWK_WORDS = {"next", "exit", "delete", "in", "index", "length", "print", "split", "sub", "substr", "system"}
INSTALLED = (
    "linux-image-5.15.0-105-generic",
    "linux-image-5.15.0-91-generic",
    "linux-modules-5.15.0-105-generic",
    "linux-image-generic-hwe-22.04",
    "linux-generic-hwe-22.04",
)


def look(role: str, tools: Path, said: dict[str, str], *arguments: str) -> Any:
    """What look.sh says; tools are scripts that come first on its path."""
    for name, script in said.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    text = (ROLES / role / "files/look.sh").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^PATH=", f"PATH={tools}:", text)
    ran = subprocess.run(
        ["sh", "-c", text, "look", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": f"{tools}:{os.environ['PATH']}"},
    )
    return yaml.safe_load(ran.stdout)


def test_the_kernel_that_boots_next_and_what_brings_others_is_held(tmp_path: Path) -> None:
    installed = "\\n".join(f"installed {name}" for name in INSTALLED)
    tools = {
        "apt-get": ":",
        "apt-mark": ":",
        "grubby": "echo /boot/vmlinuz-5.15.0-105-generic",
        "dpkg-query": f"case $* in *linux-image*) printf '{installed}\\n' ;; esac",
    }
    seen = look("nvidia_driver", tmp_path, tools, "")
    assert seen["kernel_next"] == "5.15.0-105-generic"
    assert seen["kernel_packages"] == [name for name in INSTALLED if "-91-" not in name]


DOCKER = """
case $* in
    info*) echo systemd io.containerd.runc.v2 nvidia ;;
    ps*) echo one ;;
    *DeviceRequests*) echo flagprov-one ;;
    inspect*) echo flagprov-one; echo other ;;
esac
"""


def test_the_toolkit_knows_which_containers_have_gpus(tmp_path: Path) -> None:
    seen = look("nvidia_container_toolkit", tmp_path, {"systemctl": ":", "docker": DOCKER}, "", "", "")
    assert seen["active"] and seen["answers"]
    assert seen["runtimes"] == ["io.containerd.runc.v2", "nvidia"]
    assert seen["running"] == ["flagprov-one", "other"]
    assert seen["gpu_containers"] == ["flagprov-one"]


def test_a_docker_that_does_not_answer_is_not_one_without_containers(tmp_path: Path) -> None:
    tools = {"systemctl": ":", "docker": "exit 124"}
    seen = look("nvidia_container_toolkit", tmp_path, tools, "", "", "")
    assert seen["active"] and not seen["answers"]


def test_an_engine_is_upgraded_by_the_package_that_it_came_with(tmp_path: Path) -> None:
    tools = {
        "apt-get": ":",
        "dpkg-query": "echo docker-ce: $2",
        "dockerd": "echo Docker version 19.03.15, build 99e3ed8919",
        "systemctl": "false",
    }
    seen = look("container_engine", tmp_path, tools, "")
    assert (seen["owner"], seen["version"]) == ("docker-ce", "19.03.15")


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="asks apt-get")
@pytest.mark.parametrize("role", ["nvidia_container_toolkit", "nvidia_driver"])
def test_apt_takes_our_source_beside_the_vendors_own(role: str, tmp_path: Path) -> None:
    """It refuses all of its work where one source is signed by two keys."""
    variables = yaml.safe_load((ROLES / role / "vars/main.yml").read_text(encoding="utf-8"))
    url = (
        variables["_nvidia_container_toolkit_urls"]["apt"]
        if role == "nvidia_container_toolkit"
        else "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2204/x86_64"
    )
    template = jinja2.Template((ROLES / role / "templates/source.list.j2").read_text(encoding="utf-8"))
    ours = template.render({f"_{role}_key": "x", f"_{role}_key_file": "/etc/ours.asc", f"_{role}_url": url})
    theirs = f"deb [signed-by=/usr/share/keyrings/nvidia.gpg] {url.removesuffix(' /')} /"
    for name, text in (("ours", ours), ("theirs", theirs)):
        (tmp_path / f"{name}.list").write_text(f"{text}\n", encoding="utf-8")
    options = (
        "-o",
        "Dir::Etc::SourceList=/dev/null",
        "-o",
        f"Dir::Etc::SourceParts={tmp_path}",
        "--print-uris",
    )
    asked = subprocess.run(
        ["apt-get", *options, "update"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.count("/InRelease'") == 2


@pytest.mark.parametrize("file", sorted(ROLES.glob("*/files/*.sh")), ids=lambda file: f"{file.parts[-3]}")
def test_awk_has_no_variable_with_a_name_of_its_own(file: Path) -> None:
    names = re.findall(r"-v (\w+)=", file.read_text(encoding="utf-8"))
    assert not AWK_WORDS & set(names)


APT_GET = """
case $* in *nscq-535-*) echo "Remv libnvidia-nscq-535 [535.183.06-1]" ;; esac
echo "Inst libnvidia-compute-580 [580.95.05-1] (580.126.20-1 NVIDIA [amd64])"
echo "Remv nvidia-utils-535 [535.183.06-1]"
case $* in *manager-535-*) exit ;; esac
echo "Inst nvidia-fabricmanager-535 [535.183.06-1] (535.309.01-1 NVIDIA [amd64])"
"""


def test_parts_that_apt_would_not_bring_to_the_version_leave(tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\n{APT_GET}", encoding="utf-8")
    (tmp_path / "apt-get").chmod(0o755)
    script = ROLES / "nvidia_driver/files/simulate.sh"
    strays = "libnvidia-compute-580 nvidia-utils-535 libnvidia-nscq-535 nvidia-fabricmanager-535"
    ran = subprocess.run(
        ["sh", str(script), "preferences", "580.126.20", strays, "nvidia-headless-580-open=580.126.20-1"],
        input="",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    said = ran.stdout.splitlines()
    assert said[:2] == ["Leaves libnvidia-nscq-535", "Leaves nvidia-fabricmanager-535"]
    assert said[2].startswith("Remv libnvidia-nscq-535")
    assert len(said) == 5
