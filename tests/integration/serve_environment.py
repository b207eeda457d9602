"""An interpreter with the real FlagScale and the stand-in engine, made once and kept in build/."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The unit tests' own helpers: plain inputs, and the launcher as a process.
sys.path += [str(ROOT / "tests/unit" / folder) for folder in ("runner", "host")]
LAB = ROOT / "flagprov/lab"
# The lab's list for its images, less what one node does not load.
LEFT_OUT = ("ray", "protobuf", "grpcio")


def requirements() -> list[str]:
    lines = (LAB / "images/common.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    return [line for line in wanted if line.split("==")[0] not in LEFT_OUT]


@cache
def serve_python() -> Path:
    """FLAGPROV_SERVE_PYTHON, or an environment of our own; skips where neither can be had."""
    given = os.environ.get("FLAGPROV_SERVE_PYTHON")
    if given:
        return Path(given)
    standin = sorted((LAB / "standin").rglob("*.*"))
    key = hashlib.sha256("\n".join(requirements()).encode() + sys.version.encode())
    for path in standin:
        if path.is_file() and path.suffix != ".pyc":
            key.update(path.read_bytes())
    folder = ROOT / "build" / f"serve-{key.hexdigest()[:12]}"
    if not (folder / "complete").exists():
        for old in (ROOT / "build").glob("serve-*"):
            shutil.rmtree(old, ignore_errors=True)
        _make(folder)
        (folder / "complete").touch()
    return folder / "bin/python"


def _make(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    for wanted in (requirements(), ["setuptools", str(LAB / "standin")]):
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"flag_scale cannot be installed here: {done.stderr.strip()[-300:]}")
