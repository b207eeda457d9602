"""What a run leaves behind: a private directory with its plan, its events as they happen, and its outcome."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from flagprov.apply.lease import new_token
from flagprov.models.event import Event
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan
from flagprov.site import Site

EVENTS, OUTCOME, LEASE = "events.jsonl", "outcome.json", "lease.json"


class RunRecord:
    """Writes events before it passes them on, so that a killed run shows how far it came."""

    def __init__(
        self, site: Site, verb: str, plan: Plan, on_event: Callable[[Event], None], token: str = ""
    ) -> None:
        """`token`: the lease's, where a run that was killed is taken up."""
        self.directory = site.new_run(verb)
        self.token = token or new_token()
        self._on_event = on_event
        self._guard = threading.Lock()
        self._events: IO[str] = _private(self.directory / EVENTS).open("a", encoding="utf-8")
        fcntl.flock(self._events, fcntl.LOCK_EX)  # until this process ends, however it ends
        _write(self.directory / LEASE, {"token": self.token, "machine": socket.gethostname()})
        _write(self.directory / "plan.json", dataclasses.asdict(plan))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._events.close()

    def __call__(self, event: Event) -> None:
        """The run's on_event; hosts call it from their own threads."""
        with self._guard:
            if not self._events.closed:
                with suppress(OSError):  # a full disk here is no reason to leave hosts half-way
                    self._events.write(json.dumps(dataclasses.asdict(event)) + "\n")
                    self._events.flush()
            self._on_event(event)

    def finish(self, outcome: Outcome) -> None:
        finish(self.directory, outcome)


def finish(run: Path, outcome: Outcome) -> None:
    """From now on there is nothing of this run to take up."""
    _write(run / OUTCOME, dataclasses.asdict(outcome))


def ended(run: Path) -> bool:
    return (run / OUTCOME).exists()


def lives(run: Path) -> bool:
    """Whether the process that writes it is still there."""
    try:
        with (run / EVENTS).open(encoding="utf-8") as events:
            fcntl.flock(events, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def token_of(run: Path) -> str:
    """Of the lease that a run which was killed here still has on its hosts; empty where nobody can tell."""
    try:
        kept = json.loads((run / LEASE).read_text(encoding="utf-8"))
        return str(kept["token"]) if kept["machine"] == socket.gethostname() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write(path: Path, value: Any) -> None:
    _private(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _private(path: Path) -> Path:
    path.touch(mode=0o600)
    return path
