"""When the gateway's agent puts a replica out, and when it never does."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.host import engine, gateway_agent
from flagprov.host.gateway_agent import Verdict
from flagprov.host.http import Late, NoAnswer

SPEC = {
    "replica": "r-0",
    "address": "192.0.2.1",
    "port": 9010,
    "model": "m",
    "readiness": "chat",
    "path": "/health",
}
T = 10.0


def counters(running: int, tokens: int, waiting: int = 0, cache: float = 0.0) -> dict[str, float]:
    return {
        "kv_cache_usage_perc": cache,
        "num_requests_running": running,
        "num_requests_waiting": waiting,
        "prompt_tokens_total": 5.0,
        "generation_tokens_total": float(tokens),
    }


@pytest.fixture
def verdict() -> Verdict:
    return Verdict(SPEC, T)


def serving(verdict: Verdict) -> Verdict:
    verdict.state, verdict.detail = "up", ""
    verdict.scraped(counters(0, 100), 0.0)
    return verdict


def test_nothing_known_says_nothing(verdict: Verdict) -> None:
    assert verdict.said() == "100%"


def test_an_idle_replica_proves_itself_now_and_then(verdict: Verdict) -> None:
    """An engine that got stuck at its first request may never count it."""
    assert verdict.scraped(counters(0, 0), 0.0)
    assert not serving(verdict).scraped(counters(0, 100), 1.0)
    assert verdict.scraped(counters(0, 100), gateway_agent.PROVE_S)
    assert not verdict.scraped(counters(0, 104), gateway_agent.PROVE_S + 1)
    assert verdict.said() == "up"


@pytest.mark.parametrize(("tokens", "said"), [(100, "down"), (107, "up")], ids=["stuck", "a burst came"])
def test_a_late_completion_is_no_proof_while_tokens_move(
    verdict: Verdict, monkeypatch: pytest.MonkeyPatch, tokens: int, said: str
) -> None:
    def late(*_: Any, **__: Any) -> dict[str, Any]:
        raise Late("no answer within 10 s")

    monkeypatch.setattr(engine, "completion", late)
    monkeypatch.setattr(engine, "counters", lambda *_: counters(9, tokens))
    serving(verdict).prove()
    assert verdict.said() == said


def test_requests_without_a_token_for_so_long_are_a_hung_engine(verdict: Verdict) -> None:
    serving(verdict)
    for second in range(1, int(T)):
        verdict.scraped(counters(3, 100), float(second))
        assert verdict.said() == "up", second
    verdict.scraped(counters(3, 100), T + 1)
    assert verdict.said() == "down"
    assert "hung" in verdict.detail


def test_waiting_requests_that_nobody_takes_are_one_too(verdict: Verdict) -> None:
    serving(verdict)
    verdict.scraped(counters(0, 100, waiting=4), 1.0)
    verdict.scraped(counters(0, 100, waiting=4), T + 2)
    assert verdict.said() == "down"


def test_a_busy_replica_stays_however_slow(verdict: Verdict) -> None:
    serving(verdict)
    for step in range(20):
        verdict.scraped(counters(200, 101 + step, waiting=900), step * (T - 1))
        assert verdict.said() == "up"


def test_one_that_reads_a_long_prompt_stays(verdict: Verdict) -> None:
    serving(verdict)
    for step in range(1, 9):
        verdict.scraped(counters(1, 100, cache=step / 10), step * (T - 1))
        assert verdict.said() == "up"


def test_what_hung_comes_back_when_its_tokens_move(verdict: Verdict) -> None:
    serving(verdict)
    verdict.scraped(counters(3, 100), 1.0)
    verdict.scraped(counters(3, 100), T + 2)
    verdict.scraped(counters(3, 101), T + 3)
    assert verdict.said() == "up"


def test_what_was_started_anew_has_to_prove_itself(verdict: Verdict) -> None:
    assert serving(verdict).scraped(counters(0, 0), 1.0)
    assert verdict.said() == "down"


def test_a_port_that_nobody_listens_on_is_out_at_once(verdict: Verdict) -> None:
    serving(verdict).refused("nothing listens on port 9010", at_once=True)
    assert verdict.said() == "down"


def test_one_late_answer_is_no_reason(verdict: Verdict) -> None:
    serving(verdict)
    verdict.refused("no answer within 5 s", at_once=False)
    verdict.refused("no answer within 5 s", at_once=False)
    assert verdict.said() == "up"
    verdict.scraped(counters(1, 101), 12.0)
    for _ in range(gateway_agent.SILENT):
        verdict.refused("no answer within 5 s", at_once=False)
    assert verdict.said() == "down"


def test_it_is_let_in_by_a_real_completion(verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: Any, **__: Any) -> dict[str, Any]:
        return {"text": "hello"}

    def fails(*_: Any, **__: Any) -> dict[str, Any]:
        raise NoAnswer("HTTP 500")

    monkeypatch.setattr(engine, "completion", fails)
    verdict.prove()
    assert (verdict.said(), "HTTP 500" in verdict.detail) == ("down", True)
    monkeypatch.setattr(engine, "completion", answers)
    verdict.prove()
    assert verdict.said() == "up"


def test_the_file_of_backends_says_whom_to_watch() -> None:
    server = {
        "address": "192.0.2.1",
        "port": 9010,
        "model": "m",
        "readiness": "chat",
        "path": "/health",
        "state": "in",
    }
    found = gateway_agent.specs({"releases": {"r": {"servers": {"r-0": server}}}})
    assert found == {"r-0": SPEC}
