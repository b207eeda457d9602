"""`container_profile: least`: what a container needs, in place of the card's privileges; pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from flagprov.models.chip import Chip
from flagprov.models.release import Container, Mount, Variant
from flagprov.report.text import names

SHM = "32g"  # where the card shares the host's


def least(variant: Variant, weights: str, chip: Chip) -> Variant:
    """The variant without privileges; `weights` is their path inside the container."""
    container = variant.container
    grants = (chip.least, chip.least.several_nodes) if variant.nodes > 1 else (chip.least,)
    devices = tuple(path for grant in grants for path in grant.devices)
    ulimits = dict(container.ulimits)
    if any("IPC_LOCK" in grant.cap_add for grant in grants):
        ulimits["memlock"] = "-1"  # network cards reach into locked memory
    changes = {
        "privileged": False,
        "ipc": "private",
        "uts": "private",
        "shm_size": container.shm_size or SHM,
        "ulimits": ulimits,
        "security_opt": ("no-new-privileges",),
        "cap_drop": ("ALL",),
        "cap_add": tuple(dict.fromkeys(name for grant in grants for name in grant.cap_add)),
        "devices": tuple(Mount(source=path, target=path, optional=True) for path in devices),
        "mounts": _mounts(container, weights),
    }
    return variant.model_copy(update={"container": container.model_copy(update=changes)})


def notes(hosts: Sequence[str]) -> list[str]:
    """What a plan says where containers are not the card's."""
    where = f"container_profile least on {names(hosts)}"
    return [f"{where}: what the chip needs, in place of the card's privileges"] if hosts else []


def _mounts(container: Container, weights: str) -> tuple[Mount, ...]:
    """The weights and the host's settings, to be read; the chip's own are added for every container."""
    path = PurePosixPath(weights)
    kept = [
        mount
        for mount in container.mounts
        if path.is_relative_to(mount.target) or PurePosixPath(mount.target).is_relative_to("/etc")
    ]
    return tuple(mount.model_copy(update={"read_only": True}) for mount in kept)
