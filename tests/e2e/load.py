"""A constant load of streaming and plain requests; what failed, and which streams were cut."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass
class Load:
    """Each client sends one request after another on a connection that it keeps; every other one streams."""

    url: str
    model: str
    clients: int = 6
    tokens: int = 40
    key: str = ""
    tls: ssl.SSLContext | None = None
    done: int = 0
    streamed: int = 0
    failed: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(i,)) for i in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        connection = self._connect()
        while not self._over.is_set():
            stream = number % 2 == 0
            number += 1
            try:
                problem = self._ask(connection, stream)
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
                connection.close()
                connection = self._connect()
            with self._guard:
                self.done += 1
                self.streamed += stream
                if problem:
                    (self.cut if "cut" in problem else self.failed).append(problem)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        place = urlsplit(self.url)
        assert place.hostname
        if place.scheme == "https":
            return http.client.HTTPSConnection(place.hostname, place.port, timeout=60, context=self.tls)
        return http.client.HTTPConnection(place.hostname, place.port, timeout=60)

    def _ask(self, connection: http.client.HTTPConnection, stream: bool) -> str:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.tokens,
            "stream": stream,
            "messages": [{"role": "user", "content": "Say something long."}],
        }
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            return f"HTTP {answer.status}: {answer.read()[:200]!r}"
        if not stream:
            used = json.loads(answer.read())["usage"]["completion_tokens"]
            return "" if used == self.tokens else f"{used} tokens instead of {self.tokens}"
        try:
            events = [line for line in answer.read().decode().splitlines() if line.startswith("data: ")]
        except http.client.HTTPException as error:
            connection.close()
            return f"cut: {error!r}"
        if events[-1:] != ["data: [DONE]"]:
            return f"cut after {len(events)} events"
        return ""
