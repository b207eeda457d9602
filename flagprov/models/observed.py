"""What is: a host's survey (facts, what runs there) and its look at desired resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

UP = ("running", "paused", "restarting")  # docker's words for containers that a restart would end


@dataclass(frozen=True, slots=True)
class Device:
    index: int
    name: str
    memory_mib: int | None
    processes: tuple[str, ...] = ()  # "command (pid N)" of each process on it
    uuid: str = ""
    used_mib: int | None = None
    health: str = "ok"  # in small letters, as the tool says
    card: int | None = None  # the card it is on, where cards have several
    phy_id: int | None = None  # its number in npu-smi's Phy-ID column, where the table has one
    logical: int | None = None  # its number for processes, where the tool tells it


@dataclass(frozen=True, slots=True)
class Running:
    """A replica of ours that a host has a container for, from the container's labels."""

    replica: str
    release: str
    chip: str
    hosts: tuple[str, ...]
    devices: tuple[int, ...]
    port: int
    state: str  # docker's: running, exited, created, ...
    slot: str = ""
    beside: Running | None = None  # a second container of it, in its other slot: a run was cut off, or works

    @property
    def instance(self) -> str:
        return self.replica + self.slot


def substitutes(running: Iterable[Running], records: Mapping[str, Any]) -> list[Running]:
    """What serves though the record of its replica says that the other one does, which is down."""
    slots = {name: (record.get("replica") or {}).get("slot", "") for name, record in records.items()}
    return [each for each in running if each.slot != slots.get(each.replica, each.slot)]


@dataclass(frozen=True, slots=True)
class Change:
    """What a resource needs: an action, and why."""

    kind: str
    name: str
    stage: str
    action: str  # create, update, start, restart, pull, wait, remove, ...
    reason: str
    replica: str | None = None
    cost: str = "nothing"  # nothing, restart, new container, re-provision, reboot


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a host cannot be brought there; it is left out and the others go on."""

    step: str
    message: str
    remedy: str = ""
    replica: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A host's answer to `look`: what would change; `digest` is over what would be done."""

    host: str
    digest: str
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)  # image digests found, endpoints, record


@dataclass(frozen=True, slots=True)
class Looked:
    """A look that came with a survey, at what was deployed last."""

    asked: str  # of the resources: `flagprov.host.history.asked`
    look: Look


@dataclass(frozen=True, slots=True)
class Survey:
    """A host as it is before anything is decided."""

    host: str
    arch: str
    os: str
    kernel: str
    cpus: int
    memory_mib: int
    docker_version: str | None
    provisioned: str | None  # fingerprint of the last provisioning, None where there was none
    devices: Mapping[str, tuple[Device, ...]]  # by tool: nvidia-smi, npu-smi, cpuinfo
    running: tuple[Running, ...]
    records: Mapping[str, Any] = field(default_factory=dict)  # replica -> record.json as it was deployed
    facts: Mapping[str, Any] = field(default_factory=dict)  # everything else, for `status` and `doctor`
    looked: Looked | None = None
