"""What a host says of its packages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import machine, packages
from flagprov.host.main import answer


def test_files_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **rest: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        said = b"docker.io 20.10.24+dfsg1-1 ii \nremoved 1.0 rc \nheld 2.0 hi \nbroken 1.0 iU \n"
        return subprocess.CompletedProcess(command, 1, said, b"dpkg-query: no packages found matching c")

    monkeypatch.setattr(packages.subprocess, "run", run)
    monkeypatch.setattr(
        packages.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None
    )
    paths = ["/proc/self", "/proc/sel?", "/nowhere/{kernel}"]
    named = {"packages": ["docker.io", "removed", "c"], "programs": []}
    found = answer({"op": "packages", "paths": paths, **named})
    assert found["there"] == ["/proc/self", "/proc/sel?"]
    assert found["versions"] == {"docker.io": "20.10.24+dfsg1-1", "held": "2.0"}
    assert asked[0][0] == "dpkg-query" and asked[0][-3:] == ["docker.io", "removed", "c"]
    assert (found["manager"], found["kernel"]) == ("apt", os.uname().release)


def test_nothing_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "read", lambda path: 'ID="openEuler"\nVERSION_ID="22.03"\n')
    found = packages.packages({"paths": [], "packages": ["a"], "programs": []})
    assert (found["manager"], found["versions"]) == ("none", {})
    assert found["platform"] == f"openeuler-22.03-{os.uname().machine}"


def test_programs_say_their_versions(tmp_path: Path) -> None:
    said = {"dockerd": "Docker version 19.03.15, build 99e3ed8919", "mute": ""}
    for name, text in said.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{text}'\n")
        (tmp_path / name).chmod(0o755)
    paths = [str(tmp_path / name) for name in (*said, "missing")]
    found = packages.packages({"paths": [], "packages": [], "programs": paths})
    assert found["programs"] == {paths[0]: "19.03.15", paths[1]: ""}
