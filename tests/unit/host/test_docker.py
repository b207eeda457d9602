"""The Engine API: what dockerd says without being asked for it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from flagprov.host import docker


def answers(monkeypatch: pytest.MonkeyPatch, **said: str) -> list[str]:
    asked: list[str] = []

    def opened(method: str, path: str, *_: Any) -> io.BytesIO:
        asked.append(path)
        return io.BytesIO(said[path.strip("/")].replace("\n", "\r\n").encode())

    monkeypatch.setattr(docker, "_open", opened)
    return asked


def test_the_version_comes_with_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    head = "HTTP/1.0 200 OK\nApi-Version: 1.41\nServer: Docker/20.10.24+dfsg1 (linux)\n\nOK"
    asked = answers(monkeypatch, _ping=head)
    assert docker.version() == "20.10.24+dfsg1"
    assert asked == ["/_ping"]


@pytest.mark.parametrize("server", ["Libpod/4.3.1 (linux)", ""])
def test_another_engine_is_asked(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    ping = f"HTTP/1.0 200 OK\nServer: {server}\n\nOK"
    answers(monkeypatch, _ping=ping, version='HTTP/1.0 200 OK\n\n{"Version": "4.3.1"}')
    assert docker.version() == "4.3.1"
