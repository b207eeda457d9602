"""What the stand-in says of itself, where the real engine's metrics are what is judged."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from flagprov.lab.standin.vllm.front import Front


@pytest.fixture
def front() -> Iterator[Front]:
    over = threading.Event()
    found = Front({}, lambda code: over.set())
    yield found
    found.stop()
    over.wait()
    assert found.process.stdin and found.process.stdout
    found.process.stdin.close()
    found.process.stdout.close()


def test_its_cache_fills_and_empties_with_its_requests(front: Front) -> None:
    tokens = front.generate("a prompt", 2)
    next(tokens)
    assert front.cache_usage > 0
    list(tokens)
    assert front.cache_usage == 0


def test_one_that_hangs_shows_no_change_whatever_is_asked(front: Front) -> None:
    def ask() -> None:
        with contextlib.suppress(ConnectionError):
            next(front.generate("a prompt", 2))

    front.order({"hang": True})
    asked = threading.Thread(target=ask, daemon=True)
    asked.start()
    while not front.running():
        asked.join(0.01)
    assert (front.cache_usage, front.counters["prompt"]) == (0, 0)
