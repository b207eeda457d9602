"""Which packages nvidia_driver chooses: its variables over looks and offers that hosts gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.apply.assets import ansible_root

ROLE = ansible_root() / "roles/nvidia_driver"
UBUNTU, NVIDIA = "580.126.20-0ubuntu0.22.04.1", "580.126.20-1"
KERNEL = "5.15.0-105-generic"
LOOK = {
    "package_manager": "apt",
    "distribution": "ubuntu",
    "distribution_version": "22.04",
    "machine": "x86_64",
    "kernel_next": KERNEL,
    "headers": True,
    "switches": 4,
    "packages": {"nvidia-utils-580": "580.126.20", "nvidia-fabricmanager": "580.126.20"},
    "disk": "580.126.20",
    "disk_open": True,
    "files": {},
}
OFFERS = {
    "nvidia-headless-580-open": [UBUNTU, NVIDIA],
    "nvidia-headless-no-dkms-580-open": [UBUNTU],
    "nvidia-utils-580": [UBUNTU, NVIDIA],
    "nvidia-headless-no-dkms-580-server-open": [UBUNTU],
    "nvidia-utils-580-server": [UBUNTU],
    "nvidia-fabricmanager-580": [UBUNTU],
    "nvidia-fabricmanager": [NVIDIA],
}
OF_NVIDIA = ["nvidia-headless-580-open", "nvidia-utils-580", "nvidia-fabricmanager"]
CHOSEN = "{'installs': _nvidia_driver_installs, 'arrives': _nvidia_driver_arrivals}"
BUILT = "linux-modules-nvidia-{branch}-server-open-{kernel}"
NEW_KERNEL = {"disk": "", "headers": False}
CACHE = "/var/cache/flagprov/nvidia_driver"
HEADERS_FILE = f"linux-headers-{KERNEL}_5.15.0-105.115_amd64.deb"
# What is asked for and seen beside the above -> whether anything is installed, and what.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool, list[str]]] = {
    "as it should be": ({}, {}, False, OF_NVIDIA),
    "a module of Ubuntu's -server packages": (
        {"nvidia_driver_module_package": BUILT},
        {"disk": ""},
        True,
        [
            "nvidia-headless-no-dkms-580-server-open",
            "nvidia-utils-580-server",
            "nvidia-fabricmanager-580",
            f"linux-modules-nvidia-580-server-open-{KERNEL}",
        ],
    ),
    "a new kernel without headers": ({}, NEW_KERNEL, True, [*OF_NVIDIA, f"linux-headers-{KERNEL}"]),
    "a new kernel with headers": ({}, {"disk": ""}, False, OF_NVIDIA),
    "the site's own files for a new kernel": (
        {"nvidia_driver_packages": ["/site/nvidia.deb"]},
        NEW_KERNEL,
        True,
        [f"{CACHE}/nvidia.deb", f"linux-headers-{KERNEL}"],
    ),
    "the site's own files and headers": (
        {"nvidia_driver_packages": ["/site/nvidia.deb", f"/site/{HEADERS_FILE}"]},
        NEW_KERNEL,
        True,
        [f"{CACHE}/nvidia.deb", f"{CACHE}/{HEADERS_FILE}"],
    ),
    "a part of another branch": ({}, {"packages": {"libnvidia-nscq-535": "535.183.06"}}, True, OF_NVIDIA),
}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of each case, all in one run of Ansible."""
    folder = tmp_path_factory.mktemp("choices")
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "files").symlink_to(ROLE / "files")
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    tasks: list[dict[str, Any]] = [
        {
            "ansible.builtin.set_fact": {"chosen": "{{ chosen | default([]) + [" + CHOSEN + "] }}"},
            "vars": {**asked, "__nvidia_driver_look": {"stdout": json.dumps({**LOOK, **seen})}},
        }
        for asked, seen, _, _ in CASES.values()
    ]
    tasks.append(
        {"ansible.builtin.copy": {"content": "{{ chosen | to_json }}", "dest": str(folder / "chosen")}}
    )
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            **defaults,
            "ansible_python_interpreter": sys.executable,
            "nvidia_driver_version": "580.126.20",
            "__nvidia_driver_now": {},
            "__nvidia_driver_offers": {"stdout": json.dumps(OFFERS)},
        },
        "vars_files": [str(ROLE / "vars/main.yml")],
        "tasks": tasks,
    }
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    program = Path(sys.executable).with_name("ansible-playbook")
    ran = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", "play.yml"],
        cwd=folder,
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(folder), "ANSIBLE_REMOTE_TEMP": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(zip(CASES, json.loads((folder / "chosen").read_text(encoding="utf-8")), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_what_is_installed(chosen: dict[str, Any], name: str) -> None:
    _, _, installs, packages = CASES[name]
    assert chosen[name]["installs"] is installs
    assert [spec.split("=")[0] for spec in chosen[name]["arrives"]] == packages
