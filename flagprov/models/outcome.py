"""What happened, per host and replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1
HostState = Literal["changed", "unchanged", "failed", "unreachable"]
ReplicaState = Literal[
    "ready", "starting", "draining", "degraded", "hung", "failed", "stopped", "unreachable", "absent"
]


@dataclass(frozen=True, slots=True)
class HostOutcome:
    host: str
    state: HostState
    changes: int = 0
    step: str = ""  # where it failed
    message: str = ""
    remedy: str = ""
    log: str = ""  # last lines of the engine, where it died
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage


@dataclass(frozen=True, slots=True)
class ProcessOperators:
    """What one process of an engine computes with; `on` where it has proved it."""

    pid: int
    process: str
    flaggems: Literal["on", "off", "failed"]
    version: str = ""
    operators: int = 0  # that were replaced
    error: str = ""


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """What a rank's processes compute with."""

    asked: str  # flaggems or native
    on: bool  # whether it was to be on: not where the image cannot have it
    reason: str = ""  # why not, where it was asked for
    processes: tuple[ProcessOperators, ...] = ()


@dataclass(frozen=True, slots=True)
class RankStatus:
    host: str
    rank: int
    state: str
    operators: OperatorStatus | None = None


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    name: str
    release: str
    chip: str
    hosts: tuple[str, ...]
    endpoint: str
    state: ReplicaState
    model: str = ""
    engine_version: str = ""
    ranks: tuple[RankStatus, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """The proof that an endpoint answers."""

    host: str
    replica: str
    endpoint: str
    model: str
    request: Mapping[str, Any]
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GatewayServer:
    """A replica as a gateway treats it: in, out, draining, or down where it was put out by itself."""

    replica: str
    release: str
    state: str
    sessions: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    host: str
    url: str
    state: str  # serving, stopped, absent, unreachable, failed
    servers: tuple[GatewayServer, ...] = ()
    message: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    verb: str
    release: str
    hosts: tuple[HostOutcome, ...]
    replicas: tuple[ReplicaStatus, ...] = ()
    completions: tuple[Completion, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    run_directory: str = ""
    gateways: tuple[GatewayStatus, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def succeeded(self) -> bool:
        return all(host.state in ("changed", "unchanged") for host in self.hosts) and not any(
            gateway.message for gateway in self.gateways
        )

    @property
    def changes(self) -> int:
        return sum(host.changes for host in self.hosts)
