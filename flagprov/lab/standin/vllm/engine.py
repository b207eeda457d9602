"""The engine process: `python -m vllm.engine`, requests on standard input, tokens on standard output.

A process of its own, so that killing it or the front process looks as it does with the real one.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
import threading
import time
from typing import Any

from .workers import start

# fmt: off
WORDS = (
    "the", "a", "one", "host", "chip", "card", "rack", "fan", "cable", "switch", "serves", "holds", "moves",
    "reads", "writes", "keeps", "waits", "small", "large", "quiet", "fast", "slow", "blue", "green", "warm",
    "cold", "every", "no", "some", "this", "that", "with", "without", "over", "under", "beside", "and", "or",
)
# fmt: on
NONSENSE = "!"


def words_for(prompt: str, count: int) -> list[str]:
    """The same prompt always gives the same words."""
    digest = b""
    seed = prompt.encode("utf-8", "replace")
    while len(digest) < count:
        seed = hashlib.sha256(seed).digest()
        digest += seed
    return [WORDS[byte % len(WORDS)] for byte in digest[:count]]


class Engine:
    """Emits one token of each running request per step."""

    def __init__(self) -> None:
        self.orders: dict[str, Any] = {}
        self.running: list[dict[str, Any]] = []
        self.incoming: queue.Queue[Any] = queue.Queue()
        self.taken = 0

    def read(self) -> None:
        for line in sys.stdin:
            self.incoming.put(json.loads(line))

    def take(self, message: dict[str, Any]) -> None:
        if "orders" in message:
            self.orders = message["orders"]
            if self.orders.get("die"):
                os._exit(1)
        elif "abort" in message:
            self.running = [request for request in self.running if request["id"] != message["abort"]]
        else:
            message["words"] = words_for(message["prompt"], message["max_tokens"])
            self.running.append(message)
            self.taken += 1

    def hangs(self) -> bool:
        return bool(self.orders.get("hang")) or self.taken > self.orders.get("hang_after", self.taken)

    def step(self) -> None:
        for request in list(self.running):
            word = request["words"].pop(0)
            last = not request["words"]
            token = NONSENSE if self.orders.get("nonsense") else word + ("." if last else " ")
            sys.stdout.write(json.dumps({"id": request["id"], "token": token, "last": last}) + "\n")
            if last:
                self.running.remove(request)
        sys.stdout.flush()

    def run(self, workers: int) -> None:
        start(workers)
        # An engine whose front process dies lives on, as the real one's workers may.
        threading.Thread(target=self.read, daemon=True).start()
        while True:
            idle = not self.running or self.hangs()
            try:
                self.take(self.incoming.get(timeout=None if idle else 0.0001))
            except queue.Empty:
                self.step()
                time.sleep(1 / float(self.orders.get("tokens_per_s", 500)))


if __name__ == "__main__":
    Engine().run(int(os.environ.get("STANDIN_WORKERS", "1")))
