"""What a check found on a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from flagprov.models.observed import Problem

SCHEMA_VERSION = 1
FindingState = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    host: str
    state: FindingState
    message: str
    remedy: str = ""
    forced: bool = False  # overruled by --force


@dataclass(frozen=True, slots=True)
class Diagnosis:
    release: str
    findings: tuple[Finding, ...]
    silent: Sequence[tuple[str, Problem, bool]] = field(default_factory=tuple)  # host, why, unreachable
    schema_version: int = SCHEMA_VERSION

    @property
    def healthy(self) -> bool:
        return not self.silent and not any(f.state == "failed" and not f.forced for f in self.findings)
