"""What roles see of a host: their look.sh with tools played by functions of the shell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("file", sorted(ROLES.glob("*/files/*.sh")), ids=lambda file: f"{file.parts[-3]}")
def test_awk_has_no_variable_with_a_name_of_its_own(file: Path) -> None:
    names = re.findall(r"-v (\w+)=", file.read_text(encoding="utf-8"))
    assert not AWK_WORDS & set(names)
