"""What a user asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
