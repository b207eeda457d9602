"""Ready, hung or degraded: by counters that a scrape shows, and by a completion of an idle engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flagprov.host import engine
from flagprov.host.http import Late, NoAnswer
from flagprov.host.standstill import Standstill

SPEC = {"readiness": "chat", "model": "m", "address": "127.0.0.1", "port": 1}


def scrape(running: int, tokens: int, waiting: int = 0, cache: float = 0.0) -> dict[str, float]:
    return {
        "kv_cache_usage_perc": cache,
        "num_requests_running": running,
        "num_requests_waiting": waiting,
        "prompt_tokens_total": 5.0,
        "generation_tokens_total": float(tokens),
    }


class Engine:
    """An engine in a time of its own: what its counters say at each second, and how a completion ends."""

    def __init__(self, counters: Callable[[float], dict[str, float]], error: NoAnswer | None = None) -> None:
        self.now = 0.0
        self.counters, self.error = counters, error

    def completion(self, spec: Any, tokens: int, timeout: float) -> dict[str, Any]:
        if isinstance(self.error, Late):
            self.now += timeout
        if self.error:
            raise self.error
        return {"text": "hello"}

    def state(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.setattr(engine.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(engine.time, "sleep", lambda s: setattr(self, "now", self.now + s))
        monkeypatch.setattr(engine, "counters", lambda *_: self.counters(self.now))
        monkeypatch.setattr(engine, "completion", self.completion)
        return engine._answering(SPEC, ["m"], engine.LIMIT_S)


LATE = Late("no answer within 15 s")


@pytest.mark.parametrize(
    ("counters", "error", "state"),
    [
        (lambda _: scrape(0, 7), None, "ready"),
        (lambda at: scrape(3, 7 + int(at)), None, "ready"),
        (lambda at: scrape(3, 7 + int(at // 14)), None, "ready"),
        (lambda at: scrape(1, 7, cache=0.1 * (at // 9)), None, "ready"),
        (lambda _: scrape(3, 7, cache=0.4), None, "hung"),
        (lambda _: scrape(0, 7, waiting=4), None, "hung"),
        (lambda at: scrape(0, 7, waiting=4 if at < 3 else 0), None, "ready"),
        (lambda at: scrape(3, 7) if at < 3 else {}, None, "ready"),
        (lambda at: scrape(9 if at else 0, 7 + int(at)), LATE, "ready"),
        (lambda _: scrape(0, 7), LATE, "hung"),
        (lambda _: {}, LATE, "degraded"),
        (lambda _: scrape(0, 7), NoAnswer("HTTP 500"), "degraded"),
    ],
    ids=[
        "idle, and answers",
        "busy",
        "slow: a token in 14 s",
        "a long prompt: no token counts before its last chunk, and its cache grows",
        "requests run, no token comes",
        "requests wait, and none is taken",
        "requests waited, and are gone",
        "counters that are not said any more judge nobody",
        "idle at the scrape, then a burst: a completion is late and tokens move",
        "a completion is late, and it does not even count it",
        "a completion is late, and it has no counters",
        "a completion fails",
    ],
)
def test_an_engine_is(
    monkeypatch: pytest.MonkeyPatch,
    counters: Callable[[float], dict[str, float]],
    error: NoAnswer | None,
    state: str,
) -> None:
    asked = Engine(counters, error)
    assert asked.state(monkeypatch)["state"] == state
    assert asked.now <= 2 * engine.LIMIT_S


def test_seconds_count_from_the_last_token_or_the_last_idle_moment() -> None:
    still = Standstill()
    seen = []
    for at, running, tokens in ((0, 2, 1), (7, 2, 2), (14, 2, 2), (20, 0, 2), (21, 1, 2), (25, 1, 2)):
        still.saw(scrape(running, tokens), at)
        seen.append((still.seconds, still.moved))
    assert seen == [(0, False), (0, True), (7, False), (0, False), (1, False), (5, False)]


def test_counters_that_begin_anew_are_no_progress() -> None:
    still = Standstill()
    still.saw(scrape(1, 9), 0)
    still.saw(scrape(1, 3), 1)
    assert (still.anew, still.moved) == (True, False)
    still.forget()
    still.saw(scrape(1, 1), 2)
    assert (still.anew, still.moved) == (False, False)


@pytest.mark.parametrize("name", ["kv_cache_usage_perc", "gpu_cache_usage_perc"])
def test_the_chunks_of_a_long_prompt_are_progress(name: str) -> None:
    """Both counters of tokens stand still until its first token is made."""
    still = Standstill()
    for at, used in ((0, 0.1), (14, 0.2), (28, 0.3)):
        body = f'vllm:num_requests_running{{engine="0"}} 1.0\nvllm:{name}{{engine="0"}} {used}\n'
        still.saw(engine.sums(body.encode()), at)
    assert (still.moved, still.seconds) == (True, 0)


SUCCESS = 'vllm:request_success_total{engine="0",finished_reason="%s"} %d.0\n'


@pytest.mark.parametrize(
    ("body", "may_compile"),
    [
        ("vllm:num_requests_running 1.0\n", True),
        ("vllm:num_requests_running 1.0\n" + SUCCESS % ("abort", 3) + SUCCESS % ("stop", 0), True),
        ("vllm:num_requests_running 1.0\n" + SUCCESS % ("abort", 3) + SUCCESS % ("length", 1), False),
        ("vllm:num_requests_running 0.0\n" + SUCCESS % ("length", 1), True),
    ],
    ids=["its first", "those before were cut", "one ended before", "it has taken none"],
)
def test_a_standstill_may_be_a_compile_until_a_completion_has_ended(
    monkeypatch: pytest.MonkeyPatch, body: str, may_compile: bool
) -> None:
    found = Engine(lambda _: engine.sums(body.encode()), LATE).state(monkeypatch)
    assert (found["state"], found["may_compile"]) == ("hung", may_compile)


def test_a_completion_has_the_time_that_the_caller_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(engine, "counters", lambda *_: {})
    monkeypatch.setattr(engine, "completion", lambda spec, tokens, timeout: given.append(timeout))
    engine._answering(SPEC, ["m"], 120)
    assert given == [120]
