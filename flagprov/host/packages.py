"""What a host has of the packages that roles would install. Reads only."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess

from flagprov.host import machine
from flagprov.host.facts.system import os_release
from flagprov.host.shell import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

QUERIES = {
    "apt": ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Abbrev}\\n"],
    "dnf": ["rpm", "--query", "--queryformat=%{NAME} %{VERSION}-%{RELEASE} ii\\n"],
}


def platform() -> str:
    """For which packages are: distribution, its version and the processor, `debian-12-x86_64`."""
    release = os_release(machine.read("/etc/os-release"))
    words = (release.get("ID", "linux"), release.get("VERSION_ID", "0"), os.uname().machine)
    return "-".join(words).lower()


def packages(request: dict[str, Any]) -> dict[str, Any]:
    """Which of `paths` (patterns) exist, the versions of `packages` that are installed, and of `programs`."""
    kernel = os.uname().release
    manager = next((name for name in QUERIES if shutil.which("apt-get" if name == "apt" else name)), "none")
    return {
        "platform": platform(),
        "manager": manager,
        "kernel": kernel,
        "there": [path for path in request["paths"] if glob.glob(path.replace("{kernel}", kernel))],
        "versions": _versions(manager, list(request["packages"])),
        "programs": {path: _version(path) for path in request["programs"] if os.path.exists(path)},
    }


def _version(program: str) -> str:
    """As it says itself; empty where nothing of what it says is one."""
    found = re.search(r"\d+(\.\d+)+", run([program, "--version"], timeout=20).out)
    return found.group() if found else ""


def _versions(manager: str, names: list[str]) -> dict[str, str]:
    if manager not in QUERIES or not names:
        return {}
    # What is not installed is complained of, and is no error.
    said = subprocess.run(QUERIES[manager] + names, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lines = [line.split() for line in said.stdout.decode(errors="replace").splitlines()]
    # Installed, and wanted so or held, as roles leave drivers.
    return {line[0]: line[1] for line in lines if len(line) == 3 and line[2] in ("ii", "hi")}
