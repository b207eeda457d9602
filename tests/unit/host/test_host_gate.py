"""The load of a gate: streamed and plain, and no longer than an engine that hangs deserves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flagprov.host import engine, gate
from flagprov.host.http import NoAnswer

SPEC = {"readiness": "chat", "model": "m", "address": "127.0.0.1", "port": 1}
ASKED = {
    "probe": SPEC, "requests": 4, "concurrent": 2, "timeout_s": 2.0, "warm_up": 1, "warm_up_timeout_s": 300.0,
}  # fmt: skip


def test_every_other_completion_is_streamed_and_the_warm_up_is_neither_timed_nor_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, float]] = []

    def answer(how: str, seconds: float) -> Any:
        def one(spec: Any, tokens: int, timeout: float) -> dict[str, Any]:
            asked.append((how, timeout))
            return {"text": how, "seconds": 9.0 if timeout > 2 else seconds}

        return one

    monkeypatch.setattr(engine, "completion", answer("plain", 0.1))
    monkeypatch.setattr(gate, "streamed", answer("streamed", 0.2))
    found = gate.measure(ASKED)
    assert asked[:2] == [("plain", 300.0)] * 2  # as many at once as will be measured
    assert sorted(asked[2:]) == [("plain", 2.0)] * 2 + [("streamed", 2.0)] * 2
    assert found["seconds"] == [0.1, 0.1, 0.2, 0.2]
    assert found["warm_up"] == [9.0, 9.0]
    assert found["errors"] == []


def test_a_warm_up_that_fails_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NoAnswer("HTTP 500")

    monkeypatch.setattr(engine, "completion", fail)
    assert gate.measure(ASKED)["errors"] == ["at warm-up: HTTP 500"] * 2


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An engine whose requests end only once the gate has looked at its counters so many times."""
    over = threading.Event()
    looks = [0, 10**9]

    def hang(*_: Any, **__: Any) -> dict[str, Any]:
        over.wait(60)
        return {"text": "", "seconds": 60.0}

    def counters(*_: Any) -> dict[str, float]:
        looks[0] += 1
        if looks[0] > looks[1]:
            over.set()
        return {"num_requests_running": 1.0}

    monkeypatch.setattr(engine, "completion", hang)
    monkeypatch.setattr(gate, "streamed", hang)
    monkeypatch.setattr(engine, "counters", counters)
    monkeypatch.setattr(gate, "LIMIT_S", 0.01)
    monkeypatch.setattr(gate, "LOOK_S", 0.01)
    yield looks
    over.set()


def test_an_engine_that_hangs_is_not_waited_for(hanging: list[int]) -> None:
    found = gate.measure(dict(ASKED, warm_up=0))
    assert "it hangs: 1 requests at hand and no token" in found["errors"][0]


def test_a_warm_up_may_stand_still_as_long_as_it_may_take(hanging: list[int]) -> None:
    found = gate.measure(dict(ASKED, warm_up_timeout_s=0.05))
    assert "at warm-up: it hangs: 1 requests at hand and no token" in found["errors"][0]
    hanging[:] = [0, 5]  # five looks are more than the limit of what is measured
    assert gate.measure(ASKED)["errors"] == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            'data: {"choices": [{"delta": {"content": "a"}}, {"delta": {}}]}\n\ndata: [DONE]\n',
            "a",
        ),
        ('1f\r\ndata: {"choices": [{"text": "a"}]}\n\n\r\n6\r\ndata: [DONE]\n\n', "a"),
        ('data: {"choices": []}\n\ndata: [DONE]\n', ""),
        ('data: {"choices": [{"text": "a"}]}\n\n', None),
        ("<html>", None),
        ('data: {"error": {"message": "x"}}\n\ndata: [DONE]\n', None),
        ("data: 1\n\ndata: [DONE]\n", None),
    ],
)
def test_a_stream_is_whole_or_an_error(monkeypatch: pytest.MonkeyPatch, body: str, text: str | None) -> None:
    monkeypatch.setattr(gate, "http", lambda *_: (200, body.encode()))
    if text is None:
        with pytest.raises(NoAnswer):
            gate.streamed(SPEC, 8, 1.0)
    else:
        assert gate.streamed(SPEC, 8, 1.0)["text"] == text
