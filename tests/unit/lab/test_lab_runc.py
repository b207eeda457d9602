"""The wrapper before a lab host's runc."""

from __future__ import annotations

import importlib.util
import json
import resource
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flagprov.lab import rootfs

SPEC = {
    "ociVersion": "1.0.2",
    "process": {
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
            "effective": ["CAP_SYS_RESOURCE"],
        },
        "oomScoreAdj": -500,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1 << 40, "soft": 1 << 40}],
    },
}


@pytest.fixture
def runc(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = SourceFileLoader("lab_runc", str(rootfs.FILES / "runc-clamped"))
    spec = importlib.util.spec_from_file_location("lab_runc", loader.path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    return module


def rewritten(runc: ModuleType, tmp_path: Path, lost: set[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    bundle = tmp_path / "config.json"
    bundle.write_text(json.dumps(SPEC))
    monkeypatch.setattr(runc, "missing", lambda: lost)
    started: list[Any] = []
    monkeypatch.setattr(runc.os, "execv", lambda path, argv: started.append((path, argv)))
    monkeypatch.setattr("sys.argv", ["runc", "--root", "/r", "create", "--bundle", str(tmp_path), "name"])
    runc.main()
    assert started == [(runc.REAL, [runc.REAL, "--root", "/r", "create", "--bundle", str(tmp_path), "name"])]
    return json.loads(bundle.read_text())


def test_what_the_machine_lacks_is_dropped(
    runc: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = (1024, 4096)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    process = rewritten(runc, tmp_path, {"CAP_SYS_RESOURCE"}, monkeypatch)["process"]
    assert process["capabilities"] == {"bounding": ["CAP_CHOWN"], "effective": []}
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}]
    assert process["oomScoreAdj"] == 0


def test_where_nothing_is_missing_nothing_changes(
    runc: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rewritten(runc, tmp_path, set(), monkeypatch) == SPEC


def test_dockerds_own_hook_is_not_qemu(runc: ModuleType) -> None:
    hooks = {"prestart": [{"path": "/proc/7/exe", "args": ["libnetwork-setkey"]}, {"path": "/usr/bin/other"}]}
    runc.call_dockerd(hooks)
    assert [hook["path"] for hook in hooks["prestart"]] == ["/usr/sbin/dockerd", "/usr/bin/other"]
