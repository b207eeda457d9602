"""What a controller may ask of a converge: a look before it, and only some of what was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagprov.host import converge, wire
from flagprov.host.resources import probe
from flagprov.host.wire import Blocked

READY = {"state": "ready"}


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
    monkeypatch.setattr(converge, "look", lambda *_, **__: {"digest": "d", "problems": [problem]})
    with pytest.raises(Blocked, match="port 9010 is taken") as raised:
        converge.converge({"resources": [directory(here / "new")], "checked": True})
    assert (raised.value.step, raised.value.remedy) == ("claim", "stop it")
    assert not (here / "new").exists()


def test_no_engine_is_asked_before_it_is_changed_nor_when_it_was_just_started(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"container": "c", "unit": "u", "after": [str(here / "new")], "replica": "m-0"}
    endpoint = {"kind": "probe", "name": "endpoint of m-0", "stage": "verify", "replica": "m-0", "spec": spec}
    asked: list[str] = []
    monkeypatch.setattr(probe.engine, "state", lambda *_: asked.append("state"))
    monkeypatch.setattr(probe.unit, "STARTED", {"u"})
    monkeypatch.setattr(probe, "apply", lambda spec, observed: asked.append(observed["state"]) or READY)
    monkeypatch.setattr(probe, "note", lambda spec, observed: observed)
    resources = [directory(here / "new"), endpoint]
    answer = converge.converge({"resources": resources, "checked": True})
    assert asked == ["starting"]
    assert answer["notes"] == {"endpoint of m-0": READY}


def test_resources_of_all_kinds_may_be_looked_at_together(here: Path) -> None:
    """A file that belongs to a unit says so with the same word."""
    described = file(here / "some.service")
    described["spec"] |= {"unit": True, "absent": True}
    unit = {"kind": "unit", "name": "u", "stage": "serve", "replica": "m-0"}
    unit["spec"] = {"unit": "flagprov-no-such.service", "active": False}
    assert converge.look({"resources": [described, unit]})["problems"] == []
