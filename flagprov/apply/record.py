"""What a run leaves behind: a private directory with its plan, its events as they happen, and its outcome."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from flagprov.models.event import Event
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan
from flagprov.site import Site


class RunRecord:
    """Writes events before it passes them on, so that a killed run shows how far it came."""

    def __init__(self, site: Site, verb: str, plan: Plan, on_event: Callable[[Event], None]) -> None:
        self.directory = site.new_run(verb)
        self._on_event = on_event
        self._guard = threading.Lock()
        self._events: IO[str] = _private(self.directory / "events.jsonl").open("a", encoding="utf-8")
        self._write("plan.json", plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()

    def __call__(self, event: Event) -> None:
        """The run's on_event; hosts call it from their own threads."""
        with self._guard:
            if not self._events.closed:
                self._events.write(json.dumps(dataclasses.asdict(event)) + "\n")
                self._events.flush()
            self._on_event(event)

    def finish(self, outcome: Outcome) -> None:
        self._write("outcome.json", outcome)

    def _write(self, name: str, value: Any) -> None:
        _private(self.directory / name).write_text(
            json.dumps(dataclasses.asdict(value), indent=1) + "\n", encoding="utf-8"
        )


def _private(path: Path) -> Path:
    path.touch(mode=0o600)
    return path
