"""A rank whose partner never comes is not waited for until the deadline of its model."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.host import engine
from flagprov.host.resources import probe
from flagprov.host.wire import Blocked

SPEC = {"replica": "r-0", "container": "c", "unit": "u", "deadline_s": 1800, "readiness": "rank"}


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a look advances; units and containers that are not there."""
    now = [0.0]
    monkeypatch.setattr(probe.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(probe.time, "sleep", lambda _: now.__setitem__(0, now[0] + 10))
    monkeypatch.setattr(probe, "unit_state", lambda _: {"ActiveState": "active"})
    monkeypatch.setattr(engine, "log_tail", lambda *_: "")
    monkeypatch.setattr(probe.unit, "stop", lambda *_: None)
    monkeypatch.setattr(probe.unit, "stop_soon", lambda *_: None)
    return now


def starting(monkeypatch: pytest.MonkeyPatch, now: list[float], reason: Any) -> None:
    monkeypatch.setattr(engine, "state", lambda _: {"state": "starting", "detail": reason(now[0])})


def test_it_gives_up_and_names_the_one_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    starting(monkeypatch, seconds, lambda _: "waiting for rank 1 on lab2")
    with pytest.raises(Blocked, match="waiting for rank 1 on lab2 for 180 s; look there first"):
        probe.apply(SPEC, {"state": "starting"})
    assert seconds[0] < 300


def test_an_engine_that_loads_has_all_the_time(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    starting(monkeypatch, seconds, lambda at: "waiting for rank 1" if at < 100 else "its engine is starting")
    with pytest.raises(Blocked, match="did not answer within 1800 s"):
        probe.apply(SPEC, {"state": "starting"})
