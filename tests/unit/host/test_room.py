"""Space is summed for each file system, before the first byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import docker
from flagprov.host.transfer import manifest
from flagprov.host.transfer import room as module
from flagprov.host.transfer.room import room


@pytest.fixture
def free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """One file system for all, with this much room."""
    monkeypatch.setattr(docker, "call", lambda *_: {"DockerRootDir": str(tmp_path)})
    status = os.statvfs(tmp_path)
    return status.f_bavail * status.f_frsize


def asked(tmp_path: Path, weights: int, image: int, files: Any = ()) -> str:
    needs = [
        {"what": "weights", "path": str(tmp_path / "deep" / "model"), "bytes": weights, "files": list(files)},
        {"what": "image", "path": "", "bytes": image},
    ]
    (fault,) = room({"needs": needs})["faults"]
    return str(fault)


def test_each_fits_and_both_do_not(free: int, tmp_path: Path) -> None:
    part = free * 6 // 10
    assert asked(tmp_path, part, 0) == asked(tmp_path, 0, part) == ""
    fault = asked(tmp_path, part, part)
    assert f"weights {part >> 20} MiB, image {part >> 20} MiB" in fault and "MiB free" in fault


def test_what_is_there_counts_once(free: int, tmp_path: Path) -> None:
    model = tmp_path / "deep" / "model"
    model.mkdir(parents=True)
    (model / "a.bin").write_bytes(b"12")
    manifest.write(str(model), {"a.bin": "0" * 64}, {})
    assert asked(tmp_path, free, 0)
    assert asked(tmp_path, free, 0, [["a.bin", free, "0" * 64]]) == ""
    assert asked(tmp_path, free, 0, [["a.bin", free, "1" * 64]])


def test_an_image_counts_by_the_layers_that_the_host_lacks(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "held", lambda layers: {"sha256:base"} & set(layers))
    layers = [["sha256:base", free * 2], ["sha256:top", free // 2], ["sha256:top", free // 2]]
    need = {"what": "image", "path": "", "layers": layers}
    assert room({"needs": [need]})["faults"] == [""]
    (fault,) = room({"needs": [{**need, "times": 2.5}]})["faults"]
    assert f"image {int(free // 2 * 2.5) >> 20} MiB" in fault
