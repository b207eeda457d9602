"""Fakes for the tests of the command line: they record what they were asked and give plain values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import report_values as values

import flagprov
from flagprov.models.event import Event
from flagprov.preparation import Request
from flagprov.rollout.options import Options


class FakePipeline(ModuleType):
    """As flagprov.pipeline and flagprov.asking, with answers to set."""

    Request = Request
    DEFAULT = Options()

    def __init__(self) -> None:
        super().__init__("flagprov.pipeline")
        self.calls: list[tuple[str, Request]] = []
        self.outcome: Any = values.outcome()
        self.found: Any = values.plan()
        self.error: BaseException | None = None
        self.error_after: BaseException | None = None  # after the approval
        self.approved: bool | None = None
        self.more: dict[str, Any] = {}
        self.said: list[str] = ["INFO one\n", "INFO \x1b[31mtwo\x1b[0m\n"]

    def _begin(self, verb: str, request: Request) -> None:
        self.calls.append((verb, request))
        if self.error:
            raise self.error

    def _change(self, verb: str, request: Request, approve: Any, on_event: Any) -> Any:
        self._begin(verb, request)
        on_event(Event(0.0, "lab1", "started", "image", "pull vllm-cpu"))
        self.approved = approve(self.found)
        if self.error_after:
            raise self.error_after
        return self.outcome if self.approved else None

    def plan(self, request: Request, on_event: Any, options: Options, verb: str) -> Any:
        self.more = {"options": options, "verb": verb}
        self._begin("plan", request)
        on_event(Event(0.0, "lab1", "started", "look", "look"))
        return self.found

    def deploy(
        self,
        request: Request,
        *,
        approve: Any,
        on_event: Any,
        options: Options = DEFAULT,
        verb: str = "deploy",
        resumed: Any = None,
    ) -> Any:
        self.more = {"options": options, "verb": verb}
        return self._change("deploy", request, approve, on_event)

    def stop(self, request: Request, *, approve: Any, on_event: Any) -> Any:
        return self._change("stop", request, approve, on_event)

    def teardown(self, request: Request, *, weights: bool, approve: Any, on_event: Any) -> Any:
        self.more["weights"] = weights
        return self._change("teardown", request, approve, on_event)

    def status(self, request: Request) -> Any:
        self._begin("status", request)
        return self.outcome

    def logs(self, request: Request, target: str, follow: bool, lines: int) -> Iterator[str]:
        self._begin("logs", request)
        self.more = {"target": target, "follow": follow, "lines": lines}
        yield from self.said
        if follow:
            raise KeyboardInterrupt


def put(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str = "") -> None:
    """Let `from flagprov import NAME` find the fake."""
    name = name or module.__name__
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(flagprov, name.rpartition(".")[2], module, raising=False)


class FakeInput(ModuleType):
    """As flagprov.preparation and flagprov.fleet: reads what a user wrote, and may find it wrong."""

    Request = Request

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.error: Exception | None = None

    def prepare(self, request: Request) -> None:
        if self.error:
            raise self.error

    def load_fleet(self, inventory: Path, limit: str | None = None) -> None:
        if self.error:
            raise self.error
