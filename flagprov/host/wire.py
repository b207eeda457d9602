"""JSON lines to the controller, and the one exception that carries a problem there."""

from __future__ import annotations

import json
import sys


class Blocked(Exception):
    """This host cannot be brought there; says why and the way out."""

    def __init__(
        self, step: str, message: str, remedy: str = "", log: str = "", replica: str | None = None
    ) -> None:
        super().__init__(message)
        self.step = step
        self.message = message
        self.remedy = remedy
        self.log = log
        self.replica = replica

    def wire(self) -> dict[str, object]:
        return {
            "step": self.step,
            "message": self.message,
            "remedy": self.remedy,
            "log": self.log,
            "replica": self.replica,
        }


class Newer(Blocked):
    """State of a newer flagprov lies here."""

    def wire(self) -> dict[str, object]:
        return dict(super().wire(), kind="version")


def send(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Step:
    """What is being done now; progress belongs to it."""

    stage = ""
    name = ""
    replica = None  # type: str | None


def started(stage: str, name: str, text: str, replica: str | None) -> None:
    Step.stage, Step.name, Step.replica = stage, name, replica
    event("started", stage, name, text, replica)


def progress(text: str, data: dict[str, object] | None = None) -> None:
    """How far the step is that was started last."""
    event("progress", Step.stage, Step.name, text, Step.replica, data)


def done(seconds: float) -> None:
    event("done", Step.stage, Step.name, "", Step.replica, {"seconds": round(seconds, 3)})


def failed(message: str) -> None:
    event("failed", Step.stage, Step.name, message, Step.replica)


def event(
    kind: str,
    stage: str,
    step: str,
    text: str = "",
    replica: str | None = None,
    data: dict[str, object] | None = None,
) -> None:
    """Say what happens: kind is started, progress, done, failed or note."""
    send(
        {
            "event": {
                "kind": kind,
                "stage": stage,
                "step": step,
                "text": text,
                "replica": replica,
                "data": data or {},
            }
        }
    )
