"""A rank beside the head is what its launcher says, and which way leads to the other nodes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import engine, launched, networks, slots
from flagprov.host.resources import probe

STARTED = "2026-01-02T03:04:05.6789Z"
STARTED_AT = 1767323045


def state(
    monkeypatch: pytest.MonkeyPatch, folder: Path, said: dict[str, Any] | None, **container: Any
) -> Any:
    path = folder / "state.json"
    if said is not None:
        path.write_text(json.dumps({"started_at": STARTED_AT + 1, "reason": ""} | said))
    found = {"State": {"Running": True, "StartedAt": STARTED, "ExitCode": 1} | container}
    unit = {"ActiveState": "active", "SubState": "auto-restart"}
    monkeypatch.setattr(engine.docker, "container", lambda _: found)
    monkeypatch.setattr(engine, "unit_state", lambda _: unit)
    return engine.state({"container": "c", "unit": "u", "readiness": "rank", "launcher": str(path)})


def test_running_is_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state(monkeypatch, tmp_path, {"phase": "running"})["state"] == "ready"


@pytest.mark.parametrize(
    ("said", "shown", "detail"),
    [
        ({"phase": "starting", "reason": "waiting for rank 0 on a"}, "starting", "waiting for rank 0 on a"),
        ({"phase": "stopping"}, "draining", "its engine ends"),
        (
            {"phase": "ended", "reason": "rank 0 on a ended"},
            "failed",
            "rank 0 on a ended; its unit comes back",
        ),
        (
            {"phase": "running", "touch_s": 2, "stopped": ["python3 (7)"]},
            "hung",
            "stopped processes: python3 (7)",
        ),
        ({"phase": "running", "ray": {"nodes": 1, "of": 2}}, "degraded", "Ray has 1 of 2 nodes"),
        ({"phase": "running", "started_at": STARTED_AT - 60}, "starting", "its engine is starting"),
        (None, "starting", "its engine is starting"),
    ],
    ids=["waiting", "stopping", "ended", "frozen", "half a Ray", "of an earlier start", "nothing yet"],
)
def test_everything_else_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: dict[str, Any] | None, shown: str, detail: str
) -> None:
    found = state(monkeypatch, tmp_path, said)
    assert (found["state"], found["detail"]) == (shown, detail)


JUNK: dict[str, Any] = {
    "no text": b"\xff\xfe{",
    "a list": b"[1]",
    "no phase": b"{}",
    "a phase of another type": {"phase": ["running"]},
    "a time that is none": {"phase": "running", "started_at": "now"},
    "no time": {"phase": "running", "started_at": None},
    "a pulse of another type": {"phase": "running", "touch_s": {}},
    "a reason of another type": {"phase": "starting", "reason": {"a": 1}},
    "stopped processes that are none": {"phase": "running", "stopped": "all"},
    "a Ray that is none": {"phase": "running", "ray": [2, 2]},
    "Ray's nodes not counted": {"phase": "running", "ray": {"nodes": "2"}},
    "a count that is none": {"phase": "running", "again": "often"},
    "nested": b"[" * 100_000,
    "huge": b'{"phase": "running", "reason": "' + b"x" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("name", [*JUNK, "a pipe", "a link", "a folder"])
def test_what_a_container_wrote_there_is_said_to_be_junk_and_judges_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    run = tmp_path / "replicas" / "c" / "run"
    run.mkdir(parents=True)
    path, junk = run / "state.json", JUNK.get(name)
    if name == "a pipe":
        os.mkfifo(path)
    elif name == "a link":
        path.symlink_to("/etc/passwd")
        os.utime(path, follow_symlinks=False)
    elif name == "a folder":
        path.mkdir()
    elif isinstance(junk, dict):
        path.write_text(json.dumps({"started_at": STARTED_AT + 1, "reason": ""} | junk))
    else:
        path.write_bytes(junk)
    shown = state(monkeypatch, run, None)
    assert (shown["state"], shown["detail"]) == ("wrong", launched.JUNK)
    monkeypatch.setattr(slots, "STATE", str(tmp_path))
    monkeypatch.setattr(engine, "_serving", lambda *_: {"state": "starting", "detail": "refused"})
    spec = {"container": "flagprov-c", "unit": "u", "readiness": "chat"}
    assert engine.state(spec)["detail"] == launched.JUNK
    monkeypatch.setattr(engine, "_serving", lambda *_: {"state": "ready", "detail": ""})
    assert engine.state(spec)["state"] == "ready"
    # Until the launcher of a new start has written its own.
    found = {"State": {"Running": True, "StartedAt": time.strftime("%FT%T", time.gmtime(time.time() + 60))}}
    monkeypatch.setattr(engine.docker, "container", lambda _: found)
    assert engine.state(spec | {"launcher": str(path), "readiness": "rank"})["state"] == "starting"


def test_a_reason_is_not_longer_than_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = state(monkeypatch, tmp_path, {"phase": "starting", "reason": "x" * 100_000})
    assert found["state"] == "starting"
    assert len(found["detail"]) <= 500


def test_a_dead_container_is_never_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = state(monkeypatch, tmp_path, {"phase": "running"}, Running=False)
    assert found["state"] == "failed"
    assert found["detail"] == "its engine ended with code 1; its unit comes back"
    assert probe.diff({"after": []}, found, set()) == [("wait", "it is failed", "nothing")]


def test_a_launcher_that_does_not_move_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = time.time()
    monkeypatch.setattr(engine.time, "time", lambda: now + 25)
    found = state(monkeypatch, tmp_path, {"phase": "running", "touch_s": 2})
    assert (found["state"], found["detail"]) == ("hung", "its launcher has not moved for 25 s")
    # One of before, which touches nothing.
    assert state(monkeypatch, tmp_path, {"phase": "running"})["state"] == "ready"


def test_a_replica_on_one_host_says_why_its_launcher_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A launcher that somebody held and forgot would else never be told from an engine that loads."""
    run = tmp_path / "replicas" / "r-0" / "run"
    run.mkdir(parents=True)
    monkeypatch.setattr(slots, "STATE", str(tmp_path))
    monkeypatch.setattr(engine, "_serving", lambda *_: {"state": "starting", "detail": "refused"})
    found = {"State": {"Running": True, "StartedAt": STARTED}}
    monkeypatch.setattr(engine.docker, "container", lambda _: found)
    monkeypatch.setattr(engine, "unit_state", lambda _: {"ActiveState": "active"})
    spec = {"container": "flagprov-r-0", "unit": "u", "readiness": "chat"}
    assert engine.state(spec)["detail"] == "refused"
    reason = "held by hand, until /run/flagprov-host/hold is removed"  # where its container sees it
    said = {"started_at": STARTED_AT + 1, "phase": "starting", "reason": reason}
    (run / "state.json").write_text(json.dumps(said))
    detail = f"held by hand, until {tmp_path}/replicas/r-0/host/hold is removed"
    assert engine.state(spec) == {"state": "starting", "detail": detail}
    (run / "state.json").write_text(json.dumps(said | {"reason": ""}))
    assert engine.state(spec)["detail"] == "refused"


def test_a_paused_container_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state(monkeypatch, tmp_path, {"phase": "running"}, Paused=True)["state"] == "hung"


def test_ray_is_told_beside_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = state(monkeypatch, tmp_path, {"phase": "running", "ray": {"nodes": 2, "of": 2}})
    assert (found["state"], found["detail"]) == ("ready", "Ray has 2 of 2 nodes")


def test_routes_of_the_kernel() -> None:
    table = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "ib0\t0000090A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "down\t0000090A\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert networks.routes(table) == [
        {"network": "0.0.0.0/0", "interface": "eth0", "metric": 100},
        {"network": "10.9.0.0/16", "interface": "ib0", "metric": 0},
    ]
    assert networks.routes("") == []


def test_addresses_and_routes_of_ipv6() -> None:
    table = (
        "20010db8000000000000000000000011 02 40 00 80 eth0\n"
        "fe80000000000000021122fffe334455 02 40 20 80 eth0\n"
        "00000000000000000000000000000001 01 80 10 80 lo\n"
    )
    assert networks.addresses6(table) == {"eth0": "2001:db8::11"}
    zero = "0" * 32
    table = (
        f"20010db8000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n"
        f"{zero} 00 {zero} 00 20010db8000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"
        f"fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert networks.routes6(table) == [
        {"network": "2001:db8::/64", "interface": "eth0", "metric": 256},
        {"network": "::/0", "interface": "eth0", "metric": 1024},
    ]
