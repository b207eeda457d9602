"""Files, directories and configuration trees on a real file system."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from flagprov.host.files import read_foreign
from flagprov.host.resources import directory, file, tree


def settle(module: Any, spec: dict[str, Any]) -> None:
    """Apply, then find nothing left to do."""
    observed = module.observe(spec)
    assert module.diff(spec, observed, set())
    module.apply(spec, observed)
    assert module.diff(spec, module.observe(spec), set()) == []


def test_a_file_is_made_mended_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "a" / "f"
    spec = {"path": str(path), "mode": "0640", "content": "one\n"}
    settle(file, spec)
    assert path.read_text() == "one\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.write_text("edited")
    settle(file, spec)
    path.chmod(0o777)
    settle(file, spec)
    settle(file, {"path": str(path), "absent": True})
    assert list((tmp_path / "a").iterdir()) == []


def test_a_record_is_for_root_alone_even_if_an_old_deployment_is_put_back(tmp_path: Path) -> None:
    """It holds what was set, which may be a key; a history from before an upgrade has another mode."""
    path = tmp_path / "record.json"
    spec = {"path": str(path), "mode": "0644", "content": "{}"}
    settle(file, spec)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    settle(file, spec)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.apply({"path": str(path), "mode": "0644", "content": "new"}, {})
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_directory(tmp_path: Path) -> None:
    spec = {"path": str(tmp_path / "a" / "b"), "mode": "0755"}
    settle(directory, spec)
    Path(spec["path"]).chmod(0o700)
    settle(directory, spec)
    settle(directory, {"path": spec["path"], "absent": True})


def test_a_tree_is_put_right_when_somebody_edited_it(tmp_path: Path) -> None:
    path = tmp_path / "configs" / "abc"
    spec = {"path": str(path), "files": {"conf/serve.yaml": "a: 1\n", "launch.json": "{}"}}
    settle(tree, spec)
    (path / "conf/serve.yaml").write_text("a: 2\n")
    (path / "notes").write_text("mine")
    settle(tree, spec)
    assert (path / "conf/serve.yaml").read_text() == "a: 1\n"
    assert not (path / "notes").exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["abc"]


def test_what_may_hold_keys_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "configs" / "abc"
    files = {"launch.json": "{}", "launcher.py": "", "start.sh": "true"}
    spec = {"path": str(path), "files": files, "private": ["launch.json", "start.sh"]}
    for _ in ("made", "mended"):
        settle(tree, spec)
        modes = {name: stat.S_IMODE((path / name).stat().st_mode) for name in files}
        assert modes == {"launch.json": 0o600, "launcher.py": 0o644, "start.sh": 0o600}
        (path / "start.sh").write_text("edited")
        (path / "start.sh").chmod(0o644)


def test_what_a_container_writes_neither_holds_nor_leads_the_host(tmp_path: Path) -> None:
    plain, other, link, pipe, most = (tmp_path / name for name in ("a", "b", "link", "pipe", "most"))
    plain.write_text('{"phase": "running"}')
    other.write_text("[1]")
    link.symlink_to(plain)
    os.mkfifo(pipe)
    most.write_text('"' + "x" * (1 << 20) + '"')
    assert read_foreign(str(plain)) == {"phase": "running"}
    for path in (other, link, pipe, most, tmp_path, tmp_path / "none"):
        assert read_foreign(str(path)) == {}
