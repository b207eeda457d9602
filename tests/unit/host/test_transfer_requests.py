"""How a host's node of a transfer starts: quickly, and in the place of one that is left over."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.host import jobs, lease
from flagprov.host.transfer import requests
from flagprov.host.wire import Blocked

NAME = "transfer-c0ffee-1"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The processes that were started; no unit of ours runs."""
    found: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> SimpleNamespace:
        found.append(argv)
        return SimpleNamespace(code=0, out="", err="")

    def state(unit: str) -> dict[str, str]:
        found.append(["systemctl", "show", unit])
        return {}

    monkeypatch.setattr(jobs, "ROOT", str(tmp_path))
    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(requests, "run", run)
    monkeypatch.setattr(jobs, "unit_state", state)
    monkeypatch.setattr(jobs, "attach", lambda name: {"changed": 1})
    return found


def test_two_processes_start_a_node(ran: list[list[str]], tmp_path: Path) -> None:
    assert requests.transfer({"job": NAME}) == {"changed": 1}
    assert [argv[:2] for argv in ran] == [["systemctl", "show"], ["systemd-run", "--quiet"]]
    spec = json.loads((tmp_path / NAME / "spec.json").read_text())
    assert spec["spec"]["release_file"] == str(tmp_path / NAME / "release")


def test_a_node_of_another_controller_ends_first(ran: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "transfer-c0ffee-2").mkdir()
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "release").touch()
    requests.transfer({"job": NAME})
    assert ["systemctl", "stop", "flagprov-job-transfer-c0ffee-*.service"] in ran
    assert not (tmp_path / NAME / "release").exists()


def test_a_node_that_only_gives_ends_no_other(ran: list[list[str]], tmp_path: Path) -> None:
    """Another controller's hosts may be reading from it."""
    (tmp_path / "transfer-c0ffee-2").mkdir()
    requests.transfer({"job": NAME, "source": True, "place": ""})
    assert not [argv for argv in ran if argv[:2] == ["systemctl", "stop"]]
    requests.transfer({"job": NAME, "source": True, "place": "/srv/m"})
    assert [argv for argv in ran if argv[:2] == ["systemctl", "stop"]]


@pytest.mark.parametrize("full", [True, False])
def test_a_job_that_could_not_say_how_it_ended(
    full: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "events").touch()
    monkeypatch.setattr(jobs, "ROOT", str(tmp_path))
    monkeypatch.setattr(jobs, "state_of", lambda name: "inactive")
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    status = SimpleNamespace(f_bfree=0 if full else 9999, f_frsize=4096)
    monkeypatch.setattr(jobs.os, "statvfs", lambda path: status)
    with pytest.raises(Blocked, match="is full" if full else "was killed") as caught:
        jobs.attach(NAME)
    assert "run again: what has arrived is kept" in caught.value.remedy


@pytest.mark.parametrize(
    ("spec", "held_by", "beats"),
    [
        ({}, "", True),
        ({"source": True, "place": "/srv/m"}, "", True),
        ({"source": True}, "mine", True),  # nobody else renews it while this host is busy
        ({"source": True}, "", False),  # a host that only gives is not taken
        ({"source": True}, "another's", False),
    ],
)
def test_a_source_keeps_the_lease_that_its_run_holds(
    spec: dict[str, Any], held_by: str, beats: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "STATE", str(tmp_path))
    wish = {"token": "mine", "holder": "h", "command": "c", "since": "s", "ttl_s": 60.0}
    if held_by:
        lease.take(dict(wish, token=held_by))
        held = json.loads((tmp_path / "lease.json").read_text())
        (tmp_path / "lease.json").write_text(json.dumps(dict(held, beat=held["beat"] - 30)))
    before = lease.current()
    monkeypatch.setattr(requests, "transfer", lambda spec: lease.current())
    during = requests.answer("transfer", {"spec": spec, "lease": wish})
    assert (bool(during) and during["beat"] != (before or {}).get("beat")) == beats
