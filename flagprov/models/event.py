"""What happens while a plan is applied; progress, journal and report only read these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EventKind = Literal["started", "progress", "done", "failed", "note"]


@dataclass(frozen=True, slots=True)
class Event:
    time: float  # seconds since the epoch, controller's clock
    host: str
    kind: EventKind
    stage: str
    step: str
    text: str = ""
    replica: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
