"""How a host gives containers its accelerators and their SDK: chip and variant fitted to that host; pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from flagprov.models.chip import Chip, ChipMount
from flagprov.models.fleet import Host
from flagprov.models.observed import Device
from flagprov.models.release import Mount, Variant


def fit_chip(chip: Chip, host: Host) -> Chip:
    """The chip's mounts and scripts as this host wants them."""
    changes: dict[str, object] = {}
    mounts = chip.mounts
    if chip.runtime and by_runtime(chip, host):
        mounts = chip.runtime.mounts
    if chip.host_sdk and host.cann == "host":
        path = (host.cann_path or chip.host_sdk.path).rstrip("/")
        parts = [posixpath.normpath(posixpath.join(path, part)) for part in (".", *chip.host_sdk.beside)]
        mounts += tuple(ChipMount(source=part, target=part, read_only=True) for part in parts)
        # Not the image's scripts, which could mix the two.
        changes["source"] = tuple(
            posixpath.normpath(posixpath.join(path, script)) for script in chip.host_sdk.source
        )
    if mounts != chip.mounts:
        changes["mounts"] = mounts
    return chip.model_copy(update=changes) if changes else chip


def fit_variant(variant: Variant, chip: Chip, host: Host) -> Variant:
    """The card without what this host's runtime or SDK brings instead."""
    changes: dict[str, object] = {}
    if by_runtime(chip, host):
        brought = [mount.target for mount in chip.mounts if not mount.several_nodes]
        kept = tuple(mount for mount in variant.container.mounts if not _meets(mount.target, brought))
        changes["container"] = variant.container.model_copy(update={"mounts": kept})
    if chip.host_sdk and host.cann == "host":
        scripts = tuple(script for script in variant.launch.source if script not in chip.source)
        changes["launch"] = variant.launch.model_copy(update={"source": scripts})
    return variant.model_copy(update=changes) if changes else variant


def by_runtime(chip: Chip, host: Host) -> bool:
    """Whether devices and driver come into a container by the vendor's docker runtime."""
    return chip.runtime is not None and host.ascend_access == "runtime"


def chip_mounts(chip: Chip, variant: Variant, *, several_nodes: bool) -> tuple[Mount, ...]:
    """What the chip needs and the card's own mounts do not already cover."""
    cards = [mount.target.rstrip("/") for mount in variant.container.mounts]
    wanted = [mount for mount in chip.mounts if several_nodes or not mount.several_nodes]
    return tuple(mount for mount in wanted if not any(_under(mount.target, card) for card in cards))


def own_nodes(chip: Chip, devices: Sequence[int]) -> tuple[str, ...]:
    """Device nodes of these devices, and those that all of the chip share."""
    paths = [
        path
        for node in chip.device_nodes
        for path in ([node.format(index=index) for index in devices] if "{" in node else [node])
    ]
    return tuple(dict.fromkeys(paths))


def logical_numbers(devices: Sequence[Device]) -> dict[int, int]:
    """Number of the device node -> the number that processes of the host know the device by.

    They differ where a device is missing: processes count those that are there. The tool says how; where it
    does not, they are counted as it lists them.
    """
    counted = {device.index: position for position, device in enumerate(sorted(devices, key=_place))}
    told = {device.index: device.logical for device in devices if device.logical is not None}
    return told if len(told) == len(devices) else counted


def _place(device: Device) -> tuple[int, int]:
    return (device.card if device.card is not None else device.index, device.index)


def _meets(target: str, brought: Sequence[str]) -> bool:
    target = target.rstrip("/")
    return any(_under(path, target) or _under(target, path) for path in brought)


def _under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
