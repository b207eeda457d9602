"""The files of a replica's configuration directory; pure, and the same bytes for the same inputs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from flagprov.cluster import meeting_port
from flagprov.errors import ReleaseError
from flagprov.models.release import Container
from flagprov.runner.arguments import command_line, drain_mode, engine_arguments
from flagprov.runner.by_hand import SCRIPT, start_script
from flagprov.runner.flagscale import flagscale_files
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.operators import CONFIG, operator_environment, operator_files
from flagprov.runner.spanning import (
    check_image,
    effective_kind,
    rank_environment,
    ray_document,
    ssh_document,
)
from flagprov.runner.user import container_user

LAUNCH_SCHEMA_VERSION = 1
CACHE = "/var/lib/flagprov/cache"
ENVIRONMENT = ("launch.json", SCRIPT)  # files that have the engine's environment
_PARTS = (
    "door", "engine", "launch", "log", "node", "peers", "processes", "ray", "ssh", "start", "state", "stop",
)  # fmt: skip
LAUNCHER_MODULES = (*(f"launcher_{name}.py" for name in _PARTS), "http.py", "machine.py")


def render(launch: LaunchInputs) -> dict[str, str]:
    """Path in the configuration directory -> text. Raises ReleaseError or SettingsError."""
    kind = effective_kind(launch)
    nodes = len(launch.replica.hosts)
    if nodes > 1 and len(launch.replica.nodes) != nodes:
        raise ReleaseError(
            f"replica {launch.replica.name}: where its {nodes} hosts meet is unknown",
            remedy="deploy it again, or set nodes to 1",
        )
    check_image(launch)
    if launch.facts is not None and launch.facts.vllm is None and kind != "command":
        raise ReleaseError(
            f"image {launch.variant.image.reference} has no vLLM, which release {launch.release} needs",
            remedy="check the image of the release, or remove its facts on the host to have it probed again",
        )
    document = _common(launch)
    if user := container_user(launch.variant, launch.facts):
        document["user"] = user  # whose these files are
    operators = operator_files(launch)
    if operators:
        document["operators"] = CONFIG
    files = launcher_files() | operators
    document["launcher"] = content_hash(launcher_files())[:16]  # one that stays need not be started anew
    if nodes > 1:
        document["peers"] = _peers(launch)
        document |= _spanning(launch)
    if kind == "flagscale":
        document["flagscale"] = {"label": _label(launch), "config": "conf/serve.yaml"}
        files |= flagscale_files(launch, _label(launch))
    else:
        document["argv"] = _argv(launch)
    files[SCRIPT] = start_script(document)
    files["launch.json"] = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return dict(sorted(files.items()))


def content_hash(files: Mapping[str, str]) -> str:
    """The name of the directory that holds these files."""
    digest = hashlib.sha256()
    for path, text in sorted(files.items()):
        for part in (path.encode(), text.encode()):
            digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


@cache
def _launcher_texts() -> tuple[tuple[str, str], ...]:
    host = resources.files("flagprov.host")
    texts = [("launcher.py", host.joinpath("launcher.py").read_text("utf-8"))]
    # The launcher imports its modules by their name in this package, from beside itself.
    texts += [(f"flagprov/{package}__init__.py", "") for package in ("", "host/")]
    texts += [(f"flagprov/host/{name}", host.joinpath(name).read_text("utf-8")) for name in LAUNCHER_MODULES]
    return tuple(texts)


def launcher_files() -> dict[str, str]:
    """The launcher as it lies in every configuration directory."""
    return dict(_launcher_texts())


def _argv(launch: LaunchInputs) -> list[str]:
    if effective_kind(launch) == "command":
        return list(launch.variant.launch.command)
    return command_line(engine_arguments(launch))


def own_shm(container: Container) -> bool:
    """Whether nobody but this container has what lies in its /dev/shm."""
    mounted = any(f"{mount.target.rstrip('/')}/".startswith("/dev/shm/") for mount in container.mounts)
    return container.ipc != "host" and not mounted


def _common(launch: LaunchInputs) -> dict[str, Any]:
    return {
        "schema_version": LAUNCH_SCHEMA_VERSION,
        "kind": effective_kind(launch),
        "release": launch.release,
        "replica": launch.replica.name,
        "rank": launch.rank,
        "address": _address(launch),
        "port": launch.replica.port,
        "env": environment(launch),
        "source": list(dict.fromkeys((*launch.chip.source, *launch.variant.launch.source))),
        "before_start": _before_start(launch),
        "drain": drain_mode(launch),
        "stop_grace_s": launch.stop_grace_s,
        "own_shm": own_shm(launch.variant.container),
    }


def _before_start(launch: LaunchInputs) -> list[str]:
    said = launch.variant.launch
    return [*said.before_start, *(() if launch.rank else said.head_before_start)]


def _spanning(launch: LaunchInputs) -> dict[str, Any]:
    found = {"ray": ray_document(launch), "ssh": ssh_document(launch)}
    return {name: document for name, document in found.items() if document}


def _peers(launch: LaunchInputs) -> dict[str, Any]:
    """How the launchers of a replica's ranks find each other; only those of one configuration do."""
    head = launch.replica.nodes[0]
    shared = {
        "replica": launch.replica.name,
        "nodes": [[node.host, node.address] for node in launch.replica.nodes],
        "argv": _argv(replace(launch, rank=0)),
        "image": launch.facts.digest if launch.facts else launch.variant.image.reference,
    }
    token = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
    return {
        "hosts": list(launch.replica.hosts),
        "address": head.address,
        "port": meeting_port(launch.replica.port),
        "token": token[:32],
    }


def environment(launch: LaunchInputs) -> dict[str, str]:
    """The engine's environment: what was merged, with the replica's own devices and the mounted caches."""
    env = {"TRITON_CACHE_DIR": f"{CACHE}/triton", "VLLM_CACHE_ROOT": f"{CACHE}/vllm", **launch.env}
    env |= operator_environment(launch) | rank_environment(launch)
    if launch.chip.visible_devices and launch.replica.devices:
        # Placement decides, whatever device the card happened to use.
        env[launch.chip.visible_devices] = ",".join(str(device) for device in _devices(launch))
    if launch.replica.nodes:
        node = launch.replica.nodes[launch.rank]
        for name, value in launch.chip.collective_env.items():
            # What a card has there is the address of the machine that it was written on.
            env[name] = value.replace("{interface}", node.interface).replace("{address}", node.address)
    return dict(sorted(env.items()))


def _devices(launch: LaunchInputs) -> tuple[int, ...]:
    """Device numbers as processes in the container count them."""
    container, devices = launch.variant.container, launch.replica.devices
    handed = (
        container.gpus if launch.chip.gpus_flag else any("{" in node for node in launch.chip.device_nodes)
    )
    if handed and not container.privileged:
        # Only the replica's own are there, and they are counted anew.
        return tuple(sorted(devices).index(device) for device in devices)
    return tuple(launch.logical.get(device, device) for device in devices)


def _address(launch: LaunchInputs) -> str:
    """Where the engine answers on its own host."""
    host = launch.variant.serve.get("host")
    return str(host) if host and host not in ("0.0.0.0", "::", "*") else "127.0.0.1"


def _label(launch: LaunchInputs) -> str:
    """MODEL of `flagscale serve MODEL`: only a label, and the name of the serve YAML."""
    label = launch.variant.launch.label or launch.release
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", label):
        raise ReleaseError(f"release {launch.release}: launch.label {label!r} is no file name")
    return label
