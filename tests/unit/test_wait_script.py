"""What a replica waits for before its container starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flagprov.wait_script import GPU


@pytest.mark.parametrize("minors", [("0", "1"), ("1", "0"), ("0", "7")])
def test_a_gpus_node_has_the_kernels_number(tmp_path: Path, minors: tuple[str, ...]) -> None:
    """nvidia-smi counts along the bus, the kernel in the order in which it found them."""
    (tmp_path / "dev").mkdir()
    for bus, minor in zip(("0000:19:00.0", "0000:3b:00.0"), minors, strict=True):
        gpu = tmp_path / "proc/driver/nvidia/gpus" / bus
        gpu.mkdir(parents=True)
        (gpu / "information").write_text(f"Model: \t\t NVIDIA H100\nDevice Minor: \t {minor}\n")
    (tmp_path / f"dev/nvidia{minors[1]}").touch()
    assert _there(tmp_path, 1)
    assert not _there(tmp_path, 0)


def test_without_the_drivers_list_the_numbers_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia3").touch()
    assert _there(tmp_path, 3)
    assert not _there(tmp_path, 2)


def _there(root: Path, index: int) -> bool:
    script = GPU.replace("/proc/", f"{root}/proc/").replace("/dev/nvidia$", f"{root}/dev/nvidia$")
    return subprocess.run(["sh", "-euc", f"{script}\ngpu {index}"]).returncode == 0
