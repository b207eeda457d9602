"""What a user asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flagprov.models.observed import Running


@dataclass(frozen=True, slots=True)
class Handover:
    """One host in the place of another."""

    old: str
    new: str
    replicas: tuple[Running, ...]  # all of one release, as they are to be

    @property
    def release(self) -> str:
        return self.replicas[0].release


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says, before anything of it is read."""

    inventory: Path
    release: str | None = None
    limit: str | None = None
    sets: tuple[str, ...] = ()
    force: tuple[str, ...] = ()  # checks whose failures do not leave a host out
    allow_disruption: bool = False  # provisioning may restart docker under running containers
    allow_reboot: bool = False  # and reboot hosts
    reach: bool = True  # False: somebody else connects to the hosts
    handover: Handover | None = None
