"""Figures of a replica under a small load: what a gate compares before and after a change."""

from __future__ import annotations

import json
import threading
import time

from flagprov.host import engine
from flagprov.host.http import NoAnswer
from flagprov.host.http import request as http
from flagprov.host.standstill import LIMIT_S, Standstill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKENS = 16
GOLDEN_TIMEOUT_S = 120.0
LOOK_S = 0.5


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """A warm-up, then timed completions, several at once and every other one streamed.

    An answer of no tokens, or none at all, is an error; an engine that hangs under the timed ones is left
    alone at once. Kernels of their batch are compiled in the warm-up, so that one has its own patience.
    """
    spec = request["probe"]
    found: dict[str, Any] = {"seconds": [], "errors": [], "texts": [], "tokens_per_s": 0.0, "golden": []}
    if spec["readiness"] not in engine.PATHS:
        now = engine.state(spec)
        return dict(found, errors=[] if now["state"] == "ready" else [now["detail"]])
    patience = float(request["warm_up_timeout_s"])
    concurrent = int(request["concurrent"])
    warm_up = _Load(spec, int(request.get("warm_up", 0)) * concurrent, concurrent, patience, patience)
    if warm_up.errors:
        return dict(found, errors=["at warm-up: %s" % error for error in warm_up.errors])
    load = _Load(spec, int(request["requests"]), concurrent, float(request["timeout_s"]), LIMIT_S, True)
    found.update(
        seconds=sorted(load.seconds),
        errors=load.errors,
        texts=[load.texts[number] for number in sorted(load.texts)],
        tokens_per_s=round(len(load.seconds) * TOKENS / load.took, 3),
        warm_up=warm_up.seconds,
    )
    golden = request.get("golden")
    if golden and not load.errors:
        try:
            found["golden"] = [_greedy(spec, golden, prompt) for prompt in golden["prompts"]]
        except NoAnswer as error:
            found["golden_error"] = str(error)
    return found


def _greedy(spec: dict[str, Any], golden: dict[str, Any], prompt: str) -> str:
    return str(engine.completion(spec, int(golden["tokens"]), GOLDEN_TIMEOUT_S, prompt)["text"])


class _Load:
    """So many completions, so many of them at once; its fields are what came of them."""

    def __init__(
        self,
        spec: dict[str, Any],
        requests: int,
        concurrent: int,
        timeout_s: float,
        standstill_s: float,
        streams: bool = False,
    ) -> None:
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.texts: dict[int, str] = {}
        self._spec, self._timeout_s, self._streams = spec, timeout_s, streams
        self._waiting = list(range(requests))
        self._guard = threading.Lock()
        begun = time.monotonic()
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, concurrent))]
        for thread in threads:
            thread.start()
        still = Standstill()
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_S)
                counters = engine.counters(spec["address"], spec["port"]) if thread.is_alive() else {}
                if counters:
                    still.saw(counters, time.monotonic(), ours=1)
                if counters and still.seconds >= standstill_s:
                    self.errors.append("it hangs: %s" % still.words())
                    return
        self.took = max(time.monotonic() - begun, 1e-6)

    took = 1.0

    def _work(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    return
                number = self._waiting.pop()
            try:
                ask = streamed if self._streams and number % 2 else engine.completion
                proof = ask(self._spec, TOKENS, timeout=self._timeout_s)
            except NoAnswer as error:
                with self._guard:
                    self.errors.append(str(error))
                continue
            with self._guard:
                self.seconds.append(proof["seconds"])
                self.texts[number] = proof["text"]


def streamed(spec: dict[str, Any], tokens: int, timeout: float) -> dict[str, Any]:
    """One timed completion in pieces; raises NoAnswer, also where the stream is cut."""
    body: dict[str, Any] = {"model": spec["model"], "max_tokens": tokens, "temperature": 0, "stream": True}
    if spec["readiness"] == "chat":
        body["messages"] = [{"role": "user", "content": "Say hello."}]
    else:
        body["prompt"] = "Say hello."
    begun = time.monotonic()
    code, answer = http(spec["address"], spec["port"], engine.PATHS[spec["readiness"]], body, timeout)
    seconds = time.monotonic() - begun
    if code != 200:
        raise NoAnswer("HTTP %d %s" % (code, answer[:200].decode(errors="replace")))
    lines = answer.decode(errors="replace").splitlines()
    events = [line[len("data:") :].strip() for line in lines if line.startswith("data:")]
    if "[DONE]" not in events:
        raise NoAnswer("a stream was cut after %d pieces" % len(events))
    try:
        pieces = [_piece(json.loads(event)) for event in events if event != "[DONE]"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoAnswer("a stream is none: %s" % events[0][:200]) from None
    return {"text": "".join(pieces), "seconds": round(seconds, 3)}


def _piece(event: dict[str, Any]) -> str:
    if event.get("error"):
        raise NoAnswer("a stream ends with an error: %s" % str(event["error"])[:200])
    found = ""
    for choice in event["choices"]:
        said = choice.get("delta") or choice
        found += str(said.get("content") or said.get("reasoning_content") or said.get("text") or "")
    return found
