"""Figures of a replica under a small load: what a gate compares before and after a change."""

from __future__ import annotations

import threading
import time

from flagprov.host import engine
from flagprov.host.http import NoAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKENS = 16
GOLDEN_TIMEOUT_S = 120.0


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Timed completions, several at once; an answer of no tokens, or none at all, is an error."""
    spec = request["probe"]
    if spec["readiness"] not in engine.PATHS:
        now = engine.state(spec)
        ready = now["state"] == "ready"
        errors = [] if ready else [now["detail"]]
        return {"seconds": [], "errors": errors, "texts": [], "tokens_per_s": 0.0, "golden": []}
    for _ in range(int(request.get("warm_up", 0))):
        try:
            engine.completion(spec, TOKENS, timeout=request["timeout_s"])
        except NoAnswer:
            break
    found = _load(spec, int(request["requests"]), int(request["concurrent"]), float(request["timeout_s"]))
    golden = request.get("golden")
    if golden:
        try:
            found["golden"] = [_greedy(spec, golden, prompt) for prompt in golden["prompts"]]
        except NoAnswer as error:
            found["errors"].append(str(error))
    return found


def _greedy(spec: dict[str, Any], golden: dict[str, Any], prompt: str) -> str:
    return str(engine.completion(spec, int(golden["tokens"]), GOLDEN_TIMEOUT_S, prompt)["text"])


def _load(spec: dict[str, Any], requests: int, concurrent: int, timeout_s: float) -> dict[str, Any]:
    waiting = list(range(requests))
    seconds: list[float] = []
    errors: list[str] = []
    texts: dict[int, str] = {}
    guard = threading.Lock()

    def work() -> None:
        while True:
            with guard:
                if not waiting:
                    return
                number = waiting.pop()
            try:
                proof = engine.completion(spec, TOKENS, timeout=timeout_s)
            except NoAnswer as error:
                with guard:
                    errors.append(str(error))
                continue
            with guard:
                seconds.append(proof["seconds"])
                texts[number] = proof["text"]

    begun = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(max(1, concurrent))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = max(time.monotonic() - begun, 1e-6)
    return {
        "seconds": sorted(seconds),
        "errors": errors,
        "texts": [texts[number] for number in sorted(texts)],
        "tokens_per_s": round(len(seconds) * TOKENS / took, 3),
        "golden": [],
    }
