"""The front process's side of the engine: sends requests, hands out tokens, counts for /metrics."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

END = None


class Front:
    """One engine process and the requests that run in it."""

    def __init__(self, orders: dict[str, Any], on_death: Callable[[int], None], workers: int = 1) -> None:
        self.orders = dict(orders)
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.queues: dict[int, queue.Queue[str | None]] = {}
        self.counters = {"prompt": 0, "generation": 0, "success": 0, "answered": 0}
        self.cache_usage = 0.0  # as the engine said last: one that hangs says nothing more
        self.on_death = on_death
        # The module's directory is not always on the path of a process started elsewhere.
        path = str(Path(__file__).resolve().parents[1])
        env = dict(os.environ, PYTHONPATH=path + os.pathsep + os.environ.get("PYTHONPATH", ""))
        env["STANDIN_WORKERS"] = str(workers)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vllm.engine", "VLLM::EngineCore"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, bufsize=1,
        )  # fmt: skip
        self.order({})
        threading.Thread(target=self._listen, daemon=True).start()

    def running(self) -> int:
        return len(self.queues)

    def order(self, orders: dict[str, Any]) -> None:
        self.orders.update(orders)
        self._send({"orders": self.orders})

    def well(self) -> None:
        self.orders.clear()
        self._send({"orders": {}})

    def generate(self, prompt: str, max_tokens: int) -> Iterator[str]:
        """Tokens as they come; ends early with ConnectionError when the engine is gone."""
        number = next(self.numbers)
        tokens: queue.Queue[str | None] = queue.Queue()
        self.queues[number] = tokens
        try:
            self._send({"id": number, "prompt": prompt, "max_tokens": max_tokens})
            for position in range(max_tokens):
                token = tokens.get()
                if token is END:
                    raise ConnectionError("EngineCore encountered an issue and is gone")
                if not position:  # as vLLM does, not when the request comes
                    self.counters["prompt"] += len(prompt.split())
                self.counters["generation"] += 1
                self.cache_usage = min(1.0, self.running() / 100)
                yield token
            self.counters["success"] += 1
            self.cache_usage = min(1.0, (self.running() - 1) / 100)
        finally:
            del self.queues[number]
            self._send({"abort": number})

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        with self.lock:
            try:
                self.process.stdin.write(json.dumps(message) + "\n")
                self.process.stdin.flush()
            except OSError:
                pass

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            message = json.loads(line)
            tokens = self.queues.get(message["id"])
            if tokens:
                tokens.put(message["token"])
        for tokens in list(self.queues.values()):
            tokens.put(END)
        self.on_death(self.process.wait())
