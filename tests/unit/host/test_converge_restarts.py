"""An engine that serves is restarted for how it is only where the plan says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagprov.host import converge, engine, wire
from flagprov.host.resources import probe
from flagprov.host.shell import Result
from flagprov.host.wire import Blocked

NAME = "endpoint of m-0"
SPEC: dict[str, Any] = {
    "replica": "m-0", "container": "c", "unit": "u", "deadline_s": 1800, "readiness": "chat", "after": [],
    "model": "m", "port": 1,
}  # fmt: skip
RESOURCES = [{"kind": "probe", "name": NAME, "stage": "verify", "replica": "m-0", "spec": SPEC}]


class Engine:
    """In `states` after one another, a second each; the last one stays, unless it is restarted."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.did: list[str] = []
        self.now = 0.0

    def state(self, *_: Any) -> dict[str, Any]:
        found = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        self.now += 1
        return {"state": found, "detail": "1 requests at hand and no token for 15 s"}

    def run(self, argv: list[str], timeout: float) -> Result:
        self.did.append(argv[1])
        if argv[1] == "restart":
            self.states = ["ready"]
        return Result(0, "", "")


@pytest.fixture
def converged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def one(found: Engine, looked: str, **asked: Any) -> Engine:
        monkeypatch.setattr(converge, "STATE", str(tmp_path))
        monkeypatch.setattr(wire, "send", lambda message: None)
        monkeypatch.setattr(engine, "state", Engine(looked).state)
        digest = converge.look({"resources": RESOURCES})["digest"]
        monkeypatch.setattr(engine, "state", found.state)
        monkeypatch.setattr(engine, "log_tail", lambda *_: "")
        monkeypatch.setattr(probe.unit, "run", found.run)
        monkeypatch.setattr(probe, "unit_state", lambda _: {"ActiveState": "active"})
        monkeypatch.setattr(probe.time, "monotonic", lambda: found.now)
        monkeypatch.setattr(probe.time, "sleep", lambda s: None)
        for stop in ("stop", "stop_soon"):
            monkeypatch.setattr(probe.unit, stop, lambda *_: found.did.append("stop"))
        monkeypatch.setattr(probe.unit, "STARTED", set())
        converge.converge({"resources": RESOURCES, "digest": digest, **asked})
        return found

    return one


def test_what_the_plan_says_is_done(converged: Any) -> None:
    assert converged(Engine("hung"), "hung", restarts=[NAME]).did == ["reset-failed", "restart"]


@pytest.mark.parametrize("state", ["hung", "degraded", "wrong"])
@pytest.mark.parametrize("more", [{}, {"digest": ""}], ids=["a plan that saw it well", "no digest"])
def test_one_that_stands_still_for_a_moment_serves_on(
    converged: Any, state: str, more: dict[str, Any]
) -> None:
    assert converged(Engine(state, state, state, "ready"), "ready", **more).did == []


@pytest.mark.parametrize("state", ["hung", "degraded", "wrong"])
def test_one_that_stays_so_is_said_and_left_alone(converged: Any, state: str) -> None:
    found = Engine(state)
    with pytest.raises(Blocked, match=f"it is {state}: 1 requests .* this plan did not say so") as raised:
        converged(found, "ready")
    assert found.did == []
    assert "run the command again" in raised.value.remedy


def test_one_that_heals_itself_has_its_deadline(converged: Any) -> None:
    """A rank whose partner went away: it starts anew by itself, and is not well at once."""
    states = ["degraded"] * 9 + ["starting"] * 300 + ["hung"] * 9
    assert converged(Engine(*states, "ready"), "starting").did == []


def test_one_that_recovered_since_the_plan_is_not_restarted(converged: Any) -> None:
    assert converged(Engine("ready"), "hung", restarts=[NAME]).did == []
