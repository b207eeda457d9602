"""What a replica waits for before its container starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flagprov.runner.render import launcher_files
from flagprov.wait_script import GPU, OWN

SYSTEM = shutil.which("python3", path="/usr/bin:/bin")  # which every user may run
AS_ROOT = pytest.mark.skipif(
    os.getuid() != 0 or not SYSTEM, reason="needs root, and a python3 that others may run"
)


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


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where other users may go, too."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def waited(run: Path, user: int) -> None:
    subprocess.run(["sh", "-euc", OWN.format(run=run, user=user)], check=True)


@AS_ROOT
def test_a_launcher_that_is_not_roots_can_say_how_it_is(folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    (run / "state.json").write_text("of root's")
    waited(run, 1234)
    assert (run.stat().st_uid, run.stat().st_mode & 0o777, list(run.iterdir())) == (1234, 0o755, [])
    for name, text in launcher_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    launch = {"schema_version": 1, "kind": "command", "settle_s": 0.1, "argv": ["true"]}
    (folder / "launch.json").write_text(json.dumps(launch))
    argv, env = [str(SYSTEM), str(folder / "launcher.py")], dict(os.environ, FLAGPROV_RUN=str(run))
    subprocess.run(argv, env=env, user=1234, cwd="/", check=False, capture_output=True, timeout=60)
    assert json.loads((run / "state.json").read_text())["phase"] == "ended"


@AS_ROOT
def test_what_a_launcher_left_stays_where_the_user_is_the_same(folder: Path) -> None:
    run = folder / "run"
    waited(run, 1234)
    (run / "state.json").touch()
    waited(run, 1234)
    assert list(run.iterdir())
    waited(run, 0)
    assert (run.stat().st_uid, list(run.iterdir())) == (0, [])
