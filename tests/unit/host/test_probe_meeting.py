"""What never comes is not waited for until the deadline of its model: a partner, or an engine that hangs."""

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
    monkeypatch.setattr(probe, "listens", lambda *_: False)
    monkeypatch.setattr(probe.unit, "stop", lambda *_: None)
    monkeypatch.setattr(probe.unit, "stop_soon", lambda *_: None)
    monkeypatch.setattr(probe.unit, "STARTED", set())
    return now


def starting(monkeypatch: pytest.MonkeyPatch, now: list[float], reason: Any) -> None:
    monkeypatch.setattr(engine, "state", lambda *_: {"state": "starting", "detail": reason(now[0])})


def test_it_gives_up_and_names_the_one_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    starting(monkeypatch, seconds, lambda _: "waiting for rank 1 on lab2")
    with pytest.raises(Blocked, match="waiting for rank 1 on lab2 for 180 s; look there first"):
        probe.apply(SPEC, {"state": "starting"})
    assert seconds[0] < 300


def test_an_engine_that_loads_has_all_the_time(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    starting(monkeypatch, seconds, lambda at: "waiting for rank 1" if at < 100 else "its engine is starting")
    with pytest.raises(Blocked, match="head of r-0 did not answer within 1800 s; here its engine is"):
        probe.apply(SPEC, {"state": "starting"})


def test_who_gives_an_engine_up_says_how_it_gets_longer(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    starting(monkeypatch, seconds, lambda _: "its engine is starting")
    with pytest.raises(
        Blocked, match=r"^it did not answer within 1800 s: its engine is starting$"
    ) as gave_up:
        probe.apply({**SPEC, "readiness": "chat", "address": "h", "port": 1}, {"state": "starting"})
    assert "--set deadline_s=N" in gave_up.value.remedy


def test_a_rank_that_was_there_is_not_waited_for_so_long(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    now = {"state": "starting", "detail": "waiting for rank 1 on b (before: rank 1 on b ended)", "again": 1}
    monkeypatch.setattr(engine, "state", lambda *_: now)
    with pytest.raises(Blocked, match="for 60 s; look there first"):
        probe.apply(SPEC, {"state": "starting"})


STANDS = {"state": "hung", "detail": "1 requests at hand and no token for 15 s"}


@pytest.mark.parametrize(
    "hung",
    [
        {"state": "hung", "detail": "its container is paused"},
        {"state": "hung", "detail": "stopped processes: VLLM::EngineCore"},
        {**STANDS, "may_compile": False},
    ],
    ids=lambda hung: hung["detail"],
)
def test_an_engine_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], hung: dict[str, Any]
) -> None:
    loads = {"state": "starting", "detail": "its engine is starting"}
    monkeypatch.setattr(engine, "state", lambda *_: hung if seconds[0] > 600 else loads)
    with pytest.raises(Blocked, match=f"it hangs: {hung['detail']}"):
        probe.apply(SPEC, {"state": "starting"})
    assert 700 < seconds[0] < 820


def test_one_that_may_compile_its_first_completion_has_all_the_time_and_is_said_to_stall(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    said: list[str] = []
    asked: list[float] = []

    def state(_: Any, patience_s: float, unit: Any) -> dict[str, Any]:
        asked.append(patience_s)
        return {**STANDS, "may_compile": True}

    monkeypatch.setattr(probe, "progress", said.append)
    monkeypatch.setattr(engine, "state", state)
    with pytest.raises(Blocked, match="did not answer within 1800 s; here 1 requests at hand and no token"):
        probe.apply(SPEC, {"state": "starting"})
    assert said == ["stalled: 1 requests at hand and no token for 15 s"]
    assert (asked[0], asked[-1]) == (120, engine.LIMIT_S)


def test_it_serves_when_it_has_compiled(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    compiles = {**STANDS, "may_compile": True}
    monkeypatch.setattr(engine, "state", lambda *_: {"state": "ready"} if seconds[0] > 1500 else compiles)
    probe.apply(SPEC, {"state": "starting"})


DRAINS = {"state": "draining", "detail": "another configuration takes its place"}


@pytest.mark.parametrize(
    ("drains", "gives_up"),
    [(0, 300), (60, 360), (110, 410), (200, 420), (9999, 420)],
    ids=["at once", "a while", "nearly all that it may", "longer than it may", "for ever"],
)
def test_what_the_engine_before_took_to_end_is_not_the_next_ones_time(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], drains: float, gives_up: float
) -> None:
    """Up to what an engine may take to end at all."""
    loads = {"state": "starting", "detail": "its engine is starting"}
    monkeypatch.setattr(engine, "state", lambda *_: DRAINS if seconds[0] < drains else loads)
    with pytest.raises(Blocked, match="did not answer within 300 s"):
        probe.apply({**SPEC, "deadline_s": 300, "stop_timeout_s": 120}, {"state": "draining"})
    assert abs(seconds[0] - gives_up) <= 10  # it looks every ten


def test_one_that_serves_after_it_drained_is_ready(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    states = [*[DRAINS] * 8, *[{"state": "starting", "detail": ""}] * 25, {"state": "ready", "detail": ""}]
    monkeypatch.setattr(engine, "state", lambda *_: states.pop(0))
    spec = {**SPEC, "deadline_s": 300, "stop_timeout_s": 120}
    assert probe.apply(spec, {"state": "draining"})["state"] == "ready"
    assert seconds[0] > 300


def dying(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """It ends once and again, and serves after three minutes."""
    unit = {"ActiveState": "activating", "SubState": "auto-restart"}
    monkeypatch.setattr(probe, "unit_state", lambda _: dict(unit, NRestarts=str(int(now[0] // 30))))
    monkeypatch.setattr(engine, "first_error", lambda _: "")
    said = {"detail": "its engine ended with code 1; its unit comes back"}
    monkeypatch.setattr(engine, "state", lambda *_: dict(said, state="ready" if now[0] > 180 else "failed"))


def test_an_engine_that_heals_itself_may_die_again(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float]
) -> None:
    dying(monkeypatch, seconds)
    probe.apply(SPEC, {"state": "failed"})
    assert seconds[0] > 180


def test_one_that_this_run_started_may_not(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    dying(monkeypatch, seconds)
    probe.unit.STARTED.add("u")
    with pytest.raises(Blocked, match="its engine ended at start"):
        probe.apply(SPEC, {"state": "starting"})


def test_progress_is_what_the_log_says(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    said: list[str] = []
    monkeypatch.setattr(probe, "progress", said.append)
    shards = "Loading safetensors checkpoint shards:  34% Completed | 17/50 [00:20<00:39,  1.2s/it]\n\n"
    monkeypatch.setattr(engine, "log_tail", lambda *_: f"before\n{shards}" if seconds[0] else "")
    starting(monkeypatch, seconds, lambda _: "its engine is starting")
    with pytest.raises(Blocked, match="did not answer"):
        probe.apply(dict(SPEC, deadline_s=150), {"state": "starting"})
    assert said == [
        f"{stalled}loading weights 34 %" for stalled in ("", "stalled for 60 s: ", "stalled for 120 s: ")
    ]
