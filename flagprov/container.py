"""The card's `docker run` as a typed body of the engine's `containers/create`; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flagprov.access import by_runtime, chip_mounts, own_nodes
from flagprov.cluster import rendezvous_port
from flagprov.host.slots import CURRENT, HOST
from flagprov.models.release import Mount
from flagprov.runner.render import environment
from flagprov.runner.spanning import KEYS
from flagprov.serving import (
    STOP_TIMEOUT_S,
    Serving,
    cache_path,
    configs_path,
    keys_path,
    launch_inputs,
    replica_path,
    site_path,
)

LABEL = "io.flagprov."
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size_bytes(text: str) -> int:
    """`512g` -> bytes, as docker reads sizes."""
    found = re.fullmatch(r"(\d+)([bkmg]?)", text.lower())
    if not found:
        raise ValueError(f"not a size: {text}")
    return int(found.group(1)) * UNITS[found.group(2)]


def create_body(serving: Serving) -> dict[str, Any]:
    """Unlike the card on purpose: --init always, --rm never, shm at most half of memory, devices named.

    The same for every configuration: a change of that alone restarts the engine in its container.
    """
    container, replica = serving.variant.container, serving.replica
    host: dict[str, Any] = {
        "Init": True,
        "NetworkMode": container.network,
        "IpcMode": container.ipc,
        "Privileged": container.privileged,
        "RestartPolicy": {"Name": "no"},
        "Mounts": [_mount(mount) for mount in _mounts(serving)],
        "Ulimits": [_ulimit(name, value) for name, value in sorted(container.ulimits.items())],
    }
    if serving.chip.runtime and by_runtime(serving.chip, serving.host):
        host["Runtime"] = serving.chip.runtime.name
    if container.uts == "host":
        host["UTSMode"] = "host"
    if container.shm_size:
        host["ShmSize"] = min(size_bytes(container.shm_size), serving.survey.memory_mib * (1 << 20) // 2)
    if container.security_opt:
        host["SecurityOpt"] = list(container.security_opt)
    if container.cap_add:
        host["CapAdd"] = list(container.cap_add)
    if container.cap_drop:
        host["CapDrop"] = list(container.cap_drop)
    if container.gpus and serving.chip.gpus_flag:
        devices = [str(index) for index in replica.devices]
        host["DeviceRequests"] = [{"Driver": "", "DeviceIDs": devices, "Capabilities": [["gpu"]]}]
    host["Devices"] = [
        {"PathOnHost": device.source, "PathInContainer": device.target, "CgroupPermissions": "rwm"}
        for device in _devices(serving)
    ]
    body: dict[str, Any] = {
        "Entrypoint": ["python3", f"{configs_path(replica)}/{CURRENT}/launcher.py"],
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in environment(launch_inputs(serving)).items()],
        "Labels": labels(serving),
        "StopTimeout": STOP_TIMEOUT_S,
        "HostConfig": host,
    }
    if container.user:
        body["User"] = container.user
    if container.workdir:
        body["WorkingDir"] = container.workdir
    return body


def labels(serving: Serving) -> dict[str, str]:
    replica, image = serving.replica, serving.variant.image
    found = {
        f"{LABEL}replica": replica.name,
        f"{LABEL}release": replica.release,
        f"{LABEL}chip": replica.chip,
        f"{LABEL}hosts": ",".join(replica.hosts),
        f"{LABEL}devices": ",".join(str(index) for index in replica.devices),
        f"{LABEL}port": str(replica.port),
        f"{LABEL}image": image.reference,
    }
    if replica.slot:
        found[f"{LABEL}slot"] = replica.slot
    if replica.nodes:
        found[f"{LABEL}rank"] = str(serving.rank)
        found[f"{LABEL}rendezvous"] = str(rendezvous_port(replica.port))
    return found


def _devices(serving: Serving) -> Iterable[Mount]:
    """The card's own, and without privileges the replica's, one by one.

    GPUs too, for what only a hook has handed over is gone after the next reload of systemd.
    """
    container, chip = serving.variant.container, serving.chip
    yield from container.devices
    if not container.privileged and not by_runtime(chip, serving.host):
        for path in own_nodes(chip, serving.replica.devices):
            if path not in {device.target for device in container.devices}:
                yield Mount(source=path, target=path)


def _mounts(serving: Serving) -> Iterable[Mount]:
    seen: set[str] = set()
    for mount in (*serving.variant.container.mounts, *_chip_mounts(serving)):
        if mount.target not in seen:
            seen.add(mount.target)
            yield mount.model_copy(update={"source": site_path(mount.source, serving)})
    configs = configs_path(serving.replica)
    yield Mount(source=configs, target=configs, read_only=True)
    folder = replica_path(serving.replica.instance)
    yield Mount(source=f"{folder}/run", target="/run/flagprov")
    yield Mount(source=f"{folder}/host", target=HOST, read_only=True)
    yield Mount(source=cache_path(serving), target="/var/lib/flagprov/cache")
    if keys := keys_path(serving):
        yield Mount(source=keys, target=KEYS, read_only=True)


def _chip_mounts(serving: Serving) -> tuple[Mount, ...]:
    mounts = chip_mounts(serving.chip, serving.variant, several_nodes=bool(serving.replica.nodes))
    if serving.variant.container.privileged:
        return mounts
    return tuple(mount.model_copy(update={"read_only": True}) for mount in mounts)


def optional_sources(serving: Serving) -> list[str]:
    """Mounts and devices that a host need not have."""
    container = serving.variant.container
    mounts = (*container.mounts, *_chip_mounts(serving))
    sources = {site_path(mount.source, serving) for mount in mounts if mount.optional}
    return sorted(sources | {device.source for device in container.devices if device.optional})


def _mount(mount: Mount) -> dict[str, Any]:
    return {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}


def _ulimit(name: str, value: str) -> dict[str, Any]:
    soft, _, hard = value.partition(":")
    return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
