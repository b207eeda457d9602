"""The ordered steps between observed and desired: batches -> replicas -> hosts -> steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flagprov.models.observed import Change, Problem

SCHEMA_VERSION = 1
START_FIRST, STOP_FIRST = "start before stop", "stop before start"


@dataclass(frozen=True, slots=True)
class HostPlan:
    host: str
    steps: tuple[Change, ...]
    digest: str  # of the look; converge is refused when the host has moved
    pending: str = ""  # what is decided only after an earlier stage


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    replica: str
    hosts: tuple[HostPlan, ...]
    cost: str  # the dearest of its steps: nothing, restart, new container, re-provision, reboot
    order: str = ""  # of what serves and is changed, where that was asked for: START_FIRST or STOP_FIRST
    order_reason: str = ""  # the free slot, or why there is none


@dataclass(frozen=True, slots=True)
class Batch:
    replicas: tuple[ReplicaPlan, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    host: str
    problem: Problem
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    verb: str
    release: str
    batches: tuple[Batch, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    gateways: tuple[HostPlan, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def hosts(self) -> Iterator[HostPlan]:
        for batch in self.batches:
            for replica in batch.replicas:
                yield from replica.hosts

    @property
    def changes(self) -> int:
        return sum(len(host.steps) for host in (*self.hosts(), *self.gateways))
