"""What a host says before it is rebooted (host_baseline/files/reboot-look.sh), on tools that stand in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.apply.assets import ansible_root

SCRIPT = ansible_root() / "roles" / "host_baseline" / "files" / "reboot-look.sh"
CASES = Path(__file__).parents[1] / "cases" / "facts" / "npu_smi"
SYSTEMCTL = """
case $1 in
    is-active) exit 0 ;;
    list-units) echo 'flagprov@m-0.service loaded active running flagprov replica m-0' ;;
esac
"""
DOCKER = """
case $* in
    *--quiet*) echo 1234567890abcdef ;;
    *) echo; echo database ;;
esac
"""


@pytest.fixture
def look(tmp_path: Path) -> Any:
    """The script's answer where the tools say so."""

    def run(**tools: str) -> Any:
        for name, text in {"systemctl": SYSTEMCTL, "docker": DOCKER, "podman": "", **tools}.items():
            tool = tmp_path / name.replace("_", "-")
            tool.write_text(f"#!/bin/sh\n{text}\n")
            tool.chmod(0o755)
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", SCRIPT], env=path, capture_output=True, text=True, check=True)
        return yaml.safe_load(done.stdout)

    return run


def test_an_idle_host(look: Any) -> None:
    found = look(systemctl="exit 3", nvidia_smi="exit 9", npu_smi="exit 1")
    assert found == {"containers": [], "replicas": [], "processes": []}


def test_replicas_of_ours_and_containers_of_others(look: Any) -> None:
    found = look(nvidia_smi="exit 9", npu_smi="exit 1")
    assert found["containers"] == ["database"]
    assert found["replicas"] == ["flagprov@m-0.service"]


def test_programs_on_gpus(look: Any) -> None:
    said = (
        r"printf '999999, /opt/some where/train.py\n999999, /opt/some where/train.py\n999998, [Not Found]\n'"
    )
    found = look(nvidia_smi=said, npu_smi="exit 1")
    assert found["processes"] == ["999998/NotFound", "999999/train.py"]
    assert look(nvidia_smi="echo 'No devices were found'", npu_smi="exit 1")["processes"] == []


@pytest.mark.parametrize(
    ("case", "expected"), [("a2-idle", []), ("a3-glued-and-busy", None)], ids=["idle", "busy"]
)
def test_programs_on_npus(look: Any, case: str, expected: list[str] | None) -> None:
    found = look(nvidia_smi="exit 9", npu_smi=f"cat '{CASES / case}.txt'")["processes"]
    if expected is None:
        assert found and all(each.partition("/")[0].isdigit() for each in found)
    else:
        assert found == expected
