"""What the stand-in says of itself, where the real engine's metrics are what is judged."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flagprov.lab import standin
from flagprov.lab.standin.vllm.front import Front

# A Python of its own: it imports itself as `vllm`.
AFTER_EACH = """
import json, sys
from vllm.engine import Engine
engine = Engine()
engine.take({"orders": json.loads(sys.argv[1])})
found = [engine.hangs()]
for number in (1, 2):
    engine.take({"id": number, "prompt": "p", "max_tokens": 1})
    found.append(engine.hangs())
print(json.dumps(found))
"""


class Process:
    """An engine process that makes all tokens at once, or none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.hangs = False
        self.said: queue.Queue[str | None] = queue.Queue()
        self.stdin = self
        self.stdout = iter(self.said.get, None)

    def write(self, line: str) -> None:
        asked = json.loads(line)
        for _ in range(0 if self.hangs else asked.get("max_tokens", 0)):
            self.said.put(json.dumps({"id": asked["id"], "token": "word "}))

    def flush(self) -> None:
        pass

    def wait(self) -> int:
        return 0


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    found = Process()
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: found)
    yield found
    found.said.put(None)


def test_its_cache_fills_and_empties_with_its_requests(process: Process) -> None:
    front = Front({}, lambda code: None)
    tokens = front.generate("a prompt", 2)
    next(tokens)
    next(tokens)
    assert front.cache_usage > 0
    list(tokens)
    assert front.cache_usage == 0


def test_one_that_hangs_shows_no_change_whatever_is_asked(process: Process) -> None:
    def ask() -> None:
        with contextlib.suppress(ConnectionError):
            next(front.generate("a prompt", 2))

    process.hangs = True
    front = Front({}, lambda code: None)
    asked = threading.Thread(target=ask, daemon=True)
    asked.start()
    while not front.running():
        asked.join(0.01)
    assert (front.cache_usage, front.counters["prompt"]) == (0, 0)


@pytest.mark.parametrize(
    ("orders", "hangs"),
    [
        ({}, [False, False, False]),
        ({"hang": True}, [True, True, True]),
        ({"hang_after": 1}, [False, False, True]),
    ],
)
def test_when_it_hangs(orders: dict[str, Any], hangs: list[bool]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_EACH, json.dumps(orders)],
        cwd=next(iter(standin.__path__)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == hangs
