"""What a controller may ask of a converge: a look before it, and only some of what was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagprov.host import converge, wire
from flagprov.host.wire import Blocked


def directory(path: Path) -> dict[str, Any]:
    spec = {"path": str(path), "mode": "0755"}
    return {"kind": "directory", "name": str(path), "stage": "config", "replica": "m-0", "spec": spec}


def file(path: Path) -> dict[str, Any]:
    spec = {"path": str(path), "mode": "0644", "content": "x"}
    return {"kind": "file", "name": str(path), "stage": "config", "replica": "m-0", "spec": spec}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(converge, "STATE", str(tmp_path / "state"))
    monkeypatch.setattr(wire, "send", lambda message: None)
    return tmp_path


def test_only_these_kinds_are_applied_and_all_are_looked_at(here: Path) -> None:
    resources = [directory(here / "new"), file(here / "new/file")]
    seen = converge.look({"resources": resources})
    asked = {"resources": resources, "digest": seen["digest"], "only": ["directory"]}
    assert converge.converge(asked)["changes"] == 1
    assert [path.name for path in (here / "new").iterdir()] == []
    with pytest.raises(Blocked, match="has changed since it was looked at"):
        converge.converge(asked)


def test_a_checked_converge_changes_nothing_where_something_is_in_the_way(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = {"step": "claim", "message": "port 9010 is taken", "remedy": "stop it", "replica": "m-0"}
    monkeypatch.setattr(converge, "look", lambda _: {"digest": "d", "problems": [problem]})
    with pytest.raises(Blocked, match="port 9010 is taken") as raised:
        converge.converge({"resources": [directory(here / "new")], "checked": True})
    assert (raised.value.step, raised.value.remedy) == ("claim", "stop it")
    assert not (here / "new").exists()
