"""What should be: resources, ordered by stage, for each host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Stage(IntEnum):
    """In this order, never back."""

    PROVISION = 0
    IMAGE = 1
    WEIGHTS = 2
    CONFIG = 3
    SERVE = 4
    VERIFY = 5

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Node:
    """One host of a replica that spans several: where the others reach it."""

    host: str
    address: str
    interface: str
    host_key: str = ""  # public, of the host's own sshd; empty where it has none of ours to take


def container_name(instance: str) -> str:
    return f"flagprov-{instance}"


def unit_name(instance: str) -> str:
    return f"flagprov@{instance}.service"


@dataclass(frozen=True, slots=True)
class Replica:
    """One serving instance: named devices on one host, or on a group of hosts (first is the head)."""

    name: str
    release: str
    chip: str
    hosts: tuple[str, ...]
    devices: tuple[int, ...]  # the same numbers on every host of the replica
    port: int
    nodes: tuple[Node, ...] = ()  # in the order of hosts; empty on one host
    slot: str = ""  # a suffix, where it is in the second of its two slots (`host/slots.py`)

    @property
    def instance(self) -> str:
        """What its container, its unit and their folder are called by; all else has the replica's name."""
        return self.name + self.slot


@dataclass(frozen=True, slots=True)
class Refusal:
    """A host that placement could not use, and why."""

    host: str
    message: str
    remedy: str = ""
    no_device: bool = False  # a driver that provisioning brings may change that


@dataclass(frozen=True, slots=True)
class Placement:
    replicas: tuple[Replica, ...]
    refusals: tuple[Refusal, ...] = ()

    def on(self, host: str) -> tuple[Replica, ...]:
        return tuple(replica for replica in self.replicas if host in replica.hosts)


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing a host must have; `kind` names the module of `flagprov/host/resources/` that knows it."""

    kind: str
    name: str
    stage: Stage
    spec: Mapping[str, Any]  # JSON values only
    replica: str | None = None

    def wire(self) -> dict[str, Any]:
        """As the host program reads it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "stage": self.stage.label,
            "replica": self.replica,
            "spec": dict(self.spec),
        }


@dataclass(frozen=True, slots=True)
class HostDesired:
    host: str
    resources: tuple[Resource, ...]
    pending: str = ""  # why later stages are not known yet, e.g. the image was never probed
